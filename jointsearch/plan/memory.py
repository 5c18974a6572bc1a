"""The memory that training a plan takes, from what a few steps without numbers have shown. No torch.

A step of training goes through stretches k: those of the forward pass, the loss, those of the backward pass,
and the optimizer's. What lives in stretch k is

    M_k(x) = W(x) + A(x) + S(x) + Σ_i kept_i(x) [i is kept in k] + Σ_m G_m(x) [m has its gradient in k] + c_k

with the weights W in their formats, the adapters A, the optimizer's states S, the activations that autograd
keeps, the gradients G, and what else comes and goes. The memory of the plan is the largest of them. An
activation is kept by what lies between modules, by the adapters of modules (x and A x, the latter growing
with the rank), or by the way in which a format multiplies; those before the first adapter are not kept.

W, A, S and G are exact. What is kept is read off a step of the whole model (``training.memory.profile``);
c_k is the largest of those of the steps that were looked at, so that nothing is left out.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Literal

from jointsearch.plan.cost import adapter_element_bytes, adapter_parameters, plan_cost
from jointsearch.plan.layout import ModelLayout, ModuleSpec
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.plan import Plan
from jointsearch.plan.record import Record

StretchKind = Literal["forward", "loss", "backward", "step"]

SMALL_STATE = 4096
"""Tensors with fewer numbers have states in 32 bits with bitsandbytes' 8-bit optimizers too."""

STATE_BLOCK = 256
"""Numbers that share a scale in 8-bit states."""

PAGED_STATE = 100_000
"""Tensors with fewer numbers have their states on the device with bitsandbytes' paged optimizers too."""


class KeptActivation(Record):
    """A tensor, or several alike, that autograd keeps from its place on."""

    place: int
    last: int
    """Where it is kept last: none of it is, where all that is trained comes later."""
    num_bytes: int
    per_rank: float = 0.0
    """Bytes that each rank of its adapter adds."""
    adapters: tuple[str, ...] = ()
    """Modules whose adapters keep it."""
    readers: tuple[str, ...] = ()
    """Modules that keep it where their format keeps its input."""
    always: bool = False
    format: str = ""
    """Kept where the one of ``readers`` has this format; otherwise where it has one that keeps inputs."""


class StretchBytes(Record):
    """What comes and goes in a stretch of a step, beside all that is counted one by one."""

    kind: StretchKind
    place: int
    num_bytes: int
    module: str = ""
    """That of the place; empty where there is none."""
    format: str = ""
    """Which the module has where this holds: what is dequantized comes and goes."""


class MemoryProfile(Record):
    """What training takes of a model on a kind of device, at a batch size and lengths."""

    device: str
    batch_size: int
    lengths: dict[str, int]
    """Tokens of an example, by what they are called in a batch."""
    optimizer: str
    num_streamed: int = 0
    """Blocks whose weights the device holds at once where they are streamed; 0: it holds all."""
    places: dict[str, int]
    """Of modules, in the order of the forward pass."""
    weights: dict[str, dict[str, int]]
    """Bytes of a module's weight and bias as the device holds them, by format."""
    other_bytes: int
    """Of what is no module: norms, buffers."""
    kept: tuple[KeptActivation, ...]
    keeping_formats: tuple[str, ...]
    """Formats whose modules keep their input, out of autograd's sight: until the whole graph is let go."""
    stretches: tuple[StretchBytes, ...]
    cache_bytes: int = 0
    """Of the key-value cache of one sequence, beside what each of its tokens adds."""
    cache_bytes_per_token: float = 0.0

    @property
    def context_length(self) -> int:
        """Of the task's longest example."""
        return sum(self.lengths.values())

    def of(self, layout: ModelLayout, plan: Plan) -> dict[str, int]:
        """The memory of training a plan and of serving it, by the names of objectives."""
        found = training_memory(self, layout, plan)
        served = serving_memory(self, plan_cost(layout, plan).model_bytes, self.context_length)
        return {"serving_memory": served} | ({} if found is None else {"training_memory": found.total_bytes})


@dataclass(frozen=True)
class TrainingMemory:
    """The largest that lives at once in a step of training, and what it is made of. Bytes."""

    total_bytes: int
    weight_bytes: int
    adapter_bytes: int
    optimizer_bytes: int
    """Without states that are paged: those the host's memory holds where the device has no room."""
    gradient_bytes: int
    activation_bytes: int
    """With logits, losses and all else that comes and goes."""
    stretch: StretchKind
    """Of the step, where it is the largest."""

    def as_dict(self) -> dict[str, int | str]:
        return asdict(self)


def training_memory(profile: MemoryProfile, layout: ModelLayout, plan: Plan) -> TrainingMemory | None:
    """What a step of training takes of the plan; None where it has a format that the profile lacks."""
    if any(choice.format not in profile.weights[name] for name, choice in plan.modules.items()):
        return None
    counted = CountedBytes.of(profile, layout, plan)
    found = []
    for stretch in profile.stretches:
        if stretch.module and plan.modules[stretch.module].format != stretch.format:
            continue
        if counted.gradients or stretch.kind == "forward":
            gradients, kept = counted.at(stretch.kind, stretch.place)
            activations = kept + stretch.num_bytes
            found.append((gradients + activations, gradients, activations, stretch.kind))
    most, gradients, activations, kind = max(found)
    held = counted.weights + counted.adapters + counted.states
    return TrainingMemory(
        held + most, counted.weights, counted.adapters, counted.states, gradients, activations, kind
    )


