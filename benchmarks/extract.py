"""Time per clip for five arrays, compared with the floor and with other tools.

One process, one thread, the same files, all cases in turns; each ratio is of one file in one round.

    python -m benchmarks.extract [--clips 16] [--rounds 5]
"""

import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import librosa
import numpy as np
import scipy.fft
import scipy.ndimage
import soundfile
import soxr
import typer
from threadpoolctl import threadpool_limits

from benchmarks.record import interleave, ratios, save, table
from featurestore import Extractor, FeatureSpec, extract_file
from featurestore.building.block import BlockTask, block_tasks, build_once
from featurestore.building.build import blocks_where
from featurestore.building.executors import SerialExecutor
from featurestore.building.manifests import plan_manifest
from featurestore.datasets import load_dataset
from featurestore.extraction.features import window
from featurestore.storage import locate
from featurestore.store.cliptable import clip_tables
from featurestore.store.creation import claim_arrays, create_arrays
from schemas import ClipStatus

SPEC = FeatureSpec()
WINDOW = window(SPEC)
EXTRACTOR = Extractor(SPEC)
AUDIO = Path(__file__).parents[2] / "shared" / "data" / "esc10"
Case = Callable[[Path], object]


def ours(path: Path) -> object:
    """Decode, resample, and compute all five images as they are stored."""
    return extract_file(path, EXTRACTOR)


def floor(path: Path) -> object:
    """Do what no implementation can avoid: read, resample, and one float32 FFT of the frames.

    The FFT is done in pieces that fit a cache, as a fast implementation would.
    """
    samples, rate = soundfile.read(path, dtype="float32")
    waveform = soxr.resample(samples, rate, 22_000, "HQ")  # the files are mono
    padded = np.pad(waveform, 512, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 1024)[::256]
    spectra = [scipy.fft.rfft(frames[i : i + 64] * WINDOW) for i in range(0, len(frames), 64)]
    return spectra[-1]


def obvious(path: Path) -> object:
    """Compute the five images as an ordinary librosa script does: each one from the file."""
    return [
        _librosa(path, n_mels, frames, size)
        for n_mels, frames, size in (
            (64, 128, None),
            (128, 300, (64, 128)),
            (96, 214, None),
            (128, 300, (96, 214)),
            (128, 300, None),
        )
    ]


