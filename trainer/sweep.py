"""Sweeps over methods × seeds × settings, each combination in its own run directory.

A sweep has no state but its runs: starting it again resumes it, and a sweep with more methods,
seeds or settings adds runs.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from featurestore import StoredDataset
from featurestore.errors import first_problem
from featurestore.text import did_you_mean, file_name, setting_text
from featurestore.yamlfile import YamlError, parse_yaml
from schemas import Schema
from trainer.config import ExecutionOptions, TrainingOptions
from trainer.data.split import default_folds, fold_numbers
from trainer.errors import ConfigError, ResumeError, differing, refused
from trainer.methods import Methods, own_methods, read_yaml, resizes
from trainer.model import short_arch
from trainer.plan import Plan, absolute_init, plan_run
from trainer.recipes import RECIPES, defaults, rates_text, with_rates
from trainer.records.rundir import RECORD, RESULT, RunDirectory
from trainer.run import Known, begin
from trainer.safefiles import refuse_link
from trainer.sameness import Planned, refuse_same
from trainer.selection import inapplicable
from trainer.training.events import Notify, ignore
from trainer.weights import INITS, digest_of_file

RUNS, REPORT = "runs", "report"

_SETTINGS = {field.name for field in fields(TrainingOptions)} - {
    "method",
    "folds",
    "seed",
    "own_methods",
}
"""Options that a sweep may set; the others are arguments of the sweep itself."""
_SWITCHES = {field.name for field in fields(TrainingOptions) if isinstance(field.default, bool)}
FREE = {"device", "threads", "acceleration"}
"""Options in no run's name: a resumed run keeps its own, unless they are given."""
_CHECKED = TypeAdapter(TrainingOptions)
_MOST_SHOWN = 60
"""Maximum number of characters of a setting in a message."""
_MOST_RUNS = 10_000
"""Maximum number of runs: more are a mistake, and their combinations would fill memory."""


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Args:
        name: Name of its directory.
        options: Training options.
        init_sha256: SHA-256 of the file of its initial weights; None without a file, or before
            planning.
    """

    name: str
    options: TrainingOptions
    init_sha256: str | None = None


@dataclass(frozen=True)
class Sweep:
    """Methods, seeds and settings to combine.

    Args:
        methods: Names of methods, at least one.
        seeds: Random seeds, at least one.
        folds: Folds to hold out in each run; if empty, all of the store.
        settings: Values by option of `trainer run`. All combinations are run; a run is without the
            options that it cannot have (`_inapplicable`), if others of the sweep have them.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    folds: tuple[int | str, ...] = ()
    settings: Mapping[str, tuple[Any, ...]] | None = None

    def on(self, dataset: StoredDataset) -> Self:
        """Return the sweep with its folds by number, ascending; none if they are the default.

        Raises:
            featurestore.errors.UnknownNameError: The dataset has no such fold.
        """
        folds = tuple(sorted(fold_numbers(dataset, self.folds)))
        return replace(self, folds=() if folds == tuple(sorted(default_folds(dataset))) else folds)

    def runs(self) -> tuple[SweepRun, ...]:
        """Return all combinations, by seed first, so that each method soon has a result.

        Raises:
            TrainerError: There is nothing to run, a setting is unknown or invalid, two runs have
                the same name, or the methods file is unusable or lacks a method.
        """
        settings = dict(self.settings or {})
        _check_known(settings)
        if not self.methods or not self.seeds or not all(settings.values()):
            raise ConfigError("a sweep needs a method, a seed, and a value of each setting")
        counts = (len(self.methods), len(self.seeds), *map(len, settings.values()))
        if (number := prod(counts)) > _MOST_RUNS:
            raise ConfigError(
                f"these settings make {number:,} runs; a sweep has {_MOST_RUNS:,} at most"
            )
        settings = {"method": tuple(dict.fromkeys(self.methods)), **settings}
        # By position, as equal values would hide that one is given twice.
        places = product(*(range(len(values)) for values in settings.values()))
        combinations = [dict(zip(settings, at, strict=True)) for at in places]

        def values(chosen: Mapping[str, int]) -> dict[str, Any]:
            return {name: settings[name][at] for name, at in chosen.items()}

        files: dict[Path, Methods] = {}
        unfit = [_inapplicable(_options(values(chosen)), files) for chosen in combinations]
        had = {n for of, names in zip(combinations, unfit, strict=True) for n in of.keys() - names}
        # Combinations that differ only in what is left out of them are one run. Any other with the
        # same name would train the same run twice.
        kept = dict.fromkeys(
            tuple((name, at) for name, at in chosen.items() if name not in names & had)
            for chosen, names in zip(combinations, unfit, strict=True)
        )
        by_name: dict[str, dict[str, Any]] = {}
        for seed, chosen in product(dict.fromkeys(self.seeds), map(dict, kept)):
            own = values(chosen) | {"seed": seed, "folds": self.folds}
            name = run_name(_options(own))
            if name in by_name:
                raise _repeated(name, by_name[name], own)
            by_name[name] = own
        return tuple(SweepRun(name, _options(own)) for name, own in by_name.items())


