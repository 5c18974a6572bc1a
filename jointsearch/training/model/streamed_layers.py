"""Frozen weights that wait on the host: those of a block come to the device when it runs, and again when
gradient checkpointing runs it for the backward pass.

Every block has one storage of its own on the device, which is emptied and filled again, as FSDP does with
its units (Zhao et al., arXiv 2304.11277). What a graph still refers to (bitsandbytes keeps the packed weight
and its scales, torch views of them) is that storage, and finds its numbers there when the block has run
again. In buffers that blocks take turns in it would find another block's.

A device holds the block that runs; on CUDA the next is on its way beside it, from pinned memory on a stream
of its own. On a CPU the bank's mapped files are the host: a 16-bit weight is widened when its block runs,
and what has been read of a file is let go.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from jointsearch.errors import UnsupportedError
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.memory import is_streamed
from jointsearch.quantization.experts import QuantizedExperts, as_parameter
from jointsearch.quantization.formats.base import compute_dtype, format_of
from jointsearch.training.model.places import Place, places_of, tensors_of

ALIGNED_BYTES = 256
"""Where each tensor of a block begins: at a multiple of it, as torch's allocators have it."""

MADV_DONTNEED = 4


@dataclass
class _Block:
    """The frozen weights of one block."""

    storage: torch.UntypedStorage
    """On the device; of no bytes while they are away."""
    num_bytes: int
    copies: list[tuple[torch.Tensor, torch.Tensor]]
    """Tensors of the storage, and what they have on the host."""
    mapped: list[tuple[int, int]]
    """Where whole pages of a bank's files are among it: addresses and numbers of bytes."""
    is_there: bool = False
    arrived: torch.cuda.Event | None = None
    """On CUDA: when what was sent last is there."""


