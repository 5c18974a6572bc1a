"""The pretrained model and its tokenizer, with errors that say what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from jointsearch.config import ModelSettings
from jointsearch.errors import ModelError
from jointsearch.quantization.formats import compute_dtype, round_to
from jointsearch.quantization.plugin import JointSearchConfig
from jointsearch.training.architecture import AUTO_CLASSES, load_config

HEAD_SEED = 0
"""New heads start the same in every process."""


def load_base(settings: ModelSettings, task_type: str, dtype: str, device: torch.device) -> PreTrainedModel:
    """The model in the type that ``device`` computes in, with the values of its 16-bit ``dtype``."""
    sixteen_bit = getattr(torch, dtype)
    model = _from_pretrained(settings, task_type, dtype=compute_dtype(device, sixteen_bit))
    round_to(model, sixteen_bit)
    return model.to(device)


def load_quantized(
    settings: ModelSettings, task_type: str, config: JointSearchConfig, device: torch.device
) -> PreTrainedModel:
    """The model quantized while it loads: full precision is held for one tensor at a time."""
    return _from_pretrained(settings, task_type, quantization_config=config, device_map={"": device})


def load_tokenizer(settings: ModelSettings) -> PreTrainedTokenizerBase:
    with _readable(settings, "tokenizer"):
        return AutoTokenizer.from_pretrained(
            settings.id, revision=settings.revision, trust_remote_code=settings.trust_remote_code
        )


def _from_pretrained(settings: ModelSettings, task_type: str, **arguments: Any) -> PreTrainedModel:
    load_config(settings)  # says better than from_pretrained what is wrong with a missing model
    torch.manual_seed(HEAD_SEED)
    with _readable(settings, "model"):
        model = AUTO_CLASSES[task_type].from_pretrained(
            settings.id,
            revision=settings.revision,
            trust_remote_code=settings.trust_remote_code,
            use_safetensors=True,
            **arguments,
        )
    model.config.use_cache = False  # no use in training, and a warning with every step of some models
    return model


@contextmanager
def _readable(settings: ModelSettings, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        reason = reason if len(reason) < 200 else f"{reason[:200]} …"
        raise ModelError(f"the {what} of '{settings.id}' cannot be loaded: {reason}") from None
