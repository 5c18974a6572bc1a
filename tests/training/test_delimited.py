"""Comma and tab separated files: every line is a row, or is said to be none."""

import bz2
import csv
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

from fixtures.rows import TEXTS, load, refused
from jointsearch.config.data import CsvSettings, DataSettings
from jointsearch.config.problems import study_from
from jointsearch.errors import StudyFileError
from jointsearch.training.data import NUMBER
from jointsearch.training.data.delimited import _File


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


def table(path: Path, content: str | bytes, **settings: Any) -> Any:
    """The training rows, none of which is set aside, and the notes."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    data: dict[str, Any] = {"files": {"train": str(path)}, "max_left_out": 0.9}
    rows = load(data | ({"csv": settings} if settings else {}), whole=False)
    return rows.splits["train"], rows


QUOTES = """text\tlabel
"I came, he said.\t1
Bad film.\t0
Good film.\t1
He "left" at "noon"\t0
the end"\t1
Nice.\t1
"""


def test_quote_marks_of_tsv_are_part_of_the_texts(tmp_path: Path) -> None:
    found, rows = table(tmp_path / "a.tsv", QUOTES)
    lines = QUOTES.splitlines()[1:]
    assert found["text"][:] == [line.split("\t")[0] for line in lines]
    assert found["label"][:] == [1, 0, 1, 0, 1, 1]
    assert found[NUMBER][:] == [2, 3, 4, 5, 6, 7]
    assert rows.notes == []


def test_a_quote_mark_that_is_not_closed_costs_its_own_line(tmp_path: Path) -> None:
    content = 'text,label\n"never closed,1\nb,0\n"c" d,1\n"e, ""f""",0\ng,1\n'
    found, rows = table(tmp_path / "a.csv", content)
    assert found["text"][:] == ["b", 'e, "f"', "g"]
    assert found[NUMBER][:] == [3, 5, 6]
    rows.check_faults()
    fault = "has a quote mark that is not closed, or text after one that is"
    assert rows.notes == [
        f"train: 2 of 5 rows are left out: line 2 of a.csv {fault}, line 4 {fault}",
    ]


def test_quote_marks_that_may_have_swallowed_rows_are_said(tmp_path: Path) -> None:
    content = 'text,label\n"a,1\nb,0\nc,1\nd",0\n"first\nsecond, third\nfourth",1\n'  # the labels are numbers
    found, rows = table(tmp_path / "a.csv", content)
    assert found["text"][:] == ["a,1\nb,0\nc,1\nd", "first\nsecond, third\nfourth"]
    assert rows.notes == [
        "train: a.csv: quote marks make rows of several lines that look like rows themselves "
        "(1, first in line 2); if they are, set csv: {quoting: false}"
    ]
    plain, rows = table(tmp_path / "a.csv", content, quoting=False)
    assert plain["text"][:4] == ['"a', "b", "c", 'd"']


def test_tsv_that_a_writer_has_quoted(tmp_path: Path) -> None:
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter="\t", quoting=csv.QUOTE_ALL)
    writer.writerows([["text", "label"], *([text, i] for i, text in enumerate(TEXTS))])
    content = written.getvalue()
    found, rows = table(tmp_path / "a.tsv", content, quoting=True)
    assert found["text"][:] == TEXTS
    assert rows.notes == []
    kept, rows = table(tmp_path / "b.tsv", 'text\tlabel\n"a"\t1\n"b"\t0\n')
    assert kept["text"][:] == ['"a"', '"b"']
    assert rows.notes == [
        "train: b.tsv: 2 of 2 rows have values within quote marks, which are kept; "
        "if they do not belong to the texts, set csv: {quoting: true}"
    ]


