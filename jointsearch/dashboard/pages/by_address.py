"""Which page is shown at which address."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State, dcc, html
from dash.exceptions import PreventUpdate

from jointsearch.dashboard.data.pair import pair_table
from jointsearch.dashboard.data.plan import plan_table
from jointsearch.dashboard.data.progress import progress_table
from jointsearch.dashboard.data.why import why_table
from jointsearch.dashboard.live import LiveStudies, version_of
from jointsearch.dashboard.pages.address import parts_of, study_at
from jointsearch.dashboard.pages.front import front_page
from jointsearch.dashboard.pages.pair import pair_page
from jointsearch.dashboard.pages.plan import plan_page
from jointsearch.dashboard.pages.progress import progress_page
from jointsearch.dashboard.pages.studies import studies_page, study_rows
from jointsearch.dashboard.pages.why import why_page
from jointsearch.errors import JointSearchError, StudyError
from jointsearch.study.analysis.front_table import front_table
from jointsearch.study.analysis.verdict import judge
from jointsearch.study.plans import chosen_trial, records_with_front
from jointsearch.study.stored import StoredStudy


def page_of(studies: LiveStudies, path: str) -> list[Any]:
    """What is shown at ``path``."""
    try:
        match parts_of(path):
            case []:
                return studies_page(study_rows(studies))
            case ["study", name, *rest]:
                return _study_page(studies[name], rest)
    except (JointSearchError, ValueError) as error:
        return [html.H1("Not found"), html.P(str(error)), dcc.Link("All studies", href="/")]
    return [html.H1("Not found"), dcc.Link("All studies", href="/")]


def _study_page(study: StoredStudy, rest: list[str]) -> list[Any]:
    records = study.records()
    version = version_of(study, records)
    match rest:
        case []:
            answer = records.answer
            sentence = judge(study, answer).sentence if answer.front else ""
            return front_page(front_table(study, answer), sentence, version)
        case ["plan", trial]:
            records = records.with_trial(int(trial))
            return plan_page(study, front_table(study, records), plan_table(study, records, int(trial)))
        case ["compare", first, second]:
            records = records.with_trial(int(first))
            return pair_page(study.name, pair_table(study, records, int(first), int(second)))
        case ["why", trial]:
            return why_page(study.name, why_table(study, records.with_trial(int(trial)), int(trial)))
        case ["why"]:
            records_with_front(study)  # says so where there is none yet
            chosen = chosen_trial(study)
            return why_page(study.name, why_table(study, records.with_trial(chosen), chosen))
        case ["progress"]:
            page = progress_page(study.name, progress_table(study, records))
            return [*page, dcc.Store(id="seen", data=version)]
    raise StudyError(f"a study has the pages plan, compare, why and progress, but got {'/'.join(rest)}")


def add_callbacks(app: Dash, studies: LiveStudies) -> None:
    @app.callback(Output("page", "children"), Input("address", "pathname"))
    def show_page(path: str | None) -> list[Any]:
        return page_of(studies, path or "/")

    @app.callback(
        Output("page", "children", allow_duplicate=True),
        Input("waiting-clock", "n_intervals"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def wait_for_trials(_ticks: int, path: str) -> list[Any]:
        if not study_at(studies, path).records().front:
            raise PreventUpdate
        return page_of(studies, path)
