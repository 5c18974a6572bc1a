"""``adapter``: the adapter for engines that serve it beside the original model, such as vLLM, TGI and LoRAX.

They read ``rank_pattern`` and ``alpha_pattern`` by PEFT's rule. What they serve is the original model's
16-bit weights with the adapter: the difference from the run, whose weights were quantized, is in the figures.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from jointsearch.errors import PlanError
from jointsearch.export.serving import ServingTarget, register_serving_target
from jointsearch.files import read_text, write_text
from jointsearch.plan.plan_file import PlanFile

if TYPE_CHECKING:
    from torch import nn

    from jointsearch.export.finished_run import FinishedRun

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

KNOWN_HEADS = ("classifier", "score")
"""New heads that engines take from an adapter."""

USAGE = """\
```python
from peft import PeftModel
from transformers import {auto_class}

model = {auto_class}.from_pretrained("{base}")
model = PeftModel.from_pretrained(model, "{folder}")
```

With vLLM, whose `--max-lora-rank` must be at least {max_rank}:

```
vllm serve {base} --enable-lora --max-lora-rank {max_rank} --lora-modules adapter={folder}
```
"""


class Adapter(ServingTarget):
    name = "adapter"
    description = "the adapter alone, to be served beside the original model"
    tolerance = 1e-4
    usage = USAGE

    def check(self, plan: PlanFile) -> None:
        lora, ranks = plan.plan.lora, plan.plan.ranks
        otherwise = "use --to merged"
        if not ranks:
            raise PlanError(
                "an adapter needs a rank above 0, but those of the plan are all 0; use --to merged"
            )
        if lora.variant not in ("lora", "rslora"):
            raise PlanError(
                f"engines serve the variants lora and rslora, but the plan has {lora.variant}; {otherwise}"
            )
        if lora.init != "default":
            raise PlanError(
                f"an adapter that is served beside the original model must start at nothing, but the plan "
                f"has lora.init: {lora.init}, which belongs to the run's own weights; {otherwise}"
            )
        if experts := plan.peft.get("target_parameters"):
            raise PlanError(f"engines serve no adapters of experts, but the plan gives {experts[0]} one")
        heads = [name for name in plan.peft["modules_to_save"] or () if name not in KNOWN_HEADS]
        if heads:
            raise PlanError(
                f"engines take the new heads {' and '.join(KNOWN_HEADS)} alone, but the run has trained "
                f"{heads[0]}; {otherwise}"
            )

    def write(self, run: FinishedRun, folder: Path) -> None:
        assert run.adapter is not None
        config = json.loads(read_text(run.adapter / CONFIG))
        revision = run.plan.study.model.revision
        config |= {"base_model_name_or_path": run.base_id, "revision": revision, "inference_mode": True}
        write_text(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
        shutil.copyfile(run.adapter / WEIGHTS, folder / WEIGHTS)
        run.tokenizer.save_pretrained(folder)

    def load(self, folder: Path, run: FinishedRun) -> nn.Module:
        import torch
        from peft import PeftModel

        from jointsearch.training.model.base_model import load_base

        study = run.plan.study
        device = torch.device("cpu")
        base = load_base(study.model, study.task.type, run.plan.layout.dtype, device, study.task.head)
        return PeftModel.from_pretrained(base, folder.resolve()).eval()

    def expected(self, run: FinishedRun) -> nn.Module:
        return run.beside_the_original()


register_serving_target(Adapter())
