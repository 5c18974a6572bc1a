"""What some strategies need to know of a model and its data: plain numbers by module.

They are measured once per study (``jointsearch.training.probes.sensitivity``) and kept with it. With W a
module's weight, Q(W) the same in a format, X its inputs on calibration batches and L the loss:

    weight_error[f]   ‖W - Q_f(W)‖ / ‖W‖            (Frobenius norms)
    output_error[f]   ‖X Wᵀ - X Q_f(W)ᵀ‖ / ‖X Wᵀ‖, of experts ``weight_error``: what it is for white inputs
    fisher            mean over batches and elements of (∂L/∂W)², the diagonal of the empirical Fisher
    gradient_norm     mean over a probe's steps of ‖∂L/∂(A, B)‖ of the module's adapter
    movement          ‖s B A‖ / ‖W‖ at the end of that probe
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from jointsearch.plan.formats import OF_BITS
from jointsearch.plan.record import Record


def _by_format(values: Any) -> Any:
    """Version 0.1.0 wrote bits where formats are now."""
    if not isinstance(values, dict):
        return values
    names = {str(bits): name for bits, name in OF_BITS.items()}
    return {names.get(str(key), key): value for key, value in values.items()}


ByFormat = Annotated[dict[str, float], BeforeValidator(_by_format)]


class ModuleSensitivity(Record):
    """One module; what does not apply to it is empty or 0 (an embedding has no adapter)."""

    weight_norm: float
    weight_error: ByFormat = {}
    """By format; 16 bits have none."""
    output_error: ByFormat = {}
    fisher: float = 0.0
    gradient_norm: float = 0.0
    movement: float = 0.0

    def squared_error(self, weight_format: str) -> float:
        """‖W - Q(W)‖², 0 at 16 bits."""
        return (self.weight_norm * self.weight_error.get(weight_format, 0.0)) ** 2


class Sensitivities(Record):
    """All modules of a model that can be quantized or adapted, and how they were measured."""

    modules: dict[str, ModuleSensitivity]
    probe_steps: int = 0
    probe_rank: int = 0
    seed: int = 0
