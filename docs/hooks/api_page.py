"""The public Python names, one after the other, for mkdocstrings to write out."""

from __future__ import annotations

from inspect import isfunction
from types import ModuleType

import jointsearch


def all_names() -> str:
    """What ``jointsearch.__all__`` has: functions, then classes, then what its modules define."""
    found = places()
    ordered = sorted(found, key=lambda name: ("." in name, not isfunction(_item(name)), name.lower()))
    return "\n\n".join(f"::: {found[name]}\n    options:\n      heading: {name}" for name in ordered)


def places() -> dict[str, str]:
    """Where each public name is defined; of a module what it defines itself, as ``module.Name``."""
    found: dict[str, str] = {}
    for name in jointsearch.__all__:
        item = getattr(jointsearch, name)
        if isinstance(item, ModuleType):
            own = [part for part in vars(item).values() if getattr(part, "__module__", "") == item.__name__]
            public = [part.__name__ for part in own if not part.__name__.startswith("_")]
            found |= {f"{name}.{part}": f"{item.__name__}.{part}" for part in public}
        elif not name.startswith("__"):
            found[name] = f"{item.__module__}.{item.__qualname__}"
    return found


def _item(name: str) -> object:
    module, _, part = name.rpartition(".")
    return getattr(getattr(jointsearch, module) if module else jointsearch, part)
