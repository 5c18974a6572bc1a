"""The posterior against plain Gaussian conditioning in θ, and what the model learns from known effects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import block_diag
from scipy.stats import spearmanr

from jointsearch.search.additive.evidence import maximize, repeat_deviation
from jointsearch.search.additive.offsets import INTERCEPT_VARIANCE, RATE_VARIANCE, SEED_VARIANCE
from jointsearch.search.additive.options import Options
from jointsearch.search.additive.prior import Prior
from jointsearch.search.additive.surrogate import Observations, Surrogate
from jointsearch.search.probe import GroupScores, Probe, ScoredPlan

MakeOptions = Callable[..., Options]
Observe = Callable[..., Observations]


@pytest.fixture
def options(make_options: MakeOptions) -> Options:
    return make_options(bits=(4, 8, 16), ranks=(0, 4, 16))


def random_plans(options: Options, num: int, seed: int = 0) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(len(entry.bytes), size=num) for entry in options.groups], axis=1)


def dense_prior(prior: Prior, scales: NDArray[np.float64]) -> NDArray[np.float64]:
    """The prior covariance of θ, written out from the definition of its three levels."""
    own = np.diag(prior.size**2 * np.array([scales[2], scales[3], scales[4]])[prior.axis] ** 2)
    shared = (
        prior.sharing
        @ np.diag(np.array([scales[0], scales[1], scales[4]])[prior.shared_axis] ** 2)
        @ prior.sharing.T
    )
    return own + shared + prior.directions @ np.diag(prior.variances) @ prior.directions.T


@pytest.fixture
def fitted(options: Options, observe: Observe) -> Surrogate:
    chosen = random_plans(options, 12)
    values = options.design(chosen) @ np.linspace(-1, -0.1, int(options.offsets[-1]))
    seeds = np.arange(12) % 3
    return Surrogate.fit(options, observe(options, chosen, values + 0.3 * (seeds == 1), seeds))


def conditioned(surrogate: Surrogate, num_rates: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Posterior mean and covariance of (μ, c_1, c_2, ρ_1, …, θ), by the normal equations."""
    observed = surrogate.observed
    seeds = (observed.seeds[:, None] == [1, 2]).astype(float)
    rates = (observed.rates[:, None] == np.arange(num_rates)).astype(float)
    rows = np.concatenate([np.ones((len(seeds), 1)), seeds, rates, observed.design], axis=1)
    prior_mean = np.concatenate([np.zeros(3 + num_rates), surrogate.prior.mean])
    shared = [INTERCEPT_VARIANCE, SEED_VARIANCE, SEED_VARIANCE] + [RATE_VARIANCE] * num_rates
    precision = np.linalg.inv(block_diag(np.diag(shared), dense_prior(surrogate.prior, surrogate.scales)))
    noise = surrogate.scales[5] ** 2 + 1e-9
    covariance = np.linalg.inv(precision + rows.T @ rows / noise)
    z = surrogate.link.forward(observed.values)
    return covariance @ (precision @ prior_mean + rows.T @ z / noise), covariance


def test_the_posterior_is_that_of_the_normal_equations(fitted: Surrogate, options: Options) -> None:
    mean, covariance = conditioned(fitted)
    assert fitted.effects == pytest.approx(mean[3:], abs=1e-6)
    design = options.design(random_plans(options, 5, seed=1))
    rows = np.concatenate([np.ones((5, 1)), np.zeros((5, 2)), design], axis=1)
    predicted, deviation = fitted.predict(design)
    assert predicted == pytest.approx(rows @ mean, abs=1e-6)
    assert deviation == pytest.approx(np.sqrt(np.diag(rows @ covariance @ rows.T)), rel=1e-4)