class StreamedLayers:
    """Takes the weights of a model's blocks off ``device``; the modules that have them must be its own.

    Call ``watch`` once the model has its adapters. Not safe for several threads.
    """

    def __init__(self, model: nn.Module, layout: ModelLayout, device: torch.device) -> None:
        """Raises ``UnsupportedError`` where a block is not run again in the backward pass."""
        self._layout = layout
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._blocks: dict[str, _Block] = {}
        self._order: list[str] = []
        self._running: str | None = None
        modules: dict[str, list[nn.Module]] = {}
        for block, place in self._places(model):
            _check_runs_again(model, layout, place.names[0])
            modules.setdefault(block, []).append(place.base)
        for block, bases in modules.items():
            self._blocks[block] = _taken_off(bases, device)
        self._order = list(self._blocks)

    def watch(self, model: nn.Module) -> None:
        """See to it that the weights are there whenever modules of ``model`` run, adapters included."""
        for block, place in self._places(model):
            place.module.register_forward_pre_hook(self._before(block))
            place.module.register_forward_hook(self._after(block))
            # bitsandbytes reads numbers of its scales for every state dict, that of adapters among them
            place.base.register_state_dict_pre_hook(lambda *_, block=block: self._run(block))

    @contextmanager
    def all_there(self) -> Iterator[None]:
        """All blocks at once, for what reads their weights apart from a forward pass."""
        for block in self._blocks.values():
            self._send(block)
        try:
            yield
        finally:
            for block in self._blocks.values():
                self._empty(block)
            self._running = None

    def _places(self, model: nn.Module) -> Iterator[tuple[str, Place]]:
        specs = self._layout.by_name()
        for place in places_of(model, self._layout):
            if is_streamed(spec := specs[place.names[0]]):
                yield spec.block, place

    def _before(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if torch.is_grad_enabled() and not module.training:
                raise UnsupportedError(
                    "training.stream_layers needs training mode where gradients are taken, but this model is "
                    "in evaluation mode; call train()"
                )
            self._run(name)

        return hook

    def _after(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            # bitsandbytes takes the weight from its own notes: nothing runs the block again before
            if isinstance(output, torch.Tensor) and output.requires_grad:
                output.register_hook(lambda _: self._run(name))

        return hook

    def _run(self, name: str) -> None:
        """Have the weights of a block there and those of no other, but for the one that comes next."""
        if self._running == name:
            return
        block = self._blocks[name]
        for other in self._blocks.values():
            if other is not block:
                self._empty(other)
        self._send(block)
        if block.arrived is not None:
            torch.cuda.current_stream().wait_event(block.arrived)
        self._running = name
        if self._stream is not None and (coming := self._next(name)) is not None:
            self._send(self._blocks[coming])

    def _next(self, name: str) -> str | None:
        """The backward pass runs blocks again from the last to the first."""
        is_backward = torch._C._current_graph_task_id() != -1
        position = self._order.index(name) + (-1 if is_backward else 1)
        return self._order[position] if 0 <= position < len(self._order) else None

    def _send(self, block: _Block) -> None:
        if block.is_there:
            return
        block.storage.resize_(block.num_bytes)
        block.is_there = True
        if self._stream is None:
            for target, source in block.copies:
                target.copy_(source)
            _let_go(block.mapped)
            return
        # the room may be another block's, which the device still multiplies by
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for target, source in block.copies:
                target.copy_(source, non_blocking=True)
            block.arrived = self._stream.record_event()

    def _empty(self, block: _Block) -> None:
        if not block.is_there:
            return
        if block.arrived is not None:  # nothing comes into room that is another's by then
            torch.cuda.current_stream().wait_event(block.arrived)
        block.storage.resize_(0)
        block.is_there = False


def blocks_at_once(device: str) -> int:
    """How many blocks' weights a kind of device holds: on CUDA the next is on its way."""
    return 2 if device == "cuda" else 1


def streamed_modules(layout: ModelLayout) -> frozenset[str]:
    """The paths of the modules whose weights are streamed."""
    return frozenset(
        spec.name.rpartition(".")[0] if spec.kind == "experts" else spec.name
        for spec in layout.modules
        if is_streamed(spec)
    )


def _check_runs_again(model: nn.Module, layout: ModelLayout, name: str) -> None:
    """Raise ``UnsupportedError`` unless gradient checkpointing runs the module of that name again."""
    root = model.get_base_model() if hasattr(model, "get_base_model") else model
    path = name
    while path := path.rpartition(".")[0]:
        module = root.get_submodule(path)
        if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing:
            return
    raise UnsupportedError(
        "training.stream_layers needs blocks that gradient checkpointing runs again, but those of "
        f"{layout.architecture} with {name} are not; leave it out"
    )


@torch.no_grad()
def _taken_off(bases: Iterable[nn.Module], device: torch.device) -> _Block:
    """What modules hold, moved into one storage, which is left empty."""
    held: dict[tuple[Any, ...], list[torch.Tensor]] = {}
    for base in bases:
        # tables that a model computes by are not of its weights
        others = [] if format_of(base) else [id(buffer) for buffer in base.buffers()]
        for tensor in tensors_of(base):
            if id(tensor) in others or isinstance(tensor, QuantizedExperts) or tensor.is_meta:
                continue
            if tensor.numel() and not tensor.requires_grad:
                key = tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
                held.setdefault(key, []).append(tensor)
    sizes = [(tensors, _dtype_on(device, tensors[0])) for tensors in held.values()]
    begins, num_bytes = [], 0
    for tensors, dtype in sizes:
        begins.append(num_bytes)
        num_bytes += -(-tensors[0].numel() * dtype.itemsize // ALIGNED_BYTES) * ALIGNED_BYTES
    storage = torch.empty(num_bytes, dtype=torch.uint8, device=device).untyped_storage()
    copies = []
    with torch._C.DisableTorchFunctionSubclass():
        for (tensors, dtype), begin in zip(sizes, begins, strict=True):
            source = tensors[0].data
            copies.append((_within(storage, begin, source, dtype), source))
            for tensor in tensors:
                tensor.data = _within(storage, begin, source, dtype)
    for base in bases:  # experts know the device of their weight from when they were made
        for name, value in base.named_parameters(recurse=False):
            if isinstance(value, QuantizedExperts):
                base._parameters[name] = as_parameter(value.like(value.layer, value.dtype))
    if device.type == "cuda":
        copies = _pinned(copies, storage, device)
    storage.resize_(0)
    return _Block(storage, num_bytes, copies, _mapped(source for _, source in copies))


def _dtype_on(device: torch.device, tensor: torch.Tensor) -> torch.dtype:
    """What the device computes in, for a weight in 16 bits."""
    return compute_dtype(device, tensor.dtype) if tensor.is_floating_point() else tensor.dtype


def _within(
    storage: torch.UntypedStorage, begin: int, like: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """A tensor of the storage with a shape; none shares its count of changes, by which autograd would see
    that a weight comes again."""
    empty = torch.empty(0, dtype=dtype, device=storage.device)
    return empty.set_(storage, begin // dtype.itemsize, like.shape)


def _pinned(
    copies: list[tuple[torch.Tensor, torch.Tensor]], storage: torch.UntypedStorage, device: torch.device
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """One copy of the whole storage out of pinned memory; where none can be pinned, the same."""
    try:
        host = torch.empty(storage.nbytes(), dtype=torch.uint8, pin_memory=True)
    except RuntimeError:
        return copies
    for target, source in copies:
        target.copy_(source)
    whole = torch.empty(0, dtype=torch.uint8, device=device).set_(storage)
    host.copy_(whole)
    return [(whole, host)]


def _mapped(sources: Iterable[torch.Tensor]) -> list[tuple[int, int]]:
    """The whole pages of tensors that lie in mapped safetensors files; none where the system does not say."""
    files = []
    with suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            if line.endswith(".safetensors"):
                begin, _, end = line.partition(" ")[0].partition("-")
                files.append((int(begin, 16), int(end, 16)))
    found = []
    for source in sources:
        begin = -(-source.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (source.data_ptr() + source.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if begin < end and any(first <= begin and end <= last for first, last in files):
            found.append((begin, end - begin))
    return found


def _let_go(pages: Iterable[tuple[int, int]]) -> None:
    """Give pages of a mapped file back that have been read; whoever needs them again reads them again."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        for begin, num_bytes in pages:
            library.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(num_bytes), MADV_DONTNEED)
