"""Effects of tens of thousands of damaged and lying sound files on decoding and extraction.

Files are loaded and extracted in a process that may die: a crash inside a native library is
counted, and the next file gets a new process. Each file is a function of its number and the seed:

    python -m benchmarks.fuzz [--inputs 20000] [--seed 0] [--workers 2]
    python -m benchmarks.fuzz --only 4711 --keep spoilt.bin      # write that input, and try it
"""

import faulthandler
import multiprocessing
import os
import resource
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.mutate import SHARED_AUDIO, sources, spoilt
from benchmarks.record import save, table
from featurestore import Extractor, FeatureSpec, load
from featurestore.errors import AudioError

SPEC = FeatureSpec()
EXTRACTOR = Extractor(SPEC)
HANG_S = 60.0
"""Seconds after which a file counts as a hang."""
ADDRESS_SPACE = 4 << 30
"""Maximum number of bytes that the process may map; a file that needs more fails."""
CRASH, HANG = "crash", "hang"
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Outcome:
    """Result of one input.

    Attributes:
        number: Number of the input, which with the seed determines its bytes.
        made: Name of its source, and of the damage done to it.
        result: `ok`, the name of a clip's failure in lower case, `crash`, `hang`, or `error: …` for
            anything that a build would not have caught.
        seconds: Seconds to load and extract it.
        peak_mb: Peak memory of the process so far, in MB.
    """

    number: int
    made: str
    result: str
    seconds: float
    peak_mb: float


def attempt(file: Path) -> str:
    """Load and extract a file as a build does; return the result, as in `Outcome`."""
    try:
        images = EXTRACTOR(load(file, SPEC).waveform)
    except AudioError as error:
        return error.status.name.lower()
    except Exception as error:  # noqa: BLE001  (any other exception is a finding)
        return f"error: {type(error).__name__}: {error}"
    possible = all(np.isfinite(i).all() and i.min() >= 0 and i.max() <= 1 for i in images.values())
    return "ok" if possible else "error: values outside [0, 1]"


def fuzz(seed: int, numbers: Sequence[int], hang_s: float = HANG_S) -> Iterator[Outcome]:
    """Yield the outcome of each input, tried in a process that is replaced when it dies or hangs.

    Args:
        seed: Seed of the inputs.
        numbers: Numbers of the inputs to try.
        hang_s: Seconds after which an input counts as a hang.
    """
    left = list(numbers)
    while left:
        ours, theirs = _SPAWN.Pipe(duplex=False)
        process = _SPAWN.Process(target=work, args=(theirs, seed, left), daemon=True)
        process.start()
        theirs.close()
        ours.recv()  # it has started; from now on a crash is a file's fault
        dead = None
        while left and dead is None:
            try:
                if ours.poll(hang_s):
                    outcome: Outcome = ours.recv()
                else:
                    dead = HANG
                    continue
            except EOFError:
                dead = CRASH
                continue
            left.remove(outcome.number)
            yield outcome
        process.kill()
        process.join()
        if dead is not None:
            number = left.pop(0)
            yield Outcome(number, spoilt(seed, number)[0], dead, 0.0, 0.0)


def work(answers: Connection, seed: int, numbers: Sequence[int]) -> None:
    """Try the inputs and send the `Outcome` of each; any of them may kill this process."""
    faulthandler.enable(os.fdopen(os.dup(2), "w"))
    for stream in (1, 2):  # native libraries print their complaints
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "clip"
        sources()
        answers.send(None)
        for number in numbers:
            made, data = spoilt(seed, number)
            file.write_bytes(data)
            started = time.perf_counter()
            result = attempt(file)
            seconds = time.perf_counter() - started
            answers.send(Outcome(number, made, result, seconds, _peak_mb()))


def _peak_mb() -> float:
    """Return this process's peak memory in MB; getrusage's figure starts with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def summary(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Return counts by result, times, memory, and every input with a forbidden result."""
    bad = [o for o in outcomes if o.result in {CRASH, HANG} or o.result.startswith("error")]
    counts = Counter(o.result.split(":")[0] for o in outcomes)
    return {
        "inputs": len(outcomes),
        "outcomes": dict(counts.most_common()),
        "crashes": counts[CRASH],
        "hangs": counts[HANG],
        "errors not caught": counts["error"],
        "median_ms": 1000 * float(np.median([o.seconds for o in outcomes])),
        "slowest": [asdict(o) for o in sorted(outcomes, key=lambda o: -o.seconds)[:5]],
        "peak_mb": max(o.peak_mb for o in outcomes),
        "bad": [asdict(o) for o in bad],
    }


def main(
    inputs: Annotated[int, typer.Option(min=1)] = 20_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    only: Annotated[int | None, typer.Option(help="Try this input alone.")] = None,
    keep: Annotated[Path | None, typer.Option(help="File to write that input to.")] = None,
) -> None:
    """Fuzz the decoder and the extractor; exit with 1 after a crash, hang or uncaught error."""
    if only is not None and keep is not None:
        keep.write_bytes(spoilt(seed, only)[1])
    numbers = range(inputs) if only is None else [only]
    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as threads:
        shares = [numbers[first::workers] for first in range(workers)]
        runs = threads.map(lambda share: list(fuzz(seed, share)), filter(None, shares))
        outcomes = list(chain.from_iterable(runs))
    found = summary(outcomes)
    table(
        [{"result": k, "inputs": n} for k, n in Counter(o.result for o in outcomes).most_common()]
    )
    if only is None:
        found["minutes"] = (time.perf_counter() - started) / 60
        context = {"seed": seed, "sources": len(sources()), "real audio": SHARED_AUDIO.is_dir()}
        save("fuzz", found, workers=workers, hang_s=HANG_S, **context)
    else:
        print(outcomes)
    raise typer.Exit(1 if found["bad"] else 0)


if __name__ == "__main__":
    typer.run(main)
