"""Names that are known by files, and in which order."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jointsearch.errors import UnsupportedError
from jointsearch.registry import Registry, load


@dataclass(frozen=True)
class Thing:
    name: str
    value: int = 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of three things and what two of them share; importing anything of it is seen."""
    package = tmp_path / "thing_box" / "things"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").write_text("def register(thing): pass\n")
    for file in ("big_red", "alpha", "_shared"):
        (package / f"{file}.py").write_text("from thing_box import things\nthings.register(__name__)\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for module in [name for name in sys.modules if name.startswith("thing_box")]:
        del sys.modules[module]


def box(first: tuple[str, ...] = (), **options: bool) -> Registry[Thing]:
    return Registry("thing", folder="thing_box.things", first=first, **options)


def registering(registry: Registry[Thing]) -> None:
    """Lets every module of the package register the thing of its name."""
    from importlib import import_module

    def register(module: str) -> None:
        registry.register(Thing(module.rpartition(".")[2].replace("_", "-")))

    import_module("thing_box.things").register = register  # type: ignore[attr-defined]


def test_names_are_the_files_and_nothing_is_imported(folder: Path) -> None:
    registry = box()
    assert "big-red" in registry
    assert "big_red" not in registry
    assert "-shared" not in registry
    assert list(registry) == ["alpha", "big-red"]
    assert list(box(first=("big-red",))) == ["big-red", "alpha"]
    assert not [name for name in sys.modules if name.startswith("thing_box.things")]


def test_one_is_imported_when_it_is_wanted(folder: Path) -> None:
    registry = box()
    registering(registry)
    assert registry["big-red"] == Thing("big-red")
    assert "thing_box.things.big_red" in sys.modules
    assert "thing_box.things.alpha" not in sys.modules
    assert dict(registry) == {"alpha": Thing("alpha"), "big-red": Thing("big-red")}


def test_files_that_say_no_name_are_all_read(folder: Path) -> None:
    registry = box(named_by_file=False)
    registering(registry)
    registry.register(Thing("aa"))
    assert "big-red" in registry
    assert {"thing_box.things.big_red", "thing_box.things.alpha"} <= sys.modules.keys()
    assert "thing_box.things._shared" not in sys.modules
    assert list(registry) == ["aa", "alpha", "big-red"]


def test_a_name_is_taken_once(folder: Path) -> None:
    registry = box()
    with pytest.raises(ValueError, match="the thing 'alpha' is registered already; use another name"):
        registry.register(Thing("alpha"))  # whose file has not been read yet
    registry.register(Thing("mine", 1))
    assert registry.register(Thing("mine", 1)) == Thing("mine", 1)
    with pytest.raises(ValueError, match="'mine' is registered already"):
        registry.register(Thing("mine", 2))


def test_a_plug_in_that_is_not_there_is_said_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOINTSEARCH_PLUGINS", "no_such_plug_in")
    registry: Registry[Thing] = Registry("thing")
    registry.register(Thing("known"))
    assert "known" in registry
    for _ in range(2):
        with pytest.raises(UnsupportedError, match=r"JOINTSEARCH_PLUGINS must name modules.*no_such_plug_in"):
            list(registry)


def test_what_a_name_is_not(folder: Path) -> None:
    registry = box()
    assert (
        registry.problem("alhpa")
        == "a thing must be one of alpha, big-red, but got 'alhpa'; did you mean 'alpha'?"
    )
    with pytest.raises(ValueError, match="a thing must be one of"):
        registry.checked("alhpa")
    assert registry.checked("alpha") == "alpha"
    assert load("pathlib:Path") is Path
