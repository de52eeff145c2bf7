"""Class names that look the same to people: they differ in Unicode form, case or spaces only."""

import unicodedata
from collections.abc import Iterable


def folded(name: str) -> str:
    """Return the name in normal form: Unicode form, case and spaces removed."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    visible = (letter for letter in text if unicodedata.category(letter) != "Cf")
    return " ".join("".join(visible).split())


def alike_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return pairs of different names with the same normal form."""
    first: dict[str, str] = {}
    pairs = []
    for name in names:
        known = first.setdefault(folded(name), name)
        if known != name:
            pairs.append((known, name))
    return pairs


def how_they_differ(one: str, other: str) -> str:
    """Return both names, escaped if they look the same, and how they differ."""
    if " ".join(one.split()).casefold() == " ".join(other.split()).casefold():
        return f"{one!r} and {other!r}, which differ in case or spaces only"
    same = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    what = "in their Unicode form only" if same else "only in what the eye does not see"
    return f"{one!a} and {other!a}, which differ {what}"
