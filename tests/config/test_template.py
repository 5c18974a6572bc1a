from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from jointsearch.config.template import Template, fill, template_columns

CHECK = TypeAdapter(Template)

ROW = {
    "a": "one",
    "b": 0,
    "c": False,
    "none": None,
    "empty": "",
    "translation": {"en": "house", "de": "{Haus}", "deep": {"er": 3.5}, "none": None},
    "list": ["x", {"y": "z"}],
    "nan": float("nan"),
    "price": Decimal("18.50"),
    "day": datetime.date(2020, 1, 31),
    "bytes": b"x",
    "two words": "yes",
}


@pytest.mark.parametrize(
    ("template", "text", "columns"),
    [
        ("{a}", "one", ["a"]),
        ("Q: {a}\nA: {translation.en}", "Q: one\nA: house", ["a", "translation"]),
        ("{b}{c}", "0False", ["b", "c"]),
        ("<{empty}>", "<>", ["empty"]),
        ("{translation.deep.er} and {translation.de}", "3.5 and {Haus}", ["translation"]),
        ("{{{a}}} {{}} {{a}}", "{one} {} {a}", ["a"]),
        ("{list.0} {a} {list.1.y}", "x one z", ["list", "a"]),
        ("{price} {day}", "18.50 2020-01-31", ["price", "day"]),
        ("{two words}", "yes", ["two words"]),
        ("100 % {a} \\n $a", "100 % one \\n $a", ["a"]),
    ],
)
def test_values_are_filled_in(template: str, text: str, columns: list[str]) -> None:
    assert CHECK.validate_python(template) == template
    assert fill(template, ROW) == text
    assert template_columns(template) == columns


@pytest.mark.parametrize(
    "field",
    [
        "missing",
        "none",
        "translation.fr",
        "translation.none",
        "translation.none.x",
        "a.b",
        "list.2",
        "list.x",
        "nan",
    ],
)
def test_a_missing_value_is_named(field: str) -> None:
    with pytest.raises(KeyError) as caught:
        fill(f"{{a}} {{{field}}}", ROW)
    assert caught.value.args == (field,)


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("list", "; name a part of it, such as {list.0}"),
        ("list.1", "; name a part of it, such as {list.1.y}"),
        ("translation", "; name a part of it, such as {translation.en}"),
        ("bytes", ""),
    ],
)
def test_what_has_parts_is_not_written_in_pythons_words(field: str, hint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f" in '{field}', which is no text{hint}") + "$"):
        fill(f"{{a}} {{{field}}}", ROW)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("no column", "must name a column as {column}, but got 'no column'"),
        ("", "must name a column as {column}, but got ''"),
        ("{{a}}", "must name a column as {column}, but got '{{a}}'"),
        ("{a", "must be a text with {column} in it, but got '{a'"),
        ("a}", "must be a text with {column} in it, but got 'a}'"),
        ("{a} {", "must be a text with {column} in it"),
        ("{}", "must name columns as {column} or {column.key}, but got '{}'"),
        ("{a} {}", "must name columns as"),
        ("{.a}", "must name columns as"),
        ("{a.}", "must name columns as"),
        ("{a..b}", "must name columns as"),
        ("{a!r}", "must name columns as"),
        ("{a:>10}", "must name columns as"),
        ("{a:{b}}", "must name columns as"),
        ("{a[0]}", "must name columns as"),
    ],
)
def test_malformed_templates_are_refused(template: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CHECK.validate_python(template)
    assert message in str(caught.value)


@pytest.mark.parametrize("value", [3, None, ["{a}"]])
def test_a_template_is_a_text(value: Any) -> None:
    with pytest.raises(ValidationError):
        CHECK.validate_python(value)
