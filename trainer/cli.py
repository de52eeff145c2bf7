"""The command line: parse, call, and the only place where errors are caught and printed.

Exit codes: 0 on success, 1 after an error the user can fix, 2 after wrong usage, 130 after Ctrl-C,
143 after SIGTERM. torch is imported by the commands that need it, so that `--help` is fast.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from featurestore.errors import FeatureStoreError
from featurestore.program import JsonOption, Program, QuietOption
from featurestore.safepath import safe_children
from featurestore.stopping import stoppable
from featurestore.terminal import Terminal, harden, print_error, print_os_error
from trainer.commands.evaluate import evaluate, interpret
from trainer.commands.lr_find import lr_find
from trainer.commands.networks import ensemble, export, predict
from trainer.commands.run import run
from trainer.commands.sweep import reproduce, sweep
from trainer.errors import TrainerError

_EXTRAS = {
    "trainer": ("torch", "torchvision", "tensorboard", "jinja2"),
    "export": ("onnx", "onnxruntime", "onnxscript"),
    "mlflow": ("mlflow",),
    "timm": ("timm",),
}
"""Packages of each extra, for the message if one is missing."""

app = Program(
    name="trainer",
    help="Train sound classifiers progressively from a featurestore store, and report.",
    groups={
        "Data": "--store --dataset --fold --allow-duplicates --resume --run --file",
        "Schedule": (
            "--method --methods-file --resize-operator --recipe --epochs-scale --max-lr "
            "--batch-size --layer-groups --moments --carry --best-of --selection "
            "--validation-share --seed --seeds --stage --set"
        ),
        "Network": "--arch --init --first-conv --checkpoint --network",
        "Regularisation": "--mixup --freq-mask --time-mask --label-smoothing",
        "Machine": (
            "--device --precision --acceleration --threads --placement --folds-at-once --scheduler "
            "--workers"
        ),
        "Output": "--out --checkpoint-every --mlflow --format --top --threshold --dry-run",
    },
    metavars={
        "--store": "STORE",
        "--dataset": "NAME",
        "--fold": "FOLD",
        "--method": "NAME",
        "--methods-file": "FILE",
        "--file": "FILE",
        "--resume": "DIR",
        "--run": "DIR",
        "--out": "DIR",
        "--device": "DEVICE",
        "--init": "WEIGHTS",
        "--scheduler": "ADDRESS",
        "--set": "NAME=VALUE",
        "--network": "FOLD",
        "--checkpoint-every": "SECONDS",
    },
)
_TORCH = ("torch", "loading PyTorch")
_RUNS = ("numpy", "reading the runs")
app.add(run, "trainer run --store esc10.zarr --method resize", _TORCH)
app.add(sweep, "trainer sweep --store esc10.zarr --method mel --method resize --out sweep", _TORCH)
app.add(reproduce, "trainer reproduce --store us8k.zarr --out reproduction", _TORCH)
app.add(lr_find, "trainer lr-find --store esc10.zarr --method resize --fold 1", _TORCH)
app.add(predict, "trainer predict --run runs/esc10-resize-seed0 a.wav", _TORCH)
app.add(evaluate, "trainer evaluate --run runs/esc10-resize-seed0 --store esc10.zarr", _TORCH)
app.add(interpret, "trainer interpret runs/esc10-resize-seed0", _RUNS)
app.add(ensemble, "trainer ensemble runs/esc10-mel-seed0 runs/esc10-resize-seed0", _RUNS)
app.add(export, "trainer export --run runs/esc10-resize-seed0 --fold 1 --format onnx", _TORCH)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.", metavar="RUN...")],
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("report"),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare runs in the paper's tables and figures, next to the paper's own numbers."""
    from trainer.report import print_report, report_json, write_report

    written = write_report(runs, out, datetime.now(UTC))
    if as_json:
        Terminal().write_json(report_json(written))
    else:
        print_report(written, Terminal())


app.add(report, "trainer report runs/esc10-mel-seed0 runs/esc10-resize-seed0 --out report", _RUNS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments after the program's name; those of the process by default.

    Returns:
        The exit code.
    """
    harden()
    with safe_children():
        return stoppable(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    try:
        app(args=argv, prog_name="trainer")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except (TrainerError, FeatureStoreError) as error:
        print_error(error)
        return 1
    except OSError as error:
        print_os_error(error)
        return 1
    except ModuleNotFoundError as error:
        extra = next((name for name, modules in _EXTRAS.items() if error.name in modules), None)
        if extra is None:
            raise
        print_error(f"{error.name} is not installed: pip install 'featurestore[{extra}]'")
        return 1
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError):
            from trainer.oom import is_out_of_memory  # here, as it loads torch

            if not is_out_of_memory(error):
                raise
        print_error("out of memory: end other programs, or ask for less at a time")
        return 1
    return 0
