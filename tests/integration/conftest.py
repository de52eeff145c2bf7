"""Fixtures of remote stores, an S3 server and a proxy before it, and of downloads."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from featurestore import cli
from featurestore.checking.verify import verify
from featurestore.datasets.archives import Archive
from featurestore.storage import RemoteStorage, locate
from tests.integration.publishing import believe, publish, write_esc50
from tests.loopback import Loopback, Served, serving
from tests.remote_servers import FaultyProxy, environment, make_bucket, moto_server

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"


@pytest.fixture(scope="session")
def s3() -> Iterator[int]:
    with moto_server() as port:
        yield port


@pytest.fixture
def proxy(s3: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """Before the S3 server; the environment leads to it. Without faults, until a test sets them."""
    proxy = FaultyProxy(s3)
    with proxy.serving() as port:
        for name, value in environment(port).items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.fixture
def url(proxy: FaultyProxy, request: pytest.FixtureRequest) -> str:
    """Return the URL of a store that is not there yet, in a bucket of the test's own."""
    name = f"test-{abs(hash(request.node.nodeid))}"
    make_bucket(proxy.target, name)
    return f"s3://{name}/stores/s.zarr"


def put_all(url: str, objects: dict[str, bytes]) -> RemoteStorage:
    """Upload a store that was built elsewhere."""
    storage = RemoteStorage(url)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(storage.write, objects.keys(), objects.values()))
    return storage


def objects(url: str) -> dict[str, bytes]:
    storage = locate(url)
    return {key: storage.read(key) for key, _ in storage.sizes()}


def problems(url: str) -> list[str]:
    return [problem for found in verify(url) for problem in found]


def told(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """The one line with which a command line fails."""
    assert cli.main(command) == 1
    return the_error(capsys)


def the_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that says what is wrong."""
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "the-secret" not in said
    (line,) = (line for line in said.splitlines() if line.startswith("error: "))
    return line


@pytest.fixture(scope="session")
def loopback() -> Iterator[Loopback]:
    """A web server that can be told how to misbehave."""
    with serving() as found:
        yield found


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ESC-50 to publish; not to be changed."""
    return write_esc50(tmp_path_factory.mktemp("published") / "esc")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, where no data is found."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.delenv("FEATURESTORE_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return place


@pytest.fixture
def published(
    loopback: Loopback, official: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Archive, Served]:
    """The archive that this process takes for the official one, and how it is served."""
    archive, served = publish(loopback, official)
    believe(monkeypatch, archive)
    return archive, served


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A copy of the store of format version 1 that must work for ever."""
    return shutil.copytree(GOLDEN / "store.zarr", tmp_path / "golden.zarr")
