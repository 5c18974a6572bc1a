"""Command lines: every option of every command with values of other kinds, and what no command has."""

from __future__ import annotations

from collections.abc import Iterator

import click

from attacks.bad.case import DIGITS, ESCAPES, Case
from jointsearch.cli import cli

GOOD = {
    "study start": ("study.yaml",),
    "study create": ("study.yaml",),
    "study status": ("small",),
    "study pause": ("small",),
    "study resume": ("small",),
    "study stop": ("small",),
    "study cancel": ("small",),
    "study retry": ("small",),
    "study measure": ("small", "--max-bytes", "1MB"),
    "study refine": ("small",),
    "study import": ("small", "--from", "small"),
    "study delete": ("small", "--yes"),
    "worker": ("small",),
    "front": ("small",),
    "select": ("small",),
    "export": ("small", "-o", "out.json"),
    "plan show": ("plan.json",),
    "train": ("plan.json", "-o", "out"),
    "evaluate": ("run",),
    "compare": ("study.yaml",),
    "compare-outputs": ("small:0", "small:1"),
    "report": ("small", "-o", "out.html"),
    "completion": ("bash",),
}
"""What a command needs beside the option that is tried."""

NUMBERS = ("", "ten", "1e3", "nan", "inf", "0x10", f"1{ESCAPES}", DIGITS, "-1")
NAMES = ("", ESCAPES, "x" * 100_000, "../../etc/passwd", "sma'll; DROP TABLE studies", "\udcff")


def commands(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*path, name))
    else:
        yield path, command


def _values(parameter: click.Parameter) -> tuple[str, ...]:
    kind = parameter.type
    if isinstance(kind, click.IntRange | click.FloatRange):
        return (*NUMBERS, "0")
    if kind is click.INT:
        return (*NUMBERS, "99999999")
    if isinstance(kind, click.Choice):
        return ("", "no such", ESCAPES, "x" * 10_000)
    return ()


def by_rule() -> Iterator[Case]:
    for path, command in commands(cli):
        words = " ".join(path)
        good = GOOD.get(words, ())
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                for value in _values(parameter):
                    option = parameter.opts[0]
                    yield Case(f"{words} {option}={value[:12]!r}", (*path, *good, f"{option}={value}"))
        yield Case(f"{words} unknown", (*path, *good, f"--no-such{ESCAPES}"))
        if not words.startswith("help"):
            yield Case(f"{words} surplus", (*path, *good, *["surplus\x1b[2J"] * 50))
        if good and command.params[0].name == "name":
            for name in NAMES:
                yield Case(
                    f"{words} name={name[:10]!r}", (*path, *(name if w == "small" else w for w in good))
                )


def _bytes() -> Iterator[Case]:
    for size in (
        "",
        "many",
        "1e400MB",
        "nanMB",
        "-5MB",
        "5 apples",
        "1" * 5000,
        f"5{ESCAPES}MB",
        "1GiBB",
        "inf",
        "٣",
    ):
        for path in (("select", "small"), ("study", "measure", "small"), ("compare", "study.yaml")):
            yield Case(f"{' '.join(path)} bytes={size[:10]!r}", (*path, f"--max-bytes={size}"))


def _outputs() -> Iterator[Case]:
    long = "x" * 300
    for output in (
        "",
        ".",
        "/",
        "/dev/full/x",
        f"{long}",
        f"{long}/out",
        "study.yaml/out",
        "plan.json",
    ):
        yield Case(f"export -o {output[:10]}", ("export", "small", "-o", output))
        yield Case(f"train -o {output[:10]}", ("train", "none.json", "-o", output))
    for output in ("/", f"{long}.html", "study.yaml/out.html", "."):
        yield Case(f"report -o {output[:10]}", ("report", "small", "-o", output))
        yield Case(f"schema -o {output[:10]}", ("schema", "-o", output))


HAND = (
    ("storage", "proxy", "--host", "999.9.9.9"),
    ("storage", "proxy", "--host", ""),
    ("storage", "proxy", "--host", ESCAPES),
    ("storage", "proxy", "--host", "a" * 300),
    ("storage", "proxy", "--host", "no such host"),
    ("dashboard", "--host", "999.9.9.9"),
    ("dashboard", "--host", ""),
    ("dashboard", "--host", ESCAPES),
    ("dashboard", "--auth-token", "sp ace"),
    ("dashboard", "--auth-token", "größer"),
    ("dashboard", "--auth-token", ESCAPES),
    ("dashboard", "--no-token", "--host", "0.0.0.0"),
    *(
        ("worker", "small", "--idle-exit", value)
        for value in ("nan", "inf", "-1", "", "1e999", "10 apples", "1d1d", DIGITS, ESCAPES, "٣m")
    ),
    *(
        ("worker", "small", "--device", value)
        for value in ("tpu", "", "cuda:x", "cuda:-1", ESCAPES, "cuda:" + DIGITS)
    ),
    *(
        ("select", "small", "--max-loss", value)
        for value in ("nan", "inf", "-inf", "1e999", "", "low", ESCAPES)
    ),
    *(("select", "small", "--quality", value) for value in ("nan", "1e999", DIGITS + "." + DIGITS)),
    ("select", "small"),
    ("select", "small", "--knee", "--trial", "1"),
    ("select", "small", "--withdraw", "1"),
    *(
        ("compare-outputs", first, "small:0")
        for first in ("", ":", ":0", "small:x", "small:-1", "small:99999")
    ),
    *(("compare-outputs", f"small:{DIGITS}", "small:0"), ("compare-outputs", ESCAPES, "small:0")),
    *(
        ("compare", "study.yaml", "--strategies", value)
        for value in ("", "no such", ",", ESCAPES, "x," * 1000)
    ),
    *(("study", "import", "small", "--from", value) for value in ("", "nobody", "foreign", ESCAPES)),
    *(
        ("study", "start", "study.yaml", "--launcher-option", value)
        for value in ("", "x", "=", "a=b", ESCAPES)
    ),
    *(("evaluate", value) for value in ("", ".", "/", "study.yaml", "x" * 5000, ESCAPES)),
    *(("init", "new.yaml", "--task", value) for value in ("", "no such", ESCAPES)),
    ("init", "study.yaml", "--task", "causal-lm"),
    ("init", "new.yaml", "--task", "causal-lm", "--minutes", "nan"),
    ("init", "new.yaml", "--task", "causal-lm", "--minutes", "inf"),
    ("init", "new.yaml", "--task", "causal-lm", "--model", ESCAPES, "--data", ESCAPES),
    ("demo", "--folder", "study.yaml"),
    ("demo", "--folder", "x" * 300),
    ("help", "no such"),
    ("help", ESCAPES),
    ("help", *["study"] * 100),
    (ESCAPES,),
    ("x" * 100_000,),
    ("--no-such",),
    ("study", "no such"),
    ("front",),
    ("front", "small", "--storage"),
    ("front", "foreign"),
    ("study", "status", "foreign"),
    ("study", "delete", "foreign", "--yes"),
    ("worker", "foreign"),
    ("worker", "small", "-o", "out"),
)


def by_hand() -> Iterator[Case]:
    for number, words in enumerate(HAND):
        yield Case(f"line-{number}-{' '.join(words)[:30]!r}", words)
    yield from _bytes()
    yield from _outputs()
