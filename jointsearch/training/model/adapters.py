"""Where LoRA adapters start: it follows from the seed, the module's name and its weight.

LoRA adds s B A to a frozen weight W, with A of shape (r, in), B of shape (out, r) and a scale s
(Hu et al., arXiv 2106.09685, section 4.1). The starts:

    default   A from U(-1/√in, 1/√in) as PEFT draws it, B = 0
    pissa     s B A = the best approximation of rank r of W, which loses it (Meng et al., PiSSA,
              arXiv 2404.02948, equations 2 to 4)
    loftq     s B A = the best approximation of rank r of W - Q, what quantization took away (Li et al.,
              LoftQ, arXiv 2310.08659, algorithm 1 with one step); at 16 bits nothing: as default

In all of them the first rows of A are the same for every rank: plans then differ only where they
differ, and comparing them needs fewer trials (common random numbers).
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from jointsearch.plan.formats import UNQUANTIZED
from jointsearch.plan.layout import ModelLayout, ModuleSpec
from jointsearch.plan.plan import Plan
from jointsearch.quantization.experts import Modules
from jointsearch.quantization.formats.base import matrix_of

ADAPTER = "default"

Start = tuple[torch.Tensor, torch.Tensor]
"""A of shape (rank, in_features) and B of shape (out_features, rank), float32."""

Factors = dict[tuple[str, str], Start]
"""Decompositions by module and format, at a scale of 1, kept from plan to plan."""


def adapter_starts(
    model: PreTrainedModel,
    plan: Plan,
    layout: ModelLayout,
    seed: int,
    original: Modules | None = None,
    factors: Factors | None = None,
) -> dict[str, Start]:
    """Where the plan's adapters start, by module; ``model`` has the plan's formats and no adapters
    yet.

    With ``pissa`` the weights of ``model`` change, to values of its 16-bit type; with ``loftq`` the
    weights before quantization are those of ``original``.
    """
    factors = {} if factors is None else factors
    starts: dict[str, Start] = {}
    for name, rank in plan.ranks.items():
        spec, weight_format = layout[name], plan.modules[name].format
        if spec.kind == "experts":
            starts[name] = _experts_start(spec, rank, seed)
            continue
        module = model.get_submodule(name)
        out_features, in_features = spec.shape
        if plan.lora.init == "default" or (plan.lora.init == "loftq" and weight_format == UNQUANTIZED):
            starts[name] = initial_rows(seed, name, rank, in_features), torch.zeros(out_features, rank)
            continue
        known = factors.get((name, weight_format))
        if known is None or known[0].shape[0] < rank:
            matrix = matrix_of(module)
            if needs_original(plan):
                assert original is not None
                matrix = matrix_of(original.get_submodule(name)).to(matrix.device) - matrix
            known = factors[name, weight_format] = _best_approximation(matrix, rank)
        scale = plan.lora.scale(rank)
        a, b = known[0][:rank] / scale**0.5, known[1][:, :rank] / scale**0.5
        starts[name] = a, b
        if changes_weights(plan):
            rest = matrix_of(module) - scale * b @ a
            rest = rest.to(getattr(torch, layout.dtype))
            module.weight.data.copy_(rest.T if isinstance(module, Conv1D) else rest)
    return starts


def needs_original(plan: Plan) -> bool:
    """Whether the starts follow from the weights before quantization."""
    return plan.lora.init == "loftq"


def changes_weights(plan: Plan) -> bool:
    """Whether the starts take something away from the weights of adapted modules."""
    return plan.lora.init == "pissa"


def _experts_start(spec: ModuleSpec, rank: int, seed: int) -> Start:
    """As PEFT has them: an expert's rows of A below another's, and B = 0."""
    rows = [initial_rows(seed, f"{spec.name}.{i}", rank, spec.shape[1]) for i in range(spec.num_experts)]
    return torch.cat(rows), torch.zeros(spec.shape[0], rank * spec.num_experts)


def initial_rows(seed: int, name: str, rank: int, in_features: int) -> torch.Tensor:
    """The first ``rank`` rows of the module's A, float32, shape (rank, in_features)."""
    bound = in_features**-0.5
    rows = generator_of(seed, name).random((rank, in_features), dtype=np.float32)
    return torch.from_numpy((2 * rows - 1) * np.float32(bound))


def generator_of(seed: int, name: str) -> np.random.Generator:
    """The module's own random numbers."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    return np.random.default_rng([seed, key])


def _best_approximation(matrix: torch.Tensor, rank: int) -> Start:
    """A and B whose product is the best approximation of ``matrix`` of that rank (Eckart and Young)."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    root = s[:rank].sqrt()
    return root[:, None] * vh[:rank], u[:, :rank] * root
