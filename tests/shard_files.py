"""One small collection of sounds, written as shards by the libraries that other people use.

`datasets`, `webdataset` and `lhotse` write them; without its library a kind is skipped.
"""

import atexit
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tests.conftest import sound

CLASSES = ("owl", "cat", "bat")
"""As the schema has them: neither sorted, nor do all of them occur."""
RATE = 22_050
NUM_CLIPS = 12


@contextmanager
def quiet() -> Iterator[None]:
    """Other people's libraries warn of each other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def _hf_home() -> str:
    folder = tempfile.TemporaryDirectory(prefix="hf-")
    atexit.register(folder.cleanup)
    return folder.name


def needs(name: str) -> Any:
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": _hf_home()}
    with quiet():
        return pytest.importorskip(name, reason=f"{name}, which writes these files, is absent")


def encoded(index: int) -> tuple[str, bytes]:
    """The name and bytes of a clip: WAV and FLAC in turn; half of the names are there twice."""
    suffix = "flac" if index % 3 == 0 else "wav"
    file = io.BytesIO()
    data = sound(index, 0.3 + 0.02 * index, RATE, 1 + index % 2)
    soundfile.write(file, data, RATE, format=suffix.upper())
    return f"clip{index % 6}.{suffix}", file.getvalue()


def label(index: int) -> int:
    return index % 2


def fold(index: int) -> int:
    return 1 + index // 6


def write_files(root: Path) -> Path:
    """Write the clips as files, with a table."""
    rows = ["path,label,fold"]
    for index in range(NUM_CLIPS):
        name, data = encoded(index)
        path = root / str(index) / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        rows.append(f"{index}/{name},{CLASSES[label(index)]},{fold(index)}")
    (root / "clips.csv").write_text("\n".join(rows) + "\n")
    return root


def hf_dataset(rows: range = range(NUM_CLIPS), root: Path | None = None) -> Any:
    """A dataset of Hugging Face's, with the bytes of the clips, or with paths below a root."""
    datasets = needs("datasets")
    cells = []
    for index in rows:
        name, data = encoded(index)
        embedded = {"bytes": data, "path": name}
        cells.append(embedded if root is None else {"bytes": None, "path": f"{index}/{name}"})
    features = datasets.Features(
        {
            "audio": datasets.Audio(decode=False),
            "label": datasets.ClassLabel(names=list(CLASSES)),
            "fold": datasets.Value("int8"),
        }
    )
    columns = {"audio": cells, "label": [*map(label, rows)], "fold": [*map(fold, rows)]}
    with quiet():
        datasets.disable_progress_bars()
        # Cast, as encoding such cells would need the decoder of another package.
        return datasets.Dataset.from_dict(columns).cast(features)


def write_parquet(root: Path) -> Path:
    """Two files in `data`, in small row groups."""
    (root / "data").mkdir(parents=True)
    for part in range(2):
        dataset = hf_dataset(range(6 * part, 6 * part + 6))
        with quiet():
            dataset.to_parquet(str(root / f"data/train-0000{part}-of-00002.parquet"), batch_size=4)
    return root


def write_parquet_paths(root: Path) -> Path:
    """A file whose cells are paths, next to the sounds; to_parquet would read them all."""
    dataset = hf_dataset(root=root)
    write_files(root)
    (root / "clips.csv").unlink()
    needs("pyarrow.parquet").write_table(dataset.data.table, root / "list.parquet")
    return root


def write_saved(root: Path) -> Path:
    with quiet():
        hf_dataset().save_to_disk(str(root), num_shards=2, num_proc=None)
    return root


def write_saved_dict(root: Path) -> Path:
    """Splits instead of folds."""
    datasets = needs("datasets")
    splits = {"train": hf_dataset(range(6)), "test": hf_dataset(range(6, NUM_CLIPS))}
    with quiet():
        datasets.DatasetDict(splits).remove_columns("fold").save_to_disk(str(root))
    return root


def write_webdataset(root: Path) -> Path:
    """Two tars, with a JSON of labels, and members that are nothing to us."""
    webdataset = needs("webdataset")
    root.mkdir(parents=True)
    for part in range(2):
        with quiet(), webdataset.TarWriter(str(root / f"shard-{part}.tar")) as writer:
            for index in range(6 * part, 6 * part + 6):
                name, data = encoded(index)
                json = {"label": CLASSES[label(index)], "fold": fold(index), "more": {"a": 1}}
                sample = {"__key__": f"deep/{name.partition('.')[0]}", "json": json}
                writer.write({**sample, name.partition(".")[2]: data, "jpg": b"x"})
    return root


def cuts(root: Path, seconds: float | None = None) -> Any:
    """Lhotse's cuts of the files below a root: whole, or their first seconds."""
    lhotse = needs("lhotse")
    with quiet():
        made = []
        for index in range(NUM_CLIPS):
            path = root / str(index) / encoded(index)[0]
            recording = lhotse.Recording.from_file(path, recording_id=f"tape{index}")
            duration = recording.duration if seconds is None else seconds
            custom = {"label": CLASSES[label(index)], "fold": fold(index)}
            channels = recording.channel_ids
            said = lhotse.SupervisionSegment(
                f"s{index}", recording.id, 0.0, duration, channel=channels, custom=custom
            )
            kind = lhotse.MonoCut if len(channels) == 1 else lhotse.MultiCut
            channel = channels[0] if len(channels) == 1 else channels
            made.append(
                kind(f"c{index}", 0.0, duration, channel, supervisions=[said], recording=recording)
            )
        return lhotse.CutSet.from_cuts(made)


def write_cuts(root: Path) -> Path:
    """A manifest next to the files; lhotse writes absolute paths."""
    write_files(root)
    (root / "clips.csv").unlink()
    with quiet():
        cuts(root).to_file(root / "cuts.jsonl.gz")
    return root


def write_shar(root: Path) -> Path:
    shar = needs("lhotse.shar")
    files = write_files(root.parent / f"{root.name}-files")
    root.mkdir(parents=True)
    with quiet(), shar.SharWriter(str(root), fields={"recording": "flac"}, shard_size=7) as writer:
        for cut in cuts(files):
            writer.write(cut)
    return root


SHARDS: dict[str, Callable[[Path], Path]] = {
    "parquet": write_parquet,
    "parquet with paths": write_parquet_paths,
    "save_to_disk": write_saved,
    "save_to_disk with splits": write_saved_dict,
    "webdataset": write_webdataset,
    "cuts": write_cuts,
    "shar": write_shar,
}
"""Writers of each kind."""
