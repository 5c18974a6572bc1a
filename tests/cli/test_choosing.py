"""From the front to a plan: `front`, `select`, `export`, `plan show`, `compare-outputs`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner, Result

from jointsearch.cli import cli
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan_file import read_plan
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy

FIXTURES = Path(__file__).parents[1] / "fixtures"
LAYOUT = ModelLayout.model_validate_json((FIXTURES / "layout.json").read_text())
Run = Callable[..., Result]


def test_front_is_the_same_in_json_csv_and_the_table(run: Run, records: StudyRecords) -> None:
    rows = json.loads(run("front", "small", "--format", "json").stdout)
    front = [row for row in rows if row["on_front"]]
    assert [row["trial"] for row in front] == [trial.number for trial in records.front]
    assert [row["model_bytes"] for row in front] == sorted(row["model_bytes"] for row in front)
    assert [row["loss"] for row in front] == sorted((row["loss"] for row in front), reverse=True)
    others = {row["label"] for row in rows if not row["on_front"]}
    assert {row["label"] for row in rows if row["label"]} == {
        trial.origin.name for trial in records.baselines
    }
    assert "" not in others
    assert [row["knee"] for row in rows].count(True) == 1
    assert not any(row["selected"] for row in rows)
    for row in rows:
        trial = records.trials[row["trial"]]
        cost = plan_cost(LAYOUT, trial.plan)
        assert (row["loss"], row["model_bytes"]) == tuple(trial.values.values())
        assert row["model_bytes"] == cost.model_bytes
        assert row["trainable_parameters"] == cost.trainable_parameters

    read = list(csv.DictReader(io.StringIO(run("front", "small", "--format", "csv").stdout)))
    written = [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]
    assert written == read

    table = run("front", "small").stdout
    assert "Pareto front of 'small'" in table
    assert ("Uniform and named plans that are not on it" in table) is bool(others)
    for row in rows:
        assert f"{row['loss']:.4f}" in table
        assert row["label"] in table


def test_select_by_bytes_loss_knee_and_trial(run: Run, records: StudyRecords, small: StoredStudy) -> None:
    front = [(trial.number, *trial.values.values()) for trial in records.front]
    assert len(front) >= 3
    number, loss, size = front[1]

    def selected(*arguments: str) -> int:
        printed = json.loads(run("select", "small", *arguments, "--format", "json").stdout)
        rows = json.loads(run("front", "small", "--format", "json").stdout)
        marked = [row["trial"] for row in rows if row["selected"]]
        shown = [row["trial"] for row in rows if row["trial"] == printed["trial"]]
        assert marked == shown
        assert printed["loss"] == records.trials[printed["trial"]].values["loss"]
        return int(printed["trial"])

    assert selected("--max-bytes", str(int(size))) == number
    assert selected("--max-bytes", str(int(size) - 1)) == front[0][0]
    assert selected("--max-bytes", "1GB") == front[-1][0]
    assert selected("--max-loss", repr(loss)) == number
    assert selected("--max-loss", "100") == front[0][0]
    assert selected("--trial", "1") == 1
    rows = json.loads(run("front", "small", "--format", "json").stdout)
    assert selected("--knee") == next(row["trial"] for row in rows if row["knee"])
    text = run("select", "small", "--trial", "0").stdout
    assert text.startswith("selected loss ")
    assert text.endswith("(trial 0, uniform 4-bit rank 0)\n")


def test_any_quality_can_bound_the_selection(run: Run, records: StudyRecords) -> None:
    second = records.front[1]
    loss = second.values["loss"]
    assert json.loads(run("select", "small", "--quality", repr(loss), "--format", "json").stdout) == {
        "trial": second.number,
        **second.values,
    }


def test_selections_have_notes_and_are_withdrawn(run: Run) -> None:
    run("select", "small", "--trial", "0", "--note", "small\nand quick")
    run("select", "small", "--trial", "1")
    status = json.loads(run("study", "status", "small", "--format", "json").stdout)
    assert status["selected"] == 1
    assert [(entry["trial"], entry["note"], entry["state"]) for entry in status["full_runs"]] == [
        (0, "small\nand quick", "waiting"),
        (1, "", "waiting"),
    ]
    assert "and quick" in run("study", "status", "small").stdout
    withdrawn = run("select", "small", "--withdraw", "1", "--format", "json")
    assert json.loads(withdrawn.stdout) == {"withdrawn": 1}
    assert run("select", "small", "--withdraw", "0").stdout == "trial 0 is not selected any more\n"
    status = json.loads(run("study", "status", "small", "--format", "json").stdout)
    assert (status["selected"], status["full_runs"]) == (None, [])


def test_export_writes_the_selection_or_the_knee(run: Run, records: StudyRecords, tmp_path: Path) -> None:
    rows = json.loads(run("front", "small", "--format", "json").stdout)
    result = run("export", "small", "-o", "knee.json")
    assert result.stdout == ""
    content = read_plan(tmp_path / "knee.json")
    assert content.origin is not None
    assert content.origin.trial == next(row["trial"] for row in rows if row["knee"])
    assert f"wrote knee.json: trial {content.origin.trial} of 'small', " in result.stderr

    run("select", "small", "--trial", "1")
    run("export", "small", "--output", "one.json")
    content = read_plan(tmp_path / "one.json")
    assert content.plan == records.trials[1].plan
    assert content.cost.model_bytes == records.trials[1].values["model_bytes"]


def test_export_makes_folders_and_overwrites_only_when_asked(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "new" / "folder" / "plan.json"
    run("export", "small", "-o", str(output))
    output.write_text("mine")
    refused = CliRunner().invoke(cli, ["export", "small", "-o", str(output)])
    assert refused.exit_code != 0
    assert output.read_text() == "mine"
    run("export", "small", "-o", str(output), "--force")
    assert read_plan(output).plan


def test_export_says_what_another_trainer_has_not(run: Run, tmp_path: Path) -> None:
    result = run("export", "small", "-o", "axolotl.yaml", "--to", "axolotl")
    assert "axolotl has no data of the installed package json" in result.stderr
    assert "# It has no data of the installed package json" in (tmp_path / "axolotl.yaml").read_text()


def test_plan_show(run: Run, records: StudyRecords) -> None:
    run("select", "small", "--trial", "1")
    run("export", "small", "-o", "plan.json")
    shown = json.loads(run("plan", "show", "plan.json", "--format", "json").stdout)
    assert shown["digest"] == records.trials[1].digest
    assert shown["model"] == "some/model"
    assert shown["model_bytes"] == records.trials[1].values["model_bytes"]
    assert shown["modules"]["embed"] == {"bits": 4, "rank": 0}
    assert shown["modules"]["layers.1.mlp.up"] == {"bits": 4, "rank": 4}
    assert shown["left_out"] == LAYOUT.left_out
    table = run("plan", "show", "plan.json").stdout
    assert table.count("4 bit r4") == 4  # attention and mlp of two blocks
    assert f"({shown['model_bytes']})" in table
    assert "study 'small', trial 1 (uniform 4-bit rank 4)" in table
    assert "left at 16 bits: router" in table


def test_outputs_side_by_side(run: Run, records: StudyRecords, tmp_path: Path) -> None:
    losses = [trial.measurement.metrics["loss"] for trial in records.trials[:2]]
    pair = {"input": "2 + 2 =", "reference": "4", "A": f"{4 + losses[0]:.3f}", "B": f"{4 + losses[1]:.3f}"}
    shown = run("compare-outputs", "small:0", "small:1", "--format", "json").stdout
    assert json.loads(shown) == {"A": "small:0", "B": "small:1", "examples": [pair]}
    text = run("compare-outputs", "small:0", "small:0").stdout
    assert text.splitlines() == [
        "1. 2 + 2 =",
        "   reference: 4",
        f"   small:0: {pair['A']}",
        f"   small:0: {pair['A']} (the same)",
    ]
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({"examples": [{**pair, "output": "4"}]}))
    beside = json.loads(run("compare-outputs", "small:1", str(folder), "--format", "json").stdout)
    assert beside["examples"] == [{**pair, "A": pair["B"], "B": "4"}]
