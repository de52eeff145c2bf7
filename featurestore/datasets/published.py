"""Readers of published datasets with official splits: FSDnoisy18k, TAU, Speech Commands, GTZAN.

Each reads the layout as distributed by the publishers. A clip's fold is its official split, and its
source the speaker or place, or empty if neither is published.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from featurestore.cliplist import texts
from featurestore.datasets.base import Dataset
from featurestore.datasets.clips import Columns, check_clips
from featurestore.datasets.gtzan import CORRUPT, GENRES, SPLITS
from featurestore.datasets.table import Table, csv_table, quoted, read_lines, read_table
from featurestore.errors import DatasetError
from featurestore.text import quantity
from schemas import DatasetCard

Row = tuple[str, str, str]
"""Path, class and source of a clip."""
_COLUMNS = Columns(
    file="path", fold="fold", class_name="class", class_id="class_id", source="source"
)

# fmt: off
FSDNOISY18K_CLASSES = (
    "Acoustic_guitar", "Bass_guitar", "Clapping", "Coin_(dropping)", "Crash_cymbal",
    "Dishes_and_pots_and_pans", "Engine", "Fart", "Fire", "Fireworks", "Glass", "Hi-hat", "Piano",
    "Rain", "Slam", "Squeak", "Tearing", "Walk_or_footsteps", "Wind", "Writing",
)
TAU_CLASSES = (
    "airport", "bus", "metro", "metro_station", "park", "public_square", "shopping_mall",
    "street_pedestrian", "street_traffic", "tram",
)
SPEECH_COMMANDS_CLASSES = (
    "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four",
    "go", "happy", "house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right",
    "seven", "sheila", "six", "stop", "three", "tree", "two", "up", "visual", "wow", "yes", "zero",
)
# fmt: on
_NOISE = "_background_noise_"
_SPEAKER = "_nohash_"


def load_fsdnoisy18k(root: Path) -> Dataset:
    """Read FSDnoisy18k: Freesound clips with noisy labels, and a clean test set.

    Raises:
        DatasetError: A table cannot be read or is invalid.
    """

    def rows(split: str) -> list[Row]:
        table = read_table(root / "FSDnoisy18k.meta" / f"{split}.csv", ("fname", "label"))
        names = zip(table["fname"].tolist(), table["label"].tolist(), strict=True)
        return [(f"FSDnoisy18k.audio_{split}/{file}", label, "") for file, label in names]

    card = _card(
        "fsdnoisy18k",
        "FSDnoisy18k",
        FSDNOISY18K_CLASSES,
        "CC BY 4.0 (each clip: CC0 or CC BY)",
        'E. Fonseca et al., "Learning Sound Event Classifiers from Web Audio with Noisy Labels", '
        "ICASSP 2019",
        "https://zenodo.org/records/2529934",
    )
    return _dataset(root, card, {split: rows(split) for split in ("train", "test")})


def load_tau(root: Path) -> Dataset:
    """Read TAU Urban Acoustic Scenes (development), with places and the official split.

    Raises:
        DatasetError: A table cannot be read or is invalid.
    """
    names = ("filename", "scene_label", "identifier")
    meta = csv_table(root / "meta.csv", lambda header: names, "\t")
    known = dict(zip(meta["filename"].tolist(), _pairs(meta, *names[1:]), strict=True))

    def rows(split: str) -> list[Row]:
        path = root / "evaluation_setup" / f"fold1_{split}.csv"
        files = csv_table(path, lambda header: ("filename",), "\t")["filename"].tolist()
        if unknown := next((file for file in files if file not in known), None):
            raise DatasetError(f"{path}: {quoted(unknown)} is not in {root / 'meta.csv'}")
        return [(file, *known[file]) for file in files]

    card = _card(
        "tau_scenes",
        "TAU Urban Acoustic Scenes",
        TAU_CLASSES,
        "Tampere University, for academic use only",
        'T. Heittola, A. Mesaros, T. Virtanen, "Acoustic scene classification in DCASE 2020 '
        'Challenge: generalization across devices and low complexity solutions", DCASE 2020',
        "https://zenodo.org/records/3819968",
    )
    splits = {"train": rows("train"), "test": rows("evaluate")}
    unused = len(known) - sum(map(len, splits.values()))
    left_out = (
        (f"{quantity(unused, 'clip')} in neither part of the official split",) if unused else ()
    )
    return _dataset(root, card, splits, left_out)


def load_speech_commands(root: Path) -> Dataset:
    """Read Speech Commands: one-second words, with the official split by speaker.

    Raises:
        DatasetError: A list cannot be read, or no word is found.
    """
    lists = {
        split: set(read_lines(root / f"{name}_list.txt"))
        for split, name in (("valid", "validation"), ("test", "testing"))
    }
    rows: dict[str, list[Row]] = {"train": [], "valid": [], "test": []}
    for word in sorted(path for path in root.iterdir() if path.is_dir()):
        if word.name.startswith((".", _NOISE)):
            continue
        for file in sorted(path.name for path in word.glob("*.wav")):
            path = f"{word.name}/{file}"
            split = next((split for split, paths in lists.items() if path in paths), "train")
            rows[split].append((path, word.name, file.partition(_SPEAKER)[0]))
    noises = len(list((root / _NOISE).glob("*.wav"))) if (root / _NOISE).is_dir() else 0
    card = _card(
        "speech_commands",
        "Speech Commands",
        SPEECH_COMMANDS_CLASSES,
        "CC BY 4.0",
        'P. Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", '
        "arXiv:1804.03209, 2018",
        "https://www.tensorflow.org/datasets/catalog/speech_commands",
    )
    return _dataset(root, card, rows, (f"{noises} background noises",) if noises else ())


def load_gtzan(root: Path) -> Dataset:
    """Read GTZAN with its fault-filtered split, without repeated and distorted excerpts.

    Raises:
        DatasetError: No excerpt is found.
    """
    place = next((name for name in ("genres", "genres_original") if (root / name).is_dir()), "")
    suffix = ".au" if (root / place / GENRES[0] / f"{GENRES[0]}.00000.au").exists() else ".wav"
    rows = {
        split: [
            (f"{place}/{genre}/{genre}.{number:05d}{suffix}", genre, "")
            for genre, numbers in genres.items()
            for number in numbers
        ]
        for split, genres in SPLITS.items()
    }
    card = _card(
        "gtzan",
        "GTZAN, fault-filtered",
        GENRES,
        "unknown",
        'G. Tzanetakis, P. Cook, "Musical genre classification of audio signals", IEEE TSAP 2002; '
        'C. Kereliuk, B. Sturm, J. Larsen, "Deep Learning and Music Adversaries", IEEE TMM 2015',
        "http://marsyas.info/downloads/datasets.html",
    )
    listed = {file for file, _, _ in chain(*rows.values())}
    num_present = sum(
        1 for path in (root / place).glob(f"*/*{suffix}") if not path.name.startswith(".")
    )
    repeated = num_present - sum((root / file).exists() for file in listed)
    left_out = (f"{repeated} excerpts that the filtered split leaves out",) if repeated > 0 else ()
    warning = (
        f"{CORRUPT}{suffix} is damaged in most copies of GTZAN; if it is here, its row will be the "
        "one that fails"
    )
    return _dataset(root, card, rows, left_out, (warning,))


def _pairs(table: Table, *names: str) -> Iterable[tuple[str, str]]:
    one, other = (table[name].tolist() for name in names)
    return zip(one, other, strict=True)


def _card(
    name: str, title: str, classes: Sequence[str], licence: str, citation: str, url: str
) -> DatasetCard:
    return DatasetCard(
        name=name,
        title=title,
        class_names=tuple(classes),
        licence=licence,
        citation=citation,
        url=url,
    )


def _dataset(
    root: Path,
    card: DatasetCard,
    splits: Mapping[str, Sequence[Row]],
    left_out: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
) -> Dataset:
    """Return the dataset of rows by split; the splits are folds from 1, in their order.

    Raises:
        DatasetError: There are none, or a class or path cannot be.
    """
    used = {split: rows for split, rows in splits.items() if rows}
    if not used:
        raise DatasetError(f"{root}: expected sounds of {card.title}; found none")
    paths, classes, sources = map(list, zip(*chain(*used.values()), strict=True))
    ids = {name: str(number) for number, name in enumerate(card.class_names)}
    if unknown := next((name for name in classes if name not in ids), None):
        raise DatasetError(
            f"{root}: {quoted(unknown)} is no class of {card.title}, whose classes are: "
            f"{', '.join(card.class_names)}"
        )
    folds = [str(number) for number, rows in enumerate(used.values(), start=1) for _ in rows]
    columns = {
        "path": texts(paths),
        "class": texts(classes),
        "class_id": texts(ids[name] for name in classes),
        "fold": texts(folds),
        "source": texts(sources),
    }
    table = Table(root, np.arange(1, len(paths) + 1), columns, "row")
    return Dataset(
        card,
        root,
        check_clips(table, _COLUMNS).clips,
        left_out=left_out,
        fold_names=dict(enumerate(used, start=1)),
        warnings=warnings,
    )
