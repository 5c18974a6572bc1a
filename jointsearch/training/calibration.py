"""The calibration run: one trial as a short, real fine-tune of the really quantized model.

All plans see the same batches in the same order and adapters that start alike (common random
numbers), so that the difference between two plans is mostly theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from jointsearch.config.study import StudyConfig
from jointsearch.config.tasks.custom import check_runs_from_file
from jointsearch.config.training import CalibrationSettings
from jointsearch.measurement import LossPoint, Measurement
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.plan.sensitivities import Sensitivities
from jointsearch.runner import Trial
from jointsearch.space import SearchSpace
from jointsearch.training.checkpoint import Checkpoint, Progress
from jointsearch.training.device import (
    PeakMemory,
    describe,
    failures_named,
    library_versions,
    measure_peak_memory,
    resolve_device,
)
from jointsearch.training.device_check import check_formats
from jointsearch.training.loop import Clock, TrainingLoop, finite, mean_losses, stability_of
from jointsearch.training.methods.base import method_of
from jointsearch.training.model.setup import autocast, check_device
from jointsearch.training.model.trial_model import TrialModels
from jointsearch.training.probes.sensitivity import measure_sensitivities
from jointsearch.training.probes.weight_sharing import WeightSharing
from jointsearch.training.tasks import Evaluation, build_task

_log = logging.getLogger(__name__)

LEARNING_RATES = tuple(float(f"{digit}e{power}") for power in range(-6, 0) for digit in (1, 3))


class CalibrationRunner:
    """Runs plans on one device; loads the model and the data once. Not safe for several threads."""

    takes_steps = True

    def __init__(
        self, config: StudyConfig, layout: ModelLayout, tell: Callable[[str], None] = _log.info
    ) -> None:
        """``tell`` gets a line where the model's bank has to be made."""
        check_runs_from_file(config.name, config.task)
        self._config = config
        self._layout = layout
        self.device = resolve_device(config.device)
        check_formats(self.device, config, layout)
        check_device(config.training, self.device)
        self.models = TrialModels(config, layout, self.device, tell=tell)
        self.task = build_task(config, self.models.bank.config)

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """Two of every power of ten: neighbours differ by about what a fine-tune notices."""
        return LEARNING_RATES

    @property
    def notes(self) -> list[str]:
        """What a person should know about the data."""
        return self.task.notes

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        """Assemble, train and measure ``plan``; raises ``TrialFailed`` where it has no result."""
        config = self._config.at(trial.learning_rate, trial.steps)
        settings = config.calibration
        clock = Clock()
        method = method_of(plan.lora)
        checkpoint = None
        if settings.checkpoint_every and method.restorable:
            checkpoint = Checkpoint(self._config.digest, plan.digest, trial.seed, settings.steps)
        self.models.make_room(plan)  # so that the peak is this plan's
        with failures_named(), measure_peak_memory(self.device) as peak:
            with clock("assemble"):
                model = self.models.assemble(plan, trial.seed, settings.steps)
            progress = TrainingLoop(model, self.task, config, method).run(trial, clock, checkpoint)
            with clock("evaluate"), autocast(self.device):
                found = self.task.evaluate(
                    model, "validation", settings.validation_examples, settings.batch_size
                )
        if checkpoint:
            checkpoint.delete()
        finite("validation", found.metrics["loss"], settings.steps)
        return self._measurement(plan, trial, settings, method.final_ranks(model), progress, found, peak)

    def probe(self, space: SearchSpace, steps: int, trial: Trial) -> Callable[[Plan], float]:
        """Shared adapters, trained for ``steps``; gives a plan's validation loss with them."""
        sharing = WeightSharing(self.models, self.task, space, trial)
        sharing.train(steps, trial.should_stop)
        return sharing.score

    def sensitivities(self, layout: ModelLayout, rank: int) -> Sensitivities:
        """How sensitive each module is, from one calibration run at 4 bits and ``rank`` everywhere.

        ``layout`` is the study's, as this runner's is.
        """
        with failures_named():
            return measure_sensitivities(self.models, self.task, rank)

    def _measurement(
        self,
        plan: Plan,
        trial: Trial,
        settings: CalibrationSettings,
        ranks: dict[str, int],
        progress: Progress,
        found: Evaluation,
        peak: PeakMemory,
    ) -> Measurement:
        cost = plan_cost(self._layout, plan.ending_with(ranks))
        train_seconds = progress.seconds.get("train", 0.0)
        steps_per_epoch = self.task.num_examples("train") / settings.batch_size
        last = len(progress.steps), found.metrics["loss"]
        return Measurement(
            metrics=found.metrics,
            model_bytes=cost.model_bytes,
            bytes_per_parameter=cost.bytes_per_parameter,
            trainable_parameters=cost.trainable_parameters,
            trainable_share=cost.trainable_share,
            train_losses=mean_losses(progress, settings.steps),
            validation_losses=tuple(
                LossPoint(step=step, loss=loss) for step, loss in (*progress.validation, last)
            ),
            seconds=progress.seconds,
            tokens_per_second=progress.num_tokens / train_seconds if train_seconds else 0.0,
            seconds_per_epoch=train_seconds / settings.steps * steps_per_epoch,
            inference_rate=found.inference_rate,
            stability=stability_of(progress).result,
            examples=found.examples,
            ranks=ranks,
            peak_memory_bytes=peak.num_bytes,
            num_tokens=progress.num_tokens,
            seed=trial.seed,
            device=describe(self.device),
            versions=library_versions(),
        )
