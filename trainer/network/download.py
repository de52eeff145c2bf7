"""Fetching torchvision's weights, without ever waiting long for a silent server."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from featurestore.download.fetch import Observe, Patience, RemoteFile, fetch_file, ignore
from featurestore.errors import DownloadError
from trainer.errors import WeightsError

PATIENCE = Patience(silence_s=10.0, limit_s=900.0, tries=3)
"""For the whole file: 87 MB at 100 kB/s."""


def download(
    url: str, target: Path, patience: Patience = PATIENCE, observe: Observe = ignore
) -> None:
    """Fetch `url` to `target`, which is whole or absent afterwards.

    A name that ends in `-` and eight hexadecimal digits before its suffix, as torchvision's do,
    promises the first digits of the file's SHA-256, and is held to that. What comes before a
    failure is kept beside the target, and the next call goes on from there.

    Args:
        url: http, https or file.
        target: Its folder is made where it is missing.
        patience: How long to wait.
        observe: Told of each piece.

    Raises:
        WeightsError: It cannot be had, or is not what its name promises.
    """
    promised = re.search(r"-([0-9a-f]{8})\.\w+$", urlsplit(url).path)
    checksum = f"sha256:{promised[1]}" if promised else ""
    try:
        fetch_file(RemoteFile(url, checksum), target, patience, observe)
    except DownloadError as error:
        raise WeightsError(str(error)) from error
