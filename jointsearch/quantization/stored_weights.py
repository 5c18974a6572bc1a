"""A checkpoint's weights in a bank's files, in 16 bits and in every format that has been asked for."""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from jointsearch.errors import ModelError, first_line
from jointsearch.plan.formats import UNQUANTIZED, QuantizationSettings
from jointsearch.quantization.bank_files import BankFiles, Damaged
from jointsearch.quantization.formats.base import fill, format_of, implementation_of, quantized
from jointsearch.quantization.staging import Staging

WEIGHT = "weight"

_log = logging.getLogger(__name__)


class StoredWeights:
    """Weights by the name of their parameter, read onto one device. Not safe for several threads."""

    def __init__(
        self,
        files: BankFiles,
        names: dict[int, str],
        device: torch.device,
        dtype: torch.dtype,
        stream_again: Callable[[], None],
        tell: Callable[[str], None] = _log.info,
    ) -> None:
        """``names``: what the files call the model's placeholders, by ``id``; ``dtype``: the 16-bit type;
        ``stream_again`` writes those files anew that are missing, or raises ``OSError``."""
        self.names = names
        self._files = files
        self._device = device
        self._dtype = dtype
        self._stream_again = stream_again
        self._tell = tell
        self._staged = Staging(device)
        self._is_writable = True

    def weight(self, name: str, on_host: bool = False) -> torch.Tensor:
        """In 16 bits, as the checkpoint has it, on the device; on a CPU it is the mapped file.

        ``on_host``: the mapped file in any case.
        """
        for _ in range(2):
            try:
                mapped = self._files.read(name, UNQUANTIZED)[WEIGHT]
                return mapped if on_host else self._staged(mapped)
            except Damaged as error:
                problem = error
                self._tell(f"a file of the bank is not what was written, and is made again ({error})")
                try:
                    self._files.remove(name, UNQUANTIZED)
                    self._stream_again()
                except OSError as failure:
                    raise ModelError(
                        f"{self._files.folder}: must be readable and writable to be mended "
                        f"({first_line(failure)}); delete it, or set JOINTSEARCH_CACHE to another folder"
                    ) from None
        raise ModelError(f"{problem}; the disk, or the memory, gives back other bytes than it was given")

    def quantized(
        self,
        name: str,
        weight_format: str,
        settings: QuantizationSettings,
        empty: Callable[[], nn.Module],
        matrix: Callable[[torch.Tensor], torch.Tensor],
        on_host: bool = False,
    ) -> dict[str, Any]:
        """The parameter ``weight`` and the buffers of ``empty()``, a module in that format, on the device.

        Made of the 16-bit weight's ``matrix``, and stored, where they are not there yet. ``on_host``: where
        they are stored they stay the mapped file.
        """
        kind = stored_kind(weight_format, settings, self._device)
        for _ in range(2):
            try:
                mapped = self._files.read(name, kind)
                staged = mapped if on_host else {key: self._staged(each) for key, each in mapped.items()}
                return self._unpacked(empty(), staged)
            except Damaged as error:
                if self._files.has(name, kind):
                    self._tell(f"a file of the bank is not what was written, and is made again ({error})")
            if not self.make(name, weight_format, settings, empty, matrix, anew=True):
                break
        return quantized(empty(), matrix(self.weight(name)), self._dtype)

    def make(
        self,
        name: str,
        weight_format: str,
        settings: QuantizationSettings,
        empty: Callable[[], nn.Module],
        matrix: Callable[[torch.Tensor], torch.Tensor],
        anew: bool = False,
    ) -> bool:
        """Quantize and store the weight, ``anew`` also if it is there; whether it could be stored."""
        kind = stored_kind(weight_format, settings, self._device)
        if not self._is_writable:
            return False
        if not anew and self._files.has(name, kind):
            return True
        weight = self.weight(name)  # before the lock, which mending a damaged one takes
        try:
            with self._files.locked(lambda: None):
                if anew or not self._files.has(name, kind):
                    module = empty()
                    fill(module, quantized(module, matrix(weight), self._dtype))
                    packed = {key: value for key, value in module.state_dict().items() if not value.is_meta}
                    self._files.write(name, kind, packed)
        except OSError as error:
            self.write_no_more(error)
        return self._is_writable

    def write_no_more(self, why: OSError) -> None:
        """From now on what is not stored is quantized whenever it is asked for."""
        self._is_writable = False
        self._tell(f"what the bank lacks is quantized anew for every trial: {first_line(why)}")

    def _unpacked(self, empty: nn.Module, packed: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """As transformers reads a quantized checkpoint, by the operation of the format."""
        implementation = format_of(empty)
        assert implementation is not None
        tensors: dict[str, Any] = dict(packed)
        buffers = {key: tensors.pop(key) for key in implementation.buffers}
        operation = implementation.deserialize(SimpleNamespace(pre_quantized=True))
        weight = operation.convert(tensors, model=_Around(empty), full_layer_name="module.weight")[WEIGHT]
        if not isinstance(weight, nn.Parameter):
            weight = nn.Parameter(weight, requires_grad=False)
        return {WEIGHT: weight, **buffers}


class _Around(nn.Module):
    """A model of one module, for operations that look it up."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def get_parameter_or_buffer(self, name: str) -> torch.Tensor:
        return self.get_parameter(name)


@cache
def stored_kind(weight_format: str, settings: QuantizationSettings, device: torch.device) -> str:
    """The format's name, and a digest of all that its bytes follow from beside the weight."""
    implementation = implementation_of(weight_format)
    source = Path(inspect.getfile(type(implementation))).read_bytes()
    parts = (
        settings.model_dump_json(),
        device.type,  # kernels round differently
        *(version(name) for name in ("torch", "bitsandbytes")),
        hashlib.sha256(source).hexdigest(),
    )
    return f"{weight_format}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}"
