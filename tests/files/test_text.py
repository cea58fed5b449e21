"""Text of users: encodings, kinds of tables, words for "not known"."""

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import DataError, FormatError
from hilum.files.text import (
    is_known,
    name_key,
    not_known,
    read_json,
    read_table,
    read_text,
    with_one_spelling,
)

UMLAUTS = "case;label\r\nMüller;größer\r\n"


def as_text(rows, *, delimiter=",", eol="\n", quoting=csv.QUOTE_MINIMAL):
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator=eol, quoting=quoting).writerows(rows)
    return stream.getvalue()


@pytest.mark.parametrize(
    "word",
    [
        *(
            "",
            "  ",
            "NA",
            "na",
            "N/A",
            "n/a",
            "n.a.",
            "<NA>",
            "#N/A",
            "nan",
            "NaN",
            "-nan",
            "NaT",
            "None",
            "null",
            "NULL",
            "?",
        ),
        *(
            "??",
            "-",
            "--",
            "–",
            "—",
            ".",
            "unknown",
            "Unknown ",
            "(unknown)",
            "missing",
            "not known",
            "not available",
            "'--",
        ),
        *("[Not Available]", "not_reported", "-1.#IND", "#VALUE!", "#DIV/0!", "\N{NO-BREAK SPACE}"),
    ],
)
def test_words_for_not_known(word):
    assert not is_known(word)


@pytest.mark.parametrize(
    "word",
    ["0", "-1", "999", "no", "normal", "No Finding", "+", "false", "x", "NaCl", "unk", "Nan Lee"],
)
def test_words_that_are_values(word):
    assert is_known(word)


def test_not_known_counts_the_words():
    assert not_known(["a", "NA", "", "NA "]) == "3 of 4 not known ('NA' 2, blank 1)"
    assert not_known(["a", "b"]) == ""


def test_names_alike():
    assert name_key(" Ill  Person") == name_key("ill person")
    assert name_key("1.0") == name_key("01") == name_key("1") != name_key("1.5")


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32"],
    ids=lambda name: name,
)
def test_text_in_usual_encodings(tmp_path, encoding):
    file = tmp_path / "t.csv"
    file.write_bytes(UMLAUTS.encode(encoding))
    assert read_text(file) == UMLAUTS
    table = read_table(file)
    assert table.rows == ({"case": "Müller", "label": "größer"},)
    assert any("Windows-1252" in note for note in table.notes) == (encoding == "cp1252")


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x8d\x90",
        b"PK\x03\x04\0\0\0\x08",
        b"a,b\n\0\0\0\0,\xff",
        b"case,image\nc1,i1.png\n" * 3 + b"\0",
    ],
)
def test_other_bytes_are_refused(tmp_path, data):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(FormatError, match="is no text in an encoding that hilum knows"):
        read_table(tmp_path / "t.csv")
    with pytest.raises(FormatError, match="cannot be read"):
        read_text(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_json_in_usual_encodings(tmp_path, encoding):
    (tmp_path / "labels.json").write_bytes(
        json.dumps({"1": "Gefäß"}, ensure_ascii=False).encode(encoding)
    )
    assert read_json(tmp_path / "labels.json") == {"1": "Gefäß"}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"liver": 1, "liver": 2}', "'liver' stands there twice"),
    ],
)
def test_json_that_is_refused(tmp_path, text, match):
    (tmp_path / "labels.json").write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match=match):
        read_json(tmp_path / "labels.json")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"", "an empty file"),
        (b"<html>", "a web page"),
    ],
)
def test_text_that_was_not_fetched(tmp_path, data, match):
    (tmp_path / "cases.csv").write_bytes(data)
    for read in (read_text, read_json, read_table):
        with pytest.raises(FormatError, match=match):
            read(tmp_path / "cases.csv")


def test_words_of_a_column_in_one_spelling():
    sexes, files = (
        ("M", "m", "F", "M", "NA", "f"),
        ("a.png", "A.png", "b.png", "c.png", "d.png", "e.png"),
    )
    rows, notes = with_one_spelling(
        [{"sex": sex, "file": file} for sex, file in zip(sexes, files, strict=True)]
    )
    assert [row["sex"] for row in rows] == ["M", "M", "F", "M", "NA", "F"]
    assert [row["file"] for row in rows] == [*files]
    assert notes == (
        "sex in several spellings: 'M' 2, 'm' 1 count as 'M'; 'F' 1, 'f' 1 count as 'F'",
    )


