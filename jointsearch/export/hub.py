"""An export as a repository of the Hugging Face Hub, with its model card; private unless told otherwise."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from jointsearch.errors import OutputError, first_line

REFUSED = (401, 403)
"""Answers to a token that is none, or that must not write there."""


def check_repository(repository: str) -> None:
    """Raise ``OutputError`` where nothing could be pushed: before anything is written."""
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise OutputError(
            f"a repository of the Hub must be NAME or OWNER/NAME, but got {repository!r}: {first_line(error)}"
        ) from None
    if constants.is_offline_mode():
        raise OutputError("pushing to the Hub needs a network, but HF_HUB_OFFLINE is set; unset it")
    if get_token() is None:
        raise OutputError(
            "pushing to the Hub needs a token that may write; run `hf auth login`, or set HF_TOKEN"
        )


def push(folder: Path, repository: str, *, private: bool = True) -> str:
    """Make the repository where it is not there yet, and upload the folder; its address.

    A repository that is there keeps who can see it, and the files that the folder has not. Raises
    ``OutputError`` where the Hub does not take it; the folder stays.
    """
    api = HfApi()
    try:
        made = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=made.repo_id, folder_path=folder, commit_message="Exported by jointsearch")
    except Exception as error:  # of the Hub's client, and of the HTTP library that it has, whichever it is
        later = f"the export is in {folder}: `hf upload {repository} {folder}` sends it"
        raise OutputError(f"{_why(error, repository, api.endpoint)}; {later}") from error
    return str(made)


def _why(error: BaseException, repository: str, endpoint: str) -> str:
    while error.__cause__ is not None and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    if not isinstance(error, HfHubHTTPError):
        return f"nothing can be sent to {endpoint} ({first_line(error)})"
    status = error.response.status_code
    if status in REFUSED:
        return f"the Hub does not let this token write {repository} ({status}); it needs one that may"
    return f"the Hub does not take {repository} ({status}: {first_line(error)})"
