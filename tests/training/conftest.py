"""A tiny study on real text."""

from __future__ import annotations

from pathlib import Path

import pytest

from jointsearch.config.study import StudyConfig
from jointsearch.plan.layout import ModelLayout
from jointsearch.space import SearchSpace

QUICKSTART = Path(__file__).parents[2] / "jointsearch" / "quickstart"

STUDY = """
name: tiny
model: {{id: {model}}}
task:
  type: causal-lm
  data: {{package: click}}
  sequence_length: 64
search_space: {{ranks: [0, 2, 8]}}
calibration: {{steps: 6, batch_size: 4, measure_at: [0.5], validation_examples: 8,
  warmup_steps: 1, learning_rate: 0.01}}
full_run: {{max_steps: 6, batch_size: 4, evaluations: 3, learning_rate: 0.01}}
search: {{sampler: random, trials: 12}}
device: cpu
"""


@pytest.fixture(scope="session")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart model on the source of click: six steps of four examples a trial."""
    path = tmp_path_factory.mktemp("study") / "tiny.yaml"
    path.write_text(STUDY.format(model=QUICKSTART / "model"))
    return path


@pytest.fixture(scope="session")
def config(study_file: Path) -> StudyConfig:
    from jointsearch.config.yaml_file import read_study

    return read_study(study_file)


@pytest.fixture(scope="session")
def tiny_layout(config: StudyConfig) -> ModelLayout:
    from jointsearch.training.model.architecture import read_layout

    return read_layout(config.model, config.task.type)


@pytest.fixture(scope="session")
def space(config: StudyConfig, tiny_layout: ModelLayout) -> SearchSpace:
    return SearchSpace.build(tiny_layout, config.search_space, config.quantization, config.lora)
