"""Parquet, Arrow, WebDataset and lhotse manifests that were made to harm: one line, in bounds."""

import json
import resource
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from featurestore.building.manifests import plan_manifest
from featurestore.datasets.collection import Naming, load_collection
from featurestore.errors import DatasetError
from schemas import FeatureSpec
from tests.pairs import each_in_turn
from tests.unit.test_shard_readers import cut, wav, write_tar

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = 8
SOUND = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def sounds(num: int = ROWS) -> Any:
    return pa.array([{"bytes": b"RIFF%d" % row, "path": None} for row in range(num)], SOUND)


def write_parquet(root: Path, table: Any, **options: Any) -> None:
    pq.write_table(table, root / "x.parquet", **options)


def write_saved(root: Path, table: Any) -> None:
    """As `save_to_disk` does."""
    with pa.OSFile(str(root / "x.arrow"), "w") as file, pa.ipc.new_stream(file, table.schema) as to:
        to.write_table(table)
    (root / "state.json").write_text(json.dumps({"_data_files": [{"filename": "x.arrow"}]}))
    (root / "dataset_info.json").write_text("{}")


def write_paths(root: Path, table: Any) -> None:
    """A table of paths, not of sounds."""
    paths = pa.array([f"{row}.wav" for row in range(len(table))])
    pq.write_table(table.set_column(0, "path", paths), root / "clips.parquet")


WRITERS = {"parquet": write_parquet, "arrow": write_saved, "table": write_paths}