def test_what_a_rate_adds_is_that_of_the_normal_equations(
    make_options: MakeOptions, observe: Observe
) -> None:
    options = make_options(bits=(4, 16), ranks=(0, 4), learning_rates=(1e-3, 1e-2, 1e-1))
    chosen, rates = random_plans(options, 14), np.arange(14) % 3
    values = options.design(chosen) @ np.linspace(-1, -0.1, int(options.offsets[-1]))
    values = values + np.array([0.5, -0.4, 0.9])[rates]
    fitted = Surrogate.fit(options, observe(options, chosen, values, np.arange(14) % 2, rates=rates))
    mean, covariance = conditioned(fitted, 3)
    offsets, spread = fitted.rate_offsets()
    assert offsets == pytest.approx(mean[3:6], abs=1e-6)
    assert spread == pytest.approx(covariance[3:6, 3:6], abs=1e-6)
    assert fitted.best_rate == 1
    assert fitted.effects == pytest.approx(mean[6:], abs=1e-6)
    design = options.design(random_plans(options, 5, seed=1))
    rows = np.concatenate([np.ones((5, 1)), np.zeros((5, 2)), np.tile([0, 1, 0], (5, 1)), design], axis=1)
    predicted, deviation = fitted.predict(design)
    assert predicted == pytest.approx(rows @ mean, abs=1e-6)
    assert deviation == pytest.approx(np.sqrt(np.diag(rows @ covariance @ rows.T)), rel=1e-4)
    # draws of the effects have the same spread; those of trials at other rates say as much
    drawn = fitted.draw(np.random.default_rng(0), 20_000)
    assert drawn.std(axis=1) == pytest.approx(np.sqrt(np.diag(covariance)[6:]), rel=0.03)
    # turned to the best rate, what trials were worse for their rates is off
    excess = (offsets - offsets.min())[rates] * fitted.link.scale
    assert fitted.at_best_rate(values, rates) == pytest.approx(values - excess)


def test_draws_have_the_moments_of_the_posterior(fitted: Surrogate, options: Options) -> None:
    mean, covariance = conditioned(fitted)
    drawn = fitted.draw(np.random.default_rng(0), 20_000)
    spread = np.sqrt(np.diag(covariance)[3:])
    # twenty thousand draws: a mean is off by 0.007 deviations, a deviation by half a percent
    assert np.abs(drawn.mean(axis=1) - mean[3:]).max() < 0.035 * spread.max()
    assert drawn.std(axis=1) == pytest.approx(spread, rel=0.03)
    design = options.design(random_plans(options, 3, seed=1))
    rows = np.concatenate([np.ones((3, 1)), np.zeros((3, 2)), design], axis=1)
    outcomes = fitted.link.forward(fitted.outcomes(design, np.random.default_rng(1), 20_000))
    expected = rows @ covariance[:, :] @ rows.T
    assert np.cov(outcomes) == pytest.approx(expected, abs=0.03 * np.diag(expected).max())


def test_the_gradient_of_the_evidence_finds_its_maximum() -> None:
    """Data drawn with known scales: the maximum is near them, and no other point is better."""
    rng = np.random.default_rng(0)
    num = 150
    parts = [rows @ rows.T for rows in rng.normal(size=(5, num, 12))]
    true = np.log([2.0, 0.5, 1.0, 0.3, 1.5, 0.4])
    kernel = sum(np.exp(2 * log) * part for log, part in zip(true, parts, strict=False))
    kernel = kernel + np.exp(2 * true[5]) * np.eye(num)
    residual = np.linalg.cholesky(kernel) @ rng.normal(size=num)
    flat = np.full(6, 50.0)
    found, best = maximize(parts, np.zeros((num, num)), residual, np.zeros(6), flat, np.zeros(6))
    assert found == pytest.approx(true, abs=0.5)

    def evidence(logs: NDArray[np.float64]) -> float:
        total = sum(np.exp(2 * log) * part for log, part in zip(logs, parts, strict=False))
        total = total + (np.exp(2 * logs[5]) + 1e-9) * np.eye(num)
        _, log_determinant = np.linalg.slogdet(total)
        fit = residual @ np.linalg.solve(total, residual)
        return float(-0.5 * (fit + log_determinant + num * np.log(2 * np.pi)))

    assert best == pytest.approx(evidence(found), abs=0.05)
    for step in (*(0.1 * np.eye(6)), *(-0.1 * np.eye(6))):
        assert evidence(found + step) <= best + 0.02


