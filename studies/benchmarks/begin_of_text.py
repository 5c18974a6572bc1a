"""What the token that a tokenizer puts before every text is worth to an untrained study of packed text.

The same tokens are predicted with and without it: all of a piece but its first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

NUM_PIECES = 63


def main() -> None:
    """Print the losses, in nats per token."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("text", type=Path)
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 256])
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    text = arguments.text.read_text(encoding="utf-8")[:200_000]
    tokens = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    for length in arguments.lengths:
        width = length - 1
        pieces = tokens[: NUM_PIECES * width].reshape(-1, width)
        begin = torch.full((len(pieces), 1), tokenizer.bos_token_id)
        without, with_it = loss(model, pieces, 1), loss(model, torch.cat([begin, pieces], 1), 2)
        print(f"{length} tokens: {without:.3f} without, {with_it:.3f} with it")


@torch.no_grad()
def loss(model: torch.nn.Module, ids: torch.Tensor, first: int) -> float:
    """Of the tokens from ``first`` on."""
    logits = model(ids).logits[:, first - 1 : -1]
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, first:].flatten()))


if __name__ == "__main__":
    main()
