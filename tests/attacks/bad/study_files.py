"""Study files: every setting with values of other kinds, and texts that are no study file at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from attacks.bad.case import DIGITS, ESCAPES, Case, Place, places, replaced
from jointsearch.config.study import StudyConfig

COMMAND = ("study", "create", "study.yaml", "--storage", "sqlite:///new.db")

TASKS: dict[str, dict[str, Any]] = {
    "causal-lm": {},
    "seq2seq-lm": {"source": "{a}", "target": "{b}"},
    "sequence-classification": {"text_column": "a", "label_column": "b", "labels": ["c", "d"]},
    "question-answering": {},
}

WRONG: dict[type, list[Any]] = {
    bool: ["perhaps", 2.5, {"a": 1}, [[1]]],
    int: [f"ten{ESCAPES}", float("nan"), float("inf"), -1e300, 0.5, {"a": 1}, [[1]], ""],
    float: [f"ten{ESCAPES}", float("nan"), -1e300, {"a": 1}, [[1]], ""],
    str: [5.5, {"a": 1}, [[1]]],
    list: [{"a": {}}, [{"a": {"b": 1}}], [[[[]]]]],
    dict: [5, "x", [1]],
    type(None): [[[[]]]],
}
"""What no setting of a kind can be."""


def good(task: str) -> dict[str, Any]:
    """A study with every setting that such a task has."""
    config = StudyConfig.model_validate(
        {
            "name": "small",
            "model": {"id": "some/model"},
            "task": {
                "type": task,
                "data": {"files": {"train": "a.jsonl", "validation": "b.jsonl"}},
                **TASKS[task],
            },
            "search_space": {"bits": [4, 16], "ranks": [0, 4]},
            "calibration": {"learning_rate": 1e-3},
            "full_run": {"learning_rate": 1e-3},
        }
    )
    return config.model_dump(mode="json")


def write(values: Any, folder: Path) -> None:
    (folder / "study.yaml").write_text(yaml.safe_dump(values, allow_unicode=False, sort_keys=False))


def _case(task: str, values: dict[str, Any], place: Place, new: Any) -> Case:
    name = ".".join(map(str, place))
    shown = json.dumps(new)[:20]
    return Case(
        f"study-{task}-{name}={shown}",
        COMMAND,
        partial(write, replaced(values, place, new)),
        names="study.yaml:",
    )


def by_rule() -> Iterator[Case]:
    seen: set[Place] = set()
    for task in TASKS:
        values = good(task)
        for place, value in places(values):
            if place in seen or (place[:2] == ("full_run", "overrides") and len(place) > 2):
                continue
            seen.add(place)
            for new in WRONG[type(value)]:
                yield _case(task, values, place, new)
            if isinstance(value, dict):
                yield _case(task, values, (*place, f"no such{ESCAPES}"), 1)


MODEL = b"model: {id: a/b}\ntask: {type: causal-lm, data: {package: json}}\n"

TEXTS: dict[str, bytes] = {
    "empty": b"",
    "nothing": b"null\n",
    "a-list": b"- a\n- b\n",
    "a-word": b"study",
    "a-number": DIGITS.encode(),
    "digits": b"name: a\nsearch:\n  trials: " + DIGITS.encode(),
    "base-60": b"name: a\nsearch:\n  trials: 1:2:3:4\n",
    "zeros": bytes(1000),
    "random": bytes(range(256)) * 20,
    "latin-1": "name: größer\n".encode("latin-1"),
    "utf-16": "name: small\n".encode("utf-16"),
    "surrogate": b'name: "\\ud800"\n',
    "controls": b'name: "\\e[2J"\nmodel: {id: "\\a\\r\\n"}\n',
    "tab": b"name:\n\t- a\n",
    "unclosed": b"name: [a, b\n",
    "unclosed-text": b'name: "a\n',
    "twice": b"name: a\nname: b\n",
    "number-as-key": b"1: a\n",
    "list-as-key": b"? [a, b]\n: c\n",
    "nothing-as-key": b"~: a\n",
    "two-documents": b"name: a\n---\nname: b\n",
    "no-anchor": b"name: *a\n",
    "alias-of-itself": b"a: &a [*a]\n",
    "merge-of-itself": b"a: &a\n  <<: *a\n",
    "merge-of-text": b"<<: a\nname: b\n",
    "laughs": b"a: &a [x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (n + 1, n + 1, b",".join([b"*%c" % n] * 9)) for n in range(97, 110)),
    "deep-lists": b"a: " + b"[" * 50_000,
    "deep-mappings": b"a: " + b"{a: " * 50_000,
    "deep-lines": b"".join(b" " * n + b"a:\n" for n in range(3000)),
    "python-object": b"name: !!python/object/apply:os.system ['touch owned']\n",
    "python-name": b"name: !!python/name:os.system\n",
    "python-module": b"name: !!python/module:os\n",
    "python-tuple": b"name: !!python/tuple [1]\n",
    "own-tag": b"name: !owned a\n",
    "binary": b"name: !!binary '\xff'\n",
    "binary-name": b"name: !!binary gICA\n",
    "set": b"name: !!set {a}\n",
    "timestamp": b"name: 2001-01-01\n",
    "timestamp-none": b"name: 2001-99-99\n",
    "long-name": b"name: " + b"x" * 100_000,
    "name-of-a-path": b"name: ../../owned\n" + MODEL,
    "long-word": b"x" * 1_000_000,
    "long-key": b"x" * 100_000 + b": 1\n",
    "null-in-a-path": b'model: {id: "./a\\0b"}\ntask: {type: causal-lm, data: {package: json}}\n',
    "home-of-nobody": b"model: {id: ~nobody-there/b}\ntask: {type: causal-lm, data: {package: json}}\n",
    "bom-alone": b"\xef\xbb\xbf",
    "html": b"<!doctype html><title>404</title>",
    "json-lines": b'{"name": "a"}\n{"name": "b"}\n',
}


def _no_file(make: Any, folder: Path) -> None:
    path = folder / "study.yaml"
    path.unlink()
    make(path)


def by_hand() -> Iterator[Case]:
    for name, content in TEXTS.items():
        yield Case(
            f"study-text-{name}",
            COMMAND,
            lambda folder, content=content: (folder / "study.yaml").write_bytes(content),
            names="study.yaml",
        )
    for name, make in {
        "folder": Path.mkdir,
        "pipe": os.mkfifo,
        "link-to-itself": lambda path: path.symlink_to(path),
        "link-to-zeros": lambda path: path.symlink_to("/dev/zero"),
    }.items():
        yield Case(f"study-file-{name}", COMMAND, partial(_no_file, make), names="study.yaml")
    for name in ("", ".", "/", "\x1b[2J", "a\nb", "x" * 5000, "quickstart/", "study.yaml/x", "../" * 100):
        yield Case(f"study-named-{name[:10]!r}", ("study", "create", name, "--storage", "sqlite:///new.db"))
