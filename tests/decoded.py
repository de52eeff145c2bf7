"""Outcomes of decoding any bytes as a clip."""

from pathlib import Path

from featurestore.errors import AudioError
from featurestore.extraction import audio
from schemas import ClipStatus, FeatureSpec

SPEC = FeatureSpec()


def outcome(tmp_path: Path, data: bytes) -> float | AudioError:
    """The seconds that were read, or the error."""
    file = tmp_path / "clip"
    file.write_bytes(data)
    try:
        return audio.load(file, SPEC).duration_s
    except AudioError as error:
        return error


def status(tmp_path: Path, data: bytes) -> ClipStatus:
    found = outcome(tmp_path, data)
    assert isinstance(found, AudioError), f"ok, {found} s"
    return found.status


def seconds(tmp_path: Path, data: bytes) -> float:
    found = outcome(tmp_path, data)
    assert isinstance(found, float), str(found)
    return found
