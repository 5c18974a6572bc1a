"""A model's layout: every module that could be quantized or adapted, and what the rest weighs.

The layout is read once from the model's config (``jointsearch.training.model.architecture``); from then
on it is plain data, so that bytes, groups and figures need neither weights nor torch.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from jointsearch.plan.formats import ModuleKind
from jointsearch.plan.record import Record

WHOLE_SHARE = 0.9
"""Of the weights: a search that reaches less is worth a note."""

Size = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


class Part(StrEnum):
    """What a module is for."""

    EMBEDDING = "embedding"
    ATTENTION = "attention"
    CROSS_ATTENTION = "cross-attention"
    MLP = "mlp"
    HEAD = "head"


class ModuleSpec(Record):
    """One module with a weight matrix, or the weights of all experts of a layer.

    ``shape`` is (out_features, in_features) for a linear layer, also where the model stores it
    transposed (GPT-2's ``Conv1D``), and (num_embeddings, embedding_dim) for an embedding. ``experts``
    are one parameter of three dimensions, named as such; their shape is that of one expert.
    """

    name: str
    kind: ModuleKind
    block: str
    """The block that it belongs to (``layers.3``, ``decoder.block.0``); empty outside of blocks."""
    part: Part
    shape: tuple[Size, Size]
    num_experts: Size = 1
    has_bias: bool = False
    tied: tuple[str, ...] = ()
    """Names of further modules that use the same weight (a tied head); counted and stored once."""
    quantizable: bool = True
    adaptable: bool = True
    trained: bool = False
    """A new head for the task: trained in full, kept in the adapter as PEFT's modules_to_save."""

    @property
    def stack(self) -> str:
        """What its block is numbered within: ``encoder.block``; empty outside of blocks."""
        return self.block.rpartition(".")[0]

    @property
    def max_rank(self) -> int:
        """The smaller side: a higher rank could add nothing."""
        return min(self.shape)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Of what is quantized: the experts' rows below each other."""
        return self.num_experts * self.shape[0], self.shape[1]

    @property
    def num_weights(self) -> int:
        return self.num_experts * self.shape[0] * self.shape[1]


def across_blocks(name: str) -> str:
    """A name without the numbers of blocks: ``layers.*.mlp``."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name)


class ModelLayout(Record):
    """The modules of a model in the order of its forward pass, and what is left beside them."""

    architecture: str
    """Name of the transformers class, such as ``LlamaForCausalLM``."""
    dtype: Literal["bfloat16", "float16"]
    """The model's 16-bit type: whatever is not quantized is kept, saved and counted in it."""
    modules: tuple[ModuleSpec, ...]
    other_parameters: Count
    """Parameters outside of ``modules``: norms, the biases of tied heads, relative positions."""
    other_bytes: Count
    """Bytes of every tensor outside of ``modules`` in a saved checkpoint."""
    left_out: dict[str, str] = {}
    """Modules that stay at 16 bits, and why."""
    without_adapter: dict[str, str] = {}
    """Modules of blocks that have no adapter, and why."""

    def __getitem__(self, name: str) -> ModuleSpec:
        return self.by_name()[name]

    def by_name(self) -> dict[str, ModuleSpec]:
        return {module.name: module for module in self.modules}

    @property
    def searched_share(self) -> float:
        """Of all parameters, those of weights that can have another format than 16 bits."""
        return sum(m.num_weights for m in self.modules if m.quantizable) / max(1, self.num_parameters)

    @property
    def notes(self) -> list[str]:
        """What a person should know before a search: what it does not reach, and how much that is."""
        left_out, without = set(self.left_out.items()), set(self.without_adapter.items())
        lines = [
            *_notes("left at 16 bits, without an adapter", self.left_out, left_out & without),
            *_notes("left at 16 bits", self.left_out, left_out - without),
            *_notes("without an adapter", self.without_adapter, without - left_out),
        ]
        if self.searched_share < WHOLE_SHARE:
            lines.append(f"the search reaches {self.searched_share:.0%} of the model's weights")
        return lines

    def kept_from(self, kind: ModuleKind, reason: str) -> ModelLayout:
        """The same model whose modules of that kind have no adapters."""
        kept = [spec.name for spec in self.modules if spec.kind == kind and spec.adaptable]
        modules = tuple(
            spec.model_copy(update={"adaptable": False}) if spec.name in kept else spec
            for spec in self.modules
        )
        without = self.without_adapter | dict.fromkeys(kept, reason)
        return self.model_copy(update={"modules": modules, "without_adapter": without})

    @property
    def num_parameters(self) -> int:
        biases = sum(module.shape[0] for module in self.modules if module.has_bias)
        return sum(module.num_weights for module in self.modules) + biases + self.other_parameters


def _notes(what: str, reasons_of: dict[str, str], meant: set[tuple[str, str]]) -> list[str]:
    """A line for each reason, with the modules of all blocks as one."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for name, reason in (pair for pair in reasons_of.items() if pair in meant):
        reasons.setdefault((across_blocks(name), reason), []).append(name)
    return [
        f"{what}: {names[0] if len(names) == 1 else f'{pattern}, {len(names)} modules'} ({reason})"
        for (pattern, reason), names in reasons.items()
    ]
