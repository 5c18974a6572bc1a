from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from optuna.trial import TrialState, create_trial

from jointsearch.config.search import SearchSettings
from jointsearch.knapsack import Knapsack
from jointsearch.plan.layout import ModelLayout
from jointsearch.search.additive.budgets import even_budgets, new_neighbour, sizes_and_values
from jointsearch.search.additive.observed import PROPOSED, TrialReader, key_of
from jointsearch.search.additive.options import Options
from jointsearch.search.additive.surrogate import Surrogate
from jointsearch.search.attributes import PROBE
from jointsearch.search.plan_sampler import PlanSampler
from jointsearch.search.probe import GroupScores, Probe
from jointsearch.search.samplers import build_sampler, distributions
from jointsearch.study.queue import request
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

MakeOptions = Callable[..., Options]
Create = Callable[..., StoredStudy]
OURS = ["additive", "autoqra", "gp-bytes", "primo", "qr-adaptor", "tpe-bytes"]
Propose = Callable[[optuna.Study, int], NDArray[np.int64]]


@pytest.fixture
def options(make_options: MakeOptions) -> Options:
    return make_options(bits=(4, 8, 16), ranks=(0, 4, 16))


def losses(options: Options, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    effects = np.random.default_rng(11).exponential(size=int(options.offsets[-1]))
    return np.asarray(3.0 - 0.1 * options.design(chosen) @ effects)


def add(study: optuna.Study, options: Options, chosen: NDArray[np.int64], loss: float, **fields: Any) -> None:
    study.add_trial(
        create_trial(
            values=[loss, float(options.model_bytes(chosen))],
            params=options.params(chosen),
            distributions=distributions(options.space),
            system_attrs={PROPOSED: chosen.tolist()},
            **fields,
        )
    )


def study_of(options: Options, num: int, sign: int = 1) -> optuna.Study:
    study = optuna.create_study(directions=["minimize" if sign > 0 else "maximize", "minimize"])
    rng = np.random.default_rng(3)
    for _ in range(num):
        chosen = np.array([rng.integers(len(entry.bytes)) for entry in options.groups])
        add(study, options, chosen, sign * float(losses(options, chosen[None])[0]))
    return study


def sampler(options: Options, name: str = "additive", *, quality: str = "loss", **settings: Any) -> Propose:
    built = build_sampler(SearchSettings(sampler=name, **settings), options.space, options.layout, quality)
    assert isinstance(built, PlanSampler)
    return built.propose


@pytest.mark.parametrize("name", OURS)
def test_a_proposal_depends_on_trials_seed_and_number_alone(options: Options, name: str) -> None:
    study = study_of(options, 20)
    first = sampler(options, name)
    proposals = [first(study, number).tolist() for number in (20, 21, 22, 23)]
    if name not in ("gp-bytes", "primo"):  # whose best plan may be the same until it runs
        assert len({tuple(proposal) for proposal in proposals}) == 4  # workers at the same moment
    again = sampler(options, name)
    assert [again(study, number).tolist() for number in (23, 22, 21, 20)] == proposals[::-1]
    other = sampler(options, name, seed=1)
    assert [other(study, number).tolist() for number in (20, 21, 22, 23)] != proposals


@pytest.mark.parametrize("name", OURS)
def test_a_maximized_quality_is_the_mirror(options: Options, name: str) -> None:
    minimized, maximized = study_of(options, 25), study_of(options, 25, sign=-1)
    expected = [sampler(options, name)(minimized, number).tolist() for number in range(25, 30)]
    mirrored = sampler(options, name, quality="accuracy")
    assert [mirrored(maximized, number).tolist() for number in range(25, 30)] == expected


@pytest.mark.parametrize("name", ["additive", "qr-adaptor", "nsga2"])
def test_forty_trials_find_the_front(options: Options, name: str) -> None:
    """The share of the exact front's hypervolume, by enumerating all 3 · 9⁴ plans."""
    from jointsearch.front.pareto import hypervolume

    plans = np.array(list(itertools.product(*(range(len(entry.bytes)) for entry in options.groups))))
    assert len(plans) == 3 * 9**4
    points = np.stack([losses(options, plans), options.model_bytes(plans)], axis=1)
    order = np.lexsort((points[:, 0], points[:, 1]))
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(points[order, 0])[:-1]])
    front = points[order[points[order, 0] < best_before]]
    reference = points.max(axis=0)

    study = optuna.create_study(directions=["minimize", "minimize"])
    study.sampler = build_sampler(
        SearchSettings(sampler=name, trials=40), options.space, options.layout, "loss"
    )
    for _ in range(40):
        trial = study.ask()
        for parameter, distribution in distributions(options.space).items():
            trial.suggest_int(parameter, distribution.low, distribution.high)
        chosen = options.chosen(trial.params)
        study.tell(trial, [float(losses(options, chosen[None])[0]), float(options.model_bytes(chosen))])
    share = hypervolume([trial.values for trial in study.trials], reference) / hypervolume(front, reference)
    assert (share > 0.97) == (name == "additive")
    assert share > 0.6
    if name == "additive":
        assert len({key_of(options.chosen(trial.params)) for trial in study.trials}) == 40


