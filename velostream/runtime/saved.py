"""What a job takes up again of an earlier run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from velostream.config.schema import JobConfig
from velostream.connectors.base import FORGOTTEN, Source, Transaction, changed
from velostream.connectors.history import PREFIX
from velostream.faults import fault
from velostream.plan.nodes import Plan
from velostream.runtime.dataflow import PartitionState
from velostream.runtime.stages import Stages
from velostream.runtime.watermarks import END, START
from velostream.state.compatibility import check_compatible, describe_job
from velostream.state.manifest import Manifest
from velostream.state.store import StateStore

logger = logging.getLogger("velostream.job")


class SavedState:
    """A job's folder of saved state, held while the job runs. Raises StateError.

    `committed` is the number of the last epoch, 0 when nothing was saved; `complete`: the job had read all of
    its input, and was stopped before it could say so.
    """

    def __init__(
        self,
        config: JobConfig,
        plan: Plan,
        sources: Mapping[str, Source],
        stages: Stages,
        transaction: Transaction | None,
    ) -> None:
        self.transaction = transaction
        self._stages = stages
        self._sources = sources
        operators = {
            keyed.stage.query: keyed.aggregate.describe_state() for keyed in stages.keyed[0].values()
        }
        # Where a key's rows are read depends on it, and with that where its state is.
        partitioned = {
            name: source.partition_count
            for name, source in sources.items()
            if source.partitioned_by and config.processor.tasks > 1 and operators
        }
        self.description = describe_job(plan, operators, partitioned)
        self.store = StateStore(Path(config.state.path), config.name)
        self._manifest: Manifest | None = None
        # The epoch that the transaction has committed last.
        self._decided: int | None = None
        try:
            copy = transaction.saved if transaction is not None else tuple
            self._manifest = self.store.open(config.state.start, self._decide, copy, self._mark)
            if self._manifest is not None:
                for news in check_compatible(self._manifest, self.description):
                    logger.warning("job '%s': %s", config.name, news)
                self._verify(self._manifest)
        except BaseException:
            self.close(False)
            raise

    def _decide(self) -> int | None:
        if self.transaction is not None:
            self._decided = self.transaction.open(str(self.store.folder))
        return self._decided

    def _mark(self) -> str:
        return "" if self.transaction is None else self.transaction.mark

    @property
    def committed(self) -> int:
        return 0 if self._manifest is None else self._manifest.number

    @property
    def numbered(self) -> int:
        """The greatest number that an epoch of the job had, also one that it does not go on from."""
        return max(self.committed, self._decided or 0)

    @property
    def complete(self) -> bool:
        return self._manifest is not None and self._manifest.complete

    def _verify(self, manifest: Manifest) -> None:
        """Raise ConnectorError when what is to be read on is not what was read."""
        for name, source in self._sources.items():
            saved = manifest.partitions.get(name, {})
            for number, partition in enumerate(source.partitions()):
                if partition in saved:
                    # Also one that nothing was read of yet: it is to begin where it would have.
                    position = self.position(name, partition) or 0
                    source.verify(number, position, saved[partition].get("fingerprint"))
            for gone in sorted(saved.keys() - set(source.partitions())):
                # A history is needed until all of it has been read.
                begun = self.position(name, gone) is not None
                if not saved[gone].get("ended") if gone.startswith(PREFIX) else begun:
                    raise changed(gone, "it is gone")

    def token(self, sink: str) -> Any:
        """What the sink gave for the last commit; None: nothing was committed."""
        return None if self._manifest is None else self._manifest.sinks.get(sink)

    def position(self, source: str, partition: str) -> int | None:
        """Where to read on; None: from the start."""
        return None if self._manifest is None else self._manifest.positions.get(source, {}).get(partition)

    def restore(self, partitions: Mapping[tuple[str, int], PartitionState], key_groups: int) -> None:
        """Fill the operators of all lanes, and what partitions know of time."""
        manifest = self._manifest
        if manifest is None:
            for of_lane in self._stages.keyed:
                for stage in of_lane.values():
                    stage.aggregate.track_changes()
            return
        stages, lanes = self._stages, len(self._stages.keyed)
        for id, target in stages.targets.items():
            query = target.stage.query
            if query not in manifest.watermarks:
                continue
            reached = min(manifest.watermarks[query])
            for lane, keyed in enumerate(stages.keyed):
                keyed[id].aggregate.restore(self.store.changes(manifest, query), lanes, lane, key_groups)
                for sender in range(keyed[id].senders):
                    keyed[id].watermarks.advance(sender, reached)
        queries = {target.stage.query: id for id, target in stages.targets.items()}
        for state in partitions.values():
            saved = manifest.partitions.get(state.source, {}).get(state.name, {})
            if state.heard is not None and "heard" in saved:
                state.heard.restore(saved["heard"])
                state.ended = state.heard.current == END
            for query, seen in saved.get("seen", {}).items():
                if query not in queries:
                    continue
                state.seen[queries[query]] = seen
                spec = stages.judged_by(queries[query])
                if spec is not None and spec.out_of_orderness_us is not None:
                    reached = max(START + 1, seen - spec.out_of_orderness_us)
                    for watermarks in stages.watermarks_of(queries[query]):
                        watermarks.advance(state.number, reached)

    def clear(self) -> None:
        """The job has completed: there is nothing to go on from."""
        # The folder first: until the transaction has forgotten, the topic says that the job was complete.
        copied = self.store.copied
        self.store.clear()
        fault("state.cleared")
        if self.transaction is not None:
            self.transaction.save({}, copied)
            self.transaction.commit(FORGOTTEN)

    def close(self, complete: bool) -> None:
        try:
            if self.transaction is not None:
                self.transaction.close(complete)
        finally:
            self.store.close()
