"""Tensors that have a shape, a type and a device, and are never computed: what a model would allocate.

Within ``VirtualTensors`` every operation on floating-point numbers gives uninitialized tensors of the right
shapes, as the operation's meta kernel has them. Their memory is asked of the system and never touched, so
that none is used. Views and changes in place share their storage as ever, so that what autograd keeps lives
as long as in a real run. Integers and booleans, of which masks and positions are made, are computed. (torch's
own ``FakeTensorMode`` cannot hold the parameters of bitsandbytes, which are subclasses of tensors.)
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

RUN_ANYWAY = {"resize_", "set_", "transpose_", "t_", "squeeze_", "unsqueeze_", "as_strided_", "detach_"}
"""Changes in place of what a tensor looks like, not of its numbers."""

READS = {"_local_scalar_dense", "equal", "is_nonzero"}
"""What gives Python a number: any will do."""

SMALL = 4096


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations within it have made and that still live."""

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        """Since it was set last."""
        self._known: dict[int, tuple[int, weakref.ref[Any]]] = {}
        self._num_made = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = self.run(func, args, kwargs or {})
        for tensor in _tensors(result):
            self._count(tensor)
        return result

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs)

    def living(self) -> set[int]:
        """The numbers of the storages that live."""
        return {number for number, _ in self._known.values()}

    def number_of(self, tensor: torch.Tensor) -> int:
        """Of a tensor's storage, which no other has: addresses are used again."""
        return self._count(tensor)

    def _count(self, tensor: torch.Tensor) -> int:
        storage = tensor.untyped_storage()
        key, num_bytes = storage._cdata, storage.nbytes()
        if key in self._known:
            return self._known[key][0]
        self.live += num_bytes
        self.peak = max(self.peak, self.live)
        self._num_made += 1

        def gone(_: object) -> None:
            self.live -= num_bytes
            del self._known[key]

        self._known[key] = self._num_made, weakref.ref(storage, gone)
        return self._num_made


class VirtualTensors(LiveBytes):
    """Counts likewise, and computes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._layouts: dict[Any, Any] = {}
        """Of what an operation has made of tensors like these: a model's blocks ask the same again."""

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = func.__name__.partition(".")[0]
        if func.is_view or name in RUN_ANYWAY | READS or _is_computed(func, args, kwargs):
            return func(*args, **kwargs)
        if func._schema.is_mutable:
            return _changed(func, args, kwargs)
        asked = func, _description(args), _description(kwargs)
        if asked not in self._layouts:
            self._layouts[asked] = _layout_of_result(func, args, kwargs)
        layout = self._layouts[asked]
        if layout is None:
            return func(*args, **kwargs)
        device = next((t.device for t in _tensors((args, kwargs))), None)
        device = kwargs.get("device") or device or torch.device("cpu")
        return tree_map_only(torch.Tensor, lambda meta: _uninitialized(meta, device), layout)


def _description(value: Any) -> Any:
    """What decides on an operation's shapes: equal for tensors that differ in their numbers alone."""
    match value:
        case torch.Tensor():
            return value.size(), value.stride(), value.dtype
        case list() | tuple():
            return tuple(map(_description, value))
        case dict():
            return tuple((name, _description(item)) for name, item in value.items())
    return type(value), value  # 1 and 1.0 give other types


def _uninitialized(meta: torch.Tensor, device: torch.device) -> torch.Tensor:
    made = torch.empty_strided(meta.size(), meta.stride(), dtype=meta.dtype, device=device)
    # what chooses by its numbers, such as an expert's router, must find some that are allowed
    return made if made.is_floating_point() else made.zero_()


def _layout_of_result(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the meta kernel makes, or None where it is a view of what it was given."""
    metas: dict[int, torch.Tensor] = {}

    def meta(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in metas:
            metas[id(tensor)] = torch.empty_strided(
                tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta"
            )
        return metas[id(tensor)]

    on_meta = tree_map_only(torch.Tensor, meta, (args, kwargs))
    if "device" in kwargs:
        on_meta[1]["device"] = torch.device("meta")
    result = _on_meta(func, *on_meta)
    storages = {tensor.untyped_storage()._cdata for tensor in metas.values()}
    is_view = any(tensor.untyped_storage()._cdata in storages for tensor in _tensors(result))
    return None if is_view else result


def _on_meta(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Some meta kernels, of grouped multiplications for example, know bfloat16 alone."""
    try:
        return func(*args, **kwargs)
    except RuntimeError:
        dtypes = {tensor.dtype for tensor in _tensors((args, kwargs)) if tensor.is_floating_point()}
        if dtypes != {torch.float32}:
            raise
        halved = tree_map_only(
            torch.Tensor, lambda t: t.bfloat16() if t.is_floating_point() else t, (args, kwargs)
        )
        result = func(*halved[0], **halved[1])
        return tree_map_only(torch.Tensor, lambda t: t.float() if t.is_floating_point() else t, result)


def _changed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What an operation in place gives back: the tensors that it would have changed."""
    written = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            written.append(args[position] if position < len(args) else kwargs.get(argument.name))
    match len(func._schema.returns):
        case 0:
            return None
        case 1:
            return written[0]
    return tuple(written[: len(func._schema.returns)])


def _is_computed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether it is done for real: on integers and booleans alone, or of a few numbers."""
    tensors = list(_tensors((args, kwargs)))
    dtype = kwargs.get("dtype")
    if tensors:
        from_floats = any(tensor.is_floating_point() for tensor in tensors)
        return not from_floats and (dtype is None or not dtype.is_floating_point)
    made = list(_tensors(func(*args, **{**kwargs, "device": "meta"}))) if "device" in kwargs else []
    return not any(tensor.is_floating_point() and tensor.numel() > SMALL for tensor in made)


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    return (value for value in tree_leaves(values) if isinstance(value, torch.Tensor))
