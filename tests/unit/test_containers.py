"""How much audio a container promises: an answer for any bytes at all, found in bounded work."""

import os
import struct
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.mutate import repair_ogg, sources, spoilt
from featurestore.extraction.containers import declared_and_present

CHUNK = st.tuples(st.sampled_from([b"fmt ", b"data", b"LIST", b"\0\0\0\0"]), st.binary(max_size=9))
LIE = st.sampled_from([0, 1, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF])


def of(data: bytes) -> tuple[int, int]:
    descriptor = os.memfd_create("container")
    try:
        os.write(descriptor, data)
        return declared_and_present(descriptor, len(data))
    finally:
        os.close(descriptor)


def check(data: bytes) -> None:
    declared, present = of(data)
    assert 0 <= present <= len(data)
    assert 0 <= declared <= max(len(data) + 1, 0xFFFFFFFF)


@given(start=st.sampled_from([b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"OggS"]), rest=st.binary())
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
    data = b"".join(
        b"OggS\0" + bytes([flags]) + bytes(20) + bytes([segments]) + body
        for flags, segments, body in pages
    )
    check(data)


@settings(deadline=None)  # the first one makes the sources
@given(number=st.integers(0, 10**6))
def test_spoilt_files_get_an_answer(number: int) -> None:
    check(spoilt(0, number)[1])


def test_whole_files_of_every_container_miss_nothing() -> None:
    for name, data in sources().items():
        if not name.startswith("real"):  # those are cut
            declared, present = of(data)
            assert declared == present, name


def test_a_file_of_a_million_chunks_takes_no_longer_than_one_of_a_thousand() -> None:
    data = b"RIFF\0\0\0\0WAVE" + (b"JUNK" + bytes(4)) * 1_000_000
    started = time.process_time()
    assert of(data) == (0, 0)
    assert time.process_time() - started < 0.2


def test_a_repaired_page_has_the_checksum_its_encoder_gave_it() -> None:
    data = sources()["OGG VORBIS 1"]
    spoiled = bytearray(data)
    spoiled[22:26] = b"junk"
    repair_ogg(spoiled)
    assert bytes(spoiled) == data
