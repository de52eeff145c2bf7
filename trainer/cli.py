"""The command line: parse, call, and the one place where errors are caught and printed.

Exit codes: 0 done, 1 an error the user can put right, 2 wrong usage, 130 stopped by Ctrl-C.
torch is imported by the commands that need it, so that `--help` answers at once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from featurestore.errors import FeatureStoreError
from trainer.commands.evaluate import evaluate
from trainer.commands.export import export
from trainer.commands.predict import predict
from trainer.errors import TrainerError

_EXTRAS = {
    "trainer": ("torch", "torchvision", "tensorboard", "jinja2"),
    "export": ("onnx", "onnxruntime", "onnxscript"),
}
"""What each extra installs: without it the program says so."""

app = typer.Typer(
    help="Train sound classifiers progressively from a featurestore store, and report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


for command in (predict, evaluate, export):
    app.command()(command)


@app.command()
def run(
    store: Annotated[
        str, typer.Option(help="Path or URL of the store that `featurestore build` wrote.")
    ],
    method: Annotated[str, typer.Option(help="baseline, mel, resize or control.")],
    dataset: Annotated[
        str | None, typer.Option(help="Its name, where the store holds several.")
    ] = None,
    fold: Annotated[
        list[int] | None, typer.Option(help="Held-out fold; may be repeated. Default: every fold.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Default: ./runs/<dataset>-<method>-seed<seed>.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto (bf16 where the device computes in it), float32 or bf16.")
    ] = "auto",
    init: Annotated[
        str,
        typer.Option(help="Initial weights: auto, imagenet, random, or a torchvision state dict."),
    ] = "auto",
    epochs_scale: Annotated[
        float, typer.Option(help="Multiplies the epochs of every stage; at least one each.")
    ] = 1.0,
    batch_size: Annotated[int, typer.Option(min=2, help="Clips a training step.")] = 64,
    arch: Annotated[
        Literal["resnet18", "resnet34", "resnet50"], typer.Option(help="The network's body.")
    ] = "resnet34",
    reading: Annotated[
        Literal["auto", "device", "host", "stream"],
        typer.Option(
            help="Where a stage's data lie: auto (by size), in the device's or the host's memory "
            "(the same on a CPU), or streamed from the store. Changes no number."
        ),
    ] = "auto",
    acceleration: Annotated[
        str,
        typer.Option(
            help="Of training steps: auto (eager), eager, compile, graph "
            "or compile-graph. What cannot be had runs eagerly, and why is said."
        ),
    ] = "auto",
    folds_at_once: Annotated[
        int, typer.Option(min=1, help="Folds trained at a time. Changes no number.")
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Of the CPU, for each fold. Default: all cores, shared."),
    ] = None,
    mixup: Annotated[
        float, typer.Option(help="Mix clips in pairs, by shares of Beta(α, α); α, 0 is off.")
    ] = 0.0,
    freq_mask: Annotated[
        float, typer.Option(help="SpecAugment: mask up to this share of an image's bands.")
    ] = 0.0,
    time_mask: Annotated[float, typer.Option(help="The same of its frames.")] = 0.0,
    label_smoothing: Annotated[
        float, typer.Option(help="Share of the target that all classes get alike.")
    ] = 0.0,
) -> None:
    """Train a method's whole schedule for each held-out fold."""
    from featurestore import open_store
    from trainer.acceleration import choose_acceleration
    from trainer.console import ProgressView, print_plan, print_result
    from trainer.device import choose_precision, resolve_device
    from trainer.plan import Options, plan_run
    from trainer.run import run as run_plan
    from trainer.rundir import check_free, default_out
    from trainer.threads import threads_a_fold, usable_cores

    torch_device = resolve_device(device)
    stored = open_store(store, dataset)
    chosen = choose_acceleration(acceleration, torch_device)
    at_once = min(folds_at_once, len(fold or stored.folds))
    options = Options(
        method=method,
        folds=tuple(fold or ()),
        seed=seed,
        device=str(torch_device),
        precision=choose_precision(precision, torch_device),
        init=init,
        epochs_scale=epochs_scale,
        batch_size=batch_size,
        arch=arch,
        acceleration=chosen.used,
        threads=threads or threads_a_fold(usable_cores(), at_once, batch_size, torch_device.type),
        mixup=mixup,
        freq_mask=freq_mask,
        time_mask=time_mask,
        label_smoothing=label_smoothing,
        reading=reading,
        folds_at_once=at_once,
        warning=chosen.warning,
    )
    plan = plan_run(stored, options)
    out = out or default_out(plan.config)
    check_free(out)
    console = Console()
    print_plan(console, stored, plan)
    try:
        with ProgressView(console, plan) as view:
            result = run_plan(stored, plan, out, view)
    except KeyboardInterrupt:
        _complain(f"stopped: {out} keeps the epochs and networks so far, but no result")
        raise
    print_result(console, result)
    console.print(Text(f"Run: {out}"), soft_wrap=True)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.", metavar="RUN...")],
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("report"),
) -> None:
    """Compare runs in the paper's tables and figures, next to the paper's own numbers."""
    from trainer.report import print_report, write_report

    print_report(write_report(runs, out), Console())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments after the program's name; those of the process by default.

    Returns:
        The exit code.
    """
    try:
        app(args=argv, prog_name="trainer")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except (TrainerError, FeatureStoreError) as error:
        _complain(f"error: {error}")
        return 1
    except ModuleNotFoundError as error:
        extra = next((name for name, modules in _EXTRAS.items() if error.name in modules), None)
        if extra is None:
            raise
        _complain(f"error: {error.name} is not installed: pip install 'featurestore[{extra}]'")
        return 1
    return 0


def _complain(line: str) -> None:
    """One line on standard error, whatever its length."""
    Console(stderr=True).print(Text(" ".join(line.split())), soft_wrap=True)
