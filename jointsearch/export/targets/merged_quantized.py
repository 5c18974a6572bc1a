"""``merged-quantized``: one checkpoint in the plan's formats, the adapter merged into it.

The merged weights are quantized once more, each module in its own format, and the figures have what that
changes. Loading it needs jointsearch, as the run's own ``model`` does; there is no adapter beside it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from jointsearch.errors import PlanError
from jointsearch.export.serving import ServingTarget, register_serving_target
from jointsearch.export.targets._usage import by_transformers
from jointsearch.plan.plan_file import PlanFile

if TYPE_CHECKING:
    from torch import nn

    from jointsearch.export.finished_run import FinishedRun


class MergedQuantized(ServingTarget):
    name = "merged-quantized"
    description = "a checkpoint in the plan's formats with the adapter merged into it"
    runtime = ("transformers", "bitsandbytes")
    tolerance = 1e-6
    usage = by_transformers("import jointsearch  # lets transformers load mixed checkpoints")

    def check(self, plan: PlanFile) -> None:
        if not plan.plan.formats:
            raise PlanError("the plan quantizes no module, and so its merged model is plain; use --to merged")
        self.check_experts(plan)

    def write(self, run: FinishedRun, folder: Path) -> None:
        from jointsearch.quantization.plugin import JointSearchConfig, save_model

        with tempfile.TemporaryDirectory(dir=folder.parent) as plain:
            run.merged().to(run.dtype).save_pretrained(plain)
            model = run.auto_class.from_pretrained(
                plain,
                quantization_config=JointSearchConfig.from_plan(run.plan),
                device_map={"": "cpu"},
            )
        model.config.use_cache = True
        save_model(model, folder)
        run.tokenizer.save_pretrained(folder)

    def load(self, folder: Path, run: FinishedRun) -> nn.Module:
        model: nn.Module = run.auto_class.from_pretrained(folder.resolve(), device_map={"": "cpu"})
        return model.eval()

    def expected(self, run: FinishedRun) -> nn.Module:
        from jointsearch.quantization.in_place import quantize_in_place
        from jointsearch.quantization.plugin import JointSearchConfig

        return quantize_in_place(run.merged(), JointSearchConfig.from_plan(run.plan)).eval()


register_serving_target(MergedQuantized())
