"""Which tokens of a text a model learns: those of the parts of the text that it is to write.

The whole text is tokenized at once, as a model reads it: what is tokenized apart has other tokens where two
parts meet ("A:" + " red" can become "A", ":", "▁", "▁red").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
"""From a character up to another one, which is outside."""


def learned_tokens(
    tokenizer: PreTrainedTokenizerBase, text: str, spans: list[Span], *, special: bool
) -> tuple[list[int], list[bool]]:
    """The tokens of ``text``, and whether each has characters of ``spans``.

    With ``special``, what the tokenizer puts before a text is there, and never learned; what it puts after
    one is not.
    """
    if not tokenizer.is_fast:
        return _by_beginnings(tokenizer, text, spans, special)
    encoded = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, verbose=False)
    ids, owners = encoded["input_ids"], encoded.sequence_ids(0)
    while owners and owners[-1] is None:
        owners.pop()
    offsets = encoded["offset_mapping"][: len(owners)]
    return ids[: len(owners)], [
        owner is not None and any(_has(token, span) for span in spans)
        for owner, token in zip(owners, offsets, strict=True)
    ]


def shared_length(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How far two sequences are equal from their beginning."""
    length = min(len(one), len(other))
    return next((at for at in range(length) if one[at] != other[at]), length)


def _has(token: Span, span: Span) -> bool:
    first, end = token
    if first == end:  # a space, which byte-level tokenizers leave out of their offsets
        first -= 1
    return end > span[0] and first < span[1]


def _by_beginnings(
    tokenizer: PreTrainedTokenizerBase, text: str, spans: list[Span], special: bool
) -> tuple[list[int], list[bool]]:
    """Without offsets: a token is before a character if the text up to there has it too."""

    def tokens(part: str) -> list[int]:
        ids: list[int] = tokenizer(part, add_special_tokens=special, verbose=False)["input_ids"]
        ends = {tokenizer.eos_token_id, tokenizer.sep_token_id} if special else set()
        while ids and ids[-1] in ends:
            ids.pop()
        return ids

    ids = tokens(text)
    bounds = [[shared_length(ids, tokens(text[:at])) for at in span] for span in spans]
    return ids, [any(first <= at < end for first, end in bounds) for at in range(len(ids))]
