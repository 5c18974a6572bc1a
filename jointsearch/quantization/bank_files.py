"""A bank's folder: one safetensors file per weight and format, shared by all workers of a machine.

A file is written beside its place, synced and renamed, so it is there as a whole or not at all. Its
header says whose it is, and has the CRC-32 of every tensor; a process checks them when it first reads the
file, so that one that was damaged later is found too. Tensors are memory-mapped, privately: workers share
the pages, and what one writes to them stays its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from jointsearch.banks import LOCK
from jointsearch.files import as_file_name

CHUNK_BYTES = 1 << 20
LONGEST_NAME = 150
"""Characters of a file's name that are its weight's; file systems take 255 bytes."""


class Damaged(Exception):
    """A file of a bank that is missing, cut short, changed, or another weight's."""


class BankFiles:
    """The files of one bank. Only who holds the lock writes. Not safe for several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FileLock(folder / LOCK)
        self._checked: set[tuple[str, str]] = set()

    def has(self, name: str, kind: str) -> bool:
        return self._path(name, kind).is_file()

    def write(self, name: str, kind: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Store the tensors of a weight in a format; raises ``OSError``, with nothing half-written."""
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        about = {
            "weight": name,
            "kind": kind,
            "tensors": json.dumps({key: _described(tensor) for key, tensor in tensors.items()}),
        }
        path = self._path(name, kind)
        temporary = path.with_name(f".{os.getpid()}.partial")
        try:
            _save(tensors, temporary, about)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        self._checked.discard((name, kind))

    def read(self, name: str, kind: str) -> dict[str, torch.Tensor]:
        """What ``write`` has stored, mapped; raises ``Damaged`` where it is not what was written."""
        path = self._path(name, kind)
        try:
            if (name, kind) not in self._checked:
                _check(path, name, kind)
                self._checked.add((name, kind))
            with safe_open(path, "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a mapping
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise Damaged(f"{path}: {error}") from None

    def remove(self, name: str, kind: str) -> None:
        self._checked.discard((name, kind))
        self._path(name, kind).unlink(missing_ok=True)

    @contextmanager
    def locked(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Alone among all processes to write; ``waiting`` is called if another one does. Raises ``OSError``.

        A process that dies gives the lock back. What it left half-written is deleted. Who holds the lock can
        take it again.
        """
        if self._lock.is_locked:
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                waiting()
                self._lock.acquire()
        except NotImplementedError as error:  # a file system without locks
            raise OSError(str(error)) from None
        try:
            for partial in self.folder.glob(".*.partial"):
                partial.unlink(missing_ok=True)
            yield
        finally:
            self._lock.release()

    def _path(self, name: str, kind: str) -> Path:
        short = as_file_name(name)
        if short != name or len(name) > LONGEST_NAME:
            short = f"{short[:LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        return self.folder / f"{short}.{kind}.safetensors"


def _save(tensors: Mapping[str, torch.Tensor], path: Path, about: dict[str, str]) -> None:
    try:
        save_file(dict(tensors), path, metadata=about)
    except SafetensorError as error:  # of its I/O: the disk is full, the folder gone, …
        raise OSError(str(error)) from None


def _check(path: Path, name: str, kind: str) -> None:
    """Raise ``ValueError`` where the file is not what was written as ``name`` in ``kind``."""
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if header_bytes > path.stat().st_size:
            raise ValueError("its header is cut short")
        header = json.loads(file.read(header_bytes))
        about = header.pop("__metadata__")
        if (about["weight"], about["kind"]) != (name, kind):
            raise ValueError(f"it has {about['weight']} as {about['kind']}")
        written = json.loads(about["tensors"])
        if written.keys() != header.keys():
            raise ValueError("it has other tensors than were written")
        for key, (_, _, checksum) in written.items():
            begin, end = header[key]["data_offsets"]
            file.seek(8 + header_bytes + begin)
            found = 0
            for left in range(end - begin, 0, -CHUNK_BYTES):
                found = zlib.crc32(file.read(min(left, CHUNK_BYTES)), found)
            if found != checksum:
                raise ValueError("its checksum is wrong")
    with safe_open(path, "pt") as mapped:
        for key, (dtype, shape, _) in written.items():
            tensor = mapped.get_tensor(key)
            if (str(tensor.dtype), list(tensor.shape)) != (dtype, shape):
                raise ValueError("its header is wrong")


def _described(tensor: torch.Tensor) -> tuple[str, list[int], int]:
    """Type, shape and checksum."""
    return (
        str(tensor.dtype),
        list(tensor.shape),
        zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data),
    )
