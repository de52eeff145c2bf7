"""A clip as the paper's figure 1 shows it: each resolution by each method, details magnified."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from featurestore.errors import StorageError
from featurestore.extraction.features import hz_to_mel, labelled_hz
from featurestore.extraction.resize import RESIZES
from featurestore.files import write_output
from featurestore.pictures import drawing, fitted
from featurestore.store.reader import StoredDataset
from schemas import FULL, FeatureSpec

Image = NDArray[np.float32]

_TICKS_HZ = (0, 250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000)
_TITLE_CHARS = 28
"""Characters in a line of the title per column of images."""
_DETAIL = (0.3, 0.35)
"""Share of the bands, and of the seconds of the shortest image, that is magnified."""
_ACCENT = "#00e5ff"


@dataclass(frozen=True)
class _Window:
    """The magnified part: seconds and mels."""

    start_s: float
    stop_s: float
    low_mel: float
    high_mel: float


@drawing()
def plot_clip(dataset: StoredDataset, clip_id: str, out: Path) -> None:
    """Draw a clip at every resolution by every method.

    Time runs in seconds from the start of the trimmed clip; frequency in Hz on the mel axis on
    which the bands are evenly spaced.

    Args:
        dataset: Dataset with the clip.
        clip_id: Id of the clip.
        out: The image file; its suffix is the format.

    Raises:
        UnknownNameError: No such clip.
        StorageError: The file cannot be written.
    """
    images = dataset.read_clip(clip_id)
    figure = clip_figure(images, dataset.manifest.spec, f"{clip_id} ({dataset.card.title})")
    path = out if out.suffix else out.with_name(f"{out.name}.png")
    picture = io.BytesIO()
    try:
        figure.savefig(picture, dpi=130, format=path.suffix[1:].lower())
        write_output(path, picture.getbuffer())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StorageError(f"cannot write the plot {path}: {reason or error}") from error


def clip_figure(images: dict[str, Image], spec: FeatureSpec, title: str) -> Figure:
    """Return the figure of one clip's images, by the keys of `spec.arrays`."""
    variants = spec.variants or (FULL,)
    columns = spec.resolutions
    figure = Figure(figsize=(3.6 * len(columns), 4.6 * len(variants)), layout="constrained")
    figure.suptitle(fitted(title, _TITLE_CHARS * len(columns)))
    grid = figure.subplots(2 * len(variants), len(columns), squeeze=False)
    window = _detail(images, spec)
    for row, variant in enumerate(variants):
        for column, resolution in enumerate(columns):
            name = FULL if resolution == spec.full else variant
            image = images[f"{resolution.name}/{name}"]
            whole, detail = grid[2 * row][column], grid[2 * row + 1][column]
            label = f"{variant}: {resolution.name}, {image.shape[0]} × {image.shape[1]}"
            duration_s = _duration_s(f"{resolution.name}/{name}", spec)
            _draw(whole, image, spec, duration_s)
            whole.set_title(label, fontsize=10)
            _outline(whole, window)
            _draw(detail, image, spec, duration_s)
            _zoom(detail, window)
    for axes in grid[:, 0]:
        axes.set_ylabel("frequency (Hz)")
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    return figure


def _duration_s(array: str, spec: FeatureSpec) -> float:
    """Return the seconds an image spans: a resized one those of the full one, others their own."""
    resized = array.split("/")[1] in RESIZES
    frames = spec.full.num_frames if resized else spec.arrays[array][1]
    return frames * spec.hop_length / spec.sample_rate


def _mels(spec: FeatureSpec) -> tuple[float, float]:
    return float(hz_to_mel(spec.fmin, spec.mel_scale)), float(
        hz_to_mel(spec.fmax_hz, spec.mel_scale)
    )


def _draw(axes: Axes, image: Image, spec: FeatureSpec, duration_s: float) -> None:
    low, high = _mels(spec)
    axes.imshow(
        image,
        origin="lower",
        aspect="auto",
        extent=(0, duration_s, low, high),
        cmap="magma",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    labels = labelled_hz(np.array(_TICKS_HZ, np.float64), spec)
    shown = (spec.fmin <= labels) & (labels <= spec.fmax_hz)
    ticks = np.array(_TICKS_HZ)[shown].astype(str)
    axes.set_yticks(hz_to_mel(labels[shown], spec.mel_scale), ticks)
    axes.tick_params(labelsize=8)


def _detail(images: dict[str, Image], spec: FeatureSpec) -> _Window:
    """Return the part of what every image shows in which the full image varies most."""
    full = images[f"{spec.full.name}/{FULL}"]
    total_s = _duration_s(f"{spec.full.name}/{FULL}", spec)
    shared_s = min(_duration_s(array, spec) for array in spec.arrays)
    bands = max(2, int(full.shape[0] * _DETAIL[0]))
    frames = max(2, int(full.shape[1] * shared_s / total_s * _DETAIL[1]))
    last = max(1, int(full.shape[1] * shared_s / total_s) - frames)
    corners = [
        (b, t)
        for b in range(0, full.shape[0] - bands + 1, max(1, bands // 4))
        for t in range(0, last, max(1, frames // 4))
    ]
    band, frame = max(corners, key=lambda c: full[c[0] : c[0] + bands, c[1] : c[1] + frames].std())
    low, high = _mels(spec)
    mel, second = (high - low) / full.shape[0], total_s / full.shape[1]
    return _Window(
        frame * second, (frame + frames) * second, low + band * mel, low + (band + bands) * mel
    )


def _outline(axes: Axes, window: _Window) -> None:
    size = window.stop_s - window.start_s, window.high_mel - window.low_mel
    axes.add_patch(
        Rectangle((window.start_s, window.low_mel), *size, fill=False, edgecolor=_ACCENT, lw=1.5)
    )


def _zoom(axes: Axes, window: _Window) -> None:
    axes.set_xlim(window.start_s, window.stop_s)
    axes.set_ylim(window.low_mel, window.high_mel)
    for side in axes.spines.values():
        side.set_edgecolor(_ACCENT)
