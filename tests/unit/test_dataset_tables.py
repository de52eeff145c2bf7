"""Mistakes in a table, and that the message says where."""

import os
from pathlib import Path

import pytest

from featurestore.datasets.clips import CheckedClips, Columns, check_clips, name_classes
from featurestore.datasets.table import read_table
from featurestore.errors import DatasetError

HEADER = "file,fold,number,name,id\n"
GOOD = HEADER + "a.wav,1,0,cat,x\nb/c.wav,2,1,dog,y\n"
COLUMNS = Columns(
    file="file",
    fold="fold",
    class_name="name",
    class_id="number",
    clip_id="id",
    directory="f{fold}",
)


def check(path: Path, text: str | bytes, columns: Columns = COLUMNS) -> CheckedClips:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return check_clips(read_table(path, columns.needed), columns)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "table.csv"


def refusal(table: Path, text: str | bytes) -> str:
    with pytest.raises(DatasetError) as caught:
        check(table, text)
    message = str(caught.value)
    assert message.startswith(str(table))
    assert "\n" not in message
    return message


def test_a_good_table_gives_a_clip_a_row(table: Path) -> None:
    checked = check(table, GOOD)
    assert [(c.clip_id, c.path, c.fold, c.class_id) for c in checked.clips] == [
        ("x", "f1/a.wav", 1, 0),
        ("y", "f2/b/c.wav", 2, 1),
    ]
    assert checked.names == {0: "cat", 1: "dog"}


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\n\n"),
        GOOD.replace(",", " , "),
        GOOD.replace("cat", '"cat"'),
        GOOD + ",,,,\n",
        GOOD.replace("a.wav", "./a.wav").replace("b/c", "b//c"),
        GOOD.rstrip(),
    ],
    ids=["bom", "crlf", "blank", "spaces", "quotes", "empty-row", "dots", "no-last-newline"],
)
def test_spelling_that_means_the_same_reads_the_same(table: Path, text: str) -> None:
    assert check(table, text) == check(table, GOOD)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("c.wav,one,0,cat,z", "line 4: fold is 'one', expected a whole number from 0"),
        ("c.wav,,0,cat,z", "fold is ''"),
        ("c.wav,-1,0,cat,z", "fold is '-1'"),
        ("c.wav,1.0,0,cat,z", "fold is '1.0'"),
        ("c.wav,²,0,cat,z", "fold is '²'"),
        ("c.wav,1_0,0,cat,z", "fold is '1_0'"),
        ("c.wav,12345678901,0,cat,z", "fold is '12345678901'"),
        ("c.wav,1,zero,cat,z", "line 4: number is 'zero', expected a whole number from 0"),
        ("c.wav,1,0,,z", "name is empty"),
        (",1,0,cat,z", "file is empty"),
        ("c.wav,1,0,cat,", "id is empty"),
        ("c.wav,1,0,cat,x", "line 4: id 'x' is on line 2 too"),
        ("a.wav,1,0,cat,z", "line 4: file 'a.wav' is on line 2 too"),
        ("b//c.wav,1,0,cat,z", "file 'b//c.wav' is on line 3 too"),
        ("/etc/a.wav,1,0,cat,z", "file is '/etc/a.wav', an absolute path"),
        ("C:/a.wav,1,0,cat,z", "file is 'C:/a.wav', an absolute path"),
        ("../a.wav,1,0,cat,z", "which leaves the dataset's root"),
        ("b/../../a.wav,1,0,cat,z", "which leaves the dataset's root"),
        ("b\\c.wav,1,0,cat,z", "with a backslash"),
        ("..\\a.wav,1,0,cat,z", "with a backslash"),
        ("c\0.wav,1,0,cat,z", "with a control character"),
        ("c.wav,1,0,dog,z", "line 4: number '0' has name 'dog', but 'cat' on line 2"),
        ("c.wav,1,2,cat,z", "line 4: name 'cat' has number '2', but '0' on line 2"),
        ("c.wav,1,0,cat", "line 4: 4 cells where the header has 5"),
        ("c.wav,1,0,cat,z,more", "line 4: 6 cells where the header has 5"),
        ('c.wav,1,0,"cat,z', "line 4: not a comma-separated table"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(table: Path, row: str, said: str) -> None:
    assert said in refusal(table, GOOD + row + "\n")


def test_several_problems_are_told_together_and_counted(table: Path) -> None:
    rows = [f"c{number}.wav,bad,0,cat,z{number}\n" for number in range(9)]
    message = refusal(table, GOOD + "".join(rows) + "/x.wav,1,0,cat,x\n")
    assert "11 problems" in message
    assert [f"line {line}:" in message for line in (4, 5, 6, 7, 8, 9)] == [True] * 5 + [False]
    assert "and 6 more" in message


def test_one_problem_is_not_several(table: Path) -> None:
    message = refusal(table, GOOD + "c.wav,bad,0,cat,z\n")
    assert "1 problem in the table" in message
    assert "more" not in message


def test_a_line_is_the_one_in_the_file_whatever_is_above_it(table: Path) -> None:
    text = HEADER + '\na.wav,1,0,"a cat\nthat purrs",x\n\nb.wav,bad,1,dog,y\n'
    message = refusal(table, text)
    assert "line 3: name is 'a cat\\nthat purrs', with a control character" in message
    assert "line 6: fold is 'bad'" in message


def test_a_long_cell_is_shown_in_part(table: Path) -> None:
    assert len(refusal(table, GOOD + f"c.wav,{'9' * 5000},0,cat,z\n")) < 400


def test_missing_columns_are_named_with_those_there(table: Path) -> None:
    message = refusal(table, GOOD.replace("fold", "Fold").replace("number", "n"))
    assert "line 1: the table has no column fold, number" in message
    assert "it has: 'file', 'Fold', 'n', 'name', 'id'" in message


def test_another_separator_shows_as_one_column(table: Path) -> None:
    assert "'file;fold;number;name;id'" in refusal(table, GOOD.replace(",", ";"))


def test_a_column_that_is_there_twice_is_refused(table: Path) -> None:
    assert "the column fold is there twice" in refusal(table, GOOD.replace("fold,", "fold,fold,"))


def test_an_empty_table_is_refused(table: Path) -> None:
    assert "the table is empty" in refusal(table, "")
    assert "the table is empty" in refusal(table, "\n\n")
    assert "a header and no rows" in refusal(table, HEADER)


def test_text_that_is_not_utf8_is_refused_with_its_line(table: Path) -> None:
    message = refusal(table, GOOD.replace("dog", "chaîne").encode("latin-1"))
    assert "line 3: expected UTF-8 text, got the byte 0xee at offset" in message
    assert "expected UTF-8" in refusal(table, GOOD.encode("utf-16"))


def test_a_cell_beyond_the_csv_limit_is_refused(table: Path) -> None:
    assert "field larger than" in refusal(table, GOOD + "x" * 200_000 + ",1,0,cat,z\n")


def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"absent\.csv: cannot read the table"):
        read_table(tmp_path / "absent.csv", ())
    with pytest.raises(DatasetError, match="cannot read the table"):
        read_table(tmp_path, ())


