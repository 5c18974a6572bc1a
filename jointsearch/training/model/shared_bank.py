"""The bank of a study's model, in the cache folder of this machine: made by its first worker, used by all.

    <cache>/banks/<model>-<key>/   lock, bank.json, and a safetensors file per weight and format

The key is a digest of the checkpoint's content and of all else that the 16-bit weights follow from. A bank
whose maker was killed is finished by the next worker. Where there is no room, or the folder cannot be
written, weights are kept in memory, as are those of a model that a person hands over.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import PreTrainedModel

from jointsearch.banks import ABOUT, about, banks_folder
from jointsearch.config.study import StudyConfig
from jointsearch.errors import ModelError, first_line
from jointsearch.files import as_file_name, write_text
from jointsearch.front.objectives import format_bytes
from jointsearch.plan.cost import weight_bytes
from jointsearch.plan.formats import FORMATS, UNQUANTIZED
from jointsearch.plan.layout import ModelLayout, ModuleSpec
from jointsearch.quantization.bank import QuantizedBank
from jointsearch.quantization.bank_files import BankFiles
from jointsearch.quantization.digests import digest_of
from jointsearch.quantization.stored_weights import WEIGHT, StoredWeights, stored_kind
from jointsearch.quantization.streaming import is_weight
from jointsearch.space import SearchSpace
from jointsearch.training.device import give_back_memory
from jointsearch.training.model.base_model import load_base, load_streamed

VERSION = 1
"""Of what lies in a bank."""

NEWS_SECONDS = 10.0
"""Between two lines about a bank that is being made."""

SPARE_BYTES = 64 << 20
"""Of the disk, that a bank leaves to others."""

GIVEN_BACK_BYTES = 128 << 20
"""How much may be read and quantized before what that has freed is given back."""

Tell = Callable[[str], None]

_log = logging.getLogger(__name__)


def open_bank(
    config: StudyConfig, layout: ModelLayout, device: torch.device, tell: Tell = _log.info
) -> QuantizedBank:
    """The bank of the study's model on ``device``, with every format that its trials can have.

    ``tell`` gets a line where it has to be made, or cannot be.
    """
    dtype = getattr(torch, layout.dtype)
    maker = BankMaker(config, layout, device, tell)
    try:
        model, names = maker.load()
    except OSError as error:
        tell(
            f"the weights are kept in the memory of each worker: {first_line(error)}; "
            "JOINTSEARCH_CACHE can name another folder"
        )
        base = load_base(config.model, config.task.type, layout.dtype, device, config.task.head)
        return QuantizedBank(base, config.quantization, dtype)
    weights = StoredWeights(maker.files, names, device, dtype, maker.stream_again, tell)
    bank = QuantizedBank(model, config.quantization, dtype, weights)
    maker.make_formats(bank, weights)
    give_back_memory()
    return bank


class BankMaker:
    """Streams a checkpoint into its bank. Not safe for several threads."""

    files: BankFiles

    def __init__(self, config: StudyConfig, layout: ModelLayout, device: torch.device, tell: Tell) -> None:
        self._config = config
        self._layout = layout
        self._device = device
        self._tell = tell
        self._dtype: torch.dtype = getattr(torch, layout.dtype)
        self._formats = _formats_by_module(config, layout)
        self._folder: Path | None = None
        self._held = ExitStack()
        self._is_writing = False
        self._failure: OSError | None = None
        self._num_freed = 0
        self._progress = _Progress(config.model.id, tell)

    def load(self) -> tuple[PreTrainedModel, dict[int, str]]:
        """The model with placeholders for its weights, and what these are stored as, by ``id``.

        Raises ``OSError`` if they cannot be stored.
        """
        settings, task, dtype = self._config.model, self._config.task, self._layout.dtype
        self._failure, self._is_writing = None, False
        with self._held:
            model, names = load_streamed(settings, task.type, dtype, self._device, self, task.head)
            if self._failure:
                raise self._failure
            if self._is_writing:
                known = {"model": settings.id, "weights": sorted(names.values())}
                write_text(self.files.folder / ABOUT, json.dumps(known))
        return model, names

    def stream_again(self) -> None:
        """Write what is missing; raises ``OSError``."""
        before = self._folder
        self.load()
        if self._folder != before:
            raise ModelError(
                f"the checkpoint '{self._config.model.id}' must stay as it is while a study runs, "
                "but it has changed; start the study anew"
            )

    def begin(self, model: PreTrainedModel, checkpoint_files: Iterable[Path]) -> None:
        try:
            self._begin(model, list(checkpoint_files))
        except OSError as error:  # transformers would take it for one of the checkpoint's
            self._failure = error

    def keep(self, name: str, weight: torch.Tensor) -> None:
        self._freed(weight.nbytes)
        if self._failure or not self._is_writing or self.files.has(name, UNQUANTIZED):
            return
        try:
            stored = weight.to(self._dtype)
            self.files.write(name, UNQUANTIZED, {WEIGHT: stored})
            self._progress.add(stored.nbytes)
        except OSError as error:
            self._failure = error

    def make_formats(self, bank: QuantizedBank, weights: StoredWeights) -> None:
        """Quantize every module into every format that it can have, where that is not stored yet."""
        try:
            missing = self._missing_formats()
            _check_room(self.files.folder, self._bytes_of(missing))
            if missing:
                with self.files.locked(self._say_waiting):
                    self._make(bank, self._missing_formats())  # what another has not made meanwhile
        except OSError as error:
            weights.write_no_more(error)

    def _make(self, bank: QuantizedBank, missing: list[tuple[ModuleSpec, str]]) -> None:
        self._progress.begin(self._bytes_of(missing), self.files.folder)
        for spec, weight_format in missing:
            bank.store(spec.name, weight_format)
            self._progress.add(self._bytes_of([(spec, weight_format)]))
            self._freed(4 * spec.num_weights)

    def _freed(self, num_bytes: int) -> None:
        """So much has been read or quantized, and is no longer used."""
        self._num_freed += num_bytes
        if self._num_freed > GIVEN_BACK_BYTES:
            give_back_memory()
            self._num_freed = 0

    def _begin(self, model: PreTrainedModel, checkpoint_files: list[Path]) -> None:
        key = self._key(model, checkpoint_files)
        folder = banks_folder() / f"{as_file_name(Path(self._config.model.id).name)[:50]}-{key}"
        if self._folder != folder:  # its lock may be held
            self._folder, self.files = folder, BankFiles(folder)
        if self._is_whole():
            return
        _check_room(folder, self._bytes_left(model))
        self._held.enter_context(self.files.locked(self._say_waiting))
        if self._is_whole():  # another has made it meanwhile
            self._held.close()
            return
        self._is_writing = True
        self._progress.begin(self._bytes_left(model), folder)

    def _is_whole(self) -> bool:
        """Whether all 16-bit weights are there."""
        known = about(self.files.folder).get("weights")
        return isinstance(known, list) and all(self.files.has(name, UNQUANTIZED) for name in known)

    def _bytes_left(self, model: PreTrainedModel) -> int:
        """Of all that is to be written."""
        return self._bytes_of(self._missing_formats()) + sum(
            parameter.numel() * self._dtype.itemsize
            for name, parameter in model.named_parameters()
            if is_weight(parameter)
            and name not in model.all_tied_weights_keys
            and not self.files.has(name, UNQUANTIZED)
        )

    def _say_waiting(self) -> None:
        self._tell(f"another worker makes the bank of {self._config.model.id}: waiting for it")

    def _key(self, model: PreTrainedModel, checkpoint_files: list[Path]) -> str:
        """Of all that the 16-bit weights follow from."""
        configs = {path.parent / "config.json" for path in checkpoint_files}
        files = sorted({*checkpoint_files, *(path for path in configs if path.is_file())})
        kind = type(model)
        parts = (
            VERSION,
            [(path.name, digest_of(path)) for path in files],
            f"{kind.__module__}.{kind.__qualname__}",
            self._layout.dtype,
            version("transformers"),
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def _missing_formats(self) -> list[tuple[ModuleSpec, str]]:
        settings = self._config.quantization
        kinds = {name: stored_kind(name, settings, self._device) for _, name in self._formats}
        return [
            (spec, name) for spec, name in self._formats if not self.files.has(stored_name(spec), kinds[name])
        ]

    def _bytes_of(self, weights: Iterable[tuple[ModuleSpec, str]]) -> int:
        settings = self._config.quantization
        return sum(weight_bytes(spec, weight_format, settings) for spec, weight_format in weights)


class _Progress:
    """Tells how far a bank is."""

    def __init__(self, model_id: str, tell: Tell) -> None:
        self._model_id = model_id
        self._tell = tell
        self._left = self._done = 0
        self._told = 0.0

    def begin(self, num_bytes: int, folder: Path) -> None:
        """Before ``num_bytes`` are written, if nothing has been told yet."""
        if self._left or not num_bytes:
            return
        self._left, self._told = num_bytes, time.monotonic()
        self._tell(
            f"making the bank of {self._model_id}, once for all workers of this machine: "
            f"{format_bytes(num_bytes)} in {folder}, where {format_bytes(_free_bytes(folder))} are free"
        )

    def add(self, num_bytes: int) -> None:
        self._done += num_bytes
        if time.monotonic() - self._told > NEWS_SECONDS:
            self._told = time.monotonic()
            self._tell(
                f"the bank of {self._model_id}: {format_bytes(self._done)} of {format_bytes(self._left)}"
            )


def _formats_by_module(config: StudyConfig, layout: ModelLayout) -> list[tuple[ModuleSpec, str]]:
    """The modules that trials can have quantized, and every format that each can have."""
    space = SearchSpace.build(layout, config.search_space, config.quantization, config.lora)
    return [
        (spec, name)
        for group in space.groups
        for name in group.formats
        if FORMATS[name].is_quantized
        for spec in group.modules
        if spec.quantizable and spec.kind in FORMATS[name].kinds
    ]


def stored_name(spec: ModuleSpec) -> str:
    """What a module's weight is called: experts have the name of their parameter themselves."""
    return spec.name if spec.kind == "experts" else f"{spec.name}.{WEIGHT}"


def _check_room(folder: Path, num_bytes: int) -> None:
    free = _free_bytes(folder)
    if num_bytes and free < num_bytes + SPARE_BYTES:
        raise OSError(
            f"a bank needs {format_bytes(num_bytes)} more in {folder}, but {format_bytes(free)} are free"
        )


def _free_bytes(folder: Path) -> int:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free
