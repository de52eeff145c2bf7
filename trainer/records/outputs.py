"""What a network says of the clips of its held-out fold, as a table on disk.

One file beside each network, with a row a clip: what a confusion matrix, a comparison of runs or an
average of several networks needs, without the store and without the network.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featurestore.text import csv_cell, csv_text
from trainer.errors import TrainedRunError
from trainer.files import replace_file

_KEYS = ("clip_id", "class_id")


@dataclass(frozen=True)
class Outputs:
    """A network's answers, in the store's order.

    Args:
        clip_ids: (n,) as the store has them.
        labels: (n,) int64 class_id.
        probabilities: (n, classes) float32; rows of sum 1.
        class_names: By class_id.
    """

    clip_ids: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    class_names: tuple[str, ...]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(n,) class_id of the highest probability; the first of equal ones."""
        highest: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return highest

    @property
    def accuracy(self) -> float:
        """Share of clips whose class is predicted, in [0, 1]."""
        return float((self.predicted == self.labels).mean())


def write_outputs(path: Path, outputs: Outputs) -> None:
    """Write a table: clip_id, class_id, and a column of probabilities a class, to the last bit.

    Raises:
        RunDirectoryError: It cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*_KEYS, *map(csv_cell, outputs.class_names)])
    rows = zip(outputs.clip_ids, outputs.labels, outputs.probabilities, strict=True)
    table.writerows(
        [csv_cell(clip), label, *(f"{p:.9g}" for p in shares)] for clip, label, shares in rows
    )
    replace_file(path, text.getvalue().encode())


def read_outputs(path: Path) -> Outputs:
    """Read a table that `write_outputs` wrote.

    Raises:
        TrainedRunError: It is absent or damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file, strict=True)
        names = tuple(map(csv_text, header[len(_KEYS) :]))
        outputs = Outputs(
            clip_ids=tuple(csv_text(row[0]) for row in rows),
            labels=np.array([row[1] for row in rows], np.int64),
            probabilities=np.array([row[len(_KEYS) :] for row in rows], np.float32),
            class_names=names,
        )
    except FileNotFoundError:
        raise TrainedRunError(f"{path}: is missing; train the fold again") from None
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise TrainedRunError(f"{path}: is damaged: {error}; train the fold again") from error
    if outputs.probabilities.shape != (len(rows), len(names)) or not rows:
        raise TrainedRunError(f"{path}: is damaged: rows of unequal length; train the fold again")
    return outputs
