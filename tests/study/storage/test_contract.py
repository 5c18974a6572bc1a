"""What the rest of the package relies on, of every kind of storage: an upgrade of Optuna breaks here."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import GrpcStorageProxy, RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.study.storage.heartbeats import (
    BEAT,
    Heartbeat,
    last_heartbeats,
    record_heartbeat,
    relay_heartbeats,
)
from jointsearch.study.storage.internals import is_stored
from jointsearch.study.storage.locks import creation_lock, study_lock, try_study_lock
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.storage.reading import ChangedTrials, stored
from jointsearch.study.storage.writing import fail_stale, suggest, take, write

Launch = Callable[..., subprocess.Popen[str]]
WaitFor = Callable[..., None]

SPACE = {"a.bits": IntDistribution(0, 2), "b.rank": IntDistribution(0, 9)}


class Kind:
    """A storage of one kind, and the database that it ends in."""

    def __init__(self, url: str, database_url: str) -> None:
        self.url = url
        self.database_url = database_url
        self.is_proxy = url != database_url
        self.storage = open_storage(url, create=True)
        self.opened = [self.storage]
        self.study = optuna.create_study(
            study_name="s", storage=self.storage, directions=["minimize", "minimize"]
        )
        self.study.sampler = optuna.samplers.RandomSampler(seed=0)

    def again(self, *, direct: bool = False) -> optuna.Study:
        """The study as another worker sees it; ``direct``: as one that is not behind the proxy."""
        self.opened.append(open_storage(self.database_url if direct else self.url))
        return optuna.load_study(study_name="s", storage=self.opened[-1])

    def ask(self) -> optuna.Trial:
        with experimental_optuna():
            return self.study.ask()

    def close(self) -> None:
        for storage in self.opened:
            if isinstance(storage, RDBStorage):
                storage.engine.dispose()
            else:
                assert isinstance(storage, GrpcStorageProxy)
                storage.close()


@pytest.fixture(params=["sqlite", "postgresql", "proxy"])
def kind(
    request: pytest.FixtureRequest, url: str, launch: Launch, wait_for: WaitFor, tmp_path: Path
) -> Iterator[Kind]:
    database = request.getfixturevalue("postgres_url") if request.param == "postgresql" else url
    if request.param == "proxy":
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        launch("proxy", database, str(port), log="proxy")
        wait_for(lambda: "serving at" in (tmp_path / "proxy").read_text())
        kind = Kind(f"grpc://127.0.0.1:{port}", database)
    else:
        kind = Kind(database, database)
    yield kind
    kind.close()


def enqueue(study: optuna.Study, **attributes: Any) -> None:
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params={"a.bits": 1, "b.rank": 7},
            distributions=dict(SPACE),
            user_attrs=attributes,
        )
    )


def contents(trial: FrozenTrial) -> tuple[object, ...]:
    """All but parameters and system attributes, which are not read."""
    times = trial.datetime_start, trial.datetime_complete
    return trial.number, trial.state, trial.values, times, trial.user_attrs


class TestContract:
    def test_a_proposal_and_its_attributes_are_written_together(self, kind: Kind) -> None:
        trial = kind.ask()
        params = suggest(trial, SPACE)
        assert params.keys() == SPACE.keys()
        assert trial.params == {}
        write(trial, {"plan": {"modules": ["é", 1.5, None]}, "seed": 3}, params, SPACE)
        assert trial.params == params
        (seen,) = kind.again(direct=True).get_trials()
        assert (seen.params, seen.distributions) == (params, SPACE)
        assert seen.user_attrs == {"plan": {"modules": ["é", 1.5, None]}, "seed": 3}
        write(trial, {"seed": 4})
        assert stored(trial).user_attrs["seed"] == trial.user_attrs["seed"] == 4
        assert stored(trial).params == params

    def test_what_a_trial_has_stays(self, kind: Kind) -> None:
        enqueue(kind.study, label="one")
        trial = kind.ask()
        assert suggest(trial, SPACE) == {"a.bits": 1, "b.rank": 7}
        write(trial, {}, {"a.bits": 0, "b.rank": 0}, SPACE)
        assert stored(trial).params == {"a.bits": 1, "b.rank": 7}

    def test_nothing_is_written_to_a_trial_that_has_ended(self, kind: Kind) -> None:
        trial = kind.ask()
        kind.again().tell(0, [1.0, 2.0])
        for written in [({"seed": 1},), ({}, {"a.bits": 0, "b.rank": 0}, SPACE)]:
            with pytest.raises(UpdateFinishedTrialError):
                write(trial, *written)
        assert stored(trial).user_attrs == {}
        fail_stale(kind.study, 0)
        assert stored(trial).state == TrialState.COMPLETE

    def test_a_waiting_trial_is_taken_once(self, kind: Kind) -> None:
        enqueue(kind.study, label="one")
        enqueue(kind.study, label="two")
        first, second = kind.study.get_trials()
        other = kind.again()
        taken = take(kind.study, first)
        assert taken is not None
        assert (taken.number, taken.user_attrs, taken.params) == (0, {"label": "one"}, first.params)
        assert stored(taken).state == TrialState.RUNNING
        assert take(other, first) is None
        assert take(other, second) is not None

    def test_a_stale_trial_is_failed_without_a_word(self, kind: Kind) -> None:
        kind.ask()
        trial = kind.ask()
        fail_stale(kind.again(), 1)
        fail_stale(kind.again(), 1)
        assert [t.state for t in kind.study.get_trials()] == [TrialState.RUNNING, TrialState.FAIL]
        assert stored(trial).user_attrs == {}

    def test_trials_are_read_as_optuna_has_them(self, kind: Kind) -> None:
        reader = ChangedTrials(kind.again())
        assert reader.read() == ()
        enqueue(kind.study, label="one")
        trials = [kind.ask() for _ in range(4)]
        write(trials[0], {"measurement": {"loss": 1.25}})
        kind.study.tell(trials[0], [float("inf"), 2.0])
        kind.study.tell(trials[1], state=TrialState.FAIL)
        kind.study.tell(trials[2], state=TrialState.PRUNED)
        enqueue(kind.study)
        before = reader.read()
        assert [contents(t) for t in before] == [contents(t) for t in kind.study.get_trials()]
        assert [t.state.name for t in before] == ["COMPLETE", "FAIL", "PRUNED", "RUNNING", "WAITING"]
        assert before[0].values == [float("inf"), 2.0]

        write(trials[3], {"worker": "me:1"})
        after = reader.read()
        assert [new is old for new, old in zip(after, before, strict=True)] == [True, True, True, False, True]
        assert after[3].user_attrs == {"worker": "me:1"}
        kind.study.tell(trials[3], [1.0, 1.0])
        assert [contents(t) for t in reader.read()] == [contents(t) for t in kind.study.get_trials()]

    def test_heartbeats_are_seen_by_number(self, kind: Kind) -> None:
        enqueue(kind.study)
        kind.study.tell(kind.ask(), [0.0, 0.0])
        trial, silent = kind.ask(), kind.ask()
        direct = kind.again(direct=True)
        none = Heartbeat(None, None)
        assert last_heartbeats(direct) == {trial.number: none, silent.number: none}
        record_heartbeat(trial, 0)
        if kind.is_proxy:
            assert last_heartbeats(kind.study) == {}
            assert stored(trial).user_attrs == {BEAT: 0}
            relay_heartbeats(direct, counts := {})
            assert list(counts.values()) == [0]
        found = last_heartbeats(direct)[trial.number]
        assert isinstance(found.at, datetime)
        assert found.age_seconds is not None
        assert 0 <= found.age_seconds < 30
        assert last_heartbeats(direct)[silent.number] == none
        kind.study.tell(trial, [1.0, 1.0])
        assert trial.number not in last_heartbeats(direct)

    def test_a_heartbeat_of_a_trial_that_was_taken_for_stale_does_no_harm(self, kind: Kind) -> None:
        trial = kind.ask()
        fail_stale(kind.study, trial.number)
        record_heartbeat(trial, 1)
        assert stored(trial).state == TrialState.FAIL

    def test_a_study_that_was_deleted_or_made_again_is_not_stored(self, kind: Kind) -> None:
        assert is_stored(kind.study)
        optuna.delete_study(study_name="s", storage=kind.storage)
        assert not is_stored(kind.study)
        optuna.create_study(study_name="other", storage=kind.storage)  # takes the number where it is reused
        optuna.create_study(study_name="s", storage=kind.storage)
        assert not is_stored(kind.study)

    def test_one_at_a_time_holds_the_lock_of_a_study(self, kind: Kind) -> None:
        inside, most = 0, 0
        count = threading.Lock()
        together = threading.Barrier(3)

        def work() -> None:
            nonlocal inside, most
            study = kind.again()
            together.wait()
            for _ in range(4):
                with study_lock(study):
                    with count:
                        inside += 1
                        most = max(most, inside)
                    assert study.user_attrs == {}  # time for others to come in
                    with count:
                        inside -= 1

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == 1 or kind.is_proxy  # which has no locks
        assert inside == 0

    def test_who_comes_second_goes_without_the_lock(self, kind: Kind) -> None:
        other = kind.again()
        with try_study_lock(kind.study, "probe") as mine:
            assert mine
            with try_study_lock(other, "probe") as theirs, try_study_lock(other, "else") as another:
                assert (theirs, another) == (False, True)
            with study_lock(other):
                pass
        with try_study_lock(other, "probe") as again:
            assert again is not kind.is_proxy  # behind it the first has it for good

    def test_a_lock_goes_with_an_error(self, kind: Kind) -> None:
        for _ in range(2):
            with pytest.raises(KeyError), creation_lock(kind.url):
                raise KeyError
            with pytest.raises(KeyError), study_lock(kind.study):
                raise KeyError

    def test_what_is_there_is_opened_without_migrations(self, kind: Kind) -> None:
        """Whose import takes longer than all the rest."""
        code = (
            "import json, sys; from jointsearch.study.storage.opening import open_storage;"
            f"names = [s.study_name for s in open_storage({kind.url!r}).get_all_studies()];"
            "print(json.dumps([names, 'alembic' in sys.modules]))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == [["s"], False]


def test_optuna_does_not_speak_of_what_it_stores(url: str) -> None:
    code = (
        "import optuna; from jointsearch.study.storage.opening import open_storage;"
        f"optuna.create_study(study_name='s', storage=open_storage({url!r}, create=True))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
