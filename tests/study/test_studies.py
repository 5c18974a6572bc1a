from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
from optuna.storages import RDBStorage

from jointsearch.config.study import StudyConfig
from jointsearch.creating import Draft, store
from jointsearch.errors import StudyError, StudyFileError
from jointsearch.plan.layout import ModelLayout
from jointsearch.study.full_runs import select_trial, selected
from jointsearch.study.plans import complete_trial, export_plan, records_with_front
from jointsearch.study.storage.identity import identified
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import (
    check_unchanged,
    create_study,
    delete_study,
    find_study,
    open_study,
    study_names,
)
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

Configure = Callable[..., StudyConfig]
Create = Callable[..., StoredStudy]


def test_a_stored_study_is_found_whole(create: Create, storage: RDBStorage, layout: ModelLayout) -> None:
    made = create(calibration={"steps": 9})
    found = open_study(storage, "small")
    assert found.config == made.config
    assert found.layout == layout
    assert found.space == made.space
    assert [trial.origin.name for trial in found.records().waiting] == [
        f"uniform {bits}-bit rank {rank}" for bits in (4, 16) for rank in (0, 4)
    ]
    assert found.optuna_study.metric_names == ["loss", "model_bytes"]
    assert [direction.name for direction in found.optuna_study.directions] == ["MINIMIZE", "MINIMIZE"]


def test_a_changed_study_file_is_refused_with_the_difference(create: Create, configure: Configure) -> None:
    study = create()
    with pytest.raises(StudyError) as caught:
        check_unchanged(study, configure(calibration={"steps": 80}, search={"sampler": "tpe", "trials": 99}))
    assert str(caught.value) == (
        "study 'small' was made from another study file "
        "(calibration.steps: 5 -> 80; search.sampler: random -> tpe); "
        "undo the change, give the file another name, or delete the study"
    )


def test_what_may_change_is_not_refused(create: Create, configure: Configure) -> None:
    study = create()
    changed = configure(search={"trials": 99}, description="more", full_run={"epochs": 3})
    assert changed != study.config
    check_unchanged(study, changed)


def test_an_unknown_study_names_the_nearest(create: Create, storage: RDBStorage) -> None:
    with pytest.raises(StudyError, match=r"there is no study 'smal' \(the storage has none\)"):
        open_study(storage, "smal")
    create()
    with pytest.raises(StudyError, match="there is no study 'smal'; did you mean 'small'\\?"):
        open_study(storage, "smal")
    with pytest.raises(StudyError, match=r"there is no study 'zzz' \(there are small\)"):
        open_study(storage, "zzz")
    assert find_study(storage, "zzz") is None


def test_a_study_whose_creation_was_killed_is_made_anew(
    storage: RDBStorage, url: str, configure: Configure, layout: ModelLayout
) -> None:
    half = identified(optuna.create_study(study_name="small", storage=storage, directions=["minimize"] * 2))
    half.set_user_attr("layout", {})
    half.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING))
    assert find_study(storage, "small") is None
    study = store(Draft(configure(), layout), url)
    assert len(study.records().waiting) == 4
    again = store(Draft(configure(), layout), url)
    assert again.optuna_study.user_attrs["identity"] == study.optuna_study.user_attrs["identity"]


def test_a_study_is_created_once(storage: RDBStorage, configure: Configure, layout: ModelLayout) -> None:
    create_study(storage, configure(), layout)
    with pytest.raises(StudyError, match="another process is creating 'small'; start it again"):
        create_study(storage, configure(), layout)


def test_a_foreign_study_is_refused_and_not_listed(create: Create, storage: RDBStorage) -> None:
    create()
    optuna.create_study(study_name="foreign", storage=storage)
    assert study_names(storage) == ["small"]
    with pytest.raises(StudyError, match="'foreign' was not made by jointsearch; choose another name"):
        open_study(storage, "foreign")
    with pytest.raises(StudyError, match="not made by jointsearch"):
        delete_study(storage, "foreign")
    assert optuna.get_all_study_names(storage) == ["small", "foreign"]


def test_a_study_of_another_version_is_refused(create: Create, storage: RDBStorage) -> None:
    study = create().optuna_study
    study.set_user_attr("config", {**study.user_attrs["config"], "of_tomorrow": 1})
    with pytest.raises(StudyError, match="small"):
        open_study(storage, "small")


def test_delete_removes_one_study(create: Create, storage: RDBStorage) -> None:
    create()
    create(name="other")
    delete_study(storage, "small")
    assert study_names(storage) == ["other"]
    with pytest.raises(StudyError, match="there is no study 'small'"):
        delete_study(storage, "small")


def test_a_study_that_cannot_be_made_leaves_nothing(
    configure: Configure, storage: RDBStorage, layout: ModelLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StudyFileError, match="rank 65"):
        create_study(storage, configure(search_space={"ranks": [0, 65]}), layout)
    assert optuna.get_all_study_names(storage) == []

    def break_down(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(optuna.Study, "add_trial", break_down)
    with pytest.raises(KeyboardInterrupt):
        create_study(storage, configure(), layout)
    assert optuna.get_all_study_names(storage) == []


def test_only_complete_trials_can_be_chosen(create: Create, layout: ModelLayout) -> None:
    study = create(search={"trials": 2})
    with pytest.raises(
        StudyError, match="'small' has no complete trial yet; `jointsearch study status small`"
    ):
        records_with_front(study)
    with pytest.raises(StudyError, match="no complete trial yet"):
        export_plan(study)
    Worker(study, FakeRunner(layout)).run()
    assert complete_trial(study, 1).number == 1
    with pytest.raises(StudyError, match="the trial must be complete, but trial 2 is waiting"):
        complete_trial(study, 2)
    for number in (4, -1):
        with pytest.raises(StudyError, match=f"study 'small', which has 4, but got {number}"):
            complete_trial(study, number)


def test_the_selection_is_stored_and_exported(
    create: Create, storage: RDBStorage, layout: ModelLayout
) -> None:
    study = create()
    Worker(study, FakeRunner(layout)).run()
    assert selected(study.optuna_study) is None
    select_trial(study.optuna_study, 1)
    found = open_study(storage, "small")
    assert selected(found.optuna_study) == 1
    content = export_plan(found)
    assert content.plan == study.records().trials[1].plan
    assert content.layout == layout
    assert content.study == study.config
    assert content.origin is not None
    assert (content.origin.trial, content.origin.label) == (1, "uniform 4-bit rank 4")
    assert content.origin.metrics == study.records().trials[1].measurement.metrics


def test_without_a_selection_the_knee_is_exported(create: Create, layout: ModelLayout) -> None:
    study = create(search={"trials": 4})
    Worker(study, FakeRunner(layout)).run()
    points = {
        trial.number: (trial.values["loss"], trial.values["model_bytes"]) for trial in study.records().front
    }
    assert len(points) >= 3
    losses = [loss for loss, _ in points.values()]
    sizes = [size for _, size in points.values()]

    def sum_of_shares(point: tuple[float, float]) -> float:
        loss, size = point
        return (loss - min(losses)) / (max(losses) - min(losses)) + (size - min(sizes)) / (
            max(sizes) - min(sizes)
        )

    origin = export_plan(study).origin
    assert origin is not None
    assert origin.trial == min(points, key=lambda number: sum_of_shares(points[number]))
