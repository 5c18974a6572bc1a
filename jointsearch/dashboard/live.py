"""The studies of a storage, each opened once: a server looks at them every few seconds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from optuna.storages import BaseStorage

from jointsearch.study.analysis.verdict import Verdict, judge
from jointsearch.study.full_runs import selected
from jointsearch.study.records import StudyRecords
from jointsearch.study.storage.internals import is_stored
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import open_study, read_each, study_names

if TYPE_CHECKING:
    from jointsearch.export.serving import Carried
    from jointsearch.plan.plan_file import PlanFile

Found = TypeVar("Found")

Carriers: TypeAlias = "Callable[[PlanFile], Sequence[Carried]]"
"""Which runtimes can carry a plan: what knows models says so, and pages show it."""

_log = logging.getLogger(__name__)


@cache
def _warn(line: str) -> None:
    """Once: the start page is read every few seconds."""
    _log.warning("%s", line)


class LiveStudies:
    """All studies of a storage; thread-safe."""

    def __init__(self, storage: BaseStorage, carriers: Carriers | None = None) -> None:
        self._storage = storage
        self.carriers = carriers
        self._open: dict[str, StoredStudy] = {}
        self._verdicts: dict[tuple[str, int | None], tuple[StudyRecords, Verdict]] = {}
        self._lock = threading.Lock()

    def read_each(self, read: Callable[[StoredStudy], Found]) -> list[Found]:
        """What ``read`` finds of each study that can be read; the log says which cannot."""
        found, unreadable = read_each(study_names(self._storage), lambda name: read(self[name]))
        for line in unreadable:
            _warn(line)
        return found

    def __getitem__(self, name: str) -> StoredStudy:
        """Raises ``StudyError`` where there is none of that name (any more)."""
        with self._lock:
            known = self._open.get(name)
            if known is not None and is_stored(known.optuna_study):
                return known
            self._open.pop(name, None)
            return self._open.setdefault(name, open_study(self._storage, name))

    def verdict(self, study: StoredStudy, records: StudyRecords) -> Verdict:
        """On the front of ``records``, which have one; judged once for each state of the study."""
        key = study.name, records.steps
        known = self._verdicts.get(key)
        if known is None or known[0] is not records:
            known = self._verdicts[key] = records, judge(study, records)
        return known[1]


def version_of(study: StoredStudy, records: StudyRecords) -> str:
    """Differs where anything that a page with a clock shows has changed."""
    states = tuple(trial.state.value for trial in records.trials)
    return f"{hash((states, selected(study.optuna_study))):x}"
