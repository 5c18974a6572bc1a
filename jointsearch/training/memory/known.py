"""Memory profiles, kept in the cache folder: one is made once for a model and what is done with it."""

from __future__ import annotations

import logging
from contextlib import suppress
from importlib.metadata import version

from pydantic import ValidationError

from jointsearch.banks import cache_folder
from jointsearch.config.study import StudyConfig
from jointsearch.errors import OutputError
from jointsearch.files import read_text, write_text
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.memory import MemoryProfile
from jointsearch.plan.record import digest
from jointsearch.training.device import resolve_device
from jointsearch.training.memory.profile import memory_profile
from jointsearch.training.model.architecture import load_config

_log = logging.getLogger(__name__)

VERSION = 6
"""Of what a profile holds, and of how it is made."""

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")


def known_profile(
    config: StudyConfig, layout: ModelLayout, device: str | None = None, batch_size: int | None = None
) -> MemoryProfile | None:
    """What training takes on ``device`` (``cpu`` or ``cuda``), by default the study's own; None where it
    cannot be foretold: the task's lengths are unknown, or the model's code needs real numbers."""
    device = device or resolve_device(config.device).type
    batch_size = batch_size or config.calibration.batch_size
    path = cache_folder() / "memory" / f"{_key(config, layout, device, batch_size)}.json"
    with suppress(OSError, ValueError, ValidationError):
        return MemoryProfile.model_validate_json(read_text(path))
    try:
        profile = memory_profile(config, layout, device, batch_size)
    except Exception as error:  # a model's own code may do anything with numbers that are none
        _log.info("the memory of training cannot be foretold: %s: %s", type(error).__name__, error)
        return None
    if profile is not None:
        with suppress(OSError, OutputError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, profile.model_dump_json())
    return profile


def _key(config: StudyConfig, layout: ModelLayout, device: str, batch_size: int) -> str:
    """Of all that a profile depends on."""
    model = load_config(config.model, config.task.head).to_dict()
    model.pop("_name_or_path", None)
    space = config.search_space
    return digest(
        {
            "version": [VERSION, *map(version, LIBRARIES)],
            "model": {name: repr(value) for name, value in model.items()},
            "layout": layout.model_dump(mode="json"),
            "task": config.task.model_dump(mode="json", exclude={"data"}),
            "choices": [space.model_dump(mode="json"), config.quantization.model_dump(mode="json")],
            "training": [config.lora.model_dump(mode="json"), config.training.model_dump(mode="json")],
            "where": [device, batch_size],
        }
    )
