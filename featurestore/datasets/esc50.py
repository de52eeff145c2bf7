"""ESC-50: 2000 clips of 5 s, 50 classes, 5 folds; and ESC-10, the 400 of them in 10 classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from featurestore.datasets.archives import AUDIO, ESC50_PAGE, ESC50_TABLE
from featurestore.datasets.base import Dataset
from featurestore.datasets.clips import (
    CheckedClips,
    Columns,
    check_clips,
    check_official,
    name_classes,
)
from featurestore.datasets.table import Problems, Table, read_table
from featurestore.errors import DatasetError
from schemas import DatasetCard

KAGGLE_TABLE = "esc50.csv"
ESC10 = "esc10"
# fmt: off
CLASSES = (
    "dog", "rooster", "pig", "cow", "frog", "cat", "hen", "insects", "sheep", "crow",
    "rain", "sea_waves", "crackling_fire", "crickets", "chirping_birds",
    "water_drops", "wind", "pouring_water", "toilet_flush", "thunderstorm",
    "crying_baby", "sneezing", "clapping", "breathing", "coughing", "footsteps", "laughing",
    "brushing_teeth", "snoring", "drinking_sipping",
    "door_wood_knock", "mouse_click", "keyboard_typing", "door_wood_creaks", "can_opening",
    "washing_machine", "vacuum_cleaner", "clock_alarm", "clock_tick", "glass_breaking",
    "helicopter", "chainsaw", "siren", "car_horn", "engine", "train", "church_bells", "airplane",
    "fireworks", "hand_saw",
)
# fmt: on
"""Class names of ESC-50, in the order of the column `target`."""
ESC10_TARGETS = (0, 1, 10, 11, 12, 20, 21, 38, 40, 41)
COLUMNS = Columns(
    file="filename",
    fold="fold",
    class_name="category",
    class_id="target",
    clip_id="filename",
    source="src_file",
    directory=AUDIO,
)
CITATION = (
    'K. J. Piczak, "ESC: Dataset for Environmental Sound Classification", ACM Multimedia 2015'
)


def load_esc50(root: Path) -> Dataset:
    """Read the table of ESC-50.

    Args:
        root: Directory that contains `meta/` and `audio/`.

    Raises:
        DatasetError: The table cannot be read or is invalid.
    """
    table, columns = _layout(root)
    checked = check_clips(read_table(table, columns.needed), columns)
    card = DatasetCard(
        name="esc50",
        title="ESC-50",
        class_names=name_classes(table, checked.names, CLASSES, "target"),
        licence="CC BY-NC 3.0",
        citation=CITATION,
        url=ESC50_PAGE,
    )
    return Dataset(card, root, checked.clips)


def load_esc10(root: Path) -> Dataset:
    """Read the ESC-10 rows of the table of ESC-50, with classes renumbered from 0.

    Args:
        root: Directory that contains `meta/` and `audio/`; it may hold all of ESC-50.

    Raises:
        DatasetError: The table cannot be read, is invalid, or has no row of ESC-10.
    """
    table, columns = _layout(root)
    rows = _esc10_rows(read_table(table, (*columns.needed, ESC10)))
    checked = _renumber(table, check_clips(rows, columns))
    card = DatasetCard(
        name="esc10",
        title="ESC-10",
        class_names=tuple(checked.names.values()),
        licence="CC BY 3.0",
        citation=CITATION,
        url=ESC50_PAGE,
    )
    return Dataset(card, root, checked.clips)


def _layout(root: Path) -> tuple[Path, Columns]:
    """Return the table and its columns: the official ones, or, if they are absent, Kaggle's."""
    if (root / ESC50_TABLE).exists() or not (root / KAGGLE_TABLE).exists():
        return root / ESC50_TABLE, COLUMNS
    nested = f"{AUDIO}/{AUDIO}"
    directory = nested if (root / nested).is_dir() else AUDIO
    return root / KAGGLE_TABLE, replace(COLUMNS, directory=directory)


def _esc10_rows(table: Table) -> Table:
    problems = Problems(table.path)
    marks = [mark.lower() for mark in table[ESC10].tolist()]
    unclear = np.array([mark not in ("true", "false") for mark in marks])
    problems.add_cells(table, ESC10, unclear, "expected True or False")
    problems.raise_any()
    chosen = np.array([mark == "true" for mark in marks])
    if not chosen.any():
        raise DatasetError(
            f"{table.path}: none of {len(table)} rows has {ESC10} True; put the original table back"
        )
    return table.where(chosen)


def _renumber(table: Path, checked: CheckedClips) -> CheckedClips:
    """Number the classes 0, 1, … in the order of their targets."""
    official = {target: CLASSES[target] for target in ESC10_TARGETS}
    check_official(table, checked.names, dict(enumerate(CLASSES)), "target")
    names = official if checked.names.items() <= official.items() else checked.names
    ids = {target: number for number, target in enumerate(sorted(names))}
    class_ids = [ids[class_id] for class_id in checked.clips.class_id.tolist()]
    clips = replace(checked.clips, class_id=np.array(class_ids, np.int64))
    return CheckedClips(clips, {number: names[target] for target, number in ids.items()})
