"""The generated parts of the pages have every command, option, setting, default and public name."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import api_page
import command_pages
import example_files
import front_pictures
import pytest
import record_tables
import setting_tables
import study_tables
from click.testing import CliRunner
from scipy.stats import spearmanr

import jointsearch
from jointsearch.cli import cli
from jointsearch.config.study import StudyConfig

ROOT = Path(__file__).parents[2]


def help_of(*words: str) -> str:
    return CliRunner().invoke(cli, [*words, "--help"], prog_name="jointsearch").output


def listed(*words: str) -> Iterator[tuple[str, ...]]:
    """Every command, as the lists of ``--help`` have them."""
    _, found, commands = help_of(*words).partition("\nCommands:\n")
    for name in re.findall(r"^  (\S+)", commands, re.MULTILINE) if found else ():
        yield (*words, name)
        yield from listed(*words, name)


def test_every_command_and_option_is_there() -> None:
    page = command_pages.all_commands()
    sections = dict(re.findall(r"^##+ (.*?)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    assert list(sections) == [" ".join(words) for words in listed()]
    for name, section in sections.items():
        text, _, _ = help_of(*name.split()).partition("\nCommands:\n")
        options = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE)) - {"--help"}
        assert options == set(re.findall(r"^\| `(?:-\w, )?(--[\w-]+)", section, re.MULTILINE)), name


def test_the_example_of_every_command_is_there() -> None:
    page = command_pages.all_commands()
    examples = [
        line.strip()
        for words in listed()
        for line in help_of(*words).partition("Example:\n")[2].partition("\n\n")[0].splitlines()
    ]
    assert len(examples) > 40
    assert set(examples) <= set(page.splitlines())


def rows(page: str) -> dict[str, dict[str, list[str]]]:
    """The cells of each setting by section and name."""
    found: dict[str, dict[str, list[str]]] = {}
    for title, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL):
        cells = [re.split(r" (?<!\\)\| ", line[2:-2]) for line in body.splitlines() if line.startswith("| `")]
        found[title] = {line[0].strip("`"): line for line in cells}
    return found


def schemas(schema: Any) -> list[dict[str, Any]]:
    """The JSON schema of every mapping in a study file that has keys of its own."""
    if not isinstance(schema, dict | list):
        return []
    here = (
        [schema]
        if isinstance(schema, dict) and schema.get("type") == "object" and "properties" in schema
        else []
    )
    parts = schema.values() if isinstance(schema, dict) else schema
    return here + [found for part in parts for found in schemas(part)]


def test_every_setting_is_there_with_its_default() -> None:
    found = rows(setting_tables.all_settings())
    tables = [(set(table), table) for table in found.values()]
    every = schemas(StudyConfig.model_json_schema())
    assert len(every) == len(tables)
    for schema in every:
        candidates = [table for names, table in tables if names == set(schema["properties"])]
        assert candidates, sorted(schema["properties"])
        for name, field in schema["properties"].items():
            cells = [table[name][2] for table in candidates]
            if name in schema.get("required", ()):
                assert "required" in cells
            elif isinstance(field.get("default"), int | float | list) or field.get("default"):
                text = field["default"] if isinstance(field["default"], str) else json.dumps(field["default"])
                assert isinstance(field["default"], dict) or f"`{text}`" in cells, (name, cells)


def test_settings_have_their_meaning_and_what_they_can_be() -> None:
    found = rows(setting_tables.all_settings())
    assert found["calibration"]["steps"][1:3] == ["whole number > 0", "`60`"]
    assert "`nsga2`" in found["search"]["sampler"][1]
    assert found["search"]["trials"][3] == "Trials in all, uniform plans and failed trials included."
    assert found["task (type: seq2seq-lm)"]["generation"][2] == "`max_new_tokens: 128`"
    assert found["search_space.overrides"]["group"][2] == "required"
    assert found["model"]["revision"][2] == "none"


def test_every_objective_is_there() -> None:
    from jointsearch.front.objectives import OBJECTIVES

    assert set(re.findall(r"^\| `(\w+)`", setting_tables.all_objectives(), re.MULTILINE)) == set(OBJECTIVES)


def test_every_study_file_is_there() -> None:
    names = re.findall(r"\]\(\.\./studies/(.*?)\)", study_tables.ready_study_files())
    assert names == sorted(path.name for path in (ROOT / "studies").glob("*.yaml"))


def test_every_strategy_is_there() -> None:
    listed = CliRunner().invoke(cli, ["compare", "--list"]).output
    names = re.findall(r"^\| `([\w-]+)`", study_tables.all_strategies(), re.MULTILINE)
    assert len(names) > 20
    assert all(re.search(rf"(?<![\w-]){name}(?![\w-])", listed) for name in names)


def test_every_public_name_is_there() -> None:
    text = api_page.all_names()
    headings = re.findall(r"^      heading: (\S+)$", text, re.MULTILINE)
    assert len(headings) == len(set(headings)) == text.count(":::")
    modules = {name.partition(".")[0] for name in headings if "." in name}
    public = {name for name in jointsearch.__all__ if not name.startswith("__")}
    assert {name for name in headings if "." not in name} | modules == public
    assert all(attrgetter(name)(jointsearch) is not None for name in headings)


def test_examples_are_the_files_themselves() -> None:
    tests = ROOT / "tests"
    whole = (tests / "quantization" / "outside" / "int4_groups.py").read_text(encoding="utf-8")
    assert whole in example_files.format_in_one_file()
    shown = example_files.short_ones()
    outside = {
        path.name: path.read_text(encoding="utf-8") for path in (tests / "seams" / "outside").glob("*.py")
    }
    # a format and a method, whose longer examples are shown
    assert {name for name, text in outside.items() if text not in shown} == {"ternary.py", "vectors.py"}
    assert (tests / "training" / "methods" / "outside" / "lora_plus.py").read_text(encoding="utf-8") in shown


def test_figures_are_those_of_the_records() -> None:
    folder = ROOT / "studies" / "benchmarks"
    overheads = json.loads((folder / "overheads.json").read_text(encoding="utf-8"))
    text = record_tables.overheads()
    assert f"| {overheads['training_speed']['calibration_tokens_per_second']:.0f} |" in text
    assert f"{overheads['worker_memory']['peak_bytes'] / 1e9:.2f} GB" in text
    memory = json.loads((folder / "memory.json").read_text(encoding="utf-8"))
    ratios = [
        f"**{found['worker_peak_growth_bytes'] / found['plain_peak_growth_bytes']:.3f}**"
        for found in memory.values()
    ]
    assert f"| {' | '.join(ratios)} |" in record_tables.memory()
    workers = json.loads((folder / "workers.json").read_text(encoding="utf-8"))
    shares = [workers[kind]["throughput_of_ideal"]["2"] for kind in ("sqlite", "postgresql")]
    assert f"| {shares[0]:.0%} | {shares[1]:.0%} |" in record_tables.workers()
    served = json.loads((folder / "dashboard.json").read_text(encoding="utf-8"))
    assert f"{served['sqlite']['start_seconds']:.1f} s" in record_tables.dashboard()


def test_rank_correlations_are_scipys() -> None:
    text = record_tables.foretelling()
    for path in (ROOT / "studies" / "measured").glob("*/results.json"):
        runs = json.loads(path.read_text(encoding="utf-8"))["full_runs"]
        trials, tests = ([run["trial_quality"] for run in runs], [run["test"]["loss"] for run in runs])
        expected = spearmanr(trials, tests).statistic
        (row,) = (line for line in text.splitlines() if f"[{path.parent.name}]" in line)
        assert row.endswith(f"| {len(runs)} | {expected:.2f} |")
    assert record_tables.spearman([1, 1, 2, 3], [4, 5, 5, 9]) == pytest.approx(
        spearmanr([1, 1, 2, 3], [4, 5, 5, 9]).statistic
    )


def test_pictures_have_every_point_in_its_place() -> None:
    pictures = front_pictures.pictures()
    measured = {path.parent.name for path in (ROOT / "studies" / "measured").glob("*/front.csv")}
    assert set(pictures) == {f"pictures/{name}.svg" for name in measured}
    for name in measured:
        with (ROOT / "studies" / "measured" / name / "front.csv").open(newline="") as file:
            plans = [plan for plan in csv.DictReader(file) if "rank 0" not in plan["label"]]
        root = ET.fromstring(pictures[f"pictures/{name}.svg"])
        dots = [
            (float(dot.attrib["cx"]), float(dot.attrib["cy"]))
            for dot in root.iter("{http://www.w3.org/2000/svg}circle")
        ]
        front = sorted(
            (int(plan["model_bytes"]), float(plan["loss"])) for plan in plans if plan["on_front"] == "True"
        )
        assert len(dots) == len(front)
        assert [x for x, _ in dots] == sorted(x for x, _ in dots)
        assert [y for _, y in dots] == sorted(y for _, y in dots)  # losses fall, and down is larger
        crosses = root.findall(".//*[@stroke-width='2']")
        assert len(crosses) == sum(plan["label"].startswith("uniform") for plan in plans)
        assert all(0 < x < front_pictures.WIDTH and 0 < y < front_pictures.HEIGHT for x, y in dots)
