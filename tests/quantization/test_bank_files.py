"""A bank's files: whole or not there, and never another weight than was written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fixtures.disks import fill
from jointsearch.quantization.bank_files import BankFiles, Damaged

NAME, KIND = "model.layers.0.mlp.up_proj.weight", "16bit"


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(5, 7, generator=generator).bfloat16(),
        "SCB": torch.randn(5, generator=generator),
        "weight_format": torch.tensor(0, dtype=torch.uint8),
    }


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        found[key].dtype == value.dtype and torch.equal(found[key], value) for key, value in expected.items()
    )


@pytest.fixture
def files(tmp_path: Path) -> BankFiles:
    files = BankFiles(tmp_path / "bank")
    with files.locked(pytest.fail):
        files.write(NAME, KIND, tensors())
    return files


def only_file(files: BankFiles) -> Path:
    (path,) = files.folder.glob("*.safetensors")
    return path


def test_what_is_written_is_read_without_a_copy(files: BankFiles) -> None:
    found = files.read(NAME, KIND)
    assert same(found, tensors())
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(only_file(files)) in maps.read_text(encoding="utf-8")


def test_a_change_stays_in_the_process_that_made_it(files: BankFiles) -> None:
    files.read(NAME, KIND)["weight"].zero_()
    assert same(BankFiles(files.folder).read(NAME, KIND), tensors())


def test_no_byte_can_be_wrong_without_notice(files: BankFiles) -> None:
    """Every byte of the file in turn is another one: what is read is right, or nothing is."""
    path = only_file(files)
    content = path.read_bytes()
    noticed = 0
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1
        path.write_bytes(changed)
        try:
            assert same(BankFiles(files.folder).read(NAME, KIND), tensors()), position
        except Damaged:
            noticed += 1
    assert noticed > len(content) * 0.9  # the others are spaces that fill the header


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_file_that_is_cut_short_is_noticed(files: BankFiles, length: int) -> None:
    content = only_file(files).read_bytes()
    only_file(files).write_bytes(content[:length])
    with pytest.raises(Damaged):
        BankFiles(files.folder).read(NAME, KIND)


def test_another_weight_in_a_file_is_noticed(files: BankFiles) -> None:
    other = NAME.replace("up", "down")
    with files.locked(pytest.fail):
        files.write(other, KIND, {"weight": torch.zeros(5, 7)})
    first, second = sorted(files.folder.glob("*.safetensors"))
    first.write_bytes(second.read_bytes())
    with pytest.raises(Damaged):
        BankFiles(files.folder).read(other, KIND)


def test_names_that_no_file_can_have_keep_apart(files: BankFiles) -> None:
    names = ["a/b", "a_b", "x" * 300, "x" * 299 + "y", "../up"]
    with files.locked(pytest.fail):
        for number, name in enumerate(names):
            files.write(name, KIND, {"weight": torch.full((2, 2), float(number))})
    for number, name in enumerate(names):
        assert files.read(name, KIND)["weight"].eq(number).all()
    assert {path.parent for path in files.folder.rglob("*.safetensors")} == {files.folder}


def test_a_full_disk_leaves_nothing_behind(small_disk: Path) -> None:
    files = BankFiles(small_disk / "bank")
    with files.locked(pytest.fail):
        files.write(NAME, KIND, tensors())
        fill(small_disk / "filler")
        with pytest.raises(OSError, match="No space"):
            files.write("another", KIND, {"weight": torch.zeros(300, 300)})
    assert not files.has("another", KIND)
    assert not list(files.folder.glob(".*.partial"))
    assert same(BankFiles(files.folder).read(NAME, KIND), tensors())


HOLDER = """
import sys, time
from pathlib import Path
from jointsearch.quantization.bank_files import BankFiles
folder, go = map(Path, sys.argv[1:])
with BankFiles(folder).locked(lambda: None):
    (folder / ".1.partial").write_bytes(b"half")
    print("held", flush=True)
    while not go.exists():
        time.sleep(0.05)
"""


def holder(files: BankFiles, go: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(files.folder), str(go)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_who_comes_second_waits_and_says_so(files: BankFiles, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with holder(files, go) as process:
        waited: list[str] = []

        def waiting() -> None:
            waited.append("told")
            go.touch()

        with files.locked(waiting):
            assert process.wait() == 0  # only then has it given the lock back
        assert waited == ["told"]


def test_the_lock_of_a_killed_process_is_free_and_its_half_file_gone(
    files: BankFiles, tmp_path: Path
) -> None:
    with holder(files, tmp_path / "never") as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with files.locked(pytest.fail):
        assert not list(files.folder.glob(".*.partial"))
    assert same(files.read(NAME, KIND), tensors())
