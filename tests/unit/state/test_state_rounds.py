"""Which files stay: all that the state needs, and not more for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from saved import Numbers, epoch, rows_of

from velostream.operators.saving import Changes
from velostream.state.changes_file import ChangesFile, FileEntry, SavedPart, SavedTable
from velostream.state.rounds import Rounds
from velostream.state.store import StateStore

KEYS = 12


class Saved:
    """Rounds over files in memory: each part holds its changes in `values`."""

    def __init__(self) -> None:
        self.rounds = Rounds()
        self.epoch = 0

    def commit(self, session: int, lanes: list[Changes | None]) -> None:
        self.epoch += 1
        parts = []
        for lane, changes in enumerate(lanes):
            if changes is not None:
                tables = {name: SavedTable(0, 0, 0, t.num_rows) for name, t in changes.tables.items()}
                kept = {"changes": changes}
                parts.append(SavedPart("bars", lane, len(lanes), changes.begins, changes.ends, kept, tables))
        if parts:
            entry = FileEntry(str(self.epoch), self.epoch, session, 0, 0, 0)
            self.rounds.add(ChangesFile(Path(), entry, parts))

    def rows(self) -> dict[int, int]:
        places = self.rounds.places("bars")
        assert {place.file.entry.name for place in places} == {
            file.entry.name for file in self.rounds.files()
        }
        return rows_of(place.part.values["changes"] for place in places)


SESSIONS = st.lists(
    st.fixed_dictionaries(
        {
            "lanes": st.integers(1, 4),
            "chunk": st.integers(1, 5),
            "says_end": st.booleans(),
            # Epochs of puts (key) and drops (-1 - key).
            "epochs": st.lists(st.lists(st.integers(-KEYS, KEYS - 1), max_size=4), max_size=12),
        }
    ),
    max_size=6,
)


@settings(deadline=None)
@given(SESSIONS)
def test_what_stays_is_the_state_after_every_commit_and_restart(sessions: list[dict[str, Any]]) -> None:
    saved = Saved()
    model: dict[int, int] = {}
    value = 0
    for session, how in enumerate(sessions):
        lanes = [
            Numbers(
                {key: model[key] for key in model if key % how["lanes"] == lane},
                how["chunk"],
                how["says_end"],
            )
            for lane in range(how["lanes"])
        ]
        for steps in how["epochs"]:
            for step in steps:
                key = step if step >= 0 else -1 - step
                lane = lanes[key % len(lanes)]
                if step < 0:
                    model.pop(key, None)
                    lane.drop(key)
                else:
                    value += 1
                    model[key] = value
                    lane.put(key, value)
            saved.commit(session, [lane.take_changes() for lane in lanes])
            assert saved.rows() == model


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.booleans(), st.lists(st.integers(0, KEYS - 1), min_size=60))
def test_the_number_of_files_is_bounded(lanes: int, chunk: int, says_end: bool, keys: list[int]) -> None:
    """A lane needs the files of its last complete round and of the one under way."""
    saved = Saved()
    operators = [
        Numbers({key: 0 for key in range(KEYS) if key % lanes == lane}, chunk) for lane in range(lanes)
    ]
    for operator in operators:
        operator.says_end = says_end
    for at, key in enumerate(keys):
        operators[key % lanes].put(key, at)
        saved.commit(1, [operator.take_changes() for operator in operators])
        round_commits = -(-KEYS // chunk)
        assert len(saved.rounds.files()) <= lanes * (2 * round_commits + 1)


def test_a_stage_that_only_moves_its_watermark_keeps_no_files(tmp_path: Path) -> None:
    """Beside it another one is busy; the last values count."""
    store = StateStore(tmp_path, "job")
    store.open()
    silent, busy = Numbers({1: 1}), Numbers({2: 2})
    first = {"silent": [silent.take_changes()], "busy": [busy.take_changes()]}
    store.commit(epoch(1, operators=first))
    for number in range(2, 30):
        busy.put(2, number)
        moved = Changes({}, {"watermark": number}, begins=False)
        store.commit(epoch(number, operators={"silent": [moved], "busy": [busy.take_changes()]}))
        # Of each the round, and the values.
        assert len(list((tmp_path / "epochs").iterdir())) == 3
    store.close()
    manifest = store.open()
    assert manifest is not None
    saved = list(store.changes(manifest, "silent"))
    assert [change.values for change in saved] == [{}, {"watermark": 29}]
    assert rows_of(saved) == {1: 1}
    store.close()


def test_a_restart_within_a_round_does_not_complete_it(tmp_path: Path) -> None:
    """With the rows of the first session gone, key 9 would be lost: only its first round has it."""
    folder = tmp_path / "job"
    rows = dict.fromkeys(range(10), 0)
    for session in range(4):
        store = StateStore(folder, "job")
        manifest = store.open()
        number = manifest.number if manifest is not None else 0
        if manifest is not None:
            assert rows_of(store.changes(manifest, "bars")) == rows
        # The first session writes a whole round, the others only begin one.
        operator = Numbers(rows, chunk=10 if session == 0 else 3)
        operator.put(0, session)
        rows[0] = session
        store.commit(epoch(number + 1, operator.take_changes()))
        store.close()


def test_lanes_that_had_a_round_of_their_own_drop_the_sessions_before(tmp_path: Path) -> None:
    store = StateStore(tmp_path, "job")
    store.open()
    store.commit(epoch(1, Numbers({1: 1, 2: 2}).take_changes()))
    store.close()
    store.open()
    store.commit(epoch(2, Numbers({2: 2}).take_changes(), None))
    assert len(list((tmp_path / "epochs").iterdir())) == 2
    store.commit(epoch(3, None, Numbers({1: 1}).take_changes()))
    assert len(list((tmp_path / "epochs").iterdir())) == 2
    store.close()
    manifest = store.open()
    assert manifest is not None and [file.epoch for file in manifest.files] == [2, 3]
    assert rows_of(store.changes(manifest, "bars")) == {1: 1, 2: 2}
    store.close()


def test_a_folder_restarted_for_ever_does_not_grow(tmp_path: Path) -> None:
    rows = dict.fromkeys(range(6), 0)
    sizes = []
    for session in range(12):
        store = StateStore(tmp_path, "job")
        manifest = store.open()
        lanes = [Numbers({k: v for k, v in rows.items() if k % 2 == lane}, chunk=8) for lane in (0, 1)]
        number = manifest.number if manifest is not None else 0
        rows[0] = session
        lanes[0].put(0, session)
        store.commit(epoch(number + 1, *(lane.take_changes() for lane in lanes)))
        store.close()
        sizes.append(sum(file.stat().st_size for file in (tmp_path / "epochs").iterdir()))
    assert max(sizes) <= 1.1 * sizes[0]