@dataclass(frozen=True)
class CountedBytes:
    """What is known one by one of a plan's step."""

    weights: int
    adapters: int
    states: int
    gradients: dict[int, int]
    """By place."""
    kept: dict[int, int]
    """Activations, by the place from which on they live."""
    lasting: dict[int, int]
    """Those of them that live to the end of the backward pass."""

    @classmethod
    def of(cls, profile: MemoryProfile, layout: ModelLayout, plan: Plan) -> CountedBytes:
        specs, element = layout.by_name(), adapter_element_bytes(plan.lora)
        sizes = {name: trained_sizes(specs[name], c.rank, plan.lora) for name, c in plan.modules.items()}
        gradients: defaultdict[int, int] = defaultdict(int)
        for name, each in sizes.items():
            if each:
                gradients[profile.places[name]] += element * sum(each)
        each_size = [size for each in sizes.values() for size in each]
        kept, lasting = _kept(profile, plan, min(gradients, default=None))
        return cls(
            weights=profile.other_bytes + _held_weights(profile, layout, plan),
            adapters=element * sum(each_size),
            states=sum(state_bytes(size, profile.optimizer, element, profile.device) for size in each_size),
            gradients=dict(gradients),
            kept=kept,
            lasting=lasting,
        )

    def at(self, kind: StretchKind, place: int) -> tuple[int, int]:
        """Gradients and kept activations that live in a stretch."""
        if kind == "step":
            return sum(self.gradients.values()), 0
        if kind == "loss":
            return 0, sum(self.kept.values())
        kept = sum(num for at, num in self.kept.items() if at <= place)
        if kind == "forward":
            return 0, kept
        kept += sum(num for at, num in self.lasting.items() if at > place)
        return sum(num for at, num in self.gradients.items() if at >= place), kept


def is_streamed(spec: ModuleSpec) -> bool:
    """Whether the weight waits on the host where ``training.stream_layers`` is set."""
    return bool(spec.block) and spec.quantizable and not spec.trained and not spec.tied


def _held_weights(profile: MemoryProfile, layout: ModelLayout, plan: Plan) -> int:
    """Of all modules, or of those that stay and of the largest blocks that run after each other."""
    specs = layout.by_name()
    stays, blocks = 0, dict.fromkeys((s.block for s in layout.modules if is_streamed(s)), 0)
    for name, choice in plan.modules.items():
        if profile.num_streamed and is_streamed(specs[name]):
            blocks[specs[name].block] += profile.weights[name][choice.format]
        else:
            stays += profile.weights[name][choice.format]
    sizes = list(blocks.values())
    ends = range(1, len(sizes) + 1)
    return stays + max((sum(sizes[max(0, end - profile.num_streamed) : end]) for end in ends), default=0)


def _kept(profile: MemoryProfile, plan: Plan, first: int | None) -> tuple[dict[int, int], dict[int, int]]:
    """Of activations, by place, and those that last; ``first``: the place of the first that is trained."""
    found: defaultdict[int, int] = defaultdict(int)
    lasting: defaultdict[int, int] = defaultdict(int)
    for entry in profile.kept:
        if first is None or entry.last < first:
            continue
        rank = max((plan.modules[name].rank for name in entry.adapters), default=0)
        formats = {plan.modules[name].format for name in entry.readers}
        wanted = {entry.format} if entry.format else set(profile.keeping_formats)
        if entry.always or rank or formats & wanted:
            num_bytes = entry.num_bytes + round(entry.per_rank * rank)
            found[entry.place] += num_bytes
            if not entry.format and formats & wanted:
                lasting[entry.place] += num_bytes
    return found, lasting


def trained_sizes(spec: ModuleSpec, rank: int, lora: LoraSettings) -> list[int]:
    """The numbers in each tensor that is trained of a module: A, B and the rest of its method, or a head."""
    if spec.trained:
        return [spec.num_weights, *([spec.shape[0]] if spec.has_bias else [])]
    if not rank:
        return []
    a, b = (spec.num_experts * rank * side for side in reversed(spec.shape))
    rest = adapter_parameters(spec, rank, lora) - a - b
    return [a, b, *([rest] if rest > 0 else [])]


def state_bytes(size: int, optimizer: str, element_bytes: int, device: str) -> int:
    """Of AdamW's two moments for a tensor of so many numbers, scales and the count of steps included.

    Bytes that ``device`` (``cpu`` or ``cuda``) must hold: a CPU has nowhere to page to.
    """
    if optimizer == "adamw":
        return 2 * element_bytes * size + 4
    if optimizer.startswith("paged_") and device != "cpu" and size >= PAGED_STATE:
        return 0
    if optimizer == "paged_adamw" or size < SMALL_STATE:
        return 8 * size
    return 2 * size + 2 * 4 * -(-size // STATE_BLOCK)


def serving_memory(profile: MemoryProfile, model_bytes: int, context_length: int) -> int:
    """Bytes of the weights as they are saved and of one sequence's key-value cache in 16 bits."""
    return model_bytes + profile.cache_bytes + round(profile.cache_bytes_per_token * context_length)
