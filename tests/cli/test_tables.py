"""Tables on narrow and wide terminals and in pipes: what is left out, and that nothing is broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from jointsearch.cli import cli
from jointsearch.cli.tables import fitting, print_table
from jointsearch.plan.layout import ModelLayout
from jointsearch.study.full_runs import select_trial
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Create = Callable[..., StoredStudy]
Shown = Callable[..., str]

COLUMNS = ["trial", "loss", "size", "bits/weight", "trainable", "peak memory", ""]
ROWS = [["7", "2.1265", "49.48 kB", "5.79", "8.79%", "1.234 GB", "uniform 4-bit rank 4, knee, selected"]]
DROP = ("peak memory", "trainable", "bits/weight")


def test_columns_go_in_the_stated_order() -> None:
    # a line and two spaces for each column, and one line more; words count 28 at most
    widths = [5, 6, 8, 11, 9, 11, 28]
    whole = sum(widths) + 3 * 7 + 1
    assert fitting(COLUMNS, ROWS, whole, DROP) == [0, 1, 2, 3, 4, 5, 6]
    assert fitting(COLUMNS, ROWS, whole - 1, DROP) == [0, 1, 2, 3, 4, 6]
    assert fitting(COLUMNS, ROWS, whole - 14, DROP) == [0, 1, 2, 3, 4, 6]
    assert fitting(COLUMNS, ROWS, whole - 15, DROP) == [0, 1, 2, 3, 6]
    assert fitting(COLUMNS, ROWS, 10, DROP) == [0, 1, 2, 6]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Standard output is a terminal of that width from now on, as rich sees it."""

    def set_width(width: int) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(width))

    return set_width


@pytest.fixture
def shown(url: str) -> Shown:
    """What a command prints, without colours."""

    def invoke(*arguments: str) -> str:
        result = CliRunner().invoke(cli, [*arguments, "--storage", url], catch_exceptions=False)
        assert result.exit_code == 0
        return click.unstyle(result.stdout)

    return invoke


@pytest.fixture
def study(create: Create, layout: ModelLayout) -> StoredStudy:
    found = create(search={"trials": 12}, objectives=["loss", "model_bytes", "accuracy", "inference_rate"])
    Worker(found, FakeRunner(layout, noise=0.01)).run()
    select_trial(found.optuna_study, 0, "for a telephone that has little memory")
    return found


def headers(text: str) -> list[list[str]]:
    return [
        [name.strip() for name in line.split("┃")[1:-1]] for line in text.splitlines() if line.startswith("┃")
    ]


def test_the_front_has_all_columns_in_a_pipe_and_on_a_wide_terminal(
    study: StoredStudy, shown: Shown, terminal: Callable[[int], None]
) -> None:
    whole = ["trial", "loss", "accuracy", "inference_rate", *COLUMNS[2:]]
    piped = shown("front", "small")
    assert set(map(tuple, headers(piped))) == {tuple(whole)}
    assert max(map(len, piped.splitlines())) > 80
    terminal(200)
    assert headers(shown("front", "small")) == headers(piped)


def test_the_front_fits_80_columns(study: StoredStudy, shown: Shown, terminal: Callable[[int], None]) -> None:
    terminal(80)
    text = shown("front", "small")
    tables = [line for line in text.splitlines() if line[:1] in "┏┃┡│└"]
    assert max(map(len, tables)) <= 80
    assert set(map(tuple, headers(text))) == {("trial", "loss", "accuracy", "size", "")}
    for point in study.records().front:
        assert f"│ {point.number:>5} │ {point.values['loss']:.4f} │" in text


@pytest.mark.parametrize("arguments", [("study", "list"), ("study", "status", "small")], ids=" ".join)
def test_what_is_said_of_studies_fits_80_columns(
    study: StoredStudy, shown: Shown, terminal: Callable[[int], None], arguments: tuple[str, ...]
) -> None:
    whole = headers(shown(*arguments))
    terminal(80)
    text = shown(*arguments)
    assert max(map(len, text.splitlines())) <= 80
    assert [set(line) <= set(first) for line, first in zip(headers(text), whole, strict=True)]


def test_a_plan_fits_80_columns(
    study: StoredStudy, shown: Shown, terminal: Callable[[int], None], tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    shown("export", "small", "-o", str(path))
    terminal(80)
    text = click.unstyle(CliRunner().invoke(cli, ["plan", "show", str(path)]).stdout)
    assert max(map(len, text.splitlines())) <= 80
    assert headers(text)[0] == ["block", "embedding", "attention", "mlp"]


def test_the_status_has_no_internal_names(study: StoredStudy, shown: Shown) -> None:
    keys = json.loads(shown("study", "status", "small", "--format", "json")).keys()
    text = shown("study", "status", "small")
    internal = {key for key in keys if "_" in key} | {"of ", "wanted", "left "}
    assert internal > {"steps_saved", "probe_correlation", "stopped_early", "seconds_left", "full_runs"}
    assert [name for name in internal if f"│ {name}" in text] == []
    assert "12 complete; 0 left (the search has 12)" in text
    assert "│ workers are to  │ take trials " in text
    shown("study", "pause", "small")
    assert "│ workers are to  │ finish their trials and wait " in shown("study", "status", "small")


def test_long_cells_of_figures_are_folded_not_cut(
    terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(40)
    cell = " | ".join(f"{bits} bit r{rank}" for bits in (4, 8, 16) for rank in (4, 8, 16))
    print_table(["block", "attention"], [["layers.0", cell]])
    printed = click.unstyle(capsys.readouterr().out)
    assert max(map(len, printed.splitlines())) <= 40
    inside = [line.split("│")[2] for line in printed.splitlines() if line.startswith("│")]
    assert " ".join(" ".join(inside).split()) == cell