def test_a_number_of_very_many_digits():
    assert name_key("1" * 5000) == "1" * 5000


WRITINGS = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from(",;\t"),
        "eol": st.sampled_from(["\n", "\r\n", "\r"]),
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    }
)
CELLS = st.text("abäßÖ ,;\t'\"\n.", max_size=6).map(
    str.strip
)  # none of these are UTF-8 in Windows-1252


@settings(max_examples=200, deadline=None)
@given(
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be"]),
    writing=WRITINGS,
    named=st.booleans(),
    empty=st.integers(0, 3),
    body=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=5),
)
def test_one_table_however_it_is_written(tmp_path_factory, encoding, writing, named, empty, body):
    header = ("case", "patient", "label", "note")
    eol = writing["eol"]
    rows = [
        (f"c{number}", *(cell.replace("\n", eol) for cell in cells))
        for number, cells in enumerate(body)
    ]
    delimiter = writing["delimiter"]
    text = (
        (f"sep={delimiter}{eol}" if named else "")
        + as_text([header, *rows], **writing)
        + (delimiter * 3 + eol) * empty
    )
    file = tmp_path_factory.mktemp("t") / "cases.csv"
    file.write_bytes(text.encode(encoding))
    table = read_table(file)
    assert table.header == header
    assert list(table.rows) == [dict(zip(header, row, strict=True)) for row in rows]


def written(tmp_path, text):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8", newline="")
    return read_table(tmp_path / "t.csv")


def test_line_of_excel_is_no_row(tmp_path):
    table = written(tmp_path, "sep=;\r\na;b\r\n1,5;x\r\n2;y\r\n")
    assert table.rows == ({"a": "1.5", "b": "x"}, {"a": "2", "b": "y"})
    assert table.lines == (3, 4)
    assert table.notes == ("t.csv: the commas in the numbers of a are decimal commas",)


def test_a_header_with_blanks_in_quotation_marks(tmp_path):
    assert written(tmp_path, '"case" , "label"\n"c 1" , "ill"\n').rows == (
        {"case": "c 1", "label": "ill"},
    )


@pytest.mark.parametrize("text", [",case\n0,c1\n1,c2\n", "case\n1,c1\n2,c2\n"], ids=["pandas", "R"])
def test_an_index_without_a_name_is_left_out(tmp_path, text):
    table = written(tmp_path, text)
    assert table.rows == ({"case": "c1"}, {"case": "c2"})
    assert "a column without a name (column 1) is left out" in table.notes[0]


@pytest.mark.parametrize(
    "text",
    ["a|b\n007|x\n", 'a,b\n="007",x\n', 'a,b\n"=""007""",x\n'],
    ids=["bars", "excel", "quoted"],
)
def test_other_ways_to_write_a_cell(tmp_path, text):
    assert written(tmp_path, text).rows == ({"a": "007", "b": "x"},)


def test_rows_that_end_early_or_hold_nothing(tmp_path):
    table = written(tmp_path, "\n\ncase,label,\nc1,ill,\nc2\n,,,,\n , \n")
    assert table.rows == ({"case": "c1", "label": "ill"}, {"case": "c2", "label": ""})
    assert table.notes == (
        "t.csv: 1 rows end early (the first in line 5): the cells they lack are not known",
    )


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("case,label,Label \nc1,a,b\n", "columns of one name: 'label', 'Label'"),
        ("case,note\nc1,a, b\nc2,x\n", r"line 2: 3 cells below 2 columns \(1 rows"),
        ("case,note\nc1,Lee, Ann\nc2,Lee, Bob\n", r"line 2: 3 cells below 2 columns \(2 rows"),
        ('case,note\nc1,"a\nc2,b\n', "a quotation mark that is opened and never closed"),
        ("\n\n", "is empty"),
        (f"case\n{'x' * 200_000}\n", "cannot be read as a table: field larger"),
    ],
)
def test_tables_that_are_refused(tmp_path, text, match):
    with pytest.raises(DataError, match=match):
        written(tmp_path, text)
