"""The Faust app of a job: one agent per source, one actor per partition, blocks as events."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import faust

from velostream.runtime import transport

Submit = Callable[[str, int, Any, Callable[[], None]], Awaitable[None]]

# Events that Faust buffers per partition. Its own 4,096 would be whole files, since an event is a block.
BUFFERED_BLOCKS = 2


class App(faust.App):  # type: ignore[misc]
    """A Faust app that knows what its transport is to read."""

    inputs: transport.Inputs

    def _create_directories(self) -> None:
        """Faust's own makes a folder for its tables, where the process happens to stand."""


def make_app(
    name: str, inputs: transport.Inputs, submit: Submit, on_error: Callable[[BaseException], None]
) -> App:
    """An app whose agents pass every block to `submit(source, partition, content, acknowledge)`.

    Call it on the loop that is to run it. One app per job: its own group, failure and stop.
    """
    transport.register()
    for library in ("faust", "mode"):
        # They tell every step at INFO, which floods the log of an application that shows INFO.
        logger = logging.getLogger(library)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
    app = App(
        f"{re.sub(r'[^A-Za-z0-9._-]', '-', name)}-{uuid.uuid4().hex[:8]}",
        broker=f"{transport.SCHEME}://local",
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        stream_buffer_maxsize=BUFFERED_BLOCKS,
        # A stopped job leaves blocks that were read and not admitted: Faust would wait for them for ever.
        stream_wait_empty=False,
        TableManager=transport.TableManager,
        datadir="",
    )
    app.inputs = inputs
    for source in inputs.sources:
        topic = app.topic(source, value_serializer=transport.CODEC, key_serializer="raw")
        app.agent(topic, name=f"read-{source}", isolated_partitions=True)(_reader(source, submit, on_error))
    return app


def _reader(source: str, submit: Submit, on_error: Callable[[BaseException], None]) -> Any:
    async def read(stream: Any) -> None:
        async for event in stream.noack().events():
            message = event.message
            try:
                await submit(source, message.partition, message.value, event.ack)
            except Exception as error:  # the job fails; Faust would restart the agent and read on
                on_error(error)

    return read
