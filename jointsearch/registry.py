"""Things by name that other packages can add to: formats, tasks, samplers, strategies, methods, launchers, …

What registers itself is known from then on. Of built-in things in a folder, one file each, the names are the
files' names: they are known without importing any, so that a study file is checked in milliseconds. What
another package offers is found by its entry points, the group ``jointsearch.<kind>s``, or by the modules that
the environment variable JOINTSEARCH_PLUGINS names with commas between; both are imported when a name is first
asked for that is not known yet, or when all names are listed. Neither a study file nor a database can name
code to import.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import entry_points
from importlib.util import find_spec
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

    def __init__(self, kind: str, *builtin: str, folder: str = "", first: Sequence[str] = ()) -> None:
        """``kind``: one word for messages, in the plural the entry point group; ``builtin``: modules of the
        package that register themselves, imported when they are needed; ``folder``: a package whose modules
        each register what has their name, ``-`` for ``_`` (one that begins with ``_`` is for the others), and
        of it the names that are listed ``first``."""
        self._kind = kind
        self._folder = folder
        self._first = first
        self._items: dict[str, Item] = {}
        self._unread: list[Callable[[], object]] = [_importer(module) for module in builtin]
        self._unread += [self._read_plugins, self._read_entry_points]

    def register(self, item: Item) -> Item:
        """Make ``item`` known by its name; raises ``ValueError`` if another thing has that name."""
        known = self._items.get(item.name)
        module = self._modules.get(item.name)
        is_builtin = module is not None and module not in sys.modules
        if is_builtin or (known is not None and known != item):
            raise ValueError(f"the {self._kind} '{item.name}' is registered already; use another name")
        self._items[item.name] = item
        return item

    def __getitem__(self, name: str) -> Item:
        if name not in self._items and name in self._modules:
            importlib.import_module(self._modules[name])
        while name not in self._items and self._unread:
            self._read_next()
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        if name in self._modules:
            return True
        try:
            self[name]  # type: ignore[index]  # a mapping is asked for anything
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def problem(self, name: str) -> str:
        """What to say of a name that is none: the rule, the value, the nearest."""
        return f"a {self._kind} must be one of {', '.join(self)}, but got '{name}'{nearest(name, self)}"

    def checked(self, name: str) -> str:
        """``name``, which must be known; raises ``ValueError``. For fields of study files."""
        if name not in self:
            raise ValueError(self.problem(name))
        return name

    @cached_property
    def _modules(self) -> dict[str, str]:
        """The built-in modules of the folder, by the name of what each registers."""
        spec = find_spec(self._folder) if self._folder else None
        found = {
            module.name.replace("_", "-"): f"{self._folder}.{module.name}"
            for module in pkgutil.iter_modules(spec.submodule_search_locations if spec else ())
            if not module.name.startswith("_")
        }
        return {name: found[name] for name in (*self._first, *found)}

    def _names(self) -> list[str]:
        while self._unread:
            self._read_next()
        return list(dict.fromkeys((*self._modules, *self._items)))

    def _read_next(self) -> None:
        read = self._unread.pop(0)  # first: what is read may ask for names itself
        try:
            read()
        except BaseException:
            self._unread.insert(0, read)
            raise

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
            try:
                entry.load()
            except (ImportError, AttributeError) as error:
                raise UnsupportedError(
                    f"the {self._kind} '{entry.name}' of {entry.dist.name if entry.dist else 'a package'} "
                    f"cannot be imported: {first_line(error)}"
                ) from None


def load(reference: str) -> Any:
    """What ``package.module:name`` names, imported now: how plain data points to what needs torch."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def _importer(module: str) -> Callable[[], object]:
    return lambda: importlib.import_module(module)
