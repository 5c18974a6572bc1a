"""Addresses of pages, what they name, and what a browser says that it draws for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from jointsearch.dashboard.figures.look import Look
from jointsearch.dashboard.live import LiveStudies
from jointsearch.study.stored import StoredStudy


def study_path(name: str, *rest: str | int) -> str:
    """The address of a study's page."""
    return "/".join(["/study", *(quote(str(part), safe="") for part in (name, *rest))])


def parts_of(path: str) -> list[str]:
    return [unquote(part) for part in path.split("/") if part]


def study_at(studies: LiveStudies, path: str) -> StoredStudy:
    """The study whose page that is; raises ``StudyError`` where there is none (any more)."""
    return studies[parts_of(path)[1]]


def trial_at(path: str) -> int:
    """The trial whose page that is."""
    return int(parts_of(path)[3])


def look_of(data: Mapping[str, Any] | None) -> Look:
    """What ``assets/look.js`` says of the browser."""
    data = data or {}
    return Look(bool(data.get("dark")), bool(data.get("phone")), titled=False)
