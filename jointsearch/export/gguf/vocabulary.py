"""A fast tokenizer as llama.cpp's: two kinds, told apart by what ``tokenizer.json`` says.

    gpt2    byte-level BPE: tokens, merges, and the name of what splits a text before they apply
    llama   SentencePiece's BPE, with bytes for what has no piece: tokens and scores, the higher the earlier
            two pieces are merged into this one

What splits a text has but a name in GGUF; those are known whose splits are the same.
"""

from __future__ import annotations

import json
from typing import Any

from gguf import TokenType

from jointsearch.errors import PlanError

GPT2 = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_2 = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")

SPLITS = {
    (GPT2,): "gpt-2",
    ("digits", GPT2): "smollm",
    (LLAMA_3,): "llama-bpe",
    (QWEN_2,): "qwen2",
}
"""llama.cpp's names of the expressions that a text is split by, one after another."""

SPECIAL = ("bos", "eos", "unk", "pad")


def vocabulary(tokenizer: Any, size: int) -> dict[str, Any]:
    """The metadata under ``tokenizer.`` by key, for a model of ``size`` rows of embeddings.

    Raises ``PlanError`` where llama.cpp has no such tokenizer.
    """
    saved = json.loads(tokenizer.backend_tokenizer.to_str())
    model = saved["model"]
    if model["type"] != "BPE":
        raise PlanError(
            f"for llama.cpp tokenizers are BPE, but the run's is {model['type']}; use --to merged"
        )
    is_bytes = not model["byte_fallback"]
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    tokens += [f"[PAD{at}]" for at in range(len(tokens), size)]
    kinds = [_kind(tokenizer, at, token, is_bytes) for at, token in enumerate(tokens[: len(tokenizer)])]
    kinds += [TokenType.UNUSED] * (len(tokens) - len(kinds))
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    found: dict[str, Any] = {
        "ggml.model": "gpt2" if is_bytes else "llama",
        "ggml.tokens": tokens,
        "ggml.token_type": [int(kind) for kind in kinds],
        "ggml.add_bos_token": _adds(tokenizer, tokenizer.bos_token_id, 0),
        "ggml.add_eos_token": _adds(tokenizer, tokenizer.eos_token_id, -1),
    }
    if is_bytes:
        found["ggml.pre"] = _split(saved)
        found["ggml.merges"] = [" ".join(pair) for pair in pairs]
    else:
        ranks: dict[str, int] = {}
        for rank, pair in enumerate(pairs):
            ranks.setdefault("".join(pair), rank)
        found["ggml.scores"] = [-float(ranks.get(token, len(pairs))) for token in tokens]
        found["ggml.add_space_prefix"] = tokenizer.tokenize("a")[0].startswith("▁")
    for name, key in zip(SPECIAL, ("bos", "eos", "unknown", "padding"), strict=True):
        if (token := getattr(tokenizer, f"{name}_token_id")) is not None:
            found[f"ggml.{key}_token_id"] = token
    if isinstance(tokenizer.chat_template, str):
        found["chat_template"] = tokenizer.chat_template
    return found


def _kind(tokenizer: Any, at: int, token: str, is_bytes: bool) -> TokenType:
    added = tokenizer.added_tokens_decoder.get(at)
    if not is_bytes and at == tokenizer.unk_token_id:
        return TokenType.UNKNOWN
    if added is not None:
        return TokenType.CONTROL if added.special else TokenType.USER_DEFINED
    if not is_bytes and len(token) == 6 and token.startswith("<0x"):
        return TokenType.BYTE
    return TokenType.NORMAL


def _adds(tokenizer: Any, token: int | None, at: int) -> bool:
    """Whether a text gets that token at its beginning, 0, or its end, -1."""
    plain, found = (tokenizer("a", add_special_tokens=adds)["input_ids"] for adds in (False, True))
    return token is not None and found != plain and found[at] == token


def _split(saved: dict[str, Any]) -> str:
    """llama.cpp's name of what splits a text before byte-level merges apply."""
    before = saved["pre_tokenizer"] or {}
    parts = before["pretokenizers"] if before.get("type") == "Sequence" else [before]
    steps: list[str] = []
    for part in parts:
        match part:
            case {"type": "Digits", "individual_digits": True}:
                steps.append("digits")
            case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
                steps.append(pattern)
            case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": uses}:
                steps += [GPT2] if uses else []
            case _:
                steps.append(str(part.get("type")))
    name = SPLITS.get(tuple(steps))
    if not name:
        raise PlanError(
            "for llama.cpp a text is split as by GPT-2, SmolLM, Llama 3 or Qwen 2, but the run's tokenizer "
            f"splits it by {' then '.join(steps)}; use --to merged"
        )
    return name
