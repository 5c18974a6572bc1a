"""Rows from files, folders and packages, and the mistakes that these can have."""

import csv
import json
import os
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import Dataset, DatasetDict

from fixtures.rows import TEXTS, labels, load, numbered, refused, save
from jointsearch.config.data import DataSettings
from jointsearch.training.data import load_rows


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".parquet"])
def test_files(tmp_path: Path, ending: str) -> None:
    paths = {}
    for split, first in (("train", 0), ("validation", 10), ("test", 20)):
        rows = [{"text": f"{text} {split}", "label": first + i} for i, text in enumerate(TEXTS)]
        path = tmp_path / f"{split}{ending}"
        if ending == ".parquet":
            pa.parquet.write_table(pa.Table.from_pylist(rows), path)
        elif ending == ".csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, ["text", "label"])
                writer.writeheader()
                writer.writerows(rows)
        elif ending == ".json":
            path.write_text(json.dumps(rows), encoding="utf-8")
        else:
            save(path, rows)
        paths[split] = str(path)
    rows = load({"files": paths})
    assert rows.notes == []
    assert list(rows.splits) == ["train", "validation", "test"]
    assert list(rows.splits["train"]["text"]) == [f"{text} train" for text in TEXTS]
    assert list(rows.splits["test"]["label"]) == [20, 21, 22, 23]
    assert sorted(rows.splits["validation"]["label"]) == [10, 11, 12, 13]


def test_a_text_file_is_one_row(tmp_path: Path) -> None:
    text = "first\n\nsecond — ü\n  third\n"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    data = DataSettings(files={"train": str(tmp_path / "a.txt")})
    rows = load_rows(data, {"text_column": ["text"]}, ("text_column",), whole=False)
    assert list(rows.splits) == ["train"]  # packed text is divided by examples
    assert rows.splits["train"]["text"][:] == [text]


def test_a_saved_folder_and_the_names_of_its_splits(tmp_path: Path) -> None:
    parts = {"all": numbered(60), "dev": numbered(5, 100), "holdout": numbered(7, 200)}
    DatasetDict({name: Dataset.from_list(rows) for name, rows in parts.items()}).save_to_disk(
        tmp_path / "data"
    )
    folder = str(tmp_path / "data")
    rows = load({"folder": folder, "splits": {"train": "all", "test": "dev", "validation": "holdout"}})
    found = labels(rows)
    assert found["train"] == list(range(60))
    assert found["test"] == list(range(100, 105))
    assert sorted(found["validation"]) == list(range(200, 207))

    some = labels(load({"folder": folder, "splits": {"train": "all", "validation": "dev"}}))
    assert sorted(some["validation"]) == list(range(100, 105))
    assert len(some["test"]) == 3  # 5 % of 60, not the holdout
    assert sorted(some["train"] + some["test"]) == list(range(60))

    assert refused({"folder": folder}) == (
        "the data must have a train split, but it has all, dev, holdout; "
        "name its splits with task.data.splits or task.data.files"
    )
    assert refused({"folder": folder, "splits": {"train": "all", "test": "tset"}}) == (
        "task.data.splits must name splits of the data (all, dev, holdout), but got ['tset']"
    )


def test_splits_that_no_setting_names_are_said(tmp_path: Path) -> None:
    parts = {"train": numbered(20), "dev": numbered(3, 100), "extra": numbered(2, 200)}
    DatasetDict({name: Dataset.from_list(rows) for name, rows in parts.items()}).save_to_disk(
        tmp_path / "data"
    )
    assert load({"folder": str(tmp_path / "data")}).notes == [
        "train: data: the data's splits dev, extra are not used; say which is which with task.data.splits, "
        "such as {train: train, validation: dev}"
    ]
    named = load({"folder": str(tmp_path / "data"), "splits": {"train": "train", "validation": "dev"}})
    assert (len(named.splits["validation"]), named.notes) == (3, [])


def test_a_saved_folder_without_splits(tmp_path: Path) -> None:
    Dataset.from_list(numbered(20)).save_to_disk(tmp_path / "data")
    found = labels(load({"folder": str(tmp_path / "data"), "validation_share": 0.25}))
    assert {split: len(rows) for split, rows in found.items()} == {"train": 10, "validation": 5, "test": 5}
    assert sorted(chain(*found.values())) == list(range(20))


