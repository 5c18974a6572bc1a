"""``jointsearch doctor --model``: a model's layout and its tokenizer, before there is a study."""

from __future__ import annotations

from typing import Any

import click

from jointsearch.cli.tables import print_tables
from jointsearch.config.study import ModelSettings
from jointsearch.config.task import TASKS
from jointsearch.errors import ModelError, either, nearest
from jointsearch.front.objectives import format_bytes
from jointsearch.plan.cost import weight_bytes
from jointsearch.plan.formats import FORMATS, QuantizationSettings
from jointsearch.plan.layout import ModelLayout, Part
from jointsearch.training.quiet import quiet_libraries


def report_of(model: str, task: str) -> dict[str, Any]:
    """What a search can reach of the model, as plain data; raises ``ModelError``."""
    if task not in TASKS:
        raise ModelError(f"--task must be {either(list(TASKS))}, but got '{task}'{nearest(task, TASKS)}")
    quiet_libraries()
    from jointsearch.training.model.architecture import read_layout

    settings = ModelSettings(id=model)
    layout = read_layout(settings, task)
    return {
        "model": model,
        "task": task,
        "architecture": layout.architecture,
        "dtype": layout.dtype,
        "parameters": layout.num_parameters,
        "searched_share": round(layout.searched_share, 4),
        "parts": _parts(layout),
        "notes": layout.notes,
        "tokenizer": _tokenizer(settings, layout),
    }


def _parts(layout: ModelLayout) -> list[dict[str, Any]]:
    """Modules, parameters and bytes by part, and the bytes in each format."""
    rows = []
    for part in Part:
        specs = [spec for spec in layout.modules if spec.part is part]
        if not specs:
            continue
        searched = [spec for spec in specs if spec.quantizable]
        rows.append(
            {
                "part": part.value,
                "modules": len(specs),
                "searched": len(searched),
                "with_adapters": sum(spec.adaptable for spec in specs),
                "parameters": sum(spec.num_weights for spec in specs),
                "bytes": {
                    name: sum(
                        weight_bytes(spec, name if spec.quantizable else "16bit", QuantizationSettings())
                        for spec in specs
                    )
                    for name in FORMATS
                },
            }
        )
    other = layout.other_parameters
    rows.append({"part": "other", "parameters": other, "bytes": {"16bit": layout.other_bytes}})
    return rows


def _tokenizer(settings: ModelSettings, layout: ModelLayout) -> dict[str, Any]:
    from jointsearch.training.model.base_model import load_tokenizer

    try:
        tokenizer = load_tokenizer(settings)
    except ModelError as error:
        return {"problem": str(error)}
    rows = next((spec.shape[0] for spec in layout.modules if spec.part is Part.EMBEDDING), None)
    tried = tokenizer("a text")["input_ids"]
    return {
        "tokens": len(tokenizer),
        "embeddings": rows,
        "begins_texts": bool(tried) and tried[0] == tokenizer.bos_token_id,
        "bos": tokenizer.bos_token,
        "eos": tokenizer.eos_token,
        "padding": tokenizer.pad_token,
        "chat_template": tokenizer.chat_template is not None,
    }


def print_report(found: dict[str, Any]) -> None:
    """For a person."""
    formats = list(FORMATS)
    columns = ["part", "modules", "searched", "with adapters", "parameters", *formats]
    rows = [
        [
            row["part"],
            *(str(row.get(key, "-")) for key in ("modules", "searched", "with_adapters")),
            f"{row['parameters']:,}",
            *(format_bytes(row["bytes"][name]) if name in row["bytes"] else "-" for name in formats),
        ]
        for row in found["parts"]
    ]
    print_tables(columns, {f"{found['architecture']}, {found['parameters']:,} parameters": rows}, drop=())
    click.echo(f"the search reaches {found['searched_share']:.0%} of the weights")
    for note in found["notes"]:
        click.echo(note)
    tokenizer = ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in found["tokenizer"].items())
    click.echo(f"tokenizer: {tokenizer}")
