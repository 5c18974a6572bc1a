"""No file and no database lets the code of a model run: the machine that runs it says so."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from jointsearch.cli import cli
from jointsearch.config.problems import study_from
from jointsearch.config.study import StudyConfig
from jointsearch.config.trust import TRUST_REMOTE_CODE
from jointsearch.config.yaml_file import read_study
from jointsearch.errors import StudyFileError
from jointsearch.launchers import Fleet

FIXTURES = Path(__file__).parents[1] / "fixtures"
ASKS = "  trust_remote_code: true"


@pytest.fixture
def asking(tmp_path: Path) -> Path:
    """A study file that wants its model's code to run."""
    text = (FIXTURES / "study.yaml").read_text()
    path = tmp_path / "study.yaml"
    path.write_text(text.replace("  id: some/model\n", f"  id: ./model\n{ASKS}\n"))
    return path


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is said; what a command says is taken back."""
    monkeypatch.setenv(TRUST_REMOTE_CODE, "0")
    yield


@pytest.mark.usefixtures("untold")
@pytest.mark.parametrize("said", ["", "0", "yes", "true"])
def test_a_file_that_asks_is_refused_in_one_line(
    asking: Path, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRUST_REMOTE_CODE, said)
    number = asking.read_text().splitlines().index(ASKS) + 1
    with pytest.raises(StudyFileError) as caught:
        read_study(asking)
    assert str(caught.value).startswith(f"{asking}:{number}: model.trust_remote_code: a file alone cannot")
    assert "--trust-remote-code" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_with_the_machine_s_word_it_is_read(asking: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRUST_REMOTE_CODE, "1")
    assert read_study(asking).model.id == str(asking.parent / "model")


@pytest.mark.usefixtures("untold")
def test_values_of_python_are_asked_the_same(asking: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = read_study(FIXTURES / "study.yaml").model_dump(mode="json")
    values["model"]["trust_remote_code"] = True
    with pytest.raises(StudyFileError, match="a file alone cannot let a model's code run"):
        study_from(values)
    monkeypatch.setenv(TRUST_REMOTE_CODE, "1")
    assert study_from(values).model.id == values["model"]["id"]


def test_what_is_stored_of_it_is_not_taken() -> None:
    """A study of 0.1.0 may have it; it is the same study without."""
    values = read_study(FIXTURES / "study.yaml").model_dump(mode="json")
    asks = StudyConfig.model_validate({**values, "model": {**values["model"], "trust_remote_code": True}})
    assert asks == StudyConfig.model_validate(values)


@pytest.mark.usefixtures("untold")
def test_the_option_is_the_environment_variable() -> None:
    """So that workers which the command starts, or which run elsewhere, have it."""

    def of_models(*options: str) -> str:
        arguments = ["doctor", "--format", "json", "--storage", "sqlite:///none.db", *options]
        result = CliRunner().invoke(cli, arguments)
        return str(json.loads(result.stdout)["code of models"])

    assert of_models() == "does not run"
    assert not passed_on()
    assert of_models("--trust-remote-code") == "may run"
    assert os.environ[TRUST_REMOTE_CODE] == "1"
    assert passed_on()


def passed_on() -> bool:
    """Whether a worker that is started now may run the code of models."""
    fleet = Fleet("s", "sqlite:///x.db", ("cpu",), lambda: None, print, lambda: None, {})
    assert fleet.command[0] == sys.executable
    return fleet.environment.get(TRUST_REMOTE_CODE) == "1"


@pytest.mark.parametrize(
    "command", ["study start", "study create", "worker", "train", "evaluate", "doctor", "compare"]
)
def test_every_command_that_loads_a_model_has_the_option(command: str) -> None:
    assert "--trust-remote-code" in CliRunner().invoke(cli, [*command.split(), "--help"]).output
