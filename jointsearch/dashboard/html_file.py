"""Texts, tables and figures as one HTML file with plotly.js inside: it can be mailed and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from jointsearch.dashboard.figures.look import SCHEMES

FILE = """<!doctype html>
<html lang="en" data-mantine-color-scheme="light"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{schemes}
{style}</style>
<script>{plotly}</script></head>
<body><main class="wrap stack"><h1>{title}</h1>
{body}
</main></body></html>
"""
STYLE = Path(__file__).parent / "assets" / "style.css"


@dataclass(frozen=True)
class Table:
    """Texts in lines and columns."""

    heads: Sequence[str]
    lines: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A heading, what it says, and figures by name, each name once in a file."""

    heading: str
    texts: tuple[str, ...]
    figures: Mapping[str, go.Figure] = field(default_factory=dict)
    table: Table | None = None


def html_file(sections: Sequence[Section]) -> str:
    """The whole file, without a link to anything outside; the first heading is its title."""
    body = []
    for number, section in enumerate(sections):
        if number:
            body.append(f"<h2>{escape(section.heading)}</h2>")
        body += [f"<p>{escape(text)}</p>" for text in section.texts]
        if section.table:
            body.append(_html_table(section.table))
        body += [
            figure.to_html(
                full_html=False,
                include_plotlyjs=False,
                config={"displayModeBar": False, "responsive": True},
                div_id=f"figure-{name}",  # not one by chance: the same study makes the same file
            )
            for name, figure in section.figures.items()
        ]
    return FILE.format(
        title=escape(sections[0].heading),
        schemes=SCHEMES,
        style=STYLE.read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
        body="\n".join(body),
    )


def _html_table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in table.heads)
    lines = ("".join(f"<td>{escape(text)}</td>" for text in line) for line in table.lines)
    body = "".join(f"<tr>{cells}</tr>" for cells in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
