"""Whether the code that comes with a model may run: said on the machine that runs it, and nowhere else.

A study file, a plan or a database comes from somebody else as often as not. None of them can switch it on;
what they say of it is not read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

TRUST_REMOTE_CODE = "JOINTSEARCH_TRUST_REMOTE_CODE"
"""Environment variable: 1 where the code of models may run. Workers inherit it from what starts them."""

HOW = f"give --trust-remote-code, or set {TRUST_REMOTE_CODE}=1, where you trust who wrote it"


def trusts_remote_code() -> bool:
    """Whether this process may run the code of a model."""
    return os.environ.get(TRUST_REMOTE_CODE) == "1"


def trust_remote_code() -> None:
    """Let this process, and those that it starts, run the code of models."""
    os.environ[TRUST_REMOTE_CODE] = "1"


def not_from_here(_said: bool) -> bool:
    """What a file or a database says of it, as it is taken: no."""
    return False


def untold_trust(values: Mapping[str, Any]) -> str | None:
    """What is wrong where a study's valid ``values`` ask for trust that this machine has not given."""
    model = values.get("model")
    said = model.get("trust_remote_code", False) if isinstance(model, Mapping) else False
    if not TypeAdapter(bool).validate_python(said) or trusts_remote_code():
        return None
    return f"model.trust_remote_code: a file alone cannot let a model's code run; {HOW}"
