"""The quickstart model's text: Python's standard library, its split, its tokens.

Text: every `.py` file of the running Python's standard library in UTF-8, without tests, IDLE and
the files that CPython's build generates. Files are split about 95/5 into train and held-out by a
hash of their relative path, so a file keeps its side whatever other files exist.
"""

import hashlib
from pathlib import Path
from typing import Any

import tokenizers
import torch
from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
EXCLUDED_FOLDERS = frozenset({"site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__"})
# CPython's build writes these; they hold the paths of the machine that built it.
EXCLUDED_PREFIXES = ("_sysconfigdata", "config-")


def collect_text(root: Path) -> dict[str, str]:
    """Source text by relative path, in the order of the paths; files not in UTF-8 are left out."""
    texts: dict[str, str] = {}
    for name in sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py")):
        parts = name.split("/")
        if EXCLUDED_FOLDERS.intersection(parts) or parts[0].startswith(EXCLUDED_PREFIXES):
            continue
        try:
            texts[name] = (root / name).read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue
    return texts


def is_held_out(name: str) -> bool:
    """Whether a file belongs to the held-out twentieth, by a hash of its relative path alone."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % 20 == 0


def split(texts: dict[str, str]) -> tuple[list[str], list[str]]:
    """The train texts and the held-out texts."""
    train = [text for name, text in texts.items() if not is_held_out(name)]
    return train, [text for name, text in texts.items() if is_held_out(name)]


def num_bytes(texts: list[str]) -> int:
    """Size of the texts in UTF-8."""
    return sum(len(text.encode()) for text in texts)


def digest(texts: dict[str, str]) -> str:
    """SHA-256 over every relative path and text, in order, each ended by a zero byte."""
    total = hashlib.sha256()
    for name, text in texts.items():
        total.update(name.encode() + b"\0" + text.encode() + b"\0")
    return total.hexdigest()


def describe(texts: dict[str, str]) -> dict[str, Any]:
    """The recipe, the digest and the sizes, for the record of a run."""
    train, held_out = split(texts)
    return {
        "recipe": str(__doc__).split("\n\n")[1].strip().replace("\n", " "),
        "excluded_folders": sorted(EXCLUDED_FOLDERS),
        "excluded_prefixes": EXCLUDED_PREFIXES,
        "sha256": digest(texts),
        "train_files": len(train),
        "train_bytes": num_bytes(train),
        "held_out_files": len(held_out),
        "held_out_bytes": num_bytes(held_out),
    }


def train_tokenizer(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with one special token that is beginning, end and padding at once."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    """All texts as one stream of token ids, each text opened by the end-of-text token."""
    ids: list[int] = []
    for encoding in tokenizer.backend_tokenizer.encode_batch(texts):
        ids.append(tokenizer.eos_token_id)
        ids.extend(encoding.ids)
    return torch.tensor(ids)  # (tokens,)
