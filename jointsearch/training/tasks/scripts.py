"""Words of texts in any script, for metrics that were made for English.

rouge-score reads a-z and 0-9 alone, so that a text in another script has no words; sacreBLEU's usual
tokenizer takes a sentence that is written without spaces for one word.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

_WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "BOPOMOFO")
"""Scripts, as the names of their characters begin."""

_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"


@lru_cache(maxsize=50_000)
def _script(character: str) -> str:
    """``latin``, ``other`` or ``unspaced``; ``mark`` of what belongs to the letter before; else empty."""
    category = unicodedata.category(character)
    if category[0] == "M" or character in _JOINERS:
        return "mark"
    if category[0] not in "LN":
        return ""
    name = unicodedata.name(character, "")
    if name.startswith(_WITHOUT_SPACES):
        return "unspaced"
    return "latin" if character.isascii() or "LATIN" in name else "other"


class WordsOfAnyScript(Tokenizer):
    """Words as rouge-score has them in Latin script; in others those between spaces, or else characters."""

    def __init__(self) -> None:
        self._latin = DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        tokens: list[str] = []
        word = ""  # of letters of one kind
        kind = ""
        for character in f"{text} ":
            found = _script(character)
            if found == "mark" and kind in ("other", "unspaced"):
                word += character
                continue
            if word and (found != kind or kind == "unspaced"):
                tokens += self._latin.tokenize(word) if kind in ("latin", "mark") else [word.lower()]
                word = ""
            kind = found
            word += character if kind else ""
        return tokens


def bleu_tokenizer(texts: Iterable[str]) -> str:
    """sacreBLEU's tokenizer for texts of this kind: ``13a``, or one that parts what is written without
    spaces: ``zh`` of Chinese, ``char`` of other scripts."""
    letters = [character for text in texts for character in text if _script(character)]
    unspaced = [character for character in letters if _script(character) == "unspaced"]
    if len(unspaced) * 2 <= len(letters):
        return "13a"
    is_chinese = all(unicodedata.name(character).startswith("CJK") for character in unspaced)
    return "zh" if is_chinese else "char"
