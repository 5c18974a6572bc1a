"""One of everything that can be added, from one file outside of the package, known by its entry point."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import pytest

from jointsearch.plan.layout import ModelLayout, Part

GROUPS = {
    "formats": ("ternary", "ternary"),
    "tasks": ("copy_task", "copy"),
    "samplers": ("round_robin", "round-robin"),
    "strategies": ("ends_first", "ends-16bit"),
    "methods": ("vectors", "vectors"),
    "launchers": ("one_by_one", "one-by-one"),
    "export_targets": ("table_target", "table"),
    "serving_targets": ("weights_target", "weights"),
    "objectives": ("regret", "regret"),
}
"""By the group of entry points the file, and the name of what is in it."""

REGISTRIES = """\
from jointsearch.config.names import SAMPLERS, STRATEGIES
from jointsearch.config.task import TASKS
from jointsearch.export import TARGETS
from jointsearch.export.serving import SERVING_TARGETS
from jointsearch.front.objectives import OBJECTIVES
from jointsearch.launchers import LAUNCHERS
from jointsearch.plan.formats import FORMATS
from jointsearch.plan.methods import METHODS

registries = dict(formats=FORMATS, tasks=TASKS, samplers=SAMPLERS, strategies=STRATEGIES, methods=METHODS,
                  launchers=LAUNCHERS, export_targets=TARGETS,
                  serving_targets=SERVING_TARGETS, objectives=OBJECTIVES)
"""

SMALL = "from on_the_small_study import LAYOUT, URL, new_study, searched, study_file\n"


class Installed(Protocol):
    folder: Path

    def add(self, module: str, group: str = "") -> None: ...

    def python(self, code: str, environment: dict[str, str] | None = None) -> Any: ...


def add(installed: Installed, group: str) -> None:
    installed.add(GROUPS[group][0], group)


@pytest.mark.parametrize("way", ["entry point", "JOINTSEARCH_PLUGINS", "import"])
def test_each_is_known(installed: Installed, way: str) -> None:
    names = {group: name for group, (_, name) in GROUPS.items()}
    modules = [module for module, _ in GROUPS.values()]
    for group, (module, _) in GROUPS.items():
        installed.add(module, group if way == "entry point" else "")
    imports = f"import {', '.join(modules)}\n" if way == "import" else ""
    environment = {"JOINTSEARCH_PLUGINS": ", ".join(modules)} if way == "JOINTSEARCH_PLUGINS" else {}
    found = installed.python(
        f"{REGISTRIES}{imports}names = {names}\n"
        "say({group: [names[group] in known, known[names[group]].name, names[group] in list(known)]"
        " for group, known in registries.items()})",
        environment,
    )
    assert found == {group: [True, name, True] for group, name in names.items()}


def test_what_is_not_installed_is_not_known(installed: Installed) -> None:
    names = {group: name for group, (_, name) in GROUPS.items()}
    code = f"{REGISTRIES}say([group for group, name in {names}.items() if name in registries[group]])"
    assert installed.python(code) == []


def test_built_in_names_are_known_without_what_they_need(installed: Installed) -> None:
    """Of samplers, strategies, tasks and objectives: a study file is read without Optuna, SciPy and torch."""
    code = """from sys import modules
from jointsearch.config.study import StudyConfig
StudyConfig.model_validate({
    "name": "x", "model": {"id": "a/b"}, "task": {"type": "causal-lm", "data": {"package": "json"}},
    "search": {"sampler": "gp"}, "search_space": {"enqueue": ["uniform", "ilp"], "formats": ["nf4"]},
    "lora": {"variant": "dora"}, "objectives": ["loss", "peak_memory_bytes"],
})
say([name for name in ("optuna", "scipy", "torch", "numpy", "transformers") if name in modules])
"""
    assert installed.python(code) == []


def test_a_format_is_searched_and_weighed(installed: Installed, layout: ModelLayout) -> None:
    add(installed, "formats")
    found = installed.python(
        f"""{SMALL}
from jointsearch.plan.plan_file import read_plan, write_plan
from jointsearch.study.plans import export_plan
study = searched(search_space={{"bits": [4, 8, 16], "formats": ["16bit", "ternary"], "ranks": [0]}})
trials = [[dict(t.plan.formats), t.measurement.model_bytes] for t in study.records().trials]
path = Path("plan.json")
write_plan(export_plan(study, 0), path)
assert read_plan(path).plan == study.records().trials[0].plan
say([list(study.space.parameters.items()), trials, path.read_text().count('"ternary"')])
"""
    )
    parameters, trials, num_written = found
    assert {tuple(choices) for _, choices in parameters} == {("ternary", "16bit")}
    assert all(name.endswith(".format") for name, _ in parameters)
    quantizable = {spec.name: spec.shape for spec in layout.modules if spec.quantizable}
    for formats, model_bytes in trials:
        saved = sum(
            2 * out * width - (-(-out * width // 5) + 2 * out)
            for name, (out, width) in quantizable.items()
            if name in formats
        )
        assert model_bytes == trials[1][1] - saved  # trial 1 is all of 16 bits
    assert trials[0][0] == dict.fromkeys(quantizable, "ternary")
    assert num_written >= len(quantizable)


def test_a_task_is_read_from_a_study_file_and_trained(installed: Installed) -> None:
    add(installed, "tasks")
    found = installed.python(
        f"""{SMALL}
