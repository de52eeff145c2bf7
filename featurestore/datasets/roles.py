"""Columns of a table by role: as specified by the user, or by their obvious names."""

from collections.abc import Iterable, Mapping, Sequence

from featurestore.datasets.table import quoted
from featurestore.errors import DatasetError

# fmt: off
OBVIOUS: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "filename", "file_name", "filepath", "fname", "audio", "file"),
    "class": ("class", "label", "category", "target", "primary_label", "ebird_code"),
    "labels": ("labels", "secondary_labels", "ebird_code_multilabel"),
    "fold": ("fold", "split"),
    "start": ("start", "start_time", "onset"),
    "end": ("end", "end_time", "offset"),
    "group": ("recording", "source", "group", "fsid", "src_file", "speaker", "identifier"),
    "id": ("clip_id",),
}
# fmt: on
"""Column names by role, in lower case, in order of preference."""
NEEDED = ("path", "class")


def parse_columns(texts: Iterable[str] | Mapping[str, str]) -> dict[str, str]:
    """Parse strings such as `path=Filename,class=Label` into the column of each role.

    Args:
        texts: Such strings, or a mapping of roles to columns.

    Raises:
        DatasetError: A string has another form, or names an unknown role, or a role twice.
    """
    if isinstance(texts, Mapping):
        if unknown := [role for role in texts if role not in OBVIOUS]:
            raise DatasetError(
                f"columns: no role {quoted(str(unknown[0]))}; there are: {', '.join(OBVIOUS)}"
            )
        return {role: str(column) for role, column in texts.items()}
    if isinstance(texts, str):  # one text is a sequence, too: of its letters
        texts = [texts]
    columns: dict[str, str] = {}
    for part in (part for text in texts for part in text.split(",")):
        role, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or role not in OBVIOUS or role in columns:
            raise DatasetError(
                f"--columns: expected ROLE=COLUMN, separated by commas, with each role once "
                f"(roles: {', '.join(OBVIOUS)}), got {quoted(part)}"
            )
        columns[role] = column
    return columns


def assign_roles(where: str, header: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the column of the table for each role.

    Args:
        where: Name of the table, for messages.
        header: Names of its columns.
        columns: Columns by role given by the user; empty if the table has none for that role.

    Raises:
        DatasetError: A column does not exist, or no column holds the paths.
    """
    if missing := [column for column in columns.values() if column and column not in header]:
        raise DatasetError(
            f"{where}: the table has no column {', '.join(map(quoted, missing))}, which --columns "
            f"names; it has: {', '.join(map(quoted, header))}"
        )
    lower = {name.lower(): name for name in reversed(header)}
    roles = {role: column for role, column in columns.items() if column}
    # Whoever names the one of these two columns says where the labels are.
    named = {"class", "labels"} if {"class", "labels"} & columns.keys() else set()
    for role, names in OBVIOUS.items():
        taken = set(roles.values())
        known = [lower[name] for name in names if name in lower and lower[name] not in taken]
        if role not in columns and role not in named and known:
            roles[role] = known[0]
    if "path" not in roles:
        raise DatasetError(
            f"{where}: no column says where the sounds are: expected one named "
            f"{', '.join(OBVIOUS['path'])}; the table has: {', '.join(map(quoted, header))}. "
            "Name it: --columns path=COLUMN,class=COLUMN"
        )
    return roles


def other_candidates(role: str, column: str, header: Sequence[str]) -> list[str]:
    """Return other columns that could have been used for a role, to report them."""
    if column.lower() not in OBVIOUS[role]:
        return []
    return [name for name in header if name.lower() in OBVIOUS[role] and name != column]
