r"""Escaping of untrusted text for each kind of output.

Class names, paths, titles and server responses are data: they must not move the cursor of a
terminal, start a formula, end a table cell, be taken for markup or leak a password. Each kind of
output has one function here, and all keep a text recognisable: ordinary Unicode stays, anything
else becomes a Python escape such as `\x1b`. HTML is left to Jinja's autoescape, after `printable`.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, unquote

MASK = "***"
"""Replacement for user names, passwords and queries in URLs."""

_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}

# C0, DEL and C1; soft hyphen; marks of direction; zero widths; separators of lines; fillers that
# look empty; byte order marks, tags and other invisible controls; noncharacters; lone surrogates.
_INVISIBLE = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\ufdd0-\ufdef"
    "\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
# Joiners belong to emoji and to scripts from Hebrew onwards; between other letters they only hide.
_JOINED = "\u0590-\u1fff\u2190-\u2bff\ufb1d-\ufdcf\ufdf0-\ufe0f\ufe70-\ufefc\U0001f000-\U0001faff"
_LONELY = f"(?<![{_JOINED}])[\u200c\u200d]|[\u200c\u200d](?![{_JOINED}])"
_UNSAFE = re.compile(f"[{_INVISIBLE}\ud800-\udfff]|{_LONELY}")
_SURROGATE = re.compile("[\ud800-\udfff]")

_ESCAPE = re.compile(r"\\(?:[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_SURROGATE_ESCAPE = re.compile(r"\\ud[89a-f][0-9a-f]{2}")
_ANY_ESCAPE = re.compile(r"\\\\|" + _ESCAPE.pattern)

_FORMULA = re.compile(r"'*[=+\-@]")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?", re.IGNORECASE)

_MARKED = re.compile(
    r"[\\`*\[\]<>|~$]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)|:(?=//)|(?<=www)\.|@(?=\w)"
)
_BLOCK = re.compile(r"(?:#{1,6}|[-+=]+|[0-9]{1,9}[.)])(?=\s|$)|-{2,}|={2,}")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "@": "&#64;"}

_PART = r"""[^\s"'<>`]"""
_SCHEME = r"\b[a-z][a-z0-9+.-]{1,31}:/++"
_PORT = r"(?:\[[0-9a-f:.]*\](?::[0-9]+)?|[^\s/@:]*:[0-9]+)(?:[/?#\s]|$)"
_USER_INFO = re.compile(
    # What stands before an @ ahead of a path; as `user:password@`, whatever is in the password.
    rf"({_SCHEME})(?:(?!{_PORT}){_PART}*?:{_PART}*@|[^\s/?#]*@)",
    re.IGNORECASE,
)
_QUERY = re.compile(
    rf"({_SCHEME}[^\s?#\"'<>`]*|\burl: /[^\s?#]*)\?{_PART}*(?<![:;,.)\]])", re.IGNORECASE
)
_LEAST_SECRET = 3
"""Minimum length of a password that is masked outside its URL; shorter ones occur in any word."""


def is_unicode(text: str) -> bool:
    """Return whether a text can be encoded: it has no lone surrogates.

    These come from bytes that are not UTF-8, and from escapes in JSON and Python.
    """
    return text.isascii() or _SURROGATE.search(text) is None


def printable(text: object) -> str:
    r"""Return a text as one line that is safe in a terminal or a log.

    Control and escape characters, marks of direction, invisible characters, separators of lines and
    bytes that were not UTF-8 (lone surrogates) become `\n`, `\x1b`, `\u202e` or `\udce9`; so do
    spaces if there is nothing else. Letters of any script, emoji and punctuation stay, including
    square brackets, which `featurestore.terminal` does not interpret as markup.
    """
    line = _visible(str(text))
    return r"\x20" * len(line) if line.isspace() and line.strip(" ") == "" else line


def paragraphs(text: object) -> str:
    """Return a text like `printable`, but keep line breaks; for text of our own."""
    return "\n".join(map(_visible, str(text).split("\n")))


def shorten(text: object, most: int) -> str:
    """Return a text shortened to at most `most` characters by an ellipsis in the middle."""
    whole = str(text)
    if len(whole) <= most:
        return whole
    tail = (most - 1) // 3
    return f"{whole[: most - 1 - tail]}…{whole[len(whole) - tail :]}"


def quantity(number: int, noun: str) -> str:
    """Return a number with its noun in singular or plural: `1 clip`, `2,000 clips`, `0 classes`."""
    if number != 1:
        noun = re.sub(r"(?<=[^aeiou])y$", "ie", noun) + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun}"


