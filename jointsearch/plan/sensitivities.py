"""What some strategies need to know of a model and its data: plain numbers by module.

They are measured once per study (``jointsearch.training.probes.sensitivity``) and kept with it. With W a
module's weight, Q(W) the same at fewer bits, X its inputs on calibration batches and L the loss:

    weight_error[b]   ‖W - Q_b(W)‖ / ‖W‖            (Frobenius norms)
    output_error[b]   ‖X Wᵀ - X Q_b(W)ᵀ‖ / ‖X Wᵀ‖
    fisher            mean over batches and elements of (∂L/∂W)², the diagonal of the empirical Fisher
    gradient_norm     mean over a probe's steps of ‖∂L/∂(A, B)‖ of the module's adapter
    movement          ‖s B A‖ / ‖W‖ at the end of that probe
"""

from __future__ import annotations

from jointsearch.plan.plan import Record


class ModuleSensitivity(Record):
    """One module; what does not apply to it is empty or 0 (an embedding has no adapter)."""

    weight_norm: float
    weight_error: dict[int, float] = {}
    """By bits, 4 and 8."""
    output_error: dict[int, float] = {}
    fisher: float = 0.0
    gradient_norm: float = 0.0
    movement: float = 0.0

    def squared_error(self, bits: int) -> float:
        """‖W - Q(W)‖², 0 at 16 bits."""
        return (self.weight_norm * self.weight_error[bits]) ** 2 if bits in self.weight_error else 0.0


class Sensitivities(Record):
    """All modules of a model that can be quantized or adapted, and how they were measured."""

    modules: dict[str, ModuleSensitivity]
    probe_steps: int = 0
    probe_rank: int = 0
    seed: int = 0