def test_the_sources_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {"__init__.py": "", "a.py": "A = 'ü'\n", "deep/b.py": "B = 2\n", "deep/er/c.py": "C = 3\n"}
    for name, text in sources.items():
        path = tmp_path / "some_words" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "some_words" / "notes.txt").write_text("no source")
    (tmp_path / "one_module.py").write_text("D = 4")
    monkeypatch.syspath_prepend(tmp_path)

    def texts(**options: Any) -> list[str]:
        data = DataSettings(package="some_words", **options)
        return load_rows(data, {"text_column": ["text"]}, ("text_column",), whole=False).splits["train"][
            "text"
        ][:]

    everything = texts()
    assert Counter(everything) == Counter(sources.values())
    assert texts() == everything
    # files are read until there is enough
    assert len("".join(texts(max_bytes=9)).encode()) >= 9
    assert len(texts(max_bytes=9)) < 4
    assert texts(max_bytes=10**6) == everything
    for name in ("one_module", "not_there", "some_words.deep", "some-words"):
        assert refused({"package": name}) == (
            f"task.data.package must be an installed package, but there is no '{name}'"
        )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"text,label\na,1\nb,2,3\nc,4,5\n", "line 3 of a.csv has 3 columns instead of 2, line 4"),
        (
            "a.csv",
            b"text,label\nb,2,3\n",
            "the train split must have rows that can be used, but it has none: line 2 of a.csv has 3 columns",
        ),
        ("a.json", b'{"text": ', "cannot be read: "),
        ("a.parquet", b"not parquet at all", "cannot be read: "),
        ("a.jsonl", b"{}\n\xfd\n", "a.jsonl must be written in utf-8, but line 2 is not; save it in UTF-8"),
        ("a.txt", b"gr\xfcn", "a.txt must be written in utf-8, but line 1 is not; save it in UTF-8"),
        ("a.csv", b"text,label\n", "files.train must have rows"),
        ("a.jsonl", b"", "task.data.files.train must have rows, but"),
        (
            "a.xml",
            b"<a/>",
            "must end in one of .txt, .jsonl, .json, .csv, .tsv, .parquet, or that and one of "
            ".gz, .bz2, .xz, .zst, .zip, but got ",
        ),
        ("a", b"text", "must end in one of "),
        ("a.csv.gz", b"text,label\na,1\n", "cannot be read: "),
        ("a.csv.zip", b"text,label\na,1\n", "cannot be read: "),
        (
            "a.jsonl",
            b'{"text": 1, "label": 0}\n[1]\n"x"\n',
            "line 2 of a.jsonl is no mapping of columns, line 3 is",
        ),
        (
            "a.json",
            b"[1, 2]",
            "10% of the rows of the train split may be left out, but 2 of 2 cannot be used",
        ),
        ("a.jsonl", b'["a"]\n["b"]', "line 1 of a.jsonl is no mapping of columns, line 2 is"),
        ("a.jsonl", b'{"text": ' + b"[" * 100_000, "line 1 of a.jsonl is no JSON (maximum recursion"),
        (
            "a.json",
            b'{"train": [{"text": "a"}], "test": [{"text": "b"}]}',
            "a.json must hold one list of rows, but it holds train, test; write each into a file of its own",
        ),
        ("a.jsonl", b'{"text": 1, "label": 0}\n{"text\n{}}\n', "line 2 of a.jsonl is no JSON ("),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    found = refused({"files": {"train": str(tmp_path / name)}})
    assert message in found
    assert name in found


def test_files_that_are_not_there(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", numbered(3))
    assert refused({"files": {"train": path, "test": str(tmp_path / "b.jsonl")}}) == (
        f"task.data.files.test must be a file, but there is none at {tmp_path}/b.jsonl"
    )
    message = refused({"folder": str(tmp_path)})
    assert message.startswith("task.data.folder must hold a data set that datasets has saved, but ")


def test_files_of_two_kinds(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", numbered(3))
    (tmp_path / "c.csv").write_text("text,label\na,1\n")
    found = labels(load({"files": {"train": path, "test": str(tmp_path / "c.csv")}}))
    assert found["test"] == [1]


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".txt", ".json"])
def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path, ending: str) -> None:
    """With the same time of change and size, as archives and copies leave it."""
    fingerprints = set()
    for text in ("old", "new"):
        path = tmp_path / f"a{ending}"
        content = {
            ".jsonl": json.dumps({"text": text}) + "\n",
            ".json": json.dumps([{"text": text}]),
            ".csv": f"text,label\n{text},1\n",
            ".txt": text,
        }
        path.write_text(content[ending])
        os.utime(path, (1e9, 1e9))
        data = DataSettings(files={"train": str(path)})
        for _ in range(2):
            rows = load_rows(data, {"text_column": ["text"]}, ("text_column",), whole=False).splits["train"]
            assert rows["text"][:] == [text]
            fingerprints.add(rows._fingerprint)
    assert len(fingerprints) == 2  # by which what is tokenized is kept


