"""What makes two studies the same, and how they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from fixtures.study_text import VALID, from_values, write
from jointsearch.config.fields import NOT_IDENTITY
from jointsearch.config.study import StudyConfig, differences
from jointsearch.config.yaml_file import read_study


def test_digest_is_the_same_whatever_the_order_of_keys(tmp_path: Path) -> None:
    turned = """\
task:
  data: {package: json}
  type: causal-lm
model: {id: some/model}
search_space:
  ranks: [16, 0, 8, 4]
"""
    assert read_study(write(tmp_path, turned)).digest == read_study(write(tmp_path, VALID)).digest


@pytest.mark.parametrize(
    "change",
    [
        {"search": {"trials": 7}},
        {"description": "something else"},
        {"full_run": {"epochs": 9}},
    ],
)
def test_what_finished_trials_do_not_depend_on_is_no_part_of_the_identity(change: dict[str, Any]) -> None:
    assert from_values(**change) != from_values()
    assert from_values(**change).digest == from_values().digest
    assert differences(from_values().identity, from_values(**change).identity) == []


def marked(model: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        if NOT_IDENTITY in field.metadata:
            found.add(prefix + name)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= marked(field.annotation, f"{prefix}{name}.")
    return found


def test_what_a_studys_trials_do_not_depend_on() -> None:
    assert marked(StudyConfig) == {
        "description",
        "full_run",
        "search_space.max_model_bytes",
        "search_space.max_training_memory",
        "search.trials",
        "search.repeats",
        "search.finals",
        "search.stop",
        "search.probe",
        "search.early_stopping",
        "calibration.max_seconds",
        "calibration.checkpoint_every",
    }


def test_the_identity_is_all_but_the_marked_fields() -> None:
    overrides = [{"group": "*.mlp", "bits": [16, 4]}]
    config = from_values(search_space={"overrides": overrides}, search={"stop": {"when": "converged"}})
    rest = config.model_dump(mode="json")
    for path in marked(StudyConfig):
        *parents, name = path.split(".")
        del (rest[parents[0]] if parents else rest)[name]
    assert config.identity == rest


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"calibration": {"steps": 80}}, "calibration.steps: 60 -> 80"),
        ({"search": {"sampler": "tpe"}}, "search.sampler: additive -> tpe"),
        ({"search": {"seed": 1}}, "search.seed: 0 -> 1"),
        ({"lora": {"dtype": "bfloat16"}}, "lora.dtype: float32 -> bfloat16"),
        ({"search_space": {"ranks": [0, 4]}}, "search_space.ranks: [0, 4, 8, 16] -> [0, 4]"),
        ({"model": {"id": "other"}}, "model.id: some/model -> other"),
    ],
)
def test_a_change_that_matters_is_said(change: dict[str, Any], difference: str) -> None:
    assert from_values(**change).digest != from_values().digest
    assert differences(from_values().identity, from_values(**change).identity) == [difference]


def test_differences_of_keys_that_only_one_side_has() -> None:
    old = {"a": {"b": 1, "c": 2}, "same": [1]}
    new = {"a": {"b": 1, "d": 3}, "same": [1], "e": "x"}
    assert differences(old, new) == ["a.c: 2 -> (none)", "a.d: (none) -> 3", "e: (none) -> x"]
