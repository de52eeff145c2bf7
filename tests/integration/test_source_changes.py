"""Sources that change after the build: `build` says which and what to do, `verify` proves it."""

import os
import shutil
from pathlib import Path

import pytest

from featurestore.building.build import build
from featurestore.checking.verify import verify
from featurestore.cli import main
from featurestore.datasets import Dataset, load_dataset
from featurestore.errors import FingerprintError

pytestmark = pytest.mark.usefixtures("small_blocks")

BUILD = "build --dataset folder --workers 0"


@pytest.fixture
def built(folder: Dataset, tmp_path: Path) -> Path:
    """The store of the clips that a test then changes."""
    build(folder, tmp_path / "s.zarr")
    return tmp_path / "s.zarr"


def other_sound(folder: Dataset) -> bytes:
    return (folder.root / folder.clips[2].path).read_bytes()


def test_an_edited_clip_is_warned_of_by_build_and_proved_by_verify(
    folder: Dataset, built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited = folder.clips[0].path
    (folder.root / edited).write_bytes(other_sound(folder))
    assert main(f"{BUILD} --root {folder.root} --store {built}".split()) == 0
    (warning,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("warning")]
    assert f"1 of the files at {folder.root} changed" in warning
    assert edited in warning
    assert "build another --store" in warning
    assert main(["verify", str(built), "--root", str(folder.root)]) == 1
    assert (
        f"the file is not the one the features were made from: {edited}" in capsys.readouterr().out
    )


def test_a_wrong_root_is_one_problem_with_the_first_files_and_not_a_line_per_clip(
    folder: Dataset, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    assert main(["verify", str(built), "--root", str(tmp_path / "other")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"  {len(folder.clips)} × ")
    assert any(clip.path in lines[0] for clip in folder.clips)
    assert "repair" not in lines[-1]
    assert main(["verify", str(built), "--root", str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("absent: there is no such directory")


def test_an_edit_that_keeps_the_time_is_noticed_as_well(folder: Dataset, built: Path) -> None:
    edited = folder.root / folder.clips[0].path
    times = edited.stat()
    edited.write_bytes(other_sound(folder))
    os.utime(edited, ns=(times.st_atime_ns, times.st_mtime_ns))
    (warning,) = build(folder, built).warnings
    assert folder.clips[0].path in warning


def test_files_that_are_only_copied_or_touched_are_no_cause_for_a_warning(
    folder: Dataset, built: Path
) -> None:
    shutil.copytree(folder.root, folder.root.parent / "copy")
    assert build(load_dataset("folder", folder.root.parent / "copy"), built).warnings == ()


def test_more_newer_files_than_are_compared_are_said_to_be_unproved(
    folder: Dataset, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurestore.store.sourcecheck._COMPARED", 5)
    for clip in folder.clips:
        (folder.root / clip.path).touch()
    (warning,) = build(folder, built).warnings
    assert "20 of the files" in warning
    assert "5 were compared" in warning


def test_verify_compares_every_file_and_not_a_sample(folder: Dataset, built: Path) -> None:
    for clip in folder.clips[3:]:
        (folder.root / clip.path).write_bytes(other_sound(folder))
    told = [line for found in verify(built, root=folder.root, sample=1) for line in found]
    changed = [line for line in told if "is not the one" in line]
    assert len(changed) == 17


def test_added_removed_and_renamed_clips_are_named_with_their_number(
    folder: Dataset, built: Path
) -> None:
    removed, renamed = (folder.root / clip.path for clip in folder.clips[:2])
    removed.unlink()
    renamed.rename(renamed.with_name("renamed.flac"))
    for number in range(4):
        shutil.copy(folder.root / folder.clips[2].path, renamed.with_name(f"new{number}.wav"))
    with pytest.raises(FingerprintError) as caught:
        build(load_dataset("folder", folder.root), built)
    told = str(caught.value)
    assert "20 clips in the store, 23 in the dataset" in told
    assert "2 gone (fold1/high/high0.wav, fold1/high/high1.flac)" in told
    assert "5 new (fold1/high/new0.wav, fold1/high/new1.wav, fold1/high/new2.wav, …)" in told
    assert "name another --store" in told


def test_a_clip_moved_to_another_class_is_named(folder: Dataset, built: Path) -> None:
    moved = folder.clips[0].model_copy(update={"class_id": 1})
    other = Dataset(folder.card, folder.root, (moved, *folder.clips[1:]))
    with pytest.raises(FingerprintError, match=rf"1 listed differently .*{moved.clip_id}"):
        build(other, built)
