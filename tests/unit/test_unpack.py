"""An archive from the internet writes plain files under one directory, or nothing is taken."""

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from featurestore.download.unpack import Limits, unpack
from featurestore.errors import ArchiveError, DownloadError

LIMITS = Limits(members=50, num_bytes=4_000_000)


def member(name: str, data: bytes = b"data", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def pack(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


def everything(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*")}


def test_files_and_directories_come_out(tmp_path: Path) -> None:
    big = os.urandom(2_100_000)
    archive = pack(
        tmp_path / "a.tgz",
        member("top", b"", type=tarfile.DIRTYPE),
        member("top/audio/a.wav", b"a"),
        member("top/" + "long" * 40 + ".wav", b"b", mode=0o4777),
        member("top/big.wav", big),
        member("top/empty.wav", b""),
    )
    unpack(archive, tmp_path / "out", LIMITS)
    top = tmp_path / "out" / "top"
    assert (top / "audio/a.wav").read_bytes() == b"a"
    assert (top / "big.wav").read_bytes() == big
    assert (top / "empty.wav").read_bytes() == b""
    assert not (top / ("long" * 40 + ".wav")).stat().st_mode & 0o4111


@pytest.mark.parametrize(
    ("hostile", "told"),
    [
        ([member("../evil")], "leads out"),
        ([member("a/../../evil")], "leads out"),
        ([member("/evil-of-featurestore")], "leads out"),
        ([member("..\\evil")], "leads out"),
        ([member("C:/evil")], "leads out"),
        ([member("a\nb")], "no name"),
        ([member("ok"), member("link", b"", type=tarfile.SYMTYPE, linkname="/etc")], "neither"),
        ([member("link", b"", type=tarfile.SYMTYPE, linkname=".."), member("link/x")], "neither"),
        ([member("ok"), member("hard", b"", type=tarfile.LNKTYPE, linkname="ok")], "neither"),
        ([member("hard", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd")], "neither"),
        ([member("null", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)], "neither"),
        ([member("disk", b"", type=tarfile.BLKTYPE, devmajor=8)], "neither"),
        ([member("pipe", b"", type=tarfile.FIFOTYPE)], "neither"),
        ([member("twice"), member("twice", b"other")], "twice"),
        ([member("twice"), member("twice/below")], "twice"),
        ([member("twice/below"), member("twice")], "twice"),
        ([member("a/" * 3000 + "deep")], "name"),
        ([member("n" * 300)], "name"),
        ([member(f"file{number}") for number in range(51)], "more than 50 members"),
        ([member("bomb", bytes(5_000_000))], "unpacks to more than 4,000,000 bytes"),
        ([member("x" * 2_000_000)], "a header of"),
        ([member("f", b"", pax_headers={"comment": "x" * 2_000_000})], "a header of"),
    ],
)
def test_a_hostile_archive_is_refused_and_writes_nothing_outside(
    tmp_path: Path, hostile: list[tuple[tarfile.TarInfo, bytes]], told: str
) -> None:
    archive = pack(tmp_path / "a.tgz", *hostile)
    with pytest.raises(ArchiveError, match=told):
        unpack(archive, tmp_path / "out", LIMITS)
    assert {name.split("/")[0] for name in everything(tmp_path)} == {"a.tgz", "out"}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
    assert not Path("/evil-of-featurestore").exists()


def test_a_file_that_declares_far_more_than_it_holds_is_refused_before_it_is_read(
    tmp_path: Path,
) -> None:
    info, _ = member("liar")
    info.size = 10**13
    archive = tmp_path / "a.tgz"
    archive.write_bytes(gzip.compress(info.tobuf() + bytes(2048)))
    with pytest.raises(ArchiveError, match="damaged"):
        unpack(archive, tmp_path / "out", LIMITS)


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    info, _ = member("sparse", b"", type=tarfile.GNUTYPE_SPARSE)
    archive = tmp_path / "a.tgz"
    archive.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)))
    with pytest.raises(ArchiveError, match="neither"):
        unpack(archive, tmp_path / "out", LIMITS)


def test_headers_without_end_are_refused(tmp_path: Path) -> None:
    info, _ = member("././@LongLink", b"", type=tarfile.GNUTYPE_LONGNAME)
    archive = tmp_path / "a.tgz"
    archive.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) * 3000))
    with pytest.raises(ArchiveError, match="damaged"):
        unpack(archive, tmp_path / "out", LIMITS)


def test_a_damaged_archive_is_told_wherever_it_is_damaged(tmp_path: Path) -> None:
    whole = pack(tmp_path / "a.tgz", member("a", os.urandom(3000)), member("b")).read_bytes()
    spoiled = [
        b"",
        b"<html>not found</html>",
        gzip.compress(b"no tar"),
        *(whole[:size] for size in range(1, len(whole), 97)),
        *(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(40, 3000, 293)),
        whole[:-5] + b"xxxxx",
    ]
    for number, data in enumerate(spoiled):
        archive = tmp_path / f"{number}.tgz"
        archive.write_bytes(data)
        with pytest.raises(ArchiveError):
            unpack(archive, tmp_path / f"out{number}", LIMITS)


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tgz", member("a"))
    with pytest.raises(DownloadError, match="cannot be written"):
        unpack(archive, tmp_path / "no" / "out", LIMITS)
