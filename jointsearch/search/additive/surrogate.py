"""A Bayesian additive model of a plan's quality, in closed form.

The quality of a plan x, turned so that lower is better, is

    link(y) = μ + c_seed + ρ_rate + φ(x)ᵀ θ + ε,    ε ~ N(0, σ²)

with the features φ of ``jointsearch.search.additive.options``: steps of bits and of rank per group, and their
interaction within the group. θ has three levels, all Gaussian, so that groups share what they have
in common (a hierarchical linear model: Lindley and Smith, JRSS B 34, 1972):

    θ_f = Σ_a γ_a d_fa + s_f (κ_kind(f) + η_f),   γ_a ~ N(m_a, v_a),  κ ~ N(0, τ²),  η ~ N(0, ω²)

    d_fa   the global direction of an axis (bits, rank, interaction, a probe's scores)
    m_a    < 0 for bits and ranks: more of them is expected to help, and is free not to (a monotone prior)
    s_f    the step's expected size: by weight error for bits (4 to 8 is most of it), by log2(1 + rank)
    κ      shared by the groups of one kind (the same part of all blocks); η is the group's own
    c      the offset of another seed than the first; equal for all plans
    ρ      what a learning rate adds, where rates are searched; equal for all plans, since with one alpha the
           best rate hardly depends on the ranks (``jointsearch.plan.lora``)

The noise σ, τ and ω (one each for bits, rank and interaction) maximize the evidence times weak
log-normal priors (Rasmussen and Williams, Gaussian Processes, 2006, section 5.4); the prior of σ is
the spread of repeats where there are any. The link is the identity, or log(y − floor) where the evidence
says that what is gained gets smaller the better a plan is already (Snelson et al., Warped Gaussian
Processes, NIPS 2003); it is monotone, so the order of plans is that of φᵀθ and the knapsack stays exact.

    symbol   shape                     meaning
    φ, Z     (num_trials, P)           features of the trials
    C        (P, num_trials)           prior covariance of θ with the observations
    K        (num_trials, num_trials)  prior covariance of the observations, noise included
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from jointsearch.search.additive.evidence import LOG_SCALES, LOG_SPREADS, maximize, repeat_deviation
from jointsearch.search.additive.offsets import (
    INTERCEPT_VARIANCE,
    NO_RATE,
    RATE_VARIANCE,
    draw_offsets,
    offset_covariance,
)
from jointsearch.search.additive.options import Options
from jointsearch.search.additive.prior import NUM_SCALES, Prior
from jointsearch.search.probe import Probe, group_effects

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_FITTED = 200
"""Trials that the scales are fitted on; all are used for the effects."""
LINK_FLOORS = (1.0, 0.3, 0.1)
"""Floors of the logarithm below the best value, in ranges of the trials."""
MIN_FOR_LINK, MIN_EVIDENCE = 20, 2.0
"""Trials, and log evidence, that a link other than the identity takes."""


@dataclass(frozen=True)
class Observations:
    """What trials have measured, one row each."""

    design: Floats
    """(num_trials, P)"""
    values: Floats
    """(num_trials,): the quality, turned so that lower is better."""
    seeds: Ints
    """(num_trials,): 0 for the study's own seed."""
    plans: Ints
    """(num_trials,): equal for equal plans."""
    model_bytes: Ints
    """(num_trials,)"""
    rates: Ints
    """(num_trials,): the positions of the learning rates, or ``NO_RATE``."""

    def at(self, rows: Ints | slice) -> Observations:
        """Some of the trials."""
        return Observations(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class Link:
    """z = (link(y) − mean) / scale."""

    floor: float | None
    """None: the identity."""
    mean: float
    scale: float

    @classmethod
    def fit(cls, values: Floats, floor: float | None) -> Link:
        linked = values if floor is None else np.log(values - floor)
        scale = float(linked.std()) if len(linked) > 1 else 0.0
        return cls(floor, float(linked.mean()) if len(linked) else 0.0, scale if scale > 0 else 1.0)

    def forward(self, values: Floats) -> Floats:
        linked = values if self.floor is None else np.log(values - self.floor)
        return (linked - self.mean) / self.scale

    def inverse(self, linked: Floats) -> Floats:
        unscaled = linked * self.scale + self.mean
        return unscaled if self.floor is None else self.floor + np.exp(unscaled)

    def log_jacobian(self, values: Floats) -> float:
        """log |dz / dy|, summed."""
        log_slope = 0.0 if self.floor is None else float(-np.log(values - self.floor).sum())
        return log_slope - len(values) * float(np.log(self.scale))


@dataclass(frozen=True)
class Surrogate:
    """The posterior. Build it with ``fit``; all of it is a function of the observations alone."""

    options: Options
    prior: Prior
    observed: Observations
    link: Link
    scales: Floats
    """(6,): standard deviations of the levels, and of the noise, in units of the link."""

    @classmethod
    def fit(cls, options: Options, observed: Observations, probe: Probe | None = None) -> Surrogate:
        prior = Prior.of(options, None if probe is None else _probe_effects(options, probe))
        values = observed.values
        if len(values) < 3:
            return cls(options, prior, observed, Link.fit(values, None), np.exp(LOG_SCALES))
        rows = np.unique(np.linspace(0, len(values) - 1, min(MAX_FITTED, len(values))).round().astype(int))
        parts = [prior.component(observed.design[rows], which) for which in range(NUM_SCALES)]
        fixed = prior.fixed(observed.design[rows])
        fixed += offset_covariance(observed.seeds[rows], observed.rates[rows])
        mean = observed.design[rows] @ prior.mean
        best: tuple[float, Link, Floats] | None = None
        floors: list[float | None] = [None]
        if len(values) >= MIN_FOR_LINK:
            extent = float(np.ptp(values))
            floors += [float(values.min()) - share * extent for share in LINK_FLOORS if extent > 0]
        start = LOG_SCALES
        for floor in floors:
            link = Link.fit(values, floor)
            z = link.forward(values)
            center, spread = LOG_SCALES.copy(), LOG_SPREADS.copy()
            repeats = repeat_deviation(z, observed.plans, observed.seeds)
            if repeats is not None:
                center[5], spread[5] = np.log(max(repeats[0], 1e-4)), np.sqrt(0.5 / repeats[1])
            logs, evidence = maximize(parts, fixed, z[rows] - mean, center, spread, start)
            evidence += link.log_jacobian(values[rows]) - (MIN_EVIDENCE if floor is not None else 0.0)
            start = logs
            if best is None or evidence > best[0]:
                best = evidence, link, np.exp(logs)
        assert best is not None
        return cls(options, prior, observed, best[1], best[2])

    @property
    def noise(self) -> float:
        """Standard deviation of a trial around its plan's quality, at the trials' middle, in its units."""
        middle = np.zeros(1)
        return float(self.link.inverse(middle + self.scales[5])[0] - self.link.inverse(middle)[0])

    @cached_property
    def effects(self) -> Floats:
        """(P,): the posterior mean of θ."""
        residual = self._z - self._design @ self.prior.mean
        return np.asarray(self.prior.mean + self._covariance @ self._solve(residual))

    def draw(self, rng: np.random.Generator, num: int = 1) -> Floats:
        """(P, num): θ from the posterior (Matheron's rule: Wilson et al., JMLR 22, 2021, section 3)."""
        prior = self.prior.draw(self.scales, rng, num)
        if not len(self._z):
            return prior
        noise = self.scales[5] * rng.standard_normal((len(self._z), num))
        offsets = draw_offsets(self.observed.seeds, self.observed.rates, rng, num)
        residual = self._z[:, None] - self._design @ prior - offsets - noise
        return np.asarray(prior + self._covariance @ self._solve(residual))

    def rate_offsets(self) -> tuple[Floats, Floats]:
        """Mean, (num_rates,), and covariance of ρ: lower is better. Empty where no rates are searched."""
        num = len(self.options.space.learning_rates)
        rows = RATE_VARIANCE * (np.arange(num)[:, None] == self.observed.rates).astype(float)
        mean = rows @ self._solve(self._z - self._design @ self.prior.mean)
        return np.asarray(mean), np.asarray(RATE_VARIANCE * np.eye(num) - rows @ self._solve(rows.T))

    def at_best_rate(self, values: Floats, rates: Ints) -> Floats:
        """Qualities that were measured at ``rates``, as they would be at the best one; (num,) each."""
        mean, _ = self.rate_offsets()
        excess = np.where(rates == NO_RATE, 0.0, (mean - mean.min())[rates])
        return self.link.inverse(self.link.forward(values) - excess)

    @cached_property
    def best_rate(self) -> int:
        """The position of the learning rate that is expected to be best; ``NO_RATE`` without any."""
        mean, _ = self.rate_offsets()
        return int(np.argmin(mean)) if len(mean) else NO_RATE

    def option_values(self, effects: Floats) -> list[Floats]:
        """What every option of every group adds to link(y), for θ of shape (P,)."""
        offsets = self.options.offsets
        return [
            entry.features @ effects[start:stop]
            for entry, start, stop in zip(self.options.groups, offsets[:-1], offsets[1:], strict=True)
        ]

    def predict(self, design: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of μ + ρ + φᵀθ for the study's own seed and the best learning rate, on
        the link's scale."""
        rows = self._cross(design)
        mean = design @ self.prior.mean + rows @ self._solve(self._z - self._design @ self.prior.mean)
        prior = np.einsum("ij,ji->i", design, self.prior.covariance(design, self.scales))
        variance = prior + self._own_variance - np.einsum("ij,ji->i", rows, self._solve(rows.T))
        return mean, np.sqrt(np.maximum(variance, 0.0))

    def intervals(self, design: Floats, deviations: float) -> tuple[Floats, Floats, Floats]:
        """Median, and the values so many standard deviations below and above it, in the trials' units."""
        mean, deviation = self.predict(design)
        inverse = self.link.inverse
        return inverse(mean), inverse(mean - deviations * deviation), inverse(mean + deviations * deviation)

    def outcomes(self, design: Floats, rng: np.random.Generator, num: int) -> Floats:
        """(num_rows, num): joint draws of plans' qualities without noise, in the trials' units."""
        mean, _ = self.predict(design)
        rows = self._cross(design)
        covariance = design @ self.prior.covariance(design, self.scales) + self._own_variance
        covariance -= rows @ self._solve(rows.T)
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        normal = rng.standard_normal((len(design), num))
        return self.link.inverse(mean[:, None] + vectors @ (np.sqrt(np.maximum(values, 0))[:, None] * normal))

    @property
    def _design(self) -> Floats:
        return self.observed.design

    @cached_property
    def _z(self) -> Floats:
        return self.link.forward(self.observed.values)

    @cached_property
    def _covariance(self) -> Floats:
        return self.prior.covariance(self._design, self.scales)

    @cached_property
    def _factor(self) -> tuple[Floats, bool]:
        kernel = self._design @ self._covariance
        kernel += offset_covariance(self.observed.seeds, self.observed.rates)
        kernel[np.diag_indices_from(kernel)] += self.scales[5] ** 2 + 1e-9
        factor: tuple[Floats, bool] = cho_factor(kernel, lower=True, overwrite_a=True)
        return factor

    def _solve(self, right: Floats) -> Floats:
        if not len(self._z):
            return right
        return np.asarray(cho_solve(self._factor, right))

    def _cross(self, design: Floats) -> Floats:
        """(num_rows, num_trials): prior covariance of plans, at the study's own seed and the best learning
        rate, with the trials."""
        at_best = (self.observed.rates == self.best_rate) & (self.best_rate != NO_RATE)
        return np.asarray(design @ self._covariance + INTERCEPT_VARIANCE + RATE_VARIANCE * at_best)

    @property
    def _own_variance(self) -> float:
        """Of μ, and of the best rate's ρ."""
        return INTERCEPT_VARIANCE + RATE_VARIANCE * (self.best_rate != NO_RATE)


def _probe_effects(options: Options, probe: Probe) -> Floats:
    """(P, k): the effects that a probe's scores of groups, and of plans, say."""
    columns = [group_effects(probe, options)]
    if probe.plans:
        chosen = np.array([options.chosen(plan.values) for plan in probe.plans])
        num = len(chosen)
        observed = Observations(
            design=options.design(chosen),
            values=np.array([plan.score for plan in probe.plans]),
            seeds=np.zeros(num, dtype=np.int64),
            plans=np.arange(num, dtype=np.int64),
            model_bytes=options.model_bytes(chosen),
            rates=np.full(num, NO_RATE, dtype=np.int64),
        )
        columns.append(Surrogate.fit(options, observed).effects[:, None])
    return np.concatenate(columns, axis=1)
