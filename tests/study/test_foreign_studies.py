"""Studies of others and of other versions beside ours: one bad study never affects another."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from click.testing import CliRunner
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import event

from jointsearch.cli import cli
from jointsearch.dashboard.live import LiveStudies
from jointsearch.dashboard.pages.studies import all_cards
from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.study.storage.heartbeats import BEAT, last_heartbeats
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import study_names
from jointsearch.study.worker import proxy_server
from jointsearch.study.worker.proxy_server import _keeping_heartbeats

Create = Callable[..., StoredStudy]


def spoil_config(study: optuna.Study) -> None:
    study.set_user_attr("config", {**study.user_attrs["config"], "of_tomorrow": 1})


def spoil_form(study: optuna.Study) -> None:
    study.set_user_attr("config", ["another", "form"])


def spoil_origins(study: optuna.Study) -> None:
    study.set_user_attr("full_run:1", {"of": "tomorrow"})
    with experimental_optuna():
        trial = study.ask()
    trial.set_user_attr("origin", {"kind": 7})
    study.tell(trial, state=TrialState.FAIL)


@pytest.mark.parametrize("spoil", [spoil_config, spoil_form, spoil_origins])
def test_a_study_of_another_version_hides_no_other(
    create: Create, storage: RDBStorage, url: str, spoil: Callable[[optuna.Study], None]
) -> None:
    for name in ("one", "other", "two"):
        create(name=name)
    spoil(optuna.load_study(study_name="other", storage=storage))
    listed = CliRunner().invoke(cli, ["study", "list", "--format", "json", "--storage", url])
    assert listed.exit_code == 0, listed.output
    assert {"one", "two"} <= {row["name"] for row in json.loads(listed.stdout)}
    assert {"one", "two"} <= {card.row.name for card in all_cards(LiveStudies(storage))}


def test_a_study_of_another_version_stops_no_heartbeats(
    create: Create,
    storage: RDBStorage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("jointsearch.study.storage.heartbeats.HEARTBEAT_SECONDS", 0.01)
    bad, good = (create(name=name).optuna_study for name in ("bad", "good"))
    beats: dict[str, Any] = {}
    with experimental_optuna():
        trials = [study.ask() for study in (bad, good)]
    spoil_config(bad)
    real = proxy_server.relay_heartbeats

    def fail_for_one(study: optuna.Study, counts: dict[int, int]) -> None:
        if study.study_name == "bad" and "broken" in study.user_attrs:
            raise ValueError("cannot be understood")
        real(study, counts)

    monkeypatch.setattr(proxy_server, "relay_heartbeats", fail_for_one)

    def beats_come(study: optuna.Study, trial: optuna.Trial, count: int) -> None:
        trial.set_user_attr(BEAT, count)
        while last_heartbeats(study)[trial.number].at in (None, beats.get(study.study_name)):
            trial.set_user_attr(BEAT, count := count + 1)
        beats[study.study_name] = last_heartbeats(study)[trial.number].at

    with caplog.at_level(logging.WARNING), _keeping_heartbeats(storage):
        beats_come(bad, trials[0], 0)  # its trials say all that heartbeats need
        beats_come(good, trials[1], 0)
        bad.set_user_attr("broken", True)
        while "study 'bad': ValueError: cannot be understood" not in caplog.text:
            time.sleep(0.005)
        beats_come(good, trials[1], 1000)


def test_names_are_read_without_trials(create: Create, storage: RDBStorage) -> None:
    create()
    foreign = optuna.create_study(study_name="foreign", storage=storage)
    foreign.add_trial(optuna.trial.create_trial(value=1.0))
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *rest: object) -> None:
        statements.append(statement)

    event.listen(storage.engine, "before_cursor_execute", note)
    assert study_names(storage) == ["small"]
    event.remove(storage.engine, "before_cursor_execute", note)
    asked = [statement for statement in statements if statement.startswith("SELECT")]
    assert len(asked) == 1
    assert "trial" not in asked[0]
