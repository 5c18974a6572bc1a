"""The model of a trial: its plan's quantized weights out of the bank, and adapters at their start."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from jointsearch.config.study import StudyConfig
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.quantization.bank import QuantizedBank
from jointsearch.training.device import give_back_memory
from jointsearch.training.methods.base import Adaptation, method_of
from jointsearch.training.model.adapters import Factors, changes_weights
from jointsearch.training.model.setup import prepare_for_training
from jointsearch.training.model.shared_bank import open_bank
from jointsearch.training.model.streamed_layers import StreamedLayers, streamed_modules

_log = logging.getLogger(__name__)


class TrialModels:
    """Makes the models of a study's trials on one device. Not safe for several threads."""

    def __init__(
        self,
        config: StudyConfig,
        layout: ModelLayout,
        device: torch.device,
        base: PreTrainedModel | None = None,
        tell: Callable[[str], None] = _log.info,
    ) -> None:
        """``base``: the model where it is in memory, as ``load_base`` would give it; else its weights are
        those of the machine's bank, and ``tell`` gets a line where that has to be made."""
        self.config = config
        self.layout = layout
        self.device = device
        if base is None:
            self.bank = open_bank(config, layout, device, tell)
        else:
            self.bank = QuantizedBank(base, config.quantization, getattr(torch, layout.dtype))
        self._factors: Factors = {}
        self._streamed: frozenset[str] = frozenset()
        if config.training.stream_layers and base is None:
            if self.bank.is_stored:
                self._streamed = streamed_modules(layout)
            else:
                tell("training.stream_layers has no effect: the weights are in memory anyway")

    def make_room(self, plan: Plan) -> None:
        """Let go of what the model of ``plan`` does not use, and give its memory back to the system."""
        self.bank.keep(plan.formats)
        give_back_memory()

    def assemble(self, plan: Plan, seed: int, steps: int | None = None) -> PreTrainedModel | PeftModel:
        """The plan's model, ready to be trained; the bank's tensors stay as they are.

        ``steps``: of its training, in place of the study's.
        """
        changed = plan.ranks if changes_weights(plan) else {}
        changes_types = self.config.training.prepare_for_kbit_training
        model = self.bank.assemble(
            plan.formats,
            lambda name: changes_types or name.removesuffix(".weight") in changed,
            self._streamed,
        )
        method = method_of(plan.lora)
        steps = steps or self.config.calibration.steps
        wanted = Adaptation(plan, self.layout, self.config.task.type, steps, seed)
        starts = method.starts(model, wanted, self.bank, self._factors)
        prepare_for_training(model, self.config.training)
        if not self._streamed:
            return method.attach(model, wanted, starts)
        layers = StreamedLayers(model, self.layout, self.device)
        with layers.all_there() if plan.lora.variant == "dora" else nullcontext():
            model = method.attach(model, wanted, starts)  # DoRA's start has norms of weights
        layers.watch(model)
        return model
