"""The whole way by hand, as a user goes it: real processes, real training, real signals."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jointsearch.cli import main
from jointsearch.study.full_runs import full_runs, select_trial, withdraw_trial
from jointsearch.study.plans import complete_trial
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.study import open_study

COMMAND = [sys.executable, "-c", "from jointsearch.cli import main; main()"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory that holds the storage, the plan and the run."""
    return tmp_path_factory.mktemp("work")


def run(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "JOINTSEARCH_STORAGE"}
    process = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    if check:
        assert process.returncode == 0, process.stderr
    return process


def refused(folder: Path, *arguments: str) -> str:
    """The one line that a mistake gets; nothing else is printed."""
    process = run(folder, *arguments, check=False)
    return the_line(process.returncode, process.stdout, process.stderr)


def the_line(status: int | str | None, output: str, error: str) -> str:
    assert status == 2, error
    assert output == ""
    lines = error.strip().splitlines()
    assert len(lines) == 1, error
    assert lines[0].startswith("Error: ")
    return lines[0]


@pytest.fixture(scope="module")
def study(folder: Path, study_file: Path) -> str:
    """A study of five trials, run in two goes."""
    first = run(folder, "study", "start", str(study_file), "--trials", "3")
    assert "3 complete, 0 failed; finished" in first.stderr
    second = run(folder, "study", "start", str(study_file), "--trials", "5")
    assert "[4/5]" in second.stderr
    assert "[3/5]" not in second.stderr  # what is finished is not run again
    assert first.stdout == second.stdout == ""
    return "tiny"


def test_front_select_export_train_evaluate(study: str, folder: Path) -> None:
    rows = json.loads(run(folder, "front", study, "--format", "json").stdout)
    table = list(csv.DictReader(run(folder, "front", study, "--format", "csv").stdout.splitlines()))
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
    selected = run(folder, "select", study, "--trial", str(best["trial"]), "--format", "json")
    assert json.loads(selected.stdout)["trial"] == best["trial"]
    run(folder, "export", study, "-o", "plan.json")
    shown = json.loads(run(folder, "plan", "show", "plan.json", "--format", "json").stdout)
    assert shown["model_bytes"] == best["model_bytes"]

    trained = run(folder, "train", "plan.json", "-o", "runs/final")
    assert trained.stdout == ""
    assert "step 6/6" in trained.stderr
    metrics = json.loads(run(folder, "evaluate", "runs/final", "--format", "json").stdout)
    assert metrics["model_bytes"] == best["model_bytes"]
    assert {"loss", "perplexity", "accuracy", "inference_rate", "peak_memory_bytes"} <= metrics.keys()
    assert "must be empty" in refused(folder, "train", "plan.json", "-o", "runs/final")


def test_a_worker_trains_what_is_selected(study: str, folder: Path) -> None:
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
    done = run(folder, "worker", study, "--full-runs", "--output", "full", "--idle-exit", "0s")
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
    study: str, folder: Path, study_file: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "tiny.yaml"
    changed.write_text(study_file.read_text().replace("steps: 6", "steps: 9"))
    assert "calibration.steps: 6 -> 9" in refused(folder, "study", "start", str(changed))


def test_ctrl_c_loses_no_finished_trial(folder: Path, study_file: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow.yaml"
    text = study_file.read_text().replace("name: tiny", "name: slow")
    slow.write_text(text.replace("steps: 6", "steps: 40"))
    command = [*COMMAND, "study", "start", str(slow), "--trials", "4"]
    seen: list[str] = []
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            seen.append(line)
            if line.startswith("[1/4]"):  # the second trial has begun, or is about to
                time.sleep(1.0)
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130, seen
    before = json.loads(run(folder, "study", "status", "slow", "--format", "json").stdout)
    assert before["running"] == before["failed"] == 0
    assert 1 <= before["complete"] < 4
    run(folder, "study", "start", str(slow), "--trials", "4")
    after = json.loads(run(folder, "study", "status", "slow", "--format", "json").stdout)
    assert (after["complete"], after["failed"]) == (4, 0)


def test_several_workers_share_a_study(folder: Path, study_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "shared.yaml"
    path.write_text(study_file.read_text().replace("name: tiny", "name: shared"))
    created = run(folder, "study", "create", str(path), "--trials", "6")
    assert "next: jointsearch worker shared" in created.stderr
    one = run(folder, "worker", "shared", "--max-trials", "1")
    assert one.stderr.count("[1/6]") == 1
    both = run(folder, "study", "start", str(path), "--trials", "6", "--workers", "2")
    assert "study 'shared': 6 complete, 0 failed; finished" in both.stderr
    rows = json.loads(run(folder, "front", "shared", "--format", "json").stdout)
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
        ({"data": "{files: {train: broken.jsonl}}"}, "broken.jsonl cannot be read"),
        ({"data": "{package: no_such_package}"}, "there is no 'no_such_package'"),
        ({"ranks": "[0, 4096]"}, "a rank must be at most the smaller side of its module"),
    ],
)
def test_a_study_that_cannot_run_says_why_and_stores_nothing(
    change: dict[str, str],
    message: str,
    study_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process, which has torch already: nine more would wait for it."""
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.txt").write_text("   \n\n")
    (tmp_path / "short.txt").write_text("def f(x):\n    return x\n")
    (tmp_path / "rows.jsonl").write_text('{"content": "x"}\n')
    (tmp_path / "broken.jsonl").write_text('{"text": "x"}\n{"text": \n')
    values = {
        "model": str(Path(study_file.read_text().split("{id: ")[1].split("}")[0])),
        "length": "64",
        "data": "{package: click}",
        "ranks": "[0, 2]",
    }
    (tmp_path / "bad.yaml").write_text(STUDY.format(**values | change))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOINTSEARCH_STORAGE", raising=False)
    monkeypatch.setattr(sys, "argv", ["jointsearch", "study", "start", "bad.yaml"])
    with pytest.raises(SystemExit) as left:
        main()
    assert message in the_line(left.value.code, *capsys.readouterr())
    assert not list(tmp_path.glob("jointsearch.db*"))


def test_a_plan_for_another_model_is_refused(study: str, folder: Path, family_folder: Path) -> None:
    run(folder, "export", study, "-o", "other.json")
    study_text = STUDY.format(
        model=family_folder / "llama", length="64", data="{package: click}", ranks="[0, 2]"
    )
    (folder / "other.yaml").write_text(study_text)
    line = refused(folder, "train", "other.json", "-o", "runs/other", "--study", "other.yaml")
    assert "model.layers.2" in line
    assert not (folder / "runs" / "other").exists()


def test_doctor_tries_every_format(folder: Path) -> None:
    report = json.loads(run(folder, "doctor", "--format", "json").stdout)
    assert {report[f"cpu, {bits} bits"] for bits in (4, 8, 16)} == {"works"}
    assert report["bitsandbytes"][0].isdigit()
