"""Really trains random plans of the quickstart, and asks the weight-sharing probe about them.

    python studies/benchmarks/probe.py [--plans 60] [--steps 120 180] [--seeds 2] [--output FILE]

Writes for every plan its bytes, its losses at a quarter and at half of the trial, and its final loss; for
every probe (so many steps, a seed) its score of every plan, and Spearman's rank correlation with the
final losses. ``rungs.py`` replays the losses.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import time
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from jointsearch.assemble import build_runner, read_layout, read_study_file
from jointsearch.runner import Trial
from jointsearch.space import build_space

SHARES = (0.25, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plans", type=int, default=60)
    parser.add_argument("--steps", type=int, nargs="+", default=[120, 180])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    config = read_study_file("quickstart")
    calibration = config.calibration.model_copy(update={"measure_at": SHARES})
    config = config.model_copy(update={"calibration": calibration})
    layout = read_layout(config)
    space = build_space(config, layout)
    runner = build_runner(config, layout)
    chance = random.Random(7)
    plans = [space.plan(space.sample(chance)) for _ in range(arguments.plans)]
    result: dict[str, Any] = {
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
        "trial_steps": calibration.steps,
        "trials": [],
        "probes": [],
    }
    for plan in plans:
        found = runner.run(plan, Trial())
        result["trials"].append(
            {
                "model_bytes": found.model_bytes,
                "rungs": [round(point.loss, 6) for point in found.validation_losses[:-1]],
                "loss": found.metrics["loss"],
                "seconds": round(sum(found.seconds.values()), 2),
            }
        )
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    losses = [trial["loss"] for trial in result["trials"]]
    for steps in arguments.steps:
        for seed in range(arguments.seeds):
            start = time.perf_counter()
            score = runner.probe(space, steps, Trial(seed))
            trained = time.perf_counter() - start
            scores = [round(score(plan), 6) for plan in plans]
            result["probes"].append(
                {
                    "steps": steps,
                    "seed": seed,
                    "spearman": round(float(spearmanr(scores, losses).statistic), 3),
                    "train_seconds": round(trained, 1),
                    "seconds_per_score": round((time.perf_counter() - start - trained) / len(plans), 2),
                    "scores": scores,
                }
            )
            print({key: value for key, value in result["probes"][-1].items() if key != "scores"}, flush=True)
            arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
