"""A GGUF file in llama.cpp on the CPU, as a module that takes tokens and gives logits.

llama.cpp's own library, from the wheel of ``xllamacpp``, whose Python side has a server but no logits: it is
called through its C interface (``llama.h``). Two structures are handed over by value: that for models as it
comes, that for contexts with the fields that ``Context`` names, and its defaults show whether the wheel has
these. The cache of keys and values is in float32, and flash attention, which rounds, is off.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int32, c_size_t, c_uint32, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from jointsearch.errors import OutputError, UnsupportedError

CONTEXT = 512
"""Tokens that there is room for at least."""

F16, F32 = 1, 0
"""Of ``ggml_type``."""

LogCallback = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)


class Model(ctypes.Structure):
    """``llama_model_params``, which is smaller, as it is."""

    _fields_ = [("all", c_void_p * 64)]


class Context(ctypes.Structure):
    """``llama_context_params`` of xllamacpp 2026.10, and room for what may follow."""

    _fields_ = [
        *[(name, c_uint32) for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq")],
        *[(name, c_uint32) for name in ("n_outputs_max", "n_outputs_max_per_seq")],
        *[(name, c_int32) for name in ("n_threads", "n_threads_batch", "ctx_type", "rope_scaling_type")],
        *[(name, c_int32) for name in ("pooling_type", "attention_type", "flash_attn_type")],
        *[(name, c_float) for name in ("rope_freq_base", "rope_freq_scale", "yarn_ext_factor")],
        *[(name, c_float) for name in ("yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow")],
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int32),
        ("type_v", c_int32),
        ("others", c_void_p * 64),
    ]


class Batch(ctypes.Structure):
    """``llama_batch``."""

    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(ctypes.c_int8)),
    ]


FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_adapter_lora_init": (c_void_p, (c_void_p, c_char_p)),
    "llama_backend_init": (None, ()),
    "llama_batch_free": (None, (Batch,)),
    "llama_batch_init": (Batch, (c_int32, c_int32, c_int32)),
    "llama_context_default_params": (Context, ()),
    "llama_decode": (c_int32, (c_void_p, Batch)),
    "llama_free": (None, (c_void_p,)),
    "llama_get_logits": (POINTER(c_float), (c_void_p,)),
    "llama_get_memory": (c_void_p, (c_void_p,)),
    "llama_init_from_model": (c_void_p, (c_void_p, Context)),
    "llama_log_set": (None, (LogCallback, c_void_p)),
    "llama_memory_clear": (None, (c_void_p, c_bool)),
    "llama_model_default_params": (Model, ()),
    "llama_model_free": (None, (c_void_p,)),
    "llama_model_get_vocab": (c_void_p, (c_void_p,)),
    "llama_model_load_from_file": (c_void_p, (c_char_p, Model)),
    "llama_set_adapters_lora": (
        c_int32,
        (c_void_p, POINTER(c_void_p), c_size_t, POINTER(c_float)),
    ),
    "llama_tokenize": (
        c_int32,
        (c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool),
    ),
    "llama_vocab_n_tokens": (c_int32, (c_void_p,)),
}
"""What is called: its result and its arguments."""


class LlamaCpp(nn.Module):
    """Reads a model, and an adapter that is applied to it."""

    def __init__(self, model: Path, adapter: Path | None = None, config: Any = None) -> None:
        """``config``: what transformers knows of the model. Raises ``OutputError`` where it is not read."""
        super().__init__()
        self.config = config
        # where a module is, is asked of its parameters
        self.place = nn.Parameter(torch.zeros(0), requires_grad=False)
        self.library = library()
        self.model = self._read(
            self.library.llama_model_load_from_file(bytes(model), self.library.llama_model_default_params()),
            model,
        )
        weakref.finalize(self, self.library.llama_model_free, self.model)
        self.adapter: int | None = None
        if adapter is not None:
            self.adapter = self._read(
                self.library.llama_adapter_lora_init(self.model, bytes(adapter)), adapter
            )
        self.vocabulary = self.library.llama_model_get_vocab(self.model)
        self.size = self.library.llama_vocab_n_tokens(self.vocabulary)
        self.room = 0

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **ignored: Any
    ) -> CausalLMOutput:
        """``logits`` of (batch, time) tokens: (batch, time, vocabulary); 0 at what is padding."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        logits = torch.zeros(*input_ids.shape, self.size)
        for tokens, real, rows in zip(input_ids, mask.bool(), logits, strict=True):
            rows[real] = self._row(tokens[real].tolist())
        return CausalLMOutput(logits=logits)

    def tokens(self, text: str, adds_special: bool = True) -> list[int]:
        """How llama.cpp reads a text."""
        encoded = text.encode()
        found = (c_int32 * (len(encoded) + 8))()
        count = self.library.llama_tokenize(
            self.vocabulary, encoded, len(encoded), found, len(found), adds_special, True
        )
        return list(found[:count])

    def _row(self, tokens: list[int]) -> torch.Tensor:
        """Logits of one sequence, (time, vocabulary)."""
        if len(tokens) > self.room:
            self._make_room(max(len(tokens), CONTEXT))
        self.library.llama_memory_clear(self.library.llama_get_memory(self.context), True)
        batch = self.library.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for at, token in enumerate(tokens):
            batch.token[at], batch.pos[at], batch.n_seq_id[at] = token, at, 1
            batch.seq_id[at][0], batch.logits[at] = 0, 1
        failed = self.library.llama_decode(self.context, batch)
        self.library.llama_batch_free(batch)
        if failed:
            raise OutputError(f"llama.cpp cannot run what was written: {_last_words()}")
        found = self.library.llama_get_logits(self.context)
        return torch.from_numpy(np.ctypeslib.as_array(found, (len(tokens), self.size)).copy())

    def _make_room(self, num_tokens: int) -> None:
        params = self.library.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = params.n_outputs_max_per_seq = num_tokens
        params.n_threads = params.n_threads_batch = torch.get_num_threads()
        params.flash_attn_type = 0
        params.type_k = params.type_v = F32
        self.context = self._read(self.library.llama_init_from_model(self.model, params), "a context")
        weakref.finalize(self, self.library.llama_free, self.context)
        self.room = num_tokens
        if self.adapter is not None:
            adapters, scales = (c_void_p * 1)(self.adapter), (c_float * 1)(1.0)
            self.library.llama_set_adapters_lora(self.context, adapters, 1, scales)

    def _read(self, handle: int | None, of: object) -> int:
        if not handle:
            raise OutputError(f"llama.cpp cannot read {of}: {_last_words()}")
        return handle


