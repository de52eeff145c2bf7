"""Cost of failing requests to an object store: retries, time, and whether the store is intact.

    python -m benchmarks.remote            # 200 synthetic clips, an S3 server on this machine

The store must equal a local one in every byte, and be read completely through the same faults.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.record import save, table
from featurestore import open_store
from featurestore.building.build import build
from featurestore.checking.verify import verify
from featurestore.datasets import Dataset, load_dataset
from featurestore.storage import locate
from tests.conftest import write_folder
from tests.remote_servers import FaultyProxy, environment, make_bucket, moto_server

T = TypeVar("T")

CASES: Mapping[str, Mapping[str, float]] = {
    "no faults": {},
    "10 % fail": {"refused": 0.04, "lost": 0.03, "cut": 0.02, "slow": 0.01},
    "30 % fail": {"refused": 0.12, "lost": 0.1, "cut": 0.06, "slow": 0.02},
}
"""Fraction of the requests that fail in each way, by the case's name."""
_TIMEOUT_S = 5
_PAUSE_S = 8
"""Seconds of a slow answer: longer than the timeout, so that it counts as a failure."""


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=200)
    arguments = parser.parse_args()
    os.environ["FEATURESTORE_TIMEOUT_S"] = str(_TIMEOUT_S)
    with tempfile.TemporaryDirectory() as folder, moto_server() as port:
        root = write_folder(Path(folder) / "sounds", 2, arguments.clips // 4)
        dataset = load_dataset("folder", root)
        _, local_s = _timed(lambda: build(dataset, Path(folder) / "local.zarr"))
        rows = [_case(name, port, dataset, Path(folder) / "local.zarr") for name in CASES]
    table([{k: v for k, v in row.items() if k != "faults"} for row in rows], "remote stores")
    result = {"local_build_s": local_s, "cases": rows}
    sizes = {"clips": len(dataset.clips), "timeout_s": _TIMEOUT_S, "slow_s": _PAUSE_S}
    print(save("remote", result, **sizes))


def _case(name: str, port: int, dataset: Dataset, local: Path) -> dict[str, Any]:
    bucket = f"case-{list(CASES).index(name)}"
    make_bucket(port, bucket)
    url = f"s3://{bucket}/s.zarr"
    proxy = FaultyProxy(port, CASES[name], _PAUSE_S)
    with proxy.serving() as passing:
        os.environ.update(environment(passing))
        _, build_s = _timed(lambda: build(dataset, url))
        problems, verify_s = _timed(lambda: [p for found in verify(url) for p in found])
        loaded, load_s = _timed(lambda: open_store(url).load("R3/full"))
        faults, requests = dict(proxy.failed), proxy.requests.total()
        proxy.shares = {}
        storage = locate(url)
        equal = {k: storage.read(k) for k, _ in storage.sizes()} == _files(local)
    if problems or not np.array_equal(loaded[0], open_store(local).load("R3/full")[0]):
        raise SystemExit(f"{name}: what was read is not what was built: {problems[:3]}")
    return {
        "case": name,
        "requests": requests,
        "failed": proxy.failed.total(),
        "repeated": proxy.repeated,
        "equal to the local store": equal,
        "build s": round(build_s, 2),
        "verify s": round(verify_s, 2),
        "load R3 s": round(load_s, 2),
        "faults": faults,
    }


def _files(store: Path) -> dict[str, bytes]:
    files = (file for file in store.rglob("*") if file.is_file())
    return {file.relative_to(store).as_posix(): file.read_bytes() for file in files}


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    return call(), time.perf_counter() - started


if __name__ == "__main__":
    main()
