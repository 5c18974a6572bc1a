"""The pretrained model and its tokenizer, with errors that say what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from jointsearch.config.study import ModelSettings, model_source
from jointsearch.config.trust import HOW, trusts_remote_code
from jointsearch.errors import ModelError
from jointsearch.quantization.formats.base import compute_dtype, round_to
from jointsearch.quantization.plugin import JointSearchConfig
from jointsearch.quantization.streaming import Keeper, Streaming
from jointsearch.training.model.architecture import layout_of, load_config, model_class, needs_trust

HEAD_SEED = 0
"""New heads start the same in every process."""


def load_base(
    settings: ModelSettings,
    task_type: str,
    dtype: str,
    device: torch.device,
    head: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """The model in the type that ``device`` computes in, with the values of its 16-bit ``dtype``."""
    sixteen_bit = getattr(torch, dtype)
    model, _ = _from_pretrained(settings, task_type, head, dtype=compute_dtype(device, sixteen_bit))
    round_to(model, sixteen_bit)
    return model.to(device)


def load_streamed(
    settings: ModelSettings,
    task_type: str,
    dtype: str,
    device: torch.device,
    keeper: Keeper,
    head: Mapping[str, Any] | None = None,
) -> tuple[PreTrainedModel, dict[int, str]]:
    """What ``load_base`` gives, but with placeholders for the weights that ``keeper`` has been given.

    Also returns what these are called, by the ``id`` of the placeholder.
    """
    streaming = Streaming(keeper, compute_dtype(device, getattr(torch, dtype)))
    model, initialized = _from_pretrained(
        settings, task_type, head, dtype=streaming.dtype, quantization_config=streaming
    )
    names = streaming.finish(model, initialized)
    round_to(model, getattr(torch, dtype))
    for tensor in (*model.parameters(), *model.buffers()):
        if not tensor.is_meta:
            tensor.data = tensor.data.to(device)
    return model, names


def load_quantized(
    settings: ModelSettings,
    task_type: str,
    config: JointSearchConfig,
    device: torch.device,
    head: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """The model quantized while it loads: full precision is held for one tensor at a time."""
    arguments = {"quantization_config": config, "device_map": {"": device}}
    return _from_pretrained(settings, task_type, head, **arguments)[0]


def load_tokenizer(settings: ModelSettings) -> PreTrainedTokenizerBase:
    """The model's tokenizer, which pads on the right, with its end-of-text token if it has none for it."""
    with _readable(settings, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(
            model_source(settings.id), revision=settings.revision, trust_remote_code=trusts_remote_code()
        )
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelError(
            f"the model '{settings.id}' must come with its tokenizer, but its vocabulary is empty"
        )
    if tokenizer.pad_token is None:
        # any token will do: masks and labels leave padding out
        first = tokenizer.convert_ids_to_tokens(0)
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or first
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    return tokenizer


def _from_pretrained(
    settings: ModelSettings, task_type: str, head: Mapping[str, Any] | None, **arguments: Any
) -> tuple[PreTrainedModel, set[str]]:
    """The model, and the names of its parameters that are no part of the checkpoint."""
    config = load_config(settings, head)
    torch.manual_seed(HEAD_SEED)
    with _readable(settings, "model"):
        model, loading = model_class(task_type).from_pretrained(
            model_source(settings.id),
            output_loading_info=True,
            config=config,
            revision=settings.revision,
            trust_remote_code=trusts_remote_code(),
            use_safetensors=True,
            ignore_mismatched_sizes=bool(head),  # a head for other classes is replaced by a new one
            **arguments,
        )
    new = tuple(f"{spec.name}." for spec in layout_of(model, "bfloat16").modules if spec.trained)
    if random := sorted(name for name in loading["missing_keys"] if not name.startswith(new)):
        raise ModelError(
            f"the checkpoint '{settings.id}' must have every weight of {type(model).__name__} but a new "
            f"head's, but it lacks {', '.join(random[:3])} ({len(random)} in all); "
            f"use a checkpoint made for {task_type}"
        )
    model.config.use_cache = False  # no use in training, and a warning with every step of some models
    return model, {*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])}


@contextmanager
def _readable(settings: ModelSettings, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        if needs_trust(error):
            raise ModelError(f"the {what} of '{settings.id}' comes with code that must run; {HOW}") from None
        if "pytorch_model.bin" in str(error) or _has_old_weights(settings):
            raise ModelError(
                f"the weights of '{settings.id}' must be safetensors, which run no code, but there is "
                "pytorch_model.bin alone; load it once with transformers and save_pretrained it to a folder"
            ) from None
        reason = " ".join(str(error).split())
        reason = reason if len(reason) < 200 else f"{reason[:200]} …"
        raise ModelError(f"the {what} of '{settings.id}' cannot be loaded: {reason}") from None


def _has_old_weights(settings: ModelSettings) -> bool:
    """Whether a folder has pickled weights, and no others."""
    folder = Path(model_source(settings.id))
    return (
        folder.is_dir() and any(folder.glob("pytorch_model*.bin")) and not any(folder.glob("*.safetensors"))
    )
