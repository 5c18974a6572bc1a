"""Aliases of YAML: a few are a convenience, and many are an attack that would take all memory and time."""

from __future__ import annotations

from pathlib import Path

import pytest

from jointsearch.config.yaml_file import parse_study
from jointsearch.errors import StudyFileError

STUDY = (Path(__file__).parents[1] / "fixtures" / "study.yaml").read_text()
PATH = Path("s.yaml")


def bomb(kind: str, depth: int = 30) -> str:
    """Each line has the one before nine times, as a list, as a mapping, or merged."""
    lines = ["a0: &a0 [x, x]" if kind == "list" else "a0: &a0 {k: x}"]
    for number in range(1, depth):
        before = [f"*a{number - 1}"] * 9
        if kind == "list":
            lines.append(f"a{number}: &a{number} [{', '.join(before)}]")
        elif kind == "mapping":
            pairs = (f"k{at}: {name}" for at, name in enumerate(before))
            lines.append(f"a{number}: &a{number} {{{', '.join(pairs)}}}")
        else:
            lines.append(f"a{number}: &a{number} {{<<: [{', '.join(before)}]}}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("kind", ["list", "mapping", "merge"])
def test_a_bomb_is_refused_at_once(kind: str) -> None:
    with pytest.raises(StudyFileError, match="aliases must stand for at most 1000 values in all") as caught:
        parse_study(bomb(kind) + STUDY, PATH)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a {b: [x, *a]}\n"])
def test_an_alias_of_itself_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(StudyFileError, match=r"s\.yaml:1: an alias must not contain itself"):
        parse_study(text, PATH)


def test_a_few_aliases_mean_what_they_stand_for() -> None:
    text = STUDY.replace("bits: [4, 16]", "bits: &some [4, 16]").replace("ranks: [0, 4]", "ranks: *some")
    assert parse_study(text, PATH).search_space.ranks == (4, 16)


def test_a_long_file_without_aliases_is_read() -> None:
    names = ", ".join(f"layers.{number}" for number in range(5000))
    space = f"search_space:\n  exclude: [{names}]"
    assert len(parse_study(STUDY.replace("search_space:", space), PATH).search_space.exclude) == 5000
