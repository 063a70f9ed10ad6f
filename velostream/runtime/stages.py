"""A plan's stages as operators, and how they are connected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from velostream.operators.aggregate import Aggregate, Keyer, Part
from velostream.operators.chain import Chain
from velostream.plan.nodes import AggregateNode, FilterNode, Node, Plan, ProjectNode, Stage
from velostream.runtime.outlets import Outlet
from velostream.runtime.ticket import Ticket
from velostream.runtime.watermarks import Watermarks
from velostream.sql.expressions import ColumnRef


@dataclass(slots=True)
class KeyedTarget:
    """A keyed stage as its senders see it."""

    stage: Stage
    node: AggregateNode
    keyer: Keyer


@dataclass(slots=True)
class Outputs:
    """Who takes the rows of a stage, or of a source."""

    outlets: list[Outlet]
    inline: list[InlineStage]
    keyed: list[KeyedTarget]

    def targets(self) -> list[KeyedTarget]:
        """All keyed stages reached without another keyed stage between."""
        return [*self.keyed, *(target for stage in self.inline for target in stage.outputs.targets())]

    def reached(self) -> list[Outlet]:
        """All outlets reached without a keyed stage between."""
        return [*self.outlets, *(outlet for stage in self.inline for outlet in stage.outputs.reached())]


@dataclass(slots=True)
class InlineStage:
    """A stateless stage: it runs in the lane that has the rows. One instance serves all lanes."""

    stage: Stage
    chain: Chain
    outputs: Outputs


class KeyedStage:
    """A keyed stage in one lane, with that lane's share of the state. Owned by the lane."""

    def __init__(
        self, stage: Stage, node: AggregateNode, senders: int, outputs: Outputs, owns_global: bool
    ) -> None:
        self.stage = stage
        self.aggregate = Aggregate(node, owns_global=owns_global)
        self.watermarks = Watermarks(senders)
        self.senders = senders
        # What the lane has told of its state's size (`memory.py`).
        self.noted_bytes = 0
        # Senders whose marker has come, and what they have sent behind it.
        self.marked: set[int] = set()
        self.held: list[tuple[int, Part | None, int, Ticket]] = []
        rest = _stateless(stage.nodes[1:])
        self.chain = Chain(rest, node.schema)
        self.outputs = outputs
        # What the query calls the columns that the plan has names of its own for.
        items = [item for step in rest if isinstance(step, ProjectNode) for item in step.items]
        self.names = {item.expr.name: item.name for item in items if isinstance(item.expr, ColumnRef)}


class Stages:
    """All of a job's: `roots` by source; `targets` by stage id; `keyed` by lane, then by stage id."""

    def __init__(
        self,
        plan: Plan,
        partitions: Mapping[str, int],
        outlets: Mapping[str, Outlet],
        lanes: int,
        key_groups: int,
    ) -> None:
        self._plan = plan
        self._outlets = outlets
        self.targets = {
            stage.id: KeyedTarget(stage, stage.nodes[0], Keyer(stage.nodes[0]))
            for stage in plan.stages
            if isinstance(stage.nodes[0], AggregateNode)
        }
        self.roots = {scan.source: self._outputs(scan.source, None, scan.schema) for scan in plan.scans}
        # A keyed stage hears from every partition of its source, or from every lane of the stage before it.
        senders = {
            target.stage.id: partitions[source]
            for source, outputs in self.roots.items()
            for target in outputs.targets()
        }
        for source, outputs in self.roots.items():
            for outlet in outputs.reached():
                outlet.senders = partitions[source]
        self.keyed: list[dict[int, KeyedStage]] = [{} for _ in range(lanes)]
        for target in self.targets.values():
            stage = target.stage
            outputs = self._outputs(stage.id, stage.stream, stage.schema)
            for outlet in outputs.reached():
                outlet.senders = lanes
            home = target.keyer.global_lane(lanes, key_groups)
            for lane in range(lanes):
                self.keyed[lane][stage.id] = KeyedStage(
                    stage, target.node, senders.get(stage.id, lanes), outputs, owns_global=lane == home
                )

    def _outputs(self, input: str | int, stream: str | None, schema: pa.Schema) -> Outputs:
        sinks = self._plan.sinks.items() if stream is not None else ()
        outlets = [self._outlets[sink] for sink, taken in sinks if taken == stream]
        outputs = Outputs(outlets, [], [])
        for stage in self._plan.stages:
            if stage.input != input or type(stage.input) is not type(input):
                continue
            if stage.id in self.targets:
                outputs.keyed.append(self.targets[stage.id])
            else:
                chain = Chain(_stateless(stage.nodes), schema)
                inner = self._outputs(stage.id, stage.stream, stage.schema)
                outputs.inline.append(InlineStage(stage, chain, inner))
        return outputs


def _stateless(nodes: Sequence[Node]) -> list[FilterNode | ProjectNode]:
    return [node for node in nodes if not isinstance(node, AggregateNode)]
