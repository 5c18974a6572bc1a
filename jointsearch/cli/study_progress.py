"""What a person sees while a study runs: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from jointsearch.cli.messages import say
from jointsearch.study.analysis.progress import Snapshot, trial_line
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy


class StudyProgress:
    """Listens to a worker and shows its study; use as a context manager around ``Worker.run``."""

    def __init__(self, study: StoredStudy, trials: int, console: Console, *, shown: bool = True) -> None:
        """``trials``: how many there are to be, those on request aside."""
        name = study.name
        self._shown = shown
        self._trials = trials
        self._steps = study.config.calibration.steps
        self._console = console
        self._reported: set[int] | None = None
        self._bar = Progress(
            TextColumn(f"[bold]{name}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._bar.add_task(name, total=trials)
        self._live = (
            Live(self._bar, console=console, refresh_per_second=2) if console.is_terminal and shown else None
        )

    def __enter__(self) -> StudyProgress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, records: StudyRecords) -> None:
        """Show the trials as they are now."""
        if not self._shown:
            return
        if self._live:
            snapshot = Snapshot.of(records, self._trials, self._steps)
            self._bar.update(self._task, completed=records.num_finished, total=snapshot.total)
            self._live.update(Group(self._bar, _table(snapshot)))
        self._report_new(records)

    def _report_new(self, records: StudyRecords) -> None:
        finished = {trial.number: trial for trial in (*records.all_complete, *records.failed)}
        if self._reported is None:  # what a resumed study has finished is no news
            self._reported = set(finished)
        for number in sorted(finished.keys() - self._reported):
            trial = finished[number]
            if trial.failure:
                self._print(f"trial {number} failed: {trial.failure}")
            elif not self._live:
                snapshot = Snapshot.of(records, self._trials, self._steps)
                seconds = f"{trial.seconds or 0:.1f} s"
                self._print(
                    f"[{records.num_finished}/{snapshot.total}] {trial_line(trial)}, {seconds}; "
                    f"hypervolume {_share(snapshot.hypervolume)}, {_time(snapshot.seconds_left)} left"
                )
        self._reported |= finished.keys()

    def _print(self, line: str) -> None:
        say(self._console, line)


def _table(snapshot: Snapshot) -> Table:
    table = Table.grid(padding=(0, 2))
    stopped = f"{snapshot.pruned} stopped early, " if snapshot.pruned else ""
    counts = f"{snapshot.complete} done, {stopped}{snapshot.running} running, {snapshot.failed} failed"
    table.add_row("trials", counts)
    table.add_row("best so far", Text(snapshot.best))
    table.add_row("hypervolume", _share(snapshot.hypervolume))
    table.add_row("time left", _time(snapshot.seconds_left))
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else str(timedelta(seconds=round(seconds)))
