"""Things by name that other packages can add to: formats, tasks, samplers, strategies, methods, launchers, …

What registers itself is known from then on. Of built-in things in a folder, one file each, the names are the
files' names: they are known without importing any, so that a study file is checked in milliseconds. What
another package offers is found by its entry points, the group ``jointsearch.<kinds>``, or by the modules that
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

    def __init__(
        self, kind: str, *, folder: str = "", named_by_file: bool = True, first: Sequence[str] = ()
    ) -> None:
        """``kind``: one word for messages, in the plural the entry point group; ``folder``: a package whose
        modules register themselves, each the one thing that has its name, ``-`` for ``_``, unless they are
        not ``named_by_file`` (one that begins with ``_`` is for the others); ``first``: names to list first.
        """
        self._kind = kind
        self._folder = folder
        self._named_by_file = named_by_file
        self._first = first
        self._items: dict[str, Item] = {}
        self._unread: list[Callable[[], object]] = [
            *([] if named_by_file else [self._read_folder]),
            self._read_plugins,
            self._read_entry_points,
        ]

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

    @property
    def group(self) -> str:
        """The entry points by which other packages offer things of this kind."""
        plural = f"{self._kind[:-1]}ies" if self._kind.endswith("y") else f"{self._kind}s"
        return f"jointsearch.{plural.replace(' ', '_')}"

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
        """The folder's modules by the name of what each registers; none where files do not say it."""
        found = self._files if self._named_by_file else {}
        return {file.replace("_", "-"): module for file, module in found.items()}

    @property
    def _files(self) -> dict[str, str]:
        """The folder's modules by their files, found without importing any."""
        spec = find_spec(self._folder) if self._folder else None
        folders = spec.submodule_search_locations if spec else ()
        names = [found.name for found in pkgutil.iter_modules(folders)]
        return {name: f"{self._folder}.{name}" for name in names if not name.startswith("_")}

    def _names(self) -> list[str]:
        while self._unread:
            self._read_next()
        # files are imported in any order
        registered = sorted(self._items) if self._folder else self._items
        return list(dict.fromkeys((*self._first, *self._modules, *registered)))

    def _read_next(self) -> None:
        read = self._unread.pop(0)  # first: what is read may ask for names itself
        try:
            read()
        except BaseException:
            self._unread.insert(0, read)
            raise

    def _read_folder(self) -> None:
        for module in self._files.values():
            importlib.import_module(module)

    def _read_plugins(self) -> None:
        for module in filter(None, (name.strip() for name in os.environ.get(PLUGINS, "").split(","))):
            try:
                importlib.import_module(module)
            except ImportError as error:
                raise UnsupportedError(
                    f"{PLUGINS} must name modules that can be imported, but {module}: {first_line(error)}"
                ) from None

    def _read_entry_points(self) -> None:
        for entry in entry_points(group=self.group):
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
