"""`jointsearch init`: what it proposes for which data, and that what it writes is a study."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from click.testing import CliRunner, Result

from jointsearch.cli import cli, init
from jointsearch.config.study import StudyConfig
from jointsearch.config.task import tasks_of_files
from jointsearch.config.yaml_file import read_study

Run = Callable[..., Result]

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
ANSWERS = {"text": ["Oslo"], "answer_start": [3]}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: str, **options: Any) -> Result:
        return CliRunner().invoke(cli, ["init", *arguments], **options)

    return invoke


def written(run: Run, *arguments: str) -> StudyConfig:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    return read_study(Path("study.yaml"))


def write_rows(path: str, *rows: dict[str, Any]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("row", "task", "settings"),
    [
        ({"text": "a b c"}, "causal-lm", {"text_column": "text"}),
        ({"id": "1", "story": "a long story"}, "causal-lm", {"text_column": "story"}),
        ({"messages": CHAT, "id": 7}, "causal-lm", {"messages_column": "messages"}),
        (
            {"instruction": "Add", "output": "2"},
            "causal-lm",
            {"prompt": "{instruction}\n", "completion": "{output}"},
        ),
        (
            {"question": "1+1", "answer": "2"},
            "causal-lm",
            {"prompt": "{question}\n", "completion": "{answer}"},
        ),
        (
            {"question": "Where?", "context": "In Oslo", "answers": ANSWERS},
            "question-answering",
            {"question_column": "question", "answers_column": "answers"},
        ),
        ({"dialogue": "a", "summary": "b"}, "seq2seq-lm", {"source": "{dialogue}", "target": "{summary}"}),
        (
            {"translation": {"en": "a", "de": "b"}},
            "seq2seq-lm",
            {"source": "{translation.en}", "target": "{translation.de}"},
        ),
        (
            {"sentence": "good", "label": 1},
            "sequence-classification",
            {"text_column": "sentence", "label_column": "label", "regression": False},
        ),
        (
            {"sentence1": "a", "sentence2": "b", "score": 3.8},
            "sequence-classification",
            {"text_column": "sentence1", "text_pair_column": "sentence2", "regression": True},
        ),
    ],
)
def test_the_task_and_its_columns_are_what_the_rows_look_like(
    run: Run, row: dict[str, Any], task: str, settings: dict[str, Any]
) -> None:
    write_rows("rows.jsonl", row, row)
    config = written(run, "--data", "rows.jsonl")
    assert config.task.type == task
    assert {name: getattr(config.task, name) for name in settings} == settings
    assert {column for columns in config.task.columns.values() for column in columns} <= set(row)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
def test_every_kind_of_file_is_looked_at(run: Run, folder: Path, suffix: str) -> None:
    rows = datasets.Dataset.from_dict({"review": ["good", "bad"], "sentiment": ["pos", "neg"]})
    file = str(folder / f"mine{suffix}")
    if suffix == ".parquet":
        rows.to_parquet(file)
    elif suffix in (".json", ".jsonl"):
        rows.to_json(file, lines=suffix == ".jsonl")
    else:
        rows.to_csv(file, sep="," if suffix == ".csv" else "\t", index=False)
    config = written(run, "--data", file)
    assert config.task.columns == {"text_column": ["review"], "label_column": ["sentiment"]}
    assert config.task.data.files == {"train": file}


@pytest.mark.parametrize(
    "name", ["a.csv.gz", "a.CSV", "a.csv", "a.zip", "a.csv.zip", "a.tsv.xz", "a.jsonl.bz2"]
)
def test_files_are_looked_at_as_studies_read_them(run: Run, folder: Path, name: str) -> None:
    """Compressed, with semicolons, in capitals."""
    separator = "\t" if ".tsv" in name else ";"
    text = "".join(
        f"{a}{separator}{b}\n" for a, b in [("review", "sentiment"), ("good", "pos"), ("bad, so", "neg")]
    )
    if ".jsonl" in name:
        text = '{"review": "good", "sentiment": "pos"}\n{"review": "bad", "sentiment": "neg"}\n'
    pack = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}.get(Path(name).suffix, bytes)
    if name.endswith(".zip"):
        with zipfile.ZipFile(name, "w") as archive:
            archive.writestr("a.csv", text)
    else:
        Path(name).write_bytes(pack(text.encode()))
    config = written(run, "--data", name)
    assert config.task.columns == {"text_column": ["review"], "label_column": ["sentiment"]}
    assert config.task.data.files == {"train": str(folder / name)}
    assert config.name == "distilbert-base-uncased-a"


def test_a_saved_data_set_is_looked_at(run: Run, folder: Path) -> None:
    rows = datasets.Dataset.from_dict({"sentence": ["good", "bad"], "label": [1, 0]})
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(folder / "both")
    rows.save_to_disk(folder / "one")
    for name in ("both", "one"):
        config = written(run, "--data", name, "--force")
        assert config.task.data.folder == str(folder / name)
        assert config.task.columns == {"text_column": ["sentence"], "label_column": ["label"]}


def test_splits_beside_the_training_file_are_found(run: Run, folder: Path) -> None:
    for name in ("train.txt", "dev.txt", "test.txt", "other.txt"):
        Path(name).write_text("some text\n")
    files = {"train": "train.txt", "validation": "dev.txt", "test": "test.txt"}
    expected = {split: str(folder / name) for split, name in files.items()}
    assert written(run).task.data.files == expected  # the file called train is what is probably meant
    assert written(run, "--data", ".", "--force").task.data.files == expected


def test_data_of_a_package_and_of_the_hub(run: Run) -> None:
    assert written(run).task.data.package == "transformers"
    config = written(run, "--data", "Salesforce/wikitext:wikitext-2-raw-v1", "--force")
    assert (config.task.data.hub, config.task.data.config) == ("Salesforce/wikitext", "wikitext-2-raw-v1")
    assert config.name == "gpt2-wikitext-2-raw-v1"
    assert "check the columns" in Path("study.yaml").read_text()


@pytest.mark.parametrize("task", tasks_of_files())
def test_a_task_can_be_chosen(run: Run, task: str) -> None:
    assert written(run, "--data", "some/data", "--task", task).task.type == task


def test_columns_for_a_chosen_task_are_found_by_their_values(run: Run) -> None:
    write_rows(
        "rows.jsonl", *({"title": f"text {i}", "kind": "ab"[i % 2], "body": "x" * i} for i in range(9))
    )
    config = written(run, "--data", "rows.jsonl", "--task", "sequence-classification")
    assert config.task.columns == {"text_column": ["body"], "label_column": ["kind"]}
    config = written(run, "--data", "rows.jsonl", "--task", "seq2seq-lm", "--force")
    assert config.task.columns == {"source": ["title"], "target": ["kind"]}


def test_a_table_with_numbers_and_cells_too_many(run: Run) -> None:
    Path("rows.csv").write_text("id,rate,note,empty\n1,0.5,fine,\n20000000000,1,bad,,more\n")
    config = written(run, "--data", "rows.csv")
    assert (config.task.type, config.task.columns) == ("causal-lm", {"text_column": ["note"]})


def test_paths_mean_the_same_from_the_files_own_folder(run: Run, folder: Path) -> None:
    Path("train.txt").write_text("some text\n")
    (folder / "model").mkdir()
    result = run("studies/deep/mine.yaml", "--data", "train.txt", "--model", "model")
    assert result.exit_code == 0, result.output
    config = read_study(folder / "studies" / "deep" / "mine.yaml")
    assert config.model.id == str(folder / "model")
    assert config.task.data.files == {"train": str(folder / "train.txt")}
    assert result.stderr.endswith("next: jointsearch study start studies/deep/mine.yaml\n")


def test_an_existing_file_is_not_overwritten_unasked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("study.yaml").write_text("mine")
    result = run()
    assert "study.yaml: is there already; give --force" in str(result.exception)
    monkeypatch.setattr(init, "_can_ask", lambda: True)
    assert run(input="n\n").exit_code == 1
    assert Path("study.yaml").read_text() == "mine"
    assert written(
        run,
        "--force",
        "--data",
        "a/b",
        "--task",
        "causal-lm",
        "--model",
        "m",
        "--device",
        "cpu",
        "--minutes",
        "5",
    )


def test_questions_are_asked_and_asked_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "_can_ask", lambda: True)
    write_rows("rows.jsonl", {"sentence": "good", "label": 1})
    answers = ("nothing.csv", "rows.jsonl", "", "./none", "my/model-70m", "tpu", "cpu", "0", "30")
    result = run(input="\n".join(answers) + "\n")
    assert result.exit_code == 0, result.output
    config = read_study(Path("study.yaml"))
    assert (config.task.type, config.model.id, config.device) == (
        "sequence-classification",
        "my/model-70m",
        "cpu",
    )
    assert result.stdout == ""
    for piece in (
        "there is no 'nothing.csv'",
        "[sequence-classification]",
        "there is no folder ./none",
        "must be auto, cpu, mps, cuda or cuda:NUMBER, but got 'tpu'",
        "0.0 is not in the range x>=1",
    ):
        assert piece in result.stderr


def test_every_question_has_a_default(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "_can_ask", lambda: True)
    result = run(input="\n" * 5)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("]: ") == 5
    asked = Path("study.yaml").read_text()
    monkeypatch.setattr(init, "_can_ask", lambda: False)
    assert run("--force").exit_code == 0
    assert Path("study.yaml").read_text() == asked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "none.csv"], "there is no 'none.csv'"),
        (["--data", "package:no_such_thing"], "must name an installed package"),
        (["--data", "empty"], "must hold a saved data set or a file train.*"),
        (["--data", "bad.jsonl"], "bad.jsonl: must have rows that can be read, but line 1 is no JSON"),
        (["--data", "empty.csv"], "must have rows with named columns"),
        (["--data", "notes.md"], "must end in .txt, .jsonl"),
        (["--data", "ids.jsonl", "--task", "causal-lm"], "causal-lm must have a column of text"),
        (
            ["--data", "ids.jsonl", "--task", "question-answering"],
            "as SQuAD has them, but the data has the columns id",
        ),
        (["--model", "./none"], "there is no folder ./none"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(
    run: Run, folder: Path, arguments: list[str], message: str
) -> None:
    (folder / "empty").mkdir()
    Path("bad.jsonl").write_text("{")
    Path("empty.csv").write_text("text\n")
    Path("notes.md").write_text("text\n")
    write_rows("ids.jsonl", {"id": 1})
    result = run(*arguments)
    assert result.exit_code != 0
    assert message in f"{result.output}{result.exception}"
    assert not Path("study.yaml").exists()
