"""The one generic registry: kinds of things by name.

A registry imports its own folder, then the entry points of the group `velostream.<kind>`, at the first
look-up. A name registered twice fails at import; an unknown one raises with the nearest match.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from threading import RLock
from typing import Any, Generic, TypeVar

from velostream.errors import ConfigError, InternalError, unknown

T = TypeVar("T")


@cache
def _entry_points() -> Any:  # its type is another one from Python 3.12 on
    """Those of all installed packages. Looking for them reads a file of each: 5 ms, once for all kinds."""
    return entry_points()


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """A registered thing. `doc` is the first line of its docstring; `meta` what `register` was given."""

    name: str
    value: T
    doc: str
    meta: dict[str, Any]


class Registry(Generic[T]):
    """Things of one kind by name.

    `kind` is the singular used in messages (`"format"`); `package` the folder whose modules register
    themselves when imported, or the one module that does.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, Entry[T]] = {}
        self._loaded = False
        self._loading = False
        self._lock = RLock()

    def register(self, name: str, **meta: Any) -> Callable[[T], T]:
        """Decorator: make a class or function known as `name`. Needs a docstring."""

        def add(value: T) -> T:
            doc = (getattr(value, "__doc__", None) or "").strip()
            if not doc:
                raise InternalError(f"{self.kind} '{name}' has no docstring")
            if name in self._entries and self._entries[name].value is not value:
                raise InternalError(f"{self.kind} '{name}' is registered twice")
            self._entries[name] = Entry(name, value, doc.splitlines()[0].strip(), meta)
            return value

        return add

    def _load(self) -> None:
        with self._lock:
            if self._loaded or self._loading:
                return
            self._loading = True
            try:
                self._import_all()
                # Only now: after a failed import the next look-up fails for the same reason again.
                self._loaded = True
            finally:
                self._loading = False

    def _import_all(self) -> None:
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
            importlib.import_module(f"{self.package}.{module.name}")
        for point in _entry_points().select(group=f"velostream.{self.kind}"):
            point.load()

    def entry(self, name: str) -> Entry[T]:
        """The entry of `name`; raises ConfigError with the nearest name when there is none."""
        self._load()
        try:
            return self._entries[name]
        except KeyError:
            message, hint = unknown(self.kind, name, self._entries)
            raise ConfigError(message, hint=hint) from None

    def __getitem__(self, name: str) -> T:
        return self.entry(name).value

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[Entry[T]]:
        self._load()
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))

    def names(self) -> list[str]:
        """All names, sorted."""
        return [entry.name for entry in self]
