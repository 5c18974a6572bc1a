"""A model's ``MemoryProfile``, from a few steps on virtual tensors: one in each format, one at another rank.

No weights are read. On the CPU the tensors have the types that they have in a real run, and the peak is that
of torch's allocator to the byte. For CUDA the step is that of a CPU in 16 bits with autocast: the sizes that
autograd keeps are nearly the same, and the kernels' own workspaces are not counted.
"""

from __future__ import annotations

import gc
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from jointsearch.config.study import StudyConfig
from jointsearch.config.trust import trusts_remote_code
from jointsearch.plan.formats import FORMATS, NF4_BLOCK, OF_BITS, UNQUANTIZED, QuantizationSettings
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.memory import CountedBytes, KeptActivation, MemoryProfile, StretchBytes
from jointsearch.plan.plan import ModuleChoice, Plan
from jointsearch.quantization.formats.base import empty_module, fill, quantized
from jointsearch.training.memory.batches import example_batch, lengths_of
from jointsearch.training.memory.held import cache_bytes, resident_bytes
from jointsearch.training.memory.traced import StepTracer, Trace
from jointsearch.training.memory.virtual import VirtualTensors
from jointsearch.training.model.architecture import load_config, model_class
from jointsearch.training.model.places import places_of
from jointsearch.training.model.streamed_layers import blocks_at_once
from jointsearch.training.model.trial_model import TrialModels

CPU = torch.device("cpu")
SCALARS = 4096
UNPACKED_BYTES = 6
"""Of each scale: as float32, on its way there."""
RANKS = (4, 8)
"""Where the search space has no two ranks above 0."""


def memory_profile(
    config: StudyConfig, layout: ModelLayout, device: str, batch_size: int | None = None
) -> MemoryProfile | None:
    """What training takes on ``device`` (``cpu`` or ``cuda``) at a batch size, by default that of trials.

    None where the lengths of a batch do not follow from the task's settings.
    """
    batch_size = batch_size or config.calibration.batch_size
    mixed = device != "cpu"
    with VirtualTensors() as live:
        base = virtual_model(config, getattr(torch, layout.dtype) if mixed else torch.float32)
        lengths = lengths_of(config.task, base)
        if "input_ids" not in lengths:
            return None
        batch = example_batch(config.task, lengths, batch_size)
        models = TrialModels(config, layout, CPU, base=base)
        tracing = _Tracing(config, layout, models, live, batch, mixed)
        low, high = _two_ranks(config)
        formats = _formats(config)
        traces = {name: tracing.trace(name, high) for name in formats}
        other = tracing.trace(UNQUANTIZED, low)
        cache = cache_bytes(base, batch)
    kept = _kept(traces, other, low, high, layout)
    if config.training.gradient_checkpointing:  # to it all blocks are trained
        last = max(entry.last for entry in kept)
        kept = [entry.model_copy(update={"last": last}) for entry in kept]
    profile = MemoryProfile(
        device=device,
        batch_size=batch_size,
        lengths=lengths,
        optimizer=config.training.optimizer,
        num_streamed=blocks_at_once(device) if config.training.stream_layers else 0,
        places=_by_name(traces[UNQUANTIZED].places),
        weights=tracing.weights,
        other_bytes=tracing.other_bytes,
        kept=tuple(kept),
        keeping_formats=tuple(name for name in formats if keeps_input(name)),
        stretches=(),
        cache_bytes=cache[0],
        cache_bytes_per_token=cache[1],
    )
    plans = [(tracing.plan(name, high), trace) for name, trace in traces.items()]
    plans.append((tracing.plan(UNQUANTIZED, low), other))
    return _with_stretches(profile, layout, plans, _unseen_bytes(config, layout))


