"""Doubles that the package ships: a runner that answers at once, for tests and for trying samplers."""

from __future__ import annotations

import hashlib
import math
import random
from typing import TYPE_CHECKING

from jointsearch.measurement import Example, Measurement
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.formats import FORMATS, INT8, NF4
from jointsearch.plan.layout import ModelLayout, ModuleSpec, Part
from jointsearch.plan.plan import Plan
from jointsearch.plan.sensitivities import ModuleSensitivity, Sensitivities
from jointsearch.runner import Runner, Trial

if TYPE_CHECKING:
    from jointsearch.config.study import StudyConfig


def small_layout(num_blocks: int = 2, width: int = 64) -> ModelLayout:
    """The layout of a small Llama that nobody has: for runners that need no real model."""
    modules = [
        ModuleSpec(
            name="model.embed_tokens",
            kind="embedding",
            block="",
            part=Part.EMBEDDING,
            shape=(256, width),
            tied=("lm_head",),
            adaptable=False,
        )
    ]
    for number in range(num_blocks):
        for name, part, shape in (
            ("self_attn.q_proj", Part.ATTENTION, (width, width)),
            ("self_attn.k_proj", Part.ATTENTION, (width // 2, width)),
            ("self_attn.v_proj", Part.ATTENTION, (width // 2, width)),
            ("self_attn.o_proj", Part.ATTENTION, (width, width)),
            ("mlp.gate_proj", Part.MLP, (3 * width, width)),
            ("mlp.up_proj", Part.MLP, (3 * width, width)),
            ("mlp.down_proj", Part.MLP, (width, 3 * width)),
        ):
            block = f"layers.{number}"
            modules.append(
                ModuleSpec(name=f"model.{block}.{name}", kind="linear", block=block, part=part, shape=shape)
            )
    norms = width * (2 * num_blocks + 1)
    return ModelLayout(
        architecture="LlamaForCausalLM",
        dtype="bfloat16",
        modules=tuple(modules),
        other_parameters=norms,
        other_bytes=2 * norms,
    )


class FakeRunner(Runner):
    """An additive loss with diminishing returns, drawn from module names. Deterministic.

    loss = 1.8 + Σ_m w_m (q(format_m) + 0.5 t / (1 + rank_m)) + ε with weights w_m that sum to 1, q the
    formats' relative errors, and ε ~ N(0, noise²) from (seed, plan). t is 1, and in a final of ``steps``
    steps √(steps / 60): what a rank is worth shows late.
    """

    takes_steps = True

    def __init__(self, layout: ModelLayout | None = None, noise: float = 0.0) -> None:
        """``layout``: of the model; by default that of the plan's study."""
        self._layout = layout
        self._noise = noise

    def layout(self, config: StudyConfig) -> ModelLayout | None:
        """The runner's own; a small one for a study that names no model; else the model's."""
        return self._layout or (None if config.model.is_named else small_layout())

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        weights = {name: _uniform(name) for name in plan.modules}
        total = sum(weights.values())
        late = math.sqrt(trial.steps / 60) if trial.steps else 1.0
        loss = 1.8 + sum(
            weights[name] / total * (FORMATS[choice.format].relative_error + 0.5 * late / (1 + choice.rank))
            for name, choice in plan.modules.items()
        )
        loss += random.Random(f"{trial.seed}/{plan.digest}").gauss(0.0, 1.0) * self._noise
        layout = self._layout or plan.known_context.layout
        cost = plan_cost(layout, plan)
        return Measurement(
            metrics={
                "loss": loss,
                "perplexity": math.exp(loss),
                "bits_per_byte": loss / math.log(2) / 4,
                "accuracy": math.exp(-loss),
            },
            examples=(Example(input="2 + 2 =", output=f"{4 + loss:.3f}", reference="4"),),
            model_bytes=cost.model_bytes,
            bytes_per_parameter=cost.bytes_per_parameter,
            trainable_parameters=cost.trainable_parameters,
            trainable_share=cost.trainable_share,
            ranks=plan.ranks if plan.lora.variant == "adalora" else {},
            seed=trial.seed,
            device="none",
        )

    def sensitivities(self, layout: ModelLayout, rank: int) -> Sensitivities:
        """The weights w_m of the loss as every measure."""
        modules = {}
        for spec in layout.modules:
            weight = _uniform(spec.name)
            errors = {entry.name: entry.relative_error * weight for entry in (NF4, INT8)}
            modules[spec.name] = ModuleSensitivity(
                weight_norm=spec.num_weights**0.5,
                weight_error=errors,
                output_error=errors,
                fisher=weight,
                gradient_norm=weight,
                movement=weight,
            )
        return Sensitivities(modules=modules, probe_rank=rank)


def _uniform(name: str) -> float:
    """A number in [0, 1) that depends on ``name`` alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 2**32
