"""The wheel, installed into an environment of its own, has all that it needs.

Its dependencies are those of the environment of the tests: a path is added, not the packages.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow

Run = Callable[..., str]

DATA = (
    "py.typed",
    "cli/new_study/study.yaml.template",
    "dashboard/assets/*",
    "quickstart/study.yaml",
    "quickstart/model/model.safetensors",
    "quickstart/model/tokenizer.json",
)
"""What is no module and has to be there."""

WITH_A_FAKE_RUNNER = """
import jointsearch as js

study = js.create_study("quickstart", storage="sqlite:///studies.db", runner=js.testing.FakeRunner())
study.optimize(n_trials=12)
print(len(study.trials), study.select(max_bytes="1.5MB").plan.digest)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a source distribution and of the wheel that is made from it, as ``make build`` does."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(
        ROOT / "jointsearch", source / "jointsearch", ignore=shutil.ignore_patterns("__pycache__")
    )
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a program of the new environment in a folder of its own, and gives what it prints."""
    folder, work = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("work")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)]
    command = [sys.executable, "-m", "pip", "--python", str(python), *install]
    subprocess.run(command, cwd=work, env=environment, check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # a path file of another folder is not followed, so the project itself is not found by it
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(program: str, *arguments: str) -> str:
        command = [str(folder / "bin" / program), *arguments]
        finished = subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout

    return run


def test_wheel_and_source_distribution_have_every_file_of_the_package(built: Path, wheel: Path) -> None:
    package = ROOT / "jointsearch"
    files = {
        path.relative_to(ROOT).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for pattern in DATA:
        assert any(path.relative_to(ROOT).as_posix() in files for path in package.glob(pattern)), pattern
    with ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if name.startswith("jointsearch/")} == files
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert files | {"README.md", "LICENSE", "pyproject.toml"} <= names


def test_the_installed_package_is_the_one_that_runs(run: Run) -> None:
    place = run("python", "-c", "import jointsearch; print(jointsearch.__file__)").strip()
    assert not Path(place).is_relative_to(ROOT)
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert run("jointsearch", "--version").split()[-1] == version[1]


def test_commands_show_their_help(run: Run) -> None:
    assert "Run the embedded study" in run("jointsearch", "demo", "--help")
    assert "_JOINTSEARCH_COMPLETE" in run("jointsearch", "completion", "bash")


def test_a_study_file_is_written(run: Run) -> None:
    place = run("python", "-c", "import jointsearch; print(jointsearch.__file__)").strip()
    model = Path(place).parent / "quickstart" / "model"
    data = ["--data", "package:click", "--task", "causal-lm", "--device", "cpu"]
    run("jointsearch", "init", "mine.yaml", "--model", str(model), *data)


def test_a_study_without_torch_runs_and_is_read(run: Run) -> None:
    num_trials, _ = run("python", "-c", WITH_A_FAKE_RUNNER).split()
    assert num_trials == "12"
    front = json.loads(
        run("jointsearch", "front", "quickstart", "--storage", "sqlite:///studies.db", "--format", "json")
    )
    assert len(front) >= 9
