"""What the two kinds of language models share: losses by token, generation, comparing texts."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import GenerationConfig, PreTrainedTokenizerBase

from jointsearch.config.generation import GenerationSettings
from jointsearch.training.model.deferred_logits import chunks, deferred_logits
from jointsearch.training.tasks.answers import answer as answer
from jointsearch.training.tasks.answers import exact_match as exact_match
from jointsearch.training.tasks.base import IGNORED, Batch, evaluating


@dataclass
class TokenScore:
    """Sums over predicted tokens."""

    total_loss: float = 0.0
    num_right: int = 0
    num_predicted: int = 0

    @property
    def metrics(self) -> dict[str, float]:
        """Every token weighs the same."""
        loss = self.total_loss / self.num_predicted
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "accuracy": self.num_right / self.num_predicted,
        }


def score_tokens(model: nn.Module, batches: Iterable[Batch], shift: int) -> TokenScore:
    """The loss in nats and the hits over all labels that count.

    ``shift`` is 1 where a logit is for the next token (decoders), 0 where it is for its own label.
    """
    score = TokenScore()
    with evaluating(model), deferred_logits(model):
        for batch in batches:
            labels = batch["labels"][:, shift:]
            logits = model(**_without_labels(model, batch)).logits
            logits = logits[:, : logits.shape[1] - shift]  # (batch, time - shift, vocabulary)
            for rows, targets in chunks(logits, labels, IGNORED):
                loss = F.cross_entropy(rows.float(), targets, reduction="sum", ignore_index=IGNORED)
                score.total_loss += loss.double().item()
                score.num_right += int((rows.argmax(-1) == targets).sum())  # no token is ``IGNORED``
                score.num_predicted += int((targets != IGNORED).sum())
    return score


def _without_labels(model: Any, batch: Batch) -> Batch:
    """A model that is given labels takes their loss too; an encoder-decoder reads its inputs from them."""
    given = {name: value for name, value in batch.items() if name != "labels"}
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):  # a model of one's own has none
        try:
            given["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
        except AttributeError:
            return batch
    return given


@dataclass
class Generated:
    """Texts that a model has written."""

    texts: list[str]
    tokens_per_second: float


def generate(
    model: Any,
    batches: Iterable[Batch],
    settings: GenerationSettings,
    tokenizer: PreTrainedTokenizerBase,
    max_new_tokens: int,
) -> Generated:
    """What the model writes after each input of ``batches``, without sampling: of its own generation
    settings those alone hold that say how a text begins and ends.

    A decoder's inputs are padded on the left; its outputs are without them.
    """
    is_decoder = not model.config.is_encoder_decoder
    ends = _end_tokens(model, tokenizer)
    own = model.generation_config
    start_token = own.decoder_start_token_id
    if start_token is None:
        start_token = getattr(model.config, "decoder_start_token_id", None)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        num_beams=settings.num_beams,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=ends or None,
        bos_token_id=tokenizer.bos_token_id,
        decoder_start_token_id=start_token,
        use_cache=_has_cache(model),
        forced_bos_token_id=own.forced_bos_token_id,  # the language that a translator writes
        forced_eos_token_id=own.forced_eos_token_id,
    )
    texts: list[str] = []
    num_tokens = 0
    seconds = 0.0
    with evaluating(model), _without_own_settings(model):
        for batch in batches:
            start = time.perf_counter()
            output = model.generate(**batch, generation_config=config)  # (batch, time)
            new = output[:, batch["input_ids"].shape[1] if is_decoder else 1 :].cpu()
            seconds += time.perf_counter() - start
            ended = torch.isin(new, torch.tensor(ends, dtype=new.dtype)).cumsum(1)
            num_tokens += int((ended == 0).sum() + (ended[:, -1] > 0).sum())
            texts += tokenizer.batch_decode(new, skip_special_tokens=True)
    return Generated(texts, num_tokens / seconds if seconds else 0.0)


@contextmanager
def _without_own_settings(model: nn.Module) -> Iterator[None]:
    """``generate`` fills what its settings leave open, such as a repetition penalty, with the model's own."""
    holders = [module for module in model.modules() if "generation_config" in vars(module)]
    own = [vars(module)["generation_config"] for module in holders]
    for module in holders:
        vars(module)["generation_config"] = GenerationConfig()
    try:
        yield
    finally:
        for module, config in zip(holders, own, strict=True):
            vars(module)["generation_config"] = config


def _end_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokenizer's end of text, and what else ends a text of the model, such as a chat's turn."""
    others = getattr(model.generation_config, "eos_token_id", None)
    tokens = [tokenizer.eos_token_id, *(others if isinstance(others, list) else [others])]
    return sorted({token for token in tokens if token is not None})


def _has_cache(model: Any) -> bool:
    """Whether transformers can keep what the decoder has seen: not where it is deeper than the encoder."""
    config = model.config
    return getattr(config, "num_decoder_layers", 0) <= getattr(config, "num_hidden_layers", math.inf)
