"""Formats that are recognised by their first bytes, and not read."""

from featurestore.extraction.containers.parts import unsupported
from featurestore.extraction.containers.source import Source

_NOT_READ = (
    (4, b"ftyp", "MP4 (M4A, AAC, ALAC)"),
    (0, b"\x1aE\xdf\xa3", "Matroska or WebM"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "Windows Media (ASF)"),
    (0, b"#!AMR", "AMR"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"MPCK", "Musepack"),
    (0, b"MP+", "Musepack"),
    (0, b"TTA1", "True Audio"),
    (0, b"tBaK", "TAK"),
    (0, b"OFR ", "OptimFROG"),
    (0, b"ajkg", "Shorten"),
    (0, b"DSD ", "DSD"),
    (0, b"FRM8", "DSD"),
    (0, b".ra\xfd", "RealAudio"),
    (0, b".RMF", "RealMedia"),
    (0, b"MThd", "MIDI, which holds notes and no sound,"),
    (0, b"\x0bw", "AC-3"),
    (0, b"\x7f\xfe\x80\x01", "DTS"),
    (0, b"BW64", "BW64"),
    (0, b"FLV\x01", "Flash video"),
    # libsndfile fills up what is missing of it, and prints to standard output.
    (0, b"\xf0\x7e\0\x01", "MIDI sample dump (SDS)"),
    # Their declared lengths are not compared by libsndfile, nor here.
    (0, b"MATLAB 5.0 MAT-file", "MATLAB's MAT"),
    (0, b"Extended Instrument: ", "FastTracker's XI"),
    (0, b"ADIF", "AAC"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"PK\x03\x04", "ZIP archive"),
    (0, b"\x1f\x8b\x08", "gzip archive"),
    (8, b"AVI ", "AVI video"),
)
_PRINTABLE = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\n\r")


def refuse_foreign(source: Source, position: int) -> None:
    """Raise an error for a recognised format that is not read.

    Raises:
        AudioError: The format is one of these; its status is UNSUPPORTED.
    """
    if name := _name(source.at(position, 32)):
        raise unsupported(f"{name} is not supported")


def foreign_format(source: Source, position: int) -> str | None:
    """Return the name of a format that is not read; None for any other bytes, and for text."""
    head = source.at(position, 32)
    return None if _PRINTABLE.issuperset(head) else _name(head)


def _name(head: bytes) -> str | None:
    for offset, magic, name in _NOT_READ:
        if head[offset : offset + len(magic)] == magic:
            return name
    return None
