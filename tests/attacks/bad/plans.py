"""plan.json: every value of another kind, under a checksum that fits, and files that are no plan at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from attacks.bad.case import DIGITS, ESCAPES, Case, Place, places, replaced
from jointsearch.plan.plan_file import _checksum

SHOW = ("plan", "show", "plan.json")
TRAIN = ("train", "plan.json", "-o", "out")

WRONG: dict[type, list[Any]] = {
    bool: [{"a": 1}, [1]],
    int: [f"ten{ESCAPES}", {"a": 1}, -(10**40)],
    float: [f"ten{ESCAPES}", {"a": 1}],
    str: [5.5, {"a": 1}],
    list: [{"a": {}}, 5],
    dict: [5, [1]],
    type(None): [[[[]]]],
}


def resign(folder: Path, place: Place, new: Any) -> None:
    """Change a value, and give the file the checksum that it then must have."""
    path = folder / "plan.json"
    content = replaced(json.loads(path.read_text()), place, new)
    if place[0] != "checksum":
        content["checksum"] = _checksum(content)
    path.write_text(json.dumps(content))


def by_rule(plan: dict[str, Any]) -> Iterator[Case]:
    """``plan``: the content of a good file."""
    for place, value in places(plan):
        name = ".".join(map(str, place))
        kind = float if name.endswith("learning_rate") else type(value)  # which may be auto, too
        for new in WRONG[kind]:
            yield Case(
                f"plan-{name}={json.dumps(new)[:20]}",
                SHOW,
                partial(resign, place=place, new=new),
                names="plan.json",
            )


TEXTS: dict[str, bytes] = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "number": DIGITS.encode(),
    "mapping": b"{}",
    "text": b'"plan"',
    "zeros": bytes(1000),
    "random": bytes(range(256)),
    "pickle": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
    "deep": b'{"format": ' + b"[" * 200_000,
    "deep-plan": b'{"format": "jointsearch-plan", "version": 1, "plan": ' + b'{"a":' * 50_000,
    "nan": b'{"format": "jointsearch-plan", "version": NaN}',
    "infinity": b'{"format": "jointsearch-plan", "version": 1e999}',
    "version-of-digits": b'{"format": "jointsearch-plan", "version": ' + DIGITS.encode() + b"}",
    "version-of-tomorrow": b'{"format": "jointsearch-plan", "version": 2}',
    "version-of-escapes": json.dumps({"format": "jointsearch-plan", "version": ESCAPES * 1000}).encode(),
    "format-of-escapes": json.dumps({"format": ESCAPES, "version": 1}).encode(),
    "keys-of-escapes": json.dumps({"format": "jointsearch-plan", "version": 1, ESCAPES * 100: 1}).encode(),
    "surrogates": b'{"format": "jointsearch-plan", "version": 1, "digest": "\\ud800"}',
    "utf-16": '{"format": "jointsearch-plan"}'.encode("utf-16"),
    "bom": b'\xef\xbb\xbf{"format": "jointsearch-plan"}',
    "two": b"{}{}",
}


def _no_file(make: Any, folder: Path) -> None:
    (folder / "plan.json").unlink()
    make(folder / "plan.json")


def by_hand() -> Iterator[Case]:
    for command in (SHOW, TRAIN):
        for name, content in TEXTS.items():
            yield Case(
                f"{command[0]}-text-{name}",
                command,
                lambda folder, content=content: (folder / "plan.json").write_bytes(content),
                names="plan.json",
            )
        for name, make in {
            "folder": Path.mkdir,
            "pipe": os.mkfifo,
            "nothing": lambda path: None,
            "link-to-itself": lambda path: path.symlink_to(path),
            "link-to-zeros": lambda path: path.symlink_to("/dev/zero"),
        }.items():
            yield Case(f"{command[0]}-file-{name}", command, partial(_no_file, make), names="plan.json")
    for place, new in (
        (("study", "model", "trust_remote_code"), True),
        (("study", "model", "id"), f"some/{ESCAPES}"),
        (("study", "name"), "../../owned"),
        (("study", "device"), f"cuda{ESCAPES}"),
    ):
        yield Case(f"train-{'.'.join(place)}", TRAIN, partial(resign, place=place, new=new))
