"""What is tokenized once is kept, for other processes too."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fixtures.rows import numbered, save
from jointsearch.errors import DataError
from jointsearch.training.data import TRUNCATED, tokenize, truncation_notes


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


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
