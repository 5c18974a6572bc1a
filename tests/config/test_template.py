from __future__ import annotations

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
    "list": ["x"],
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
        ("{list} {a} {list}", "['x'] one ['x']", ["list", "a"]),
        ("{two words}", "yes", ["two words"]),
        ("100 % {a} \\n $a", "100 % one \\n $a", ["a"]),
    ],
)
def test_values_are_filled_in(template: str, text: str, columns: list[str]) -> None:
    assert CHECK.validate_python(template) == template
    assert fill(template, ROW) == text
    assert template_columns(template) == columns


@pytest.mark.parametrize(
    "field", ["missing", "none", "translation.fr", "translation.none", "translation.none.x", "a.b", "list.0"]
)
def test_a_missing_value_is_named(field: str) -> None:
    with pytest.raises(KeyError) as caught:
        fill(f"{{a}} {{{field}}}", ROW)
    assert caught.value.args == (field,)


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
