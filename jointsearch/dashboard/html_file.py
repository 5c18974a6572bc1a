"""Texts, tables and figures as one HTML file with plotly.js inside: it can be mailed and kept.

It is light or dark as its reader's system is, and light on paper: every figure is in it as both.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from jointsearch.dashboard.figures.look import DARK_PAPER, PAPER, SCHEMES, Look

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
</main>
<script>{script}</script></body></html>
"""
SCRIPT = """
const figures = FIGURES, system = matchMedia("(prefers-color-scheme: dark)")
const draw = (dark) => {
  document.documentElement.setAttribute("data-mantine-color-scheme", dark ? "dark" : "light")
  const config = { displayModeBar: false, responsive: true }
  for (const [name, both] of Object.entries(figures))
    Plotly.react(`figure-${name}`, { ...both[Number(dark)], config })
}
draw(system.matches)
system.addEventListener("change", () => draw(system.matches))
addEventListener("beforeprint", () => draw(false))
addEventListener("afterprint", () => draw(system.matches))
"""
ASSETS = Path(__file__).parent / "assets"


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


def html_file(drawn: Callable[[Look], Sequence[Section]]) -> str:
    """The whole file, without a link to anything outside; the first heading is its title.

    ``drawn``: the same sections for each look.
    """
    sections, dark = drawn(PAPER), drawn(DARK_PAPER)
    body, both = [], []
    for number, (section, other) in enumerate(zip(sections, dark, strict=True)):
        if number:
            body.append(f"<h2>{escape(section.heading)}</h2>")
        body += [f"<p>{escape(text)}</p>" for text in section.texts]
        if section.table:
            body.append(_html_table(section.table))
        for name, figure in section.figures.items():
            height = figure.layout.height
            body.append(f'<div id="figure-{name}" class="plotly-graph-div" style="height:{height}px"></div>')
            # as Plotly writes it, no text of a study ends the script
            both.append(f'"{name}":[{figure.to_json()},{other.figures[name].to_json()}]')
    return FILE.format(
        title=escape(sections[0].heading),
        schemes=SCHEMES,
        style=_style(),
        plotly=get_plotlyjs(),
        body="\n".join(body),
        script=SCRIPT.replace("FIGURES", "{" + ",".join(both) + "}"),
    )


def _style() -> str:
    """The pages', with their font in it."""
    font = base64.b64encode((ASSETS / "inter.woff2").read_bytes()).decode()
    style = (ASSETS / "style.css").read_text(encoding="utf-8")
    return style.replace("url(inter.woff2)", f"url(data:font/woff2;base64,{font})")


def _html_table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in table.heads)
    lines = ("".join(f"<td>{escape(text)}</td>" for text in line) for line in table.lines)
    body = "".join(f"<tr>{cells}</tr>" for cells in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
