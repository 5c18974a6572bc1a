"""What a worker says while it works: to logs, and to a listener in its own process."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from jointsearch.study.records import StudyRecords

Listener = Callable[[StudyRecords], None]
"""Told how the study stands."""

_log = logging.getLogger(__name__)


def worker_name() -> str:
    """The host and number of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def worker_event(event: str, study: str, **details: Any) -> None:
    """Log what happens; the details are fields of a JSON log."""
    _log.info(event, extra={"study": study, "worker": worker_name(), **details})
