"""A job's transactions: the rows of an epoch and its number, committed as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from velostream.connectors.base import FORGOTTEN, Transaction
from velostream.connectors.kafka.settings import ClientSettings
from velostream.connectors.kafka.state_topic import StateTopic
from velostream.loop import submit

if TYPE_CHECKING:
    from velostream.connectors.kafka.membership import Membership
    from velostream.connectors.kafka.producer import TransactionalProducer


class KafkaTransaction(Transaction):
    """The transactions of one job at one cluster, by the transactional id `velostream-JOB`.

    The number of the last epoch that was committed is the offset that a group of the same name has committed
    for `topic`, in the same transaction as the rows: so the broker knows it, whatever happens here. Who holds
    the transactions is the one member of that group.
    """

    def __init__(self, settings: ClientSettings, job: str, topic: str) -> None:
        self._settings = settings
        self._id = f"velostream-{job}"
        self._topic = topic
        self._state = StateTopic(f"{self._id}-state", settings)
        self._membership: Membership | None = None

    @property
    def identity(self) -> Any:
        return sorted(self._settings.values.items())

    @cached_property
    def producer(self) -> TransactionalProducer:
        """What sinks write by; open between `open` and `close`."""
        from velostream.connectors.kafka.producer import TransactionalProducer

        return TransactionalProducer(self._settings, self._id)

    def open(self, folder: str) -> int | None:
        from velostream.connectors.kafka.membership import Membership, Worker

        membership = Membership(self._settings, self._id, Worker.of(folder), self.producer.fail)
        membership.open()
        self._membership = membership
        try:
            self.producer.open()
            self._state.open()
            committed = submit(self._committed()).result()
        except BaseException:
            self.close(complete=False)
            raise
        return committed if committed > FORGOTTEN else None

    async def _committed(self) -> int:
        from velostream.connectors.kafka.client import admin

        async with admin(self._settings) as client:
            offsets = await client.list_consumer_group_offsets(self._id)
        return max((entry.offset for entry in offsets.values()), default=0)

    def begin(self) -> None:
        self.producer.begin()

    def commit(self, number: int) -> None:
        self.producer.send_offsets({(self._topic, 0): number}, self._id)
        self.producer.commit()

    def save(self, written: Mapping[str, bytes], gone: Mapping[str, int]) -> None:
        self._state.save(self.producer, written, gone)

    def saved(self) -> Iterator[tuple[str, bytes]]:
        return self._state.load()

    def hurry(self, seconds: float) -> None:
        self.producer.hurry(seconds)

    def close(self, complete: bool) -> None:
        try:
            self.producer.close(complete)
        finally:
            membership, self._membership = self._membership, None
            if membership is not None:
                membership.close()