@pytest.mark.parametrize("word", ["None", "NA", "null", "nan", "N/A", "NULL", "NaN", "inf", "n/a", "<NA>"])
def test_words_that_mean_nothing_elsewhere_are_texts(tmp_path: Path, word: str) -> None:
    content = f"text,label\n{word},yes\nb,{word}\n,no\nc,\n"
    found, _ = table(tmp_path / "a.csv", content)
    assert found["text"][:] == [word, "b", None, "c"]
    assert found["label"][:] == ["yes", word, "no", None]
    other, _ = table(tmp_path / "a.csv", content, na_values=[word])
    assert other["text"][:] == [None, "b", "", "c"]


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (["1", "0", "-7"], [1, 0, -7]),
        (["1", "", "3"], [1, None, 3]),
        (["1.0", "0.5", "-2.25"], [1.0, 0.5, -2.25]),
        (["18.50", "0.5"], ["18.50", "0.5"]),  # a template writes what the file has
        ([".5", "1e3"], [".5", "1e3"]),
        (["1", "2.5"], ["1", "2.5"]),
        (["+1", "2"], ["+1", "2"]),
        (["1", "a"], ["1", "a"]),
        (["007", "12"], ["007", "12"]),  # a code, not a number
        (["True", "False"], [True, False]),
        (["true", "false"], ["true", "false"]),
        (["True", "maybe"], ["True", "maybe"]),
        (["1_000", "2"], ["1_000", "2"]),
        (["１", "2"], ["１", "2"]),
        (["99999999999999999999", "1"], ["99999999999999999999", "1"]),
    ],
)
def test_types_of_columns(tmp_path: Path, values: list[str], read: list[Any]) -> None:
    found, _ = table(tmp_path / "a.csv", "text,label\n" + "".join(f"t,{value}\n" for value in values))
    assert found["label"][:] == read
    assert list(map(type, found["label"][:])) == list(map(type, read))


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_those_of_the_first_line(tmp_path: Path, separator: str) -> None:
    content = f"text{separator}label\na, b{separator}1\n"
    found, rows = table(tmp_path / "a.csv", content)
    assert found[0]["text"] == "a, b"
    assert rows.notes == [f"train: a.csv: columns are separated by {separator!r}, as in its first line"]
    named, rows = table(tmp_path / "a.csv", content, separator=separator)
    assert (named["text"][:], rows.notes) == (["a, b"], [])


def test_what_excel_writes_before_the_names_is_read(tmp_path: Path) -> None:
    found, _ = table(tmp_path / "a.csv", "sep=;\ntext;label\na, b;1\n")
    assert found[0] == {"text": "a, b", "label": 1, NUMBER: 3}


def test_lines_of_nothing_but_separators_are_no_rows(tmp_path: Path) -> None:
    found, rows = table(tmp_path / "a.csv", "text,label\na,1\n,\n   \n , \nb,0\n,,,\n")
    assert found["text"][:] == ["a", "b"]
    assert found[NUMBER][:] == [2, 6]
    rows.check_faults()
    assert rows.notes == []


def test_a_space_after_every_separator_is_no_part_of_a_value(tmp_path: Path) -> None:
    found, _ = table(tmp_path / "a.csv", 'label, text\nyes, "good, and short"\nno, bad\n')
    assert found["text"][:] == ["good, and short", "bad"]
    kept, _ = table(tmp_path / "b.csv", "label,text\nyes, good\n")
    assert kept["text"][:] == [" good"]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8-sig", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    content = "text,label\r\ngrün,1\r\n".encode(encoding)
    if encoding in ("latin-1", "cp1252"):
        (tmp_path / "a.csv").write_bytes(content)
        assert refused({"files": {"train": str(tmp_path / "a.csv")}}) == (
            "the file a.csv must be written in utf-8, but line 2 is not; "
            "name its encoding, such as csv: {encoding: latin-1}"
        )
        found, _ = table(tmp_path / "a.csv", content, encoding=encoding)
    else:  # said by the file's first bytes
        found, _ = table(tmp_path / "a.csv", content)
    assert found["text"][:] == ["grün"]


def test_files_without_a_line_of_names(tmp_path: Path) -> None:
    content = "the film is good,1\nit is bad,0\n"
    found, _ = table(tmp_path / "a.csv", content, header=["text", "label"])
    assert found["text"][:] == ["the film is good", "it is bad"]
    assert found[NUMBER][:] == [1, 2]
    (tmp_path / "a.csv").write_text(content)
    assert refused({"files": {"train": str(tmp_path / "a.csv")}}) == (
        "task.text_column must name columns of the train split (the film is good, 1), but got 'text'; "
        "if a.csv has no line of names, give them: csv: {header: [...]}"
    )
    assert "(0, 1), but got 'text'" in refused(
        {"files": {"train": str(tmp_path / "a.csv")}, "csv": {"header": False}}
    )


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    found, _ = table(tmp_path / "a.csv", "text,label,x,x\na,1,2,3\n")
    assert found[0] == {"text": "a", "label": 1, "x": 2, "x.1": 3, NUMBER: 2}
    (tmp_path / "a.csv").write_text("text,label,label\na,1,2\n")
    assert refused({"files": {"train": str(tmp_path / "a.csv")}}) == (
        "task.label_column must name one column, but a.csv has several called 'label'; rename them"
    )


