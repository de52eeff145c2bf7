"""Any bytes at all get an answer, in bounded time."""

import os
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.mutate import repair_ogg, sources, spoilt
from featurestore.errors import AudioError
from featurestore.extraction.containers import Source, walk
from tests.decoded import SPEC

CHUNK = st.tuples(st.sampled_from([b"fmt ", b"data", b"LIST", b"\0\0\0\0"]), st.binary(max_size=9))
LIE = st.sampled_from([0, 1, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF])


def check(data: bytes) -> None:
    descriptor = os.memfd_create("container")
    try:
        os.write(descriptor, data)
        container = walk(Source(descriptor, len(data), data[:100]), SPEC.max_duration_s)
    except AudioError:
        return
    finally:
        os.close(descriptor)
    for part in container.parts if container else ():
        assert 0 <= part.start <= part.stop <= len(data)


@given(
    start=st.sampled_from(
        [
            b"",
            b"RIFF\0\0\0\0WAVE",
            b"OggS\0",
            b"fLaC\0\0\0\x22",
            b"FORM\0\0\0\0AIFF",
            b"caff",
            b".snd",
            b"NIST_1A\n   1024\n",
            b"Creative Voice File\x1a",
            b"\xff\xfb\x90\xc0",
            b"ID3\x04\0\0",
        ]
    ),
    rest=st.binary(max_size=200),
)
def test_any_bytes_get_an_answer_within_the_file(start: bytes, rest: bytes) -> None:
    check(start + rest)


@given(chunks=st.lists(CHUNK), lies=st.lists(LIE), end=st.binary(max_size=9))
def test_chunks_of_any_size_get_an_answer(
    chunks: list[tuple[bytes, bytes]], lies: list[int], end: bytes
) -> None:
    data = b"RIFF\0\0\0\0WAVE"
    for (name, body), size in zip(chunks, lies + [len(body) for _, body in chunks], strict=False):
        data += name + struct.pack("<I", size) + body
    check(data + end)


@given(
    pages=st.lists(
        st.tuples(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=40)), max_size=4
    )
)
def test_ogg_pages_of_any_shape_get_an_answer(pages: list[tuple[int, int, bytes]]) -> None:
    data = bytearray(
        b"".join(
            b"OggS\0" + bytes([flags]) + bytes(20) + bytes([len(body)]) + bytes(len(body))
            for flags, _, body in pages
        )
    )
    check(bytes(data))
    repair_ogg(data)
    check(bytes(data))


@given(number=st.integers(0, 10**6))
def test_spoilt_files_get_an_answer(number: int) -> None:
    check(spoilt(0, number)[1])


@pytest.mark.parametrize(
    "data",
    [
        b"RIFF\0\0\0\0WAVE" + (b"JUNK" + bytes(4)) * 1_000_000,
        b"Creative Voice File\x1a\x1a\0\x0a\x01\x29\x11" + b"\x05\0\0\0" * 2_000_000,
        b"\xff" * 4_000_000,
        b"\xff\xfb\x90\xc0" * 1_000_000,
        bytes(8_000_000),
        b"OggS\0" * 800_000,
        b"fLaC\0\0\0\x22" + bytes(34) + b"\xff\xf8" * 2_000_000,
    ],
    ids=["RIFF chunks", "VOC blocks", "ones", "headers", "zeros", "Ogg", "FLAC"],
)
def test_a_hostile_file_of_many_megabytes_takes_bounded_time(data: bytes) -> None:
    started = time.process_time()
    check(data)
    assert time.process_time() - started < 3


def test_a_repaired_page_has_the_checksum_its_encoder_gave_it() -> None:
    data = sources()["OGG VORBIS 1"]
    spoiled = bytearray(data)
    spoiled[22:26] = b"junk"
    repair_ogg(spoiled)
    assert bytes(spoiled) == data
