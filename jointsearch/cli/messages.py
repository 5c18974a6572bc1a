"""What commands say beside their results, on standard error: as text, or as JSON by logging."""

from __future__ import annotations

import logging
import os

from rich.console import Console

from jointsearch.errors import visible

LOG = logging.getLogger("jointsearch")


def messages(log_format: str = "text") -> Console:
    """Everything that is not a command's result goes to standard error: as text, or as JSON by logging."""
    if log_format == "json":
        from pythonjsonlogger.json import JsonFormatter

        handler = logging.StreamHandler()
        handler.setFormatter(
            JsonFormatter(
                ["asctime", "levelname", "message"],
                rename_fields={"asctime": "time", "levelname": "level", "message": "event"},
            )
        )
        LOG.addHandler(handler)
        logging.captureWarnings(True)
        logging.getLogger("py.warnings").addHandler(handler)
        LOG.setLevel(logging.INFO)
        LOG.propagate = False
        os.environ["JOINTSEARCH_LOG_FORMAT"] = log_format  # for workers that this process starts
    return Console(stderr=True, quiet=log_format == "json")


def say(console: Console, text: str) -> None:
    """A line of plain text that may hold what somebody has stored."""
    console.print(visible(text, keep="\n"), markup=False, highlight=False, soft_wrap=True)
