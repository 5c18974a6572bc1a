"""Cross-entropy of a language model without all of its logits at once.

A model's head gives logits of shape (batch, time, vocabulary). Where the vocabulary is large, they and their
gradient take more than all else of a step: for 8 x 512 tokens of 152k, 2.5 GB each in float32. Within
``deferred_logits`` the head gives a ``DeferredLogits`` instead, which stands for them. What a model does with
each token's logits alone, such as a scale or a soft cap, is noted down. Their cross-entropy is computed over
the tokens that count, so many at a time, each chunk's gradient together with its loss:

    L = Σ_c loss(head(h_c)),   ∂L/∂h_c at once for each chunk c of the hidden states h

so that the head runs once over each token, as it does otherwise. (So do torch's ``linear_cross_entropy`` and
Liger Kernel, arXiv 2410.10989, section 3.2, of a plain matrix; heads here may be quantized, have adapters,
and be followed by more.) The sums are in another order than torch's: in float32, losses are equal to 1e-6 of
themselves and gradients to 1e-5. Whatever else is asked of the logits is answered by computing them all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves, tree_map_only

from jointsearch.training.model.chunked_loss import ChunkedLoss, rows_at_once

_EACH_NUMBER = {
    *("add", "__add__", "__radd__", "sub", "__sub__", "mul", "__mul__", "__rmul__", "div", "__truediv__"),
    *("true_divide", "tanh", "clamp", "float", "double", "half", "bfloat16", "to", "contiguous"),
    *("__iadd__", "__isub__", "__imul__", "__itruediv__"),
}
"""What is done to every logit alone, by the names of torch's functions."""

_KNOWN = {
    torch.Tensor.shape.__get__,
    torch.Tensor.dtype.__get__,
    torch.Tensor.device.__get__,
    torch.Tensor.ndim.__get__,
    torch.Tensor.requires_grad.__get__,
    torch.Tensor.size,
    torch.Tensor.dim,
    torch.Tensor.numel,
    torch.Tensor.is_floating_point,
    torch.is_floating_point,
    torch.is_tensor,
}
"""What is known without the numbers."""

Step = Callable[[torch.Tensor], torch.Tensor]

_log = logging.getLogger(__name__)
_told: set[str] = set()


@contextmanager
def deferred_logits(model: nn.Module, wanted: bool = True) -> Iterator[None]:
    """While it lasts the model's output embeddings give ``DeferredLogits``, where it has such.

    Outputs that have a loss are given without logits: nobody needs them, and they would be computed.
    """
    language_model = _unwrapped(model)
    head = _head_of(language_model) if wanted else None
    width = 0 if head is None else _width(head)
    if head is None or not width:
        yield
        return
    calls = _HeadCalls(head, width)
    with ExitStack() as stack:
        hook = language_model.register_forward_hook(_without_logits)
        stack.callback(hook.remove)
        before = vars(head).get("forward")
        head.forward = calls.deferred
        if before is None:
            stack.callback(delattr, head, "forward")
        else:
            stack.callback(setattr, head, "forward", before)
        yield


class _HeadCalls:
    """Defers the calls of one head, and makes those of chunks."""

    def __init__(self, head: nn.Module, width: int) -> None:
        self.head = head
        self._forward = head.forward
        self._width = width
        self._runs = False

    @property
    def trained(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.head.parameters() if parameter.requires_grad]

    def deferred(self, *inputs: Any, **named: Any) -> Any:
        """In place of the head's ``forward``."""
        given = inputs[0] if len(inputs) == 1 and not named else None
        if self._runs or not isinstance(given, torch.Tensor) or not given.is_floating_point():
            return self._forward(*inputs, **named)
        return DeferredLogits(self, given, self._width, ())

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        before, self._runs = self._runs, True
        try:
            logits: torch.Tensor = self.head(hidden)  # with its hooks
        finally:
            self._runs = before
        return logits


class DeferredLogits(torch.Tensor):
    """The logits that ``head`` gives of ``hidden``, followed by ``steps``; shape (…, width)."""

    head: _HeadCalls
    hidden: torch.Tensor
    steps: tuple[Step, ...]
    _computed: torch.Tensor | None

    @staticmethod
    def __new__(cls, head: _HeadCalls, hidden: torch.Tensor, width: int, steps: tuple[Step, ...]) -> Any:
        learns = torch.is_grad_enabled() and (hidden.requires_grad or bool(head.trained))
        dtype = hidden.dtype
        if torch.is_autocast_enabled(hidden.device.type):
            dtype = torch.get_autocast_dtype(hidden.device.type)
        made = torch.Tensor._make_wrapper_subclass(
            cls, (*hidden.shape[:-1], width), dtype=dtype, device=hidden.device, requires_grad=learns
        )
        made.head, made.hidden, made.steps, made._computed = head, hidden, steps, None
        return made

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def of(self, hidden: torch.Tensor) -> torch.Tensor:
        """The logits of other rows."""
        logits = self.head(hidden)
        for step in self.steps:
            logits = step(logits)
        return logits

    def whole(self) -> torch.Tensor:
        """All of them, computed once: what changes them in place is seen by whoever looks later."""
        if self._computed is None:
            self._computed = self.of(self.hidden)
        return self._computed

    def like(self, hidden: torch.Tensor, *more: Step) -> DeferredLogits:
        """Those of other rows, not computed either, with further steps."""
        return DeferredLogits(self.head, hidden, self.shape[-1], (*self.steps, *more))

    @property
    def rows_at_once(self) -> int:
        return rows_at_once(self.shape[-1])

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _KNOWN:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        first = args[0] if args else kwargs.get("input")
        if isinstance(first, DeferredLogits) and first._computed is None:
            result = _deferred(func, first, args[1:], kwargs)
            if result is not None:
                return result
            _tell(func)
        whole = tree_map_only(DeferredLogits, DeferredLogits.whole, (args, kwargs))
        return func(*whole[0], **whole[1])

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        raise RuntimeError(f"{func} must be asked of the logits in Python")