import torch
from jointsearch.errors import StudyFileError
from jointsearch.assemble import build_runner, read_layout
from jointsearch.plan.peft import lora_config
from jointsearch.runner import Trial
from jointsearch.space import build_space
import jointsearch.quickstart

def refused(**task):
    try:
        study_file(task={{"type": "copy", **task}})
    except StudyFileError as error:
        return str(error)

model = str(Path(jointsearch.quickstart.__file__).parent / "model")
config = study_file(
    model={{"id": model}}, task={{"type": "copy", "half_length": 3}}, objectives=["accuracy", "model_bytes"],
    calibration={{"steps": 1, "warmup_steps": 0, "batch_size": 4}},
)
layout = read_layout(config)
space = build_space(config, layout)
plan = space.plan(space.uniform("nf4", 4))
measured = build_runner(config, layout).run(plan, Trial(seed=0))
say([
    refused(half_lenght=3), refused(half_length=0), refused(type="cpoy"),
    config.task.model_dump(mode="json"), lora_config(plan, layout, "copy")["task_type"],
    measured.metrics, measured.num_tokens,
    type(config).model_validate(config.model_dump(mode="json")) == config,
])
"""
    )
    unknown, too_small, no_kind, task, peft_type, metrics, num_tokens, survives = found
    assert "small.yaml:" in unknown
    assert "unknown key 'task.half_lenght'; did you mean 'half_length'?" in unknown
    assert "(valid: type, data, half_length, num_examples)" in unknown
    assert too_small.endswith("task.half_length: must be greater than or equal to 1, but got 0")
    assert no_kind.endswith("'question-answering' or 'copy', but got 'cpoy'; did you mean 'copy'?")
    assert (task["half_length"], task["num_examples"], task["data"]["package"]) == (3, 16, "json")
    assert peft_type == "CAUSAL_LM"
    assert metrics["loss"] > 0
    assert (metrics["accuracy"] * 16 * 3) % 1 == pytest.approx(0, abs=1e-4)  # of 48 tokens
    assert num_tokens == 1 * 4 * 6  # steps, batch, length
    assert survives


def test_init_offers_a_task_and_asks_for_its_model(installed: Installed) -> None:
    add(installed, "tasks")
    without, choices, kind, length = installed.python(
        """
from click.testing import CliRunner
from jointsearch.cli import cli
from jointsearch.cli.init import init
from jointsearch.config.yaml_file import read_study

def run(*more):
    command = ["init", "--task", "copy", "--data", "package:click", *more]
    return CliRunner().invoke(cli, command).output

without = [run(), Path("study.yaml").exists()]
run("--model", "some/model")
(option,) = (p for p in init.params if p.name == "task")
task = read_study(Path("study.yaml")).task
say([without, list(option.type.choices), task.type, task.half_length])
"""
    )
    assert "--model must be given for the task copy" in without[0]
    assert without[1] is False
    assert "custom" not in choices and choices[-1] == "copy"
    assert (kind, length) == ("copy", 4)  # the default of what the data does not say


def test_a_sampler_proposes_the_trials_of_a_study(installed: Installed) -> None:
    add(installed, "samplers")
    trials, highs, sampler = installed.python(
        f"""{SMALL}
study = searched(search={{"sampler": "round-robin", "trials": 8}}, search_space={{"enqueue": []}})
found = study.optuna_study.trials
say([[list(t.params.values()) for t in found], [d.high for d in found[0].distributions.values()],
     study.config.search.sampler])
"""
    )
    assert sampler == "round-robin"
    assert trials == [[(n + i) % (high + 1) for i, high in enumerate(highs)] for n in range(8)]


def test_a_strategy_is_enqueued_and_compared(installed: Installed, layout: ModelLayout) -> None:
    add(installed, "strategies")
    first, rows = installed.python(
        f"""{SMALL}
from jointsearch.study.analysis.compare import ComparisonSettings, compare
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner
study = searched(search_space={{"enqueue": ["ends-16bit"]}}, search={{"trials": 2}})
trial = study.records().trials[0]
settings = ComparisonSettings.named("qlora,ends-16bit", LAYOUT, 2, None, None)
runner = FakeRunner(LAYOUT)
work = Worker(study, runner, num_trials=0).run
compared = compare(study, settings, lambda: runner, work)
say([[trial.origin.kind, trial.origin.name, dict(trial.plan.bits)],
     {{row.name: list(row.qualities) for row in compared.rows}}])