def test_a_proposal_is_pareto_optimal_under_its_draw(options: Options) -> None:
    """No plan is both smaller and better under the drawn effects: all plans are compared."""
    study = study_of(options, 15)
    plans = np.array(list(itertools.product(*(range(len(entry.bytes)) for entry in options.groups))))
    surrogate = Surrogate.fit(options, TrialReader(options, 1).observations(study.trials))
    for number in range(15, 21):
        chosen = sampler(options, seed=5)(study, number)
        effects = surrogate.draw(np.random.default_rng((5, number)))[:, 0]
        values, sizes = options.design(plans) @ effects, options.model_bytes(plans)
        own = float(options.design(chosen[None])[0] @ effects)
        smaller = sizes <= options.model_bytes(chosen)
        assert values[smaller].min() >= own - 1e-9


@pytest.mark.parametrize("name", OURS)
def test_what_runs_or_waits_is_not_proposed_again(options: Options, name: str) -> None:
    study = study_of(options, 20)
    propose = sampler(options, name)
    first = propose(study, 20)
    # a worker that has asked, and has not written its parameters yet
    running = study._storage.get_trial(study.ask()._trial_id)
    study._storage.set_trial_system_attr(running._trial_id, PROPOSED, first.tolist())
    second = propose(study, 20)
    assert second.tolist() != first.tolist()
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=options.params(second),
            distributions=distributions(options.space),
        )
    )
    assert propose(study, 20).tolist() not in (first.tolist(), second.tolist())


def test_a_small_space_is_used_up_before_a_plan_comes_twice(make_options: MakeOptions) -> None:
    options = make_options(bits=(4, 16), ranks=(0, 4), exclude=("embed", "layers.1.*"))
    study = optuna.create_study(directions=["minimize", "minimize"])
    propose = sampler(options)
    seen = []
    for number in range(18):
        chosen = propose(study, number)
        add(study, options, chosen, float(losses(options, chosen[None])[0]))
        seen.append(key_of(chosen))
    assert len(set(seen[:16])) == 16  # all 4 · 4 plans
    assert set(seen[16:]) <= set(seen[:16])


def test_repeats_let_a_plan_come_again(make_options: MakeOptions) -> None:
    options = make_options(bits=(4, 16), ranks=(4,), exclude=("embed", "layers.1.*", "*.mlp.*"))
    study = optuna.create_study(directions=["minimize", "minimize"])
    propose = sampler(options, repeats=3)
    for number in range(6):
        chosen = propose(study, number)
        add(study, options, chosen, 1.0 + chosen[0], user_attrs={"seed": number})
    assert [int(options.chosen(trial.params)[0]) for trial in study.trials].count(0) == 3


def test_the_nearest_new_plan(make_options: MakeOptions) -> None:
    # bytes 0, 10, 20 in two groups; the front's slope is 4 / 40 per byte
    knapsack = Knapsack(
        np.array([[0, 10, 20], [0, 10, 20]]), np.array([[2, 1.5, 0], [2, 0.8, 0]], dtype=float)
    )
    start = np.array([0, 0])
    # priced: 2, 2.5, 2 and 2, 1.8, 2
    assert new_neighbour(knapsack, start, {key_of(start)}).tolist() == [0, 1]
    known = {key_of(np.array(plan)) for plan in ([0, 0], [0, 1])}
    assert new_neighbour(knapsack, start, known).tolist() == [2, 1]  # 2 + 1.8, two groups away
    everything = {key_of(np.array(plan)) for plan in itertools.product(range(3), repeat=2)}
    assert new_neighbour(knapsack, start, everything).tolist() == [0, 0]


