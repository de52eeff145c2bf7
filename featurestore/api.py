"""A build as a function: what `featurestore build` does, for scripts and notebooks.

The command and the function share every step, so both write the same bytes. Where the command would
ask on the terminal, the function raises an error that names the argument to pass.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.arguments import typed
from featurestore.bars import SilentTerminal
from featurestore.errors import BuildError, ClusterError, DatasetError, FeatureStoreWarning
from featurestore.storage import Place
from featurestore.terminal import Terminal
from schemas import FeatureSpec

if TYPE_CHECKING:
    from featurestore.building.block import ClipFailure
    from featurestore.building.executors import Executor
    from featurestore.datasets import Dataset
    from featurestore.datasets.own import OwnOptions
    from featurestore.store.reader import StoredDataset

_INTERRUPTED = "Finished blocks are kept: the same call resumes from there."


@dataclass(frozen=True)
class BuildResult:
    """Result of a build.

    Attributes:
        store: The dataset, open for reading.
        num_built: Clips that this call extracted, failed ones included; 0 if nothing was left to
            do.
        failures: Clips that failed in this call: `clip_id`, `path`, `status`, `detail` of each.
        understood: How the table or the directories were interpreted, in phrases.
        left_out: Files in the root that are not clips, counted by kind.
        warnings: Warnings for the user.
    """

    store: "StoredDataset"
    num_built: int
    failures: "tuple[ClipFailure, ...]" = ()
    understood: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Number of clips in the store by outcome: `ok`, `missing`, `unreadable` and so on."""
        return dict(self.store.manifest.counts)


@typed
def build(
    source: Any,  # noqa: ANN401 - a name, a path, or a data frame of any library
    store: Place | None = None,
    *,
    root: Path | str | None = None,
    spec: FeatureSpec | Mapping[str, Any] | Path | str | None = None,
    variants: Iterable[str] = (),
    spec_name: str = "",
    coordinates: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    strict: bool = False,
    retry_failed: bool = False,
    partial: bool = False,
    download: bool = False,
    columns: Mapping[str, str] | Sequence[str] = (),
    folds: int = 0,
    group_by: str = "",
    fold_seed: int = 0,
    name: str = "",
    title: str = "",
    licence: str = "",
    citation: str = "",
    progress: bool = True,
) -> BuildResult:
    """Build a store, or finish one that was interrupted, as the command `build` does.

    A store that is complete already is left as it is. The bytes written do not depend on `workers`,
    nor on how often the build was interrupted.

    Args:
        source: Name of a dataset (`featurestore.datasets.known_names()`); the directory of your own
            collection, or its table (CSV, TSV, JSON Lines, Parquet); the table itself as a pandas
            data frame, an Arrow table or a mapping of names to columns; or a
            `featurestore.datasets.Dataset`. To build from a directory that is named like a
            dataset, pass it as a `Path`.
        store: Path or URL of the store. Default: `./NAME.zarr` (`us8k.zarr` for UrbanSound8K).
        root: Directory of the audio. By default the dataset is looked for in its usual places, and
            files are relative to the table's directory; required for a data frame.
        spec: Feature settings that differ from the paper's: a `FeatureSpec`, a mapping, or a YAML
            or JSON file.
        variants: Images to store in addition to the spec's.
        spec_name: Store these features next to others of the same dataset, under its name, a
            hyphen and this one; the command's `--as`.
        coordinates: Store Hz, seconds, class names and trimmed lengths next to the arrays, for
            readers that do not know this package. Features always do so.
        workers: Maximum number of local processes; 0 uses only this one. Default: one per core.
        scheduler: Address of a Dask scheduler to use instead.
        strict: Raise an error if a clip fails.
        retry_failed: Retry clips that failed before.
        partial: Accept a published dataset of which files are missing.
        download: Download the dataset if it is not on disk.
        columns: Columns of your table by role: `{"path": "Filename", "class": "Label"}`.
        folds: Number of folds to make, stratified by class.
        group_by: Column whose values must not be split across folds, such as the recording.
        fold_seed: Random seed of `folds`.
        name: Name of your dataset. Default: that of the directory.
        title: Human-readable title of your dataset.
        licence: Licence of your sounds.
        citation: How to cite them.
        progress: Print how the source was interpreted, and show a progress bar, in a terminal or a
            notebook. If False, nothing is printed, and warnings are issued as
            `FeatureStoreWarning`.

    Raises:
        DatasetError: The source is missing or cannot be read, or the arguments contradict each
            other; messages name arguments like the command's options (`--group-by` is `group_by`).
        SpecError: A setting is unknown or impossible.
        StoreError: The store holds this dataset with other features or clips, or is not a store.
        BuildError: A clip failed (with `strict`), another process is writing the store, or a file
            cannot be read because of the machine; see `featurestore.errors` for the subclasses.
        StorageError: The store cannot be written.
        KeyboardInterrupt: The build was stopped; the same call resumes it.
    """
    console = (
        Terminal(stderr=True, soft_wrap=True) if progress else SilentTerminal(FeatureStoreWarning)
    )
    with executor_for(workers, scheduler, console=console) as executor, _resumable():
        # The workers import what they need while this process imports the rest.
        from featurestore.building import build as building
        from featurestore.datasets.own import OwnOptions
        from featurestore.extraction.spec import with_variants
        from featurestore.obtain import accept_partial, print_source
        from featurestore.progress import BuildProgress
        from featurestore.storage import locate
        from featurestore.store.reader import open_store

        own = OwnOptions(None, columns, folds, group_by, fold_seed, name, title, licence, citation)
        features = with_variants(_features(spec), variants)
        options = building.BuildOptions(strict, retry_failed, coordinates)
        place = None if root is None else Path(root)
        dataset, default_store = _dataset(console, source, place, own, download=download)
        dataset = dataset.with_spec_name(spec_name)
        storage = locate(default_store if store is None else store)
        print_source(console, dataset, storage)
        accept_partial(console, dataset, accepted=partial, may_ask=False)
        with BuildProgress(console) if progress else nullcontext() as observer:
            report = building.build(dataset, storage, features, executor, options, observer)
        for warning in report.warnings:
            console.warn(warning)
        return BuildResult(
            open_store(storage, dataset.card.name),
            report.num_built,
            report.failures,
            dataset.understood,
            dataset.left_out,
            (*dataset.warnings, *report.warnings),
        )


