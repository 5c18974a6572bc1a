"""A training method that one file outside of the package adds trains trials and full runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from jointsearch.config.study import StudyConfig
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.methods import METHODS
from jointsearch.plan.plan_file import PlanFile
from jointsearch.runner import Trial
from jointsearch.space import build_space
from jointsearch.training.calibration import CalibrationRunner
from jointsearch.training.full_run.run import full_run


@pytest.fixture
def lora_plus() -> Iterator[Any]:
    """The method's module; the method is known to one test alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent / "outside")
        patch.setattr(METHODS, "_items", dict(METHODS._items))
        patch.delitem(sys.modules, "lora_plus", raising=False)
        yield importlib.import_module("lora_plus")


def test_b_learns_at_its_own_rate(
    lora_plus: Any, config: StudyConfig, tiny_layout: ModelLayout, tmp_path: Path
) -> None:
    values = config.model_dump(mode="json")
    values["lora"]["variant"] = "lora-plus"
    values["calibration"] |= {"steps": 1, "warmup_steps": 0, "learning_rate": 1e-3, "weight_decay": 0.0}
    values["full_run"] |= {"max_steps": 2, "evaluations": 1, "lr_scheduler": "linear", "warmup_ratio": 0.0}
    values["full_run"] |= {"learning_rate": 1e-3, "weight_decay": 0.0}
    study = StudyConfig.model_validate(values)
    space = build_space(study, tiny_layout)
    plan = space.plan(space.uniform("nf4", 2))
    seen = lora_plus.LORA_PLUS.seen

    CalibrationRunner(study, tiny_layout).run(plan, Trial(seed=0))
    # B starts at 0, and Adam's first step is as long as the rate
    assert [(step, finite) for step, finite, _ in seen] == [(1, True)]
    assert seen[0][2] == pytest.approx(16e-3, rel=1e-3)

    seen.clear()
    full_run(PlanFile.build(plan, tiny_layout, study), tmp_path / "run")
    assert [(step, finite) for step, finite, _ in seen] == [(1, True), (2, True)]
    assert seen[0][2] == pytest.approx(16e-3, rel=1e-3)
    saved = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    largest = max(value.abs().max().item() for name, value in saved.items() if ".lora_B." in name)
    assert largest == pytest.approx(seen[1][2])
    assert largest > 16e-3
