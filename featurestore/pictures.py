"""Matplotlib with untrusted text: no math mode, and no characters missing from all fonts.

Class names and titles go through `fitted` or `shown` before they become a title, a label or an
entry of a legend; figures are made and saved within `drawing`.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from textwrap import wrap
from unicodedata import east_asian_width

from featurestore.errors import StorageError, cause
from featurestore.files import read_regular
from featurestore.text import plot_text, printable, shorten

try:
    _SETTINGS = Path("matplotlibrc")
    if _SETTINGS.exists() and not _SETTINGS.is_dir():
        read_regular(_SETTINGS, 1 << 20, follow=True)  # Matplotlib would wait for a pipe for ever
    import matplotlib as mpl
    from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
except UnicodeDecodeError as error:  # Matplotlib reads it as it is imported, and names no file
    raise StorageError(
        "matplotlib cannot start: a matplotlibrc in this directory, in the one that MATPLOTLIBRC "
        "names or in ~/.config/matplotlib is not UTF-8; save it as UTF-8, or remove it"
    ) from error
except OSError as error:
    raise StorageError(
        f"matplotlib cannot start: the matplotlibrc in this directory cannot be read: "
        f"{cause(error)}; remove it"
    ) from error

_MORE_FAMILIES = (
    *("Noto Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans Arabic", "Noto Sans Hebrew"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji", "Symbola", "Droid Sans Fallback"),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "IPAGothic", "Arial Unicode MS", "MS Gothic"),
    *("Microsoft YaHei", "Malgun Gothic", "Segoe UI Symbol", "Hiragino Sans", "PingFang SC"),
    "Unifont",
)
"""Fonts with more scripts than Matplotlib's own; the installed ones are tried in turn."""

_WIDE, _UPPER = 1.8, 0.7
_BROAD = frozenset("ABCDEFGHKMNOQRUVWXmw%@—…")


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with all available fonts, without TeX, and in Matplotlib's default style.

    A `matplotlibrc` of the user or in the working directory is ignored.
    Usable as a decorator.
    """
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update({"font.family": list(_families()), "text.parse_math": True})
        mpl.rcParams["svg.hashsalt"] = "featurestore"  # else the names in an SVG are random
        # A character that no font has was made an escape, or it is one of the user's own labels.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def shown(text: object, most: int = 60) -> str:
    """Return a text as one line of a figure, shortened to about `most` characters."""
    line = _drawn(text)
    return plot_text(shorten(line, int(most / _width(line))))


def fitted(text: object, chars: int, lines: int = 3) -> str:
    """Return a text as lines of a figure; if it is too long, its middle is cut."""
    line = _drawn(text)
    chars = max(1, int(chars / _width(line)))
    rows = wrap(shorten(line, chars * lines), chars)
    return "\n".join(map(plot_text, rows[: lines + 1]))


def legend(text: object, most: int = 40) -> str:
    """Return a text as an entry of a legend, also if it starts with `_`, which Matplotlib skips."""
    entry = shown(text, most)
    return f"\u2009{entry}" if entry.startswith("_") else entry


@cache
def _families() -> tuple[str, ...]:
    own = mpl.rcParamsDefault["font.family"]
    installed = {font.name for font in fontManager.ttflist}
    return (*own, *(name for name in _MORE_FAMILIES if name in installed))


def _drawn(text: object) -> str:
    return "".join(map(_drawable, printable(text)))


def _width(line: str) -> float:
    """Return the mean width of the characters, of which one of a usual text has 1."""
    widths = [
        _WIDE if east_asian_width(character) in "WF" else 1 + _UPPER * (character in _BROAD)
        for character in line
    ]
    return max(1.0, sum(widths) / max(1, len(widths)))


@cache
def _drawable(character: str) -> str:
    """Return a character that a font has as it is, another one as an escape."""
    code = ord(character)
    if code < 0x80 or any(get_font(path).get_char_index(code) for path in _paths()):
        return character
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


@cache
def _paths() -> tuple[str, ...]:
    with mpl.rc_context():
        mpl.rcdefaults()  # which say what `sans-serif` is
        return tuple(str(findfont(FontProperties(family=[name]))) for name in _families())
