"""The notebook runs top to bottom."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

import jointsearch

ROOT = Path(jointsearch.__file__).parents[1]
NOTEBOOK = ROOT / "studies" / "first_study.ipynb"
PLOTLY = "application/vnd.plotly.v1+json"


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def data_of(cell: Any) -> list[dict[str, Any]]:
    """What the cell shows, by media type."""
    return [output.data for output in cell.outputs if "data" in output]


def text_of(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def test_it_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in code_cells(notebook))


@pytest.mark.slow
def test_it_runs_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PLOTLY_RENDERER", "plotly_mimetype")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    cells = code_cells(notebook)
    figures = {
        cell.source.splitlines()[-1].partition("(")[0]: data[PLOTLY]
        for cell in cells
        for data in data_of(cell)
        if PLOTLY in data
    }
    assert set(figures) == {"js.plot_front", "js.plot_effects", "js.plot_plan"}
    by_name = {cell.source.splitlines()[-1]: cell for cell in cells}
    (url,) = (f"sqlite:///{path}" for path in tmp_path.glob("*/studies.db"))
    study = jointsearch.load_study("quickstart", url)
    drawn = {trace["name"]: trace for trace in figures["js.plot_front"]["data"]}
    best = sorted(study.best_trials, key=lambda trial: trial.values[1])
    assert drawn["front"]["customdata"] == [trial.number for trial in best]

    (saved,) = tmp_path.glob("*/plan.json")
    small = [trial for trial in best if trial.values[1] <= 1.5e6]
    ranks = jointsearch.Plan.load(saved).ranks
    assert ranks == study.plan(small[-1].number).ranks
    assert json.loads(saved.read_text(encoding="utf-8"))
    shapes = {spec.name: spec.shape for spec in study.layout.modules}
    trained = sum(rank * sum(shapes[name]) for name, rank in ranks.items())
    counted = re.search(r"trainable params: ([\d,]+)", text_of(by_name["model.print_trainable_parameters()"]))
    assert counted
    assert int(counted[1].replace(",", "")) == trained
    generated = text_of(cells[-1])
    assert "def read(self, path):" in generated
    assert len(generated.strip()) > len("def read(self, path):")
