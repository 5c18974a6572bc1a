"""The weight-sharing probe: nested ranks, a loop that can be written down plainly, scores by evaluation."""

from __future__ import annotations

import pytest
import torch
from transformers import get_scheduler

from jointsearch.config.space import SpaceSettings
from jointsearch.config.study import StudyConfig
from jointsearch.errors import TrialInterrupted, UnsupportedError
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.lora import LoraSettings
from jointsearch.runner import Trial
from jointsearch.space import SearchSpace
from jointsearch.training.calibration import CalibrationRunner
from jointsearch.training.loop import batches
from jointsearch.training.probes.weight_sharing import WeightSharing

Adapters = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def runner(config: StudyConfig, tiny_layout: ModelLayout) -> CalibrationRunner:
    return CalibrationRunner(config, tiny_layout)


def adapters(sharing: WeightSharing, space: SearchSpace, weight_format: str, rank: int) -> Adapters:
    """Those of a uniform plan, as its model sees them."""
    with sharing._model(space.plan(space.uniform(weight_format, rank))) as model:
        return {n: p.detach().clone() for n, p in model.named_parameters() if ".lora_" in n}


def test_ranks_are_nested(runner: CalibrationRunner, space: SearchSpace) -> None:
    sharing = WeightSharing(runner.models, runner.task, space, Trial())
    sharing.train(6)
    small, large = adapters(sharing, space, "nf4", 2), adapters(sharing, space, "16bit", 8)
    assert small.keys() == large.keys()
    for name, part in small.items():
        whole = large[name]
        assert torch.equal(part, whole[:2] if ".lora_A." in name else whole[:, :2])
        assert part.count_nonzero() > 0


def test_a_small_rank_trains_its_own_rows_alone(
    runner: CalibrationRunner, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SearchSpace, "sample", lambda self, chance: space.uniform("nf4", 2))
    sharing = WeightSharing(runner.models, runner.task, space, Trial())
    before = adapters(sharing, space, "16bit", 8)
    sharing.train(3)
    for name, after in adapters(sharing, space, "16bit", 8).items():
        ours, others = (slice(0, 2), slice(2, 8))
        pick = (lambda t, rows: t[rows]) if ".lora_A." in name else (lambda t, rows: t[:, rows])
        assert torch.equal(pick(after, others), pick(before[name], others))
        assert not torch.equal(pick(after, ours), pick(before[name], ours))


def test_of_one_plan_it_is_plain_training_with_the_last_third_averaged(
    runner: CalibrationRunner, config: StudyConfig, tiny_layout: ModelLayout
) -> None:
    settings = SpaceSettings(bits=(8,), ranks=(4,))
    space = SearchSpace.build(tiny_layout, settings, config.quantization, config.lora)
    sharing = WeightSharing(runner.models, runner.task, space, Trial(seed=3))
    sharing.train(6)

    plan = space.plan(dict.fromkeys(space.parameters, 0))
    model = runner.models.assemble(plan, 3)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    calibration = config.calibration
    optimizer = torch.optim.AdamW(
        trained.values(), lr=calibration.learning_rate, weight_decay=calibration.weight_decay
    )
    scheduler = get_scheduler("linear", optimizer, calibration.warmup_steps, 6)
    torch.manual_seed(3)
    seen: list[Adapters] = []
    model.train()
    for batch in batches(runner.task, calibration.model_copy(update={"steps": 6}), 3):
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(list(trained.values()), calibration.max_grad_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        seen.append({n: p.detach().clone() for n, p in trained.items()})
    with sharing._model(plan) as shared:
        found = {n: p.detach() for n, p in shared.named_parameters() if p.requires_grad}
    assert found.keys() == trained.keys()
    for name in found:
        mean = (seen[4][name] + seen[5][name]) / 2
        # a step is up to 0.01; where a gradient is almost nothing Adam makes much of its last digits
        torch.testing.assert_close(found[name], mean, rtol=0, atol=2e-4)


def test_scores_are_validation_losses(runner: CalibrationRunner, space: SearchSpace) -> None:
    score = runner.probe(space, 6, Trial(seed=0))
    untrained = space.plan(space.uniform("nf4", 0))
    assert score(untrained) == pytest.approx(runner.run(untrained, Trial()).metrics["loss"], rel=1e-6)
    plan = space.plan(space.uniform("16bit", 8))
    assert score(plan) == score(plan)
    assert score(plan) < score(space.plan(space.uniform("16bit", 0))) - 0.01


def test_it_stops_when_asked(runner: CalibrationRunner, space: SearchSpace) -> None:
    with pytest.raises(TrialInterrupted, match="at step 1 of 6"):
        runner.probe(space, 6, Trial(should_stop=lambda: True))


@pytest.mark.parametrize("lora", [{"variant": "dora"}, {"init": "pissa"}])
def test_what_has_no_nested_ranks(
    config: StudyConfig, tiny_layout: ModelLayout, lora: dict[str, str]
) -> None:
    settings = LoraSettings.model_validate(lora)
    sixteen = SpaceSettings(bits=(16,))
    whole = config.model_copy(update={"lora": settings, "search_space": sixteen})
    space = SearchSpace.build(tiny_layout, sixteen, config.quantization, settings)
    with pytest.raises(UnsupportedError, match=f"but got .*{next(iter(lora.values()))}"):
        runner = CalibrationRunner(whole, tiny_layout)
        WeightSharing(runner.models, runner.task, space, Trial())
