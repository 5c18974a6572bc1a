"""The state of a trial that may be interrupted, in a file that another worker can go on from."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.constants import HF_HOME
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


@dataclass
class Progress:
    """What a training run has seen so far."""

    steps: list[tuple[float, float]] = field(default_factory=list)
    """Loss and gradient norm (before clipping) of every step."""
    validation: list[tuple[int, float]] = field(default_factory=list)
    """Step and validation loss."""
    num_tokens: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    """By phase, of all the processes that took part."""


class Checkpoint:
    """The file of one trial; it is there between the first ``save`` and ``delete``."""

    def __init__(self, study: str, plan: str, seed: int, steps: int) -> None:
        """``study`` and ``plan``: their digests; with the seed and the steps they fix what a trial does."""
        self._path = Path(HF_HOME) / "jointsearch" / "trials" / study / f"{plan}-{seed}-{steps}.pt"

    def save(
        self, progress: Progress, model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler
    ) -> None:
        """Write the state, whole or not at all."""
        state = {
            "progress": asdict(progress),
            "trained": {name: value.data for name, value in _trained(model)},
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all(),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(f".{os.getpid()}")
        torch.save(state, partial)
        partial.replace(self._path)

    def restore(self, model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler) -> Progress:
        """Bring all three to the state that was kept, if one was, and tell how far it is."""
        if not self._path.is_file():
            return Progress()
        state: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True)
        with torch.no_grad():
            for name, value in _trained(model):
                value.copy_(state["trained"][name])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        torch.set_rng_state(state["random"])
        if len(state["random_cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["random_cuda"])
        return Progress(**state["progress"])

    def delete(self) -> None:
        self._path.unlink(missing_ok=True)


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, value) for name, value in model.named_parameters() if value.requires_grad]
