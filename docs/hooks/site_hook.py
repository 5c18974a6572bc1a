"""What mkdocs calls while it builds the site: pages and pictures that are kept elsewhere, and generated parts.

A page of ``docs/`` has ``<!-- generated: NAME -->`` where a part is made from the code or from a recorded
result. Study files, records, pictures and the container's page stay where they are in the project, and are
at the same paths in the site.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import api_page
import command_pages
import front_pictures
import record_tables
import setting_tables
import study_tables

ROOT = Path(__file__).parents[2]

MIRRORED = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docker/README.md",
    "docker/image-tried.txt",
    "studies/*.yaml",
    "studies/benchmarks/*.json",
    "studies/benchmarks/*.md",
    "studies/benchmarks/*.svg",
    "studies/compared/*",
    "studies/measured/*.yaml",
    "studies/measured/README.md",
    "studies/measured/*/*",
    "studies/quickstart/*",
    "studies/screenshots/*.png",
)
"""Patterns of files that the site has at their own paths."""

PARTS: dict[str, Callable[[], str]] = {
    "commands": command_pages.all_commands,
    "settings": setting_tables.all_settings,
    "objectives": setting_tables.all_objectives,
    "study files": study_tables.ready_study_files,
    "strategies": study_tables.all_strategies,
    "python": api_page.all_names,
    "overheads": record_tables.overheads,
    "workers": record_tables.workers,
    "dashboard": record_tables.dashboard,
    "foretelling": record_tables.foretelling,
    "fronts": front_pictures.gallery,
}

MARKER = re.compile(r"<!-- generated: ([a-z ]+) -->")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for pattern in MIRRORED:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    for name, svg in front_pictures.pictures().items():
        files.append(File.generated(config, name, content=svg))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return MARKER.sub(lambda found: _part(found[1], page), markdown)


def _part(name: str, page: Page) -> str:
    if name not in PARTS:
        raise PluginError(f"{page.file.src_uri}: a generated part is one of {', '.join(PARTS)}, not '{name}'")
    return PARTS[name]()
