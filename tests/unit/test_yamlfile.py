"""YAML and JSON of users; every other text is refused at once, in one line."""

import json
import math
import os
import pickle
import random
import time
from pathlib import Path

import pytest
import yaml

from featurestore import yamlfile
from featurestore.files import UnusableFileError
from featurestore.yamlfile import MOST_BYTES, YamlError, parse_yaml, read_yaml

MB = 1_000_000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("[true, False, null]", [True, False, None]),
        ("[1, -2, +3, 0x10, 1_000, 0]", [1, -2, 3, 16, 1000, 0]),
        ("[1.5, .5, 1., 1e-10, -2.5E+3, 1.0e3]", [1.5, 0.5, 1.0, 1e-10, -2500.0, 1000.0]),
        ("[.inf, -.inf]", [math.inf, -math.inf]),
        ("['yes', \"1\", '~', yesterday]", ["yes", "1", "~", "yesterday"]),
        # What YAML 1.1 takes for dates, times and numbers to the base 60.
        ("[2020-01-01, 2001-12-14t21:59:43Z, 1:30, 12:30:45]",) * 2,
        ("{1: a, true: b, ~: c}", {"1": "a", "true": "b", "~": "c"}),
        ("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: [*x, *x]",) * 2,
        ("- &a 1\n- &a 2\n- *a", [1, 2, 2]),
        ("a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
        ('{"a": 1e-10, "b": ["\\u2028\\/", null]}', {"a": 1e-10, "b": ["\u2028/", None]}),
        ("ключ: значение 🎵", {"ключ": "значение 🎵"}),
    ],
)
def test_a_text_means_what_it_says(text: str, value: object) -> None:
    if value == text and "&x" in text:
        value = {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}, "z": [{"a": 1, "b": 2}] * 2}
    elif value == text:
        value = text.strip("[]").split(", ")
    assert parse_yaml(text) == value


def test_an_exponent_alone_makes_a_number_as_in_json() -> None:
    assert parse_yaml("[1e-3, 1.0e-3, 10, 0.5]") == [0.001, 0.001, 10, 0.5]


BOMBS = {
    "lists": "[" * MB,
    "block lists": "- " * (MB // 2),
    "mappings": "{a: " * (MB // 4),
    "block mappings": "".join(" " * i + "a:\n" for i in range(1400)),
    "questions": "? " * (MB // 2),
    "laughs": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}' if i else '*a'] * 9)}]\n" for i in range(12)),
    "merged laughs": "a: &a {x: 1}\n" + "".join(f"b{i}: {{<<: *a}}\n" for i in range(30_000)),
    "aliases": "- &a x\n" + "- *a\n" * 40_000,
    "values": "[" + "1," * (MB // 2) + "]",
    "anchors": "".join(f"- &a{i} 1\n" for i in range(MB // 10)),
    "digits": "a: " + "9" * 6000,
    "negative digits": "a: -" + "9" * 6000,
    "float digits": "a: 1." + "9" * 6000,
    "hexadecimal digits": "a: 0x" + "f" * 6000,
    "exponent": "a: 1e999",
    "exponent digits": "a: 1e" + "9" * 6000,
    "octal": "a: 010",
    "word": "a: yes",
    "colons": "a: " * (MB // 3),
    "documents": "---\n" * (MB // 4),
    "two documents": "--- a\n--- b",
    "tag": "a: !!python/object/apply:os.system [ls]",
    "set": "!!set {a, b}",
    "own tag": "!x 3",
    "timestamp": "!!timestamp 2020-01-01",
    "binary": "!!binary aGVsbG8=",
    "repeated": "a: 1\nb: 2\na: 3",
    "repeated inside": "a: [{b: {c: 1, 'c': 2}}]",
    "merged twice": "a: &a {x: 1}\nb: &b {x: 2}\nc:\n  <<: *a\n  <<: *b",
    "itself": "&a [*a]",
    "absent anchor": "a: *b",
    "list as a name": "? [a]\n: 1",
    "merge of a list": "a: {<<: [1]}",
    "quote": '"' + "a\n" * (MB // 2),
    "tab": "a:\n\t- 1",
    "nul": "a\0b",
    "bell": "a: \x07",
    "surrogate": "a: \ud800",
    "directive": "%YAML 9.9\n--- a",
}


@pytest.mark.parametrize("name", BOMBS)
def test_every_refusal_is_one_line_within_a_second_of_a_core(name: str, tmp_path: Path) -> None:
    text = BOMBS[name]
    started = time.process_time()
    with pytest.raises(YamlError) as error:
        parse_yaml(text)
    assert time.process_time() - started < 1
    message = str(error.value)
    assert message.isprintable()
    assert len(message) < 200
    if name not in ("lists",) and len(text) <= MOST_BYTES and text.isprintable():
        assert message.startswith("line ")
    assert str(pickle.loads(pickle.dumps(error.value))) == message  # noqa: S301
    path = tmp_path / "bomb.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises((YamlError, UnusableFileError)):
        read_yaml(path)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("char", "a\"'-:?[]{}&*!|>%@`#, \n\t\\0~.<=")
def test_a_long_row_of_any_sign_ends_soon(char: str) -> None:
    for text in (char * MOST_BYTES, (char + " ") * (MOST_BYTES // 2), (char + "\n ") * 80_000):
        started = time.process_time()
        try:
            parse_yaml(text)
        except YamlError as error:
            assert str(error).isprintable()  # noqa: PT017
        assert time.process_time() - started < 1


def test_any_text_is_taken_or_refused_and_json_means_the_same() -> None:
    rng = random.Random(0)  # noqa: S311
    pieces = [*"[]{}:,-?&*!|>'\"%@`#\n \t", "a", "1", "a: ", "- ", "<<", "~", "é", "\x1b", "1e9"]
    for _ in range(3000):
        text = "".join(rng.choices(pieces, k=rng.randrange(1, 12)))
        try:
            parse_yaml(text)
        except YamlError as error:
            assert str(error).isprintable()  # noqa: PT017
    for number in (0, -1, 1e-300, 1.7976931348623157e308, 2**63, 0.1 + 0.2, 5e-324):
        assert parse_yaml(json.dumps([number])) == [number]


def test_a_file_may_begin_with_the_mark_of_an_editor_and_says_which_byte_is_no_utf8(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read_yaml(path) == {"a": 1, "b": 2}
    path.write_bytes(b"a: 1\nb: \xe4\n")
    with pytest.raises(YamlError, match="line 2: the byte 0xe4 is not UTF-8"):
        read_yaml(path)


def test_a_file_may_be_a_link_but_no_pipe_device_or_endless_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1")
    (tmp_path / "link").symlink_to(path)
    assert read_yaml(tmp_path / "link") == {"a": 1}
    (tmp_path / "device").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(50 << 30)
    for name in ("device", "pipe", "sparse", "."):
        with pytest.raises(UnusableFileError):
            read_yaml(tmp_path / name)


@pytest.mark.slow
def test_without_libyaml_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamlfile, "_LOADER", yaml.SafeLoader)
    for text in BOMBS.values():
        with pytest.raises(YamlError):
            parse_yaml(text)
    text = "x: &x {a: 1, b: 'yes'}\ny: {<<: *x, b: 3}"
    assert parse_yaml(text) == {"x": {"a": 1, "b": "yes"}, "y": {"a": 1, "b": 3}}
