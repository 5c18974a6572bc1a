"""What the targets share that write linear modules as integers."""

from __future__ import annotations

from collections.abc import Mapping

from jointsearch.errors import PlanError
from jointsearch.plan.plan_file import PlanFile


def integer_formats(plan: PlanFile) -> dict[str, str]:
    """The formats of what is written as integers, by module: embeddings stay in 16 bits."""
    formats = plan.plan.formats
    return {name: formats[name] for name in formats if plan.layout[name].kind != "embedding"}


def check_integers(target: str, plan: PlanFile, schemes: Mapping[str, tuple[int, int | None]]) -> None:
    """Raise ``PlanError`` where a module cannot be written as integers.

    ``schemes``: by format the bits, and the weights of a row that share a scale; None for all.
    """
    formats = integer_formats(plan)
    if not formats:
        raise PlanError("the plan quantizes no linear module, and so the model is plain; use --to merged")
    for name, weight_format in formats.items():
        spec = plan.layout[name]
        if spec.kind != "linear":
            raise PlanError(
                f"{target} quantizes linear modules alone, but {name} is {spec.kind} and the plan gives it "
                f"{weight_format}; the nearest is 16bit, or export to merged-quantized"
            )
        bits, group = schemes[weight_format]
        if group and spec.shape[1] % group:
            raise PlanError(
                f"{target} has {bits} bits where in_features are a multiple of {group}, but {name} has "
                f"{spec.shape[1]}; the nearest is int8, or export to merged-quantized"
            )
