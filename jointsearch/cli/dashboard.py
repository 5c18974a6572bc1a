"""``jointsearch dashboard`` and ``report``: a study seen in a browser."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from jointsearch.cli.messages import messages
from jointsearch.cli.options import name_argument, storage_option
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
    help="What every request must show; other hosts than this machine's own need one.",
)
@storage_option
def dashboard(host: str, port: int, auth_token: str, storage_url: str) -> None:
    """Serve the dashboard of all studies.

    optuna-dashboard is beside it, at /dashboard. With a token, open the address once with ?token=TOKEN.
    There is no encryption: put a proxy with TLS in front where others can listen.

    \b
    Example:
      jointsearch dashboard
      JOINTSEARCH_DASHBOARD_TOKEN=secret jointsearch dashboard --host 0.0.0.0
    """
    _need("dash", "optuna_dashboard", "waitress")
    from jointsearch.dashboard.serving import check_host, serve

    check_host(host, auth_token)
    # with all that is made with tables: optuna-dashboard asks for their version
    opened = open_if_there(storage_url) or open_storage(storage_url)
    shown = f"[{host}]" if ":" in host else host

    def tell() -> None:
        messages().print(f"serving at http://{shown}:{port}/; Ctrl-C ends it", markup=False, highlight=False)

    serve(opened, host, port, auth_token, tell)


@click.command()
@name_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write the HTML file.")
@click.option("--png", "folder", type=click.Path(path_type=Path), help="Write each figure as a picture here.")
@storage_option
def report(name: str, output: Path | None, folder: Path | None, storage_url: str) -> None:
    """Write a study's figures as one HTML file, or pictures.

    The file has all of study NAME in it, and needs nothing else.

    \b
    Example:
      jointsearch report quickstart -o report.html
      jointsearch report quickstart --png figures
    """
    if output is None and folder is None:
        raise click.UsageError("give -o FILE, --png DIR or both, but got neither")
    from jointsearch.dashboard.report import report_html, write_pictures

    study = load_study(name, storage_url)
    if output is not None:
        write_text(output, report_html(study))
        click.echo(f"wrote {output}", err=True)
    if folder is not None:
        for path in write_pictures(study, folder):
            click.echo(f"wrote {path}", err=True)


def _need(*modules: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise UnsupportedError(
            f"the dashboard needs {', '.join(missing)}; pip install 'jointsearch[dashboard]'"
        )
