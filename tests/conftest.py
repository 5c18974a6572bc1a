"""Fixtures: a small stored study without torch, commands, processes, and tiny models of every family."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from optuna.storages import RDBStorage

from jointsearch.config.study import StudyConfig
from jointsearch.config.yaml_file import read_study
from jointsearch.plan.layout import ModelLayout
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study

if TYPE_CHECKING:
    from jointsearch.config.study import ModelSettings

# Tests run beside each other's subprocesses: threads that spin would starve them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("JOINTSEARCH_STORAGE", None)  # a person's own


def pytest_configure(config: pytest.Config) -> None:
    """Nothing of what the tests tokenize stays, and nothing is there that another run left."""
    cache = tempfile.TemporaryDirectory()
    os.environ["HF_DATASETS_CACHE"] = cache.name
    config.add_cleanup(cache.cleanup)


FAMILIES = {
    "llama": "causal-lm",
    "qwen2": "causal-lm",
    "gpt2": "causal-lm",
    "gpt_neo": "causal-lm",
    "bert": "sequence-classification",
    "distilbert": "sequence-classification",
    "t5": "seq2seq-lm",
}
"""Task by model family."""

VOCABULARY = 320


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random float32 checkpoint per family, width 64, two blocks."""
    import torch
    import transformers as hf

    from jointsearch.training.model.architecture import model_class

    tokens = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "vocab_size": VOCABULARY}
    grouped = {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4}
    configs = {
        "llama": hf.LlamaConfig(**grouped, **tokens, num_key_value_heads=2, tie_word_embeddings=True),
        "qwen2": hf.Qwen2Config(**grouped, **tokens, num_key_value_heads=2, tie_word_embeddings=False),
        "gpt2": hf.GPT2Config(**tokens, n_embd=64, n_layer=2, n_head=4, n_positions=128),
        "gpt_neo": hf.GPTNeoConfig(
            **tokens,
            hidden_size=64,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            max_position_embeddings=128,
        ),
        "bert": hf.BertConfig(**grouped, **tokens, max_position_embeddings=128),
        "distilbert": hf.DistilBertConfig(
            **tokens, dim=64, hidden_dim=176, n_layers=2, n_heads=4, max_position_embeddings=128
        ),
        "t5": hf.T5Config(
            d_model=64,
            d_kv=16,
            d_ff=176,
            num_layers=2,
            num_heads=4,
            vocab_size=VOCABULARY,
            pad_token_id=0,
            decoder_start_token_id=0,
        ),
    }
    folder = tmp_path_factory.mktemp("families")
    for name, config in configs.items():
        torch.manual_seed(0)
        model_class(FAMILIES[name]).from_config(config).save_pretrained(folder / name)
    return folder


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, family_folder: Path) -> tuple[ModelSettings, str]:
    """One model of each family and its task."""
    from jointsearch.config.study import ModelSettings

    return ModelSettings(id=str(family_folder / request.param)), FAMILIES[request.param]


FIXTURES = Path(__file__).parent / "fixtures"

Configure = Callable[..., StudyConfig]
Create = Callable[..., StoredStudy]


@pytest.fixture(scope="session")
def layout() -> ModelLayout:
    return ModelLayout.model_validate_json((FIXTURES / "layout.json").read_text())


@pytest.fixture
def configure() -> Configure:
    """The small study's config (4 baselines, 10 trials, random), with other values for some sections."""
    config = read_study(FIXTURES / "study.yaml").model_dump(mode="json")

    def changed(**sections: Any) -> StudyConfig:
        values = dict(config)
        for name, value in sections.items():
            values[name] = {**values[name], **value} if isinstance(value, dict) else value
        return StudyConfig.model_validate(values)

    return changed


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture
def storage(url: str) -> Iterator[RDBStorage]:
    opened = open_storage(url, create=True)
    yield opened
    opened.engine.dispose()


@pytest.fixture
def create(storage: RDBStorage, configure: Configure, layout: ModelLayout) -> Create:
    """A stored study of the small config with other values for some sections."""
    return lambda **sections: create_study(storage, configure(**sections), layout)


@dataclass(frozen=True)
class Finished:
    """What a command leaves: its exit status and what it has printed."""

    status: int
    stdout: str
    stderr: str


Command = Callable[..., Finished]


@contextmanager
def as_a_process() -> Iterator[None]:
    """What a process that ends takes with it: its environment, its loggers, its connections."""
    from sqlalchemy import event
    from sqlalchemy.engine import Connection, Engine

    engines: set[Engine] = set()

    def remember(connection: Connection) -> None:
        engines.add(connection.engine)

    event.listen(Engine, "engine_connect", remember)
    try:
        with mock.patch.dict(os.environ):
            yield
    finally:
        event.remove(Engine, "engine_connect", remember)
        for engine in engines:
            engine.dispose()
        for name in ("jointsearch", "py.warnings"):
            logging.getLogger(name).handlers.clear()
        logging.getLogger("jointsearch").propagate = True
        logging.captureWarnings(False)


@pytest.fixture(scope="session")
def command() -> Command:
    """Runs a command as the shell would, but in this process; its status must be 0, or ``status``."""
    from jointsearch.cli import main

    def run(*arguments: str, folder: Path | None = None, status: int = 0) -> Finished:
        stdout, stderr, code = io.StringIO(), io.StringIO(), 0
        with (
            chdir(folder or Path.cwd()),
            mock.patch.object(sys, "argv", ["jointsearch", *arguments]),
            as_a_process(),
            redirect_stdout(stdout),
            redirect_stderr(stderr),
        ):
            try:
                main()
            except SystemExit as left:
                assert isinstance(left.code, int)
                code = left.code
        assert code == status, stderr.getvalue()
        return Finished(code, stdout.getvalue(), stderr.getvalue())

    return run


WaitFor = Callable[..., None]


@pytest.fixture(scope="session")
def wait_for() -> WaitFor:
    """Waits until a condition holds; fails where it never does."""

    def wait(condition: Callable[[], Any], seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "what was waited for has not happened"
            time.sleep(0.05)

    return wait


Launch = Callable[..., subprocess.Popen[str]]

WORKER_PROCESS = Path(__file__).parent / "study" / "worker_process.py"


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts a process of worker_process.py, whose output goes to ``log``; none outlives the test.

    It begins at once, or ``held`` when it is given a line.
    """
    processes = []

    def start(*words: str | Path, log: str = "log", held: bool = False) -> subprocess.Popen[str]:
        with (tmp_path / log).open("a") as output:
            process = subprocess.Popen(
                [sys.executable, str(WORKER_PROCESS), *map(str, words)],
                stdin=subprocess.PIPE if held else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with those that it has started
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


@dataclass(frozen=True)
class Gate:
    """Where the trials of worker_process.py wait until the test lets them end."""

    folder: Path

    def let(self, num_trials: int) -> None:
        """So many of them."""
        for _ in range(num_trials):
            (self.folder / uuid.uuid4().hex).touch()

    def open(self) -> None:
        """All of them, from now on."""
        (self.folder / "open").touch()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """A closed one."""
    folder = tmp_path / "gate"
    folder.mkdir()
    return Gate(folder)


@pytest.fixture(scope="session")
def tensor_bytes() -> Callable[[Path], int]:
    """Bytes of every tensor in a folder's safetensors files, but the texts of NF4 modules."""
    from safetensors import safe_open

    def count(folder: Path) -> int:
        total = 0
        for path in folder.glob("*.safetensors"):
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118  not a mapping
                    if "quant_state" not in name:
                        tensor = file.get_tensor(name)
                        total += tensor.numel() * tensor.element_size()
        return total

    return count
