"""A witness in every process of a build: which sounds it opens, and deaths on demand.

Python imports `sitecustomize` as it starts. A directory of it on PYTHONPATH so puts an audit hook
into the build, its Dask workers and their children, without a line of ours in between.
"""

import os
from collections import Counter
from pathlib import Path

_HOOK = """
import os, signal, sys
from pathlib import Path

PLACE = Path(__file__).parent

def told(name):
    try:
        return (PLACE / name).read_text()
    except FileNotFoundError:
        return None

def watch(event, arguments):
    if event != "open" or not str(arguments[0]).endswith((".wav", ".flac", ".ogg")):
        return
    path = str(arguments[0])
    with open(PLACE / "opened", "a") as log:
        log.write(f"{os.getpid()} {path}\\n")
    poison, once = told("poison"), told("once")
    if once and path.endswith(once):
        (PLACE / "once").unlink()
        committed = sorted(map(str, Path(told("store")).glob("*/fold*/status/c/*")))
        (PLACE / "committed").write_text("\\n".join(committed))
        os.kill(os.getpid(), signal.SIGKILL)
    if poison and path.endswith(poison):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
"""


class Spy:
    """The hook's directory.

    Args:
        place: Made.
    """

    def __init__(self, place: Path) -> None:
        place.mkdir(parents=True)
        self.place = place
        (place / "sitecustomize.py").write_text(_HOOK)

    @property
    def env(self) -> dict[str, str]:
        """Return the environment variables with which a process is watched."""
        paths = [str(self.place), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"PYTHONPATH": os.pathsep.join(paths)}

    def poison(self, path: str) -> None:
        """Every process that opens a file of this ending dies."""
        self._tell("poison", path)

    def kill_once(self, path: str, store: Path) -> None:
        """The first process that opens it dies; what is committed then is written down."""
        self._tell("store", str(store))
        self._tell("once", path)

    def _tell(self, name: str, text: str) -> None:
        (self.place / "new").write_text(text)
        (self.place / "new").replace(self.place / name)

    def forget(self) -> None:
        """No poison any more, and nothing opened."""
        for name in ("poison", "once", "opened", "committed"):
            (self.place / name).unlink(missing_ok=True)

    def opened(self, root: Path) -> Counter[str]:
        """Return how often each file below the root was opened."""
        lines = (self.place / "opened").read_text().splitlines()
        paths = [Path(line.split(" ", 1)[1]) for line in lines]
        return Counter(str(p.relative_to(root)) for p in paths if p.is_relative_to(root))

    def committed(self) -> list[str]:
        """The status chunks there were when a process was killed once."""
        return (self.place / "committed").read_text().splitlines()
