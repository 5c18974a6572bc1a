"""An exported graph in ONNX Runtime on the CPU, as a module that takes tokens and gives logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig
from transformers.modeling_outputs import CausalLMOutput

from jointsearch.export.onnx.graph import GRAPH

Cache = dict[str, np.ndarray]
"""What ``past_key_values`` is fed with, by the names of the inputs."""


class OnnxModel(nn.Module):
    """Runs ``model.onnx`` of a folder. One step needs no cache; several hand ``cache`` on."""

    def __init__(self, folder: Path, num_threads: int = 0) -> None:
        """``num_threads``: 0 leaves it to ONNX Runtime."""
        import onnxruntime

        super().__init__()
        self.config = AutoConfig.from_pretrained(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        self.session = onnxruntime.InferenceSession(
            str(folder / GRAPH), options, providers=["CPUExecutionProvider"]
        )
        # where a module is, is asked of its parameters
        self.place = nn.Parameter(torch.zeros(0), requires_grad=False)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **ignored: Any
    ) -> CausalLMOutput:
        """``logits`` of (batch, time) tokens: (batch, time, vocabulary)."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        logits, _ = self.step(input_ids.numpy(), mask.numpy())
        return CausalLMOutput(logits=torch.from_numpy(logits))

    def step(
        self, input_ids: np.ndarray, mask: np.ndarray, cache: Cache | None = None
    ) -> tuple[np.ndarray, Cache]:
        """Logits of further tokens after what ``cache`` has seen, which ``mask`` covers too; and the cache
        for the next step."""
        wanted = {value.name: value.shape for value in self.session.get_inputs()}
        positions = np.maximum(mask.cumsum(1) - 1, 0)[:, -input_ids.shape[1] :]
        given = {"input_ids": input_ids, "attention_mask": mask, "position_ids": positions, **(cache or {})}
        for name, shape in wanted.items():
            if name not in given:
                sizes = [len(input_ids), shape[1], 0, shape[3]]
                given[name] = np.zeros(sizes, np.float32)
        outputs = [value.name for value in self.session.get_outputs()]
        feeds = {
            name: given[name].astype(np.int64) if given[name].dtype.kind in "iub" else given[name]
            for name in wanted
        }
        found = dict(zip(outputs, self.session.run(None, feeds), strict=True))
        logits = found.pop("logits")
        return logits, {name.replace("present", "past_key_values"): value for name, value in found.items()}
