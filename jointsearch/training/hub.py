"""The Hugging Face Hub, which may be out of reach: then what is in the cache is used, at once.

Its libraries ask for every file of a model that is in the cache already, optional ones included, and try
each five times: without a network a model would be minutes late, and nothing said.
"""

from __future__ import annotations

import os
from functools import cache

import datasets
from huggingface_hub import constants, get_session

QUESTION = f"{constants.ENDPOINT}/api/models?limit=1"
"""Of those that the libraries ask, and not the front page, which can be there alone."""

PATIENCE_SECONDS = 5.0

TOO_MANY_REQUESTS = 429
"""Upon which the libraries wait and ask again, for every file."""


@cache
def is_out_of_reach() -> bool:
    """Whether the Hub does not answer; asked once, and known to the libraries from then on."""
    if constants.is_offline_mode():
        return False  # as was asked for
    try:
        status = get_session().head(QUESTION, timeout=PATIENCE_SECONDS).status_code
        answers = status < 500 and status != TOO_MANY_REQUESTS
    except Exception:  # of the HTTP library that the Hub's client has, whichever that is
        answers = False
    if not answers:
        os.environ["HF_HUB_OFFLINE"] = "1"  # for processes that are started from here
        constants.HF_HUB_OFFLINE = True
        datasets.config.HF_HUB_OFFLINE = True
    return not answers
