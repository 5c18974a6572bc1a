"""Templates over the columns of a data set: ``translate English to German: {translation.en}``.

``{name}`` is a column, ``{name.key}`` a value inside of one; ``{{`` and ``}}`` are braces.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Annotated, Any

from pydantic import AfterValidator


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
    """The template with the row's values; raises ``KeyError`` with the field that the row lacks."""
    text = ""
    for literal, field, _, _ in Formatter().parse(template):
        text += literal
        if field is not None:
            value: Any = row
            for key in field.split("."):
                if not isinstance(value, Mapping) or value.get(key) is None:
                    raise KeyError(field)
                value = value[key]
            text += str(value)
    return text
