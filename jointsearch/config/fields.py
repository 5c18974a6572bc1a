"""What fields of study files are made of: positive numbers, texts of a pattern, registered names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from jointsearch.errors import either

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
