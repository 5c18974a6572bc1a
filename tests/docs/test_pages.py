"""What the README and the pages say is there: links, commands, settings, targets of make, Python names."""

from __future__ import annotations

import ast
import gzip
import importlib
import inspect
import json
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import jointsearch
from fixtures.pages import PAGES, README, ROOT, anchors, blocks, check_command, command_lines, links
from jointsearch.assemble import EMBEDDED
from jointsearch.config.study import StudyConfig
from jointsearch.config.yaml_file import read_study
from jointsearch.plan.formats import FORMATS

PYTHON = [
    pytest.param(block, id=f"{path.stem}-{number}")
    for path in PAGES
    for number, block in enumerate(blocks(path.read_text(encoding="utf-8"), "python"))
    if path.name != "CONTRIBUTING.md"
]
all_pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


@all_pages
def test_links_go_to_what_is_there(page: Path) -> None:
    for link in links(page.read_text(encoding="utf-8")):
        if link.startswith(("https://", "pictures/")):  # others' sites; what is drawn for the site
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@all_pages
def test_command_lines_are_understood(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(page.read_text(encoding="utf-8")):
        for words in command_lines(block):
            try:
                check_command(words)
            except click.UsageError as error:
                pytest.fail(f"{' '.join(words)}: {error.format_message()}")


def test_every_page_is_in_the_sites_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = sorted(line.split()[-1] for line in menu.splitlines() if line.endswith(".md"))
    names = [page.relative_to(ROOT).as_posix().removeprefix("docs/") for page in PAGES if page != README]
    assert listed == sorted(names)


def test_commands_are_found_in_pages() -> None:
    text = 'jointsearch front a > b\nX=1 jointsearch worker c  # why\neval "$(jointsearch completion bash)"\n'
    assert command_lines(text) == [["front", "a"], ["worker", "c"], ["completion", "bash"]]
    assert command_lines('jointsearch select a --note "b; c"\n') == [["select", "a", "--note", "b; c"]]
    assert len(command_lines("\n".join(blocks(README.read_text(encoding="utf-8"))))) >= 6
    assert sum(len(command_lines(page.read_text(encoding="utf-8"))) for page in PAGES) >= 60


@all_pages
def test_make_has_the_targets(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"^make ([\w-]+)|`make ([\w-]+)`", text, re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), target


@pytest.fixture
def with_the_example() -> Iterator[None]:
    """The format that a page shows how to add is known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tests" / "quantization" / "outside")
        patch.setattr(FORMATS, "_items", dict(FORMATS._items))
        patch.delitem(sys.modules, "int4_groups", raising=False)
        importlib.import_module("int4_groups")
        yield


@all_pages
@pytest.mark.usefixtures("with_the_example")
def test_fragments_of_study_files_are_valid(page: Path) -> None:
    for block in blocks(page.read_text(encoding="utf-8"), "yaml"):
        values = yaml.safe_load(block) or {}  # comments alone
        if "name" not in values:
            base: dict[str, Any] = yaml.safe_load(EMBEDDED["quickstart"].read_text(encoding="utf-8"))
            del base["search_space"]
            StudyConfig.model_validate(base | values)


@pytest.mark.parametrize("block", PYTHON)
def test_python_examples_name_what_there_is(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        match node:
            case ast.Import(names=names):
                assert all(find_spec(alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                found = importlib.import_module(module)
                assert all(hasattr(found, alias.name) for alias in names), module
            case ast.Attribute(value=ast.Name(id="js"), attr=name):
                assert name in jointsearch.__all__
            case ast.Attribute(value=ast.Name(id=variable), attr=name) if variable in OBJECTS:
                assert name in attributes(OBJECTS[variable]), f"{variable}.{name}"
            case ast.Call(func=ast.Attribute(value=ast.Name(id=variable), attr=name), keywords=given):
                if variable == "js" or variable in OBJECTS:
                    check_keywords(ast.unparse(node.func), {str(keyword.arg) for keyword in given})


def check_keywords(called: str, given: set[str]) -> None:
    """Whether what is called has all of the keywords."""
    variable, _, name = called.partition(".")
    owner = jointsearch if variable == "js" else getattr(jointsearch, OBJECTS[variable])
    parameters = inspect.signature(attrgetter(name)(owner)).parameters.values()
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
        assert given <= {parameter.name for parameter in parameters}, called


def attributes(name: str) -> set[str]:
    """Of a public class: what it defines, and the fields of data classes."""
    found = getattr(jointsearch, name)
    return {*dir(found), *getattr(found, "__dataclass_fields__", ())}


OBJECTS = {"study": "Study", "plan": "Plan", "verdict": "Verdict", "result": "TrainingResult"}
"""Variables of the examples, and what they are."""


def test_the_readme_is_short() -> None:
    assert README.stat().st_size <= 6_000


def test_the_readmes_figure_is_of_the_embedded_study_as_it_is() -> None:
    text = README.read_text(encoding="utf-8")
    found = re.search(
        r"after (\d+) trials.*?Seed (\d+), `sampler: (\w+)`, learning rate ([\d.]+);", text, re.S
    )
    assert found
    dump = gzip.decompress((ROOT / "studies" / "quickstart" / "study.sql.gz").read_bytes()).decode()
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(dump)
        (stored,) = database.execute("SELECT value_json FROM study_user_attributes WHERE key = 'config'")
    recorded = StudyConfig.model_validate(json.loads(stored[0]))
    assert recorded.identity == read_study(EMBEDDED["quickstart"]).identity
    search, rate = recorded.search, recorded.calibration.learning_rate
    assert (int(found[1]), int(found[2]), found[3], float(found[4])) == (
        search.trials,
        search.seed,
        search.sampler,
        rate,
    )


def test_the_skeleton_of_a_format_is_that_of_the_whole_one() -> None:
    (block,) = blocks((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), "python")
    whole = (ROOT / "tests" / "quantization" / "outside" / "int4_groups.py").read_text(encoding="utf-8")
    assert set(block.splitlines()) <= set(whole.splitlines())
