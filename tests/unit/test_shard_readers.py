"""Readers of shards: what hostile files may cost, and that nothing of the sounds is read early."""

import gzip
import io
import json
import os
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from featurestore.building.build import build
from featurestore.datasets.collection import load_collection
from featurestore.datasets.shardrows import split_of
from featurestore.errors import AudioError, DatasetError
from featurestore.extraction import shards
from featurestore.extraction.shards.pages import plain_cells
from featurestore.extraction.shards.tar import TarError, walk_tar
from featurestore.store.plan import run_order
from featurestore.store.reader import open_store
from schemas import ClipStatus, Collection, FeatureSpec
from schemas.features import Resolution
from tests.conftest import sound

SPEC = FeatureSpec(
    resolutions=(Resolution(name="R1", n_mels=8, num_frames=8),), variants=(), max_duration_s=1.0
)
RATE = 8000


def wav(seed: int = 0, seconds: float = 0.3) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound(seed, seconds, RATE), RATE, format="WAV")
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes], form: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info.tobuf(tarfile.GNU_FORMAT)


def refusal(root: Path, how: Collection | None = None) -> str:
    with pytest.raises(DatasetError) as caught:
        load_collection(root, how=how)
    message = str(caught.value)
    assert "\n" not in message
    return message


def write_parquet(path: Path, cells: list[bytes | None], **options: Any) -> Path:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    structs = [{"bytes": data, "path": "same.wav"} for data in cells]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    columns = {"audio": pa.array(structs, kind), "label": ["ab"[i % 2] for i in range(len(cells))]}
    defaults = {"compression": "none", "use_dictionary": False}
    parquet.write_table(pa.table(columns), path, **{**defaults, **options})
    return path


def write_arrow(path: Path, cells: list[bytes | None], **options: Any) -> Path:
    pa = pytest.importorskip("pyarrow")
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    structs = pa.array([{"bytes": data, "path": "same.wav"} for data in cells], kind)
    table = pa.table({"audio": structs, "label": ["ab"[i % 2] for i in range(len(cells))]})
    written = pa.ipc.IpcWriteOptions(**options)
    file = pa.OSFile(str(path), "w")
    with file, pa.ipc.new_stream(file, table.schema, options=written) as stream:
        stream.write_table(table, max_chunksize=4)
    return path


def write_webdataset(path: Path, cells: list[bytes | None]) -> Path:
    members: dict[str, bytes] = {}
    for index, data in enumerate(cells):
        members[f"{index:03d}.cls"] = "ab"[index % 2].encode()
        if data is not None:
            members[f"{index:03d}.wav"] = data
    return write_tar(path, members)


KINDS: dict[str, Callable[[Path, list[bytes | None]], Path]] = {
    ".parquet": write_parquet,
    ".arrow": write_arrow,
    ".tar": write_webdataset,
}


