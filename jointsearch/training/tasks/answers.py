"""Answers in texts that a model has written, compared as a person would: 18 is 18.00, $1,234 is 1234."""

from __future__ import annotations

import re
from fractions import Fraction
from string import Formatter

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?|[+-]?\d+\s*/\s*\d+")
_AROUND_NUMBERS = re.compile(r"^[$€£¥₹]\s*|(?<=[+-])[$€£¥₹]|\s*[%$€£¥₹]?\.?$")


def answer(text: str, pattern: str | None) -> str | None:
    """The last match of the pattern's group without commas between digits; the whole text without pattern."""
    if pattern is None:
        return text.strip()
    found = re.findall(pattern, text)
    return re.sub(r"(?<=\d),(?=\d{3})", "", found[-1]).strip() if found else None


def number_of(text: str) -> Fraction | None:
    """The number that a text is, without currency, percent sign or full stop; None if it is no number."""
    plain = _AROUND_NUMBERS.sub("", text.replace("\N{MINUS SIGN}", "-").strip())
    if not _NUMBER.fullmatch(plain):
        return None
    try:
        return Fraction(plain.replace(" ", ""))
    except ZeroDivisionError:
        return None


def is_same(one: str | None, other: str | None) -> bool:
    """Whether two answers are equal as texts or as numbers; no answer is equal to none."""
    if one is None or other is None:
        return False
    if one == other:
        return True
    number = number_of(one)
    return number is not None and number == number_of(other)


def exact_match(texts: list[str], references: list[str], pattern: str | None) -> float:
    """The share of texts whose answer is the reference's; a text without an answer is wrong."""
    hits = 0
    for text, reference in zip(texts, references, strict=True):
        found, wanted = answer(text, pattern), answer(reference, pattern)
        hits += found == wanted if pattern is None else is_same(found, wanted)
    return hits / len(texts)


def before_next_prompt(text: str, prompt_template: str, reference: str = "") -> str:
    """``text`` up to where a model goes on with another prompt: a line that begins as the template does.

    Of a template that begins with a value it is what follows that value, on a line that the ``reference``
    does not have.
    """
    lines = [literal.strip().partition("\n")[0] for literal, *_ in Formatter().parse(prompt_template)]
    if len("".join(lines[:1])) > 1:
        lines = lines[:1]
    else:
        lines = [line for line in lines if f"\n{line}" not in reference]
    found = [at for line in lines if len(line) > 1 and (at := text.find(f"\n{line}")) >= 0]
    return text[: min(found)] if found else text
