"""A finished full run and what can be made of it, on the CPU: in float32 nothing is rounded."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel

from jointsearch.config.study import model_source
from jointsearch.config.tasks.custom import check_runs_from_file
from jointsearch.files import read_text
from jointsearch.measurement import FullRunResult
from jointsearch.plan.plan_file import PlanFile
from jointsearch.quantization.in_place import dequantized, to_sixteen_bit
from jointsearch.training.full_run.evaluation import load_saved, read_run, task_of
from jointsearch.training.full_run.folder import ADAPTER, METRICS_FILE, MODEL
from jointsearch.training.model.architecture import model_class
from jointsearch.training.model.base_model import load_base
from jointsearch.training.quiet import ranks_of_parameters
from jointsearch.training.tasks.base import Task


class FinishedRun:
    """The folder of a full run; its models are loaded when they are asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises ``OutputError`` where the folder holds no finished run, ``StudyError`` where only its own
        Python code can run it."""
        plan = read_run(folder)
        check_runs_from_file(plan.study.name, plan.study.task)
        self.folder = folder
        self.plan: PlanFile = plan.under(plan.study.model_copy(update={"device": "cpu"}))

    @property
    def dtype(self) -> torch.dtype:
        """The model's 16-bit type."""
        dtype: torch.dtype = getattr(torch, self.plan.layout.dtype)
        return dtype

    @property
    def auto_class(self) -> Any:
        """What loads a checkpoint of the run's task: one of transformers' auto classes."""
        return model_class(self.plan.study.task.type)

    @property
    def adapter(self) -> Path | None:
        """The folder of the adapter; None where nothing was trained."""
        return self.folder / ADAPTER if self.plan.cost.trainable_parameters else None

    @property
    def result(self) -> FullRunResult:
        """What the run has measured."""
        return FullRunResult.model_validate(json.loads(read_text(self.folder / METRICS_FILE)))

    @property
    def base_id(self) -> str:
        """The model that the run has started from: a Hub id or a folder."""
        return model_source(self.plan.study.model.id)

    @cached_property
    def model(self) -> PreTrainedModel:
        """As the run was saved, in its formats and with its adapter."""
        return load_saved(self.plan, self.folder)

    @cached_property
    def task(self) -> Task:
        return task_of(self.plan, self.folder, self.model)

    def base(self) -> PreTrainedModel:
        """As the run was saved, in its formats, without its adapter."""
        return load_saved(self.plan, self.folder, adapted=False)

    @property
    def tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(self.folder / MODEL)

    def plain(self) -> nn.Module:
        """What the run computes, in float32: dequantized weights, and its adapter by PEFT beside them.

        Not of quantized experts: ``ServingTarget.check_experts`` refuses them.
        """
        base = dequantized(self.base())
        if self.adapter is None:
            return base
        with ranks_of_parameters():
            return PeftModel.from_pretrained(base, self.adapter.resolve()).requires_grad_(False).eval()

    def merged(self) -> PreTrainedModel:
        """The run with its adapter merged by PEFT, in float32 with the values of the 16-bit type."""
        plain: Any = self.plain()
        merged: PreTrainedModel = plain.merge_and_unload() if isinstance(plain, PeftModel) else plain
        to_sixteen_bit(merged, self.dtype)
        return merged

    @torch.no_grad()
    def beside_the_original(self) -> PreTrainedModel:
        """The original model in 16-bit values with W + s B A in the place of W, in float32.

        The scale s is the plan's: no adapter config is read.
        """
        study, plan = self.plan.study, self.plan.plan
        model = load_base(
            study.model, study.task.type, self.plan.layout.dtype, torch.device("cpu"), study.task.head
        )
        tensors = load_file((self.adapter or self.folder) / "adapter_model.safetensors")
        tensors = {name.removeprefix("base_model.model."): value for name, value in tensors.items()}
        for name, rank in plan.ranks.items():
            a, b = tensors.pop(f"{name}.lora_A.weight"), tensors.pop(f"{name}.lora_B.weight")
            change = plan.lora.scale(rank) * b.float() @ a.float()  # (out, in)
            weight = model.get_submodule(name).weight.data
            weight += change.T if self.plan.layout[name].kind == "conv1d" else change
        for name, value in tensors.items():  # new heads
            model.get_parameter(name).data.copy_(value)
        return model.requires_grad_(False).eval()
