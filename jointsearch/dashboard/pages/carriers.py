"""Which runtimes can carry a plan, and the command that writes its run for each."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dash import html

from jointsearch.dashboard.pages.elements import card, command_line, copy_button, said, table_of, tag
from jointsearch.files import as_file_name
from jointsearch.plan.formats import FORMATS, by_precision
from jointsearch.study.full_runs import RunState, full_runs
from jointsearch.study.stored import StoredStudy

if TYPE_CHECKING:
    from jointsearch.export.serving import Carried


def run_folder(study: StoredStudy, trial: int) -> str:
    """Where the plan's full run is, or else where a worker would put it."""
    run = full_runs(study.optuna_study.user_attrs).get(trial)
    if run is not None and run.state is RunState.COMPLETE and run.folder:
        return run.folder
    return f"runs/{as_file_name(study.name)}-trial-{trial}"


def carriers_card(study: StoredStudy, trial: int, carried: Sequence[Carried]) -> Any:
    folder = run_folder(study, trial)
    lines = [_line(entry, folder) for entry in carried]
    return card(
        "What can serve it",
        table_of(
            ("for", "", "formats", "what is written, or why it is not"), lines, ("l", "l r2", "l", "wide")
        ),
        note="written of the plan's full run by jointsearch export-model",
    )


def _line(entry: Carried, folder: str) -> list[Any]:
    target = entry.target
    formats = "any" if target.formats is None else ", ".join(_shown((*target.formats, "16bit")))
    if entry.problem:
        return [
            html.B(target.name),
            tag("cannot", "bad"),
            formats,
            html.Span(entry.problem, className="soft"),
        ]
    words = ("jointsearch", "export-model", folder, "--to", target.name, "-o", "served")
    command = shlex.join(words)
    copied = copy_button("Copy", command, size="xs", **said(f"Copy the command for {target.name}"))
    written = [html.Div(target.description), html.Div([command_line(command), copied], className="row")]
    return [html.B(target.name), tag("carries it", "good"), formats, written]


def _shown(formats: Sequence[str]) -> list[str]:
    return [FORMATS[name].shown for name in by_precision(formats)]
