"""What of a study fits a device, by Python."""

from __future__ import annotations

from jointsearch.api.selection import size_in_bytes
from jointsearch.api.settings import Source, settings_of
from jointsearch.fitting import Fit, fit_device


def fit(source: Source, *, device_memory: int | str | None = None, device: str | None = None) -> Fit:
    """Which uniform plans of a study fit a device, and at which batch size, before any weight is read.

    ``source``: as in ``create_study``. ``device_memory``: bytes, or a text such as ``12GB``; by default what
    this machine has free. ``device``: ``cpu`` or ``cuda``, by default the study's own. Raises
    ``StudyFileError``, and ``UnsupportedError`` where the memory of this model cannot be foretold.
    """
    given = None if device_memory is None else size_in_bytes(device_memory, "device_memory")
    return fit_device(settings_of(source), memory_bytes=given, device=device)
