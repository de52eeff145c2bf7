"""Figures of a store's clips: one clip at every resolution or by every operator, or all classes."""

import difflib
import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from featurestore.errors import (
    ArgumentError,
    AudioError,
    SourcesError,
    StorageError,
    UnknownNameError,
    cause,
)
from featurestore.extraction import audio
from featurestore.extraction.features import trim_bounds
from featurestore.extraction.recordings import Span
from featurestore.extraction.sources import clip_file
from featurestore.files import write_output
from featurestore.pictures import drawing, fitted, shown
from featurestore.reading.clipfigure import (
    Image,
    clip_figure,
    color_bar,
    compare_figure,
    draw_array,
    label_axes,
)
from featurestore.store.columns import ClipTable
from featurestore.store.reader import StoredDataset
from featurestore.text import quantity
from schemas import FULL

_MOST_CANDIDATES = 5
_MOST_DRAWN = 2000
"""Maximum number of images in one picture, which takes minutes to draw."""


def find_clip(table: ClipTable, name: str) -> int:
    """Return the row of the clip with an id, or of the only one whose id or path ends with it.

    Args:
        table: Clips to search.
        name: An id, a path (relative to the dataset's root or absolute), or the end of either,
            with or without the file's suffix.

    Raises:
        UnknownNameError: No clip matches, or several do.
    """
    exact = np.flatnonzero(table.clip_id == name)
    if exact.size:
        return int(exact[0])
    for ends in (_ends_with_steps, _ends_with):
        rows = [
            row
            for row, texts in enumerate(zip(table.clip_id, table.path, strict=True))
            if any(ends(text, name) for text in texts)
        ]
        if len(rows) == 1:
            return rows[0]
        if rows:
            more = ["…"] if len(rows) > _MOST_CANDIDATES else []
            some = [*table.clip_id[rows[:_MOST_CANDIDATES]], *more]
            raise UnknownNameError("clip", name, some, f"{len(rows)} clips end so: say more of it")
    return _refuse(table, name)


def _ends_with_steps(text: str, name: str) -> bool:
    """Whether a path ends with whole steps of another, or the other with it."""
    stem = text.rsplit(".", 1)[0]
    return any(f"/{t}".endswith(f"/{name}") or f"/{name}".endswith(f"/{t}") for t in (text, stem))


def _ends_with(text: str, name: str) -> bool:
    return bool(name) and (text.endswith(name) or text.rsplit(".", 1)[0].endswith(name))


def _refuse(table: ClipTable, name: str) -> int:
    near = difflib.get_close_matches(name, table.clip_id.tolist(), _MOST_CANDIDATES)
    raise UnknownNameError("clip", name, near or [*table.clip_id[:3], "…"])


@drawing()
def plot_clip(
    dataset: StoredDataset,
    clip: str,
    out: Path,
    *,
    compare: bool = False,
    root: Path | None = None,
) -> Path:
    """Draw a clip at every resolution by every method, or by every resize operator.

    Args:
        dataset: Dataset with the clip.
        clip: Id or path of the clip; see `find_clip`.
        out: Path of the image file, whose suffix determines the format. Default: PNG.
        compare: Whether to draw the full image resized by every operator instead.
        root: Root of the audio files, to draw the waveform, too.

    Returns:
        Path of the file written.

    Raises:
        UnknownNameError: No clip matches, or several do.
        StoreError: The clip has no features, or there is no resolution to resize to.
        SourcesError: The audio file is not the one from which the features were made.
        AudioError: The audio file cannot be read.
        StorageError: The figure cannot be written.
    """
    table = dataset.all_clips()
    row = find_clip(table, clip)
    images = dataset.read_clip(table.clip_id[row])
    title = _title(dataset, table, row)
    spec = dataset.manifest.spec
    if compare:
        return _save(compare_figure(images[f"{spec.full.name}/{FULL}"], spec, title), out)
    waveform = _waveform(dataset, table, row, root) if root else None
    return _save(clip_figure(images, spec, title, waveform), out)


