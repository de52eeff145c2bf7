"""Official archives of the datasets: addresses, sizes, checksums. Needs no NumPy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """A tar.gz that contains a whole dataset in one directory.

    Args:
        dataset: Name of the dataset.
        title: Human-readable title.
        licence: Licence under which it is published.
        url: Official address.
        num_bytes: Size of the archive in bytes; exact if there is a checksum.
        num_unpacked_bytes: Approximate size of the unpacked files in bytes.
        num_clips: Number of clips.
        checksum: `md5:…` of the archive; "" if the publisher repacks it now and then.
        contents: SHA-256 of the table and the clips, as `datasets.download` computes it; "" if
            the archive has a checksum.
    """

    dataset: str
    title: str
    licence: str
    url: str
    num_bytes: int
    num_unpacked_bytes: int
    num_clips: int
    checksum: str = ""
    contents: str = ""


URBANSOUND8K = Archive(
    dataset="urbansound8k",
    title="UrbanSound8K, 8732 clips",
    licence="CC BY-NC 3.0",
    url="https://zenodo.org/records/1203745/files/UrbanSound8K.tar.gz",
    num_bytes=6_023_741_708,
    num_unpacked_bytes=7_100_000_000,
    num_clips=8732,
    checksum="md5:9aa69802bbf37fb986f71ec1483a196e",
)
_ESC50_COMMIT = "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6"
ESC50 = Archive(
    dataset="esc50",
    title="ESC-50, 2000 clips, with the 400 of ESC-10 among them",
    licence="CC BY-NC 3.0 (the clips of ESC-10: CC BY 3.0)",
    url=f"https://github.com/karolpiczak/ESC-50/archive/{_ESC50_COMMIT}.tar.gz",
    num_bytes=650_000_000,
    num_unpacked_bytes=900_000_000,
    num_clips=2000,
    contents="ae5e9ae8d525d391d999d971c90417501fd531932f116f68566254303a046992",
)
"""`contents` is of the MD5s in the index of ESC-50 in soundata 0.1.3, which has all 2000 names and
the MD5 of the official table."""

ESC50_PAGE = "https://github.com/karolpiczak/ESC-50"
ESC50_TABLE = "meta/esc50.csv"
URBANSOUND8K_TABLE = "metadata/UrbanSound8K.csv"
AUDIO = "audio"
"""Directory of the clips in ESC-50 and ESC-10."""
