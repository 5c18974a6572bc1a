"""Where a trial's plan comes from: one meaning for the name that is shown beside it."""

from __future__ import annotations

from typing import Literal

from jointsearch.plan.record import Record

Kind = Literal["search", "uniform", "strategy", "request"]

_UNIFORM = ("uniform", "lora", "llm-int8", "qlora")
"""Strategies whose plans are uniform."""


class Origin(Record):
    """``search``: a sampler proposed it; ``uniform``: a baseline, one format and rank everywhere;
    ``strategy``: a named rule made it; ``request``: a person asked for it."""

    kind: Kind = "search"
    name: str = ""
    """Of a baseline or a strategy."""

    @property
    def is_named(self) -> bool:
        """Whether it is a baseline of the front, one of uniform plans and named strategies."""
        return self.kind in ("uniform", "strategy")

    @classmethod
    def of_label(cls, label: str) -> Origin:
        """From the label that version 0.1.0 gave to trials: a baseline's name, or a strategy's."""
        if not label:
            return cls()
        uniform = label in _UNIFORM or label.startswith("uniform ")
        return cls(kind="uniform" if uniform else "strategy", name=label)


REQUEST = Origin(kind="request")