@drawing()
def plot_classes(dataset: StoredDataset, num_clips: int, out: Path) -> Path:
    """Draw the full images of a few clips of each class, spread over the folds.

    Args:
        dataset: Dataset with the clips.
        num_clips: Number of clips per class.
        out: Path of the image file, whose suffix determines the format. Default: PNG.

    Returns:
        Path of the file written.

    Raises:
        ArgumentError: There are too many classes or clips for one picture.
        StorageError: The picture cannot be written.
    """
    table, spec = dataset.clips(), dataset.manifest.spec
    array = f"{spec.full.name}/{FULL}"
    names = dataset.class_names
    if len(names) * num_clips > _MOST_DRAWN:
        raise ArgumentError(
            f"{quantity(len(names), 'class')} of {quantity(num_clips, 'clip')} each are more than "
            f"the {_MOST_DRAWN:,} images that one picture can show; draw single clips"
        )
    blocks = max(1, round(np.sqrt(len(names) / (2 * num_clips))))
    rows = -(-len(names) // blocks)
    figure = Figure(figsize=(1.9 * num_clips * blocks + 1, 1.3 * rows + 1), layout="constrained")
    figure.suptitle(fitted(f"{dataset.card.title}: {array}", 24 * num_clips * blocks))
    grid = figure.subplots(rows, num_clips * blocks, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    drawn = None
    for class_id, name in enumerate(names):
        block, line = divmod(class_id, rows)
        for column, row in enumerate(
            _spread(np.flatnonzero(table.class_id == class_id), num_clips)
        ):
            axes = grid[line][block * num_clips + column]
            axes.set_axis_on()
            image = dataset.read_clip(table.clip_id[row])[array]
            drawn = draw_array(axes, image, array, spec)
            label = f"{_fold(dataset, int(table.fold[row]))}, {table.duration_s[row]:.2f} s"
            axes.set_title(label if column else f"{shown(name, 22)}\n{label}", fontsize=8)
            axes.tick_params(labelsize=6, labelbottom=line == rows - 1, labelleft=column == 0)
    label_axes(grid[:, 0], grid[-1])
    if drawn:
        color_bar(figure, drawn)
    return _save(figure, out)


def _spread(rows: NDArray[np.intp], num: int) -> NDArray[np.intp]:
    """Return up to `num` rows at equal distances: tables are in the order of the folds."""
    places = np.unique(np.linspace(0, rows.size - 1, min(num, rows.size)).astype(int))
    chosen: NDArray[np.intp] = rows[places]
    return chosen


def _title(dataset: StoredDataset, table: ClipTable, row: int) -> str:
    source = table.source[row]
    facts = [
        dataset.class_names[table.class_id[row]],
        _fold(dataset, int(table.fold[row])),
        f"{table.duration_s[row]:.2f} s",
        f"recording {source}" if source not in ("", table.path[row]) else "",
        f"{table.clip_id[row]} ({dataset.card.title})",
    ]
    return " · ".join(filter(None, facts))


def _fold(dataset: StoredDataset, fold: int) -> str:
    return dataset.fold_names.get(fold, f"fold {fold}")


def _waveform(dataset: StoredDataset, table: ClipTable, row: int, root: Path) -> Image:
    """Return the trimmed waveform of a clip's own file."""
    spec, fold = dataset.manifest.spec, int(table.fold[row])
    span = Span(float(table.start_s[row]), float(table.end_s[row]), int(table.item[row]))
    path = clip_file(root, table.path[row])
    try:
        recording = audio.load(path, spec, span)
    except AudioError as error:
        raise SourcesError(f"{path}: {error}; is --root the right directory?") from error
    digests = dataset.source_digests([fold])
    (place,) = np.flatnonzero(dataset.clips([fold]).clip_id == table.clip_id[row])
    if recording.source_sha256 != digests[place]:
        raise SourcesError(
            f"{root / table.address(row)} is not the file that the store was made of"
        )
    if spec.trim is None:
        return recording.waveform
    start, stop = trim_bounds(recording.waveform, spec.sample_rate, spec.trim)
    return recording.waveform[start:stop]


def _save(figure: Figure, out: Path) -> Path:
    path = out if out.suffix else out.with_name(f"{out.name}.png")
    picture = io.BytesIO()
    try:
        figure.savefig(picture, dpi=130, format=path.suffix[1:].lower())
        write_output(path, picture.getbuffer())
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot write the plot {path}: {cause(error)}") from error
    return path
