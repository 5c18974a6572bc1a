"""Every error that a user can cause or should read, in one tree.

    JointSearchError
    ├── StudyFileError      a study file that cannot be read or breaks a rule
    ├── PlanError           a plan that is damaged, invalid or made for another model
    ├── ModelError          a model that cannot be found or read
    ├── DataError           data that is missing, empty or too short
    ├── StorageError        a storage that cannot be opened
    ├── StudyError          a study that does not exist, has changed, or lacks what was asked for
    │   └── StudyGone           a study that was deleted while this process used it
    ├── OutputError         an output path that cannot be written without losing something
    ├── UnsupportedError    a library or device that cannot do what was asked for
    ├── RunInterrupted      a full run that was asked to stop; it can be resumed
    └── TrialFailed         one trial cannot give a result; the study goes on
        ├── TrialInterrupted    the trial was given up because the process was asked to stop
        └── TrialPruned         the trial was stopped early because it would not have been on the front

A message is one line: the rule, the values, the fix. The command line prints it and exits with 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

OFFLINE = "without a network, set HF_HOME to a cache that has it, or name a folder or files of your own"
"""What to do about a Hub id that cannot be reached."""

LONGEST_LINE = 490
"""Characters of a message; with ``Error:`` before it a line has no more than 500."""

_COMMANDS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, ends of lines, changes of the direction of writing, and halves of surrogate pairs."""


class JointSearchError(Exception):
    """Base class; ``str(error)`` is the line that a user reads."""


class StudyFileError(JointSearchError):
    """A study file that cannot be read or breaks a rule."""


class PlanError(JointSearchError):
    """A plan that is damaged, invalid or made for another model."""


class ModelError(JointSearchError):
    """A model that cannot be found or read."""


class DataError(JointSearchError):
    """Data that is missing, empty or too short."""


class StorageError(JointSearchError):
    """A storage that cannot be opened."""


class StudyError(JointSearchError):
    """A study that does not exist, has changed, or lacks what was asked for."""


class StudyGone(StudyError):
    """A study that was deleted, and perhaps made again, while this process used it."""


class OutputError(JointSearchError):
    """An output path that cannot be written without losing something."""


class UnsupportedError(JointSearchError):
    """A library or device that cannot do what was asked for."""


class RunInterrupted(JointSearchError):
    """A full run that was asked to stop; it can be resumed."""


class TrialFailed(JointSearchError):
    """One trial cannot give a result (diverged, out of memory); the study goes on."""


class TrialInterrupted(TrialFailed):
    """The trial was given up because the process was asked to stop."""


class TrialPruned(TrialFailed):
    """The trial was stopped early because it would hardly have been on the front."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` where a choice is close to ``word``, else an empty text."""
    close = get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def either(choices: Iterable[str]) -> str:
    """As rules write choices: ``'a', 'b' or 'c'``."""
    return " or ".join(", ".join(f"'{choice}'" for choice in choices).rsplit(", ", 1))


def some(values: Iterable[object], most: int = 8) -> str:
    """The first of many values, and how many there are: ``a, b, ... (151)``."""
    texts = [str(value) for value in values]
    return ", ".join(texts) if len(texts) <= most else f"{', '.join(texts[:most])}, … ({len(texts)})"


def first_line(error: BaseException) -> str:
    """What an error of a library says, on one line without a full stop; its class where it says nothing."""
    return one_line((str(error).strip() or type(error).__name__).splitlines()[0].rstrip("."))


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """``text`` on one line that a terminal can have, with its middle left out where it is longer."""
    shown = visible(text[: 2 * longest] + text[-longest:] if len(text) > 3 * longest else text)
    if len(shown) <= longest:
        return shown
    end = longest // 3  # where the fix is
    return f"{shown[: longest - end - 3]} … {shown[-end:]}"


def visible(text: str, keep: str = "") -> str:
    """``text`` with everything escaped that a terminal would obey instead of showing it, but for ``keep``."""
    return _COMMANDS.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
