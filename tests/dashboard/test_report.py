"""The report: one small file that needs nothing else, and pictures."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from jointsearch.cli import cli
from jointsearch.dashboard.report import report_html, sections
from jointsearch.study.analysis.verdict import judge
from jointsearch.study.full_runs import select_trial
from jointsearch.study.stored import StoredStudy


def test_it_is_one_small_file_without_foreign_tags(hostile: StoredStudy, url: str, tmp_path: Path) -> None:
    text = report_html(hostile)
    assert len(text.encode()) < 6_000_000
    for tag in ("<script>alert(1)", "<a href='https://evil", "<i>host", "<img src=x"):
        assert tag not in text
    assert "<title>&lt;script&gt;alert(1)&lt;/script&gt;</title>" in text
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=", text)
    output = tmp_path / "report.html"
    done = CliRunner().invoke(cli, ["report", hostile.name, "-o", str(output), "--storage", url])
    assert done.exit_code == 0, done.output
    assert output.read_text(encoding="utf-8").count("plotly-graph-div") == 7  # too few trials to predict


def test_it_has_the_verdict_the_prediction_and_the_effects(small: StoredStudy) -> None:
    front, plan, _ = sections(small)
    assert front.texts[0] == ("some/model, causal-lm: 5 of 10 trials complete, 0 stopped early, 1 failed.")
    assert front.texts[1] == judge(small).sentence
    assert "predicted" in [trace.name for trace in front.figures["front"].data]
    assert list(plan.figures) == ["plan", "bytes", "losses", "effects"]
    assert plan.heading == "The chosen plan (knee)"
    select_trial(small.optuna_study, 2)
    assert sections(small)[1].heading == "The chosen plan (selected)"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium: apt-get install chromium")
def test_pictures(small: StoredStudy, url: str, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "figures"
    done = CliRunner().invoke(cli, ["report", "small", "--png", str(folder), "--storage", url])
    assert done.exit_code == 0, done.output
    names = [name for section in sections(small) for name in section.figures]
    assert sorted(path.stem for path in folder.iterdir()) == sorted(names)
    for path in folder.iterdir():
        head = path.read_bytes()[:24]
        assert head.startswith(b"\x89PNG")
        assert struct.unpack(">II", head[16:])[0] == 2000


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium: apt-get install chromium")
def test_pictures_for_papers(small: StoredStudy, url: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["report", "small", "--svg", str(tmp_path / "figures"), "--storage", url])
    assert done.exit_code == 0, done.output
    names = {name for section in sections(small) for name in section.figures}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {f"{name}.svg" for name in names}
    assert all(path.read_text().startswith("<svg") for path in (tmp_path / "figures").iterdir())


def test_figures_and_the_report_need_no_server() -> None:
    """Notebooks draw them where the extra `dashboard` is not installed."""
    modules = "report, comparison_report, figures.front, figures.plan, figures.progress, figures.why"
    imports = "; ".join(f"import jointsearch.dashboard.{name}" for name in modules.split(", "))
    code = f"{imports}; import sys; print({{'dash', 'optuna_dashboard', 'torch'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_it_has_to_be_told_where_to(small: StoredStudy, url: str) -> None:
    done = CliRunner().invoke(cli, ["report", "small", "--storage", url])
    assert done.exit_code == 2
    assert "give -o FILE, --png DIR or --svg DIR" in done.output