SAID: deque[str] = deque(maxlen=100)
"""What llama.cpp has told last."""


@LogCallback
def _hear(level: int, text: bytes, _: None) -> None:
    SAID.append(text.decode(errors="replace"))


def _last_words() -> str:
    return next((text.strip() for text in reversed(SAID) if "error" in text), "it does not say why")


@cache
def library() -> Any:
    """llama.cpp's functions; raises ``UnsupportedError`` where the wheel is of another kind."""
    import xllamacpp.xllamacpp

    found = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    try:
        for name, (result, arguments) in FUNCTIONS.items():
            getattr(found, name).restype, getattr(found, name).argtypes = result, arguments
    except AttributeError as error:
        raise _another(str(error)) from None
    defaults = found.llama_context_default_params()
    known = {
        "n_ctx": 512,
        "n_outputs_max_per_seq": 1,
        "flash_attn_type": -1,
        "yarn_beta_slow": -1.0,
        "type_k": F16,
        "type_v": F16,
    }
    for name, value in known.items():
        if getattr(defaults, name) != value:
            raise _another(f"{name} {getattr(defaults, name)} in place of {value}")
    found.llama_log_set(_hear, None)
    found.llama_backend_init()
    return found


def _another(what: str) -> UnsupportedError:
    return UnsupportedError(
        f"verifying gguf needs xllamacpp 2026.10, but the one that is installed has {what}; install it by "
        "`pip install 'xllamacpp==2026.10.*'`, or give --no-verify"
    )
