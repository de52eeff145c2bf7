"""A build as a function: what `featurestore build` does, for scripts and notebooks.

The command and the function share each step, so a store has the same bytes whichever made it. What
the command asks on the terminal is refused here, with the argument that allows it.
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
        num_built: Clips that this call extracted, failed ones included; 0 if all was there.
        failures: Clips that failed in this call: `clip_id`, `path`, `status`, `detail` of each.
        understood: What was made of the table or the directories, in phrases.
        left_out: Files in the root that are no clips, by kind and number.
        warnings: What a user should know.
    """

    store: "StoredDataset"
    num_built: int
    failures: "tuple[ClipFailure, ...]" = ()
    understood: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Clips of the store by outcome: `ok`, `missing`, `unreadable` and so on."""
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
    """Build a store, or finish one that was interrupted; the same as the command `build`.

    A store that is complete already is left as it is. The bytes written do not depend on `workers`,
    nor on how often the build was interrupted.

    Args:
        source: Name of a dataset (`featurestore.datasets.known_names()`); or the directory of a
            collection of your own, or its table (CSV, TSV, JSON Lines, Parquet); or the table
            itself: a pandas data frame, an Arrow table, a mapping of names to columns; or a
            `featurestore.datasets.Dataset`. A name of ours in the form of a `Path` is a directory.
        store: Path or URL of the store. Default: `./NAME.zarr` (`us8k.zarr` of UrbanSound8K).
        root: Directory of the audio. By default that of the dataset's usual places, or the table's;
            a data frame needs one.
        spec: Feature settings that differ from the paper's: a `FeatureSpec`, a mapping, or a YAML
            or JSON file.
        variants: Images to store in addition to the spec's.
        spec_name: Store these features next to others of the same dataset, under its name, a
            hyphen and this one; the command's `--as`.
        coordinates: Store Hz, seconds, class names and trimmed lengths next to the arrays, for
            readers that do not know this package. Features always do so.
        workers: Most local processes; 0 uses only this one. Default: one per core.
        scheduler: Address of a Dask scheduler to use instead.
        strict: Fail if a clip fails.
        retry_failed: Try clips again that failed before.
        partial: Accept a part of a published dataset.
        download: Download a dataset that is absent.
        columns: Column of your table by role: `{"path": "Filename", "class": "Label"}`.
        folds: Number of folds to make, stratified by class.
        group_by: Column of which no value may be in two folds.
        fold_seed: Random seed of `folds`.
        name: Name of your dataset. Default: that of the directory.
        title: Its title, for people.
        licence: Licence of your sounds.
        citation: How to cite them.
        progress: Print what was understood, and show a bar, in a terminal or a notebook. Without,
            nothing is printed, and warnings are Python's (`FeatureStoreWarning`).

    Raises:
        DatasetError: The source is absent, cannot be read, or the arguments do not go together;
            messages name arguments as the command's options, so `--group-by` is `group_by`.
        SpecError: A setting is unknown or impossible.
        StoreError: The store holds this dataset with other features or clips, or is something else.
        BuildError: See `featurestore.errors`: a clip failed (`strict`), another process writes the
            store, the machine cannot read what it must.
        StorageError: The store cannot be written.
        KeyboardInterrupt: As usual; the same call resumes.
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
    """Yield where blocks are run, and say where; local processes start to import at once.

    Args:
        workers: Most local processes; 0 uses this one, None is one per core.
        scheduler: Address of a Dask scheduler to use instead.
        dashboard: Run the local processes by Dask, which shows them in a browser.
        console: Where that is said.

    Raises:
        BuildError: The arguments exclude each other.
        ClusterError: There is no such cluster, or no dashboard.
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
    from featurestore.obtain import obtain_source

    if isinstance(source, str) and source in known_names():
        return obtain_source(console, source, root, own, yes=download, may_ask=False)
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
