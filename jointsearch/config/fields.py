"""What fields of study files are made of: positive numbers, texts of a pattern, registered names, marks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from jointsearch.errors import either

Kind = TypeVar("Kind", bound=BaseModel)

Positive = Annotated[int, Field(gt=0)]


@dataclass(frozen=True)
class Pattern:
    """A text that matches a regular expression, which a mistake is not answered with."""

    pattern: str
    words: str
    """The pattern, as a person says it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^({self.pattern})$"}

    def _checked(self, text: str) -> str:
        if re.fullmatch(self.pattern, text) is None:
            raise ValueError(f"must be {self.words}, but got {text!r}")
        return text


@dataclass(frozen=True)
class _NotIdentity:
    pass


NOT_IDENTITY = _NotIdentity()
"""Marks a field that may change while a study runs: its finished trials do not depend on it."""


@dataclass(frozen=True)
class Formerly:
    """Marks a field by the default that it had before: a study that was made with it goes on with it."""

    default: Any


def with_former_defaults(record: Kind, stored: BaseModel) -> Kind:
    """``record`` with what ``stored`` has in fields that it leaves open, where that was the default once."""
    changes: dict[str, Any] = {}
    for name, field in type(record).model_fields.items():
        now, before = getattr(record, name), getattr(stored, name, None)
        if isinstance(now, BaseModel) and isinstance(before, BaseModel):
            resumed = with_former_defaults(now, before)
            changes |= {name: resumed} if resumed is not now else {}
        elif name not in record.model_fields_set and Formerly(before) in field.metadata:
            changes[name] = before
    return record.model_copy(update=changes) if changes else record


def identity_of(record: BaseModel) -> dict[str, Any]:
    """All fields as JSON but those that are marked ``NOT_IDENTITY``, in whatever record they are."""
    identity: dict[str, Any] = _marked_left_out(record, record.model_dump(mode="json"))
    return identity


def _marked_left_out(value: Any, dumped: Any) -> Any:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        kept = [name for name in fields if NOT_IDENTITY not in fields[name].metadata]
        return {name: _marked_left_out(getattr(value, name), dumped[name]) for name in kept}
    if isinstance(value, tuple | list):
        return [_marked_left_out(*pair) for pair in zip(value, dumped, strict=True)]
    if isinstance(value, dict):
        pairs = zip(value.values(), dumped.items(), strict=True)
        return {key: _marked_left_out(item, shown) for item, (key, shown) in pairs}
    return dumped


def _all(thing: Any) -> bool:
    return True


@dataclass(frozen=True, eq=False)
class Known:
    """The name of something that is registered: ``Annotated[str, Known(SAMPLERS)]``."""

    registry: Mapping[str, Any]
    where: Callable[[Any], bool] = _all
    """Which things of the registry can be named."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "enum": self._choices}

    @property
    def _choices(self) -> list[str]:
        return [name for name in self.registry if self.where is _all or self.where(self.registry[name])]

    def _checked(self, name: str) -> str:
        if name not in self.registry or not (self.where is _all or self.where(self.registry[name])):
            raise PydanticKnownError("literal_error", {"expected": either(self._choices)})
        return name