def refusal(root: Path) -> str:
    """The message is one line, and no more memory is taken than labels need."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DatasetError) as caught:
        load_collection(root)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500
    return str(caught.value)


def repeated(num: int, kind: str) -> Any:
    """A megabyte that stands for every row."""
    values = pa.array(["x" * (1 << 20)])
    if kind == "runs":
        return pa.RunEndEncodedArray.from_arrays(pa.array([num], pa.int32()), values)
    return pa.DictionaryArray.from_arrays(pa.array([0] * num, pa.int32()), values)


IMPOSSIBLE = {
    "a date beyond time": lambda: pa.array([2**30] * ROWS, pa.date32()),
    "no UTF-8": lambda: pa.Array.from_buffers(
        pa.string(), ROWS, pa.array([b"\xff"] * ROWS).buffers()
    ),
    "structs": lambda: pa.array([{"a": 1}] * ROWS),
    "lists of lists": lambda: pa.array([[["a"]]] * ROWS),
    "a map": lambda: pa.array([[("a", 1)]] * ROWS, pa.map_(pa.string(), pa.int32())),
    "decimals": lambda: pa.array([1] * ROWS, pa.decimal128(10, 2)),
    "nothing": lambda: pa.nulls(ROWS),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_cells_that_are_no_labels_are_refused(what: str, kind: str, tmp_path: Path) -> None:
    table = pa.table({"audio": sounds(), "label": IMPOSSIBLE[what]()})
    WRITERS[kind](tmp_path, table)
    assert "label" in refusal(tmp_path) or "cannot read the table" in refusal(tmp_path)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_column_that_is_there_twice_is_refused(kind: str, tmp_path: Path) -> None:
    labels = pa.array(["a", "b"] * (ROWS // 2))
    columns = [sounds(), labels, labels]
    table = pa.Table.from_arrays(columns, names=["audio", "label", "label"])
    WRITERS[kind](tmp_path, table)
    assert "label is there twice" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("kind", "how", "options"),
    [
        ("parquet", "dictionary", {}),
        ("parquet", "dictionary", {"store_schema": False}),
        ("table", "dictionary", {}),
        ("arrow", "dictionary", {}),
        ("arrow", "runs", {}),
    ],
)
def test_a_label_that_stands_for_many_rows_is_never_written_out(
    kind: str, how: str, options: dict[str, Any], tmp_path: Path
) -> None:
    num = 3000
    table = pa.table({"audio": sounds(num), "label": repeated(num, how)})
    WRITERS[kind](tmp_path, table, **options)
    assert "bytes" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("num", "encoding"),
    each_in_turn([ROWS, 70_000], ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"]),
)
def test_columns_of_differences_are_read_however_small_they_are(
    num: int, encoding: str, tmp_path: Path
) -> None:
    (tmp_path / "0.wav").write_bytes(wav())
    labels = [f"class {row % 3}" for row in range(num)]
    numbers = pa.array(range(num))
    ends = pa.array(range(1, num + 1))
    table = pa.table({"path": ["0.wav"] * num, "class": labels, "start": numbers, "end": ends})
    encodings = dict.fromkeys(("path", "class"), encoding)
    encodings |= dict.fromkeys(("start", "end"), "DELTA_BINARY_PACKED")
    pq.write_table(
        table,
        tmp_path / "clips.parquet",
        use_dictionary=False,
        column_encoding=encodings,
        compression="zstd",
    )
    clips = load_collection(tmp_path).clips
    assert clips.class_id[-1] == (num - 1) % 3
    assert clips.end_s is not None
    assert clips.end_s[-1] == num


@pytest.mark.slow
def test_a_label_that_repeats_the_one_before_is_only_written_out_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurestore.datasets.arrowcells._MOST_GROUP_BYTES", 1 << 25)
    labels = pa.array(["x" * (1 << 20)] * 200)
    table = pa.table({"path": [f"{row}.wav" for row in range(200)], "class": labels})
    pq.write_table(
        table,
        tmp_path / "clips.parquet",
        use_dictionary=False,
        column_encoding=dict.fromkeys(("path", "class"), "DELTA_BYTE_ARRAY"),
    )
    del table, labels
    assert "row group 0" in refusal(tmp_path)


def test_more_rows_than_the_bytes_of_a_file_can_be_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurestore.datasets.arrowcells._EVER_ROWS", 1000)
    table = pa.table({"path": ["a.wav"] * 400_000, "class": ["a"] * 400_000})
    pq.write_table(table, tmp_path / "clips.parquet")
    assert "400,000 rows" in refusal(tmp_path)


@pytest.mark.parametrize("offset", [2**30, -(2**30)])
def test_an_offset_that_leads_out_of_the_file_is_not_followed(offset: int, tmp_path: Path) -> None:
    write_saved(tmp_path, pa.table({"audio": sounds(), "label": ["a"] * ROWS}))
    data = bytearray((tmp_path / "x.arrow").read_bytes())
    offsets = struct.pack(f"<{ROWS + 1}i", *range(ROWS + 1))
    at = data.index(offsets)
    struct.pack_into("<i", data, at + 4 * (ROWS if offset > 0 else 1), offset)
    (tmp_path / "x.arrow").write_bytes(data)
    refusal(tmp_path)


@pytest.mark.parametrize("files", [5, True, 1.5, "x.arrow", {"filename": 1}, [1], [[1]]])
def test_a_state_that_names_no_files_is_refused(files: object, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": files}))
    (tmp_path / "dataset_info.json").write_text("{}")
    assert "expected the names of data files" in refusal(tmp_path)


def written_cuts(root: Path, **changes: object) -> None:
    value = cut()
    for name, change in changes.items():
        of = value["recording"] if name in ("sources", "sampling_rate", "length") else value
        of["duration" if name == "length" else name] = change
    (root / "a.wav").write_bytes(wav())
    (root / "cuts.jsonl").write_text(json.dumps(value))


CUTS: dict[str, dict[str, object]] = {
    **{
        f"{name} {value}": {name: value}
        for name in ("start", "duration", "length", "sampling_rate")
        for value in (10**400, 1e300, float("inf"), float("nan"), True, "1", [1], None)
    },
    "channels in lists": {"channel": [[0]]},
    "a path of half a character": {"sources": [{"type": "file", "source": "a\ud800"}]},
    "a path that is none": {"sources": [{"type": "file", "source": ["a.wav"]}]},
    "a label of half a character": {"custom": {"class": "\ud800"}},
}


@pytest.mark.parametrize("what", CUTS)
def test_a_cut_of_any_values_is_refused_in_a_line(what: str, tmp_path: Path) -> None:
    written_cuts(tmp_path, **CUTS[what])
    assert "cuts.jsonl, line 1" in refusal(tmp_path)


@pytest.mark.parametrize("line", [b"\n", b" " * 1000 + b"\n"])
def test_a_manifest_that_is_packed_to_be_endless_is_given_up(line: bytes, tmp_path: Path) -> None:
    packer = zlib.compressobj(9, wbits=31)
    first = packer.compress(json.dumps(cut()).encode() + b"\n")
    lines = packer.compress(line * ((48 << 20) // len(line)))
    (tmp_path / "cuts.jsonl.gz").write_bytes(first + lines + packer.flush())
    assert "too long" in refusal(tmp_path)


def test_blank_lines_between_cuts_are_no_manifest_without_end(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav())
    lines = [
        json.dumps({**cut(), "start": row / 8000, "duration": 1 / 8000}) for row in range(1100)
    ]
    (tmp_path / "cuts.jsonl").write_text("\n\n".join(lines))
    assert len(load_collection(tmp_path).clips) == 1100


TWICE = '"class": "a", "class": "b"'


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("clips.jsonl", f'{{"path": "a.wav", {TWICE}}}', "clips.jsonl, line 1"),
        ("cuts.jsonl", json.dumps(cut())[:-1] + f', "custom": {{{TWICE}}}}}', "cuts.jsonl, line 1"),
        ("x.tar", f"{{{TWICE}}}", "x.tar, 'a'"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(
    name: str, content: str, where: str, tmp_path: Path
) -> None:
    if name == "x.tar":
        write_tar(tmp_path / name, {"a.wav": wav(), "a.json": content.encode()})
    else:
        (tmp_path / "a.wav").write_bytes(wav())
        (tmp_path / name).write_text(content)
    message = refusal(tmp_path)
    assert where in message
    assert "'class' is there twice" in message


def test_a_label_of_half_a_character_is_refused_by_its_place(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {"a.wav": wav(), "a.json": rb'{"class": "\ud800"}'})
    assert "x.tar#a.wav: 'class' is '\\ud800'" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("row", "title"),
    [
        (f"a,{'n' * 129}", ""),
        (f"{'n' * 1001},1", ""),
        (r'"[""\ud800""]",1', ""),
        (r"""['\ud800'],1""", ""),
        ("a,1", "caf\udce9"),
    ],
)
def test_what_no_store_can_hold_is_refused_in_a_line(row: str, title: str, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav())
    (tmp_path / "clips.csv").write_text(f"path,labels,fold\na.wav,{row}\n")
    with pytest.raises(DatasetError) as caught:
        plan_manifest(load_collection(tmp_path, Naming(title=title)), FeatureSpec())
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("time", ["1_0", "\uff11", "nan", "inf", "-1", "1e300", "0x1", "1,5"])
def test_a_time_that_only_python_can_read_is_refused(time: str, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav())
    (tmp_path / "clips.csv").write_text(f'path,class,start,end\na.wav,a,0,"{time}"\n')
    assert "expected seconds from 0" in refusal(tmp_path)
