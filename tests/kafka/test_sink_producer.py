"""Finished record batches to a real broker: order, bounds, errors, transactions."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from tests.kafka.topics import Topics
from velostream.connectors.kafka.producer import BatchProducer, TransactionalProducer
from velostream.connectors.kafka.settings import client_settings
from velostream.errors import ConfigError, ConnectorError, FencedError, InternalError


def record_batch(*values: bytes) -> bytearray:
    builder = DefaultRecordBatchBuilder(
        2, 0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1, batch_size=16 << 20
    )
    for offset, value in enumerate(values):
        builder.append(offset, 1_000, None, value, [])
    return bytearray(builder.build())


def producer_of(address: str, **options: object) -> BatchProducer:
    dotted = {name.replace("_", "."): value for name, value in options.items()}
    producer = BatchProducer(client_settings(address, dotted, "sinks.out", "sink"))
    producer.open()
    return producer


def transactional(address: str, name: str, timeout_ms: int = 10_000) -> TransactionalProducer:
    settings = client_settings(address, {"transaction.timeout.ms": timeout_ms}, "sinks.out", "sink")
    producer = TransactionalProducer(settings, name)
    producer.open()
    return producer


@pytest.fixture
def producer(kafka_address: str) -> Iterator[BatchProducer]:
    producer = producer_of(kafka_address)
    yield producer
    producer.close()


def test_batches_of_a_partition_arrive_once_and_in_order(producer: BatchProducer, topics: Topics) -> None:
    topic = topics.create(partitions=3)

    for i in range(300):
        producer.send(topic, i % 3, record_batch(b"%d" % i, b"more"), 2)
    producer.flush()

    assert producer.known_partitions(topic) == 3
    for k in range(3):
        values = [record.value for record in topics.consume(topic, 600) if record.partition == k]
        assert values[::2] == [b"%d" % i for i in range(k, 300, 3)]


@pytest.mark.parametrize("acks", ["1", "0", "all"])
def test_without_idempotence_every_kind_of_acknowledgement_works(
    kafka_address: str, topics: Topics, acks: str
) -> None:
    topic = topics.create()
    producer = producer_of(kafka_address, enable_idempotence=False, acks=acks)

    producer.send(topic, 0, record_batch(b"a"), 1)
    producer.close()

    assert [record.value for record in topics.consume(topic, 1)] == [b"a"]


def test_fewer_acknowledgements_do_not_go_with_idempotence(kafka_address: str) -> None:
    with pytest.raises(ConfigError, match=r"acks 1 does not go with enable\.idempotence"):
        producer_of(kafka_address, acks=1)


def test_the_broker_takes_sequence_numbers_that_wrap(producer: BatchProducer, topics: Topics) -> None:
    topic = topics.create()
    producer.client._txn_manager._sequence_numbers[TopicPartition(topic, 0)] = (1 << 31) - 5

    for i in range(4):
        producer.send(topic, 0, record_batch(b"%d" % i, b"more", b"more"), 3)
    producer.flush()

    assert [record.value for record in topics.consume(topic, 12)][::3] == [b"0", b"1", b"2", b"3"]


def test_no_broker_is_an_error_that_names_it() -> None:
    with pytest.raises(ConnectorError) as caught:
        producer_of("127.0.0.1:1")

    assert caught.value.message == ("no broker answers at 127.0.0.1:1 (Connect call failed ('127.0.0.1', 1))")
    assert caught.value.hint == (
        "see that Kafka runs there with this security.protocol, or set sinks.out.brokers"
    )


def test_a_host_that_does_not_exist_is_an_error_that_names_it() -> None:
    with pytest.raises(ConnectorError, match=r"no broker answers at nowhere\.invalid:9092 \(.+\)"):
        producer_of("nowhere.invalid:9092")


def test_a_batch_that_the_broker_does_not_take_is_the_error_of_every_later_call(
    kafka_address: str, topics: Topics
) -> None:
    topic = topics.create(max_message_bytes=1000)
    producer = producer_of(kafka_address)
    producer.send(topic, 0, record_batch(b"x" * 2000), 1)

    for _ in range(2):
        with pytest.raises(ConnectorError) as caught:
            producer.flush()
        assert caught.value.message.startswith(
            f"topic '{topic}' at {kafka_address}: a record batch is larger"
        )
        assert caught.value.hint == "raise max.message.bytes of the topic, or lower batch.size"
        assert caught.value.final
    with pytest.raises(ConnectorError):
        producer.send(topic, 0, record_batch(b"a"), 1)
    with pytest.raises(ConnectorError):
        producer.close()
    producer.close()


def test_a_batch_above_max_request_size_is_not_sent(kafka_address: str, topics: Topics) -> None:
    producer = producer_of(kafka_address, max_request_size=1000)

    with pytest.raises(ConnectorError, match=r"above max\.request\.size") as error:
        producer.send("any", 0, record_batch(b"x" * 2000), 1)
    assert error.value.final
    producer.close()


# Transactions.


def test_there_are_no_transactions_without_idempotence(kafka_address: str) -> None:
    settings = client_settings(kafka_address, {"enable.idempotence": False}, "sinks.out", "sink")
    with pytest.raises(ConfigError) as caught:
        TransactionalProducer(settings, "never").open()

    assert caught.value.message == "there are no transactions without enable.idempotence"


def values(topics: Topics, topic: str, committed: bool = True) -> list[bytes | None]:
    return [record.value for record in topics.consume(topic, committed=committed)]


def test_a_committed_transaction_is_seen_with_its_offsets(kafka_address: str, topics: Topics) -> None:
    topic, read = topics.create(partitions=2), topics.create()
    group = topics.unused("group")
    producer = transactional(kafka_address, topics.unused("txn"))

    assert producer.begin() == 1
    producer.send(topic, 0, record_batch(b"a", b"b"), 2, epoch=1)
    producer.send(topic, 1, record_batch(b"c"), 1, epoch=1)
    producer.flush()
    assert values(topics, topic) == []
    producer.send_offsets({(read, 0): 42}, group)
    producer.commit()

    assert values(topics, topic) == [b"a", b"b", b"c"]
    assert topics.committed(group, read) == [42]
    producer.close()


def test_an_aborted_transaction_is_not_seen(kafka_address: str, topics: Topics) -> None:
    topic = topics.create()
    producer = transactional(kafka_address, topics.unused("txn"))

    producer.begin()
    producer.send(topic, 0, record_batch(b"never"), 1, epoch=1)
    producer.abort()
    producer.begin()
    producer.send(topic, 0, record_batch(b"seen"), 1, epoch=2)
    producer.commit()

    assert values(topics, topic) == [b"seen"]
    assert values(topics, topic, committed=False) == [b"never", b"seen"]
    producer.close()


def test_an_abort_drops_what_was_sent_for_later_epochs(kafka_address: str, topics: Topics) -> None:
    topic = topics.create()
    producer = transactional(kafka_address, topics.unused("txn"))
    producer.begin()
    producer.send(topic, 0, record_batch(b"one"), 1, epoch=1)
    producer.send(topic, 0, record_batch(b"two"), 1, epoch=2)

    producer.abort()
    producer.begin()
    producer.commit()

    assert values(topics, topic, committed=False) == [b"one"]
    assert values(topics, topic) == []
    producer.close()


def test_batches_of_the_next_epoch_wait_for_its_transaction(kafka_address: str, topics: Topics) -> None:
    topic = topics.create()
    producer = transactional(kafka_address, topics.unused("txn"))

    producer.send(topic, 0, record_batch(b"one"), 1, epoch=1)
    producer.begin()
    producer.send(topic, 0, record_batch(b"two"), 1, epoch=2)
    producer.commit()
    assert values(topics, topic, committed=False) == [b"one"]
    producer.send(topic, 0, record_batch(b"two, too"), 1, epoch=2)
    producer.begin()
    producer.send(topic, 0, record_batch(b"two, at last"), 1, epoch=2)
    producer.commit()

    assert values(topics, topic) == [b"one", b"two", b"two, too", b"two, at last"]
    with pytest.raises(InternalError):
        producer.send(topic, 0, record_batch(b"late"), 1, epoch=2)
    producer.close()


def test_a_topic_that_came_to_be_later_does_not_make_the_producer_forget_another(
    kafka_address: str, topics: Topics
) -> None:
    """aiokafka looks at all topics at first, and once a topic was added only at those that were."""
    known = topics.create()
    producer = transactional(kafka_address, topics.unused("txn"))
    made = topics.create()
    producer.begin()
    producer.send(known, 0, record_batch(b"a"), 1, epoch=1)
    producer.send(made, 0, record_batch(b"b"), 1, epoch=1)
    producer.hurry(3)
    producer.commit()
    producer.close()

    assert [record.value for record in (*topics.consume(known, 1), *topics.consume(made, 1))] == [b"a", b"b"]


def test_an_empty_transaction_commits(kafka_address: str, topics: Topics) -> None:
    producer = transactional(kafka_address, topics.unused("txn"))

    for epoch in (1, 2):
        assert producer.begin() == epoch
        producer.commit()

    producer.close()


def test_a_second_producer_fences_the_first_and_aborts_what_it_had_open(
    kafka_address: str, topics: Topics
) -> None:
    topic, name = topics.create(), topics.unused("txn")
    first = transactional(kafka_address, name)
    first.begin()
    first.send(topic, 0, record_batch(b"zombie"), 1, epoch=1)
    first.flush()

    second = transactional(kafka_address, name)
    with pytest.raises(FencedError) as caught:
        first.send(topic, 0, record_batch(b"zombie, too"), 1, epoch=1)
        first.commit()
    first.close(complete=False)
    second.begin()
    second.send(topic, 0, record_batch(b"new"), 1, epoch=1)
    second.commit()

    assert "another process has taken over" in caught.value.message
    assert values(topics, topic) == [b"new"]
    second.close()


def test_a_fenced_producer_that_has_sent_nothing_more_cannot_commit_either(
    kafka_address: str, topics: Topics
) -> None:
    topic, name = topics.create(), topics.unused("txn")
    first = transactional(kafka_address, name)
    first.begin()
    first.send(topic, 0, record_batch(b"zombie"), 1, epoch=1)
    first.flush()

    second = transactional(kafka_address, name)
    with pytest.raises(FencedError):
        first.commit()
    with pytest.raises(FencedError):
        first.begin()
    first.close(complete=False)
    second.close()

    assert values(topics, topic) == []


def test_a_transaction_that_lasts_too_long_is_told(kafka_address: str, topics: Topics) -> None:
    topic = topics.create()
    producer = transactional(kafka_address, topics.unused("txn"), timeout_ms=500)
    producer.begin()
    producer.send(topic, 0, record_batch(b"never"), 1, epoch=1)
    producer.flush()
    # Readers go on when the broker has aborted it.
    topics.produce(topic, [b"after"])
    deadline = time.monotonic() + 30
    while values(topics, topic) != [b"after"]:
        assert time.monotonic() < deadline

    with pytest.raises(FencedError, match=r"or the transaction lasted longer than transaction\.timeout\.ms"):
        producer.commit()
    producer.close(complete=False)


def test_a_member_of_an_older_generation_cannot_commit_offsets_nor_its_output(
    kafka_address: str, topics: Topics
) -> None:
    topic, read, group = topics.create(), topics.create(), topics.unused("group")
    name = topics.unused("txn")
    producer = transactional(kafka_address, name)
    producer.begin()
    producer.send(topic, 0, record_batch(b"never"), 1, epoch=1)

    # The group has no members at all, so this one is none.
    for _ in range(2):
        with pytest.raises(FencedError):
            producer.send_offsets({(read, 0): 1}, group, generation=3, member="gone")
    producer.close(complete=False)
    producer = transactional(kafka_address, name)
    producer.begin()
    producer.send(topic, 0, record_batch(b"seen"), 1, epoch=1)
    producer.send_offsets({(read, 0): 2}, group)
    producer.commit()

    assert values(topics, topic) == [b"seen"]
    assert topics.committed(group, read) == [2]
    producer.close()


def test_closing_aborts_what_is_open_so_that_readers_go_on(kafka_address: str, topics: Topics) -> None:
    topic = topics.create()
    producer = transactional(kafka_address, topics.unused("txn"))
    producer.begin()
    producer.send(topic, 0, record_batch(b"never"), 1, epoch=1)
    producer.close()
    topics.produce(topic, [b"after"])

    assert values(topics, topic) == [b"after"]


def test_a_batch_that_the_broker_does_not_take_fails_the_transaction(
    kafka_address: str, topics: Topics
) -> None:
    topic = topics.create(max_message_bytes=1000)
    producer = transactional(kafka_address, topics.unused("txn"))
    producer.begin()
    producer.send(topic, 0, record_batch(b"never"), 1, epoch=1)
    producer.send(topic, 0, record_batch(b"x" * 2000), 1, epoch=1)

    with pytest.raises(ConnectorError, match="a record batch is larger than the broker takes"):
        producer.commit()
    producer.abort()
    producer.close(complete=False)

    assert values(topics, topic) == []
    assert values(topics, topic, committed=False) == [b"never"]