"""
    )
    kind, name, bits = first
    assert (kind, name) == ("strategy", "ends-16bit")
    inner = [spec.name for spec in layout.modules if spec.part in (Part.EMBEDDING, Part.HEAD)]
    assert bits == dict.fromkeys(inner, 4)  # two blocks, which are the first and the last
    assert rows["ends-16bit"] == rows["qlora"] == [0, 1]


def test_a_method_is_named_and_its_adapters_weighed(installed: Installed, layout: ModelLayout) -> None:
    add(installed, "methods")
    trained, variant = installed.python(
        f"""{SMALL}
space = {{"bits": [16], "ranks": [4]}}
study = searched(lora={{"variant": "vectors"}}, search_space=space, search={{"trials": 1}})
(trial,) = study.records().trials
say([trial.measurement.trainable_parameters, trial.plan.lora.variant])
"""
    )
    assert variant == "vectors"
    assert trained == sum(5 * sum(spec.shape) for spec in layout.modules if spec.adaptable)


def test_a_launcher_starts_workers(installed: Installed) -> None:
    add(installed, "launchers")
    in_peace, complete, workers, told, choices = installed.python(
        f"""{SMALL}
import sys
from fixtures.processes import WORKER_PROCESS
from jointsearch.cli.study.start import start
from jointsearch.launchers import Fleet, run_workers

class Fakes(Fleet):
    command = [sys.executable, str(WORKER_PROCESS), "run", "small"]

study = new_study(search={{"trials": 5}})
told = []
fleet = Fakes("small", URL, ("cpu", "mps"), lambda: None, told.append, lambda: None, {{}})
in_peace = run_workers("one-by-one", fleet)
records = study.records()
(option,) = (p for p in start.params if p.name == "launcher")
workers = {{trial.worker for trial in records.complete}}
say([in_peace, len(records.complete), len(workers), told, list(option.type.choices)])
"""
    )
    assert in_peace
    assert (complete, workers) == (5, 1)  # the second worker finds nothing left to do
    assert told == ["a worker for cpu", "a worker for mps"]
    assert choices == ["local", "ray", "slurm", "one-by-one"]


def test_an_export_target_writes(installed: Installed) -> None:
    add(installed, "export_targets")
    printed, plan = installed.python(
        f"""{SMALL}
from click.testing import CliRunner
from jointsearch.cli import cli
from jointsearch.study.plans import export_plan
study = searched()
command = ["export", "small", "--to", "table", "-o", "new/plan.tsv"]
result = CliRunner().invoke(cli, command, catch_exceptions=False)
assert result.exit_code == 0, result.output
say([result.output, {{n: [c.format, c.rank] for n, c in export_plan(study).plan.modules.items()}}])
"""
    )
    assert printed.startswith(f"wrote new{os.sep}plan.tsv: trial ")
    lines = (installed.folder / "new" / "plan.tsv").read_text().splitlines()
    assert {name: [form, int(rank)] for name, form, rank in (line.split("\t") for line in lines)} == plan


def test_an_objective_is_minimized(installed: Installed) -> None:
    add(installed, "objectives")
    trials, front, directions = installed.python(
        f"""{SMALL}
study = searched(objectives=["regret", "kilo_parameters", "model_bytes"], search={{"sampler": "additive"}})
records = study.records()
say([[[t.values["regret"], t.values["kilo_parameters"], t.values["model_bytes"],
       t.measurement.metrics["loss"], t.measurement.trainable_parameters] for t in records.trials],
     [t.number for t in records.front], [d.name for d in study.optuna_study.directions]])
"""
    )
    assert directions == ["MINIMIZE"] * 3
    assert len(trials) == 10
    for regret, kilo, _, loss, parameters in trials:
        assert regret == pytest.approx(loss - 1.8)
        assert kilo == parameters / 1000
    points = [tuple(trial[:3]) for trial in trials]
    undominated = {
        point
        for point in points
        if not any(
            other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points
        )
    }
    assert {points[number] for number in front} == undominated


def test_a_plug_in_that_cannot_be_imported_is_said(installed: Installed) -> None:
    installed.add("ternary", "formats")
    (installed.folder / "site" / "ternary.py").write_text("import no_such_module\n")
    told = installed.python(
        "from jointsearch.errors import UnsupportedError\nfrom jointsearch.plan.formats import FORMATS\n"
        "try:\n    'ternary' in FORMATS\nexcept UnsupportedError as error:\n    say(str(error))\n"
    )
    assert told == "the format 'ternary' of ternary cannot be imported: No module named 'no_such_module'"


def test_a_built_in_name_is_taken(installed: Installed) -> None:
    installed.add("round_robin")
    (installed.folder / "site" / "round_robin.py").write_text(
        "from jointsearch.search.samplers import Sampler, register_sampler\n"
        "register_sampler(Sampler('tpe', lambda context: None))\n"
    )
    told = installed.python(
        "try:\n    import round_robin\nexcept ValueError as error:\n    say(str(error))\n"
    )
    assert told == "the sampler 'tpe' is registered already; use another name"