def _inapplicable(options: TrainingOptions, files: dict[Path, Methods]) -> set[str]:
    """Return the names of options that a run with the other options cannot have.

    Args:
        options: Options of the run.
        files: Methods files that have been read; one that is read is added.

    Raises:
        TrainerError: The methods file is unusable, or has no such method.
    """
    names = inapplicable(options.selection)
    file = options.methods_file
    if options.resize_operator and file and file not in files:
        files[file] = own_methods(file)
    if options.resize_operator and not resizes(options.method, files.get(file) if file else None):
        names.add("resize_operator")
    return names


def _repeated(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> ConfigError:
    pairs = [(name, first.get(name), value) for name, value in second.items()]
    values = ", ".join(f"{n}={a} and {n}={b}" for n, a, b in pairs if str(a) != str(b))
    return ConfigError(
        f"two runs of the sweep would be one, {name}: {values or 'a value is given twice'}; leave "
        "one of them out"
    )


def _options(settings: Mapping[str, Any]) -> TrainingOptions:
    """Return options as of `trainer run`, with its defaults for those that are missing.

    A network of timm is without the tag that timm takes for it anyway.

    Raises:
        ConfigError: A value is of another kind.
    """
    for name, value in settings.items():
        # pydantic would take true for the number 1.
        if isinstance(value, bool) and name not in _SWITCHES:
            raise ConfigError(f"{name} {str(value).lower()}: expected a number or a name")
    try:
        options = _CHECKED.validate_python(dict(settings))
        return replace(options, arch=short_arch(options.arch))
    except ValidationError as error:
        raise refused(error) from error


def _check_known(settings: Mapping[str, Any]) -> None:
    for name in settings:
        if name not in _SETTINGS:
            known, meant = ", ".join(sorted(_SETTINGS)), did_you_mean(name, _SETTINGS)
            raise ConfigError(f"no setting {name!r}; there are: {known}{meant}")


def run_name(options: TrainingOptions) -> str:
    """Return the name of a run's directory, which is independent of the rest of the sweep.

    It consists of the method, the seed, the folds if they are given, and all settings that could
    affect results and differ from the defaults of `trainer run`. The contents of the methods file
    and of the file of the initial weights are compared when a run is resumed.
    """
    default, spelled = TrainingOptions(method=options.method), _canonical(options)
    folds = [f"fold={','.join(map(str, options.folds))}"] if options.folds else []
    names = sorted(_SETTINGS - FREE - {"methods_file"})
    changed = {n: v for n in names if (v := getattr(spelled, n)) != getattr(default, n)}
    parts = [f"{name.replace('_', '-')}={setting_text(v)}" for name, v in changed.items()]
    return file_name("-".join([options.method, f"seed{options.seed}", *folds, *parts]))


def _canonical(options: TrainingOptions) -> TrainingOptions:
    """Return options in one spelling: a value that is the default anyway is left out."""
    usual = defaults(options.recipe, options.selection) | {"resize_operator": "bilinear"}
    blank = {field.name: field.default for field in fields(TrainingOptions)}
    changes: dict[str, Any] = {
        name: blank[name] for name, value in usual.items() if getattr(options, name) == value
    }
    # Absolute: from another working directory, the same command is to find its runs again.
    changes |= {"init": absolute_init(options.init), "max_lr": rates_text(options.max_lr)}
    return replace(options, **changes)


def parse_setting(text: str) -> tuple[str, tuple[Any, ...]]:
    """Parse `name=value` or `name=value,value` into the name, with `_` for `-`, and the values.

    Raises:
        ConfigError: The text has another form, or a value is invalid.
    """
    name, equals, values = text.partition("=")
    if not equals or not name or not values:
        raise ConfigError(f"setting {_shown(text)}: expected NAME=VALUE or NAME=VALUE,VALUE")
    # YAML's rules, so that a value means the same on the command line as in a sweep's file.
    try:
        parsed = tuple(parse_yaml(value) for value in values.split(","))
    except YamlError as error:
        what = str(error).removeprefix("line 1: ")
        raise ConfigError(f"setting {_shown(text)}: {what}") from error
    return name.replace("-", "_"), parsed


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…")


_Listed = BeforeValidator(lambda value: value if isinstance(value, list) else [value])


class SweepFile(Schema):
    """A sweep in a YAML file; a single value stands for a list of one."""

    methods: Annotated[list[str], _Listed]
    seeds: Annotated[list[int], _Listed] = Field(default=[0])
    folds: Annotated[list[int | str], _Listed] = Field(default=[])
    settings: dict[str, Annotated[list[Any], _Listed]] | None = None


def read_sweep(path: Path) -> Sweep:
    """Read a sweep from a YAML file: lists `methods`, `seeds`, `folds`, and a mapping `settings`.

    Raises:
        ConfigError: The file cannot be read, or is not a sweep.
    """
    content = read_yaml(path)
    # Strict: no text or truth value is taken for a number.
    try:
        file = SweepFile.model_validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_problem(error, SweepFile.model_fields)}") from error
    crossed: dict[str, tuple[Any, ...]] = {}
    for name, values in (file.settings or {}).items():
        option = name.replace("-", "_")
        if option in crossed:
            raise ConfigError(f"{path}: setting given twice: {option}")
        crossed[option] = tuple(values)
    return Sweep(tuple(file.methods), tuple(file.seeds), tuple(file.folds), crossed)


