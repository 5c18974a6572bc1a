"""The Dash application: pages by address, refreshed while a study runs. It starts no processes.

Every page has a clock of its own; where nothing has changed since the browser's last look, nothing is sent.
"""

from __future__ import annotations

from pathlib import Path

from dash import Dash, dcc, html
from dash.exceptions import DependencyException
from optuna.storages import BaseStorage

from jointsearch.dashboard.live import LiveStudies
from jointsearch.dashboard.pages import by_address, front, plan, progress, studies

ASSETS = Path(__file__).parent / "assets"
PAGES = (by_address, studies, front, plan, progress)
"""Those that answer to a clock or a person."""


def create_app(storage: BaseStorage, csrf_cookie: str = "_csrf_token") -> Dash:
    """The application over all studies of ``storage``; ``app.server`` is its WSGI application.

    ``csrf_cookie``: where its pages find what they send back as X-CSRFToken.
    """
    app = Dash(
        "jointsearch",
        title="jointsearch",
        update_title="",
        assets_folder=str(ASSETS),
        serve_locally=True,
        suppress_callback_exceptions=True,  # pages come by address
        enable_mcp=False,
        csrf_token_name=csrf_cookie,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    app.layout = html.Main(
        [dcc.Location(id="address"), dcc.Download(id="download"), html.Div(id="page")], lang="en"
    )
    app.server.register_error_handler(DependencyException, lambda error: ("no such file", 404))
    live = LiveStudies(storage)
    for page in PAGES:
        page.add_callbacks(app, live)
    return app
