"""Every text becomes harmless for its output, and stays recognisable."""

import csv
import io
import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import UnknownNameError
from featurestore.text import (
    csv_cell,
    csv_text,
    did_you_mean,
    from_json_text,
    json_text,
    markdown,
    markdown_code,
    mask_url,
    paragraphs,
    plot_text,
    printable,
    quantity,
    shorten,
)
from tests.hostile import NAMES

ANY = st.text(st.characters()) | st.text("\\xud9e8n'=\"-+@\x1b\udce9\n\r,a0 ")


@given(ANY)
def test_no_text_leaves_one_line_or_moves_the_cursor(text: str) -> None:
    line = printable(text)
    assert not {unicodedata.category(c) for c in line} & {"Cc", "Cs", "Zl", "Zp"}
    assert not re.search("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]", line)
    line.encode()
    assert printable(line) == line


@pytest.mark.parametrize(
    "text",
    [
        "Hund",
        "Äöü ß",
        "犬の声",
        "🐶 👩\u200d🚀 ❤️ 🏳️\u200d🌈",
        "می\u200cخواهم",
        "e\u0301",
        "[red]x[/]",
        "a\\b",
    ],
)
def test_ordinary_unicode_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\x1b]0;x\a", r"\x1b]0;x\x07"),
        ("a\nb\r\tc\0", r"a\nb\r\tc\x00"),
        ("caf\udce9", r"caf\udce9"),
        ("\x9b31m", r"\x9b31m"),
        ("gpj\u202ewav", r"gpj\u202ewav"),
        ("a\u200bb\u2028c\ufeff", r"a\u200bb\u2028c\ufeff"),
        ("a\u200db", r"a\u200db"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_cannot_be_seen_becomes_an_escape(text: str, line: str) -> None:
    assert printable(text) == line


def test_lines_of_our_own_stay_lines() -> None:
    assert paragraphs("one\x1b\ntwo\r") == "one\\x1b\ntwo\\r"


@given(ANY, st.integers(2, 40))
def test_a_text_is_shortened_to_both_of_its_ends(text: str, most: int) -> None:
    short = shorten(text, most)
    assert len(short) <= most
    assert short == text or (short[0] == text[0] and "…" in short)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("R1/mel", "R1/mel"),
        ("-1.20 ± 0.30", "-1.20 ± 0.30"),
        ("freq_mask 0.2 (held out), 95 % CI", "freq_mask 0.2 (held out), 95 % CI"),
        ("a|b", r"a\|b"),
        ("`x`", r"\`x\`"),
        ("[red]x[/red](y)", r"\[red\]x\[/red\](y)"),
        ("<script>", "&lt;script&gt;"),
        ("&lt; & b", "&amp;lt; & b"),
        ("__init__ *a* ~~b~~", r"\_\_init\_\_ \*a\* \~\~b\~\~"),
        ("$x_1$", r"\$x_1\$"),
        ("a\\|b", r"a\\\|b"),
        ("# a", r"\# a"),
        ("- a", r"\- a"),
        ("12. a", r"12\. a"),
        ("---", r"--\-"),
        ("  a", "&nbsp;&nbsp;a"),
        ("https://x.org/ @me", r"https\://x.org/ &#64;me"),
        ("a\nb", r"a\\nb"),
    ],
)
def test_markdown_shows_the_text_itself(text: str, shown: str) -> None:
    assert markdown(text) == shown


@given(ANY)
def test_a_code_span_of_markdown_ends_where_the_text_does(text: str) -> None:
    code = markdown_code(text)
    fence = re.match("`+", code)
    assert fence
    assert code.endswith(fence[0])
    inside = code[len(fence[0]) : -len(fence[0])]
    assert fence[0] not in re.findall("`+", inside)


@given(ANY)
def test_a_cell_of_csv_gives_its_text_back_and_is_no_formula(text: str) -> None:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow([csv_cell(text), "x"])
    file.getvalue().encode()
    assert file.getvalue().count("\n") == 1
    (row,) = csv.reader(io.StringIO(file.getvalue()), strict=True)
    assert csv_text(row[0]) == text
    assert not re.match(r"[=@\t\r]", row[0])


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("-dash.wav", "'-dash.wav"),
        ("-1.5e3", "-1.5e3"),
        ("'=x", "''=x"),
        ("fold1/dog/a.wav", "fold1/dog/a.wav"),
        ("caf\udce9", r"caf\udce9"),
        (r"caf\udce9", r"caf\\udce9"),
        ("a\\b\n", "a\\\\b\\n"),
        ("a\\b", "a\\b"),
    ],
)
def test_cells_of_csv_by_example(text: str, cell: str) -> None:
    assert csv_cell(text) == cell


@given(ANY)
def test_any_text_survives_json_that_a_strict_reader_accepts(text: str) -> None:
    document = json.dumps(json_text(text), ensure_ascii=False).encode()
    assert from_json_text(json.loads(document)) == text


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_picture_shows_every_name_letter_by_letter(name: str) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    title = figure.suptitle(plot_text(name))
    shown, mathematics = title._preprocess_math(title.get_text())
    assert not mathematics
    assert shown == printable(name)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://u:secret@h:50/x?tok=1: refused", "http://***@h:50/x?***: refused"),
        ("see 's3://k:s/e@cret@h/b', ok", "see 's3://***@h/b', ok"),
        ("https://secret@h/x", "https://***@h/x"),
        ("http:/u:secret@h", "http:/***@h"),
        ("postgresql+psycopg://a:secret?c@h/d", "postgresql+psycopg://***@h/d"),
        ("url: /api?key=secret (Caused by X)", "url: /api?*** (Caused by X)"),
        ("(https://h/x?sig=secret)", "(https://h/x?***)"),
        ("a http://u:secret@h, b http://v:secret@i", "a http://***@h, b http://***@i"),
        ("https://host:8080/path@v1", "https://host:8080/path@v1"),
        ("http://[::1]:80/x@y", "http://[::1]:80/x@y"),
        ("tcp://h:8786 of me@home", "tcp://h:8786 of me@home"),
        ("C:/a@b?c", "C:/a@b?c"),
    ],
)
def test_addresses_are_shown_without_their_secrets(text: str, masked: str) -> None:
    assert mask_url(text) == masked
    assert mask_url(masked) == masked


def test_a_password_is_masked_wherever_a_library_repeats_it() -> None:
    address = "postgresql://me:s%20ecret@h/d?sslkey=abcdef"
    error = f"{address}: password 's ecret' (s%20ecret) or abcdef is wrong"
    assert mask_url(error, secrets_of=address) == (
        "postgresql://***@h/d?***: password '***' (***) or *** is wrong"
    )


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "clip", "0 clips"),
        (1, "clip", "1 clip"),
        (2000, "clip", "2,000 clips"),
        (1, "class", "1 class"),
        (2, "class", "2 classes"),
        (3, "directory", "3 directories"),
        (2, "array", "2 arrays"),
        (2, "MPEG frame", "2 MPEG frames"),
    ],
)
def test_a_number_agrees_with_its_noun(number: int, noun: str, text: str) -> None:
    assert quantity(number, noun) == text


def test_a_name_that_is_probably_meant_is_offered_and_no_other() -> None:
    assert did_you_mean("R1/mell", ["R1/mel", "R3/full"]) == "; did you mean 'R1/mel'?"
    assert did_you_mean("x", ["R1/mel", "R3/full"]) == ""
    error = UnknownNameError("array", "R1/mell", ["R1/mel", "R3/full"])
    assert "it has: R1/mel, R3/full; did you mean 'R1/mel'?" in str(error)
