"""Splits that are missing are set aside; the same text or group is in one of them."""

from itertools import chain
from pathlib import Path

import datasets
import pytest
from datasets import Dataset, DatasetDict

from fixtures.rows import labels, load, numbered, refused, save


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


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
