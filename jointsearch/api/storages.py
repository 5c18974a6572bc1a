"""Which storage is meant, and what is in it."""

from __future__ import annotations

import os

from jointsearch.config.study import DEFAULT_STORAGE
from jointsearch.study import study as stored_studies
from jointsearch.study.storage.opening import open_storage


def storage_url(storage: str | None) -> str:
    """As on the command line: the URL that is given, that of JOINTSEARCH_STORAGE, or a file here."""
    return storage or os.environ.get("JOINTSEARCH_STORAGE") or DEFAULT_STORAGE


def delete_study(study_name: str, storage: str | None = None) -> None:
    """Delete a study with all of its trials; raises ``StudyError`` where there is none of that name."""
    stored_studies.delete_study(open_storage(storage_url(storage)), study_name)


def get_all_study_names(storage: str | None = None) -> list[str]:
    """The studies of jointsearch in a storage, which may hold others."""
    return stored_studies.study_names(open_storage(storage_url(storage)))
