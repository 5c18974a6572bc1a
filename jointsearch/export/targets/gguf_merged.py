"""``gguf-merged``: one file for llama.cpp with the adapter merged into it, and Ollama's ``Modelfile``.

The merged weights are quantized once more, each module in the type of its format, and the figures have what
that changes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jointsearch.export.serving import register_serving_target
from jointsearch.export.targets._usage import by_llama_cpp
from jointsearch.export.targets.gguf import MODELFILE, Gguf, modelfile
from jointsearch.files import write_text
from jointsearch.plan.plan_file import PlanFile

if TYPE_CHECKING:
    from torch import nn

    from jointsearch.export.finished_run import FinishedRun


class GgufMerged(Gguf):
    name = "gguf-merged"
    description = "one GGUF file for llama.cpp and Ollama, the adapter merged into it"
    usage = by_llama_cpp("-m {folder}/model.gguf")

    def check(self, plan: PlanFile) -> None:
        self.check_formats(plan)
        self.check_model(plan)

    def write(self, run: FinishedRun, folder: Path) -> None:
        from jointsearch.export.gguf.file import MODEL_FILE, save_model

        save_model(run.merged(), run, folder / MODEL_FILE, kept=False)
        write_text(folder / MODELFILE, modelfile([f"FROM ./{MODEL_FILE}"], run))

    def expected(self, run: FinishedRun) -> nn.Module:
        from jointsearch.export.gguf.tensor_types import as_written

        return as_written(run.merged(), run.plan.plan.formats, kept=False)


register_serving_target(GgufMerged())
