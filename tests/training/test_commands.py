"""The whole way by hand, as a user goes it: commands that really train; signals and workers as processes."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jointsearch.study.full_runs import full_runs, select_trial, withdraw_trial
from jointsearch.study.plans import complete_trial
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.study import open_study

Command = Callable[..., Any]
WaitFor = Callable[..., None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory that holds the storage, the plan and the run."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def run(command: Command, folder: Path) -> Command:
    """Runs a command there that must succeed."""
    return lambda *arguments: command(*arguments, folder=folder)


@pytest.fixture(scope="module")
def refused(command: Command, folder: Path) -> Callable[..., str]:
    """The one line that a mistake gets; nothing else is printed."""

    def refuse(*arguments: str, where: Path = folder) -> str:
        done = command(*arguments, folder=where, status=2)
        assert done.stdout == ""
        *before, line = done.stderr.strip().splitlines()
        # what fits the machine is said before the data are read
        assert not before or (arguments[:2] == ("study", "start") and len(before) == 2)
        assert line.startswith("Error: ")
        return str(line)

    return refuse


@pytest.fixture(scope="module")
def study(run: Command, study_file: Path) -> str:
    """A study of five trials, run in two goes."""
    first = run("study", "start", str(study_file), "--trials", "3")
    assert "3 complete, 0 failed; finished" in first.stderr
    second = run("study", "start", str(study_file), "--trials", "5")
    assert "[4/5]" in second.stderr
    assert "[3/5]" not in second.stderr  # what is finished is not run again
    assert first.stdout == second.stdout == ""
    return "tiny"


def test_front_select_export_train_evaluate(study: str, run: Command, refused: Callable[..., str]) -> None:
    rows = json.loads(run("front", study, "--format", "json").stdout)
    table = list(csv.DictReader(run("front", study, "--format", "csv").stdout.splitlines()))
    assert [int(row["trial"]) for row in table] == [row["trial"] for row in rows]
    assert {row["label"] for row in rows} <= {
        f"uniform {bits}-bit rank {rank}" for bits in (4, 8, 16) for rank in (0, 2, 8)
    }
    front = [row for row in rows if row["on_front"]]
    for row in rows:
        dominates = [
            other
            for other in rows
            if other["loss"] <= row["loss"]
            and other["model_bytes"] <= row["model_bytes"]
            and (other["loss"], other["model_bytes"]) != (row["loss"], row["model_bytes"])
        ]
        assert row["on_front"] == (not dominates)

    best = min(front, key=lambda row: row["loss"])
    selected = run("select", study, "--trial", str(best["trial"]), "--format", "json")
    assert json.loads(selected.stdout)["trial"] == best["trial"]
    run("export", study, "-o", "plan.json")
    shown = json.loads(run("plan", "show", "plan.json", "--format", "json").stdout)
    assert shown["model_bytes"] == best["model_bytes"]

    trained = run("train", "plan.json", "-o", "runs/final")
    assert trained.stdout == ""
    assert "step 6/6" in trained.stderr
    metrics = json.loads(run("evaluate", "runs/final", "--format", "json").stdout)
    assert metrics["model_bytes"] == best["model_bytes"]
    assert {"loss", "perplexity", "accuracy", "inference_rate", "peak_memory_bytes"} <= metrics.keys()
    assert metrics["num_examples"] > 3
    some = json.loads(run("evaluate", "runs/final", "--examples", "3", "--format", "json").stdout)
    assert some["num_examples"] == 3
    assert "must be empty" in refused("train", "plan.json", "-o", "runs/final")


def test_a_worker_trains_what_is_selected(study: str, run: Command, folder: Path) -> None:
    storage = open_storage(f"sqlite:///{folder}/jointsearch.db")
    found = open_study(storage, study)
    for trial in full_runs(found.optuna_study.user_attrs):  # of other tests
        withdraw_trial(found.optuna_study, trial)
    first, second = (trial.number for trial in found.records().complete[:2])
    foreign = folder / "full" / f"tiny-trial-{first}" / "notes.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    select_trial(found.optuna_study, first)
    select_trial(found.optuna_study, second, "for the phone")
    done = run("worker", study, "--full-runs", "--output", "full", "--idle-exit", "0s")
    assert done.stdout == ""
    assert "step 6/6" in done.stderr
    runs = full_runs(found.optuna_study.user_attrs)
    assert {trial: full_run.state.value for trial, full_run in runs.items()} == {
        first: "failed",
        second: "complete",
    }
    assert f"{foreign.parent} holds another or none; use another" in runs[first].failure
    assert foreign.read_text() == "mine"
    output = folder / "full" / f"tiny-trial-{second}"
    assert runs[second].folder == str(output)
    assert (runs[second].step, runs[second].num_steps) == (6, 6)
    measured = runs[second].measurement
    assert measured is not None
    assert measured.metrics == json.loads((output / "metrics.json").read_text())["validation"]
    assert measured.model_bytes == complete_trial(found, second).values["model_bytes"]
    assert (output / "adapter").is_dir() == (measured.trainable_parameters > 0)
    storage.engine.dispose()


def test_a_changed_study_file_is_refused_with_the_difference(
    study: str, refused: Callable[..., str], study_file: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "tiny.yaml"
    changed.write_text(study_file.read_text().replace("steps: 6", "steps: 9"))
    assert "calibration.steps: 6 -> 9" in refused("study", "start", str(changed))


@pytest.mark.slow
@pytest.mark.alone
def test_ctrl_c_loses_no_finished_trial(
    run: Command, wait_for: WaitFor, folder: Path, study_file: Path, tmp_path: Path
) -> None:
    slow = tmp_path / "slow.yaml"
    text = study_file.read_text().replace("name: tiny", "name: slow")
    slow.write_text(text.replace("steps: 6", "steps: 40"))
    run("study", "create", str(slow), "--trials", "4")
    storage = open_storage(f"sqlite:///{folder}/jointsearch.db")
    found = open_study(storage, "slow")
    command = [sys.executable, "-m", "jointsearch", "study", "start", str(slow), "--trials", "4"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            # the second trial has begun
            wait_for(lambda: found.records().complete and found.records().running)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate()
        finally:
            process.kill()
    assert process.returncode == 130, said
    before = json.loads(run("study", "status", "slow", "--format", "json").stdout)
    assert before["running"] == before["failed"] == 0
    assert 1 <= before["complete"] < 4
    run("study", "start", str(slow), "--trials", "4")
    after = json.loads(run("study", "status", "slow", "--format", "json").stdout)
    assert (after["complete"], after["failed"]) == (4, 0)
    storage.engine.dispose()


@pytest.mark.slow
@pytest.mark.alone
def test_several_workers_share_a_study(run: Command, study_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "shared.yaml"
    path.write_text(study_file.read_text().replace("name: tiny", "name: shared"))
    created = run("study", "create", str(path), "--trials", "6")
    assert "next: jointsearch worker shared" in created.stderr
    one = run("worker", "shared", "--max-trials", "1")
    assert one.stderr.count("[1/6]") == 1
    both = run("study", "start", str(path), "--trials", "6", "--workers", "2")
    assert "study 'shared': 6 complete, 0 failed; finished" in both.stderr
    rows = json.loads(run("front", "shared", "--format", "json").stdout)
    assert len({row["trial"] for row in rows}) == len(rows)


STUDY = """
name: bad
model: {{id: {model}}}
task: {{type: causal-lm, sequence_length: {length}, data: {data}}}
search_space: {{ranks: {ranks}}}
calibration: {{steps: 2, warmup_steps: 1, batch_size: 2, validation_examples: 2}}
device: cpu
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "./nowhere"}, "model.id must be a Hub id or a folder with a config.json"),
        ({"data": "{files: {train: nowhere.txt}}"}, "task.data.files.train must be a file"),
        ({"data": "{files: {train: empty.txt}}"}, "task.data.files.train must have rows"),
        ({"data": "{files: {train: blank.txt}}"}, "is too short; give more text"),
        ({"data": "{files: {train: short.txt}}"}, "is too short; give more text"),
        (
            {"data": "{files: {train: rows.jsonl}}"},
            "task.text_column must name columns of the train split (content)",
        ),
        ({"data": "{files: {train: broken.jsonl}}"}, "line 2 of broken.jsonl is no JSON"),
        ({"data": "{package: no_such_package}"}, "there is no 'no_such_package'"),
        ({"ranks": "[0, 4096]"}, "a rank must be at most the smaller side of its module"),
    ],
)
def test_a_study_that_cannot_run_says_why_and_stores_nothing(
    change: dict[str, str], message: str, refused: Callable[..., str], study_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.txt").write_text("   \n\n")
    (tmp_path / "short.txt").write_text("def f(x):\n    return x\n")
    (tmp_path / "rows.jsonl").write_text('{"content": "x"}\n')
    (tmp_path / "broken.jsonl").write_text('{"text": "x"}\n{"text": \n{\n')
    values = {
        "model": str(Path(study_file.read_text().split("{id: ")[1].split("}")[0])),
        "length": "64",
        "data": "{package: click}",
        "ranks": "[0, 2]",
    }
    (tmp_path / "bad.yaml").write_text(STUDY.format(**values | change))
    # whether there is enough text is known once it is tokenized
    for command in ("start",) if "too short" in message else ("start", "create"):
        assert message in refused("study", command, "bad.yaml", where=tmp_path)
    assert not list(tmp_path.glob("jointsearch.db*"))


def test_a_plan_for_another_model_is_refused(
    study: str, run: Command, refused: Callable[..., str], folder: Path, family_folder: Path
) -> None:
    run("export", study, "-o", "other.json")
    study_text = STUDY.format(
        model=family_folder / "llama", length="64", data="{package: click}", ranks="[0, 2]"
    )
    (folder / "other.yaml").write_text(study_text)
    line = refused("train", "other.json", "-o", "runs/other", "--study", "other.yaml")
    assert "model.layers.2" in line
    assert not (folder / "runs" / "other").exists()


def test_doctor_tries_every_format(run: Command) -> None:
    report = json.loads(run("doctor", "--format", "json").stdout)
    assert {report[f"cpu, {bits} bits"] for bits in (4, 8, 16)} == {"works"}
    assert report["bitsandbytes"][0].isdigit()
