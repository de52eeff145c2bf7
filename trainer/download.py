"""Fetching one file by address, without ever waiting long for a silent server."""

import hashlib
import http.client
import os
import re
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from trainer.errors import WeightsError

SILENCE_S = 10.0
"""A server that says nothing for so long is given up."""
LIMIT_S = 900.0
"""For the whole file: 87 MB at 100 kB/s."""
_PIECE = 1 << 20


def download(
    url: str, target: Path, silence_s: float = SILENCE_S, limit_s: float = LIMIT_S
) -> None:
    """Fetch `url` to `target`, which is whole or absent afterwards.

    A name that ends in `-` and eight hexadecimal digits before its suffix, as torchvision's do,
    promises the first digits of the file's SHA-256, and is held to that.

    Args:
        url: http, https or file.
        target: Its folder is made where it is missing.
        silence_s: Seconds to wait for an answer, and for each further piece.
        limit_s: Seconds to wait in all.

    Raises:
        WeightsError: It cannot be had, or is not what its name promises.
    """
    aside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = _fetch(url, aside, silence_s, time.monotonic() + limit_s)
        if not digest.startswith(_promised(url)):
            raise WeightsError(f"{url}: what came is damaged (SHA-256 {digest[:8]}…)")
        aside.replace(target)
    except HTTPError as error:
        error.close()  # it is the answer, too
        raise WeightsError(f"{url}: {error}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        # URLError wraps what happened in its own words.
        raise WeightsError(f"{url}: {getattr(error, 'reason', error)}") from error
    finally:
        aside.unlink(missing_ok=True)


def _promised(url: str) -> str:
    match = re.search(r"-([0-9a-f]{8})\.\w+$", urlsplit(url).path)
    return match[1] if match else ""


def _fetch(url: str, path: Path, silence_s: float, deadline: float) -> str:
    """Write what comes to `path`; its SHA-256."""
    digest = hashlib.sha256()
    with urlopen(url, timeout=silence_s) as answer, path.open("wb") as file:  # noqa: S310 - torchvision's own addresses
        while piece := answer.read1(_PIECE):
            digest.update(piece)
            file.write(piece)
            if time.monotonic() > deadline:
                raise TimeoutError("too slow")
    return digest.hexdigest()