def _librosa(path: Path, n_mels: int, frames: int, size: tuple[int, int] | None) -> object:
    waveform, rate = librosa.load(path, sr=22_000)
    parts = librosa.effects.split(waveform, top_db=20, frame_length=2048, hop_length=4400)
    waveform = waveform[max(parts[0, 0] - 4400, 0) : parts[-1, 1] + 4400]
    mel = librosa.feature.melspectrogram(
        y=waveform, sr=rate, n_fft=1024, hop_length=256, n_mels=n_mels, htk=True, norm=None
    )
    level = librosa.power_to_db(mel, top_db=100)
    image = (level - level.min()) / max(level.max() - level.min(), 1e-9)
    image = np.tile(image, -(-frames // image.shape[1]))[:, :frames]
    if size is not None:
        zoom = [new / old for new, old in zip(size, image.shape, strict=True)]
        image = scipy.ndimage.zoom(image, zoom, order=1, grid_mode=True, mode="nearest")
    return image.astype(np.float16)


def lhotse_case() -> Case:
    """Return the case that computes one image with lhotse's filterbank features."""
    from lhotse import Fbank, FbankConfig, Recording

    extract = Fbank(
        FbankConfig(
            sampling_rate=22_000,
            num_filters=128,
            frame_length=1024 / 22_000,
            frame_shift=256 / 22_000,
        )
    )

    def case(path: Path) -> object:
        samples = Recording.from_file(path).resample(22_000).load_audio()
        return extract.extract(samples, 22_000)

    return case


def torchaudio_case() -> Case:
    """Return the case that computes one image with torchaudio's MelSpectrogram."""
    import torch
    from torchaudio.functional import resample
    from torchaudio.transforms import MelSpectrogram

    torch.set_num_threads(1)
    transform = MelSpectrogram(22_000, n_fft=1024, hop_length=256, n_mels=128)

    def case(path: Path) -> object:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return transform(resample(torch.from_numpy(samples.T), rate, 22_000)).log10()

    return case


def available() -> tuple[dict[str, Case], dict[str, str]]:
    """Return the cases by name, and why each other one is left out."""
    cases: dict[str, Case] = {"floor": floor, "featurestore": ours, "librosa script": obvious}
    missing = {}
    for name, make in (
        ("lhotse, 1 variant", lhotse_case),
        ("torchaudio, 1 variant", torchaudio_case),
    ):
        try:
            cases[name] = make()
            cases[name](next(iter(sorted((AUDIO / "audio").iterdir()))))
        except Exception as error:  # noqa: BLE001  (a comparison that cannot run is reported, not fatal)
            cases.pop(name, None)
            missing[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return cases, missing


def compare(files: list[Path], cases: dict[str, Case], rounds: int) -> list[dict[str, object]]:
    """Return a row per case: ms per clip, and its time over the floor's and over ours."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for file in files:
        found = interleave({name: partial(case, file) for name, case in cases.items()}, rounds)
        for name in cases:
            times[name] += found[name][1:]
    rows: list[dict[str, object]] = []
    for name, seconds in times.items():
        over_floor = median(a / b for a, b in zip(seconds, times["floor"], strict=True))
        over_ours = median(a / b for a, b in zip(seconds, times["featurestore"], strict=True))
        rows.append(
            {
                "case": name,
                "ms per clip": 1000 * median(seconds),
                "over the floor": over_floor,
                "over featurestore": over_ours,
            }
        )
    return rows


class Blocks:
    """The blocks of a build of one fold of files, each read, extracted, encoded and committed.

    Args:
        wavs: The files, at fold/class/file.
        store: Path of the store to build.
    """

    def __init__(self, wavs: list[Path], store: Path) -> None:
        self._dataset = load_dataset("folder", wavs[0].parents[2])
        self._manifest = plan_manifest(self._dataset, SPEC)
        self._store = store
        self.tasks: list[BlockTask] = []

    def start(self) -> None:
        """Create a store in which every block is pending."""
        shutil.rmtree(self._store, ignore_errors=True)
        arrays = claim_arrays(locate(self._store), self._manifest)
        create_arrays(arrays, clip_tables(self._dataset.clips, self._manifest))
        pending = blocks_where(arrays, lambda status: status == ClipStatus.PENDING)
        self.tasks = block_tasks(arrays, self._dataset.root, pending)

    def build(self) -> object:
        """Build all blocks in this process, as a worker of a build does."""
        return list(SerialExecutor().run(build_once, self.tasks))


def whole_build(wavs: list[Path], rounds: int) -> dict[str, object]:
    """Build and commit blocks; compare with the floor and the librosa script for the same files.

    A block is committed while the next one is extracted, so more than one core is busy: processor
    time is measured, too.
    """
    processor: dict[str, list[float]] = {"blocks": [], "floor": []}

    def counted(name: str, run: Callable[[], object]) -> Callable[[], None]:
        def case() -> None:
            started = time.process_time()
            run()
            processor[name].append(time.process_time() - started)

        return case

    with tempfile.TemporaryDirectory() as place:
        blocks = Blocks(wavs, Path(place) / "s.zarr")
        cases = {
            "blocks": counted("blocks", blocks.build),
            "floor": counted("floor", lambda: [floor(wav) for wav in wavs]),
            "script": lambda: [obvious(wav) for wav in wavs],
        }
        times = interleave(cases, rounds + 1, {"blocks": blocks.start})
    times = {name: seconds[1:] for name, seconds in times.items()}
    processor = {name: seconds[1:] for name, seconds in processor.items()}
    over, script = ratios(times, "blocks", "floor"), ratios(times, "script", "blocks")
    return {
        "clips": len(wavs),
        "blocks": len(blocks.tasks),
        "ms per clip": 1000 * median(times["blocks"]) / len(wavs),
        "over the floor": over["median"],
        "low": over["low"],
        "high": over["high"],
        "librosa script over it": script["median"],
        "processor time over the floor's": ratios(processor, "blocks", "floor")["median"],
    }


def write_wavs(files: list[Path], root: Path) -> list[Path]:
    """Write the files as 16-bit WAV at fold/class/file; return their paths."""
    place = root / "fold1" / "sound"
    place.mkdir(parents=True)
    for file in files:
        samples, rate = soundfile.read(file)
        soundfile.write(place / f"{file.stem}.wav", samples, rate, subtype="PCM_16")
    return sorted(place.iterdir())


def main(
    clips: Annotated[int, typer.Option(min=1)] = 16,
    rounds: Annotated[int, typer.Option(min=2)] = 5,
    build_clips: Annotated[int, typer.Option(min=1, help="Clips of the whole build.")] = 256,
) -> None:
    """Time the extraction of clips, and whole blocks."""
    if not AUDIO.is_dir():
        typer.echo("the real audio of ../shared/data is not on this machine: nothing measured")
        raise typer.Exit(0)
    warnings.simplefilter("ignore")  # of the libraries compared
    files = sorted((AUDIO / "audio").iterdir())
    files = files[:: max(1, len(files) // max(clips, build_clips))]
    cases, missing = available()
    results: dict[str, object] = {"left out": missing}
    with tempfile.TemporaryDirectory() as place, threadpool_limits(1):
        wavs = write_wavs(files[:build_clips], Path(place))
        for kind, inputs in (("wav", wavs[:clips]), ("ogg", files[:clips])):
            rows = compare(inputs, cases, rounds)
            table(rows, f"{kind}: five arrays per clip, one thread")
            results[kind] = rows
        block = results["build"] = whole_build(wavs, rounds)
        table([block], "blocks read, extracted, encoded and committed in one process, WAV")
    save("extract", results, clips=clips, rounds=rounds)


if __name__ == "__main__":
    typer.run(main)
