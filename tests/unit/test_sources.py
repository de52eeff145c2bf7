"""Files that a build opens: regular, bounded, and below the dataset's root."""

import os
import resource
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.building.build import build
from featurestore.checking.verify import verify
from featurestore.datasets import load_dataset
from featurestore.errors import AudioError
from featurestore.extraction import audio
from featurestore.extraction.sources import clip_file, open_source
from schemas import ClipStatus, FeatureSpec
from tests.conftest import write_folder


def refusal(root: Path, path: str) -> str:
    with pytest.raises(AudioError) as caught:
        clip_file(root, path)
    assert caught.value.status == ClipStatus.MISSING
    return caught.value.detail


@pytest.mark.parametrize("path", ["../secret.wav", "a/../../secret.wav", "/etc/passwd", "a/.."])
def test_a_path_that_leaves_the_root_is_not_opened(tmp_path: Path, path: str) -> None:
    assert "leaves the dataset's root" in refusal(tmp_path, path)


@pytest.mark.parametrize("where", ["fold1/dog/a.wav", "fold1/dog", "fold1"])
def test_a_link_out_of_the_root_is_not_followed_wherever_it_stands(
    tmp_path: Path, where: str
) -> None:
    root = write_folder(tmp_path / "outside").parent / "root"
    link = root / where
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "outside" / "fold1")
    assert f"to {tmp_path / 'outside'}" in refusal(root, "fold1/dog/a.wav")


def test_a_link_below_the_root_and_a_root_that_is_a_link_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real" / "data").mkdir(parents=True)
    (tmp_path / "real" / "data" / "a").write_bytes(b"sound")
    (tmp_path / "real" / "a.wav").symlink_to("data/a")
    (tmp_path / "root").symlink_to("real")
    assert clip_file(tmp_path / "root", "a.wav").read_bytes() == b"sound"


@given(steps=st.lists(st.sampled_from(["..", ".", "", "in", "out", "file"]), max_size=6))
def test_no_spelling_of_a_path_leads_out(
    steps: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.getbasetemp() / "spelling"
    root = base / "root"
    if not root.exists():
        (root / "in").mkdir(parents=True)
        (root / "out").symlink_to(base)
        (root / "in" / "out").symlink_to("../..")
    try:
        file = clip_file(root, "/".join(steps))
    except AudioError:
        return
    assert Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root))


def test_a_build_counts_links_out_as_failures_and_reads_none_of_them(tmp_path: Path) -> None:
    outside = write_folder(tmp_path / "outside")
    root = write_folder(tmp_path / "root")
    secret = root / "fold1" / "high" / "secret.wav"
    secret.symlink_to(outside / "fold1" / "high" / "high0.wav")
    report = build(load_dataset("folder", root), tmp_path / "s.zarr")
    assert report.manifest.counts == {"ok": 20, "missing": 1}
    assert [failure.path for failure in report.failures] == ["fold1/high/secret.wav"]
    assert "leads out of the dataset's root" in report.failures[0].detail


def test_verifying_against_a_root_follows_no_link_out_of_it(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "root", num_folds=1, clips_a_class=1)
    build(load_dataset("folder", root), tmp_path / "s.zarr")
    (root / "fold1").rename(tmp_path / "elsewhere")
    (root / "fold1").symlink_to(tmp_path / "elsewhere")
    problems = [text for part in verify(tmp_path / "s.zarr", root=root) for text in part]
    assert len(problems) == 2
    assert all("leads out" in problem for problem in problems)


def test_a_pipe_a_socket_a_device_and_a_link_in_a_circle_do_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipe, unix, circle = tmp_path / "pipe", tmp_path / "socket", tmp_path / "circle"
    os.mkfifo(pipe)
    circle.symlink_to(circle)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(unix.name)  # an address has room for 107 characters only
        for path in (pipe, unix, circle, Path("/dev/zero"), tmp_path, tmp_path / ("x" * 300)):
            with pytest.raises(AudioError) as caught:
                audio.load(path, FeatureSpec())
            assert caught.value.status == ClipStatus.MISSING, path


def test_a_file_of_many_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.wav"
    path.touch()
    os.truncate(path, 1 << 40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    with pytest.raises(AudioError, match="1099511627776 bytes") as caught:
        audio.load(path, FeatureSpec())
    assert caught.value.status == ClipStatus.TOO_LONG
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 0.5


def test_a_refused_file_leaves_no_descriptor_open(tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_bytes(b"12345")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with pytest.raises(AudioError):
            open_source(path, max_bytes=4)
        with pytest.raises(AudioError):
            audio.load(path, FeatureSpec())
    # Fewer where the garbage of other tests was collected meanwhile.
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