def check_folders(out: Path, runs: Sequence[SweepRun]) -> None:
    """Refuse symbolic links in the place of a sweep's directories.

    Raises:
        RunDirectoryError: One is there.
    """
    for path in (out / RUNS, out / REPORT, *(out / RUNS / run.name for run in runs)):
        refuse_link(path)


def plan_sweep(
    dataset: StoredDataset,
    runs: Sequence[SweepRun],
    execution: ExecutionOptions,
    elsewhere: bool = False,
) -> list[tuple[SweepRun, Plan]]:
    """Check all runs before the first one trains, so that no mistake shows only after days.

    Args:
        dataset: Dataset to train on.
        runs: Runs of the sweep.
        execution: Execution options.
        elsewhere: Whether other machines train them, whose devices are unknown here.

    Returns:
        The runs with the contents of their files, which are not read again, and their plans; with
        `elsewhere`, plans are for any machine.

    Raises:
        TrainerError, featurestore.errors.StoreError: A run is not feasible.
    """
    methods: dict[str, Methods] = {}
    digests: dict[str, str] = {}
    planned = []
    compared: list[Planned] = []
    for run in runs:
        options = replace(run.options, init=absolute_init(run.options.init))
        if options.methods_file is not None:
            file = str(options.methods_file)
            methods[file] = methods.get(file) or own_methods(file)
            options = replace(options, methods_file=None, own_methods=methods[file])
        if options.init not in INITS and options.init not in digests:
            # One digest for all runs: a file that changes while they train is then noticed.
            digests[options.init] = digest_of_file(Path(options.init))
        here = _as_if_here(options) if elsewhere else options
        plan = plan_run(dataset, here, execution.folds_at_once)
        known = replace(run, options=options, init_sha256=digests.get(options.init))
        planned.append((known, plan))
        # A run is the same whatever each machine chooses for itself.
        fixed = {"init": digests.get(options.init, options.init)}
        if elsewhere and options.precision == "auto":
            fixed["precision"] = RECIPES[options.recipe].precision or "auto"
        elif elsewhere:
            fixed["precision"] = options.precision
        config = plan.config.model_copy(update=fixed)
        compared.append(Planned(run.name, run.options, replace(plan, config=config)))
    refuse_same(dataset.shape, compared)
    return planned


def _as_if_here(options: TrainingOptions) -> TrainingOptions:
    """Return the options with what any machine has; only the device's name is checked here."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", options.device):
        raise ConfigError(f"no device {options.device!r}; there are: auto, cpu, cuda, cuda:N")
    return replace(options, device="cpu", precision="auto", acceleration="eager")


def start(
    dataset: StoredDataset,
    run: SweepRun,
    out: Path,
    execution: ExecutionOptions,
    plan: Plan,
    notify: Notify = ignore,
) -> Known:
    """Create a run of the sweep, or check that its directory contains that run.

    Raises:
        TrainerError, featurestore.errors.StoreError: The run is not feasible here.
        ResumeError: The directory contains another run.
    """
    path = out / RUNS / run.name
    if not (path / RECORD).exists():
        return begin(dataset, plan, path, notify, execution, run.init_sha256)
    record = RunDirectory(path).record()
    recorded = record.config.model_copy(update={"init": absolute_init(record.config.init)})
    chosen_here = {name for name in FREE if getattr(run.options, name) in (None, "auto")}
    planned = {name: value for name, value in plan.config if name not in chosen_here}
    if recorded.max_lr_from == planned["max_lr_from"] == "measured":
        # The plan does not know yet what the run has measured.
        rates = [stage.max_lr for stage in recorded.stages]
        if len(rates) == len(planned["stages"]):  # else it is another method of that name
            planned["stages"] = with_rates(planned["stages"], rates)
    problems = differing(planned, dict(recorded))
    if run.init_sha256 and record.init_sha256 not in (None, run.init_sha256):
        problems.append(f"the content of {recorded.init}")
    if problems:
        raise ResumeError(
            f"{path}: is another run, it differs in: {', '.join(problems)}; give another --out"
        )
    return Known(plan.splits)


def finished(out: Path, runs: Sequence[SweepRun]) -> list[Path]:
    """Return the directories of finished runs."""
    paths = [out / RUNS / run.name for run in runs]
    return [path for path in paths if (path / RESULT).exists()]