def chunks(
    logits: torch.Tensor, labels: torch.Tensor, ignored: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits and labels by rows, of shapes (rows, vocabulary) and (rows,); those of ordinary tensors as one.

    Of deferred logits the rows whose labels are not ``ignored``: there may be none.
    """
    if not isinstance(logits, DeferredLogits):
        yield logits.flatten(0, -2), labels.flatten()
        return
    hidden, labels = logits.hidden.flatten(0, -2), labels.flatten()
    counted = (labels != ignored).nonzero().squeeze(1)
    for rows in counted.split(logits.rows_at_once):
        yield logits.of(hidden[rows]), labels[rows]


def _deferred(func: Any, logits: DeferredLogits, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What ``func`` gives, without computing the logits; None where it must have them all."""
    name = getattr(func, "__name__", "")
    if func is F.cross_entropy:
        return _cross_entropy(logits, *args, **kwargs)
    others = tree_leaves((args, kwargs))
    if name in _EACH_NUMBER and "out" not in kwargs and all(map(_is_of_each_row, others)):
        changed = name.replace("__i", "__", 1) if name.startswith("__i") else ""
        done = getattr(torch.Tensor, changed) if changed else func
        return logits.like(logits.hidden, lambda rows: done(rows, *args, **kwargs))
    if not kwargs and name in ("view", "reshape", "__getitem__"):
        return _other_rows(name, logits, args)
    return None


def _is_of_each_row(value: Any) -> bool:
    """Whether it is the same for all tokens: a number, a type, or a tensor along the vocabulary."""
    if not isinstance(value, torch.Tensor):
        return True
    alone = value.dim() == 0 or value.numel() == value.shape[-1]
    return alone and value.dim() < 3 and not value.requires_grad


def _other_rows(name: str, logits: DeferredLogits, args: tuple[Any, ...]) -> DeferredLogits | None:
    """A view of the rows that leaves each whole."""
    if name == "__getitem__":
        index = args[0] if isinstance(args[0], tuple) else (args[0],)
        if not all(item is ... or isinstance(item, slice) or type(item) is int for item in index):
            return None
        reaches_last = index[-1] is not ... and (... in index or len(index) == logits.dim())
        if reaches_last and index[-1] != slice(None):
            return None
        return logits.like(logits.hidden[index])
    size = args if not isinstance(args[0], tuple | list) else tuple(args[0])
    if len(size) < 2 or size[-1] != logits.shape[-1]:
        return None
    return logits.like(logits.hidden.reshape(*size[:-1], logits.hidden.shape[-1]))


def _cross_entropy(
    logits: DeferredLogits,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> torch.Tensor | None:
    """As ``torch.nn.functional`` has it; None where it is not the sum or the mean over rows."""
    plain = weight is None and size_average is None and reduce is None and reduction in ("mean", "sum")
    if not plain or logits.dim() != 2 or target.dim() != 1 or target.is_floating_point():
        return None
    if len(target) <= logits.rows_at_once:  # as if it had never been deferred
        return F.cross_entropy(
            logits.whole(),
            target,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )
    counted = (target != ignore_index).nonzero().squeeze(1)
    trained = logits.head.trained if torch.is_grad_enabled() else []
    total: torch.Tensor = ChunkedLoss.apply(
        logits.of, logits.rows_at_once, counted, target, label_smoothing, logits.hidden, *trained
    )
    return total if reduction == "sum" else total / len(counted)


def _without_logits(model: nn.Module, inputs: Any, output: Any) -> None:
    logits = getattr(output, "logits", None)
    if isinstance(logits, DeferredLogits) and getattr(output, "loss", None) is not None:
        output.logits = None


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model that several processes train together, by itself."""
    while isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module
    return model


def _head_of(model: Any) -> nn.Module | None:
    try:
        head = model.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return head if isinstance(head, nn.Module) else None


def _width(head: nn.Module) -> int:
    """Of the vocabulary; 0 where it is not known."""
    while isinstance(getattr(head, "base_layer", None), nn.Module):
        head = head.base_layer
    return int(getattr(head, "out_features", 0) or 0)


def _tell(func: Any) -> None:
    """Once for each reason."""
    name = getattr(func, "__name__", str(func))
    if name not in _told:
        _told.add(name)
        _log.warning("all logits are held at once: what the model does to them (%s) needs them all", name)
