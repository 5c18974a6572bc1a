"""What a study file says about outputs that a model writes while it is measured."""

from __future__ import annotations

import re

from pydantic import field_validator

from jointsearch.config.fields import Positive
from jointsearch.plan.record import Record


class GenerationSettings(Record):
    """How outputs are generated, greedily or by beam search."""

    max_new_tokens: Positive = 32
    """Tokens of the longest output."""
    num_beams: Positive = 1
    """1 is greedy."""
    max_examples: Positive | None = None
    """Generate for at most so many of the examples that are measured; by default for all."""
    answer_pattern: str | None = None
    """A regular expression with one group, the answer; of several matches the last counts.

    For causal language models it turns on ``exact_match``, for others it is what is compared.
    """

    @field_validator("answer_pattern")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        try:
            groups = 1 if pattern is None else re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"must be a regular expression, but got {pattern!r} ({error})") from None
        if groups != 1:
            raise ValueError(f"must have one group, the answer, but {pattern!r} has {groups}")
        return pattern