def test_budgets_lie_evenly_along_the_front() -> None:
    # one group whose value falls at once and then hardly: half of the length is the fall
    sizes = np.arange(0, 1001)
    values = np.where(sizes >= 10, 0.0, 1.0 - sizes / 10) - sizes * 1e-9
    budgets = even_budgets(Knapsack.of([sizes], [values]), 201)
    assert np.mean(budgets <= 10) == pytest.approx(0.5, abs=0.02)
    assert (budgets[0], budgets[-1]) == (0, 1000)


def test_outside_plans_seeds_and_copies_are_read(create: Create, layout: ModelLayout) -> None:
    study = create(search={"sampler": "additive", "trials": 12, "repeats": 2})
    known = study.space.plan(study.space.uniform("16bit", 4))
    modules = dict(known.modules)
    modules["layers.0.mlp.up"] = modules["layers.0.mlp.up"].model_copy(update={"format": "int8"})
    outside = known.model_copy(update={"modules": modules})
    request(study, outside)
    request(study, known, seed=7)
    request(study, known, seed=7)  # a copy
    Worker(study, FakeRunner(layout, noise=0.01)).run()
    records = study.records()
    assert sum(trial.copy_of is not None for trial in records.complete) == 1
    options = Options.of(study.space, layout)
    observed = TrialReader(options, 1).observations([trial.frozen for trial in records.trials])
    by_size = {trial.measurement.model_bytes for trial in records.complete}
    assert len(observed.values) == len(records.complete) - 1
    assert set(observed.model_bytes.tolist()) == by_size
    first = next(trial for trial in records.complete if trial.digest == outside.digest)
    row = observed.values.tolist().index(first.values["loss"])
    assert observed.model_bytes[row] == first.measurement.model_bytes
    assert observed.design[row].tolist() == options.features_of(outside).tolist()


def test_a_stored_probe_guides_the_first_proposals(options: Options) -> None:
    """One group is said to matter, and gets its bits first."""
    study = optuna.create_study(directions=["minimize", "minimize"])
    scores = {
        entry.group.name: GroupScores(
            bits=(1.0, 0.0, 0.0) if "0.mlp" in entry.group.name else (0.01, 0.0, 0.0)
        )
        for entry in options.groups
    }
    study.set_user_attr(PROBE, Probe(kind="sensitivity", groups=scores).model_dump(mode="json"))
    names = [entry.group.name for entry in options.groups]
    proposals = np.array([sampler(options)(study, number) for number in range(30)]) // 3
    raised = (proposals > 0).mean(axis=0)
    assert raised[names.index("layers.0.mlp")] > raised[names.index("layers.1.mlp")] + 0.2


def test_qr_adaptor_gives_bits_to_what_is_sensitive(options: Options) -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])
    scores = {
        "layers.1.attention": GroupScores(bits=(5.0, 1.0, 0.0)),
        "layers.0.mlp": GroupScores(bits=(0.1, 0, 0)),
    }
    study.set_user_attr(PROBE, Probe(kind="sensitivity", groups=scores).model_dump(mode="json"))
    names = [entry.group.name for entry in options.groups]
    propose = sampler(options, "qr-adaptor")
    bits = np.array([propose(study, number) for number in range(60)])
    mean = dict(zip(names[1:], (bits[:, 1:] // 3).mean(axis=0), strict=True))
    assert mean["layers.1.attention"] > mean["layers.1.mlp"] + 0.3


def test_the_knapsack_has_the_bytes_of_the_groups(options: Options) -> None:
    study = study_of(options, 10)
    surrogate = Surrogate.fit(options, TrialReader(options, 1).observations(study.trials))
    knapsack = sizes_and_values(surrogate, surrogate.effects)
    chosen = knapsack.solve(10**9)
    assert options.fixed_bytes + knapsack.total_bytes(chosen) == options.model_bytes(chosen)
