"""What a study file says about the search: who proposes plans, how many, and when it ends."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from jointsearch.config.fields import NOT_IDENTITY, Known, Positive
from jointsearch.config.names import SAMPLERS
from jointsearch.plan.record import Record


class StopSettings(Record):
    """When a study ends before it has all of its trials."""

    when: Literal["converged"]
    """The one rule that there is."""
    gain: float = Field(default=0.01, gt=0)
    """Stop when the next ``trials`` are expected to add less than this share to the front's hypervolume."""
    trials: Positive = 10
    """How far ahead the gain is expected."""
    after: Positive = 30
    """Never before so many trials are complete."""


def _rising(times: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(set(times)))


class FinalsSettings(Record):
    """Longer runs of the front after the search: at each length, what the one before has put on its front."""

    times: Annotated[
        tuple[Annotated[int, Field(gt=1)], ...], Field(min_length=1), AfterValidator(_rising)
    ] = (4, 16)
    """Lengths, as multiples of ``calibration.steps``."""
    seeds: Positive = 1
    """That each plan is run with, from ``calibration.seed`` on."""


class SearchSettings(Record):
    """How plans are proposed."""

    sampler: Annotated[str, Known(SAMPLERS)] = "additive"
    """``additive`` knows the bytes and models the quality as nearly a sum; ``nsga2``, ``tpe``, ``gp`` and
    ``random`` are Optuna's; ``tpe-bytes`` and ``gp-bytes`` know the bytes too. ``qr-adaptor`` (arXiv
    2505.03802), ``autoqra`` (2602.22268) and ``primo`` (2511.08371) are after these papers."""
    trials: Annotated[Positive, NOT_IDENTITY] = 100
    """Trials in all, uniform plans and failed trials included."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of the proposals."""
    repeats: Annotated[Positive, NOT_IDENTITY] = 1
    """Measure a plan that is proposed again with a new seed, up to so many seeds; then copy what is known."""
    probe: Annotated[Literal["weight-sharing", "sensitivity", "none"], NOT_IDENTITY] = "none"
    """What ``sampler: additive`` has for a prior; ``autoqra`` and ``qr-adaptor`` have sensitivities of it.
    ``weight-sharing``: one run that scores many plans, for the price of some six trials at most; adapters
    whose ranks are not nested (DoRA, PiSSA, LoftQ) do without. ``sensitivity``: output errors and gradients
    of every group, for the price of a trial. Neither has been worth its price to ``additive`` in the
    project's own benchmark."""
    early_stopping: Annotated[bool | Literal["auto"], NOT_IDENTITY] = "auto"
    """Stop a trial at a rung where it would hardly be on the front. ``auto``: as long as that saves more
    seconds than measuring at the rungs takes, judged by the study's own trials."""
    finals: Annotated[FinalsSettings | None, NOT_IDENTITY] = None
    """Longer runs of the front, of its rivals on the ladder and of the selected plans, after the search; by
    default none. ``jointsearch study finals`` has them at any time."""
    stop: Annotated[StopSettings | None, NOT_IDENTITY] = None
    """End the study before it has all of its trials; by default never."""
