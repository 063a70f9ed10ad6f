"""What a coordinator answers of committed offsets."""

from __future__ import annotations

import asyncio
from typing import Any

import aiokafka.errors as kafka_errors
import pytest
from aiokafka.protocol.commit import OffsetFetchResponse_v1, OffsetFetchResponse_v3

from velostream.connectors.kafka import group


def fetched(monkeypatch: pytest.MonkeyPatch, answer: Any) -> tuple[int, str] | None:
    """What is made of the answer."""

    async def send(*arguments: Any) -> Any:
        return answer

    monkeypatch.setattr(group, "send", send)
    return asyncio.run(group.committed_offset(None, "job-run", "job-state", 0))


def test_an_offset_is_there_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(offset: int, metadata: str | None = "") -> OffsetFetchResponse_v3:
        return OffsetFetchResponse_v3(0, [("job-state", [(0, offset, metadata, 0)])], 0)

    assert fetched(monkeypatch, answer(2, "mark")) == (2, "mark")
    assert fetched(monkeypatch, answer(2, None)) == (2, "")
    assert fetched(monkeypatch, answer(0)) == (0, "")
    assert fetched(monkeypatch, answer(-1)) is None


def test_a_coordinator_that_is_loading_has_not_said_that_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(kafka_errors.GroupLoadInProgressError):
        fetched(monkeypatch, OffsetFetchResponse_v3(0, [], 14))
    with pytest.raises(kafka_errors.GroupLoadInProgressError):
        fetched(monkeypatch, OffsetFetchResponse_v1([("job-state", [(0, -1, "", 14)])]))