def test_a_table_that_is_a_pipe_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DatasetError, match="not a regular file"):
        read_table(tmp_path / "pipe.csv", ())


def test_without_numbers_the_sorted_names_number_the_classes(table: Path) -> None:
    columns = Columns(file="file", fold="fold", class_name="name")
    checked = check(table, "file,fold,name\nb.wav,1,owl\na.wav,1,cat\n", columns)
    assert checked.names == {0: "cat", 1: "owl"}
    assert [(clip.clip_id, clip.class_id) for clip in checked.clips] == [("b.wav", 1), ("a.wav", 0)]
    assert all(clip.source == "" for clip in checked.clips)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({0: "cat", 1: "dog"}, ("cat", "dog")),
        ({2: "cow"}, ("cat", "dog", "cow")),
        ({1: "cat", 0: "cow"}, ("cow", "cat")),
    ],
    ids=["own", "part-of-official", "own-against-official"],
)
def test_official_names_serve_where_the_table_agrees(
    names: dict[int, str], expected: tuple[str, ...]
) -> None:
    official = ("cat", "dog", "cow") if 0 not in names or names[0] == "cow" else ()
    assert name_classes(Path("t.csv"), names, official) == expected


def test_a_gap_in_unknown_classes_is_refused() -> None:
    with pytest.raises(DatasetError, match="numbered up to 999999999, but none is 1"):
        name_classes(Path("t.csv"), {0: "cat", 999_999_999: "dog"})
