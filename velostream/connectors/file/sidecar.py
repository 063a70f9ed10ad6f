"""What stands beside a sink's file, hidden: how much of it has been committed.

A JSON object in `.NAME.committed`, replaced by rename:

| key | what |
|---|---|
| version | 1 |
| epoch | the number of commits so far in which there were rows |
| complete | whether the job has come to the end of its input: there will be no more rows |
| format, compression | how the rows are written |
| file, length, tail | text: which file has them, in how many bytes, and the checksum of a `Mark` |
| schema | Parquet: the columns, as an Arrow schema message in hexadecimal |
| parts | Parquet: files with this number and lower ones have been committed |
| rows, length, tail | Parquet: so many rows wait in the spool of the next number, in so many bytes |
"""

from __future__ import annotations

import json
import os
from typing import Any

from velostream.connectors.file.appended import sync_folder
from velostream.connectors.file.parts import cannot
from velostream.errors import ConnectorError

VERSION = 1


def sidecar_path(path: str) -> str:
    """Where the sidecar of the file at `path` (through symbolic links) lies."""
    folder, name = os.path.split(os.path.realpath(path))
    return os.path.join(folder, f".{name}.committed")


def write_sidecar(path: str, content: dict[str, Any], durable: bool) -> None:
    """Replace the sidecar of the file at `path`. Raises ConnectorError; may be repeated.

    Only the last one must be `durable`: a restart writes the others again.
    """
    place = sidecar_path(path)
    fresh = f"{place}.part"
    try:
        with open(fresh, "wb") as file:
            file.write(json.dumps({"version": VERSION, **content}).encode())
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(fresh, place)
        if durable:
            sync_folder(place)
    except OSError as exc:
        raise cannot("write", place, exc) from exc


def remove_unfinished(path: str) -> None:
    """Say nothing any more of a run whose rows nobody will go on from. Raises ConnectorError."""
    try:
        said = read_sidecar(path)
    except ConnectorError:
        said = {"complete": False}
    if said is not None and not said["complete"]:
        remove_sidecar(path)


def remove_sidecar(path: str) -> None:
    """Say nothing any more of the file at `path`. Raises ConnectorError."""
    place = sidecar_path(path)
    try:
        os.unlink(place)
    except FileNotFoundError:
        pass
    except OSError as exc:
        raise cannot("remove", place, exc) from exc


def read_sidecar(path: str) -> dict[str, Any] | None:
    """The sidecar of the file at `path`; None when it has none. Raises ConnectorError."""
    place = sidecar_path(path)
    try:
        with open(place, "rb") as file:
            content = json.loads(file.read())
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise cannot("read", place, exc) from exc
    except ValueError as exc:
        raise ConnectorError(
            f"'{place}' is damaged: {exc}", hint="start the job that writes it again: it writes this anew"
        ) from exc
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise ConnectorError(
            f"'{place}' is not of version {VERSION}", hint="read it with the velostream that wrote it"
        )
    return content
