"""Figures of one clip: as in the paper's figure 1, and for every resize operator. Pure.

All panels of a figure share one time scale, in seconds from the start of the trimmed clip, so that
a cropped image shows what it lacks. Frequency is in Hz on a mel axis, on which the bands are evenly
spaced, with the ticks of librosa's displays.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from featurestore.errors import StoreError
from featurestore.extraction.features import hz_to_mel, labelled_hz
from featurestore.extraction.resize import RESIZES, resizer
from featurestore.pictures import fitted
from featurestore.reading.axes import (
    Window,
    detail_window,
    duration_s,
    mel_bounds,
    repetition_period,
)
from featurestore.store.axes import axes_of
from schemas import FULL, FeatureSpec

Image = NDArray[np.float32]

_TICKS_HZ = (0, 512, 1024, 2048, 4096, 8192, 16_384, 32_768)
_TITLE_CHARS = 28
"""Maximum characters per line of the title and column of images."""
_ACCENT = "#00e5ff"
_NOTHING = "#e6e6e6"
"""Colour of the time that an image does not cover."""
_ENVELOPE = 1000
"""Number of points of a drawn waveform."""
_FEATURE_TICKS = 5
_ROOM_FOR_WORDS = 0.2
"""Minimum fraction of a panel's width into which the word `repeated` fits."""


@dataclass(frozen=True)
class _Panels:
    """Draws the images of one clip.

    Args:
        spec: Spec of the store.
        stop_s: Seconds of the longest image, at which every time axis ends.
        period_s: Seconds after which the clip was repeated; None if it was not.
        window: Part that is magnified.
    """

    spec: FeatureSpec
    stop_s: float
    period_s: float | None
    window: Window

    def whole(self, axes: Axes, image: Image, array: str, title: str) -> AxesImage:
        """Draw an image on the common time scale, and where the magnified part lies."""
        drawn = draw(axes, image, self.spec, width_s := duration_s(array, self.spec))
        axes.set_title(title, fontsize=9)
        axes.set_xlim(0, self.stop_s)
        axes.locator_params(axis="x", nbins=5)
        axes.set_facecolor(_NOTHING)
        if self.period_s is not None:
            _mark_repetition(axes, self.period_s, width_s, self.stop_s)
        start, low = self.window.start_s, self.window.low_mel
        size = self.window.stop_s - start, self.window.high_mel - low
        axes.add_patch(Rectangle((start, low), *size, fill=False, edgecolor=_ACCENT, lw=1.5))
        return drawn

    def detail(self, axes: Axes, image: Image, array: str) -> None:
        """Draw the magnified part of an image."""
        draw(axes, image, self.spec, duration_s(array, self.spec))
        axes.set_xlim(self.window.start_s, self.window.stop_s)
        axes.set_ylim(self.window.low_mel, self.window.high_mel)
        for side in axes.spines.values():
            side.set_edgecolor(_ACCENT)


def _mark_repetition(axes: Axes, period_s: float, width_s: float, shown_s: float) -> None:
    """Mark what repeats the first seconds of an image; `shown_s` is the length of the axes."""
    if period_s >= width_s:
        return
    axes.axvspan(period_s, width_s, facecolor="white", alpha=0.25, lw=0)
    for start in np.arange(period_s, width_s, period_s):
        axes.axvline(start, color="white", ls="--", lw=1)
    if width_s - period_s > _ROOM_FOR_WORDS * shown_s:
        _, top = axes.get_ylim()
        axes.text(period_s, top, " repeated", color="white", va="top", fontsize=7)


