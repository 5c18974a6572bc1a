"""Study files: what they say, and what is said of mistakes in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures.study_text import VALID, from_values, write
from jointsearch.config.problems import study_from
from jointsearch.config.study import StudyConfig
from jointsearch.config.yaml_file import read_study
from jointsearch.errors import StudyFileError


def message(folder: Path, text: str) -> str:
    """What is said about a study file, without the path before the first colon."""
    path = write(folder, text)
    with pytest.raises(StudyFileError) as caught:
        read_study(path)
    line = str(caught.value)
    assert line.startswith(f"{path}:")
    assert "\n" not in line
    return line.removeprefix(f"{path}:")


def test_a_small_study_file_has_defaults_for_the_rest(tmp_path: Path) -> None:
    config = read_study(write(tmp_path, VALID))
    assert config.name == "tiny"  # the file's name
    assert config.quality == "loss"
    assert config.objectives == ("loss", "model_bytes")
    assert config.search_space.bits == (4, 8, 16)
    assert (config.search.sampler, config.search.trials) == ("additive", 100)
    assert config.model.trust_remote_code is False


def test_a_name_in_the_file_is_kept(tmp_path: Path) -> None:
    assert read_study(write(tmp_path, "name: other\n" + VALID)).name == "other"


def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    """YAML 1.1 reads 1e-3, without a point, as a text."""
    config = read_study(write(tmp_path, VALID + "calibration: {learning_rate: 3e-3}\n"))
    assert config.calibration.learning_rate == 0.003


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        (
            VALID + "serach:\n  trials: 3\n",
            ["7: unknown key 'serach'", "did you mean 'search'?", "(valid: name"],
        ),
        (
            VALID + "calibration:\n  steps: 3\n  batchsize: 4\n",
            ["9: unknown key 'calibration.batchsize'", "did you mean 'batch_size'?"],
        ),
        (
            VALID.replace("package", "pakage"),
            ["6: unknown key 'task.data.pakage'", "did you mean 'package'?", "valid: hub, config"],
        ),
        (
            VALID + "search_space:\n  overrides:\n  - group: '*.mlp'\n    bit: [4]\n",
            [
                "10: unknown key 'search_space.overrides.0.bit'",
                "did you mean 'bits'?",
                "(valid: group, bits, formats, ranks)",
            ],
        ),
        (VALID + "zzzzzz: 1\n", ["7: unknown key 'zzzzzz' (valid: name"]),
        (VALID.replace("  type: causal-lm\n", ""), ["3: the key 'task.type' is required"]),
        ("name: x\n", ["1: the key 'model' is required"]),
        (
            VALID.replace("causal-lm", "causal-ml"),
            [
                "4: task.type must be",
                "'question-answering', but got 'causal-ml'",
                "did you mean 'causal-lm'?",
            ],
        ),
        (
            VALID + "search: {trials: 5,\n  sampler: nsga}\n",
            [
                "8: search.sampler must be 'additive', 'nsga2', 'tpe', 'gp', 'random', 'autoqra', "
                "'gp-bytes', 'primo', 'qr-adaptor' or 'tpe-bytes'",
                "got 'nsga'",
                "did you mean 'nsga2'?",
            ],
        ),
        (VALID + "calibration:\n  steps: 0\n", ["8: calibration.steps: ", "greater than 0, but got 0"]),
        (VALID + "calibration:\n  steps: many\n", ["8: calibration.steps: ", "but got 'many'"]),
        (VALID + "lora:\n  dropout: 1\n", ["8: lora.dropout: ", "less than 1, but got 1"]),
        (
            VALID + "search_space:\n  bits:\n  - 4\n  - 5\n",
            ["10: search_space.bits.1 ", "4, 8 or 16, but got 5"],
        ),
        (
            VALID + "search_space:\n  ranks: [4, 8, 4]\n",
            ["8: search_space.ranks: the choices must differ, but got [4, 8, 4]"],
        ),
        (
            VALID + "objectives: [loss, model_byte]\n",
            [
                "objectives: must be among loss, perplexity",
                "but got 'model_byte'",
                "did you mean 'model_bytes'?",
            ],
        ),
        (VALID + "objectives: [loss]\n", ["two or more different names, but got ['loss']"]),
        (VALID + "objectives: [loss, loss]\n", ["two or more different names"]),
        (
            VALID + "objectives: [model_bytes, loss]\n",
            [
                "the first must be a quality (loss, perplexity, bits_per_byte, accuracy)",
                "'model_bytes'",
            ],
        ),
        (
            VALID + "    hub: wikitext\n",
            ["5: task.data: exactly one of hub, files, folder and package", "['hub', 'package']"],
        ),
        (
            VALID.replace("package: json", "files: {validation: a.txt}"),
            ["5: task.data: files must name a train split, but got ['validation']"],
        ),
        (VALID + "name: a b\n", ["7: name: ", "but got 'a b'"]),
        (VALID + "device: gpu\n", ["7: device: ", "but got 'gpu'"]),
        (VALID + "model:\n  id: other\n", ["7: the key 'model' is there twice"]),
        (VALID + "search:\n  trials: 3\n  seed: 1\n  trials: 5\n", ["10: the key 'trials' is there twice"]),
        (
            VALID + "search_space:\n  overrides:\n  - group: a\n    group: b\n",
            ["10: the key 'group' is there twice"],
        ),
        (VALID + "search: [1,\n", ["not valid YAML"]),
        ("model: {id: x\ntask: y\n", ["2: not valid YAML"]),
        ("- model\n- task\n", [" a study file must be a mapping with the keys name, description, model"]),
        ("", [" a study file must be a mapping"]),
        (VALID + "search: quick\n", ["7: search: "]),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, text: str, pieces: list[str]) -> None:
    found = message(tmp_path, text)
    assert [piece for piece in pieces if piece not in found] == [], found
    if pieces[0][0].isdigit():
        assert found.startswith(pieces[0])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"model": "a/b"},
            "model: must be a mapping with the keys id, revision, dtype, trust_remote_code, "
            "but got 'a/b'; write model: {id: a/b}",
        ),
        (
            {"task": "causal-lm"},
            "task: must be a mapping with the keys type, data, but got 'causal-lm'; "
            "write task: {type: causal-lm, data: ...}",
        ),
        ({"task": {"type": "causal-lm", "data": "x/y"}}, "; write data: {hub: x/y}"),
        ({"task": {"type": "causal-lm", "data": "./x"}}, "; write data: {folder: ./x}"),
        ({"task": {"type": "causal-lm", "data": "x.jsonl"}}, "; write data: {files: {train: x.jsonl}}"),
        ({"task": {"type": "causal-lm", "data": {"files": "x.csv"}}}, "; write files: {train: x.csv}"),
        ({"task": {"type": "seq2seq-lm", "data": {"hub": "x"}}}, "the key 'task.source' is required"),
        (
            {"task": {}},
            "the key 'task.type' is required: 'causal-lm', 'seq2seq-lm', "
            "'sequence-classification' or 'question-answering'",
        ),
        ({"search": None}, "but got nothing"),
        ({"search_space": {"ranks": 4}}, "search_space.ranks: must be a list, but got 4; write [4]"),
        ({"search_space": {"bits": []}}, "search_space.bits: must have at least one value, but got []"),
        ({"objectives": "loss"}, "objectives: must be a list, but got 'loss'; write [loss]"),
        ({"calibration": {"steps": 1.5}}, "calibration.steps: must be a whole number, but got 1.5"),
        ({"calibration": {"learning_rate": "x"}}, "calibration.learning_rate: must be a number, but got 'x'"),
        ({"model": {"id": 3}}, "model.id: must be a text, but got 3"),
        ({"model": {"id": "x", "trust_remote_code": "maybe"}}, "must be true or false, but got 'maybe'"),
        ({"name": "a b"}, "name: must be letters, digits, '.', '_' and '-', but got 'a b'"),
        ({"device": "gpu"}, "device: must be auto, cpu, mps, cuda or cuda:0, but got 'gpu'"),
        (
            {"task": {"type": "sequence-classification", "data": {"hub": "x"}, "labels": [1.5, 2]}},
            "task.labels: must be texts or whole numbers, but got [1.5, 2]",
        ),
        (
            {"task": {"type": "causal-lm", "data": {"files": {"trian": "x"}}}},
            "must be 'train', 'validation' or 'test', but got 'trian'; did you mean 'train'?",
        ),
        ({"lora": {"variant": "lorra"}}, "lora.variant must be 'lora', 'rslora', 'dora'"),
        ({"search_space": {"formats": ["nf5"]}}, "or 'q8_0', but got 'nf5'; did you mean 'nf4'?"),
        ({"search_space": {"enqueue": ["unifrom"]}}, "but got 'unifrom'; did you mean 'uniform'?"),
        ({"search_space": {"enqueue": ["adalora"]}}, "search_space.enqueue.0 must be 'uniform', "),
    ],
)
def test_values_from_python_are_answered_in_the_same_words(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        study_from({"name": "tiny", **yaml.safe_load(VALID), **changes})
    found = str(caught.value)
    assert told in found
    assert "Input should" not in found
    assert "\n" not in found


@pytest.mark.parametrize(
    "text",
    [
        VALID + "description: 2024-13-45\n",
        VALID + "description: &a [*a]\n",
        VALID + "? [a]\n: b\n",
        VALID + "? {a: b}\n: c\n",
        VALID + "description: 'a\0b'\n",
        VALID.replace("some/model", '"./a\\0b"'),
        VALID.replace("some/model", "~nobody-of-this-name/model"),
    ],
    ids=["date", "endless", "list key", "mapping key", "control character", "null in path", "no home"],
)
def test_odd_yaml_is_refused_like_any_mistake(tmp_path: Path, text: str) -> None:
    assert message(tmp_path, text)


def test_the_first_of_several_mistakes_is_named(tmp_path: Path) -> None:
    text = VALID.replace("id:", "ident:") + "calibration:\n  steps: 0\n"
    assert message(tmp_path, text).startswith("1: the key 'model.id' is required")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError, match=r"nothing\.yaml: cannot be read \(No such file"):
        read_study(tmp_path / "nothing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(StudyFileError, match=r"binary\.yaml: cannot be read \("):
        read_study(tmp_path / "binary.yaml")


def test_relative_paths_start_at_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "studies" / "one"
    folder.mkdir(parents=True)
    text = VALID.replace("some/model", "../model").replace(
        "package: json", "files: {train: data/a.txt, test: /abs/b.txt}"
    )
    write(folder, text)
    monkeypatch.chdir(tmp_path)
    config = read_study(Path("studies/one/tiny.yaml"))
    assert config.model.id == str(tmp_path / "studies" / "model")
    assert config.task.data.files == {"train": str(folder / "data" / "a.txt"), "test": "/abs/b.txt"}
    assert read_study(folder / "tiny.yaml").digest == config.digest


def test_a_hub_id_is_no_path(tmp_path: Path) -> None:
    assert read_study(write(tmp_path, VALID)).model.id == "some/model"


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    config = read_study(write(tmp_path, VALID.replace("some/model", "~/model")))
    assert config.model.id == "/home/someone/model"


def test_a_study_survives_json() -> None:
    config = from_values(search_space={"overrides": [{"group": "*.mlp", "bits": [16, 4]}]})
    again = StudyConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert again.digest == config.digest
