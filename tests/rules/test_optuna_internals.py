"""Private names and tables of Optuna's, read from the source: an upgrade must break in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import optuna
import pytest

import jointsearch

ROOT = Path(jointsearch.__file__).parent
MAY_USE = ("study/storage/", "search/optuna_compat.py")
"""Storage and tables; and what concerns samplers."""
TABLES = ("sqlalchemy", "alembic")
IN_STORAGE_ALONE = ("study/storage/",)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@cache
def private_names() -> frozenset[str]:
    """Every private attribute, method and function that Optuna's own source has."""
    found = set()
    for path in Path(optuna.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
    return frozenset(filter(is_private, found))


def private_uses(source: str) -> Iterator[str]:
    """Imports of private parts of Optuna, and private names of Optuna's on anything but ``self``."""
    tree = ast.parse(source)
    of_optuna = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "optuna"
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            names = [f"{module}{alias.name}".split(".") for alias in node.names]
            yield from (".".join(n) for n in names if n[0] == "optuna" and any(map(is_private, n)))
        elif isinstance(node, ast.Attribute) and node.attr in private_names():
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr"):
            if isinstance(node.args[1], ast.Constant) and node.args[1].value in private_names():
                yield ast.unparse(node)
        elif isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases]
            if any(base in of_optuna or base.startswith("optuna.") for base in bases):
                yield from (
                    f"{node.name}.{method.name}"
                    for method in node.body
                    if isinstance(method, ast.FunctionDef) and method.name in private_names()
                )


def imports_of_tables(source: str) -> list[str]:
    return [
        name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        if name and name.partition(".")[0] in TABLES
    ]


def sources(*but: str) -> list[str]:
    """The files of the package, without those."""
    names = [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.rglob("*.py"))]
    return [name for name in names if not name.startswith(but)]


@pytest.mark.parametrize("file", sources(*MAY_USE))
def test_optuna_is_used_by_its_public_names(file: str) -> None:
    assert list(private_uses((ROOT / file).read_text(encoding="utf-8"))) == []


def test_tables_are_read_and_written_in_the_storage_alone() -> None:
    files = {name: imports_of_tables((ROOT / name).read_text()) for name in sources(*IN_STORAGE_ALONE)}
    assert {name: found for name, found in files.items() if found} == {}


def test_the_storage_is_where_they_are() -> None:
    """The rule finds what it is about."""
    found = {
        use
        for path in ROOT.glob("study/storage/*.py")
        for use in private_uses(path.read_text(encoding="utf-8"))
    }
    assert {"study._storage", "study._study_id", "trial._trial_id"} <= found
    assert any(use.startswith("optuna.storages._rdb.models") for use in found)
    assert any(imports_of_tables(path.read_text()) for path in ROOT.glob("study/storage/*.py"))


@pytest.mark.parametrize(
    "source",
    [
        "from optuna.storages._rdb import models",
        "import optuna.storages._rdb.storage",
        "from optuna.storages import _CachedStorage",
        "study._storage",
        "self.study._study_id",
        "x = trial._trial_id",
        "getattr(storage, '_backend', storage)",
        "optuna.samplers.NSGAIISampler._get_generation_key()",
        "from optuna import Study\nclass A(Study):\n    def _get_trials(self): ...",
        "class A(optuna.Study):\n    def _get_trials(self): ...",
    ],
)
def test_a_private_use_would_be_found(source: str) -> None:
    assert len(list(private_uses(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import optuna\nfrom optuna.trial import FrozenTrial",
        "self._storage = 1\nself._storage.get_trial(3)",
        "class A:\n    def _get_trials(self): ...",
        "record._attributes_of_ours",
        "study.__dict__",
    ],
)
def test_what_is_public_or_ours_is_not_flagged(source: str) -> None:
    assert list(private_uses(source)) == []
