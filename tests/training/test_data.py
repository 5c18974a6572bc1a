from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import Dataset, DatasetDict
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from jointsearch.config.data import DataSettings
from jointsearch.errors import DataError
from jointsearch.training.data import TRUNCATED, Rows, load_rows, tokenize, truncation_notes

COLUMNS = {"text_column": ["text"], "label_column": ["label"]}
TEXTS = ['plain, with a comma and "quotes"', "ünïcode — 文字", "tab\there", "a\nsecond line"]


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


def numbered(count: int, start: int = 0, **others: Any) -> list[dict[str, Any]]:
    return [{"text": f"row {i}", "label": i, **others} for i in range(start, start + count)]


def save(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def load(data: dict[str, Any], *, inputs: tuple[str, ...] = ("text_column",), whole: bool = True) -> Rows:
    return load_rows(DataSettings.model_validate(data), COLUMNS, inputs, whole=whole)


def labels(rows: Rows) -> dict[str, list[int]]:
    return {split: list(part["label"]) for split, part in rows.splits.items()}


def refused(data: dict[str, Any]) -> str:
    with pytest.raises(DataError) as caught:
        load(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_files(tmp_path: Path, ending: str) -> None:
    paths = {}
    for split, first in (("train", 0), ("validation", 10), ("test", 20)):
        rows = [{"text": f"{text} {split}", "label": first + i} for i, text in enumerate(TEXTS)]
        path = tmp_path / f"{split}{ending}"
        if ending == ".parquet":
            pa.parquet.write_table(pa.Table.from_pylist(rows), path)
        elif ending in (".csv", ".tsv"):
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, ["text", "label"], delimiter="\t" if ending == ".tsv" else ",")
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
        ("a.csv", b"text,label\na,1\nb,2,3\n", "cannot be read: Error tokenizing data"),
        ("a.json", b'{"text": ', "cannot be read: "),
        ("a.parquet", b"not parquet at all", "cannot be read: "),
        ("a.jsonl", b"\xff\xfe\xfd\n", "cannot be read: "),
        ("a.csv", b"text,label\n", "files.train must have rows"),
        ("a.jsonl", b"", "task.data.files.train must have rows, but"),
        (
            "a.xml",
            b"<a/>",
            "must all end in one of .txt, .jsonl, .json, .csv, .tsv, .parquet, but got ['.xml']",
        ),
        ("a", b"text", "but got ['']"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    found = refused({"files": {"train": str(tmp_path / name)}})
    assert message in found
    assert str(tmp_path / name) in found or "all end in" in found


def test_files_that_are_not_there_or_of_two_kinds(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", numbered(3))
    assert refused({"files": {"train": path, "test": str(tmp_path / "b.jsonl")}}) == (
        f"task.data.files.test must be a file, but there is none at {tmp_path}/b.jsonl"
    )
    (tmp_path / "c.csv").write_text("text,label\na,1\n")
    message = refused({"files": {"train": path, "test": str(tmp_path / "c.csv")}})
    assert message.endswith("but got ['.csv', '.jsonl']")
    message = refused({"folder": str(tmp_path)})
    assert message.startswith("task.data.folder must hold a data set that datasets has saved, but ")


def test_columns_that_are_not_there_are_said_with_those_that_are(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [{"sentence": "a", "label": 1, "idx": 0}])
    assert refused({"files": {"train": path}}) == (
        "task.text_column must name columns of the train split (sentence, label, idx), but got 'text'"
    )
    path = save(tmp_path / "b.jsonl", numbered(3))
    assert refused({"files": {"train": path}, "split_by": "group"}) == (
        "task.data.split_by must name columns of the train split (text, label), but got 'group'"
    )
    DatasetDict(train=Dataset.from_list(numbered(3)), test=Dataset.from_list([{"text": "x"}])).save_to_disk(
        tmp_path / "data"
    )
    assert refused({"folder": str(tmp_path / "data")}) == (
        "task.label_column must name columns of the test split (text), but got 'label'"
    )


def test_an_empty_split_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Dataset.from_list(numbered(3))
    table = DatasetDict(train=rows, validation=rows.select([]))
    table.save_to_disk(tmp_path)
    assert refused({"folder": str(tmp_path)}) == (
        f"the splits of the data set in {tmp_path} must have rows, but one is empty"
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: table)  # as from the Hub
    assert refused({"hub": "some/data"}) == (
        "the validation split of the task's data must have rows, but it is empty"
    )


@pytest.mark.parametrize(
    ("count", "share", "sizes"),
    [
        (200, 0.1, (160, 20, 20)),
        (200, 0.05, (180, 10, 10)),
        (57, 0.1, (45, 6, 6)),  # 5.7
        (3, 0.05, (1, 1, 1)),  # 0.15, but one at least
    ],
)
def test_missing_splits_are_set_aside(
    tmp_path: Path, count: int, share: float, sizes: tuple[int, int, int]
) -> None:
    path = save(tmp_path / "a.jsonl", numbered(count))
    data = {"files": {"train": path}, "validation_share": share}
    found = labels(load(data))
    assert tuple(len(found[split]) for split in ("train", "validation", "test")) == sizes
    assert sorted(chain(*found.values())) == list(range(count))
    assert found["train"] == sorted(found["train"])
    assert labels(load(data)) == found
    if count > 3:
        other = labels(load({**data, "split_seed": 1}))
        assert {split: len(rows) for split, rows in other.items()} == {
            split: len(rows) for split, rows in found.items()
        }
        assert set(other["test"]) != set(found["test"])


def test_too_few_rows_to_set_some_aside(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", numbered(2))
    assert refused({"files": {"train": path}}) == (
        "the train split must have rows left after validation and test are set aside, "
        "but it has 2; give more rows"
    )


def test_rows_of_a_group_stay_together(tmp_path: Path) -> None:
    rows = [{**row, "author": f"a{i % 12}", "tags": [i % 12]} for i, row in enumerate(numbered(60))]
    path = save(tmp_path / "a.jsonl", rows)
    data = {"files": {"train": path}, "validation_share": 0.2}
    for column in ("author", "tags"):
        found = labels(load({**data, "split_by": column}))
        # 12 rows are asked for, and groups have 5
        assert {split: len(part) for split, part in found.items()} == {
            "train": 30,
            "validation": 15,
            "test": 15,
        }
        groups = [{label % 12 for label in part} for part in found.values()]
        assert [len(group) for group in groups] == [6, 3, 3]
        assert len(set.union(*groups)) == 12


def test_rows_in_several_splits_are_left_to_the_last(tmp_path: Path) -> None:
    texts = {"train": "abcde", "validation": "bxc", "test": "cxtt"}
    files = {
        split: save(tmp_path / f"{split}.jsonl", [{"text": t, "label": i} for i, t in enumerate(letters)])
        for split, letters in texts.items()
    }
    rows = load({"files": files})
    assert {split: "".join(part["text"]) for split, part in rows.splits.items()} == {
        "train": "ade",
        "validation": "b",
        "test": "cxtt",
    }
    assert rows.notes == [
        "validation: 2 of 3 rows are left out, being in another split too",
        "train: 2 of 5 rows are left out, being in another split too",
    ]
    # with the label among the inputs: c is the third of train and validation, x the second of both others
    both = load({"files": files}, inputs=("text_column", "label_column"))
    assert {split: len(part) for split, part in both.splits.items()} == {
        "train": 4,
        "validation": 2,
        "test": 4,
    }
    same = save(tmp_path / "same.jsonl", [{"text": "t", "label": 0}, {"text": "x", "label": 0}])
    assert refused({"files": {"train": same, "test": files["test"]}}) == (
        "every row of the train split is in another split too; give other rows"
    )


@pytest.mark.parametrize("split_by", [None, "label"])
def test_no_text_is_in_two_of_the_splits_that_are_set_aside(tmp_path: Path, split_by: str | None) -> None:
    """Every text is there twice, with two labels."""
    rows = [{"text": f"row {i % 50}", "label": i} for i in range(100)]
    path = save(tmp_path / "a.jsonl", rows)
    found = load({"files": {"train": path}, "validation_share": 0.1, "split_by": split_by})
    texts = {split: set(part["text"]) for split, part in found.splits.items()}
    assert not texts["train"] & texts["validation"]
    assert not texts["train"] & texts["test"]
    assert not texts["validation"] & texts["test"]
    if split_by is None:  # together, so that nothing is left out
        assert {split: len(part) for split, part in found.splits.items()} == {
            "train": 80,
            "validation": 10,
            "test": 10,
        }
        assert found.notes == []
    else:
        assert sum(len(part) for part in texts.values()) == 50


def test_at_most_so_many_rows(tmp_path: Path) -> None:
    files = {
        "train": save(tmp_path / "train.jsonl", numbered(100)),
        "test": save(tmp_path / "test.jsonl", numbered(30, 200)),
    }
    data = {"files": files, "max_rows": {"train": 40, "validation": 3, "test": 50}, "validation_share": 0.25}
    found = labels(load(data))
    assert len(found["test"]) == 30
    assert len(found["validation"]) == 3  # of the ten that are set aside
    assert len(found["train"]) == 30
    assert found["train"] == sorted(found["train"])
    assert found["train"] != list(range(30))  # a sample, not the first
    assert set(found["train"]) <= set(range(100))
    assert not set(found["train"]) & set(found["validation"])
    assert labels(load(data)) == found
    assert labels(load({**data, "split_seed": 1}))["train"] != found["train"]


def test_the_validation_rows_are_shuffled(tmp_path: Path) -> None:
    files = {
        split: save(tmp_path / f"{split}.jsonl", numbered(40, 100 * i))
        for i, split in enumerate(("train", "validation", "test"))
    }
    found = labels(load({"files": files}))
    assert found["train"] == list(range(40))
    assert found["test"] == list(range(200, 240))
    assert found["validation"] != list(range(100, 140))
    assert sorted(found["validation"]) == list(range(100, 140))
    assert labels(load({"files": files})) == found
    other = labels(load({"files": files, "split_seed": 7}))
    assert other["validation"] != found["validation"]
    assert sorted(other["validation"]) == list(range(100, 140))


CALLS: list[int] = []


def count_letters(rows: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
    CALLS.append(len(indices))
    return {"letters": [len(text) for text in rows["text"]], "row": indices}


def words(*vocabulary: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(["[PAD]", *vocabulary])}, unk_token="[PAD]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]")


def test_a_function_is_called_once_for_the_same_rows_settings_and_tokenizer(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [{"text": "a" * i, "label": i} for i in range(1, 31)])

    def calls(*, tokenizer: Any = None, count: int = 30, **settings: Any) -> int:
        CALLS.clear()
        data = Dataset.from_json(path, cache_dir=str(tmp_path / "cache")).select(range(count))
        found = tokenize(data, count_letters, tokenizer or words("a", "b"), {"length": 5, **settings})
        assert found["letters"][:] == list(range(1, count + 1))
        assert found["row"][:] == list(range(count))
        assert found.column_names == ["letters", "row"]
        return sum(CALLS)

    assert calls() == 30
    assert calls() == 0
    assert calls(length=6) == 30
    assert calls(count=20) == 20
    assert calls(tokenizer=words("a", "c")) == 30
    ended = words("a", "b")
    ended.eos_token = "b"
    assert calls(tokenizer=ended) == 30
    chatting = words("a", "b")
    chatting.chat_template = "{{ messages }}"
    assert calls(tokenizer=chatting) == 30
    assert calls() == 0
    used = words("a", "b")
    used(["a b", "a"], truncation=True, max_length=1, padding="max_length")
    assert calls(tokenizer=used) == 0  # what it was last used for is no difference


PROCESS = """
import os, sys, time
import datasets
from pathlib import Path
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from jointsearch.config.data import DataSettings
from jointsearch.training.data import load_rows, tokenize

datasets.disable_progress_bars()

def count(rows, indices):
    with open("calls.txt", "a") as file:
        file.write(f"{len(indices)}\\n")
    while len(list(Path().glob("arrived-*"))) < 2:
        time.sleep(0.01)
    return {"letters": [len(text) for text in rows["text"]]}

while len(sys.argv) > 1 and not Path("go").exists():
    Path(sys.argv[1]).touch()
    time.sleep(0.01)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a")))
data = DataSettings(files={"train": "rows.jsonl"}, validation_share=0.2)
rows = load_rows(data, {"text_column": ["text"]}, ("text_column",))
Path(f"arrived-{os.getpid()}").touch()
print([tokenize(rows.splits[split], count, tokenizer, {})["letters"][:] for split in sorted(rows.splits)])
"""


def test_processes_share_what_is_tokenized(tmp_path: Path, wait_for: Callable[..., None]) -> None:
    """Two at once, the first of which waits for the second, and one after them: all is tokenized once."""
    save(tmp_path / "rows.jsonl", [{"text": "a" * i} for i in range(1, 11)])
    (tmp_path / "count.py").write_text(PROCESS)
    environment = {
        **os.environ,
        "HF_DATASETS_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "count.py", *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    processes = [start("ready1"), start("ready2")]
    try:
        wait_for(lambda: all((tmp_path / name).exists() for name in ("ready1", "ready2")))
        (tmp_path / "go").touch()
        results = [process.communicate() for process in processes]
    finally:
        for process in processes:
            process.kill()
    results.append(start().communicate())
    outputs = {output for output, _ in results}
    assert len(outputs) == 1, results
    (output,) = outputs
    assert sorted(chain(*json.loads(output))) == list(range(1, 11))
    assert sorted((tmp_path / "calls.txt").read_text().split()) == ["2", "2", "6"]


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Dataset.from_list(numbered(3))
    (tmp_path / "file").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file")
    with pytest.raises(DataError) as caught:
        tokenize(rows, count_letters, words("a"), {})
    folder = tmp_path / "file" / "jointsearch"
    assert str(caught.value) == (
        f"tokenized data is kept in {folder}, but it cannot be written (Not a directory); set HF_HOME"
    )


def test_notes_count_the_rows_that_are_cut() -> None:
    cut = {"train": [True, False, True, True], "validation": [False, False], "test": [True]}
    splits = {split: Dataset.from_dict({TRUNCATED: values}) for split, values in cut.items()}
    assert truncation_notes(splits, 16) == [
        "train: 3 of 4 rows are cut to 16 tokens",
        "test: 1 of 1 rows are cut to 16 tokens",
    ]
    assert truncation_notes({"train": splits["validation"]}, 16) == []