def _unseen_bytes(config: StudyConfig, layout: ModelLayout) -> int:
    """Of what no operation shows: single numbers, the scales that a kernel unpacks of one weight while it
    dequantizes it, and random states that checkpointing keeps of blocks."""
    blocks = {spec.block for spec in layout.modules if spec.block}
    states = len(blocks) if config.training.gradient_checkpointing else 0
    largest = max((spec.num_weights for spec in layout.modules if spec.block), default=0)
    unpacked = UNPACKED_BYTES * -(-largest // NF4_BLOCK)
    return SCALARS + unpacked + states * torch.get_rng_state().nbytes


def virtual_model(config: StudyConfig, dtype: torch.dtype) -> PreTrainedModel:
    """The study's model without numbers, within ``VirtualTensors``."""
    settings = load_config(config.model, config.task.head)
    model = model_class(config.task.type).from_config(
        settings, dtype=dtype, trust_remote_code=trusts_remote_code()
    )
    model.config.use_cache = False
    found: PreTrainedModel = model
    return found


class _Tracing:
    """Steps of uniform plans of one model, and what their weights weigh."""

    def __init__(
        self,
        config: StudyConfig,
        layout: ModelLayout,
        models: TrialModels,
        live: VirtualTensors,
        batch: dict[str, torch.Tensor],
        mixed: bool,
    ) -> None:
        self._config, self._layout, self._models = config, layout, models
        self._live, self._batch, self._mixed = live, batch, mixed
        self.weights: dict[str, dict[str, int]] = {spec.name: {} for spec in layout.modules}
        self.other_bytes = 0

    def plan(self, weight_format: str, rank: int) -> Plan:
        """One format and rank wherever modules can have them."""
        lora = self._config.lora
        modules = {}
        for spec in self._layout.modules:
            can = spec.quantizable and spec.kind in FORMATS[weight_format].kinds
            name = weight_format if can else UNQUANTIZED
            has_adapter = spec.adaptable and lora.supports(name)
            modules[spec.name] = ModuleChoice(
                format=name, rank=min(rank, spec.max_rank) if has_adapter else 0
            )
        return Plan(modules=modules, quantization=self._config.quantization, lora=lora)

    def trace(self, weight_format: str, rank: int) -> Trace:
        plan = self.plan(weight_format, rank)
        model = self._models.assemble(plan, seed=0)
        self._weigh(model, plan)
        tracer = StepTracer(model, self._layout, self._live)
        found = tracer.run(plan, self._batch, self._config, mixed=self._mixed)
        del model, tracer
        gc.collect()
        return found

    def _weigh(self, model: nn.Module, plan: Plan) -> None:
        trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
        seen: set[int] = set()
        for name, choice in plan.modules.items():
            self.weights[name][choice.format] = 0
        for place in places_of(model, self._layout):  # experts of a layer are weighed together
            name = place.names[0]
            self.weights[name][plan.modules[name].format] += resident_bytes(place.base, seen, trained)
        self.other_bytes = max(self.other_bytes, resident_bytes(model, seen, trained))


def _formats(config: StudyConfig) -> list[str]:
    """16 bits first; what the study's groups can have, and what plans without a search have."""
    space = config.search_space
    wanted = [UNQUANTIZED, *OF_BITS.values(), *space.format_choices]
    for rule in space.overrides:
        wanted += rule.format_choices or ()
    return list(dict.fromkeys(wanted))


def _two_ranks(config: StudyConfig) -> tuple[int, int]:
    space = config.search_space
    ranks = set(space.ranks).union(*(rule.ranks or () for rule in space.overrides))
    trained = sorted(ranks - {0})
    if not trained:
        return RANKS
    return (trained[0], trained[-1]) if len(trained) > 1 else (max(1, trained[0] // 2), max(2, trained[0]))


def _by_name(places: list[tuple[str, ...]]) -> dict[str, int]:
    """Of a tied weight the first place."""
    found: dict[str, int] = {}
    for number, names in enumerate(places, 1):
        for name in names:
            found.setdefault(name, number)
    return found


def keeps_input(weight_format: str) -> bool:
    """Whether a layer of the format keeps what it is given, though its weight is frozen: by a small one."""
    if not FORMATS[weight_format].is_quantized:
        return False
    layer = nn.Linear(64, 64)
    empty = empty_module(layer, weight_format, QuantizationSettings(), torch.float32)
    fill(empty, quantized(empty, layer.weight.data, torch.bfloat16))
    empty.bias = None
    empty.train()
    with VirtualTensors() as live:
        given = torch.ones(64, 64, requires_grad=True) * 1.0
        result = empty(given)
        with_input = live.live
        del given
        keeps = live.live == with_input
        del result
    return keeps


def _kept(
    traces: dict[str, Trace], other: Trace, low: int, high: int, layout: ModelLayout
) -> list[KeptActivation]:
    """What autograd keeps, by who keeps it."""
    plain = traces[UNQUANTIZED]
    living_inputs = {
        tuple(sorted(kept.read_by))
        for trace in traces.values()
        for kept in trace.kept
        if kept.read_by and kept.lives
    }
    specs = layout.by_name()
    found = []
    pairs = zip(plain.kept, other.kept, strict=True)
    for kept, at_low in pairs:
        readers = tuple(sorted(kept.read_by))
        if not (kept.lives or readers in living_inputs):
            continue
        adapters = tuple(sorted(kept.by_adapters)) if kept.lives else ()
        slope = 0.0
        if adapters and kept.num_bytes != at_low.num_bytes:
            widths = [specs[name].max_rank for name in adapters]
            slope = (kept.num_bytes - at_low.num_bytes) / (min(high, *widths) - min(low, *widths))
        reached = min(high, *(specs[name].max_rank for name in adapters)) if adapters else 0
        made = KeptActivation(
            place=kept.place,
            last=kept.last,
            num_bytes=kept.num_bytes - round(slope * reached),
            per_rank=slope,
            adapters=adapters,
            readers=readers,
            always=(kept.by_others or bool(kept.by_formats)) and kept.lives,
        )
        found.append(made)
    for name, trace in traces.items():
        if name != UNQUANTIZED:
            for kept in trace.kept:
                if kept.lives and kept.by_formats and not kept.read_by and not kept.by_others:
                    made = KeptActivation(
                        place=kept.place,
                        last=kept.last,
                        num_bytes=kept.num_bytes,
                        readers=tuple(sorted(kept.by_formats)),
                        format=name,
                    )
                    found.append(made)
    return found


def _with_stretches(
    profile: MemoryProfile, layout: ModelLayout, seen: list[tuple[Plan, Trace]], unseen_bytes: int
) -> MemoryProfile:
    """With what is left of the peaks beside what is counted one by one, the largest of all traces."""
    rest: dict[Any, int] = {}
    for plan, trace in seen:
        counted = CountedBytes.of(profile, layout, plan)
        for (kind, place), peak in trace.peaks.items():
            module = trace.places[place - 1][0] if place else ""
            at = kind, place, module, plan.modules[module].format if module else ""
            left = peak - sum(counted.at(kind, place))
            rest[at] = max(rest.get(at, left), left)
    stretches = tuple(
        StretchBytes(kind=kind, place=place, num_bytes=left + unseen_bytes, module=module, format=name)
        for (kind, place, module, name), left in rest.items()
    )
    return profile.model_copy(update={"stretches": stretches})
