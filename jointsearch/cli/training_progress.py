"""What a person sees of a full run: a bar on a terminal, a line for every log elsewhere."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jointsearch.cli.messages import say


class TrainingProgress:
    """Listens to full runs, one after the other; use as a context manager around them."""

    def __init__(self, console: Console, *, shown: bool = True, beginning: str = "training") -> None:
        self._shown = shown
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
        )
        self._task = self._bar.add_task(beginning, total=None)

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.stop()

    def measured(self, what: str, done: int, of: int) -> None:
        """How far a measurement is."""
        self._bar.update(self._task, completed=done, total=of, description=what)

    def tell(self, note: str) -> None:
        if self._shown:
            say(self._console, note)

    def __call__(self, step: int, num_steps: int, logs: dict[str, float]) -> None:
        losses = {name: value for name, value in logs.items() if name in ("loss", "eval_loss")}
        text = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        self._bar.update(self._task, completed=step, total=num_steps, description=text or "training")
        if not self._console.is_terminal and text:
            self.tell(f"step {step}/{num_steps}: {text}")