def clip_figure(
    images: Mapping[str, Image], spec: FeatureSpec, title: str, waveform: Image | None = None
) -> Figure:
    """Return the figure of one clip.

    Args:
        images: Images (bands, frames) in [0, 1], and features, by the keys of `spec.arrays`.
        spec: Spec of the store.
        title: Title, wrapped to several lines if necessary.
        waveform: (N,) at the spec's sample rate, trimmed; drawn above the full image.
    """
    small, variants = spec.resolutions[:-1], spec.variants or (FULL,)
    columns, full = len(small) + 1, f"{spec.full.name}/{FULL}"
    rows, below = 2 * len(variants), -(-len(spec.features) // columns)
    size = 3.6 * columns + 0.6, 2.2 * (rows + below)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(fitted(title, _TITLE_CHARS * columns), fontsize=11)
    panels = _panels(images[full], spec, spec.images)
    grid = figure.add_gridspec(rows + below, columns + 1, width_ratios=[*[1] * columns, 0.04])
    drawn_on = np.empty((2 * len(variants), len(small)), object)
    for (line, variant), (column, resolution) in product(enumerate(variants), enumerate(small)):
        whole, detail = (figure.add_subplot(grid[2 * line + i, column]) for i in (0, 1))
        drawn_on[2 * line : 2 * line + 2, column] = whole, detail
        array = f"{resolution.name}/{variant}"
        image = images[array]
        panels.whole(whole, image, array, f"{variant}: {resolution.name}, {_size(image)}")
        panels.detail(detail, image, array)
    drawn, last = _draw_full(figure, grid[:rows, columns - 1], panels, images[full], waveform)
    label_axes(drawn_on[:, 0] if small else last, [*(drawn_on[-1] if small else ()), last[-1]])
    color_bar(figure, drawn, figure.add_subplot(grid[:rows, columns]))
    for number, feature in enumerate(spec.features):
        line, column = divmod(number, columns)
        place = figure.add_subplot(grid[rows + line, column])
        _draw_feature(place, images[feature.key], feature.key, spec)
    return figure


def _draw_feature(place: Axes, values: Image, array: str, spec: FeatureSpec) -> None:
    """Draw a feature on its own scale of colours, whose range its title says."""
    *bands, time = axes_of(spec, array)
    stop_s = float(time.points[-1] + (time.points[-1] - time.points[0]) / max(1, time.points.size))
    units = getattr(spec.feature(array), "units", "1").replace("1", "")
    bounds = f"{values.min():.3g} to {values.max():.3g} {units}".strip()
    size = _size(values) if bands else f"{values.size}"
    place.set_title(f"{array}, {size}: {bounds}", fontsize=8)
    place.tick_params(labelsize=7)
    if not bands:
        place.plot(time.points, values, lw=0.3, color="#3b528b")
        place.set_xlim(0, stop_s or 1)
        return
    extent = (0, stop_s or 1, -0.5, len(values) - 0.5)
    place.imshow(
        values, origin="lower", aspect="auto", extent=extent, cmap="magma", interpolation="nearest"
    )
    (of_bands,) = bands
    ticks = np.unique(np.linspace(0, len(values) - 1, _FEATURE_TICKS).astype(int))
    place.set_yticks(ticks, [f"{of_bands.points[tick]:.0f}" for tick in ticks])
    place.set_ylabel("Hz" if of_bands.coordinate == "band_hz" else of_bands.coordinate, fontsize=7)


def _draw_full(
    figure: Figure, place: SubplotSpec, panels: "_Panels", image: Image, waveform: Image | None
) -> tuple[AxesImage, list[Axes]]:
    """Draw the full image and its detail below the waveform, if there is one."""
    spec = panels.spec
    heights = [1.0, 1.0] if waveform is None else [0.45, 1.0, 1.0]
    cells = place.subgridspec(len(heights), 1, height_ratios=heights)
    *above, whole, detail = (figure.add_subplot(cells[i]) for i in range(len(heights)))
    if waveform is not None:
        _draw_waveform(above[0], waveform, spec, panels.stop_s)
    array = f"{spec.full.name}/{FULL}"
    drawn = panels.whole(whole, image, array, f"{spec.full.name}, {_size(image)}, of all methods")
    panels.detail(detail, image, array)
    return drawn, [whole, detail]


def compare_figure(full: Image, spec: FeatureSpec, title: str) -> Figure:
    """Return the figure of a full image resized by every operator, with magnified details.

    Args:
        full: The full image (bands, frames) in [0, 1].
        spec: Spec of the store.
        title: Title, wrapped to several lines if necessary.

    Raises:
        StoreError: The spec has no smaller resolution.
    """
    small, array = spec.resolutions[:-1], f"{spec.full.name}/{FULL}"
    if not small:
        raise StoreError(f"the store has one resolution, {spec.full.name}: nothing is resized")
    columns = 2 * len(small)
    figure = Figure(
        figsize=(2.7 * columns + 0.8, 1.7 * (len(RESIZES) + 1) + 0.6), layout="constrained"
    )
    figure.suptitle(fitted(title, 21 * columns), fontsize=11)
    panels = _panels(full, spec, (array, *(f"{r.name}/{RESIZES[0]}" for r in small)))
    grid = figure.subplots(len(RESIZES) + 1, columns, squeeze=False)
    for axes in grid[0]:
        axes.set_axis_off()
    for axes in (grid[0][0], grid[0][1]):
        axes.set_axis_on()
    drawn = panels.whole(grid[0][0], full, array, f"{spec.full.name}, {_size(full)}")
    panels.detail(grid[0][1], full, array)
    for (line, variant), (column, resolution) in product(enumerate(RESIZES, 1), enumerate(small)):
        shape = resolution.n_mels, resolution.num_frames
        image = resizer(variant, (spec.full.n_mels, spec.full.num_frames), shape)(full)
        name = f"{resolution.name}/{variant}"
        whole, detail = grid[line][2 * column], grid[line][2 * column + 1]
        panels.whole(whole, image, name, f"{variant}: {resolution.name}, {_size(image)}")
        panels.detail(detail, image, name)
    label_axes(grid[:, 0], grid[-1])
    color_bar(figure, drawn)
    return figure


def _panels(full: Image, spec: FeatureSpec, arrays: Iterable[str]) -> _Panels:
    durations = [duration_s(array, spec) for array in arrays]
    period = repetition_period(full, spec)
    frame_s = spec.hop_length / spec.sample_rate
    period_s = None if period is None else period * frame_s
    shared_s = min(*durations, period_s or np.inf, np.inf)
    return _Panels(spec, max(durations), period_s, detail_window(full, spec, shared_s))


def _size(image: Image) -> str:
    return f"{image.shape[0]} × {image.shape[1]}"


def draw_array(axes: Axes, values: Image, array: str, spec: FeatureSpec) -> AxesImage | None:
    """Draw one array of a clip: an image with what is repeated marked, or a feature.

    Args:
        axes: Where to draw.
        values: (bands, frames) in [0, 1], or a feature; not resized ones show what is repeated.
        array: Its key in `spec.arrays`.
        spec: Spec of the store.

    Returns:
        The image in [0, 1], for a colour bar; None for a feature.
    """
    if array not in spec.images:
        _draw_feature(axes, values, array, spec)
        return None
    width_s = duration_s(array, spec)
    drawn = draw(axes, values, spec, width_s)
    period = repetition_period(values, spec)
    if period is not None:
        _mark_repetition(axes, period * width_s / values.shape[1], width_s, width_s)
    return drawn


def draw(axes: Axes, image: Image, spec: FeatureSpec, width_s: float) -> AxesImage:
    """Draw an image (bands, frames) that spans `width_s` seconds, on a mel axis labelled in Hz."""
    low, high = mel_bounds(spec)
    drawn = axes.imshow(
        image,
        origin="lower",
        aspect="auto",
        extent=(0, width_s, low, high),
        cmap="magma",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    labels = labelled_hz(np.array(_TICKS_HZ, np.float64), spec)
    inside = (spec.fmin <= labels) & (labels <= spec.fmax_hz)
    ticks = np.array(_TICKS_HZ)[inside].astype(str)
    axes.set_yticks(hz_to_mel(labels[inside], spec.mel_scale), ticks)
    axes.tick_params(labelsize=8)
    return drawn


def _draw_waveform(axes: Axes, waveform: Image, spec: FeatureSpec, stop_s: float) -> None:
    """Draw the range of the samples in each of some spans of time, on the common time scale."""
    part = waveform[: int(stop_s * spec.sample_rate)]
    peak = float(np.abs(waveform).max(initial=0))
    if part.size:
        edges = np.unique(np.linspace(0, part.size, _ENVELOPE, endpoint=False).astype(int))
        low, high = (bound.reduceat(part, edges) for bound in (np.minimum, np.maximum))
        axes.fill_between(edges / spec.sample_rate, low, high, lw=0.4, color="#3b528b")
    level = f"peak {20 * np.log10(peak):.1f} dBFS" if peak else "silent"
    seconds = waveform.size / spec.sample_rate
    axes.set_title(f"waveform, trimmed: {seconds:.2f} s, {level}", fontsize=9)
    axes.set_xlim(0, stop_s)
    axes.set_ylim(-(peak or 1), peak or 1)
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(labelsize=8, labelbottom=False)


def label_axes(left: Iterable[Axes], bottom: Iterable[Axes]) -> None:
    """Label the axes of the panels at the edges of a figure."""
    for axes in left:
        axes.set_ylabel("Hz", fontsize=8)
    for axes in bottom:
        axes.set_xlabel("Time (s)", fontsize=8)


def color_bar(figure: Figure, drawn: AxesImage, place: Axes | None = None) -> None:
    """Add a colour bar, to the right of all panels or in axes of its own."""
    where = {"cax": place} if place else {"ax": figure.axes, "shrink": 0.5, "aspect": 40}
    bar = figure.colorbar(drawn, **where)
    bar.set_label("feature: 0 quietest, 1 loudest of the clip", fontsize=8)
    bar.ax.tick_params(labelsize=8)
