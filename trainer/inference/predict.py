"""Sounds in files, through the extractor of the run's store, to probabilities of classes."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featurestore import SUFFIXES, Extractor, extract_file, find_sounds, one_thread
from featurestore.errors import AudioError
from featurestore.text import json_text
from schemas import Prediction, RunRecord, UnusedFile
from trainer.data.source import as_float32
from trainer.errors import AudioInputError
from trainer.oom import explain_oom
from trainer.records.trained import LESS, TrainedNetwork

Images = dict[str, NDArray[Any]]
"""(bands, frames) as stored, by array."""


def audio_files(
    paths: Sequence[Path], notify: Callable[[str], None] = lambda line: None
) -> tuple[Path, ...]:
    """Return the files named, and those of the directories named, at any depth; each once.

    Of a directory's files, those with the suffix of a format that libsndfile reads; hidden ones
    are left out. A file that is named is taken whatever its suffix.

    Args:
        paths: Files and directories.
        notify: Is given a line for each directory of which something is left out.

    Raises:
        AudioInputError: There is no audio in a directory.
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
    record: RunRecord, networks: Sequence[TrainedNetwork], files: Sequence[Path]
) -> Iterator[Prediction | UnusedFile]:
    """Yield the networks' prediction for each file, in order.

    Each file is a batch of its own, so that its probabilities do not depend on the others.

    Args:
        record: Record of the networks' run.
        networks: At least one; their probabilities are averaged.
        files: Files of any format libsndfile reads.

    Raises:
        DeviceMemoryError: Not even one clip fits.
    """
    extractor = Extractor(record.features)
    for path in files:
        try:
            with one_thread():
                images, _ = extract_file(path, extractor)
        except (AudioError, OSError) as error:
            yield UnusedFile(path=json_text(path), reason=_reason(error))
            continue
        shares = judge(networks, images, record.features.scale)
        yield _prediction(path, record.class_names, shares)


def judge(networks: Sequence[TrainedNetwork], images: Images, scale: float) -> NDArray[np.float64]:
    """Return the probability of each class, (classes,): the mean over the networks.

    Args:
        networks: Each takes its own array.
        images: Images of one clip, as stored.
        scale: A stored value times this is in [0, 1].
    """
    shares = [_judge_one(network, images, scale) for network in networks]
    return np.asarray(np.mean(shares, axis=0))


def _judge_one(network: TrainedNetwork, images: Images, scale: float) -> NDArray[np.float64]:
    with explain_oom(lambda: f"out of memory on {network.device}: not even one clip fits; {LESS}"):
        image = torch.from_numpy(images[network.array])[None, None].to(network.device)
        shares: NDArray[np.float64] = network.probabilities(as_float32(image, scale))[0]
        return shares


def _prediction(path: Path, class_names: Sequence[str], shares: NDArray[np.float64]) -> Prediction:
    best = int(shares.argmax())
    values = np.minimum(shares, 1.0).tolist()
    return Prediction(
        path=json_text(path),
        class_name=class_names[best],
        probability=values[best],
        probabilities=dict(zip(class_names, values, strict=True)),
    )


def _reason(error: AudioError | OSError) -> str:
    """Return the reason in one line, without the path."""
    return str(error) if isinstance(error, AudioError) else error.strerror or str(error)
