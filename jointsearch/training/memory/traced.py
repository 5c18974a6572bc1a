"""One step of training on virtual tensors, and what it keeps, module by module.

The places of a model are its layout's modules, tied heads among them, in the order of the forward pass. While
a step runs, every tensor that autograd keeps is noted with its place and with who keeps it; and for every
stretch between places the most bytes that lived at once.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from jointsearch.config.study import StudyConfig
from jointsearch.config.training import TrainingSettings
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.memory import StretchKind
from jointsearch.plan.plan import Plan
from jointsearch.training.memory.virtual import VirtualTensors
from jointsearch.training.methods.base import method_of
from jointsearch.training.model.deferred_logits import DeferredLogits, deferred_logits
from jointsearch.training.model.offloading import Offloaded, OffloadedActivations
from jointsearch.training.model.places import Place, places_of
from jointsearch.training.model.setup import build_optimizer

Batch = Mapping[str, torch.Tensor]
Stretch = tuple[StretchKind, int]

RATE = 1e-3


@dataclass
class Kept:
    """A storage that may live on after the forward pass."""

    num_bytes: int
    place: int
    """Where it was met first."""
    last: int
    """Where it was met last."""
    by_adapters: set[str] = field(default_factory=set)
    """The modules whose adapters keep it."""
    by_formats: set[str] = field(default_factory=set)
    """The modules whose frozen weight, in its format, keeps it."""
    by_others: bool = False
    """Kept by what lies between modules."""
    read_by: set[str] = field(default_factory=set)
    """The modules whose input it is."""
    lives: bool = False
    """At the end of the forward pass."""


@dataclass
class Trace:
    """What the step of a plan has taken."""

    kept: list[Kept]
    """In the order in which they were met."""
    peaks: dict[Stretch, int]
    """The most bytes at once, beyond weights, adapters and states."""
    places: list[tuple[str, ...]]


class _Elsewhere(OffloadedActivations):
    """Takes tensors off the device, as if it were a GPU."""

    def moves(self, tensor: torch.Tensor) -> bool:
        return True

    def to_host(self, tensor: torch.Tensor) -> None:
        return None

    def to_device(self, offloaded: Offloaded) -> torch.Tensor:
        return torch.empty_strided(
            offloaded.shape, offloaded.stride, dtype=offloaded.dtype, device=offloaded.device
        )


class StepTracer:
    """Runs steps of one model."""

    def __init__(self, model: nn.Module, layout: ModelLayout, live: VirtualTensors) -> None:
        self._model = model
        self._live = live
        self._places = places_of(model, layout)
        self._numbers: dict[int, int] = {}
        """Of places, from 1, in the order in which a forward pass meets them."""
        self._kept: dict[int, Kept] = {}
        self._running: list[tuple[Place, bool]] = []
        """The places whose modules run, with whether it is their adapter."""
        self._place = 0
        self._stretch: Stretch = ("forward", 0)
        self._peaks: dict[Stretch, int] = {}
        self._is_forward = False

    def run(self, plan: Plan, batch: Batch, config: StudyConfig, *, mixed: bool) -> Trace:
        """A step as ``TrainingLoop`` has it; ``mixed``: in 16 bits by autocast, as on CUDA."""
        trained = [p for p in self._model.parameters() if p.requires_grad]
        groups = method_of(plan.lora).parameter_groups(self._model, RATE)
        optimizer = build_optimizer(groups, config.training, RATE, 0.0)
        self._model.train()
        for parameter in trained:  # a first step, so that the optimizer has its states
            parameter.grad = torch.empty_like(parameter)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        gc.collect()  # nothing of before must go away within the step
        before = self._live.live
        with self._hooked():
            self._step(trained, optimizer, batch, mixed, config.training)
        peaks = {stretch: peak - before for stretch, peak in self._peaks.items()}
        return Trace(list(self._kept.values()), peaks, self._ordered())

    def _ordered(self) -> list[tuple[str, ...]]:
        """The names of the places; those that were never met come last."""
        last = len(self._places)
        ordered = sorted(self._places, key=lambda place: self._numbers.get(id(place), last))
        return [place.names for place in ordered]

    def _step(
        self,
        trained: list[nn.Parameter],
        optimizer: Any,
        batch: Batch,
        mixed: bool,
        settings: TrainingSettings,
    ) -> None:
        before = self._live.living()

        elsewhere = _Elsewhere(self._model) if settings.offload_activations else None

        def pack(tensor: torch.Tensor) -> Any:
            if self._is_forward and self._live.number_of(tensor) not in before:
                self._note(tensor)
            return elsewhere.pack(tensor) if elsewhere else tensor

        def unpack(packed: Any) -> torch.Tensor:
            return elsewhere.unpack(packed) if elsewhere else packed

        self._live.peak = self._live.live
        self._stretch, self._place, self._is_forward = ("forward", 0), 0, True
        autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed)
        hooks = saved_tensors_hooks(pack, unpack)
        with autocast, hooks, deferred_logits(self._model, settings.chunked_loss):
            loss = self._model(**batch).loss
        self._is_forward = False
        living = self._live.living()
        for key, kept in self._kept.items():
            kept.lives = key in living
        loss.backward()
        del loss
        self._enter(("step", 0))
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self._enter(("step", 0))

    def _note(self, tensor: torch.Tensor) -> None:
        kept = self._met(tensor)
        if not self._running or self._running[-1][0].trained:
            kept.by_others = True
            return
        place, is_adapter = self._running[-1]
        (kept.by_adapters if is_adapter else kept.by_formats).update(place.names)

    def _met(self, tensor: torch.Tensor) -> Kept:
        made = Kept(tensor.untyped_storage().nbytes(), self._place, self._place)
        kept = self._kept.setdefault(self._live.number_of(tensor), made)
        kept.last = self._place
        return kept

    def _enter(self, stretch: Stretch) -> None:
        """Begin a stretch, and note the peak of the one before."""
        self._peaks[self._stretch] = max(self._peaks.get(self._stretch, 0), self._live.peak)
        self._live.peak = self._live.live
        self._stretch = stretch

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        handles = []
        for place in self._places:
            handles += [
                place.module.register_forward_pre_hook(self._entered(place), with_kwargs=True),
                place.module.register_forward_hook(self._left(place)),
            ]
            if place.base is not place.module:
                handles += [
                    place.base.register_forward_pre_hook(self._begun(place)),
                    place.base.register_forward_hook(self._ended),
                ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entered(self, place: Place) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._running.append((place, place.base is not place.module))
            if not self._is_forward:  # gradient checkpointing runs it again
                return
            self._place = self._numbers.setdefault(id(place), len(self._numbers) + 1)
            self._enter(("forward", self._place))
            given = next((v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)), None)
            if given is not None and given.is_floating_point():
                self._met(given).read_by.update(place.names)

        return hook

    def _left(self, place: Place) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self._running.pop()
            if not self._is_forward or isinstance(output, DeferredLogits):
                return
            if place.is_head:
                self._enter(("loss", 0))
            if isinstance(output, torch.Tensor) and output.requires_grad:
                number = self._numbers[id(place)]
                output.register_hook(lambda _: self._enter(("backward", number)))

        return hook

    def _begun(self, place: Place) -> Any:
        return lambda module, args: self._running.append((place, False))

    def _ended(self, module: nn.Module, args: Any, output: Any) -> None:
        self._running.pop()
