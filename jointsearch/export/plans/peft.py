"""``peft``: ``adapter_config.json``, the plan's ranks for ``LoraConfig.from_pretrained(folder)``.

Needs no PEFT. The weights' formats are no part of it: ``plan`` has them.
"""

from __future__ import annotations

import json
from pathlib import Path

from jointsearch.config.study import model_source
from jointsearch.export import ExportSource, ExportTarget, register_export_target
from jointsearch.export.plans._elsewhere import check_adapter
from jointsearch.files import make_folder_of, write_text

CONFIG = "adapter_config.json"


def write(source: ExportSource, output: Path) -> None:
    plan = source.plan
    check_adapter(plan, "PEFT")
    model = {
        "base_model_name_or_path": model_source(plan.study.model.id),
        "revision": plan.study.model.revision,
    }
    config = {"peft_type": "LORA", **model, **plan.peft}
    make_folder_of(output / CONFIG)
    write_text(output / CONFIG, json.dumps(config, indent=2) + "\n")


register_export_target(ExportTarget("peft", f"a folder with PEFT's {CONFIG}", write, is_folder=True))
