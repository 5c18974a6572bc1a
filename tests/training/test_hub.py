"""The Hub out of reach: it is asked once, and a model in the cache is read at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
from huggingface_hub import constants

from jointsearch.config.study import ModelSettings
from jointsearch.training import hub
from jointsearch.training.model.architecture import load_config


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the Hub was asked; nothing stays as it was found to be."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    hub.is_out_of_reach.cache_clear()
    yield []
    hub.is_out_of_reach.cache_clear()


@pytest.mark.parametrize(
    ("answer", "is_out"), [(200, False), (404, False), (429, True), (503, True), (OSError("refused"), True)]
)
def test_the_hub_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, asked: list[str], answer: Any, is_out: bool
) -> None:
    def head(url: str, timeout: float) -> SimpleNamespace:
        assert timeout > 0
        asked.append(url)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(status_code=answer)

    monkeypatch.setattr(hub, "get_session", lambda: SimpleNamespace(head=head))
    assert [hub.is_out_of_reach() for _ in range(3)] == [is_out] * 3
    assert asked == [f"{constants.ENDPOINT}/api/models?limit=1"]
    assert constants.is_offline_mode() == datasets.config.HF_HUB_OFFLINE == is_out
    assert os.environ["HF_HUB_OFFLINE"] == ("1" if is_out else "0")


def test_the_hub_is_not_asked_where_that_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "get_session", lambda: pytest.fail("the Hub is asked"))
    assert not hub.is_out_of_reach()


def test_a_model_in_the_cache_is_read_without_the_hub(
    monkeypatch: pytest.MonkeyPatch, asked: list[str], family_models: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "models--acme--tiny" / "snapshots" / "abc"
    shutil.copytree(family_models / "llama", snapshot)
    (tmp_path / "models--acme--tiny" / "refs").mkdir()
    (tmp_path / "models--acme--tiny" / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    def refuse(url: str, timeout: float) -> SimpleNamespace:
        asked.append(url)
        raise OSError("refused")

    monkeypatch.setattr(hub, "get_session", lambda: SimpleNamespace(head=refuse))
    assert load_config(ModelSettings(id="acme/tiny")).model_type == "llama"
    assert len(asked) == 1
