"""The base of all plain data that is stored or read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from jointsearch.errors import StudyError

Stored = TypeVar("Stored", bound=BaseModel)


class Record(BaseModel):
    """Frozen plain data that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def digest(value: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of the SHA-256 of ``value`` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_stored(kind: type[Stored], value: Any, what: str) -> Stored:
    """What a storage has of a ``kind``; raises ``StudyError`` where another version wrote it."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise StudyError(f"{what} must be as this version writes it, but {where}: {problem['msg']}") from None
