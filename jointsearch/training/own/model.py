"""The model that a person hands over: by its id, and as a Trainer of another package uses it."""

from __future__ import annotations

from os import PathLike
from typing import Any

import transformers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from jointsearch.config.study import ModelSettings, model_source
from jointsearch.errors import ModelError, first_line
from jointsearch.plan.layout import ModelLayout
from jointsearch.training.model.architecture import load_config


class ModelOfItsClass:
    """Loads checkpoints by the class that they were saved with, where auto classes go by a task."""

    @staticmethod
    def from_config(config: PreTrainedConfig, **arguments: Any) -> PreTrainedModel:
        made: PreTrainedModel = _class_of(config)._from_config(config)
        return made

    @staticmethod
    def from_pretrained(source: str | PathLike[str], **arguments: Any) -> PreTrainedModel:
        trusted = arguments.pop("trust_remote_code", False)
        config = AutoConfig.from_pretrained(source, trust_remote_code=trusted)
        loaded: PreTrainedModel = _class_of(config).from_pretrained(source, **arguments)
        return loaded


def load_by_class(model_id: str) -> PreTrainedModel:
    """A checkpoint by the class that it was saved with; raises ``ModelError``."""
    load_config(ModelSettings(id=model_id))  # says what is wrong with it
    try:
        return ModelOfItsClass.from_pretrained(model_source(model_id), use_safetensors=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"the model '{model_id}' cannot be loaded: {first_line(error)}") from None


def _class_of(config: PreTrainedConfig) -> Any:
    names = config.architectures or []
    kind = getattr(transformers, names[0], None) if names else None
    if kind is None:
        raise ModelError(
            "the model's config must name a class of transformers, but it names "
            f"{', '.join(names) or 'none'}; load the model, and give it in place of its id"
        )
    return kind


def without_head(model: PreTrainedModel, layout: ModelLayout) -> ModelLayout:
    """The layout whose head, or the embedding that it is tied to, is not quantized."""
    head = model.get_output_embeddings()
    names = {name for name, module in model.named_modules() if module is head} if head is not None else set()
    kept = {spec.name for spec in layout.modules if names & {spec.name, *spec.tied}}
    modules = tuple(
        spec.model_copy(update={"quantizable": spec.quantizable and spec.name not in kept})
        for spec in layout.modules
    )
    reasons = dict.fromkeys(kept, "the Trainer may read its weight beside its forward pass")
    return layout.model_copy(update={"modules": modules, "left_out": {**layout.left_out, **reasons}})
