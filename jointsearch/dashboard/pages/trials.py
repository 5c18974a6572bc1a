"""All trials: a table that one sorts, filters and saves, and how the plans that it shows differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import Dash, Input, Output, Patch, State, dcc, html
from dash.exceptions import PreventUpdate

from jointsearch.dashboard.data.trials import TrialsTable, safe_name, trials_table
from jointsearch.dashboard.figures.look import Look
from jointsearch.dashboard.figures.parallel import parallel_figure
from jointsearch.dashboard.live import LiveStudies, version_of
from jointsearch.dashboard.pages.address import look_of, study_at
from jointsearch.dashboard.pages.browser import in_browser
from jointsearch.dashboard.pages.elements import button, card, clock, graph, said
from jointsearch.study.stored import StoredStudy

KINDS = {"all": "All", "front": "Front", "named": "Named", "searched": "Searched", "failed": "Failed"}
THEME = (
    "themeQuartz.withParams({backgroundColor:'var(--card)',foregroundColor:'var(--ink)',"
    "borderColor:'var(--line)',headerBackgroundColor:'var(--page)',headerTextColor:'var(--ink)',"
    "rowHoverColor:'color-mix(in srgb, var(--blue) 5%, transparent)',accentColor:'var(--blue)',"
    "oddRowBackgroundColor:'var(--card)',fontFamily:'Inter, system-ui, sans-serif',fontSize:13,"
    "menuBackgroundColor:'var(--card)',inputBackgroundColor:'var(--card)'})"
)
NUMBER: dict[str, Any] = {"filter": "agNumberColumnFilter", "type": "rightAligned"}
DIGITS = 5
"""In front of and behind the point, of the largest number in a column."""
MEMORY = ("training_memory", "serving_memory")
OPTIONAL = (*MEMORY, "steps", "seed", "trainable", "seconds", "worker", "failure")
"""Columns that a person can hide."""
SHOWN = ("training_memory", "seconds", "worker")
"""Those of them that are there on a desk at first."""


@dataclass(frozen=True)
class Filter:
    """What of the table is shown, as an address has it: ``?kind=front&filter=8-bit``."""

    kind: str = "all"
    text: str = ""

    @classmethod
    def asked(cls, query: str) -> Filter:
        found = {name: values[0] for name, values in parse_qs(query.lstrip("?")).items()}
        kind = found.get("kind", "all")
        return cls(kind if kind in KINDS else "all", found.get("filter", ""))

    @property
    def model(self) -> dict[str, Any]:
        """AG Grid's."""
        equal = {"filterType": "text", "type": "equals", "filter": self.kind}
        return {} if self.kind == "all" else {"kind": equal}


def trials_page(
    study: StoredStudy, table: TrialsTable, version: str, look: Look, query: str = ""
) -> list[Any]:
    """``query``: of the address, with a filter that was shared."""
    shown = Filter.asked(query)
    front = [row["trial"] for row in table.rows if row["kind"] == "front"]
    drawn = graph(parallel_figure(table, front, look), "parallel", "Plans as lines between parallel axes")
    nothing = [] if table.axes else [html.P("No trial is complete yet.", className="soft")]
    parallel = card(
        "How the plans differ",
        *nothing,
        html.Div(drawn, hidden=not table.axes),
        note="Blue: what the table shows, or the front where it shows all. Means over parts of the model.",
        right=html.Div(
            [
                html.Span([html.I(style={"background": "var(--blue)"}), "shown"]),
                html.Span([html.I(style={"background": "var(--grey)", "opacity": 0.6}), "the rest"]),
            ],
            className="key",
        ),
    )
    return [
        html.H1(f"{study.name}: all trials", className="skip"),
        parallel,
        html.Section([_controls(table, shown, look), _grid(study, table, shown, look)], className="card"),
        dcc.Store(id="lines", data={"lines": table.lines, "front": front}),
        dcc.Store(id="optional", data=OPTIONAL),
        dcc.Store(id="trials-seen", data=version),
        clock("trials-clock"),
        # the first complete trial brings axes, and columns of what is foretold
        *([] if table.axes else [clock("waiting-clock")]),
    ]


