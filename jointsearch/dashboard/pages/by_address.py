"""Which page is shown at which address."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.exceptions import PreventUpdate

from jointsearch.dashboard.data.pair import pair_table
from jointsearch.dashboard.data.plan import plan_table
from jointsearch.dashboard.data.progress import progress_table
from jointsearch.dashboard.data.studies import study_row
from jointsearch.dashboard.data.trials import trials_table
from jointsearch.dashboard.data.why import why_table
from jointsearch.dashboard.figures.look import Look
from jointsearch.dashboard.live import LiveStudies, version_of
from jointsearch.dashboard.pages.address import look_of, parts_of, study_at, study_path
from jointsearch.dashboard.pages.elements import empty
from jointsearch.dashboard.pages.front import asked_steps, front_page
from jointsearch.dashboard.pages.front_refresh import after
from jointsearch.dashboard.pages.pair import pair_page
from jointsearch.dashboard.pages.plan import plan_page
from jointsearch.dashboard.pages.progress import progress_page
from jointsearch.dashboard.pages.runs import runs_page
from jointsearch.dashboard.pages.shell import top_of
from jointsearch.dashboard.pages.studies import all_cards, studies_page
from jointsearch.dashboard.pages.trials import trials_page
from jointsearch.dashboard.pages.why import why_page
from jointsearch.errors import JointSearchError, StorageError, StudyError
from jointsearch.study.analysis.front_table import front_table
from jointsearch.study.analysis.progress import running_trials
from jointsearch.study.plans import chosen_trial, records_with_front
from jointsearch.study.stored import StoredStudy

ON_PAGE = Look(titled=False)


def page_of(studies: LiveStudies, path: str, look: Look = ON_PAGE, query: str = "") -> list[Any]:
    """What is shown at ``path``; ``query``: the rest of the address."""
    parts = parts_of(path)
    try:
        match parts:
            case []:
                return studies_page(all_cards(studies))
            case ["study", name, *rest]:
                return _study_page(studies, studies[name], rest, look, query)
    except StorageError:  # not that there is no such page
        raise
    except (JointSearchError, ValueError) as error:
        return [_not_found(studies, parts, str(error))]
    return [_not_found(studies, parts, "There is no such page.")]


def _not_found(studies: LiveStudies, parts: list[str], why: str) -> Any:
    names = studies.read_each(lambda study: study.name)
    asked = parts[1] if len(parts) > 1 and parts[0] == "study" else ""
    near = [] if asked in names else get_close_matches(asked, names, n=1)
    links = [
        html.P(["Did you mean ", dcc.Link(name, href=study_path(name)), "?"], className="soft")
        for name in near
    ]
    return empty(
        "alert", "Not found", html.P(why, className="soft"), *links, dcc.Link("All studies", href="/")
    )


def _study_page(
    studies: LiveStudies, study: StoredStudy, rest: list[str], look: Look, query: str
) -> list[Any]:
    records = study.records()
    version = version_of(study, records)
    match rest:
        case []:
            shown = after(study, records, asked_steps(query))
            return front_page(study, shown, studies.verdict(study, shown), version, look, query)
        case ["plan", trial]:
            records = records.with_trial(int(trial))
            table, verdict = front_table(study, records), studies.verdict(study, records)
            plan = plan_table(study, records, int(trial))
            return plan_page(study, table, plan, verdict, look, studies.carriers)
        case ["compare", first, second]:
            records = records.with_trial(int(first))
            return pair_page(study.name, pair_table(study, records, int(first), int(second)))
        case ["trials"]:
            return trials_page(study, trials_table(study, records), version, look, query)
        case ["why", trial]:
            return why_page(study, why_table(study, records.with_trial(int(trial)), int(trial)), look)
        case ["why"]:
            records_with_front(study)  # says so where there is none yet
            chosen = chosen_trial(study)
            return why_page(study, why_table(study, records.with_trial(chosen), chosen), look)
        case ["progress"]:
            row, progress = study_row(study, records), progress_table(study, records)
            return progress_page(study, row, progress, running_trials(study), version, look)
        case ["runs"]:
            return runs_page(study, look)
    pages = "plan, compare, trials, why, progress and runs"
    raise StudyError(f"a study has the pages {pages}, but got {'/'.join(rest)}")


def add_callbacks(app: Dash, studies: LiveStudies) -> None:
    @app.callback(
        Output("top", "children"),
        Output("page", "children"),
        Input("look", "data"),
        State("address", "pathname"),
    )
    def show_page(look: Mapping[str, Any] | None, path: str | None) -> Any:
        """The browser says how it looks whenever the address changes."""
        if look is None:
            return no_update, no_update
        found = page_of(studies, path or "/", look_of(look), str(look.get("query", "")))
        return top_of(studies, path or "/"), found

    @app.callback(
        Output("page", "children", allow_duplicate=True),
        Input("waiting-clock", "n_intervals"),
        State("address", "pathname"),
        State("look", "data"),
        prevent_initial_call=True,
    )
    def wait(_ticks: int, path: str, look: Mapping[str, Any]) -> list[Any]:
        """For the first study, or for its first plan."""
        waiting = (
            not study_at(studies, path).records().answer.front if parts_of(path) else not all_cards(studies)
        )
        if waiting:
            raise PreventUpdate
        return page_of(studies, path, look_of(look), str(look.get("query", "")))
