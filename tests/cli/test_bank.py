"""``jointsearch bank``: what is in the cache folder, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jointsearch.banks import cache_folder
from jointsearch.cli import cli


@pytest.fixture
def banks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two banks, one of them not whole."""
    monkeypatch.setenv("JOINTSEARCH_CACHE", str(tmp_path))
    folder = tmp_path / "banks"
    for name, num_bytes in (("gpt2-aa", 2_000_000), ("llama-bb", 1_000)):
        (folder / name).mkdir(parents=True)
        (folder / name / "w.16bit.safetensors").write_bytes(bytes(num_bytes))
    (folder / "gpt2-aa" / "bank.json").write_text('{"model": "openai/gpt2", "weights": []}')
    return folder


def run(*words: str, answer: str = "") -> Result:
    return CliRunner().invoke(cli, ["bank", *words], input=answer)


def test_banks_are_listed(banks: Path) -> None:
    rows = json.loads(run("list", "--format", "json").stdout)
    assert [(row["name"], row["model"], row["is_whole"]) for row in rows] == [
        ("gpt2-aa", "openai/gpt2", True),
        ("llama-bb", "", False),
    ]
    assert rows[1]["num_bytes"] == 1_000
    table = run("list").stdout
    assert "openai/gpt2" in table
    assert "2 MB" in table


def test_banks_are_deleted_when_that_is_confirmed(banks: Path) -> None:
    assert run("clear", answer="n\n").exit_code != 0
    assert len(list(banks.iterdir())) == 2
    assert "deleted 1 bank of 1 kB" in run("clear", "llama-bb", "--yes").stderr
    assert [path.name for path in banks.iterdir()] == ["gpt2-aa"]
    assert run("clear", answer="y\n").exit_code == 0
    assert list(banks.iterdir()) == []
    assert "no bank in" in run("list").stderr


def test_a_name_that_is_none(banks: Path) -> None:
    error = run("clear", "gpt2-ab", "--yes").exception
    assert str(error) == "a bank must be one of this machine's, but got 'gpt2-ab'; did you mean 'gpt2-aa'?"
    assert len(list(banks.iterdir())) == 2


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JOINTSEARCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == Path.home() / ".cache" / "jointsearch"
    monkeypatch.setenv("XDG_CACHE_HOME", "/other")
    assert cache_folder() == Path("/other/jointsearch")
    monkeypatch.setenv("JOINTSEARCH_CACHE", "~/own")
    assert cache_folder() == Path.home() / "own"


def test_banks_are_listed_without_torch(banks: Path) -> None:
    program = "import sys; from jointsearch.cli.bank import list_banks; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