def _controls(table: TrialsTable, shown: Filter, look: Look) -> Any:
    return html.Div(
        [
            dmc.SegmentedControl(
                id="trial-kind", data=kinds(table), value=shown.kind, size="sm", **said("Which trials")
            )
            if not look.phone
            else dmc.Select(
                id="trial-kind",
                data=kinds(table),
                value=shown.kind,
                size="sm",
                allowDeselect=False,
                **said("Which trials"),
            ),
            dmc.TextInput(
                id="trial-filter",
                value=shown.text,
                placeholder="Filter",
                size="sm",
                className="grow",
                debounce=200,
                **said("Filter the table"),
            ),
            html.Details(
                [
                    html.Summary("Columns", className="button"),
                    dmc.CheckboxGroup(
                        [
                            dmc.Checkbox(label=TITLES[name], value=name, size="sm", my=6)
                            for name in OPTIONAL
                            if name in known_columns(table)
                        ],
                        id="columns",
                        value=[] if look.phone else list(SHOWN),
                        persistence=True,
                        label="Further columns",
                        className="card",
                    ),
                ],
                className="more",
            ),
            button("Export CSV", "trials-csv", symbol="down"),
        ],
        className="row",
        style={"marginBottom": "12px"},
    )


def known_columns(table: TrialsTable) -> tuple[str, ...]:
    """The optional columns, those of memory where any of it is foretold."""
    foretold = [name for name in MEMORY if any(name in row for row in table.rows)]
    return (*foretold, *(name for name in OPTIONAL if name not in MEMORY))


def kinds(table: TrialsTable) -> list[dict[str, str]]:
    counts = {kind: len(table.rows) if kind == "all" else table.count(kind) for kind in KINDS}
    return [{"value": kind, "label": f"{KINDS[kind]} {counts[kind]}"} for kind in KINDS]


TEXTS = ("worker", "failure")
COUNTS = ("steps", "seed")
TITLES = {
    "plan": "Plan",
    "megabytes": "Size, MB",
    "rate": "Learning rate",
    "kind": "Set",
    "state": "State",
    "steps": "Steps",
    "seed": "Seed",
    "trainable": "Trainable, %",
    "seconds": "Seconds",
    "training_memory": "To train, MB",
    "serving_memory": "To serve, MB",
    "worker": "Worker",
    "failure": "Failure",
}


def fixed(table: TrialsTable, name: str) -> dict[str, Any]:
    """Numbers of a column with as many decimals each, so that they stand below each other; files have all."""
    largest = max((abs(row[name]) for row in table.rows if row.get(name) is not None), default=0.0)
    decimals = 1 if name == "seconds" else max(0, DIGITS - len(str(int(largest))))
    write = f"params.value == null ? '' : params.value.toFixed({decimals})"
    return {**NUMBER, "valueFormatter": {"function": write}, "useValueFormatterForExport": False}


def columns(
    table: TrialsTable, objectives: Sequence[str], optional: Sequence[str], *, with_rates: bool
) -> list[dict[str, Any]]:
    """The grid's; a plan's name is a link to its page. ``with_rates``: where learning rates are searched."""
    others = [name for name in objectives if name not in ("model_bytes", *MEMORY)]
    text = {"filter": "agTextColumnFilter"}
    return [
        {"field": "trial", "headerName": "Trial", "width": 90, **NUMBER},
        {"field": "plan", "headerName": TITLES["plan"], "cellRenderer": "PlanLink", "minWidth": 120, **text},
        *({"field": name, "headerName": name, "minWidth": 100, **fixed(table, name)} for name in others),
        {
            "field": "megabytes",
            "headerName": TITLES["megabytes"],
            "minWidth": 100,
            **fixed(table, "megabytes"),
        },
        *([{"field": "rate", "headerName": TITLES["rate"], "minWidth": 100, **NUMBER}] if with_rates else []),
        {"field": "kind", "headerName": TITLES["kind"], **text},
        {"field": "state", "headerName": TITLES["state"], **text},
        *({"field": name, "headerName": TITLES[name], **_kind_of(table, name)} for name in optional),
    ]


