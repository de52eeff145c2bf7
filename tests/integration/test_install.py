"""The package as its users get it: from a wheel or an sdist, offline, at its oldest libraries."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
UV = next(
    (p for p in (Path(sys.executable).parent / "uv", shutil.which("uv")) if p and Path(p).exists()),
    None,
)

pytestmark = pytest.mark.slow

SPEC = """
resolutions:
- {name: R1, n_mels: 16, num_frames: 16}
- {name: R2, n_mels: 24, num_frames: 24}
- {name: R3, n_mels: 32, num_frames: 32}
"""
JOB = """
featurestore build --dataset synthetic --spec spec.yaml
featurestore verify synthetic.zarr
featurestore plot synthetic.zarr --clip audio/fold1/bird-000-seed0.wav --out bird.png
for method in baseline resize; do
    trainer run --store synthetic.zarr --method $method --arch resnet18 --batch-size 16 \\
        --epochs-scale 0.001 --init random --fold 1 --fold 2 --out runs/$method
done
trainer report runs/baseline runs/resize --out report
trainer predict --run runs/resize data/synthetic/audio/fold3/bird-000-seed0.wav
"""


def run(*command: object, **options: object) -> str:
    """Run a command; fail with what it printed."""
    words = list(map(str, command))
    done = subprocess.run(words, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that git knows or would add: nothing of an old build is in it."""
    place = tmp_path_factory.mktemp("tree")
    files = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines()
    for name in files:
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    return place


def build(tree: Path, kind: str, place: Path) -> Path:
    """Build a wheel or an sdist by the backend itself, which needs no network."""
    code = f"from setuptools import build_meta as b; print(b.build_{kind}({str(place)!r}))"
    return place / run(sys.executable, "-c", code, cwd=tree).splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tree, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tree, "sdist", tmp_path_factory.mktemp("sdist"))


def test_the_wheel_has_every_module_template_and_schema_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
        metadata = archive.read(f"featurestore-{VERSION}.dist-info/METADATA").decode()
        licences = [n for n in archive.namelist() if n.endswith("/licenses/LICENSE")]
    packages = ("featurestore", "schemas", "trainer")
    tracked = run("git", "ls-files", "-co", "--exclude-standard", *packages, cwd=ROOT).splitlines()
    assert names == {name for name in tracked if (ROOT / name).is_file()}
    assert "License-Expression: MIT" in metadata
    assert len(licences) == 1


def test_the_sdist_gives_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    assert {"LICENSE", "README.md", "pyproject.toml"} <= {f.name for f in unpacked.iterdir()}
    again = build(unpacked, "wheel", tmp_path)
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert {i.filename: i.CRC for i in first.infolist()} == {
            i.filename: i.CRC for i in second.infolist()
        }


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and, of this environment, the libraries alone."""
    environment = tmp_path_factory.mktemp("installed") / "env"
    run(sys.executable, "-m", "venv", environment)
    run(environment / "bin/pip", "install", "--quiet", "--no-index", "--no-deps", wheel)
    (installed,) = environment.glob("lib/python*/site-packages")
    # Not this project: a .pth file reads no other's.
    (installed / "libraries.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    return environment


def test_an_installed_wheel_does_the_whole_job_without_a_network(
    environment: Path, tmp_path: Path
) -> None:
    (installed,) = environment.glob("lib/python*/site-packages")
    work = tmp_path / "work"
    work.mkdir()
    (work / "spec.yaml").write_text(SPEC)
    where = run(
        environment / "bin/python", "-c", "import trainer; print(trainer.__file__)", cwd=work
    )
    assert Path(where.strip()).is_relative_to(installed)
    offline = ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*offline, "true"], capture_output=True, check=False).returncode:
        offline = []
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    said = run(
        *offline, "bash", "-euc", f"ip link set lo up || true\n{JOB}", cwd=work, env={"PATH": path}
    )
    assert "bird" in said
    assert (work / "bird.png").stat().st_size > 10_000
    page = (work / "report" / "report.html").read_text()
    assert "<html" in page
    assert "resize" in page
    assert not list(work.glob("*.partial"))


TYPED = """
import featurestore
import trainer

built = featurestore.build("esc10", "x.zarr", workers="two")
reveal_type(built.counts)
run = trainer.train(built.store, batch_size="64", folds=[1, "test"])
trainer.train(built.store, batch_sise=64)
reveal_type(run.mean)
reveal_type(trainer.resume("runs/x").accuracies)
reveal_type(trainer.predict(run, "a.wav").predictions[0].probability)
reveal_type(featurestore.FeatureSpec().n_fft)
"""
FOUND = """
5: error: Argument "workers" to "build" has incompatible type "str"; expected "int | None"
6: note: Revealed type is "dict[str, int]"
7: error: Argument "batch_size" to "train" has incompatible type "str"; expected "int"
8: error: Unexpected keyword argument "batch_sise" for "train"; did you mean "batch_size"?
8: note: "train" defined in "trainer.api"
9: note: Revealed type is "float"
10: note: Revealed type is "dict[int, float]"
11: note: Revealed type is "float"
12: note: Revealed type is "int"
"""


def test_a_type_checker_sees_the_types_of_the_installed_wheel(
    environment: Path, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(TYPED)
    options = ["--strict", "--follow-imports", "silent", "--no-error-summary", "--config-file="]
    options += ["--hide-error-codes", "--python-executable", str(environment / "bin/python")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.removeprefix("script.py:") for line in done.stdout.splitlines()]
    assert [line.replace("builtins.", "") for line in lines] == FOUND.strip().splitlines()


@pytest.mark.skipif(
    UV is None, reason="uv, which resolves to the lowest versions, is not installed"
)
def test_the_unit_tests_pass_with_the_lowest_versions_that_are_allowed(
    tree: Path, tmp_path: Path
) -> None:
    environment = tmp_path / "env"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin/python"
    lowest = ["--resolution", "lowest-direct", "--editable", f"{tree}[trainer,dev]"]
    done = subprocess.run(
        [str(UV), "pip", "install", "--quiet", "--python", str(python), *lowest],
        capture_output=True,
        text=True,
        check=False,
    )
    if "error sending request" in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    # Old libraries warn of each other.
    options = [
        "-o",
        "filterwarnings=default",
        "-m",
        "not slow",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
    ]
    run(python, "-m", "pytest", *options, "--numprocesses", "2", "tests/unit", cwd=tree)