def did_you_mean(name: object, known: Iterable[object], cutoff: float = 0.6) -> str:
    """Return a suggestion to append to an error: `; did you mean 'mel'?`, or an empty string.

    Args:
        name: The unknown name.
        known: The existing names.
        cutoff: Minimum similarity of a suggestion, in [0, 1].
    """
    near = difflib.get_close_matches(str(name), list(map(str, known)), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


def markdown(text: object) -> str:
    """Escape a text for a line or a table cell of GitHub-flavoured Markdown.

    In addition to `printable`, characters that are markup, start a block, end a cell or make a link
    are escaped, and spaces that Markdown would drop are kept.
    """
    line = _MARKED.sub(_unmarked, printable(text))
    if block := _BLOCK.match(line):
        line = f"{line[: block.end() - 1]}\\{line[block.end() - 1 :]}"
    return re.sub(r"^ | $|(?<= ) ", "&nbsp;", line)


def markdown_code(text: object) -> str:
    """Return a text as a Markdown code span, outside tables, whatever backticks it contains."""
    line = printable(text)
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    padding = " " if line[:1] in ("`", " ") or line[-1:] in ("`", " ") or not line else ""
    return f"{fence}{padding}{line}{padding}{fence}"


def file_name(text: object, most_bytes: int = 120) -> str:
    """Return a text as the name of a file or directory: letters, digits and `_ . = -` only.

    The name contains no path, and does not look like a hidden file or an option. Long names are
    shortened and end with a part of their digest, so that different names stay different.
    """
    name = re.sub(r"^[.-]|[^\w.=-]", "_", str(text))
    if len(name.encode()) <= most_bytes:
        return name
    digest = hashlib.sha256(str(text).encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name.encode()[: most_bytes - 9].decode(errors='ignore')}-{digest}"


def setting_text(value: object) -> str:
    """Return a setting's value as a text by which it can be compared: other values, other texts.

    A number has as few digits as tell it from all others.
    """
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)


def plot_text(text: object) -> str:
    """Escape a text for Matplotlib, so that `$` does not start math mode."""
    return printable(text).replace("$", r"\$")


def csv_cell(text: object) -> str:
    r"""Escape a text for a CSV cell: valid UTF-8 and never a formula; `csv_text` is the inverse.

    Characters are escaped as by `printable`; if there are any, or the text contains something like
    an escape, all backslashes are doubled. A cell that a spreadsheet would evaluate (starting with
    `=`, `+`, `-` or `@`, and not a number) is prefixed by an apostrophe.
    """
    cell = _reversible(str(text), _UNSAFE, _ESCAPE)
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def csv_text(cell: str) -> str:
    """Return the text that `csv_cell` escaped."""
    return _restored(cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell, _ESCAPE)


def json_text(text: object) -> str:
    r"""Escape a text for JSON; `from_json_text` is the inverse.

    JSON cannot represent bytes that were not UTF-8 (lone surrogates). These are written as
    `\udce9`; in such a text, and in one that contains something like it, all backslashes are
    doubled.
    """
    return _reversible(str(text), _SURROGATE, _SURROGATE_ESCAPE)


def from_json_text(text: str) -> str:
    """Return the text that `json_text` escaped."""
    return _restored(text, _SURROGATE_ESCAPE)


def json_document(value: object) -> str:
    """Return a value as an indented JSON document that is safe to print in a terminal.

    Letters of any script stay; unsafe characters (see `printable`) are written as JSON escapes.
    Texts that may contain bytes that were not UTF-8, such as paths, must go through `json_text`
    first.
    """
    document = json.dumps(value, ensure_ascii=False, indent=2)
    lines = (_UNSAFE.sub(_json_escape, line) for line in document.split("\n"))
    return "\n".join(lines) + "\n"


def mask_url(text: object, secrets_of: str = "") -> str:
    """Mask user names, passwords and queries of all URLs in a text.

    Args:
        text: Text that may contain any number of URLs.
        secrets_of: URL whose password and query values are masked wherever they occur, such as in
            an error of a library to which it was passed.
    """
    masked = str(text)
    if secrets_of:
        masked = masked.replace(secrets_of, mask_url(secrets_of))
    for secret in _secrets(secrets_of):
        masked = masked.replace(secret, MASK)
    masked = _USER_INFO.sub(rf"\1{MASK}@", masked)
    return _QUERY.sub(rf"\1?{MASK}", masked)


def _json_escape(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]


def _visible(line: str) -> str:
    return _UNSAFE.sub(_escaped, line)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    number = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _unmarked(match: re.Match[str]) -> str:
    return _ENTITIES.get(match[0]) or "\\" + match[0]


def _reversible(text: str, unsafe: re.Pattern[str], escape: re.Pattern[str]) -> str:
    """Escape the unsafe characters so that `_restored` can tell them from what looks alike."""
    if not unsafe.search(text) and not escape.search(text):
        return text
    return unsafe.sub(_escaped, text.replace("\\", "\\\\"))


def _restored(text: str, escape: re.Pattern[str]) -> str:
    return _ANY_ESCAPE.sub(_unescaped, text) if escape.search(text) else text


def _unescaped(match: re.Match[str]) -> str:
    code = match[0][1:]
    if code[0] in "xuU":
        return chr(int(code[1:], 16))
    return {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}[code]


def _secrets(address: str) -> list[str]:
    """Return the password and the values of the query, as written and decoded; longest first."""
    rest, _, query = address.partition("?")
    user_info, at, _ = (
        rest.partition("://")[2].rpartition("@") if "://" in rest else (rest.rpartition("@"))
    )
    password = user_info.partition(":")[2] if at else ""
    values = [value for _, value in parse_qsl(query)] + [
        part.partition("=")[2] for part in query.split("&")
    ]
    secrets = {password, unquote(password), *values}
    return sorted((s for s in secrets if len(s) >= _LEAST_SECRET), key=len, reverse=True)
