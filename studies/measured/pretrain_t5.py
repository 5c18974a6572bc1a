"""Pretrain a small T5 that translates image captions from English to German.

A Unigram tokenizer (Kudo, arXiv 1804.10959) is trained on the first ``--rows`` pairs, then a
`T5ForConditionalGeneration` (Raffel et al., arXiv 1910.10683: relative position biases, no biases in
its layers, tied embeddings) on the same pairs: float32, AdamW, linear warmup, cosine decay to zero,
gradient clipping, stopped early on the validation loss. The other training pairs go unseen into
``unseen.jsonl`` of the output folder, for a fine-tuning study. The weights of the best step are stored
in bfloat16 beside ``training.json``, the record of the run, and a model card; losses are in nats per
target token. On one machine with one thread, a seed gives the same model.

Run: ``python studies/measured/pretrain_t5.py --data FOLDER --output FOLDER [--rows N]``, where the
data folder has train.jsonl and validation.jsonl with the columns en and de.
"""

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # several threads add up the pieces' counts in any order

import tokenizers
import torch
import transformers
from datasets import Dataset, load_dataset
from tokenizers import Tokenizer, models, trainers
from torch.nn import functional as F
from transformers import (
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
    get_cosine_schedule_with_warmup,
)

from jointsearch.quickstart.pretrain import cpu_name

SOURCE = "translate English to German: {en}"
MAX_LENGTH = 64
POOL = 16  # batches that are sorted by length together: less padding, half the time
CLIP_NORM = 1.0

Batch = dict[str, torch.Tensor]


def train_tokenizer(texts: list[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """T5's tokenizer with pieces of its own: <pad> is 0, </s> 1 and <unk> 2; </s> ends every text."""
    blank = T5Tokenizer(extra_ids=0)
    pieces = Tokenizer(models.Unigram())
    pieces.pre_tokenizer = blank.backend_tokenizer.pre_tokenizer
    special = [blank.pad_token, blank.eos_token, blank.unk_token]
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=special, unk_token=blank.unk_token, show_progress=False
    )
    pieces.train_from_iterator(texts, trainer)
    vocab = json.loads(pieces.to_str())["model"]["vocab"]
    # The trainer's hash maps order rare characters anew in every run: they share one score here.
    lowest = min(score for _, score in vocab) + 0.01
    scores = {piece: round(max(score, lowest), 6) for piece, score in vocab[len(special) :]}
    ordered = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return T5Tokenizer(vocab=[*((token, 0.0) for token in special), *ordered], extra_ids=0)


def tokenized(rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, list[int]]]:
    """Inputs and labels of every pair, not yet padded."""
    sources = [SOURCE.format(en=text) for text in rows["en"]]
    encoded = tokenizer(sources, text_target=list(rows["de"]), truncation=True, max_length=MAX_LENGTH)
    return [dict(zip(encoded, values, strict=True)) for values in zip(*encoded.values(), strict=True)]


def batches(
    examples: list[Any], args: argparse.Namespace, collator: DataCollatorForSeq2Seq
) -> Iterator[Batch]:
    """Shuffled batches of examples of similar length, epoch after epoch."""
    generator = torch.Generator().manual_seed(args.seed)
    lengths = [len(example["input_ids"]) for example in examples]
    while True:
        order = torch.randperm(len(examples), generator=generator)
        rows: list[int] = []
        for pool in order.split(POOL * args.batch_size):
            rows += sorted(pool.tolist(), key=lengths.__getitem__)
        epoch = torch.tensor(rows).split(args.batch_size)
        for batch in torch.randperm(len(epoch), generator=generator).tolist():
            yield collator([examples[row] for row in epoch[batch].tolist()])


@torch.no_grad()
def mean_loss(model: torch.nn.Module, examples: list[Any], collator: DataCollatorForSeq2Seq) -> float:
    """Mean loss over the target tokens of all examples."""
    model.eval()
    total, num_tokens = 0.0, 0
    for start in range(0, len(examples), 64):
        batch = collator(examples[start : start + 64])
        logits = model(**batch).logits  # (batch, time, vocabulary)
        total += F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="sum").item()
        num_tokens += int((batch["labels"] != -100).sum())
    model.train()
    return total / num_tokens


def build_model(args: argparse.Namespace, vocab_size: int) -> T5ForConditionalGeneration:
    """A randomly initialised T5 of version 1.0."""
    config = T5Config(
        vocab_size=vocab_size,
        d_model=args.d_model,
        d_ff=4 * args.d_model,
        d_kv=args.d_model // 4,
        num_heads=4,
        num_layers=args.layers,
        dropout_rate=args.dropout,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config)


def build_optimizer(model: torch.nn.Module, args: argparse.Namespace) -> torch.optim.Optimizer:
    """AdamW whose steps are in proportion to each tensor's size at the start, as T5's Adafactor has them
    (Shazeer and Stern, arXiv 1804.04235, section 8): its embeddings start 14 times as large as the rest."""
    groups = [
        {"params": [p], "lr": args.learning_rate * p.detach().square().mean().sqrt().item()}
        for p in model.parameters()
    ]
    return torch.optim.AdamW(groups, weight_decay=args.weight_decay)


