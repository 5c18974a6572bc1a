"""The weight-sharing probe: one training run, after which any plan is scored by evaluation alone.

There is one adapter of the largest rank per module. At every step a random plan is drawn, and its
adapters are the first rows of A and columns of B of the shared ones: ranks are nested, as in slimmable
and once-for-all networks (Yu et al., arXiv 1812.08928; Cai et al., arXiv 1908.09791; uniform draws as in
Guo et al., Single Path One-Shot, arXiv 1904.00420). The learning rate decays to zero and the last third
of the weights is averaged (Izmailov et al., SWA, arXiv 1803.05407): scores depend on the steps that
happen to be the last ones otherwise.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from transformers import get_scheduler

from jointsearch.errors import TrialInterrupted, UnsupportedError
from jointsearch.plan.plan import Plan
from jointsearch.runner import Trial
from jointsearch.space import SearchSpace
from jointsearch.training.loop import batches
from jointsearch.training.model.setup import autocast, build_optimizer, forward_pass
from jointsearch.training.model.trial_model import TrialModels
from jointsearch.training.tasks import Task

AVERAGED_SHARE = 1 / 3
"""Of the steps, the last ones, whose weights are averaged."""


class WeightSharing:
    """Shared adapters for the plans of a space, on the models and the data of the study's trials."""

    def __init__(self, models: TrialModels, task: Task, space: SearchSpace, trial: Trial) -> None:
        lora = space.lora
        if lora.init != "default" or not lora.method.nested:
            raise UnsupportedError(
                "probe: weight-sharing needs adapters whose ranks are nested (lora.init: default, variant: "
                f"lora or rslora), but got {lora.init} and {lora.variant}; use probe: sensitivity or none"
            )
        if any(spec.kind == "experts" and spec.adaptable for group in space.groups for spec in group.modules):
            raise UnsupportedError(
                "probe: weight-sharing needs adapters that are beside single matrices, but this model's "
                "experts share theirs; use probe: sensitivity or none"
            )
        self._models = models
        self._task = task
        self._settings = models.config.calibration.at(trial.learning_rate)
        self._space = space
        self._seed = trial.seed
        params = {name: len(choices) - 1 for name, choices in space.group_parameters.items()}
        largest = models.assemble(space.plan(params), trial.seed)
        self._shared = nn.ParameterDict(
            {_key(name): nn.Parameter(p.detach().clone()) for name, p in _trained(largest).items()}
        )

    def train(self, steps: int, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Train the shared adapters on the calibration's batches, a random plan at every step."""
        settings = self._settings.model_copy(update={"steps": steps})
        chance = random.Random(self._seed)
        optimizer = build_optimizer(
            [{"params": list(self._shared.parameters())}],
            self._models.config.training,
            float(settings.learning_rate),
            settings.weight_decay,
        )
        scheduler = get_scheduler("linear", optimizer, settings.warmup_steps, steps)
        averaged = AveragedModel(self._shared)
        torch.manual_seed(self._seed)
        for step, batch in enumerate(batches(self._task, settings, self._seed), start=1):
            if should_stop():
                raise TrialInterrupted(f"the probe was stopped at step {step} of {steps}")
            with self._model(self._space.plan(self._space.sample(chance))) as model:
                model.train()
                with autocast(self._models.device), forward_pass(model, self._models.config.training):
                    loss = model(**{n: t.to(self._models.device) for n, t in batch.items()}).loss
                if loss.requires_grad:  # a plan without a rank trains nothing
                    loss.backward()
                self._collect_gradients(_trained(model))
            norm = torch.nn.utils.clip_grad_norm_(self._shared.parameters(), settings.max_grad_norm)
            if loss.isfinite() and norm.isfinite():
                optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
            if step > steps * (1 - AVERAGED_SHARE):
                averaged.update_parameters(self._shared)
        with torch.no_grad():
            for shared, mean in zip(self._shared.parameters(), averaged.module.parameters(), strict=True):
                shared.copy_(mean)

    def score(self, plan: Plan) -> float:
        """The validation loss of ``plan`` with the shared adapters, on the examples of the trials."""
        settings = self._settings
        with self._model(plan) as model, autocast(self._models.device):
            return self._task.loss(model, "validation", settings.validation_examples, settings.batch_size)

    @contextmanager
    def _model(self, plan: Plan) -> Iterator[nn.Module]:
        """The plan's model, whose adapters are views of the shared ones."""
        model = self._models.assemble(plan, self._seed)
        for name, parameter in _trained(model).items():
            parameter.data = _part(name, self._shared[_key(name)].data, parameter.shape)
        yield model

    def _collect_gradients(self, trained: Mapping[str, nn.Parameter]) -> None:
        for shared in self._shared.parameters():
            shared.grad = torch.zeros_like(shared)
        for name, parameter in trained.items():
            if parameter.grad is not None:
                _part(name, self._shared[_key(name)].grad, parameter.shape).copy_(parameter.grad)


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def _part(name: str, shared: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The first rows of a shared A, or columns of a shared B; all of what has no rank. A view."""
    if ".lora_A." in name:
        return shared[: shape[0]]
    if ".lora_B." in name:
        return shared[:, : shape[1]]
    return shared


def _key(name: str) -> str:
    """A name without dots, which a ``ParameterDict`` does not take."""
    return name.replace(".", "/")
