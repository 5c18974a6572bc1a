"""The public Python names, one after the other, for mkdocstrings to write out."""

from __future__ import annotations

import jointsearch


def all_names() -> str:
    """What ``jointsearch.__all__`` has, each where it is defined; modules are listed by what they export."""
    return "\n\n".join(f"::: {place}" for place in places())


def places() -> list[str]:
    """``package.module.name`` of every public name; constants are named where they are."""
    found = []
    for name in jointsearch.__all__:
        item = getattr(jointsearch, name)
        module = getattr(item, "__module__", None)
        found.append(f"{module}.{item.__qualname__}" if module else f"jointsearch.{name}")
    return found
