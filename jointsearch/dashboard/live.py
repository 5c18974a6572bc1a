"""The studies of a storage as they are now, each opened once: a server looks at them every few seconds."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from optuna.storages import BaseStorage

from jointsearch.study.reading import RecordReader
from jointsearch.study.records import StudyRecords
from jointsearch.study.studies import JointStudy, open_study, study_names


@dataclass(frozen=True)
class LiveStudy:
    """A study that stays open."""

    study: JointStudy
    reader: RecordReader

    @property
    def records(self) -> StudyRecords:
        """As they are now; only what has changed is read."""
        return self.reader.read()


class LiveStudies:
    """All studies of a storage; thread-safe."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage
        self._open: dict[str, LiveStudy] = {}
        self._lock = threading.Lock()

    def all(self) -> list[LiveStudy]:
        return [self[name] for name in study_names(self._storage)]

    def __getitem__(self, name: str) -> LiveStudy:
        """Raises ``StudyError`` where there is none of that name (any more)."""
        with self._lock:
            known = self._open.get(name)
            if known is not None and self._is_there(known):
                return known
            self._open.pop(name, None)
            study = open_study(self._storage, name)
            return self._open.setdefault(name, LiveStudy(study, RecordReader(study)))

    def _is_there(self, known: LiveStudy) -> bool:
        """Not deleted, nor made again under its old name."""
        try:
            found = self._storage.get_study_id_from_name(known.study.name)
        except KeyError:
            return False
        return found == known.study.optuna_study._study_id
