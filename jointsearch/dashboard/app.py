"""The Dash application: pages by address, refreshed while a study runs. It starts no processes.

Every page has a clock of its own; where nothing has changed since the browser's last look, nothing is sent.
The browser says what pages are drawn for (``assets/look.js``): light or dark, a phone or not.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, dcc, html
from dash.exceptions import DependencyException
from optuna.storages import BaseStorage
from werkzeug.exceptions import HTTPException

from jointsearch.dashboard.figures.look import DARK, LIGHT, SCHEMES
from jointsearch.dashboard.live import Carriers, LiveStudies
from jointsearch.dashboard.pages import by_address, front, plan, progress, runs, shell, studies, trials, why
from jointsearch.dashboard.pages.banner import storage_away
from jointsearch.dashboard.pages.browser import in_browser
from jointsearch.errors import StorageError, first_line
from jointsearch.study.storage.outages import of_database

ASSETS = Path(__file__).parent / "assets"
PAGES = (by_address, shell, studies, front, plan, trials, why, progress, runs)
"""Those that answer to a clock or a person."""

INDEX = """<!DOCTYPE html>
<html lang="en"><head>{%metas%}<title>{%title%}</title>
<link rel="preload" href="/assets/inter.woff2" as="font" type="font/woff2" crossorigin>
<style>SCHEMES</style>{%css%}
<script>{
  const chosen = localStorage.getItem("mantine-color-scheme-value")
  const system = matchMedia("(prefers-color-scheme: dark)").matches
  const dark = ["dark", "light"].includes(chosen) ? chosen === "dark" : system
  document.documentElement.setAttribute("data-mantine-color-scheme", dark ? "dark" : "light")
}</script></head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body></html>
"""

THEME: dict[str, Any] = {
    "fontFamily": "Inter, system-ui, sans-serif",
    "primaryColor": "search",
    "primaryShade": {"light": 6, "dark": 4},
    "defaultRadius": "md",
    "respectReducedMotion": True,
    "colors": {
        # Mantine's ten shades; its dark ones go from the ink to the page
        "dark": [
            DARK.ink,
            DARK.soft,
            "#8B96A3",
            DARK.grey,
            DARK.line,
            DARK.grid,
            "#1D232A",
            DARK.card,
            DARK.page,
            "#0A0C0F",
        ],
        "search": [
            "#EAF4FC",
            "#D3E6F6",
            "#A9D0EE",
            "#7DBAE6",
            DARK.blue,
            "#2A86CC",
            LIGHT.blue,
            "#0A5C9E",
            "#0B4F8A",
            "#083C69",
        ],
    },
}


GRID = re.compile(r'<script src="([^"]*/dash_ag_grid/[^"]*)"></script>')
"""The table's script: more than a megabyte, for one page of them all."""


class _Application(Dash):
    def interpolate_index(self, *args: Any, **parts: Any) -> Any:
        """The first view does not wait for the table; the page that has one does (``assets/look.js``)."""
        link = r'<meta name="grid-script" content="\1">'
        fill: Any = super().interpolate_index
        return fill(*args, **{**parts, "scripts": GRID.sub(link, parts["scripts"])})


def create_app(
    storage: BaseStorage, csrf_cookie: str = "_csrf_token", carriers: Carriers | None = None
) -> Dash:
    """The application over all studies of ``storage``; ``app.server`` is its WSGI application.

    ``csrf_cookie``: where its pages find what they send back as X-CSRFToken. ``carriers``: which runtimes can
    carry a plan; without it pages do not say.
    """
    app = _Application(
        "jointsearch",
        title="jointsearch",
        update_title="",
        assets_folder=str(ASSETS),
        index_string=INDEX.replace("SCHEMES", SCHEMES),
        serve_locally=True,
        compress=True,
        suppress_callback_exceptions=True,  # pages come by address
        enable_mcp=False,
        csrf_token_name=csrf_cookie,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    app.layout = _frame()
    app.server.register_error_handler(DependencyException, lambda error: ("no such file", 404))
    app.server.register_error_handler(Exception, _unanswered)
    in_browser(app, "jointsearch.arrive", Output("look", "data"), Input("address", "pathname"))
    live = LiveStudies(storage, carriers)
    for page in PAGES:
        page.add_callbacks(app, live)
    return app


def _unanswered(error: Exception) -> Any:
    """Pages keep what they show while the storage is away, and say why (``assets/look.js``)."""
    if isinstance(error, HTTPException):
        return error
    cause = error if isinstance(error, StorageError) else of_database(error)
    if cause is None:
        raise error
    return first_line(cause), 503, {"Content-Type": "text/plain; charset=utf-8"}


def _frame() -> Any:
    """What stays while pages come and go; the skeleton is there until the first one has come."""
    waiting = [dmc.Skeleton(height=84, radius="md"), dmc.Skeleton(height=520, radius="md")]
    return dmc.MantineProvider(
        [
            dcc.Location(id="address"),
            dcc.Store(id="look"),
            dcc.Download(id="download"),
            html.A("Skip to the content", href="#page", className="skip"),
            html.Header(html.Div(id="top", className="wrap"), className="top"),
            html.Main(
                [storage_away(), html.Div(waiting, id="page", className="stack", tabIndex="-1")],
                className="wrap",
            ),
        ],
        theme=THEME,
        defaultColorScheme="auto",
    )