def test_what_is_shared_is_learned_from_the_other_block(make_options: MakeOptions, observe: Observe) -> None:
    """Attention of block 0 is measured at all choices, that of block 1 never changes."""
    options = make_options(bits=(4, 16), ranks=(0, 4, 16), exclude=("embed", "*.mlp.*"))
    assert [entry.group.name for entry in options.groups] == ["layers.0.attention", "layers.1.attention"]
    chosen = np.array([[first, 0] for first in range(6)] * 3)
    gains = np.array([0.0, -0.1, -0.2, -1.0, -1.1, -1.2])  # 16 bits: 1; a rank: 0.1 each
    surrogate = Surrogate.fit(
        options,
        observe(options, chosen, gains[chosen[:, 0]], plans=chosen[:, 0], seeds=np.repeat([0, 1, 2], 6)),
    )
    first, second = surrogate.option_values(surrogate.effects)
    scale = surrogate.link.scale
    assert (first - first[0]) * scale == pytest.approx(gains, abs=0.02)
    # nothing was measured there, and yet: bits matter more than ranks, and all of it helps
    assert (second[3] - second[0]) < 3 * (second[2] - second[0]) < 0


def test_without_trials_more_is_expected_to_help(options: Options, observe: Observe) -> None:
    surrogate = Surrogate.fit(options, observe(options, random_plans(options, 0), np.empty(0)))
    for entry, values in zip(options.groups, surrogate.option_values(surrogate.effects), strict=True):
        table = values.reshape(len(entry.group.bits), -1)
        assert (np.diff(table, axis=0) < 0).all()
        assert (np.diff(table, axis=1) < 0).all()
    assert surrogate.draw(np.random.default_rng(0), 2).shape == (options.offsets[-1], 2)


def test_an_interaction_is_learned(options: Options, observe: Observe) -> None:
    """An adapter makes up for what 4 bits lose: it is worth nothing at 16 bits."""
    chosen = random_plans(options, 300)
    bits, rank = np.divmod(chosen, 3)
    lost = np.array([1.0, 0.1, 0.0])[bits]
    adapted = np.array([1.0, 0.4, 0.1])[rank]
    surrogate = Surrogate.fit(options, observe(options, chosen, (lost * adapted)[:, 1:].sum(axis=1)))
    table = surrogate.option_values(surrogate.effects)[1].reshape(3, 3) * surrogate.link.scale
    assert table[0, 2] - table[0, 0] == pytest.approx(-0.9, abs=0.12)
    assert table[2, 2] - table[2, 0] == pytest.approx(0.0, abs=0.12)


def test_repeats_give_the_noise() -> None:
    # plans 0 and 1 under seeds 0 and 1; a two-way layout of 2 × 2 has one degree of freedom:
    # the interaction (1.0 - 1.4 - 2.0 + 2.6) / 4 = 0.05 in every cell, squares add up to 0.01
    values = np.array([1.0, 1.4, 2.0, 2.6, 9.0])
    found = repeat_deviation(values, np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 0]))
    assert found is not None
    assert found == (pytest.approx(0.1), 1)
    assert repeat_deviation(values, np.arange(5), np.zeros(5, dtype=int)) is None


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_noise_is_found(options: Options, observe: Observe, noise: float) -> None:
    rng = np.random.default_rng(2)
    chosen = np.repeat(random_plans(options, 60), 2, axis=0)
    truth = options.design(chosen) @ -rng.exponential(size=int(options.offsets[-1]))
    values = truth + noise * rng.standard_normal(len(truth))
    plans, seeds = np.repeat(np.arange(60), 2), np.tile([0, 1], 60)
    surrogate = Surrogate.fit(options, observe(options, chosen, values, seeds, plans))
    assert surrogate.noise == pytest.approx(noise, rel=0.35)


