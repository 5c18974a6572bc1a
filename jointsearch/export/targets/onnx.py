"""``onnx``: a graph for ONNX Runtime, each module in its own format and its adapter beside it.

ONNX Runtime has NF4 and row-wise int8 as bitsandbytes has them: what it multiplies by are the run's weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jointsearch.errors import PlanError
from jointsearch.export.serving import ServingTarget, register_serving_target
from jointsearch.plan.plan_file import PlanFile

if TYPE_CHECKING:
    from torch import nn

    from jointsearch.export.finished_run import FinishedRun

USAGE = """\
```python
import onnxruntime

session = onnxruntime.InferenceSession("{folder}/model.onnx")
```

It takes `input_ids`, `attention_mask`, `position_ids` and, empty at first, `past_key_values.I.key` and
`.value`. It gives `logits` and `present.I.key` and `.value`, which are the next step's `past_key_values`.
"""


class Onnx(ServingTarget):
    name = "onnx"
    description = "an ONNX graph for ONNX Runtime, in the plan's formats with its adapter"
    formats = ("nf4", "int8")
    extra = "onnx"
    needs = ("onnx", "onnxscript")
    runtime = ("onnxruntime",)
    tolerance = 1e-4
    usage = USAGE

    def check(self, plan: PlanFile) -> None:
        self.check_formats(plan)
        if plan.study.task.type != "causal-lm":
            raise PlanError(
                f"onnx has causal language models alone, but the run's task is {plan.study.task.type}; "
                "use --to merged"
            )
        if plan.plan.ranks and plan.plan.lora.variant not in ("lora", "rslora"):
            raise PlanError(
                f"onnx has the variants lora and rslora, but the plan has {plan.plan.lora.variant}; "
                "use --to merged"
            )
        if any(plan.layout[name].kind == "experts" for name in (*plan.plan.formats, *plan.plan.ranks)):
            raise PlanError("onnx has no experts with formats or adapters, but the plan gives them some")

    def write(self, run: FinishedRun, folder: Path) -> None:
        from jointsearch.export.onnx.graph import save_graph
        from jointsearch.export.onnx.traced import traceable
        from jointsearch.training.full_run.evaluation import load_saved

        loaded = load_saved(run.plan, run.folder)
        model = traceable(loaded.get_base_model() if hasattr(loaded, "peft_config") else loaded)
        model.config.use_cache = True
        del model.config.quantization_config
        save_graph(model, folder, run.dtype)
        model.config.save_pretrained(folder)
        model.generation_config.save_pretrained(folder)
        run.tokenizer.save_pretrained(folder)

    def load(self, folder: Path, run: FinishedRun) -> nn.Module:
        from jointsearch.export.onnx.session import OnnxModel

        return OnnxModel(folder)

    def expected(self, run: FinishedRun) -> nn.Module:
        return run.plain()


register_serving_target(Onnx())
