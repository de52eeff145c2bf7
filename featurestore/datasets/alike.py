"""Class names that people take for one: they differ in Unicode form, case or spaces only."""

import unicodedata
from collections.abc import Iterable


def folded(name: str) -> str:
    """Return the name without what the eye does not tell apart."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    visible = (letter for letter in text if unicodedata.category(letter) != "Cf")
    return " ".join("".join(visible).split())


def alike_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return pairs of different names that are alike."""
    first: dict[str, str] = {}
    pairs = []
    for name in names:
        known = first.setdefault(folded(name), name)
        if known != name:
            pairs.append((known, name))
    return pairs


def how_they_differ(one: str, other: str) -> str:
    """Return both names, spelt out if they look the same, and in what they differ."""
    if " ".join(one.split()).casefold() == " ".join(other.split()).casefold():
        return f"{one!r} and {other!r}, which differ in case or spaces only"
    same = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    what = "in their Unicode form only" if same else "only in what the eye does not see"
    return f"{one!a} and {other!a}, which differ {what}"
