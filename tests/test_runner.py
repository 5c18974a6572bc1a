from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import pytest

from jointsearch.errors import PlanError
from jointsearch.measurement import LossPoint, Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import ModuleChoice, Plan
from jointsearch.runner import Trial
from jointsearch.testing import FakeRunner

LAYOUT = ModelLayout.model_validate_json((Path(__file__).parent / "fixtures/layout.json").read_text())
ONE = LAYOUT.model_copy(update={"modules": LAYOUT.modules[1:2]})


def uniform(layout: ModelLayout, bits: Literal[4, 8, 16], rank: int) -> Plan:
    return Plan(
        modules={
            spec.name: ModuleChoice(bits=bits, rank=rank if spec.adaptable else 0) for spec in layout.modules
        }
    )


@pytest.mark.parametrize(
    ("bits", "rank", "loss"),
    [(4, 0, 1.8 + 0.09 + 0.5), (8, 1, 1.8 + 0.007 + 0.25), (16, 4, 1.8 + 0.1), (16, 9, 1.8 + 0.05)],
)
def test_loss_of_one_module(bits: Literal[4, 8, 16], rank: int, loss: float) -> None:
    measurement = FakeRunner(ONE).run(uniform(ONE, bits, rank), Trial())
    assert measurement.metrics["loss"] == pytest.approx(loss, abs=1e-12)
    assert measurement.metrics["perplexity"] == pytest.approx(math.exp(loss), rel=1e-12)


def test_bytes_are_those_of_the_plan() -> None:
    weight, bias = 2 * 64 * 64, 2 * 64
    lora = 4 * (3 * 64 + 64 * 3)
    measured = FakeRunner(ONE).run(uniform(ONE, 16, 3), Trial()).model_bytes
    assert measured == weight + bias + lora + 640


def test_more_bits_and_higher_ranks_never_hurt() -> None:
    runner = FakeRunner(LAYOUT)
    for rank in (0, 2, 8):
        losses = [runner.run(uniform(LAYOUT, bits, rank), Trial()).metrics["loss"] for bits in (4, 8, 16)]
        assert losses[0] > losses[1] > losses[2]
    ranked = [runner.run(uniform(LAYOUT, 8, rank), Trial()).metrics["loss"] for rank in (0, 2, 8)]
    assert ranked[0] > ranked[1] > ranked[2]


def test_modules_add_up() -> None:
    """Raising two modules gains what raising either gains, together."""
    runner = FakeRunner(LAYOUT)
    low = uniform(LAYOUT, 4, 0)

    def gain(*names: str) -> float:
        raised = Plan(modules=low.modules | {name: ModuleChoice(bits=16, rank=8) for name in names})
        return runner.run(low, Trial()).metrics["loss"] - runner.run(raised, Trial()).metrics["loss"]

    one, other = "layers.0.attn.q", "layers.1.mlp.up"
    assert gain(one) > 0
    assert gain(one) != gain(other)
    assert gain(one, other) == pytest.approx(gain(one) + gain(other), abs=1e-12)


def test_noise_depends_on_seed_and_plan_alone() -> None:
    plan, other = uniform(LAYOUT, 4, 2), uniform(LAYOUT, 8, 2)

    def noise(plan: Plan, seed: int, scale: float) -> float:
        exact = FakeRunner(LAYOUT).run(plan, Trial(seed=seed)).metrics["loss"]
        return FakeRunner(LAYOUT, noise=scale).run(plan, Trial(seed=seed)).metrics["loss"] - exact

    assert noise(plan, 1, 0.1) == noise(plan, 1, 0.1) != 0
    assert noise(plan, 1, 0.2) == pytest.approx(2 * noise(plan, 1, 0.1), abs=1e-12)
    assert noise(plan, 1, 0.1) != pytest.approx(noise(plan, 2, 0.1), abs=1e-6)
    assert noise(plan, 1, 0.1) != pytest.approx(noise(other, 1, 0.1), abs=1e-6)
    drawn = [noise(plan, seed, 1.0) for seed in range(400)]
    mean = sum(drawn) / 400
    deviation = math.sqrt(sum((value - mean) ** 2 for value in drawn) / 399)
    assert abs(mean) < 4 / math.sqrt(400)
    assert deviation == pytest.approx(1.0, abs=0.15)


def test_a_plan_for_another_model_is_refused() -> None:
    with pytest.raises(PlanError):
        FakeRunner(ONE).run(uniform(LAYOUT, 4, 0), Trial())


def test_measurement_finds_objectives_among_metrics_and_fields() -> None:
    measurement = Measurement(
        metrics={"loss": 2.5, "accuracy": 0.25},
        model_bytes=1000,
        peak_memory_bytes=2000,
        tokens_per_second=30.5,
        train_losses=(LossPoint(step=1, loss=3.0),),
    )
    wanted = {
        "loss": 2.5,
        "accuracy": 0.25,
        "model_bytes": 1000.0,
        "peak_memory_bytes": 2000.0,
        "tokens_per_second": 30.5,
    }
    assert {name: measurement.value(name) for name in wanted} == wanted
    assert Measurement.model_validate_json(measurement.model_dump_json()) == measurement


def test_sensitivities_are_of_the_modules_that_are_asked_for() -> None:
    found = FakeRunner().sensitivities(ONE, rank=4)
    (spec,) = ONE.modules
    assert set(found.modules) == {spec.name}
    assert found.modules[spec.name].weight_norm == 64.0  # of 64 × 64 ones
