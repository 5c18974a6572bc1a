"""The public names and their signatures are frozen: whoever changes one changes ``public_names.txt`` too."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import jointsearch as js

FROZEN = Path(__file__).parent / "public_names.txt"


def signature(found: Any) -> str:
    """The parameters with their defaults; annotations may be made clearer at any time."""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(found).parameters.values()
        if parameter.name != "self"
    ]
    return str(inspect.Signature(parameters))


def described(name: str) -> list[str]:
    """A name, and of a class what it offers."""
    found = getattr(js, name)
    if name == "__version__":
        return [name]
    if inspect.ismodule(found):
        own = [n for n, v in vars(found).items() if getattr(v, "__module__", "") == found.__name__]
        return [f"{name}.{member}" for member in sorted(own) if not member.startswith("_")]
    if inspect.isfunction(found):
        return [f"{name}{signature(found)}"]
    lines = [f"class {name}"]
    if name == "Study":
        for member, value in sorted(vars(found).items()):
            if not member.startswith("_"):
                shown = signature(value) if inspect.isfunction(value) else ""
                lines.append(f"{name}.{member}{shown}")
    return lines


def test_the_public_names_are_those_that_were_promised() -> None:
    lines = [line for name in sorted(js.__all__) for line in described(name)]
    assert lines == FROZEN.read_text(encoding="utf-8").splitlines()


def test_dir_lists_them_all() -> None:
    assert set(js.__all__) <= set(dir(js))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'creat_study'"):
        _ = js.creat_study  # type: ignore[attr-defined]


def test_the_type_checker_sees_the_same_names() -> None:
    source = Path(js.__file__).read_text(encoding="utf-8")
    checked = source.partition("if TYPE_CHECKING:")[2].partition("\n__version__")[0]
    named = {line.split(" as ")[1].split()[0] for line in checked.splitlines() if " as " in line}
    assert named == set(js.__all__) - {"__version__"}


def test_importing_is_light() -> None:
    code = "import sys, json, jointsearch; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "optuna", "pydantic", "numpy", "sqlalchemy", "datasets", "peft"}
    assert heavy & set(json.loads(done.stdout)) == set()


def test_a_runner_of_ones_own_needs_no_torch(tmp_path: Path) -> None:
    code = f"""
import sys
from importlib.abc import MetaPathFinder

class Without(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in ("torch", "transformers", "peft", "datasets", "bitsandbytes"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Without())
import jointsearch as js

class Mine(js.Runner):
    def run(self, plan, trial):
        return js.Measurement(metrics={{"loss": 1 / (1 + sum(plan.ranks.values()))}})
    def layout(self, config):
        return js.testing.small_layout()

study = js.create_study({{"name": "mine"}}, "sqlite:///{tmp_path}/s.db", runner=Mine())
study.optimize(3)
print(len(study.best_trials), study.select().plan.digest)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] in "123"
