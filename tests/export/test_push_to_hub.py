"""Exports as repositories of a Hub, sent by the Hub's own client to a server on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import constants

import jointsearch
from fixtures.hub import READER, WRITER, SmallHub, small_hub
from jointsearch.cli import cli
from jointsearch.errors import OutputError
from jointsearch.export.hub import check_repository, push

FinishedRuns = Callable[..., Path]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    """What HF_ENDPOINT names, and a token that may write."""
    with small_hub() as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the server has the older way
        monkeypatch.setenv("HF_TOKEN", WRITER)
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What was exported once."""
    path = tmp_path / "served"
    path.mkdir()
    (path / "README.md").write_text("---\ntags: [lora]\n---\n# served\n")
    return path


@pytest.mark.filterwarnings(
    "ignore:Use 'content=:DeprecationWarning"
)  # huggingface_hub 2.4 asks its HTTP library
def test_an_export_is_pushed_with_its_card(finished_run: FinishedRuns, hub: SmallHub, tmp_path: Path) -> None:
    """Every file arrives as it lies in the folder; a second time it goes to the same repository."""
    run, output = finished_run("llama"), tmp_path / "served"
    command = ["export-model", str(run), "--to", "adapter", "-o", str(output), "--no-verify"]
    result = CliRunner().invoke(cli, [*command, "--push-to-hub", "acme/tiny"], catch_exceptions=False)
    assert result.exit_code == 0
    assert f"pushed to {hub.url}/acme/tiny\n" in result.output
    assert hub.visibility == {"acme/tiny": "private"}
    there = {f"acme/tiny/{path.name}": path.read_bytes() for path in output.iterdir()}
    assert len(there) > 4 and len(hub.large) == 1
    assert hub.files == there
    assert 'PeftModel.from_pretrained(model, "acme/tiny")' in there["acme/tiny/README.md"].decode()

    again = jointsearch.export_model(
        run, "adapter", output, verify=False, overwrite=True, push_to_hub="tiny", private=False
    )
    assert again.url == f"{hub.url}/me/tiny"
    assert hub.visibility == {"acme/tiny": "private", "me/tiny": "public"}
    assert push(output, "acme/tiny", private=False) == f"{hub.url}/acme/tiny"
    assert hub.visibility["acme/tiny"] == "private"


def test_what_cannot_be_pushed_is_refused_before_anything_is_written(
    finished_run: FinishedRuns, hub: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, output = finished_run("llama"), tmp_path / "served"
    with pytest.raises(OutputError, match=r"must be NAME or OWNER/NAME, but got 'a/b/c'"):
        jointsearch.export_model(run, "adapter", output, push_to_hub="a/b/c")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "none"))
    with pytest.raises(
        OutputError, match=r"needs a token that may write; run `hf auth login`, or set HF_TOK"
    ):
        jointsearch.export_model(run, "adapter", output, push_to_hub="acme/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OutputError, match="needs a network, but HF_HUB_OFFLINE is set"):
        check_repository("acme/tiny")
    assert list(tmp_path.iterdir()) == []
    assert hub.visibility == {}


@pytest.mark.parametrize(("token", "status"), [(READER, 403), ("hf_of_nobody", 401)])
def test_a_token_that_may_not_write(
    token: str, status: int, hub: SmallHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(OutputError) as refused:
        push(folder, "acme/tiny")
    assert str(refused.value) == (
        f"the Hub does not let this token write acme/tiny ({status}); it needs one that may; "
        f"the export is in {folder}: `hf upload acme/tiny {folder}` sends it"
    )
    assert (folder / "README.md").is_file()


def test_a_hub_out_of_reach(hub: SmallHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_hub() as other:
        gone = other.url
    monkeypatch.setattr(constants, "ENDPOINT", gone)
    with pytest.raises(
        OutputError, match=rf"nothing can be sent to {gone} .*; the export is in .*`hf upload"
    ):
        push(folder, "acme/tiny")
    assert (folder / "README.md").is_file()
    assert hub.visibility == {}
