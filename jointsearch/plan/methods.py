"""Training methods as a plan sees them: a name, and what an adapter of a rank trains. No torch.

LoRA trains A (rank, in) and B (out, rank) beside a weight of shape (out, in): Hu et al., arXiv 2106.09685.
What attaches and trains adapters is in ``jointsearch.training.methods``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jointsearch.registry import Registry


def lora_parameters(shape: tuple[int, int], rank: int) -> int:
    """Of A and B, beside a weight of shape (out_features, in_features)."""
    return rank * sum(shape)


def dora_parameters(shape: tuple[int, int], rank: int) -> int:
    """LoRA's and a norm for every output: Liu et al., DoRA, arXiv 2402.09353, equation 5."""
    return lora_parameters(shape, rank) + (shape[0] if rank else 0)


def adalora_parameters(shape: tuple[int, int], rank: int) -> int:
    """LoRA's and a singular value per rank: Zhang et al., AdaLoRA, arXiv 2303.10512, equation 3."""
    return lora_parameters(shape, rank) + rank


def lora_scale(alpha: float, rank: int) -> float:
    """s = alpha / rank."""
    return alpha / rank


def rslora_scale(alpha: float, rank: int) -> float:
    """s = alpha / √rank: Kalajdzievski, rank-stabilized LoRA, arXiv 2312.03732."""
    return alpha / math.sqrt(rank)


@dataclass(frozen=True)
class Method:
    """A way to adapt a model."""

    name: str
    implementation: str
    """``package.module:name`` of its ``training.methods.TrainingMethod``, imported by who trains."""
    adapter_parameters: Callable[[tuple[int, int], int], int] = lora_parameters
    """Trained parameters beside a weight of shape (out_features, in_features), at a rank."""
    scale: Callable[[float, int], float] = lora_scale
    """What B A is multiplied by, from alpha and the rank."""
    alpha: float = 16.0
    """Where a study says nothing of it: a scale of 2 at rank 8."""
    other_starts: bool = False
    """Whether ``lora.init`` can be another than ``default``."""
    peft_arguments: Mapping[str, bool] = field(default_factory=dict)
    """What ``peft.LoraConfig`` is told beside ranks and alphas."""
    experts: bool = False
    """Whether PEFT has it for the weights of experts (``target_parameters``)."""
    searchable: bool = True
    """Whether it leaves ranks to search; if not it is a strategy to compare with."""
    nested: bool = True
    """Whether the first rows of a high rank's adapter are a lower rank's: plans can then share adapters."""


METHODS = Registry[Method]("method")

_LORA = "jointsearch.training.methods.lora:LORA"
METHODS.register(Method("lora", _LORA, other_starts=True, experts=True))
METHODS.register(
    Method(
        "rslora",
        _LORA,
        scale=rslora_scale,
        alpha=8.0,  # a scale of 2 at rank 16
        other_starts=True,
        experts=True,
        peft_arguments={"use_rslora": True},
    )
)
METHODS.register(
    Method(
        "dora",
        "jointsearch.training.methods.lora:DORA",
        dora_parameters,
        peft_arguments={"use_dora": True},
        nested=False,
    )
)
METHODS.register(
    Method("adalora", "jointsearch.training.methods.adalora:ADALORA", adalora_parameters, searchable=False)
)


def methods_with(holds: Callable[[Method], bool]) -> list[str]:
    """The names of the methods for which ``holds`` is true."""
    return [name for name, method in METHODS.items() if holds(method)]


def register_method(method: Method) -> Method:
    """Make a training method known by its name, for ``lora.variant`` and comparisons."""
    return METHODS.register(method)
