"""Which saved parts make up the state: those since each lane's last complete round began."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from velostream.state.changes_file import ChangesFile, SavedPart


@dataclass(frozen=True, slots=True)
class Place:
    """A part and the file that holds it."""

    file: ChangesFile
    part: SavedPart


@dataclass(slots=True)
class _Lane:
    """What one lane has saved in this session."""

    places: list[Place] = field(default_factory=list)
    # Where in `places` the round that is under way begins, and the last complete one; None: there is none.
    begin: int | None = None
    complete: int | None = None

    def add(self, place: Place) -> list[Place]:
        """Gives the last one, if it held nothing but values: those that come now count."""
        superseded: list[Place] = []
        if self.places:
            last = self.places[-1].part
            if not (last.rows or last.begins or last.ends):
                superseded.append(self.places.pop())
        if place.part.begins:
            if self.begin is not None:
                self.complete = self.begin
            self.begin = len(self.places)
        self.places.append(place)
        if place.part.ends and self.begin is not None:
            self.complete, self.begin = self.begin, None
        return superseded

    def drop(self) -> list[Place]:
        """Take out, and give, what was saved before the last complete round."""
        if not self.complete:
            return []
        dropped, self.places = self.places[: self.complete], self.places[self.complete :]
        if self.begin is not None:
            self.begin -= self.complete
        self.complete = 0
        return dropped


@dataclass(slots=True)
class _Stage:
    """What is needed of a stage: of this session by lane, and what earlier sessions have saved.

    Those may have had other lanes. So nothing is dropped until every lane has completed a round: a key that
    one lane has removed is still in what the others need.
    """

    session: int
    lanes: dict[int, _Lane] = field(default_factory=dict)
    earlier: list[Place] = field(default_factory=list)

    def add(self, place: Place) -> list[Place]:
        """Gives what is not needed any more."""
        if place.file.entry.session != self.session:
            # A round that was under way when the session ended is never completed.
            self.earlier = list(self.places())
            self.lanes = {}
            self.session = place.file.entry.session
        lane = self.lanes.setdefault(place.part.lane, _Lane())
        dropped = lane.add(place)
        if not self.earlier:
            return dropped + lane.drop()
        if sum(lane.complete is not None for lane in self.lanes.values()) == place.part.lanes:
            dropped += self.earlier
            self.earlier = []
            for lane in self.lanes.values():
                dropped += lane.drop()
        return dropped

    def places(self) -> Iterator[Place]:
        yield from self.earlier
        lanes = [place for lane in self.lanes.values() for place in lane.places]
        yield from sorted(lanes, key=lambda place: (place.file.entry.epoch, place.part.lane))


class Rounds:
    """All files that are needed, and of each stage the parts. Files are added by ascending epoch."""

    def __init__(self, files: Iterable[ChangesFile] = ()) -> None:
        self._stages: dict[str, _Stage] = {}
        self._files: dict[str, ChangesFile] = {}
        self._needed: Counter[str] = Counter()
        for file in files:
            self.add(file)

    def add(self, file: ChangesFile) -> None:
        """O(parts of the file), and of the files that are not needed any more."""
        session = file.entry.session
        for part in file.parts:
            place = Place(file, part)
            stage = self._stages.setdefault(part.stage, _Stage(session))
            self._files[file.entry.name] = file
            self._needed[file.entry.name] += 1
            for dropped in stage.add(place):
                self._drop(dropped.file.entry.name)

    def _drop(self, name: str) -> None:
        self._needed[name] -= 1
        if not self._needed[name]:
            del self._needed[name], self._files[name]

    def files(self) -> list[ChangesFile]:
        """Those that are needed, in the order of their epochs."""
        return list(self._files.values())

    def stages(self) -> list[str]:
        return list(self._stages)

    def places(self, stage: str) -> list[Place]:
        """The parts that make up the stage's state, in order per lane; earlier sessions come first."""
        return list(self._stages[stage].places()) if stage in self._stages else []
