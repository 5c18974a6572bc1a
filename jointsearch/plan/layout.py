"""A model's layout: every module that could be quantized or adapted, and what the rest weighs.

The layout is read once from the model's config (``jointsearch.training.model.architecture``); from then
on it is plain data, so that bytes, groups and figures need neither weights nor torch.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from jointsearch.errors import PlanError
from jointsearch.plan.formats import FORMATS, ModuleKind
from jointsearch.plan.record import Record

if TYPE_CHECKING:
    from jointsearch.plan.plan import Plan


class Part(StrEnum):
    """What a module is for."""

    EMBEDDING = "embedding"
    ATTENTION = "attention"
    CROSS_ATTENTION = "cross-attention"
    MLP = "mlp"
    HEAD = "head"


class ModuleSpec(Record):
    """One module with a weight matrix.

    ``shape`` is (out_features, in_features) for a linear layer, also where the model stores it
    transposed (GPT-2's ``Conv1D``), and (num_embeddings, embedding_dim) for an embedding.
    """

    name: str
    kind: ModuleKind
    block: str
    """The block that it belongs to (``layers.3``, ``decoder.block.0``); empty outside of blocks."""
    part: Part
    shape: tuple[int, int]
    has_bias: bool = False
    tied: tuple[str, ...] = ()
    """Names of further modules that use the same weight (a tied head); counted and stored once."""
    quantizable: bool = True
    adaptable: bool = True
    trained: bool = False
    """A new head for the task: trained in full, kept in the adapter as PEFT's modules_to_save."""

    @property
    def num_weights(self) -> int:
        return self.shape[0] * self.shape[1]


class ModelLayout(Record):
    """The modules of a model in the order of its forward pass, and what is left beside them."""

    architecture: str
    """Name of the transformers class, such as ``LlamaForCausalLM``."""
    dtype: Literal["bfloat16", "float16"]
    """The model's 16-bit type: whatever is not quantized is kept, saved and counted in it."""
    modules: tuple[ModuleSpec, ...]
    other_parameters: int
    """Parameters outside of ``modules``: norms, the biases of tied heads, relative positions."""
    other_bytes: int
    """Bytes of every tensor outside of ``modules`` in a saved checkpoint."""
    left_out: dict[str, str] = {}
    """Modules that stay at 16 bits, and why."""

    def __getitem__(self, name: str) -> ModuleSpec:
        return self._by_name()[name]

    def _by_name(self) -> dict[str, ModuleSpec]:
        return {module.name: module for module in self.modules}

    @property
    def num_parameters(self) -> int:
        biases = sum(module.shape[0] for module in self.modules if module.has_bias)
        return sum(module.num_weights for module in self.modules) + biases + self.other_parameters

    def check(self, plan: Plan) -> None:
        """Raise ``PlanError`` unless ``plan`` fits this model."""
        by_name = self._by_name()
        unknown = [name for name in plan.modules if name not in by_name]
        missing = [name for name in by_name if name not in plan.modules]
        if unknown or missing:
            raise PlanError(
                f"a plan must name the model's modules, but {_some(unknown)} in the plan and "
                f"{_some(missing)} in {self.architecture} do not match; "
                "use the model that the plan was made for"
            )
        for name, choice in plan.modules.items():
            entry = FORMATS[choice.format]
            if entry.is_quantized and not by_name[name].quantizable:
                raise PlanError(f"{name} cannot be quantized, but the plan gives it {entry.bits} bits")
            if entry.is_quantized and by_name[name].kind not in entry.kinds:
                raise PlanError(
                    f"{entry.name} is for {', '.join(entry.kinds)}, but the plan gives it to {name}, "
                    f"which is {by_name[name].kind}"
                )
            if choice.rank > 0 and not by_name[name].adaptable:
                raise PlanError(f"{name} cannot have an adapter, but the plan gives it rank {choice.rank}")
            if choice.rank > 0 and not plan.lora.supports(choice.format):
                raise PlanError(
                    f"lora.init: {plan.lora.init} needs bits among {list(plan.lora.bits)}, "
                    f"but the plan gives {name} {choice.bits}"
                )


def _some(names: list[str], limit: int = 4) -> str:
    """A few names in brackets, and how many more there are."""
    more = f", … {len(names) - limit} more" if len(names) > limit else ""
    return f"[{', '.join(names[:limit])}{more}]"
