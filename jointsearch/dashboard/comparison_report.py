"""A comparison of named strategies as one HTML file: its table and its figures."""

from __future__ import annotations

from jointsearch.dashboard.figures.comparison import difference_figure, quality_figure
from jointsearch.dashboard.figures.look import Look
from jointsearch.dashboard.html_file import Section, Table, html_file
from jointsearch.study.analysis.comparison import Comparison
from jointsearch.study.analysis.comparison_formats import caption, cells, columns


def comparison_html(comparison: Comparison) -> str:
    """One page without a link to anything outside."""

    def drawn(look: Look) -> list[Section]:
        return [
            Section(
                f"Strategies compared: {comparison.study}",
                (caption(comparison),),
                {
                    "quality": quality_figure(comparison, look),
                    "difference": difference_figure(comparison, look),
                },
                Table(columns(comparison), cells(comparison)),
            )
        ]

    return html_file(drawn)
