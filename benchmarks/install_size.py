"""Size of an installation: packages and megabytes of the base and of what each extra adds.

Each case is a new environment into which uv installs this project at the versions of
constraints.txt, and which is deleted again.

python -m benchmarks.install_size [--only base --only trainer]
"""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.record import save, table

ROOT = Path(__file__).parents[1]
BASE = "base"


def main(
    only: Annotated[
        list[str] | None, typer.Option(help="`base` or an extra; may be repeated. Default: all.")
    ] = None,
) -> None:
    """Measure the installed size of the base and of the base with each extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [BASE, *project["optional-dependencies"]]
    sizes = {name: installed(name) for name in only or extras}
    base = sizes.get(BASE)
    rows = [
        {
            "installed": name if name == BASE else f"base and {name}",
            "packages": packages,
            "MB": round(size / 1e6),
            "MB more than base": round((size - base[1]) / 1e6) if base else "",
        }
        for name, (packages, size) in sizes.items()
    ]
    table(rows)
    if not only:
        save(
            "install_size",
            {name: {"packages": n, "MB": round(b / 1e6)} for name, (n, b) in sizes.items()},
        )


def installed(extra: str) -> tuple[int, int]:
    """Install the project with an extra into a new environment, and measure it.

    Args:
        extra: Name of an extra, or `base`.

    Returns:
        The number of packages, including this one, and the size of their files in bytes.
    """
    with tempfile.TemporaryDirectory() as place:
        environment = Path(place) / "env"
        command = [sys.executable, "-m", "venv", "--without-pip", str(environment)]
        subprocess.run(command, check=True)
        requirement = str(ROOT) if extra == BASE else f"{ROOT}[{extra}]"
        subprocess.run(
            [
                *(_uv(), "pip", "install", "--quiet", "--python", str(environment / "bin/python")),
                *("--constraint", str(ROOT / "constraints.txt"), "--editable", requirement),
            ],
            check=True,
        )
        (packages,) = environment.glob("lib/python*/site-packages")
        files = (file for file in packages.rglob("*") if file.is_file() and not file.is_symlink())
        return len(list(packages.glob("*.dist-info"))), sum(file.stat().st_size for file in files)


def _uv() -> str:
    installed_uv = Path(sys.executable).parent / "uv"
    path = str(installed_uv) if installed_uv.exists() else shutil.which("uv")
    if path is None:
        sys.exit("uv is not installed: pip install uv")
    return path


if __name__ == "__main__":
    typer.run(main)