def _kind_of(table: TrialsTable, name: str) -> dict[str, Any]:
    if name in TEXTS:
        return {"filter": "agTextColumnFilter"}
    return NUMBER if name in COUNTS else fixed(table, name)


def _grid(study: StoredStudy, table: TrialsTable, shown: Filter, look: Look) -> Any:
    options: dict[str, Any] = {
        "theme": {"function": THEME},
        "suppressCellFocus": False,
        "animateRows": False,
        "rowHeight": 40 if look.phone else 34,
        "context": {"study": study.name},
        "quickFilterText": shown.text,
    }
    return dag.AgGrid(
        id="grid",
        rowData=list(table.rows),
        filterModel=shown.model,
        columnDefs=columns(
            table, study.config.objectives, known_columns(table), with_rates=bool(study.space.learning_rates)
        ),
        defaultColDef={"sortable": True, "resizable": True, "flex": 1, "minWidth": 90},
        dashGridOptions=options,
        getRowId="params.data.trial + ''",
        csvExportParams={"fileName": f"{safe_name(study.name)}-trials.csv"},
        dangerously_allow_code=False,
        style={"height": "560px", "width": "100%"},
    )


def add_callbacks(app: Dash, studies: LiveStudies) -> None:
    grid = "jointsearch_trials"
    in_browser(app, f"{grid}.kind", Output("grid", "filterModel"), Input("trial-kind", "value"), first=False)
    options = Output("grid", "dashGridOptions"), State("grid", "dashGridOptions")
    in_browser(app, f"{grid}.filter", options[0], Input("trial-filter", "value"), options[1], first=False)
    shown = Input("columns", "value"), State("optional", "data"), State("grid", "columnDefs")
    in_browser(app, f"{grid}.columns", Output("grid", "columnDefs"), *shown)
    save = Output("grid", "exportDataAsCsv"), Input("trials-csv", "n_clicks")
    in_browser(app, f"{grid}.save", *save, first=False)
    drawn = Output("parallel", "figure"), Input("grid", "virtualRowData")
    known = State("lines", "data"), State("parallel", "figure")
    in_browser(app, f"{grid}.lines", *drawn, *known, first=False)

    @app.callback(
        Output("grid", "rowData"),
        Output("lines", "data"),
        Output("parallel", "figure", allow_duplicate=True),
        Output("trial-kind", "data"),
        Output("trials-seen", "data"),
        Input("trials-clock", "n_intervals"),
        State("address", "pathname"),
        State("trials-seen", "data"),
        State("look", "data"),
        prevent_initial_call=True,
    )
    def refresh(_ticks: int, path: str, seen: str, look: dict[str, Any]) -> Any:
        study = study_at(studies, path)
        records = study.records()
        version = version_of(study, records)
        if version == seen:
            raise PreventUpdate
        table = trials_table(study, records)
        front = [row["trial"] for row in table.rows if row["kind"] == "front"]
        lines = {"lines": table.lines, "front": front}
        return list(table.rows), lines, _axes(table, look_of(look)), kinds(table), version


def _axes(table: TrialsTable, look: Look) -> Patch:
    """The axes as they are now; the browser draws the lines (``assets/trials.js``)."""
    drawn = parallel_figure(replace(table, lines={}), (), look)
    patch = Patch()
    for part in ("annotations", "shapes", "xaxis"):
        patch["layout"][part] = drawn.layout[part]
    return patch
