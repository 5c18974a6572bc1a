"""One HTML file with a study's figures and plotly.js inside, to be mailed and kept."""

from __future__ import annotations

from html import escape
from typing import Any

from plotly.offline import get_plotlyjs

from jointsearch.dashboard.data import front_table, plan_table, progress_table, study_row
from jointsearch.dashboard.figures import (
    describe,
    front_figure,
    hypervolume_figure,
    loss_figure,
    parts_figure,
    phases_figure,
    plan_figure,
    timeline_figure,
)
from jointsearch.study.studies import JointStudy

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 0 auto; max-width: 75rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }}</style>
<script>{plotly}</script></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""


def report_html(study: JointStudy) -> str:
    """The front, the chosen plan and the progress; raises ``StudyError`` where nothing is measured yet."""
    records = study.front()
    front = front_table(study, records)
    chosen = next((p for p in front.points if p.selected), None) or next(p for p in front.points if p.knee)
    plan = plan_table(study, records, chosen.trial)
    progress = progress_table(records)
    row = study_row(study, records)
    why = "selected" if chosen.selected else "knee"
    body = [
        _text(
            f"{row.model}, {row.task}: {row.complete} of {row.total} trials complete, {row.failed} failed."
        ),
        _figure(front_figure(front)),
        f"<h2>{escape(f'The chosen plan ({why})')}</h2>",
        _text("; ".join(describe(front, chosen))),
        *(_figure(draw(plan)) for draw in (plan_figure, parts_figure, loss_figure)),
        "<h2>Progress</h2>",
        *(_figure(draw(progress)) for draw in (hypervolume_figure, timeline_figure, phases_figure)),
        *(_text(f"{count} failed: {reason}") for reason, count in progress.failures),
    ]
    return PAGE.format(title=escape(study.name), plotly=get_plotlyjs(), body="\n".join(body))


def _text(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _figure(figure: Any) -> str:
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False}))
