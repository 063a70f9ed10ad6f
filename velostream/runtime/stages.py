"""A plan's stages as operators, and how they are connected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import pyarrow as pa

from velostream.connectors.base import Task
from velostream.operators.aggregate import Aggregate, Keyer, Part
from velostream.operators.chain import Chain
from velostream.plan.nodes import AggregateNode, FilterNode, Node, Plan, ProjectNode, Stage, WatermarkSpec
from velostream.runtime.exchange import ExchangeOutlet, owns_global
from velostream.runtime.outlets import Outlet
from velostream.runtime.ticket import Ticket
from velostream.runtime.watermarks import Watermarks
from velostream.sql.expressions import ColumnRef


@dataclass(slots=True)
class KeyedTarget:
    """A keyed stage as its senders see it: in this task, or where the exchange is a topic behind `remote`."""

    stage: Stage
    node: AggregateNode
    keyer: Keyer
    remote: ExchangeOutlet | None = None


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
        """All outlets reached without a keyed stage between, exchanges with other tasks among them."""
        remotes = (target.remote for target in self.keyed if target.remote is not None)
        inner = (outlet for stage in self.inline for outlet in stage.outputs.reached())
        return [*self.outlets, *remotes, *inner]


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
    """All of a job's: `roots` by source, exchanges with other tasks among them; `targets` by stage id;
    `keyed` by lane, then by stage id. `exchanges` are by `Stage.exchange_name`; `task` is the one that this
    is."""

    def __init__(
        self,
        plan: Plan,
        partitions: Mapping[str, int],
        outlets: Mapping[str, Outlet],
        lanes: int,
        key_groups: int,
        exchanges: Mapping[str, ExchangeOutlet] = MappingProxyType({}),
        task: Task | None = None,
    ) -> None:
        self._plan = plan
        self._outlets = outlets
        self._exchanges = exchanges
        self.targets = {
            stage.id: KeyedTarget(stage, stage.nodes[0], Keyer(stage.nodes[0]))
            for stage in plan.stages
            if isinstance(stage.nodes[0], AggregateNode)
        }
        self.roots = {scan.source: self._outputs(scan.source, None, scan.schema) for scan in plan.scans}
        for _, stage in plan.exchanged():
            self.roots[stage.exchange_name] = Outputs([], [], [self.targets[stage.id]])
        # A keyed stage hears from every partition of its source, or from every lane of the stage before it.
        senders = {
            target.stage.id: partitions[source]
            for source, outputs in self.roots.items()
            for target in outputs.targets()
            if target.remote is None
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
            if stage.exchange.kind == "topic" and task is not None and not owns_global(task):
                home = -1
            for lane in range(lanes):
                self.keyed[lane][stage.id] = KeyedStage(
                    stage, target.node, senders.get(stage.id, lanes), outputs, owns_global=lane == home
                )

    def judged_by(self, id: int) -> WatermarkSpec | None:
        """How lateness is judged of the rows for the stage of that id."""
        sender = self.targets[id].stage.input
        return self._plan.stages[sender].watermark if isinstance(sender, int) else None

    def watermarks_of(self, id: int) -> list[Watermarks]:
        """What knows how far those are in time whose rows are for the stage of that id: its lanes, or the
        exchange that takes the rows to other tasks."""
        stage = self.targets[id].stage
        if stage.exchange.kind == "topic":
            return [self._exchanges[stage.exchange_name].watermarks]
        return [keyed[id].watermarks for keyed in self.keyed]

    def _outputs(self, input: str | int, stream: str | None, schema: pa.Schema) -> Outputs:
        sinks = self._plan.sinks.items() if stream is not None else ()
        outlets = [self._outlets[sink] for sink, taken in sinks if taken == stream]
        outputs = Outputs(outlets, [], [])
        for stage in self._plan.stages:
            if stage.input != input or type(stage.input) is not type(input):
                continue
            if stage.exchange.kind == "topic":
                target = self.targets[stage.id]
                outputs.keyed.append(replace(target, remote=self._exchanges[stage.exchange_name]))
            elif stage.id in self.targets:
                outputs.keyed.append(self.targets[stage.id])
            else:
                chain = Chain(_stateless(stage.nodes), schema)
                inner = self._outputs(stage.id, stage.stream, stage.schema)
                outputs.inline.append(InlineStage(stage, chain, inner))
        return outputs


def _stateless(nodes: Sequence[Node]) -> list[FilterNode | ProjectNode]:
    return [node for node in nodes if not isinstance(node, AggregateNode)]