def train(
    model: T5ForConditionalGeneration,
    data: dict[str, list[Any]],
    collator: DataCollatorForSeq2Seq,
    record: dict[str, Any],
    args: argparse.Namespace,
) -> None:
    """Train in place until the validation loss stops falling; the best weights stay in the model."""
    optimizer = build_optimizer(model, args)
    scheduler = get_cosine_schedule_with_warmup(optimizer, args.warmup_steps, args.steps)
    best_loss, best_weights, num_worse = math.inf, model.state_dict(), 0
    start = time.perf_counter()
    for step, batch in enumerate(batches(data["train"], args, collator), start=1):
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if step % args.evaluate_every and step != args.steps:
            continue
        validation_loss = mean_loss(model, data["validation"], collator)
        point = {"step": step, "train_loss": loss.item(), "validation_loss": validation_loss}
        point = {name: round(value, 4) for name, value in point.items()}
        record["curve"].append(point | {"seconds": round(time.perf_counter() - start, 1)})
        print(record["curve"][-1], flush=True)
        num_worse += 1
        if validation_loss < best_loss:
            best_loss, num_worse = validation_loss, 0
            best_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        if num_worse > args.patience or step == args.steps:
            break
    model.load_state_dict(best_weights)
    record["train_seconds"] = round(time.perf_counter() - start, 1)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description="Pretrain a small T5, English to German.")
    parser.add_argument("--data", type=Path, required=True, help="folder with train and validation.jsonl")
    parser.add_argument("--output", type=Path, required=True, help="folder of the model")
    parser.add_argument("--rows", type=int, default=3000, help="training pairs, the first of the file")
    parser.add_argument("--vocab-size", type=int, default=4000)
    parser.add_argument("--d-model", type=int, default=192)
    parser.add_argument("--layers", type=int, default=3, help="of the encoder and of the decoder")
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--steps", type=int, default=1400, help="at most")
    parser.add_argument("--warmup-steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=32, help="pairs per step")
    parser.add_argument("--learning-rate", type=float, default=2e-2, help="peak, relative")
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--evaluate-every", type=int, default=100, help="steps")
    parser.add_argument("--patience", type=int, default=2, help="evaluations without a better loss")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the whole recipe and leave a finished model folder."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    files = {split: str(args.data / f"{split}.jsonl") for split in ("train", "validation")}
    rows = load_dataset("json", data_files=files)
    seen = rows["train"].select(range(args.rows))
    tokenizer = train_tokenizer([*seen["en"], *seen["de"], SOURCE.format(en="")], args.vocab_size)
    data = {name: tokenized(part, tokenizer) for name, part in {**rows, "train": seen}.items()}
    collator = DataCollatorForSeq2Seq(tokenizer)
    model = build_model(args, len(tokenizer))
    options = {name: value for name, value in vars(args).items() if name not in ("data", "output")}
    words = sys.argv[1:] if argv is None else argv
    record: dict[str, Any] = {
        "command": " ".join(["python studies/measured/pretrain_t5.py", *words]),
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "hyper_parameters": {**options, "clip_norm": CLIP_NORM, "source": SOURCE},
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, tokenizers)},
        "hardware": {"cpu": cpu_name(), "python": platform.python_version()},
        "random_initialisation": round(mean_loss(model, data["validation"], collator), 4),
        "curve": [],
    }
    train(model, data, collator, record, args)
    model.to(torch.bfloat16).save_pretrained(args.output)
    tokenizer.save_pretrained(args.output)
    unseen = rows["train"].select(range(args.rows, len(rows["train"])))
    unseen.to_json(args.output / "unseen.jsonl", force_ascii=False)
    stored = T5ForConditionalGeneration.from_pretrained(args.output, dtype=torch.float32)
    record["final_bfloat16"] = round(mean_loss(stored, data["validation"], collator), 4)
    write_card(record, args.output)


def write_card(record: dict[str, Any], output: Path) -> None:
    """The record, and its main figures in words."""
    (output / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    options = record["hyper_parameters"]
    card = f"""# A small T5, English to German

Translates image captions; the source is `{SOURCE}`. Trained on {options["rows"]} pairs, for tests and
measurements only.

| what | figure |
|---|---|
| parameters | {record["num_parameters"]:,} |
| validation loss (nats per target token), bfloat16 | {record["final_bfloat16"]} |
| validation loss of the random initialisation | {record["random_initialisation"]} |
| steps of {options["batch_size"]} pairs | {record["curve"][-1]["step"]} |
| seconds | {record["train_seconds"]} ({options["threads"]} thread of an {record["hardware"]["cpu"]}) |
| seed | {options["seed"]} |

`{record["command"]}`
"""
    (output / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