def test_values_of_several_types_and_rows_with_different_columns(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "label": 1, "talk": [{"role": "user", "content": "x"}]},
        {
            "text": "b",
            "label": "1",
            "big": 2**80,
            "talk": [{"role": "user", "content": [{"type": "text", "text": "y"}]}],
        },
        {"text": "c", "label": None, "other": 3},
    ]
    path = save(tmp_path / "a.jsonl", rows)
    found = load({"files": {"train": path}}, whole=False).splits["train"]
    assert found["label"][:] == ["1", "1", None]
    assert found["big"][:] == [None, str(2**80), None]
    assert [row["talk"] for row in found] == [row.get("talk") for row in rows]


def test_arrow_changes_no_value_of_json(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "label": 1, "n": 1, "x": 2.0, "calls": [{"city": "Rome"}]},
        {"text": "b", "label": 2, "n": 2.5, "x": 0.5, "calls": [{"days": 3, "city": None}]},
        {"text": "c", "label": 3, "n": None, "x": float("nan"), "calls": []},
    ]
    found = load({"files": {"train": save(tmp_path / "a.jsonl", rows)}}, whole=False).splits["train"]
    assert found["n"][:] == ["1", "2.5", None]  # a column of numbers would have 1.0
    assert found["x"][:] == [2.0, 0.5, None]
    assert found["calls"][:] == [row["calls"] for row in rows]  # without keys that other rows have


def test_half_of_a_character_costs_its_own_row(tmp_path: Path) -> None:
    content = (
        json.dumps({"text": "\ud83d", "label": 1}) + "\n" + json.dumps({"text": "🙂", "label": 0}) + "\n"
    )
    (tmp_path / "a.jsonl").write_text(content)
    rows = load({"files": {"train": str(tmp_path / "a.jsonl")}, "max_left_out": 0.5}, whole=False)
    assert rows.splits["train"]["text"][:] == ["🙂"]
    assert rows.origins["train"].faults == {
        1: "has half of a character (a code from \\ud800 to \\udfff without its other)"
    }


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_encodings_that_files_say(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"text": "grün", "label": 1}\n'.encode(encoding))
    (tmp_path / "a.txt").write_bytes("grün".encode(encoding))
    for name in ("a.jsonl", "a.txt"):
        found = load_rows(
            DataSettings.model_validate({"files": {"train": str(tmp_path / name)}}),
            {"text_column": ["text"]},
            ("text_column",),
            whole=False,
        ).splits["train"]
        assert found["text"][:] == ["grün"]


def test_json_of_other_shapes(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 2}]
    shapes = {
        "rows": json.dumps(rows, indent=1),
        "columns": json.dumps({"text": ["a", "b"], "label": [1, 2]}),
        "within": json.dumps({"version": "1.1", "data": rows}),
        "lines": "\n".join(map(json.dumps, rows)),
        "pandas": pd.DataFrame(rows).to_json(),
    }
    for name, content in shapes.items():
        (tmp_path / f"{name}.json").write_text(content)
        found = load({"files": {"train": str(tmp_path / f"{name}.json")}}, whole=False).splits["train"]
        assert found["text"][:] == ["a", "b"], name
        assert found["label"][:] == [1, 2], name


def test_columns_that_are_not_there_are_said_with_those_that_are(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [{"sentence": "a", "label": 1, "idx": 0}])
    assert refused({"files": {"train": path}}) == (
        "task.text_column must name columns of the train split (sentence, label, idx), but got 'text'"
    )
    path = save(tmp_path / "b.jsonl", numbered(3))
    assert refused({"files": {"train": path}, "split_by": "group"}) == (
        "task.data.split_by must name columns of the train split (text, label), but got 'group'"
    )
    DatasetDict(
        train=Dataset.from_list(numbered(9)), validation=Dataset.from_list([{"text": "x"}])
    ).save_to_disk(tmp_path / "data")
    assert refused({"folder": str(tmp_path / "data")}) == (
        "task.label_column must name columns of the validation split (text), but got 'label'"
    )
    DatasetDict(train=Dataset.from_list(numbered(9)), test=Dataset.from_list([{"text": "x"}])).save_to_disk(
        tmp_path / "other"
    )
    rows = load({"folder": str(tmp_path / "other")})
    assert list(rows.splits) == ["train", "validation"]
    assert rows.notes == [
        "test: no row can be used (other has no column for label_column), "
        "so that nothing is measured on the test split"
    ]
