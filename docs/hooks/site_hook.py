"""What mkdocs calls while it builds the site: files that are kept elsewhere, and generated parts.

A page of ``docs/`` has ``<!-- generated: NAME -->`` where a part is made from the code or from a recorded
result. Study files, records, pictures and the container's page stay where they are in the project, and are
at the same paths in the site. Links are written as they work in the project's files, and are changed here.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

import api_page
import command_pages
import example_files
import front_pictures
import record_tables
import seam_table
import setting_tables
import study_tables
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

MIRRORED = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docker/README.md",
    "docker/image-tried.txt",
    "studies/*.json",
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
    "tests/quantization/outside/*.py",
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
    "memory": record_tables.memory,
    "training memory": record_tables.training_memory,
    "training options": record_tables.training_options,
    "streamed layers": record_tables.streamed_layers,
    "workers": record_tables.workers,
    "dashboard": record_tables.dashboard,
    "foretelling": record_tables.foretelling,
    "fronts": front_pictures.gallery,
    "seams": seam_table.all_seams,
    "a format in one file": example_files.format_in_one_file,
    "short examples": example_files.short_ones,
}

MARKER = re.compile(r"<!-- generated: ([a-z ]+) -->")
LINK = re.compile(r"(\]\()([^)#:\s]+)")
"""The beginning of a link, and the file that it names."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for pattern in MIRRORED:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    for name, svg in front_pictures.pictures().items():
        files.append(File.generated(config, name, content=svg))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    whole = MARKER.sub(lambda found: _part(found[1], page), markdown)
    return LINK.sub(lambda found: found[1] + _target(found[2], page.file), whole)


def _part(name: str, page: Page) -> str:
    if name not in PARTS:
        raise PluginError(f"{page.file.src_uri}: a generated part is one of {', '.join(PARTS)}, not '{name}'")
    return PARTS[name]()


def _target(link: str, file: File) -> str:
    """A link between two files of the project, as one between their places in the site."""
    if file.abs_src_path is None or not (path := (Path(file.abs_src_path).parent / link).resolve()).exists():
        return link
    place = path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT)
    return posixpath.relpath(place.as_posix(), posixpath.dirname(file.src_uri) or ".")
