"""``jointsearch dashboard`` and ``report``: a study seen in a browser."""

from __future__ import annotations

import re
import secrets
from importlib.util import find_spec
from pathlib import Path

import click

from jointsearch.cli.options import name_argument, storage_option
from jointsearch.cli.telling import tell
from jointsearch.errors import UnsupportedError
from jointsearch.files import write_text
from jointsearch.study.storage.opening import open_if_there, open_storage
from jointsearch.study.study import load_study


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option(
    "--auth-token",
    envvar="JOINTSEARCH_DASHBOARD_TOKEN",
    show_envvar=True,
    default="",
    help="What every request must show; without one it is made anew at each start.",
)
@click.option("--no-token", is_flag=True, help="Ask for no token: every user of this machine may come.")
@storage_option
def dashboard(host: str, port: int, auth_token: str, no_token: bool, storage_url: str) -> None:
    """Serve the dashboard of all studies.

    Open the address that it prints: the token in it lets your browser in, and other users of the machine not.
    optuna-dashboard is beside it, at /dashboard. There is no encryption: put a proxy with TLS in front where
    others can listen.

    \b
    Example:
      jointsearch dashboard
      JOINTSEARCH_DASHBOARD_TOKEN=secret jointsearch dashboard --host 0.0.0.0
    """
    if no_token and auth_token:
        raise click.UsageError("--no-token and a token (--auth-token, JOINTSEARCH_DASHBOARD_TOKEN): give one")
    if not re.fullmatch("[!-~]*", auth_token):
        raise click.UsageError("a token must be of ASCII letters, digits and signs, without spaces")
    _need("dash", "optuna_dashboard", "waitress")
    from jointsearch.dashboard.serving import check_host, serve
    from jointsearch.export.serving import carriers

    made = "" if auth_token or no_token else secrets.token_urlsafe(24)
    token = auth_token or made
    check_host(host, token)
    # with all that is made with tables: optuna-dashboard asks for their version
    opened = open_if_there(storage_url) or open_storage(storage_url)
    shown = f"[{host}]" if ":" in host else host

    # a token that a person has given is known to that person, and is not printed
    query = f"?token={made}" if made else ""
    line = f"serving at http://{shown}:{port}/{query} ; Ctrl-C ends it"
    serve(opened, host, port, token, lambda: tell(line), carriers)


@click.command()
@name_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write the HTML file.")
@click.option("--png", type=click.Path(path_type=Path), help="Write each figure as a PNG picture here.")
@click.option("--svg", type=click.Path(path_type=Path), help="Write each figure as an SVG picture here.")
@storage_option
def report(name: str, output: Path | None, png: Path | None, svg: Path | None, storage_url: str) -> None:
    """Write a study's figures as one HTML file, or pictures.

    The file has all of study NAME in it, and needs nothing else.

    \b
    Example:
      jointsearch report quickstart -o report.html
      jointsearch report quickstart --png figures
    """
    if output is None and png is None and svg is None:
        raise click.UsageError("give -o FILE, --png DIR or --svg DIR, but got none of them")
    from jointsearch.dashboard.report import report_html, write_pictures

    study = load_study(name, storage_url)
    if output is not None:
        write_text(output, report_html(study))
        tell(f"wrote {output}")
    pictures: list[Path] = []
    if png is not None:
        pictures += write_pictures(study, png, "png")
    if svg is not None:
        pictures += write_pictures(study, svg, "svg")
    for path in pictures:
        tell(f"wrote {path}")


def _need(*modules: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise UnsupportedError(
            f"the dashboard needs {', '.join(missing)}; pip install 'jointsearch[dashboard]'"
        )
