"""How a model is made ready to be trained, and by which optimizer: in trials and full runs alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import bitsandbytes as bnb
import torch
from peft import prepare_model_for_kbit_training
from torch import nn
from transformers import PreTrainedModel

from jointsearch.config.training import TrainingSettings
from jointsearch.errors import UnsupportedError
from jointsearch.training.model.deferred_logits import deferred_logits
from jointsearch.training.model.offloading import OffloadedActivations


def prepare_for_training(model: PreTrainedModel, settings: TrainingSettings) -> None:
    """QLoRA's set-up as far as ``settings`` ask for it, before adapters are attached.

    ``prepare_for_kbit_training`` changes parameters in place.
    """
    if settings.prepare_for_kbit_training:
        prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable()


@contextmanager
def forward_pass(model: nn.Module, settings: TrainingSettings) -> Iterator[None]:
    """Around a forward pass that is trained on, its loss included, as ``settings`` have it."""
    with ExitStack() as stack:
        stack.enter_context(deferred_logits(model, settings.chunked_loss))
        if settings.offload_activations:
            stack.enter_context(OffloadedActivations(model))
        yield


def check_device(settings: TrainingSettings, device: torch.device) -> None:
    """Raise ``UnsupportedError`` where a setting has no meaning on ``device``."""
    if settings.offload_activations and device.type != "cuda":
        raise UnsupportedError(
            f"training.offload_activations must be false on {device.type}, whose memory is the host's; "
            "leave it out, or train on a GPU"
        )


def build_optimizer(
    groups: Iterable[Mapping[str, Any]],
    settings: TrainingSettings,
    learning_rate: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """The optimizer that ``settings`` name, for groups of ``params`` as torch takes them; states are paged on
    CUDA alone, which changes no number."""
    groups = [dict(group) for group in groups]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=weight_decay, fused=True)
    plain, paged = {
        "paged_adamw": (bnb.optim.AdamW, bnb.optim.PagedAdamW),
        "adamw_8bit": (bnb.optim.AdamW8bit, bnb.optim.AdamW8bit),
        "paged_adamw_8bit": (bnb.optim.AdamW8bit, bnb.optim.PagedAdamW8bit),
    }[settings.optimizer]
    kind = paged if groups[0]["params"][0].is_cuda else plain
    return kind(groups, lr=learning_rate, weight_decay=weight_decay)


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 multiplications on CUDA, as QLoRA computes; plain float32 elsewhere."""
    return torch.autocast("cuda", dtype=torch.bfloat16) if device.type == "cuda" else nullcontext()