@pytest.mark.parametrize("suffix", KINDS)
def test_a_bad_sound_in_a_shard_gets_the_code_that_it_gets_as_a_file(
    suffix: str, tmp_path: Path
) -> None:
    whole = wav()
    bad = {
        "empty": b"",
        "no sound": b"no sound at all " * 8,
        "cut": whole[: len(whole) // 2],
        "long": wav(seconds=1.5),
        "huge": bytes(20 << 20),
        "good": whole,
        "tagged": whole + b"LIST\4\0\0\0abcd",
        "flac in name only": b"fLaC" + whole,
        "mp4": b"\0\0\0\x20ftypM4A " + bytes(64),
    }
    (tmp_path / "files").mkdir()
    for name, data in bad.items():
        (tmp_path / "files" / f"{name}.wav").write_bytes(data)
    table = "\n".join(["path,label", *(f"{n}.wav,{'ab'[i % 2]}" for i, n in enumerate(bad))])
    (tmp_path / "files" / "clips.csv").write_text(table)
    KINDS[suffix](tmp_path / f"x{suffix}", [*bad.values()])
    codes = []
    for root in (tmp_path / "files", tmp_path / f"x{suffix}"):
        store = tmp_path / f"{root.name}.zarr"
        dataset = load_collection(root)
        report = build(dataset, store, SPEC)
        failed = {failure.clip_id: failure.status for failure in report.failures}
        codes.append([failed.get(name, ClipStatus.OK) for name in dataset.clips.clip_id.tolist()])
    assert codes[0] == codes[1]
    assert len(set(codes[0])) >= 5


def test_a_cell_without_bytes_is_missing_and_the_others_are_built(tmp_path: Path) -> None:
    path = write_arrow(tmp_path / "x.arrow", [wav(), None, wav(1)])
    found = load_collection(path)
    assert found.clips.path.tolist() == ["x.arrow", "same.wav", "x.arrow"]
    report = build(found, tmp_path / "s.zarr", SPEC)
    assert [(f.path, f.status) for f in report.failures] == [("same.wav", ClipStatus.MISSING)]
    path = write_parquet(tmp_path / "x.parquet", [wav(), None, wav(1)])
    assert "1 of 3 have no bytes, and a path at most" in refusal(path)


@pytest.mark.parametrize("suffix", KINDS)
def test_planning_reads_no_sound(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    cells: list[bytes | None] = [bytes([65 + index]) * (1 << 20) for index in range(24)]
    path = KINDS[suffix](tmp_path / f"x{suffix}", cells)
    before = load_collection(path)  # which also imports what it needs
    counters = Path("/proc/self/io")
    if not counters.exists():
        pytest.skip("this system does not count what a process reads")

    def read_bytes() -> int:
        return int(counters.read_text().split()[1])

    start = read_bytes()
    assert load_collection(path).clips == before.clips
    assert read_bytes() - start < path.stat().st_size / 20
    # And what is mapped is not looked at, either: other sounds give the same plan.
    data = path.read_bytes()
    for cell in cells:
        data = data.replace(cell or b"", bytes(1 << 20))
    path.write_bytes(data)
    assert load_collection(path).clips == before.clips


def test_a_block_reads_each_row_group_once_and_few_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: None
) -> None:
    path = write_parquet(tmp_path / "x.parquet", [wav(i, 0.1) for i in range(32)], row_group_size=4)
    from featurestore.extraction.shards.parquet import ParquetShard

    started: Counter[int] = Counter()
    start = ParquetShard._start

    def counted(self: ParquetShard, group: int) -> None:
        started[group] += 1
        start(self, group)

    monkeypatch.setattr(ParquetShard, "_start", counted)
    dataset = load_collection(path)
    build(dataset, tmp_path / "s.zarr", SPEC)
    manifest = open_store(tmp_path / "s.zarr").manifest
    assert (manifest.run_clips, manifest.block_clips) == (4, 4)
    assert started == dict.fromkeys(range(8), 1)
    items = open_store(tmp_path / "s.zarr").clips().item
    assert not np.array_equal(items, np.arange(32))
    assert sorted(items) == list(range(32))


def test_runs_stay_together_and_every_clip_is_in_one_row() -> None:
    for num_clips, run in ((0, 4), (3, 4), (4, 4), (103, 8), (64, 64)):
        order = run_order(num_clips, 1, run)
        assert sorted(order) == list(range(num_clips))
        blocks = [order[start : start + run] for start in range(0, num_clips, run)]
        assert all(len({row // run for row in block}) == 1 for block in blocks)
    assert not np.array_equal(run_order(64, 1, 4), run_order(64, 2, 4))


def test_a_tar_is_read_as_tarfile_reads_it_in_every_format(tmp_path: Path) -> None:
    members = {f"{'d' * 60}/{index}-{'n' * 90}.wav": b"x" * (500 * index) for index in range(5)}
    members["ü.txt"] = b"y"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = write_tar(tmp_path / f"{form}.tar", members, form)
        with tarfile.open(path) as tar:
            expected = [(m.name, m.size, m.offset_data - 512) for m in tar]
        descriptor = os.open(path, os.O_RDONLY)
        found = [(m.name, m.size, m.at) for m in walk_tar(descriptor)]
        os.close(descriptor)
        assert found == expected
        for (name, _, at), data in zip(found, members.values(), strict=True):
            if data:
                assert shards.read_item(path, at, 1 << 20) == members[name]


HOSTILE: dict[str, tuple[bytes, str]] = {
    "ten gigabytes in a header": (header("a.wav", 10 << 30) + wav(), "is said to have 10737418240"),
    "a name of ten gigabytes": (header("a", 10 << 30, tarfile.GNUTYPE_LONGNAME), "is said to have"),
    "a long name that is there": (
        header("a", 2 << 20, tarfile.XHDTYPE) + bytes(2 << 20) + header("b.wav"),
        "bytes of names",
    ),
    "a negative size": (header("a.wav", -5), "is said to have -5"),
    "nothing but text": (b"hello " * 200, "no header"),
    "a damaged pax header": (
        header("a", 10, tarfile.XHDTYPE) + b"99 path=x\n".ljust(512, b"\0") + header("b.wav"),
        "pax header",
    ),
    "an absolute name": (header("/etc/a.wav", 4) + b"RIFF".ljust(512, b"\0"), "absolute"),
    "a name that leads out": (header("../a.wav", 4) + b"RIFF".ljust(512, b"\0"), "leaves"),
    "a name that is no text": (header("\udcff.wav", 4) + b"RIFF".ljust(512, b"\0"), "not UTF-8"),
    "the same name twice": (
        2 * (header("a.wav", 4) + b"RIFF".ljust(512, b"\0")),
        "is there twice",
    ),
    "a label of two megabytes": (
        header("a.cls", 2 << 20) + bytes(2 << 20) + header("a.wav", 4) + b"RIFF".ljust(512, b"\0"),
        "2097152 bytes",
    ),
    "a label that is no text": (header("a.cls", 1) + b"\xff".ljust(512, b"\0"), "not UTF-8"),
    "a label that is no JSON": (header("a.json", 1) + b"{".ljust(512, b"\0"), "as JSON"),
    "nested JSON": (
        header("a.json", 100_000) + b"[" * 100_000 + bytes(352),
        "as JSON",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_tar_is_refused_in_a_line_at_once(kind: str, tmp_path: Path) -> None:
    data, reason = HOSTILE[kind]
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    started = time.perf_counter()
    assert reason in refusal(path)
    assert time.perf_counter() - started < 5


def test_what_is_no_file_in_a_tar_is_no_clip_and_is_counted(tmp_path: Path) -> None:
    sparse = header("s.wav", 512, tarfile.GNUTYPE_SPARSE) + bytes(512)
    pax = b"22 GNU.sparse.major=1\n"
    data = (
        header("d/", kind=tarfile.DIRTYPE)
        + header("l.wav", kind=tarfile.SYMTYPE, link="/etc/passwd")
        + header("h.wav", kind=tarfile.LNKTYPE, link="../x")
        + header("p.wav", kind=tarfile.FIFOTYPE)
        + sparse
        + (header("x", len(pax), tarfile.XHDTYPE) + pax.ljust(512, b"\0"))
        + (header("g.wav", 4) + b"RIFF".ljust(512, b"\0"))
        + (header("a.cls", 1) + b"k".ljust(512, b"\0") + header("a.wav", 4) + bytes(512))
        + (header("b.cls", 1) + b"k".ljust(512, b"\0"))
    )
    (tmp_path / "x.tar").write_bytes(data)
    dataset = load_collection(tmp_path / "x.tar")
    assert dataset.clips.clip_id.tolist() == ["x.tar#a.wav"]
    assert set(dataset.left_out) == {
        "2 links", "2 sparse files", "1 special files", "1 labels without a sound"
    }  # fmt: skip


def test_a_tar_that_is_cut_anywhere_is_refused_or_read_but_never_hangs(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.wav": wav(), "b.json": b"{}", "c.wav": wav(1)})
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(100):
        broken = bytearray(data[: rng.integers(1, len(data))])
        broken[rng.integers(len(broken))] ^= 1 << rng.integers(8)
        path.write_bytes(broken)
        descriptor = os.open(path, os.O_RDONLY)
        with suppress(TarError):
            assert len(list(walk_tar(descriptor))) <= 3
        os.close(descriptor)
        for item in (0, 512, 1 << 40, *rng.integers(0, len(data), 3).tolist()):
            with suppress(AudioError):
                assert len(shards.read_item(path, item, 1 << 20)) <= len(broken)


def test_a_damaged_parquet_or_arrow_file_is_a_refusal_or_bad_clips(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for suffix in (".parquet", ".arrow"):
        path = KINDS[suffix](tmp_path / f"x{suffix}", [wav(i, 0.05) for i in range(4)])
        data = path.read_bytes()
        for _ in range(60):
            broken = bytearray(data if rng.random() < 0.5 else data[: rng.integers(1, len(data))])
            for _ in range(3):
                broken[rng.integers(max(0, len(broken) - 3000), len(broken))] ^= 255
            path.write_bytes(broken)
            for item in (0, 3, 2**62):
                with suppress(AudioError):
                    shards.read_item(path, item, 1 << 20)
            with suppress(DatasetError):
                load_collection(path)


def test_a_row_group_is_only_read_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featurestore.extraction.shards import parquet

    path = write_parquet(tmp_path / "x.parquet", [bytes(1 << 20)] * 9, compression="zstd")
    assert path.stat().st_size < 1 << 16
    with pytest.raises(AudioError, match="max_duration_s allows 1000"):
        shards.read_item(path, 3, 1000)
    monkeypatch.setattr(parquet, "MOST_GROUP_BYTES", 8 << 20)
    assert "write it again with smaller row groups" in refusal(path)
    os.utime(path)
    with pytest.raises(AudioError, match="row group 0 has 9 MiB"):
        shards.read_item(path, 3, 1 << 30)


def test_a_page_that_is_larger_than_the_footer_says_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featurestore.extraction.shards import parquet

    path = write_parquet(tmp_path / "x.parquet", [bytes(4 << 20)], compression="zstd")
    data = path.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    (leaf,) = parquet.ParquetShard(os.open(path, os.O_RDONLY))._leaves[0]
    number, said = 2 * leaf.total_uncompressed_size, b""
    while number:
        said += bytes([number & 127 | (128 if number > 127 else 0)])
        number >>= 7
    assert data.count(said, footer)
    small = b"\x88" + b"\x80" * (len(said) - 2) + b"\0"  # four, in as many bytes
    path.write_bytes(data[:footer] + data[footer:].replace(said, small))
    monkeypatch.setattr(parquet, "MOST_GROUP_BYTES", 1 << 20)
    assert len(load_collection(path).clips) == 1
    with pytest.raises(AudioError, match="row group 0 has 4 MiB"):
        shards.read_item(path, 0, 1 << 30)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_parquet_of_every_kind_of_page_gives_the_bytes(
    tmp_path: Path, version: str, compression: str, dictionary: bool
) -> None:
    cells: list[bytes | None] = [bytes([i % 7]) * (1 << 12) for i in range(50)]
    options = {"data_page_version": version, "compression": compression, "row_group_size": 20}
    options |= {"data_page_size": 1 << 14, "write_batch_size": 4, "use_dictionary": dictionary}
    path = write_parquet(tmp_path / "x.parquet", cells, write_page_index=True, **options)
    for item in (0, 49, 3, 20, 19, 18, 41):
        assert shards.read_item(path, item, 1 << 20) == cells[item]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("kind", ["struct", "binary", "required"])
def test_plain_cells_lie_where_pyarrow_reads_them_and_are_not_copied(
    tmp_path: Path, version: str, kind: str
) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from featurestore.extraction.shards.parquet import ParquetShard

    rng = np.random.default_rng(3)
    for number, share_of_nulls in enumerate((0.0, 0.0, 0.3)):
        sizes = rng.integers(1, 3000, 61) if number else np.full(61, 7)
        cells = [None if rng.random() < share_of_nulls else rng.bytes(size) for size in sizes]
        column = pa.array(cells, pa.binary())
        if kind == "struct":
            column = pa.StructArray.from_arrays(
                [column, pa.nulls(61, pa.string())], ["bytes", "path"]
            )
        if kind == "required" and share_of_nulls:
            continue
        schema = pa.schema([pa.field("audio", column.type, nullable=kind != "required")])
        path = tmp_path / f"{number}.parquet"
        parquet.write_table(
            pa.table([column], schema=schema),
            path,
            row_group_size=23,
            compression="none",
            use_dictionary=False,
            data_page_version=version,
            data_page_size=5000,
            write_batch_size=3,
        )
        shard = ParquetShard(os.open(path, os.O_RDONLY))
        for row in rng.permutation(61).tolist():
            if cells[row] is None:
                with pytest.raises(AudioError, match="no bytes"):
                    shard.item(row)
            else:
                assert bytes(shard.item(row)) == cells[row]
        in_place = [shard._plain_cells(group) is not None for group in range(3)]
        groups = [cells[first : first + 23] for first in (0, 23, 46)]
        assert in_place == [None not in group for group in groups]
        shard.close()


def test_after_a_damaged_row_group_no_row_is_that_of_another(tmp_path: Path) -> None:
    from featurestore.extraction.shards.parquet import ParquetShard

    cells: list[bytes | None] = [bytes([65 + row]) * (100 + row) for row in range(12)]
    path = write_parquet(tmp_path / "x.parquet", cells, row_group_size=4)
    descriptor = os.open(path, os.O_RDONLY)
    (leaf,) = ParquetShard(descriptor)._leaves[1]
    os.close(descriptor)
    data = path.read_bytes()
    for damage in (bytes(4), b"\xff" * 12, b"\x15\x00\x15\xfe\xff\xff\x0f"):
        at = leaf.data_page_offset
        path.write_bytes(data[:at] + damage + data[at + len(damage) :])
        descriptor = os.open(path, os.O_RDONLY)
        shard = ParquetShard(descriptor)
        assert bytes(shard.item(1)) == cells[1]
        for row in (5, 5, 4, 6, 7):
            with suppress(AudioError):
                assert bytes(shard.item(row)) == cells[row]
        assert bytes(shard.item(9)) == cells[9]
        shard.close()
        os.close(descriptor)


def test_a_cell_that_stands_for_many_rows_costs_one_cell(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    options = {"use_dictionary": True, "dictionary_pagesize_limit": 2 << 20}
    path = write_parquet(tmp_path / "x.parquet", [bytes(1 << 20)] * 64, **options)
    assert path.stat().st_size < 4 << 20
    counting = pa.proxy_memory_pool(pa.default_memory_pool())
    usual = pa.default_memory_pool()
    pa.set_memory_pool(counting)
    try:
        assert len(shards.read_item(path, 63, 2 << 20)) == 1 << 20
    finally:
        pa.set_memory_pool(usual)
        shards.close_all()  # nothing may outlive the pool that it is in
    assert 1 << 20 <= counting.max_memory() < 8 << 20


def test_a_compressed_arrow_stream_is_refused(tmp_path: Path) -> None:
    path = write_arrow(tmp_path / "x.arrow", [bytes(1 << 20)] * 9, compression="zstd")
    assert "compressed" in refusal(path)
    with pytest.raises(AudioError, match="compressed"):
        shards.read_item(path, 0, 1 << 20)


def test_a_shard_that_leads_out_of_the_root_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    for suffix in (".parquet", ".tar"):
        outside = KINDS[suffix](tmp_path / f"x{suffix}", [wav()])
        (tmp_path / "root" / f"x{suffix}").symlink_to(outside)
        message = refusal(tmp_path / "root" / f"x{suffix}")
        assert "below the root" in message or "leads out" in message
        assert "leads out" in refusal(tmp_path / "root")
        (tmp_path / "root" / f"x{suffix}").unlink()


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar.zst"])
def test_a_compressed_tar_is_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b")
    for root in (tmp_path / name, tmp_path):
        message = refusal(root)
        assert f"{name}: expected a .tar" in message
        assert "gunzip" in message


def recording(**changes: Any) -> dict[str, Any]:
    source = {"type": "file", "channels": [0], "source": "a.wav"}
    facts = {"id": "a", "sources": [source], "sampling_rate": RATE, "duration": 0.3}
    return {**facts, "num_samples": 2400, "channel_ids": [0], **changes}


def cut(**changes: Any) -> dict[str, Any]:
    said = [{"custom": {"label": "owl"}, "text": "hoo"}]
    facts = {"id": "random", "start": 0.0, "duration": 0.3, "channel": 0, "type": "MonoCut"}
    return {**facts, "recording": recording(), "supervisions": said, **changes}


REFUSED_CUTS = {
    "is a MixedCut": cut(type="MixedCut"),
    "is a PaddingCut": cut(type="PaddingCut"),
    "line without a type": {"start": 0, "recording": recording()},
    "type 'command'": cut(recording=recording(sources=[{"type": "command", "source": "cat x"}])),
    "type 'url'": cut(recording=recording(sources=[{"type": "url", "source": "x"}])),
    "type 'shar'": cut(recording=recording(sources=[{"type": "shar", "source": ""}])),
    "not one source": cut(recording=recording(sources=[])),
    "changed on the fly (Speed)": cut(recording=recording(transforms=[{"name": "Speed"}])),
    "takes channel 1 of 0, 1": cut(channel=1, recording=recording(channel_ids=[0, 1])),
    "has no recording": cut(recording=None),
    "as numbers, got 'x'": cut(start="x"),
    "expected one below": cut(recording=recording(sources=[{"type": "file", "source": "/a.wav"}])),
    "which leaves": cut(recording=recording(sources=[{"type": "file", "source": "../a.wav"}])),
}


@pytest.mark.parametrize("reason", REFUSED_CUTS)
def test_a_cut_that_is_no_part_of_a_file_is_refused_by_name_and_line(
    reason: str, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_bytes(wav())
    lines = [json.dumps(cut(start=0.1, duration=0.1)), json.dumps(REFUSED_CUTS[reason])]
    (tmp_path / "cuts.jsonl").write_text("\n".join(lines))
    message = refusal(tmp_path)
    assert reason in message
    assert "line 2" in message


def test_parts_of_cuts_and_their_labels_are_those_of_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav())
    cuts = [cut(start=0.1, duration=0.2), cut(), cut(start=0.05, duration=0.1, custom={"fold": 2})]
    text = "\n".join(json.dumps(one) for one in cuts)
    (tmp_path / "cuts.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    dataset = load_collection(tmp_path, how=Collection(columns={"class": "text", "fold": ""}))
    assert dataset.clips.clip_id.tolist() == ["a.wav#t=0.1,0.3", "a.wav", "a.wav#t=0.05,0.15"]
    assert dataset.card.class_names == ("hoo",)
    by_label = load_collection(tmp_path, how=Collection(columns={"fold": ""}))
    assert by_label.card.class_names == ("owl",)
    report = build(dataset, tmp_path / "s.zarr", SPEC)
    assert report.manifest.counts == {"ok": 3}


def test_the_split_of_a_file_is_read_as_hugging_face_reads_it() -> None:
    splits = {
        "data/train-00000-of-00002.parquet": "train",
        "data/clean_100-00000-of-00002.parquet": "clean_100",
        "train/0000.parquet": "train",
        "default/validation/0.parquet": "validation",
        "birds_test.tar": "test",
        "my.dev.tar": "",
        "my-dev-2.tar": "dev",
        "trained/0.parquet": "",
        "contest.tar": "",
        "fold1/data-00000-of-00001.arrow": "fold1",
    }
    assert {file: split_of(file) for file in splits} == splits


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_without_pyarrow_a_line_says_what_to_install(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = KINDS[suffix](tmp_path / f"x{suffix}", [wav()])
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("columns", "parquet", "arrow"):
        monkeypatch.delitem(sys.modules, f"featurestore.extraction.shards.{name}", raising=False)
    assert "pip install 'featurestore[tables]'" in refusal(path)
    with pytest.raises(AudioError, match="pip install"):
        shards.read_item(path, 0, 1 << 20)


def test_the_directories_in_a_tar_are_classes_if_nothing_else_says_any(tmp_path: Path) -> None:
    members = {f"./{name}/{i}.wav": wav(i) for name in ("owl", "cat") for i in range(2)}
    dataset = load_collection(write_tar(tmp_path / "x.tar", members))
    assert dataset.card.class_names == ("cat", "owl")
    assert dataset.clips.class_id.tolist() == [1, 1, 0, 0]


def test_a_sound_is_not_mixed_with_a_longer_one_that_was_read_before(tmp_path: Path) -> None:
    from featurestore.extraction.audio import read_mono
    from featurestore.extraction.recordings import Span

    sounds = []
    for number, seconds in enumerate((2.0, 0.1, 1.0, 0.05)):
        samples = np.random.default_rng(number).uniform(-1, 1, int(8000 * seconds))
        soundfile.write(tmp_path / f"{number}.flac", samples, 8000)
        sounds.append((tmp_path / f"{number}.flac").read_bytes())
    path = write_parquet(tmp_path / "x.parquet", list(sounds))
    for number in range(4):
        file = read_mono(tmp_path / f"{number}.flac", 10)
        cell = read_mono(path, 10, Span(item=number))
        np.testing.assert_array_equal(cell[0], file[0])
        assert cell[1:] == file[1:]


def test_threads_that_read_sounds_of_one_shard_never_hear_each_other(tmp_path: Path) -> None:
    from featurestore.extraction.audio import read_mono
    from featurestore.extraction.recordings import Span

    sounds: list[bytes | None] = []
    for number in range(8):
        file = io.BytesIO()
        soundfile.write(file, sound(number, 0.05 + 0.1 * (number % 3), RATE), RATE, format="FLAC")
        sounds.append(file.getvalue())
    path = write_parquet(tmp_path / "x.parquet", sounds, row_group_size=3)
    alone = [read_mono(path, 10, Span(item=number))[0] for number in range(8)]
    order = np.random.default_rng(0).integers(8, size=200).tolist()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda item: read_mono(path, 10, Span(item=item))[0], order))
    for item, samples in zip(order, together, strict=True):
        np.testing.assert_array_equal(samples, alone[item])


def _page(num_values: int, level_bytes: int, content: bytes) -> bytes:
    """Return a Parquet page of version 2 that says of itself whatever is given."""

    def number(value: int) -> bytes:
        zigzag, out = (value << 1) ^ (value >> 63), bytearray([0x15])
        while zigzag > 127:
            out.append(zigzag & 127 | 128)
            zigzag >>= 7
        return bytes([*out, zigzag])

    sizes = number(3) + number(len(content)) + number(len(content))
    counts = [num_values, 0, num_values, 0, level_bytes, 0]
    return sizes + b"\x5c" + b"".join(map(number, counts)) + b"\x00\x00" + content


def test_what_a_page_says_of_its_levels_and_cells_bounds_no_search() -> None:
    whole = _page(2, 0, b"\x01\x00\x00\x00a\x01\x00\x00\x00b")
    cells = plain_cells(memoryview(whole), 0, len(whole), 0, 2)
    assert cells is not None
    assert [whole[at : at + size] for at, size in cells] == [b"a", b"b"]
    for lying in (_page(1 << 40, -(1 << 42), b""), _page(1 << 40, 0, bytes(4_000_000))):
        assert plain_cells(memoryview(lying), 0, len(lying), 0, 2) is None
    assert plain_cells(memoryview(whole), 0, len(whole), 0, 3) is None
