"""Templates over the columns of a data set: ``translate English to German: {translation.en}``.

``{name}`` is a column, ``{name.key}`` a value inside of one, ``{name.0}`` the first of a list; ``{{`` and
``}}`` are braces.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from numbers import Number
from string import Formatter
from typing import Annotated, Any

from pydantic import AfterValidator

from jointsearch.errors import one_line

_PLAIN = (str, Number, datetime.date, datetime.time)
"""Values that are written as a person would; a list would be written in Python's words."""


def _fields(template: str) -> list[str]:
    return [field for _, field, _, _ in Formatter().parse(template) if field is not None]


def _checked(template: str) -> str:
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"must be a text with {{column}} in it, but got {template!r} ({error})") from None
    for _, field, spec, conversion in parts:
        if field is not None and (not all(field.split(".")) or spec or conversion or "[" in field):
            raise ValueError(f"must name columns as {{column}} or {{column.key}}, but got {template!r}")
    if not _fields(template):
        raise ValueError(f"must name a column as {{column}}, but got {template!r}")
    return template


Template = Annotated[str, AfterValidator(_checked)]
"""A text with at least one ``{column}``."""


def template_columns(template: str) -> list[str]:
    """The columns that the template reads."""
    return list(dict.fromkeys(field.split(".")[0] for field in _fields(template)))


def fill(template: str, row: Mapping[str, Any]) -> str:
    """The template with the row's values; raises ``KeyError`` with the field that the row lacks,
    ``ValueError`` with what is wrong with a row whose value is no text."""
    text = ""
    for literal, field, _, _ in Formatter().parse(template):
        text += literal
        if field is not None:
            value = _value(field, row)
            value_text = as_text(value)
            if value_text is None:
                raise ValueError(
                    f"has {one_line(repr(value), 60)} in '{field}', which is no text{_hint(field, value)}"
                )
            text += value_text
    return text


def as_text(value: Any) -> str | None:
    """A plain value as a template writes it; None where there is none, or one that has parts."""
    is_missing = isinstance(value, float) and value != value  # as tables of numbers say that there is none
    return str(value) if not is_missing and isinstance(value, _PLAIN) else None


def _value(field: str, row: Mapping[str, Any]) -> Any:
    value: Any = row
    for key in field.split("."):
        if isinstance(value, list) and key.isdecimal():
            value = value[int(key)] if int(key) < len(value) else None
        else:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None or (isinstance(value, float) and value != value):
            raise KeyError(field)
    return value


def _hint(field: str, value: Any) -> str:
    if not isinstance(value, Mapping | list) or not value:
        return ""
    part = next(iter(value)) if isinstance(value, Mapping) else 0
    return f"; name a part of it, such as {{{field}.{part}}}"
