"""Pretrain the tiny Llama-architecture language model of the quickstart study.

A byte-level BPE tokenizer is trained on the train files of the running Python's standard library
(`corpus.py`), then a `LlamaForCausalLM` on packed windows of their tokens: float32, AdamW, linear
warmup, cosine decay to zero, gradient clipping. The weights are stored in float16 beside
`training.json`, the record of the run; losses are in nats per token unless named otherwise.

Run: ``python -m jointsearch.quickstart.pretrain --output DIR [--steps N]``
"""

import argparse
import json
import math
import os
import platform
import sysconfig
import time
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from jointsearch.quickstart import corpus

NUM_CURVE_WINDOWS = 96
BETAS = (0.9, 0.95)
CLIP_NORM = 1.0


def windows(stream: torch.Tensor, width: int, shift: int = 0) -> torch.Tensor:
    """Non-overlapping inputs with their next tokens; the rest that fills no window is dropped."""
    return stream[shift:].unfold(0, width + 1, width)  # (windows, width + 1)


def window_loss(model: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats per token of a batch of windows, shape (batch, width + 1)."""
    logits = model(input_ids=batch[:, :-1]).logits  # (batch, width, vocab)
    return F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


@torch.no_grad()
def held_out_loss(model: torch.nn.Module, held_out: torch.Tensor, batch_size: int = 16) -> float:
    """Mean loss in nats per token over windows, shape (windows, width + 1)."""
    total = sum(window_loss(model, b).item() * len(b) for b in held_out.split(batch_size))
    return total / len(held_out)


def cpu_name() -> str:
    """The processor's model name where the system tells it, else its architecture."""
    source = Path("/proc/cpuinfo")
    lines = source.read_text(encoding="utf-8").splitlines() if source.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def build_model(vocab_size: int, initializer_range: float) -> LlamaForCausalLM:
    """A randomly initialised model; token 0 is the tokenizer's one special token."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=initializer_range,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def build_optimizer(model: torch.nn.Module, args: argparse.Namespace) -> torch.optim.Optimizer:
    """AdamW that decays matrices only: shrinking a norm's gain towards zero is no prior."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    gains = [p for p in model.parameters() if p.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": args.weight_decay},
        {"params": gains, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=args.learning_rate, betas=BETAS, fused=True)


def learning_rate_factor(step: int, num_steps: int, num_warmup_steps: int) -> float:
    """Share of the peak learning rate at a step: linear warmup, then a cosine to zero."""
    if step < num_warmup_steps:
        return (step + 1) / num_warmup_steps
    progress = (step - num_warmup_steps) / max(1, num_steps - num_warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def save(model: LlamaForCausalLM, record: dict[str, Any], output: Path) -> None:
    """Write the float16 weights, the config and the record of the run."""
    half = LlamaForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half.to(torch.float16).save_pretrained(output)
    text = json.dumps(record, indent=1, ensure_ascii=False)
    (output / "training.json").write_text(text + "\n", encoding="utf-8")


def train(
    model: LlamaForCausalLM,
    stream: torch.Tensor,
    curve_windows: torch.Tensor,
    record: dict[str, Any],
    args: argparse.Namespace,
) -> None:
    """Train in place, add the loss curve to the record, and save at every evaluation."""
    optimizer = build_optimizer(model, args)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, args.steps, args.warmup_steps)
    )
    generator = torch.Generator().manual_seed(args.seed)
    batches: list[torch.Tensor] = []
    recent_losses: list[float] = []
    start = time.perf_counter()
    for step in range(args.steps):
        if not batches:
            # A new shift each epoch: else the same tokens would always open a window.
            shift = int(torch.randint(args.sequence_length, (), generator=generator))
            epoch = windows(stream, args.sequence_length, shift)
            order = torch.randperm(len(epoch), generator=generator)
            batches = [epoch[rows] for rows in order.split(args.batch_size)]
        loss = window_loss(model, batches.pop())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        recent_losses.append(loss.item())
        if (step + 1) % args.evaluate_every == 0 or step + 1 == args.steps:
            point = {
                "step": step + 1,
                "train_loss": round(sum(recent_losses) / len(recent_losses), 4),
                "held_out_loss": round(held_out_loss(model, curve_windows), 4),
                "seconds": round(time.perf_counter() - start, 1),
            }
            recent_losses.clear()
            record["curve"].append(point)
            # A run that is cut still leaves a model that loads, marked as unfinished.
            save(model, record, args.output)
            print(point, flush=True)
    record["train_seconds"] = round(time.perf_counter() - start, 1)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description="Pretrain the quickstart study's tiny model.")
    parser.add_argument("--output", type=Path, required=True, help="folder of the model")
    parser.add_argument("--steps", type=int, default=5400)
    parser.add_argument("--warmup-steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=8, help="windows per step")
    parser.add_argument("--sequence-length", type=int, default=256, help="tokens per window")
    parser.add_argument("--learning-rate", type=float, default=4e-3, help="peak")
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--initializer-range", type=float, default=0.05)
    parser.add_argument("--vocab-size", type=int, default=2048)
    parser.add_argument("--evaluate-every", type=int, default=300, help="steps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the whole recipe and leave a finished model folder."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    texts = corpus.collect_text(Path(sysconfig.get_path("stdlib")))
    train_texts, held_out_texts = corpus.split(texts)
    tokenizer = corpus.train_tokenizer(train_texts, args.vocab_size)
    tokenizer.save_pretrained(args.output)
    train_stream = corpus.encode(tokenizer, train_texts)
    held_out_stream = corpus.encode(tokenizer, held_out_texts)
    held_out = windows(held_out_stream, args.sequence_length)
    # Evenly spaced, so that the curve sees every kind of file at a fraction of the full cost.
    curve_windows = held_out[:: max(1, len(held_out) // NUM_CURVE_WINDOWS)]

    bytes_per_token = corpus.num_bytes(held_out_texts) / len(held_out_stream)

    def measured(model: torch.nn.Module) -> dict[str, float]:
        loss = held_out_loss(model, held_out)
        return {
            "nats_per_token": round(loss, 4),
            "bits_per_byte": round(loss / math.log(2) / bytes_per_token, 4),
        }

    model = build_model(len(tokenizer), args.initializer_range)
    options = {name: value for name, value in vars(args).items() if name != "output"}
    record: dict[str, Any] = {
        "finished": False,
        "data": {
            **corpus.describe(texts),
            "train_tokens": len(train_stream),
            "held_out_tokens": len(held_out_stream),
        },
        "hyper_parameters": {**options, "betas": BETAS, "clip_norm": CLIP_NORM},
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens_seen": args.steps * args.batch_size * args.sequence_length,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "hardware": {"cpu": cpu_name(), "cores": os.cpu_count()},
        "random_initialisation": measured(model),
        "curve_windows": len(curve_windows),
        "held_out_windows": len(held_out),
        "curve": [],
    }
    train(model, train_stream, curve_windows, record, args)
    record["finished"] = True
    save(model, record, args.output)
    stored = AutoModelForCausalLM.from_pretrained(args.output, dtype=torch.float16)
    record["final_float16"] = measured(stored)
    record["final_float32"] = measured(model)
    save(model, record, args.output)
    print(record["random_initialisation"], record["final_float16"])


if __name__ == "__main__":
    main()
