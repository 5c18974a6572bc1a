"""What a study has shown, as a headline, one sentence, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jointsearch.dashboard.words import lower_or_higher, name_of, short_name
from jointsearch.front.objectives import OBJECTIVES, format_bytes, format_value
from jointsearch.study.analysis.front_table import FrontTable, PlanPoint
from jointsearch.study.analysis.verdict import PointVerdict, Verdict, is_rung
from jointsearch.study.stored import StoredStudy

Kind = Literal["paid", "enough", "undecided", "nothing"]

SYMBOLS: dict[Kind, str] = {"paid": "check", "enough": "minus", "undecided": "ask", "nothing": "clock"}
HEADLINES: dict[Kind, str] = {
    "paid": "The search paid",
    "enough": "A plan by hand is enough",
    "undecided": "Not decided yet",
    "nothing": "Nothing searched yet",
}


@dataclass(frozen=True)
class Banner:
    """A verdict as people read it."""

    kind: Kind
    sentence: str
    evidence: str
    """The judge's own words, with what was tested."""
    short: str
    """A few words beside the headline."""
    trial: int | None = None
    """Of the plan that it speaks of."""
    command: str = ""
    """What would decide it."""

    @property
    def headline(self) -> str:
        return HEADLINES[self.kind]


def banner(study: StoredStudy, table: FrontTable, verdict: Verdict) -> Banner:
    """``verdict``: on the plans of ``table``."""
    compared = [entry for entry in verdict.comparisons if entry.gain is not None]
    if all(point.measured.origin.is_named for point in table.points):
        count = len(table.points)
        sentence = f"{count} plans that need no search are measured; the search starts after them."
        return Banner("nothing", sentence, verdict.sentence, f"{count} plans without a search")
    if verdict.paid is None:
        return _undecided(study, table, verdict, compared)
    best = _best(compared)
    if verdict.paid and best is not None:
        return _paid(study, table, verdict, best)
    return _enough(table, verdict, best)


def _best(compared: list[PointVerdict]) -> PointVerdict | None:
    """The largest gain of those beyond doubt, or else of all."""
    return max(compared, key=lambda entry: (entry.significant, entry.gain or 0.0), default=None)


def _gain(quality: str, entry: PointVerdict) -> str:
    error = "" if entry.half_width is None else f" ± {format_value(quality, entry.half_width)}"
    return format_value(quality, entry.gain or 0.0) + error


def _paid(study: StoredStudy, table: FrontTable, verdict: Verdict, best: PointVerdict) -> Banner:
    point = table.point(best.trial)
    size = format_bytes(point.model_bytes)
    gain = _gain(table.quality, best)
    sentence = (
        f"At {size}, {name_of(point)} has a {table.quality} {gain} {lower_or_higher(table.quality)} than the "
        f"kindest rival of equal bytes, {short_name(best.rival)} ({len(best.seeds)} further seeds)."
    )
    equal = equally_good(study, table, point)
    if equal is not None:
        more = 100 * (equal.model_bytes / point.model_bytes - 1)
        sentence += (
            f" Without a search, {name_of(equal)} has that {table.quality} at "
            f"{format_bytes(equal.model_bytes)}, {more:.0f} % more."
        )
    return Banner(
        "paid", sentence, verdict.sentence, f"{gain} {lower_or_higher(table.quality)} at {size}", point.trial
    )


def equally_good(study: StoredStudy, table: FrontTable, point: PlanPoint) -> PlanPoint | None:
    """The smallest measured plan that needs no search and is as good as ``point``, but larger."""
    sign = OBJECTIVES[table.quality].sign
    rungs = [
        rung
        for rung in table.points
        if rung.baseline
        and is_rung(study, rung.measured)
        and rung.model_bytes > point.model_bytes
        and sign * rung.quality <= sign * point.quality
    ]
    return min(rungs, key=lambda rung: rung.model_bytes, default=None)


def _enough(table: FrontTable, verdict: Verdict, best: PointVerdict | None) -> Banner:
    sentence = "No searched plan is told apart from plans of equal bytes that need no search"
    if best is not None:
        size = format_bytes(table.point(best.trial).model_bytes)
        sentence += f"; the largest gain is {_gain(table.quality, best)}, at {size}"
    baselines = [point for point in table.front if point.baseline]
    chosen = next((p for p in baselines if p.knee), baselines[len(baselines) // 2] if baselines else None)
    short = f"such as {name_of(chosen)}" if chosen else "no gain beyond doubt"
    return Banner("enough", f"{sentence}.", verdict.sentence, short, chosen.trial if chosen else None)


def _undecided(
    study: StoredStudy, table: FrontTable, verdict: Verdict, compared: list[PointVerdict]
) -> Banner:
    better = [entry for entry in compared if (entry.gain or 0.0) > 0]
    command = f"jointsearch study refine {study.name}"
    if not better:
        sentence = (
            "No searched plan looks better than plans of equal bytes yet, or their rivals are not measured."
        )
        return Banner("undecided", sentence, verdict.sentence, "no gain seen yet", None, command)
    best = max(better, key=lambda entry: entry.gain or 0.0)
    points = "1 point looks" if len(better) == 1 else f"{len(better)} points look"
    sentence = (
        f"{points} better than plans of equal bytes that need no search, by up to "
        f"{format_value(table.quality, best.gain or 0.0)}, but under the search's own seed. "
        "Further seeds decide it."
    )
    short = f"{len(better)} of {len(compared)} points look better"
    return Banner("undecided", sentence, verdict.sentence, short, best.trial, command)