def test_another_seed_moves_all_plans_alike(options: Options, observe: Observe) -> None:
    chosen = random_plans(options, 40)
    truth = options.design(chosen) @ -np.linspace(0.1, 1, int(options.offsets[-1]))
    seeds = np.repeat([0, 1], [30, 10])
    alike = Surrogate.fit(options, observe(options, chosen, truth, seeds))
    moved = Surrogate.fit(options, observe(options, chosen, truth + 0.2 * seeds, seeds))
    design = options.design(random_plans(options, 20, seed=3))
    assert moved.intervals(design, 1)[0] == pytest.approx(alike.intervals(design, 1)[0], abs=0.02)


def test_gains_that_get_smaller_are_seen(
    options: Options, observe: Observe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quality that saturates: the logarithm above a floor is nearly a sum."""
    chosen, effects = random_plans(options, 120), -np.linspace(0.1, 0.4, int(options.offsets[-1]))
    sums = options.design(chosen) @ effects
    assert Surrogate.fit(options, observe(options, chosen, sums)).link.floor is None
    observed = observe(options, chosen, 2 + 3 * np.exp(sums))
    warped = Surrogate.fit(options, observed)
    assert warped.link.floor is not None
    monkeypatch.setattr("jointsearch.search.additive.surrogate.LINK_FLOORS", ())
    straight = Surrogate.fit(options, observed)
    design = options.design(random_plans(options, 100, seed=9))
    truth = 2 + 3 * np.exp(design @ effects)
    median, low, high = warped.intervals(design, 2.0)
    error = np.abs(median - truth).mean()
    assert error < 0.6 * np.abs(straight.intervals(design, 2.0)[0] - truth).mean()
    assert (low < median).all()
    assert (median < high).all()


def effects_of(options: Options) -> Any:
    return -np.random.default_rng(4).exponential(size=int(options.offsets[-1]))


@pytest.mark.parametrize("kind", ["plans", "groups"])
def test_a_probe_orders_plans_before_the_first_trial(options: Options, observe: Observe, kind: str) -> None:
    effects, scored = effects_of(options), random_plans(options, 150)
    if kind == "plans":  # in a unit of its own
        scores = 7 + 0.01 * (options.design(scored) @ effects)
        plans = tuple(
            ScoredPlan(values=options.params(row), score=float(score))
            for row, score in zip(scored, scores, strict=True)
        )
        probe = Probe(kind="weight-sharing", plans=plans)
    else:
        groups = {}
        for start, entry in zip(options.offsets, options.groups, strict=False):
            steps = effects[start : start + entry.features.shape[1]]
            ranks = np.cumsum([0.0, *steps[2:4]]) if entry.has_interaction else ()
            groups[entry.group.name] = GroupScores(
                bits=tuple(np.cumsum([0.0, *steps[:2]])), ranks=tuple(ranks)
            )
        probe = Probe(kind="sensitivity", groups=groups)
    probe = Probe.model_validate_json(probe.model_dump_json())  # as it is stored
    fresh = random_plans(options, 200, seed=8)
    design = options.design(fresh)
    nothing = observe(options, random_plans(options, 0), np.empty(0))
    with_probe = spearmanr(Surrogate.fit(options, nothing, probe).predict(design)[0], design @ effects)
    without = spearmanr(Surrogate.fit(options, nothing).predict(design)[0], design @ effects)
    assert with_probe.statistic > 0.9
    assert without.statistic < with_probe.statistic - 0.1


def test_trials_correct_a_wrong_probe(options: Options, observe: Observe) -> None:
    effects, chosen = effects_of(options), random_plans(options, 150)
    plans = tuple(
        ScoredPlan(values=options.params(row), score=float(score))
        for row, score in zip(chosen, -(options.design(chosen) @ effects), strict=True)
    )
    observed = observe(options, chosen, options.design(chosen) @ effects)
    surrogate = Surrogate.fit(options, observed, Probe(kind="weight-sharing", plans=plans))
    design = options.design(random_plans(options, 100, seed=8))
    assert spearmanr(surrogate.predict(design)[0], design @ effects).statistic > 0.98
