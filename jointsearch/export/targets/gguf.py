"""``gguf``: the model and its adapter as two files for llama.cpp, and Ollama's ``Modelfile`` beside them.

int8 keeps its integers there. llama.cpp has no NF4: those modules are written in five bits with two 16-bit
numbers for every 32, and the figures have what that changes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from jointsearch.errors import PlanError
from jointsearch.export.serving import ServingTarget, register_serving_target
from jointsearch.export.targets._usage import by_llama_cpp
from jointsearch.files import write_text
from jointsearch.plan.plan_file import PlanFile

if TYPE_CHECKING:
    from torch import nn

    from jointsearch.export.finished_run import FinishedRun

MODELFILE = "Modelfile"


class Gguf(ServingTarget):
    name = "gguf"
    description = "a GGUF file and its adapter for llama.cpp and Ollama"
    formats: tuple[str, ...] | None = ("q4_0", "q8_0", "nf4", "int8")
    extra = "gguf"
    needs = ("gguf",)
    runtime = ("xllamacpp",)
    tolerance = 1e-3
    usage = by_llama_cpp("-m {folder}/model.gguf --lora {folder}/adapter.gguf")

    def check(self, plan: PlanFile) -> None:
        self.check_formats(plan)
        self.check_model(plan)
        if not plan.plan.ranks:
            raise PlanError(
                "gguf needs a rank above 0, but those of the plan are all 0; use --to gguf-merged"
            )
        if plan.plan.lora.variant not in ("lora", "rslora"):
            raise PlanError(
                f"llama.cpp has adapters of the variants lora and rslora, but the plan has "
                f"{plan.plan.lora.variant}; use --to gguf-merged"
            )

    def check_model(self, plan: PlanFile) -> None:
        """Raise ``PlanError`` where llama.cpp's files cannot be written of such a model."""
        from jointsearch.export.gguf.architectures import ARCHITECTURES

        found = plan.layout.architecture
        if found not in ARCHITECTURES:
            raise PlanError(
                f"{self.name} is written of {', '.join(ARCHITECTURES)}, but the run's model is a {found}; "
                "use --to merged"
            )

    def write(self, run: FinishedRun, folder: Path) -> None:
        from jointsearch.export.gguf.file import ADAPTER_FILE, MODEL_FILE, save_adapter, save_model
        from jointsearch.quantization.in_place import dequantized
        from jointsearch.training.full_run.evaluation import load_saved

        model = dequantized(load_saved(run.plan, run.folder, adapted=False))
        save_model(model, run, folder / MODEL_FILE, kept=True)
        save_adapter(run, model.config, folder / ADAPTER_FILE)
        files = [f"FROM ./{MODEL_FILE}", f"ADAPTER ./{ADAPTER_FILE}"]
        write_text(folder / MODELFILE, modelfile(files, run))

    def load(self, folder: Path, run: FinishedRun) -> nn.Module:
        from jointsearch.export.gguf.file import MODEL_FILE

        return self._loaded(folder / MODEL_FILE, folder, run)

    def load_unrounded(self, folder: Path, run: FinishedRun) -> nn.Module:
        from jointsearch.export.gguf.file import MODEL_FILE, save_unrounded

        with tempfile.TemporaryDirectory(dir=folder.parent) as plain:
            save_unrounded(folder / MODEL_FILE, Path(plain) / MODEL_FILE)
            return self._loaded(Path(plain) / MODEL_FILE, folder, run)  # it stays mapped into memory

    def expected(self, run: FinishedRun) -> nn.Module:
        from jointsearch.export.gguf.tensor_types import as_written

        return as_written(run.plain(), run.plan.plan.formats, kept=True)

    def _loaded(self, model: Path, folder: Path, run: FinishedRun) -> nn.Module:
        from transformers import AutoConfig

        from jointsearch.export.gguf.file import ADAPTER_FILE
        from jointsearch.export.gguf.llama_cpp import LlamaCpp
        from jointsearch.training.full_run.folder import MODEL

        adapter = folder / ADAPTER_FILE
        config = AutoConfig.from_pretrained(run.folder / MODEL)
        return LlamaCpp(model, adapter if adapter.is_file() else None, config)


def modelfile(files: list[str], run: FinishedRun) -> str:
    """What Ollama makes a model of. Where the tokenizer has no template, a prompt is taken as it is."""
    template = [] if run.tokenizer.chat_template else ['TEMPLATE """{{ .Prompt }}"""']
    return "\n".join([*files, *template]) + "\n"


register_serving_target(Gguf())
