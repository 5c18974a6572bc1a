"""What a study file says about training: of a trial, of a full run, and of both."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jointsearch.config.fields import NOT_IDENTITY, Formerly, Positive
from jointsearch.plan.record import Record

FIRST_LEARNING_RATE = 1e-3
"""Where a sweep begins, and what is trained with where nobody has swept."""

LearningRate = Annotated[
    Annotated[float, Field(gt=0)] | Literal["auto"], Field(union_mode="left_to_right"), Formerly(1e-3)
]


class CalibrationSettings(Record):
    """The short fine-tune that is one trial."""

    steps: Positive = 60
    """Training steps of a trial."""
    batch_size: Positive = 8
    """Examples in a batch."""
    learning_rate: LearningRate = "auto"
    """Its highest value: after the warmup it falls linearly to 0. ``auto``: what a sweep finds before the
    first trial, with the smallest and the largest rank, for each kind of adapters."""
    warmup_steps: int = Field(default=5, ge=0)
    """Steps in which the learning rate rises from 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients of a larger norm are scaled down to it."""
    train_examples: Positive | None = None
    """Draw the batches from so many examples of the training split; all of them by default."""
    validation_examples: Positive = 64
    """Examples of the validation split that every trial is measured on."""
    measure_at: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.25, 0.5)
    """Shares of the steps after which the validation loss is measured too: the rungs of early stopping."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """The order of the batches and the adapters' start: the same for all trials of a study."""
    max_seconds: Annotated[float | None, NOT_IDENTITY] = Field(default=None, gt=0)
    """A trial that takes longer fails; if it hangs for a minute more, its worker is ended."""
    checkpoint_every: Annotated[Positive | None, NOT_IDENTITY] = None
    """Keep a trial's state every so many steps: a worker goes on from there if another was interrupted."""

    def at(self, learning_rate: float | None = None, steps: int | None = None) -> CalibrationSettings:
        """The same with a number in place of ``auto``, and for ``steps``, of which as many are the warmup in
        proportion."""
        if learning_rate is None:
            learning_rate = FIRST_LEARNING_RATE if self.learning_rate == "auto" else self.learning_rate
        steps = steps or self.steps
        warmup = round(self.warmup_steps * steps / self.steps)
        return self.model_copy(
            update={"learning_rate": learning_rate, "steps": steps, "warmup_steps": warmup}
        )

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_steps > self.steps:
            raise ValueError(
                f"warmup_steps must be at most steps ({self.steps}), but got {self.warmup_steps}"
            )
        return self


class TrainingSettings(Record):
    """How models are trained, in trials and in the full run alike; QLoRA's set-up has all three."""

    optimizer: Literal["adamw", "paged_adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    """torch's AdamW, or that of bitsandbytes, with states in 32 or 8 bits. ``paged``: on a GPU, those of
    large tensors lie in the host's memory where the GPU has no room."""
    gradient_checkpointing: bool = False
    """Keep no activations inside of blocks and compute them again: less memory, a third more time."""
    offload_activations: bool = False
    """On a GPU: what the forward pass keeps for the backward pass waits in the host's memory."""
    chunked_loss: bool = True
    """A language model's loss from some tokens' logits at a time, where they are many: less memory."""
    stream_layers: bool = False
    """The frozen weights of blocks wait on the host and come to the device block by block, in the forward
    pass and again in the backward pass: less memory, more time. Needs ``gradient_checkpointing``."""
    prepare_for_kbit_training: bool = False
    """PEFT's ``prepare_model_for_kbit_training``: what is not quantized is computed in float32."""

    @model_validator(mode="after")
    def _blocks_run_again(self) -> Self:
        if self.stream_layers and not self.gradient_checkpointing:
            raise ValueError(
                "stream_layers needs gradient_checkpointing: true, which runs each block again in the "
                "backward pass, but got false; set both"
            )
        return self


class FullRunSettings(Record):
    """The training in full of a chosen plan, by transformers' ``Trainer``."""

    epochs: float = Field(default=1.0, gt=0)
    """How often the training split is seen."""
    max_steps: Positive | None = None
    """Stop after so many steps, whatever ``epochs`` says."""
    batch_size: Positive = 8
    """Examples in a batch, of each process."""
    gradient_accumulation_steps: Positive = 1
    """Batches whose gradients make one step."""
    learning_rate: LearningRate = "auto"
    """Its highest value, after the warmup. ``auto``: that of the trials."""
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from 0."""
    lr_scheduler: Literal["linear", "cosine", "constant_with_warmup"] = "cosine"
    """How the learning rate falls after the warmup."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients of a larger norm are scaled down to it."""
    evaluations: Positive = 4
    """How often the validation loss is measured and a checkpoint is kept along the run."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """The order of the examples and the adapters' start."""
