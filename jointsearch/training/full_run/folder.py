"""The folder of a full run: what is in it, and what may go into it."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from jointsearch.config.study import differences
from jointsearch.errors import OutputError, first_line
from jointsearch.files import read_text
from jointsearch.measurement import FullRunResult
from jointsearch.plan.plan_file import PlanFile, read_plan

PLAN_FILE = "plan.json"

MODEL = "model"

ADAPTER = "adapter"

CHECKPOINTS = "checkpoints"

METRICS_FILE = "metrics.json"

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)

TORCH_SAYS = ("inline_container.cc", "PytorchStreamWriter", "No space left on device")
"""Where ``torch.save`` cannot write on: a plain RuntimeError."""


def check_output(plan: PlanFile, output: Path, resume: bool) -> None:
    """Raise ``OutputError`` unless the run can go into ``output`` without losing anything."""
    if output.exists() and not output.is_dir():
        raise OutputError(f"the output must be a folder, but {output} is a file")
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not resume:
        raise OutputError(f"the output folder must be empty, but {output} is not; use another, or --resume")
    _check_same(plan, output)
    if (output / METRICS_FILE).is_file():
        raise OutputError(f"the run in {output} is finished; `jointsearch evaluate {output}` measures it")


def finished_run(plan: PlanFile, output: Path) -> FullRunResult | None:
    """What ``plan`` has measured where the folder ``output`` holds its finished run, else None.

    Raises ``OutputError`` where the finished run is one of another plan, or with other settings.
    """
    if not (output / METRICS_FILE).is_file():
        return None
    _check_same(plan, output)
    try:
        return FullRunResult.model_validate(json.loads(read_text(output / METRICS_FILE)))
    except (OSError, ValueError) as error:
        raise OutputError(f"the run in {output} is damaged: {METRICS_FILE}: {first_line(error)}") from None


def _check_same(plan: PlanFile, output: Path) -> None:
    """Raise ``OutputError`` unless ``output`` holds a run of ``plan`` with its settings, on any device."""
    before = read_plan(output / PLAN_FILE) if (output / PLAN_FILE).is_file() else None
    if before is None or before.digest != plan.digest:
        raise OutputError(
            f"a run goes on in a folder of the same plan, but {output} holds another or none; use another"
        )
    settings = [file.study.model_dump(mode="json", exclude={"device"}) for file in (before, plan)]
    if changes := differences(*settings):
        raise OutputError(
            f"a run goes on with the same settings, but {output} has others ({'; '.join(changes)}); "
            "use another folder"
        )


def make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the output folder {path} cannot be made: {error.strerror}") from None


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that takes its name only when it is complete."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def disk_failures_named(output: Path) -> Iterator[None]:
    """A disk that is full or cannot be written is an ``OutputError``, whichever library has met it."""
    try:
        yield
    except SafetensorError as error:
        raise OutputError(f"{output}: cannot be written ({first_line(error)})") from error
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise OutputError(f"{output}: cannot be written ({error.strerror})") from error
    except RuntimeError as error:
        if not any(words in str(error) for words in TORCH_SAYS):
            raise
        raise OutputError(f"{output}: cannot be written ({first_line(error)})") from error
