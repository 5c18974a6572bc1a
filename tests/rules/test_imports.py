"""Who may import whom, read from the source: two towers over one domain."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import jointsearch

ROOT = Path(jointsearch.__file__).parent
DOMAIN = tuple(
    f"jointsearch.{name}"
    for name in (
        "errors",
        "banks",
        "files",
        "registry",
        "plan",
        "front",
        "config",
        "groups",
        "space",
        "knapsack",
        "measurement",
        "runner",
        "testing",
    )
)
STRATEGIES = ("jointsearch.strategies",)
"""Between the domain and the towers: both may use them."""
SEARCH_TOWER = ("jointsearch.search", "jointsearch.study", "jointsearch.launchers")
MODEL_TOWER = ("jointsearch.training", "jointsearch.quantization", "jointsearch.export")
DASHBOARD = ("jointsearch.dashboard",)
"""Above the search tower; like it, it knows no torch."""
TORCH = ("torch", "transformers", "peft", "bitsandbytes", "datasets")
MAY_MEET = (
    "jointsearch.assemble",
    "jointsearch.creating",
    "jointsearch.fitting",
    "jointsearch.starting",
    "jointsearch.api",
    "jointsearch.plots",
    "jointsearch.cli",
    "jointsearch.__main__",
)
PACKAGE_ROOT = ("jointsearch", "jointsearch.hf")


@dataclass(frozen=True)
class Import:
    name: str
    """The module, or the member of a module, that is imported."""
    at_import_time: bool


def under(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def imports(source: str, module: str, *, is_package: bool = False) -> list[Import]:
    """Everything that the source imports, also inside functions, but not for the type checker alone."""
    package = module if is_package else module.rpartition(".")[0]

    def walk(node: ast.AST, at_import_time: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, at_import_time) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (Import(f"{base}.{alias.name}", at_import_time) for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for statement in node.orelse:
                yield from walk(statement, at_import_time)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from walk(child, at_import_time and not inside)

    return list(walk(ast.parse(source), True))


def violations(module: str, imported: list[str]) -> list[str]:
    """The names in ``imported`` that ``module`` must not import."""
    if module in PACKAGE_ROOT or under(module, MAY_MEET):
        return []
    wrong = []
    for name in imported:
        top = name.partition(".")[0]
        if under(name, MAY_MEET):
            wrong.append(name)
        elif under(module, DOMAIN):
            allowed = top in sys.stdlib_module_names or top in ("pydantic", "pydantic_core", "numpy", "yaml")
            if not allowed and not under(name, DOMAIN):
                wrong.append(name)
        elif under(module, STRATEGIES):
            allowed = top in sys.stdlib_module_names or top in ("numpy", "scipy")
            if not allowed and not under(name, (*DOMAIN, *STRATEGIES)):
                wrong.append(name)
        elif under(module, DASHBOARD):
            if under(name, (*TORCH, *MODEL_TOWER)):
                wrong.append(name)
        elif under(module, SEARCH_TOWER):
            if under(name, (*TORCH, *MODEL_TOWER, *DASHBOARD)):
                wrong.append(name)
        elif under(module, MODEL_TOWER) and under(name, ("optuna", *SEARCH_TOWER, *DASHBOARD)):
            wrong.append(name)
    towers = [tower for tower in (SEARCH_TOWER, MODEL_TOWER) if any(under(name, tower) for name in imported)]
    if len(towers) == 2:
        wrong += [
            name for name in imported if under(name, (*SEARCH_TOWER, *MODEL_TOWER)) and name not in wrong
        ]
    return wrong


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if path.name == "__init__.py" else parts)


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


@pytest.fixture(scope="module")
def package() -> dict[str, list[Import]]:
    """What each module imports."""
    return {
        module: imports(path.read_text(encoding="utf-8"), module, is_package=path.name == "__init__.py")
        for module, path in FILES.items()
    }


def test_every_domain_module_is_there() -> None:
    assert set(FILES) >= set(DOMAIN)
    assert all(any(under(module, (tower,)) for module in FILES) for tower in (*SEARCH_TOWER, *MODEL_TOWER))


@pytest.mark.parametrize("module", FILES)
def test_imports_point_down_only(module: str, package: dict[str, list[Import]]) -> None:
    assert violations(module, [found.name for found in package[module]]) == []


def test_a_module_belongs_to_the_domain_a_tower_or_above() -> None:
    """A new top-level module must be put into one of the lists above."""
    known = (
        *DOMAIN,
        *STRATEGIES,
        *SEARCH_TOWER,
        *MODEL_TOWER,
        *DASHBOARD,
        *MAY_MEET,
        "jointsearch.quickstart",
        "jointsearch.hf",
    )
    assert [module for module in FILES if not under(module, known) and module != "jointsearch"] == []


def module_of(name: str) -> str | None:
    """The jointsearch module that importing ``name`` executes."""
    while name and name not in FILES:
        name = name.rpartition(".")[0]
    return name or None


def test_no_cycle_at_import_time(package: dict[str, list[Import]]) -> None:
    graph = {
        module: {
            target
            for found in imported
            if found.at_import_time and (target := module_of(found.name)) not in (None, *PACKAGE_ROOT)
        }
        for module, imported in package.items()
        if module not in PACKAGE_ROOT
    }
    assert "jointsearch.plan.plan" in graph["jointsearch.plan.cost"]
    assert list(TopologicalSorter(graph).static_order())


def test_a_cycle_would_be_found() -> None:
    with pytest.raises(CycleError):
        list(TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("jointsearch.plan.cost", "def f():\n    import torch", ["torch"]),
        ("jointsearch.plan.cost", "from jointsearch.study.records import X", ["jointsearch.study.records.X"]),
        ("jointsearch.plan.cost", "from ..study import records", ["jointsearch.study.records"]),
        ("jointsearch.plan.cost", "import optuna.samplers", ["optuna.samplers"]),
        ("jointsearch.plan.cost", "from jointsearch import assemble", ["jointsearch.assemble"]),
        ("jointsearch.plan.cost", "import jointsearch.strategies.ranks", ["jointsearch.strategies.ranks"]),
        ("jointsearch.strategies.new", "import torch", ["torch"]),
        ("jointsearch.strategies.new", "from jointsearch.study import queue", ["jointsearch.study.queue"]),
        ("jointsearch.study.new", "if x:\n    from transformers import A", ["transformers.A"]),
        ("jointsearch.study.new", "from ..training import text", ["jointsearch.training.text"]),
        ("jointsearch.study.new", "from jointsearch.cli import main", ["jointsearch.cli.main"]),
        ("jointsearch.training.new", "class A:\n    import optuna", ["optuna"]),
        ("jointsearch.dashboard.new", "def f():\n    import torch", ["torch"]),
        (
            "jointsearch.study.new",
            "from jointsearch.dashboard import data",
            ["jointsearch.dashboard.data"],
        ),
        (
            "jointsearch.quantization.new",
            "import jointsearch.search.samplers",
            ["jointsearch.search.samplers"],
        ),
        (
            "jointsearch.elsewhere",
            "import jointsearch.study.worker.trials, jointsearch.training.text",
            ["jointsearch.study.worker.trials", "jointsearch.training.text"],
        ),
    ],
)
def test_a_violation_would_be_found(module: str, source: str, wrong: list[str]) -> None:
    assert violations(module, [found.name for found in imports(source, module)]) == wrong


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("jointsearch.plan.cost", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("jointsearch.plan.cost", "import json, numpy.typing\nfrom .plan import Plan"),
        ("jointsearch.study.new", "import optuna\nfrom jointsearch.search import samplers"),
        ("jointsearch.training.new", "import torch\nfrom jointsearch.quantization import bank"),
        ("jointsearch.training.new", "from jointsearch.strategies import registry"),
        (
            "jointsearch.strategies.new",
            "import numpy, scipy.optimize\nfrom jointsearch.plan.cost import plan_cost",
        ),
        ("jointsearch.assemble", "import jointsearch.study, jointsearch.training"),
    ],
)
def test_what_is_allowed_is_not_flagged(module: str, source: str) -> None:
    found = imports(source, module)
    assert found
    assert violations(module, [entry.name for entry in found]) == []


def test_the_command_line_and_the_worker_start_without_torch() -> None:
    code = (
        "import sys, json, jointsearch.cli, jointsearch.study.worker.trials, jointsearch.assemble;"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert "jointsearch.study.worker.trials" in loaded
    assert [name for name in TORCH if name in loaded] == []