@contextmanager
def executor_for(
    workers: int | None,
    scheduler: str | None = None,
    *,
    dashboard: bool = False,
    console: Terminal,
) -> "Iterator[Executor]":
    """Yield the executor for the blocks, and print where they run; local processes start at once.

    Args:
        workers: Maximum number of local processes; 0 uses this one, None means one per core.
        scheduler: Address of a Dask scheduler to use instead.
        dashboard: Run the local processes with Dask, which shows them in a browser.
        console: Where it is printed.

    Raises:
        BuildError: The arguments contradict each other.
        ClusterError: The cluster does not exist, or has no dashboard.
    """
    if workers is not None and scheduler is not None:
        raise BuildError("workers and scheduler exclude each other")
    if workers is not None and (not isinstance(workers, Integral) or workers < 0):
        raise BuildError(f"workers: expected a whole number, at least 0, got {workers!r}")
    if workers == 0:
        from featurestore.building.executors import SerialExecutor

        yield SerialExecutor()
    elif scheduler is None and not dashboard:
        from featurestore.building.executors.processes import ProcessExecutor

        with ProcessExecutor(workers) as processes:
            yield processes
    else:
        from featurestore.building.executors.dask import DaskExecutor

        with DaskExecutor(workers, scheduler, console.say) as executor:
            link = executor.dashboard_link
            if link:
                console.print(f"dashboard: {link}")
            elif dashboard:
                raise ClusterError(
                    "no dashboard answers: install bokeh (pip install 'featurestore[dashboard]'), "
                    "or leave --dashboard out"
                )
            yield executor


def _features(spec: FeatureSpec | Mapping[str, Any] | Path | str | None) -> FeatureSpec:
    from featurestore.extraction.spec import load_spec, spec_of

    if spec is None:
        return FeatureSpec()
    if isinstance(spec, FeatureSpec):
        return spec
    return load_spec(Path(spec)) if isinstance(spec, str | Path) else spec_of(spec)


def _dataset(
    console: Terminal, source: object, root: Path | None, own: "OwnOptions", *, download: bool
) -> "tuple[Dataset, str]":
    """Return the dataset that a source is, and where its store is by default."""
    from featurestore.datasets import Dataset
    from featurestore.datasets.kinds import find_kind, known_names
    from featurestore.datasets.own import load_frame, load_own
    from featurestore.obtain import load_source

    if isinstance(source, str) and source in known_names():
        return load_source(console, source, root, own, yes=download, may_ask=False)
    if isinstance(source, Dataset):
        if root is not None or own.given:
            raise DatasetError("a Dataset has its root and its names: leave the others out")
        dataset = source
    elif isinstance(source, str | Path):
        place = Path(source)
        if not place.exists() and isinstance(source, str) and len(place.parts) == 1:
            find_kind(source)  # raises, and says what may have been meant
        if not place.exists():
            raise DatasetError(
                f"{place}: does not exist; expected the directory of your sounds, a table of them, "
                f"or the name of a dataset: {', '.join(known_names())}"
            )
        if place.is_dir():
            if root is not None:
                raise DatasetError(f"{place}: is a directory, and root another ({root}): give one")
            dataset = load_own(place, own)
        else:
            dataset = load_own(root or place.parent, replace(own, table=place))
    else:
        dataset = load_frame(source, root, own)
    return dataset, f"./{dataset.card.name}.zarr"


@contextmanager
def _resumable() -> Iterator[None]:
    """Add to an interrupt what is kept."""
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(_INTERRUPTED)
        raise
