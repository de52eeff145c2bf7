"""UrbanSound8K: 8732 clips of up to 4 s, 10 classes, 10 folds."""

from dataclasses import replace
from pathlib import Path

from featurestore.datasets.archives import AUDIO, URBANSOUND8K_TABLE
from featurestore.datasets.base import Dataset
from featurestore.datasets.clips import Columns, check_clips, name_classes
from featurestore.datasets.table import read_table
from schemas import DatasetCard

KAGGLE_TABLE = "UrbanSound8K.csv"
CLASSES = (
    "air_conditioner",
    "car_horn",
    "children_playing",
    "dog_bark",
    "drilling",
    "engine_idling",
    "gun_shot",
    "jackhammer",
    "siren",
    "street_music",
)
"""Class names of UrbanSound8K by `classID`."""
COLUMNS = Columns(
    file="slice_file_name",
    fold="fold",
    class_name="class",
    class_id="classID",
    clip_id="slice_file_name",
    source="fsID",
    directory=AUDIO + "/fold{fold}",
)


def load(root: Path) -> Dataset:
    """Read the table of UrbanSound8K.

    Args:
        root: Directory that contains `metadata/` and `audio/`, or, as on Kaggle, the table and the
            folds.

    Raises:
        DatasetError: The table cannot be read or is invalid.
    """
    table, columns = root / URBANSOUND8K_TABLE, COLUMNS
    if not table.exists() and (root / KAGGLE_TABLE).exists():
        table, columns = root / KAGGLE_TABLE, replace(COLUMNS, directory="fold{fold}")
    checked = check_clips(read_table(table, columns.needed), columns)
    card = DatasetCard(
        name="urbansound8k",
        title="UrbanSound8K",
        class_names=name_classes(table, checked.names, CLASSES, "classID"),
        licence="CC BY-NC 3.0",
        citation="J. Salamon, C. Jacoby, J. P. Bello, "
        '"A Dataset and Taxonomy for Urban Sound Research", ACM Multimedia 2014',
        url="https://zenodo.org/records/1203745",
    )
    return Dataset(card, root, checked.clips)
