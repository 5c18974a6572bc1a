"""A person at a terminal who follows a study that runs."""

from __future__ import annotations

from contextlib import AbstractContextManager

from rich.console import Console

from jointsearch.cli.study_progress import StudyProgress
from jointsearch.errors import visible
from jointsearch.starting import Audience
from jointsearch.study.stored import StoredStudy
from jointsearch.study.worker.events import Listener


class OnConsole(Audience):
    """Shows what happens on a console."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        """``quiet``: nothing of the trials."""
        self._console = console
        self._quiet = quiet

    def tell(self, note: str) -> None:
        self._console.print(visible(note), markup=False, highlight=False, soft_wrap=True)

    def loading(self) -> AbstractContextManager[object]:
        return self._console.status("loading the model and the data")

    def following(self, study: StoredStudy, trials: int) -> AbstractContextManager[Listener]:
        return StudyProgress(study, trials, self._console, shown=not self._quiet)
