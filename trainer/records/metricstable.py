"""metrics.csv: a row per epoch of a fold, as bytes and back."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from schemas import EpochMetrics
from trainer.errors import RunDirectoryError
from trainer.problems import in_a_line
from trainer.records.sealing import RESTORE


def metrics_bytes(epochs: Iterable[EpochMetrics], header: bool = True) -> bytes:
    """Return the lines of some epochs, to the last bit of each number."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    if header:
        table.writerow(EpochMetrics.model_fields)
    table.writerows(row.model_dump().values() for row in epochs)
    return text.getvalue().encode()


def parse_metrics(path: Path, data: bytes) -> tuple[EpochMetrics, ...]:
    """Return the epochs of a table that `metrics_bytes` made.

    Args:
        path: Where it comes from, for the error.
        data: The file's bytes; a byte order mark, which Excel adds, is skipped.

    Raises:
        RunDirectoryError: It is damaged.
    """
    line, rows = 1, []
    try:
        table = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        for line, row in enumerate(table, start=2):  # noqa: B007 - in the error
            rows.append(EpochMetrics.model_validate(row))
    except (ValueError, csv.Error) as error:
        raise RunDirectoryError(
            f"{path}: is damaged at line {line}: {in_a_line(error)}; {RESTORE}"
        ) from error
    return tuple(rows)
