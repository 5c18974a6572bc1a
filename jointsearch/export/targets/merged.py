"""``merged``: one plain 16-bit checkpoint, the adapter merged into the dequantized weights.

Every engine loads it. Merged weights are rounded to 16 bits: the figures have what that changes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jointsearch.export.serving import ServingTarget, register_serving_target
from jointsearch.export.targets._usage import by_transformers
from jointsearch.plan.plan_file import PlanFile

if TYPE_CHECKING:
    from torch import nn

    from jointsearch.export.finished_run import FinishedRun


class Merged(ServingTarget):
    name = "merged"
    description = "a plain 16-bit checkpoint with the adapter merged into it"
    runtime = ("transformers",)
    tolerance = 0.05  # bfloat16 rounds each weight by up to 0.4 %
    usage = by_transformers()

    def check(self, plan: PlanFile) -> None:
        self.check_experts(plan)

    def write(self, run: FinishedRun, folder: Path) -> None:
        model = run.merged().to(run.dtype)
        model.config.use_cache = True
        model.save_pretrained(folder)
        run.tokenizer.save_pretrained(folder)

    def load(self, folder: Path, run: FinishedRun) -> nn.Module:
        import torch

        model: nn.Module = run.auto_class.from_pretrained(folder.resolve(), dtype=torch.float32)
        return model.eval()

    def expected(self, run: FinishedRun) -> nn.Module:
        return run.plain()


register_serving_target(Merged())
