"""The schema takes what jointsearch takes; the file for editors is fresh."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from jointsearch.cli import cli
from jointsearch.config.schema import schema_text, study_schema
from jointsearch.config.yaml_file import read_study

STUDIES = Path(__file__).parents[2] / "studies"
READY = sorted(STUDIES.glob("*.yaml"))
SMALL = {"model": {"id": "a/b"}, "task": {"type": "causal-lm", "data": {"hub": "c/d"}}}


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(study_schema())
    return Draft202012Validator(study_schema())


def test_the_file_for_editors_is_fresh() -> None:
    assert (STUDIES / "study.schema.json").read_text(encoding="utf-8") == schema_text(), "run `make schema`"


def test_the_command_prints_and_writes_it(tmp_path: Path) -> None:
    assert CliRunner().invoke(cli, ["schema"]).stdout == schema_text()
    output = tmp_path / "new" / "schema.json"
    assert CliRunner().invoke(cli, ["schema", "-o", str(output)]).exit_code == 0
    assert output.read_text(encoding="utf-8") == schema_text()


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_ready_study_files_are_valid_and_name_the_schema(validator: Draft202012Validator, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[1] == "# yaml-language-server: $schema=study.schema.json"
    assert [error.message for error in validator.iter_errors(yaml.safe_load(text))] == []
    # and so is everything that such a file can say
    written = read_study(path).model_dump(mode="json")
    assert [error.message for error in validator.iter_errors(written)] == []


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"serach": {}}, []),
        ({"model": "a/b"}, ["model"]),
        ({"search": {"sampler": "nsga"}}, ["search", "sampler"]),
        ({"search_space": {"enqueue": ["lora"]}}, ["search_space", "enqueue", 0]),
        ({"search_space": {"ranks": [4, -1]}}, ["search_space", "ranks", 1]),
        ({"lora": {"variant": "lorra"}}, ["lora", "variant"]),
        ({"objectives": ["loss", "model_byte"]}, ["objectives", 1]),
        ({"task": {**SMALL["task"], "type": "causal-ml"}}, ["task"]),
        ({"task": {**SMALL["task"], "sequence_lenght": 64}}, ["task"]),
        ({"name": "a b"}, ["name"]),
        ({"device": "gpu"}, ["device"]),
    ],
)
def test_a_mistake_is_marked_where_it_is(
    validator: Draft202012Validator, changes: dict[str, Any], place: list[Any]
) -> None:
    assert not list(validator.iter_errors(SMALL))
    assert [list(error.absolute_path) for error in validator.iter_errors({**SMALL, **changes})] == [place]


def settings(schema: dict[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in schema.get("properties", {}).items():
        yield f"{place}.{name}", value
    for key in ("$defs", "properties"):
        for name, value in schema.get(key, {}).items():
            yield from settings(value, f"{place}.{name}")
    for number, value in enumerate(schema.get("oneOf", [])):
        yield from settings(value, f"{place}.{number}")


def test_every_setting_says_what_it_is() -> None:
    found = dict(settings(json.loads(schema_text())))
    assert len(found) > 90
    assert [place for place, value in found.items() if len(value.get("description", "")) < 8] == []
