from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft.utils.constants import DUMMY_TARGET_MODULES

from jointsearch.config.yaml_file import read_study
from jointsearch.errors import OutputError, PlanError
from jointsearch.files import write_text
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.peft import lora_config
from jointsearch.plan.plan import ModuleChoice, Plan
from jointsearch.plan.plan_file import PlanFile, PlanSource, read_plan, write_plan

FIXTURES = Path(__file__).parents[1] / "fixtures"
LAYOUT = ModelLayout.model_validate_json((FIXTURES / "layout.json").read_text())
STUDY = read_study(FIXTURES / "study.yaml")
RANKS = {
    "embed": 0,
    "layers.0.attn.q": 4,
    "layers.0.attn.o": 4,
    "layers.0.mlp.up": 8,
    "layers.0.mlp.down": 8,
    "layers.1.attn.q": 0,
    "layers.1.attn.o": 0,
    "layers.1.mlp.up": 2,
    "layers.1.mlp.down": 2,
}
PLAN = Plan(
    modules={name: ModuleChoice(bits=4, rank=rank) for name, rank in RANKS.items()},
    lora=LoraSettings(alpha_over_rank=1.5, dropout=0.1),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good plan.json."""
    origin = PlanSource(study="small", trial=3, label="uniform", metrics={"loss": 2.5})
    write_plan(PlanFile.build(PLAN, LAYOUT, STUDY, origin), tmp_path / "plan.json")
    return tmp_path / "plan.json"


def test_what_is_written_is_read(path: Path) -> None:
    content = read_plan(path)
    assert content.plan == PLAN
    assert content.layout == LAYOUT
    assert content.study == STUDY
    assert content.origin == PlanSource(study="small", trial=3, label="uniform", metrics={"loss": 2.5})
    assert content.digest == PLAN.digest
    # 9 modules of NF4 with two levels of scales, the biases of two q, LoRA in float32, and the rest
    weights = [100 * 64, 4096, 4096, 6144, 6144, 4096, 4096, 6144, 6144]
    nf4 = sum(n // 2 + n // 64 + 4 + 64 + 1024 for n in weights)
    lora = 4 * (4 * (64 + 64) * 2 + 8 * (64 + 96) * 2 + 2 * (64 + 96) * 2)
    assert content.cost.model_bytes == nf4 + 2 * 2 * 64 + lora + 640


def test_a_person_can_read_bits_and_ranks_in_the_file(path: Path) -> None:
    content = json.loads(path.read_text())
    assert content["format"] == "jointsearch-plan"
    assert content["version"] == 1
    assert content["plan"]["modules"]["layers.0.mlp.up"] == {"bits": 4, "rank": 8}
    assert content["peft"]["r"] == 8


def test_lora_config_gives_every_module_its_rank() -> None:
    arguments = lora_config(PLAN, LAYOUT)
    assert arguments["task_type"] == "CAUSAL_LM"
    assert sorted(arguments["target_modules"]) == sorted(name for name, rank in RANKS.items() if rank)

    def of(pattern: str, default: str, name: str) -> float:
        """As PEFT looks a module up: the key is a regular expression for the end of the name."""
        matches = [
            value
            for key, value in arguments[pattern].items()
            if re.match(rf"(.*\.)?({key})$", f"base_model.model.{name}")
        ]
        assert len(matches) <= 1
        return float(matches[0] if matches else arguments[default])

    for name in arguments["target_modules"]:
        assert of("rank_pattern", "r", name) == RANKS[name]
        assert of("alpha_pattern", "lora_alpha", name) == 1.5 * RANKS[name]
    assert arguments["lora_dropout"] == 0.1
    assert arguments["fan_in_fan_out"] is False
    assert arguments["modules_to_save"] is None


def test_a_dot_in_a_name_is_no_wildcard() -> None:
    """layers.1 must not give its rank to layersX1."""
    spec = LAYOUT["layers.0.attn.q"]
    names = {"a.b": 2, "aXb": 8}
    modules = tuple(spec.model_copy(update={"name": name}) for name in names)
    layout = LAYOUT.model_copy(update={"modules": modules})
    plan = Plan(modules={name: ModuleChoice(bits=16, rank=rank) for name, rank in names.items()})
    (key,) = lora_config(plan, layout)["rank_pattern"]
    assert re.fullmatch(key, "a.b")
    assert not re.fullmatch(key, "aXb")


def test_lora_config_without_adapters_and_with_a_new_head() -> None:
    head = LAYOUT["layers.0.attn.q"].model_copy(update={"name": "score", "trained": True, "kind": "conv1d"})
    layout = LAYOUT.model_copy(update={"modules": (head,)})
    bare = lora_config(Plan(modules={"score": ModuleChoice(bits=16, rank=0)}), layout)
    assert (bare["target_modules"], bare["rank_pattern"]) == (DUMMY_TARGET_MODULES, {})
    assert bare["modules_to_save"] == ["score"]
    assert bare["fan_in_fan_out"] is False
    adapted = lora_config(Plan(modules={"score": ModuleChoice(bits=16, rank=2)}), layout)
    assert adapted["fan_in_fan_out"] is True  # GPT-2's Conv1D keeps its weight transposed


def _other_rank(content: dict[str, Any]) -> None:
    content["plan"]["modules"]["layers.0.mlp.up"]["rank"] = 16


def _bad_bits(content: dict[str, Any]) -> None:
    content["plan"]["modules"]["embed"]["bits"] = 3


def _other_model(content: dict[str, Any]) -> None:
    modules = content["plan"]["modules"]
    content["plan"]["modules"] = {f"transformer.{name}": choice for name, choice in modules.items()}


def _other_layout(content: dict[str, Any]) -> None:
    content["layout"]["other_bytes"] = 1


def _other_peft(content: dict[str, Any]) -> None:
    content["peft"]["r"] = 99


def _other_setting(content: dict[str, Any]) -> None:
    content["study"]["full_run"]["learning_rate"] = 0.5


def _other_trust(content: dict[str, Any]) -> None:
    content["study"]["model"]["trust_remote_code"] = True


def _other_source(content: dict[str, Any]) -> None:
    content["origin"]["metrics"]["loss"] = 0.1


def _newer(content: dict[str, Any]) -> None:
    content["version"] = 2


def _no_plan(content: dict[str, Any]) -> None:
    del content["plan"]


def _other_format(content: dict[str, Any]) -> None:
    content["format"] = "something"


def _more(content: dict[str, Any]) -> None:
    content["colour"] = "red"


@pytest.mark.parametrize(
    ("edit", "pieces"),
    [
        (
            _other_rank,
            ["damaged: digest must follow from the rest of the file", "export it again"],
        ),
        (_bad_bits, ["damaged at plan.modules.embed: bits must be among 4, 8, 16, but got 3"]),
        (
            _other_model,
            [
                "[transformer.embed, ",
                "… 5 more] in the plan and [embed, ",
                "in SmallForCausalLM do not match",
            ],
        ),
        (_other_layout, ["damaged: checksum must follow from the rest of the file"]),
        (_other_peft, ["damaged: peft must follow from the rest of the file"]),
        (_other_setting, ["damaged: checksum must follow from the rest of the file"]),
        (_other_trust, ["damaged: checksum must follow from the rest of the file"]),
        (_other_source, ["damaged: checksum must follow from the rest of the file"]),
        (_newer, ["a plan must have version 1, but got 2"]),
        (_no_plan, ["damaged at plan: "]),
        (_other_format, ["not a plan; `jointsearch export STUDY -o plan.json` writes one"]),
        (_more, ["damaged at colour: "]),
    ],
)
def test_an_edited_plan_is_refused(
    path: Path, edit: Callable[[dict[str, Any]], None], pieces: list[str]
) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(PlanError) as caught:
        read_plan(path)
    found = str(caught.value)
    assert found.startswith(f"{path}: ")
    assert [piece for piece in pieces if piece not in found] == [], found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("content", "piece"),
    [
        (b"", ":1: damaged, not valid JSON"),
        (b'{\n "format":', ":2: damaged, not valid JSON"),
        (b"[1, 2]", ": not a plan"),
        (b"3", ": not a plan"),
        (b"model: {id: x}\n", ": not a plan; `jointsearch export STUDY -o plan.json` writes one"),
        (b"\xff\xfe", ": cannot be read ("),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path: Path, content: bytes, piece: str) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(PlanError) as caught:
        read_plan(path)
    assert str(caught.value).startswith(f"{path}{piece}")


def test_the_checksum_is_of_all_the_rest(path: Path) -> None:
    """As a person can compute it: the file without the checksum, as JSON with sorted keys and no spaces."""
    content = json.loads(path.read_text())
    checksum = content.pop("checksum")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert checksum == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_other_settings_have_another_checksum(path: Path) -> None:
    plan = read_plan(path)
    moved = plan.under(plan.study.model_copy(update={"device": "cpu"}))
    assert (moved.digest, moved.study.device) == (plan.digest, "cpu")
    assert moved.checksum != plan.checksum
    write_plan(moved, path)
    assert read_plan(path) == moved


def test_half_a_plan_is_refused_with_the_line(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:20]))
    with pytest.raises(PlanError, match=r"plan\.json:2[01]: damaged, not valid JSON"):
        read_plan(path)


def test_a_missing_plan_is_said(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"no\.json: cannot be read \(No such file or directory\)"):
        read_plan(tmp_path / "no.json")


def test_a_plan_is_not_built_for_another_model() -> None:
    other = LAYOUT.model_copy(update={"modules": LAYOUT.modules[:3]})
    with pytest.raises(PlanError, match=r"layers\.0\.mlp"):
        PlanFile.build(PLAN, other, STUDY)


def test_nothing_is_left_where_the_file_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"plan\.json: cannot be written \(No such file or directory\)"):
        write_text(tmp_path / "nowhere" / "plan.json", "text")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder: cannot be written"):
        write_text(tmp_path / "folder", "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_writing_replaces_the_whole_file(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    target.write_text("a longer text that was there before")
    write_text(target, "new")
    assert target.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]
    other = tmp_path / "ordinary.txt"
    other.write_text("x")
    assert target.stat().st_mode == other.stat().st_mode
