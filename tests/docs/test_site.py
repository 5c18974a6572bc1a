"""The site is built without a warning, all its links go somewhere, and it asks no other host for anything."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src"}
"""What a browser fetches by itself, by tag; and every ``link`` but those that only say where the page is."""


class Page(HTMLParser):
    """Ids, links, and what a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADED and given.get(LOADED[tag]):
            self.fetched.append(given[LOADED[tag]])
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next", "edit"):
            self.fetched.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    # a proxy that is not there: what would ask the network fails
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    environment = os.environ | nowhere | {"PYTHONPATH": str(ROOT)}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def test_every_page_of_the_project_is_there(site: Path) -> None:
    names = [path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")]
    assert len(names) > 12
    for name in [*map(str, names), "CHANGELOG", "CONTRIBUTING", "docker", "studies/measured"]:
        assert (site / ("" if name == "index" else name) / "index.html").is_file(), name
    assert not (site / "hooks").exists()


def test_links_of_the_site_go_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        if path.name == "404.html":  # its links begin at the address of the site
            continue
        for link in [*page.links, *page.fetched]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{path.relative_to(site)}: {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, f"{path.relative_to(site)}: {link}"


def test_pages_fetch_nothing_from_others(pages: dict[Path, Page]) -> None:
    fetched = {url for page in pages.values() for url in page.fetched}
    assert fetched
    assert not {url for url in fetched if urlsplit(url).netloc}


def test_generated_parts_are_in_their_pages(site: Path) -> None:
    for page, words in {
        "reference/commands": "--workers-per-gpu",
        "reference/settings": "checkpoint_every",
        "reference/python": "JointSearchConfig",
        "measured": "rank correlation",
        "strategies": "linear-decay",
        "own-model-and-data": "llama-3.1-8b-guanaco",
        "extending": "class Int4Groups",
    }.items():
        text = (site / page / "index.html").read_text(encoding="utf-8")
        assert words in "".join(_words(text)), page
        assert "<!-- generated" not in text, page


def _words(text: str) -> list[str]:
    words: list[str] = []

    class Words(HTMLParser):
        def handle_data(self, data: str) -> None:
            words.append(data)

    Words().feed(text)
    return words
