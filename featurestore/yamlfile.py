"""Reader of YAML and JSON files of users, bounded in size, depth and time.

Stricter than YAML 1.1: dates, times and words such as `on` are strings or refused, tags are
refused, and duplicate keys are errors.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from featurestore.files import read_regular

MOST_BYTES: Final = 256 << 10
MOST_DEPTH: Final = 20
MOST_VALUES: Final = 20_000
"""Maximum number of keys and values, counting repetitions by aliases."""
_MOST_DIGITS = 25
_MOST_SHOWN = 40

_INTEGER = re.compile(r"[-+]?(0|[1-9](_?[0-9])*)|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9](_?[0-9])*(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NOT_A_NUMBER = (".nan", ".NaN", ".NAN")
_FIXED: Final = dict.fromkeys(("", "~", "null", "Null", "NULL")) | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}
_AMBIGUOUS: Final = {
    form for word in ("yes", "no", "on", "off") for form in (word, word.title(), word.upper())
}

_Event = Any
"""Event of the parser, whose attributes differ by kind."""
_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlError(ValueError):
    """A text is not YAML, or exceeds what is accepted; the message names the line."""


def read_yaml(path: Path) -> object:
    """Read a YAML or JSON file as None, bool, int, float, str, lists, and dicts with string keys.

    Args:
        path: Path of the file.

    Raises:
        YamlError: The text is invalid; the message has one line, which begins with `line N: ` if
            the line is known.
        OSError: The file cannot be read, is not a plain file, or is larger than `MOST_BYTES`.
    """
    data = read_regular(path, MOST_BYTES, follow=True)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise YamlError(
            f"line {line}: the byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error
    return parse_yaml(text)


def parse_yaml(text: str) -> object:
    """Parse a text; see `read_yaml`.

    Args:
        text: Text of at most `MOST_BYTES` characters.

    Raises:
        YamlError: The text is not YAML, or contains something that is refused.
    """
    if len(text) > MOST_BYTES:
        raise YamlError(f"it has {len(text):,} characters, where at most {MOST_BYTES:,} make sense")
    try:
        return _Reader(yaml.parse(text, Loader=_LOADER)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise YamlError(f"{where}not YAML ({_one_line(error.problem or error.context)})") from error
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        reason = getattr(error, "reason", "") or error
        raise YamlError(f"not YAML ({_one_line(reason)})") from error


def _one_line(reason: object) -> str:
    words = " ".join(str(reason).split())
    return words if len(words) <= 2 * _MOST_SHOWN else f"{words[: 2 * _MOST_SHOWN]}…"


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…")


class _Reader:
    """Makes values of the events of a parser, and stops it at the first that is refused."""

    def __init__(self, events: Iterator[_Event]) -> None:
        self._events = events
        self._anchors: dict[str, tuple[object, int]] = {}
        self._count = 0

    def document(self) -> object:
        """Return the value of the only document; None if there is none."""
        self._next()  # the beginning of the stream
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value = self._value(self._next(), 1)
        self._next()  # the end of the document
        if not isinstance(event := self._next(), yaml.StreamEndEvent):
            raise self._error(event, "a second document begins; expected one")
        return value

    def _next(self) -> _Event:
        return next(self._events)

    def _value(self, event: _Event, depth: int) -> object:
        if isinstance(event, yaml.AliasEvent):
            return self._repeated(event)
        before = self._count
        self._add(event, 1)
        if depth > MOST_DEPTH:
            raise self._error(event, f"lists and mappings lie more than {MOST_DEPTH} deep")
        if event.tag is not None:
            raise self._error(event, f"the tag {_shown(event.tag)}; write the value without it")
        value = self._made(event, depth)
        if event.anchor is not None:  # only now: what is inside cannot repeat itself
            self._anchors[event.anchor] = value, self._count - before
        return value

    def _made(self, event: _Event, depth: int) -> object:
        if isinstance(event, yaml.SequenceStartEvent):
            return list(self._items(depth))
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(depth)
        return self._scalar(event)

    def _add(self, event: _Event, number: int) -> None:
        self._count += number
        if self._count > MOST_VALUES:
            raise self._error(event, f"there are more than {MOST_VALUES:,} values")

    def _repeated(self, event: _Event) -> object:
        if event.anchor not in self._anchors:
            raise self._error(event, f"{_shown('*' + event.anchor)} repeats what is not there")
        value, count = self._anchors[event.anchor]
        self._add(event, count)
        return value

    def _items(self, depth: int) -> Iterator[object]:
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            yield self._value(event, depth + 1)

    def _mapping(self, depth: int) -> dict[str, object]:
        merged: dict[str, object] = {}
        own: dict[str, object] = {}
        names: set[tuple[str, bool]] = set()
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
                raise self._error(event, "expected a name before the colon")
            name, merges = event.value, event.value == "<<" and event.implicit[0]
            value = self._value(self._next(), depth + 1)
            if (name, merges) in names:
                raise self._error(event, f"{_shown(name)} is there twice")
            names.add((name, merges))
            if merges:
                merged = self._merged(event, value)
            else:
                own[name] = value
        return merged | own

    def _merged(self, event: _Event, value: object) -> dict[str, object]:
        if not isinstance(value, dict):
            raise self._error(event, "expected a mapping after <<")
        return value

    def _scalar(self, event: _Event) -> object:
        text: str = event.value
        if not event.implicit[0]:  # it is quoted
            return text
        if text in _FIXED:
            return _FIXED[text]
        if text in _AMBIGUOUS:
            raise self._error(event, f"{text}: write true or false, or '{text}' for the word")
        return self._number(event, text)

    def _number(self, event: _Event, text: str) -> object:
        if text in _NOT_A_NUMBER:
            return float("nan")
        if infinite := _INFINITE.fullmatch(text):
            return float(f"{infinite[1]}inf")
        integer = _INTEGER.fullmatch(text)
        if not integer and not _FLOAT.fullmatch(text):
            return text
        if len(text) > _MOST_DIGITS:
            raise self._error(event, f"a number of {len(text):,} digits")
        if integer:
            return int(text, 0)
        if text.lstrip("+-").isdecimal():
            raise self._error(event, f"{text}: write it without the 0 before it, or '{text}'")
        value = float(text)
        if abs(value) == float("inf"):
            raise self._error(event, f"{text} is too large a number")
        return value

    def _error(self, event: _Event, what: str) -> YamlError:
        return YamlError(f"line {event.start_mark.line + 1}: {what}")
