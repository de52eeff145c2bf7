"""The networks of a finished run, and their predictions for audio files.

Files go through the extractor of the run's store, so images are bit-identical to those of training.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore import SUFFIXES, Extractor, extract_file, find_sounds, one_thread
from featurestore.errors import AudioError, cause
from featurestore.text import json_text
from schemas import (
    EXTRACTOR_VERSION,
    CheckpointName,
    FeatureSpec,
    Prediction,
    RunRecord,
    UnusedFile,
)
from trainer.data.source import as_float32
from trainer.errors import AudioInputError, CheckpointError, TrainedRunError, in_a_line
from trainer.model import Network, build_model
from trainer.oom import explain_oom
from trainer.records.checkpoint import Checkpoint
from trainer.records.finished import FinishedRun, open_finished
from trainer.records.rundir import RunDirectory
from trainer.task import TASKS

Images = dict[str, NDArray[Any]]
"""Images (bands, frames) as stored, by array."""
LESS = "take one network (--fold, or --network of `evaluate`), --device cpu, or end other programs"
"""Advice if a network or its activations do not fit into memory."""


@dataclass(frozen=True)
class TrainedNetwork:
    """One network of a run.

    Args:
        model: Network in eval mode, on its device, in float32.
        fold: Held-out fold.
        array: Key of the array of its input images, the last it was trained on.
        checkpoint: Checkpoint from which it was loaded.
    """

    model: Network
    fold: int
    array: str
    checkpoint: Checkpoint

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.model.parameters()).device

    @torch.inference_mode()
    def probabilities(self, images: Tensor) -> NDArray[np.float64]:
        """Return class probabilities (b, classes) of images (b, 1, bands, frames) in [0, 1].

        Rows sum to 1, unless clips may have several labels.
        """
        task = TASKS[self.checkpoint.config.task]
        return task.probabilities(self.model(images).double()).cpu().numpy()


def open_run(path: Path) -> FinishedRun:
    """Open a finished run whose networks this program can use.

    Raises:
        TrainedRunError: There is no run at `path`, or it is unfinished or damaged, or its features
            are those of another version.
    """
    run = open_finished(path)
    record = run.record
    if record.extractor_version != EXTRACTOR_VERSION:
        raise TrainedRunError(
            f"{path}: trained on features of extractor version {record.extractor_version}, and "
            f"this program's is {EXTRACTOR_VERSION}; use featurestore "
            f"{record.versions.get('featurestore', 'as it was then')}, or train again"
        )
    return run


def load_network(
    run: FinishedRun, fold: int, name: CheckpointName, device: torch.device
) -> TrainedNetwork:
    """Load one of a run's networks.

    Args:
        run: Result of `open_run`.
        fold: Held-out fold of the network.
        name: `best` or `last`.
        device: Device for the network.

    Raises:
        CheckpointError: The checkpoint is missing, damaged, or from another run.
        DeviceMemoryError: The network does not fit.
    """
    path = RunDirectory(run.path).fold(fold).network(name)
    if (run.config.selection, name) == ("last", "best") and not path.exists():
        note = "a run with --selection last picks none; take --checkpoint last"
        raise CheckpointError(f"{path}: does not exist: {note}")
    with explain_oom(lambda: f"out of memory on {device}: {path} does not fit in addition; {LESS}"):
        checkpoint = run.checkpoint(fold, name)
        model = build_model(run.config.arch, len(checkpoint.class_names), seed=0)
        try:
            model.load_state_dict(checkpoint.model)
        except RuntimeError as error:
            what = f"{path}: is not a {run.config.arch}: {in_a_line(error)}"
            raise CheckpointError(what) from error
        model.eval().to(device).to(memory_format=torch.channels_last)
        return TrainedNetwork(model, fold, checkpoint.array, checkpoint)


def audio_files(
    paths: Sequence[Path], notify: Callable[[str], None] = lambda line: None
) -> tuple[Path, ...]:
    """Return the given files, and the audio files in given directories at any depth, each once.

    In directories, files with the suffix of a format that libsndfile reads are used, except hidden
    ones. A file given by itself may have any suffix.

    Args:
        paths: Files and directories.
        notify: Called with a line for each directory in which files are left out.

    Raises:
        AudioInputError: A directory contains no audio.
    """
    files: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            files[path] = None
            continue
        inside = find_sounds(path)
        left_out = ", ".join(inside.left_out)
        if not inside.files:
            raise AudioInputError(
                f"{path}: no audio in it, but {left_out or 'nothing'}; expected "
                f"{', '.join(sorted(SUFFIXES))}"
            )
        if left_out:
            notify(f"{path}: left out: {left_out}")
        files.update(dict.fromkeys(inside.files))
    return tuple(files)


def predict(
    record: RunRecord,
    networks: Sequence[TrainedNetwork],
    files: Sequence[Path],
    threshold: float = 0.5,
) -> Iterator[Prediction | UnusedFile]:
    """Yield the prediction for each file, in order.

    Each file is a batch of its own, so that its probabilities do not depend on the others.

    Args:
        record: Record of the networks' run.
        networks: At least one network; probabilities are averaged.
        files: Files in any format that libsndfile reads.
        threshold: Minimum probability of a label, in [0, 1], if clips may have several labels.

    Raises:
        DeviceMemoryError: Not even one clip fits.
        SpecError: The version of librosa differs from that of the networks' features.
    """
    extractor = Extractor(record.features, record.versions.get("librosa"))
    for path in files:
        try:
            with one_thread():
                images, _ = extract_file(path, extractor)
        except (AudioError, OSError) as error:
            reason = str(error) if isinstance(error, AudioError) else cause(error)
            yield UnusedFile(path=json_text(path), reason=reason)
            continue
        probabilities = mean_probabilities(networks, images, record.features)
        least = threshold if record.config.task == "multilabel" else None
        yield _prediction(path, record.class_names, probabilities, least)


def mean_probabilities(
    networks: Sequence[TrainedNetwork], images: Images, features: FeatureSpec
) -> NDArray[np.float64]:
    """Return class probabilities (classes,), averaged over the networks.

    Args:
        networks: Networks, all on one device; each uses its own array.
        images: Images of one clip, as stored, by array.
        features: Spec of the images.
    """
    probabilities, device = [], networks[0].device
    with explain_oom(lambda: f"out of memory on {device}: not even one clip fits; {LESS}"):
        for network in networks:
            image = torch.from_numpy(images[network.array])[None, None].to(device)
            stored = as_float32(image, features.scale_of(network.array))
            probabilities.append(network.probabilities(stored)[0])
    return np.asarray(np.mean(probabilities, axis=0))


def _prediction(
    path: Path,
    class_names: Sequence[str],
    probabilities: NDArray[np.float64],
    threshold: float | None,
) -> Prediction:
    best = int(probabilities.argmax())
    values = np.minimum(probabilities, 1.0).tolist()
    labels = None
    if threshold is not None:
        ranked = np.argsort(-probabilities, kind="stable").tolist()
        labels = tuple(class_names[i] for i in ranked if values[i] >= threshold)
    return Prediction(
        path=json_text(path),
        class_name=class_names[best],
        probability=values[best],
        probabilities=dict(zip(class_names, values, strict=True)),
        labels=labels,
    )
