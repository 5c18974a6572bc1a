"""Things by name that other packages can add to: formats, tasks, samplers, strategies, methods, launchers, …

What registers itself is known from then on. What another package offers is found by its entry points, the
group ``jointsearch.<kind>s``, or by the modules that the environment variable JOINTSEARCH_PLUGINS names
with commas between; both are imported when a name is first asked for that is not known yet, or when all names
are listed. Neither a study file nor a database can name code to import.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, Generic, Protocol, TypeVar

from jointsearch.errors import UnsupportedError, first_line, nearest

PLUGINS = "JOINTSEARCH_PLUGINS"
"""Environment variable: modules that register what a machine's workers shall know."""


class Named(Protocol):
    """What a registry holds."""

    @property
    def name(self) -> str: ...


Item = TypeVar("Item", bound=Named)


class Registry(Mapping[str, Item], Generic[Item]):
    """All things of one kind by name, in the order in which they were registered."""

    def __init__(self, kind: str, *builtin: str) -> None:
        """``kind``: one word for messages, in the plural the entry point group; ``builtin``: modules of the
        package that register themselves, imported when they are needed."""
        self._kind = kind
        self._items: dict[str, Item] = {}
        self._unread: list[Callable[[], object]] = [_importer(module) for module in builtin]
        self._unread += [self._read_plugins, self._read_entry_points]

    def register(self, item: Item) -> Item:
        """Make ``item`` known by its name; raises ``ValueError`` if another thing has that name."""
        known = self._items.get(item.name)
        if known is not None and known != item:
            raise ValueError(f"the {self._kind} '{item.name}' is registered already; use another name")
        self._items[item.name] = item
        return item

    def __getitem__(self, name: str) -> Item:
        while name not in self._items and self._unread:
            self._unread.pop(0)()
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        try:
            self[name]  # type: ignore[index]  # a mapping is asked for anything
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def problem(self, name: str) -> str:
        """What to say of a name that is none: the rule, the value, the nearest."""
        return f"a {self._kind} must be one of {', '.join(self)}, but got '{name}'{nearest(name, self)}"

    def checked(self, name: str) -> str:
        """``name``, which must be known; raises ``ValueError``. For fields of study files."""
        if name not in self:
            raise ValueError(self.problem(name))
        return name

    def _all(self) -> dict[str, Item]:
        while self._unread:
            self._unread.pop(0)()
        return self._items

    def _read_plugins(self) -> None:
        for module in filter(None, (name.strip() for name in os.environ.get(PLUGINS, "").split(","))):
            try:
                importlib.import_module(module)
            except ImportError as error:
                raise UnsupportedError(
                    f"{PLUGINS} must name modules that can be imported, but {module}: {first_line(error)}"
                ) from None

    def _read_entry_points(self) -> None:
        for entry in entry_points(group=f"jointsearch.{self._kind.replace(' ', '_')}s"):
            entry.load()


def load(reference: str) -> Any:
    """What ``package.module:name`` names, imported now: how plain data points to what needs torch."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def _importer(module: str) -> Callable[[], object]:
    return lambda: importlib.import_module(module)