def test_lines_with_too_few_or_too_many_columns(tmp_path: Path) -> None:
    content = "text,label\na,1\n\nb\nc,1,2\nd,0,,\n"
    found, rows = table(tmp_path / "a.csv", content)
    assert found["text"][:] == ["a", "d"]
    rows.check_faults()
    assert rows.notes == [
        "train: 2 of 4 rows are left out: line 4 of a.csv has 1 column instead of 2, "
        "line 5 has 3 columns instead of 2"
    ]


def zipped(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("folder/rows.csv", content)
        archive.writestr("README", "about the rows")
        archive.writestr("folder/.rows.csv.swp", "")
        archive.writestr("__MACOSX/folder/._rows.csv", "")
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.csv.gz", gzip.compress),
        ("a.csv.bz2", bz2.compress),
        ("a.csv.xz", lzma.compress),
        ("a.CSV.GZ", gzip.compress),
        ("a.CSV", bytes),
        ("a.zip", zipped),
        ("a.csv.zip", zipped),
    ],
)
def test_compressed_files(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    found, rows = table(tmp_path / name, pack(b"text,label\na,1\nb,0\n"))
    assert found["text"][:] == ["a", "b"]
    assert rows.origins["train"].name == name


def test_a_long_file_is_read_in_time_that_grows_as_its_rows_do(tmp_path: Path) -> None:
    """Work is counted, not timed: how often a line is looked at."""

    class Lines(list[str]):
        looks = 0

        def __getitem__(self, at: Any) -> Any:
            Lines.looks += 1
            return super().__getitem__(at)

        def __iter__(self) -> Any:
            raise AssertionError("all lines are walked through")

    file = _File(b"", ".csv", "a.csv", CsvSettings(separator=","))
    file.lines = Lines([f'"text {i}\nof two lines",{i}' for i in range(2000)])
    file.lines = Lines(line for text in list.__iter__(file.lines) for line in text.split("\n"))
    assert len(list(file.rows())) == 2000
    assert Lines.looks < 5 * 4000


def test_what_pandas_writes_is_read_as_it_was(tmp_path: Path) -> None:
    """Random texts with everything that quoting is for, through pandas' writer."""
    import random

    random.seed(0)
    texts = ["".join(random.choices('ab ,;"\n\t|ü', k=random.randint(1, 12))) for _ in range(500)]
    frame = pd.DataFrame({"text": [f"x{text}" for text in texts], "label": range(500)})
    frame.to_csv(tmp_path / "a.csv", index=False)
    found, rows = table(tmp_path / "a.csv", (tmp_path / "a.csv").read_bytes())
    assert found["text"][:] == frame["text"].tolist()
    assert found["label"][:] == list(range(500))
    rows.check_faults()
    assert not any("left out" in note for note in rows.notes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"separator": ""},
            "task.data.csv.separator: must be one character, such as ';' or a tab, but got ''",
        ),
        ({"separator": ", "}, "must be one character, such as ';' or a tab, but got ', '"),
        ({"encoding": "utf-9"}, "must be an encoding of Python such as utf-8 or latin-1, but got 'utf-9'"),
        ({"header": ["a", "a"]}, "must name different columns, but got ['a', 'a']"),
        ({"sep": ";"}, "unknown key 'task.data.csv.sep'"),
        ("semicolon", "must be a mapping with the keys separator, quoting, header, encoding, na_values"),
    ],
)
def test_settings_that_cannot_be(settings: Any, message: str) -> None:
    data = {"files": {"train": "a.csv"}, "csv": settings}
    with pytest.raises(StudyFileError) as caught:
        study_from({"name": "x", "model": {"id": "m"}, "task": {"type": "causal-lm", "data": data}})
    assert message in str(caught.value)


def test_csv_belongs_to_csv_files_and_tabs_can_be_named() -> None:
    with pytest.raises(ValueError, match=r"csv belongs to \.csv and \.tsv files, but the files are \.jsonl"):
        DataSettings.model_validate({"files": {"train": "a.jsonl.gz"}, "csv": {}})
    for name in ("tab", "\\t", "\t"):
        assert CsvSettings.model_validate({"separator": name}).separator == "\t"
