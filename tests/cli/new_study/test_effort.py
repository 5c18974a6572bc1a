"""Minutes as trials and steps, and how large a model is."""

from __future__ import annotations

from pathlib import Path

import pytest

from jointsearch.cli.new_study.effort import MAX_TRIALS, count_parameters, effort_for


def test_the_rule_by_hand() -> None:
    # 1e8 parameters, 1,000 tokens: 4e11 operations, 4 s on a CPU and 5 s with a quarter on top, and 0.05
    an_hour = effort_for(60, 100_000_000, 1000, "cpu")
    assert an_hour.seconds_per_step == pytest.approx(5.05)
    assert (an_hour.trials, an_hour.steps) == (35, 20)  # 712 steps; a hundredth is below 20
    assert (an_hour.bits, an_hour.ranks) == ([4, 8], [0, 8])
    a_night = effort_for(480, 100_000_000, 1000, "cpu")
    assert (a_night.trials, a_night.steps) == (95, 60)  # 5,703 steps; a hundredth is 57, to tens 60
    assert (a_night.bits, a_night.ranks) == ([4, 8, 16], [0, 4, 8, 16])
    assert 470 < a_night.minutes <= 480
    a_minute = effort_for(1, 100_000_000, 1000, "cpu")
    assert (a_minute.trials, a_minute.steps) == (12, 20)
    assert a_minute.minutes == 21  # 240 steps
    a_week = effort_for(7 * 24 * 60, 100_000_000, 1000, "cuda")
    assert (a_week.trials, a_week.steps) == (MAX_TRIALS, 200)


@pytest.mark.parametrize("minutes", [1, 10, 60, 600, 6000])
def test_uniform_plans_are_a_third_of_the_trials_at_most(minutes: float) -> None:
    effort = effort_for(minutes, 100_000_000, 1000, "cpu")
    assert 3 * len(effort.bits) * len(effort.ranks) <= effort.trials


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("meta-llama/Llama-3.2-1B", 1_000_000_000),
        ("Qwen/Qwen2.5-0.5B-Instruct", 500_000_000),
        ("EleutherAI/gpt-neo-125m", 125_000_000),
        ("EleutherAI/pythia-70m-deduped", 70_000_000),
        ("openai-community/gpt2", 125_000_000),
        ("bigscience/bloom-1b7", 125_000_000),
    ],
)
def test_sizes_are_read_from_names(name: str, number: int) -> None:
    assert count_parameters(name) == number


def test_sizes_are_read_from_folders(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(3, 5)}, tmp_path / "model-1.safetensors", metadata={"format": "pt"})
    save_file({"b": torch.zeros(7, dtype=torch.bfloat16)}, tmp_path / "model-2.safetensors")
    assert count_parameters(str(tmp_path)) == 22
