"""Many runs at once: methods × seeds × settings, each a run directory of its own.

A sweep is nothing but its runs: the same sweep again resumes where it stopped, and one with more
methods, seeds or settings adds to what is there.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from featurestore import StoredDataset
from featurestore.text import file_name
from featurestore.yamlfile import YamlError, parse_yaml
from schemas import Cycle, RunConfig
from trainer.errors import ConfigError, ResumeError, differing, refused
from trainer.methods import own_methods, read_yaml
from trainer.plan import Options, Plan, absolute_init, plan_run
from trainer.records.rundir import RECORD, RESULT, RunDirectory
from trainer.run import Known, Manner, begin
from trainer.training.events import Notify, ignore
from trainer.weights import INITS, digest_of_file

RUNS, REPORT = "runs", "report"

_SETTINGS = {field.name for field in fields(Options)} - {"method", "folds", "seed", "own_methods"}
_FREE = {"device", "threads", "acceleration"}
"""Options that may differ on the machine that resumes: a run keeps its own."""
_CHECKED = TypeAdapter(Options)
_LISTS = ("methods", "seeds", "folds")
_MOST_SHOWN = 60
_MOST_RUNS = 10_000


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Args:
        name: Name of its directory.
        options: What it does.
        init_sha256: SHA-256 of its initial weights' file; None without one, or before planning.
    """

    name: str
    options: Options
    init_sha256: str | None = None


@dataclass(frozen=True)
class Sweep:
    """Methods, seeds and settings to combine.

    Args:
        methods: Names, at least one.
        seeds: At least one.
        folds: Held out in each run; all of the store's where empty.
        settings: Fields of `Options` and the values of each; all combinations are run.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    folds: tuple[int | str, ...] = ()
    settings: Mapping[str, tuple[Any, ...]] | None = None

    def runs(self) -> tuple[SweepRun, ...]:
        """Return every combination: by seed, so that each method soon has a result, then by method.

        Raises:
            ConfigError: Nothing is to be run, or a setting is unknown.
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
        combinations = [dict(zip(settings, v, strict=True)) for v in product(*settings.values())]
        several = {name for name, values in settings.items() if len(values) > 1}
        return tuple(
            SweepRun(
                _name(method, {n: v for n, v in chosen.items() if n in several}, seed),
                _options(chosen | {"method": method, "seed": seed, "folds": self.folds}),
            )
            for seed, method, chosen in product(
                dict.fromkeys(self.seeds), dict.fromkeys(self.methods), combinations
            )
        )


def _options(asked: Mapping[str, Any]) -> Options:
    """Return options as of `trainer run`: whatever is not given, this machine chooses.

    Raises:
        ConfigError: A value is of another kind.
    """
    automatic = {"device": "auto", "precision": "auto", "acceleration": "auto", "threads": None}
    try:
        return _CHECKED.validate_python(automatic | dict(asked))
    except ValidationError as error:
        raise refused(error) from error


def _check_known(settings: Mapping[str, Any]) -> None:
    for name in settings:
        if name not in _SETTINGS:
            near = difflib.get_close_matches(name, _SETTINGS, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(sorted(_SETTINGS))
            raise ConfigError(f"no setting {name!r}; there are: {known}{meant}")


def _name(method: str, settings: Mapping[str, Any], seed: int) -> str:
    parts = [f"{name.replace('_', '-')}={value}" for name, value in settings.items()]
    return file_name("-".join([method, *parts, f"seed{seed}"]))


def parse_setting(text: str) -> tuple[str, tuple[Any, ...]]:
    """Parse `name=value` or `name=value,value`: the name, with `_` for `-`, and the values.

    Raises:
        ConfigError: It is neither, or a value is none that is taken.
    """
    name, equals, values = text.partition("=")
    if not equals or not name or not values:
        raise ConfigError(f"setting {_shown(text)}: expected NAME=VALUE or NAME=VALUE,VALUE")
    try:
        # `1e-3` stays as it is written: the names of runs that there are have it.
        parsed = tuple(parse_yaml(value, exponents=False) for value in values.split(","))
    except YamlError as error:
        what = str(error).removeprefix("line 1: ")
        raise ConfigError(f"setting {_shown(text)}: {what}") from error
    return name.replace("-", "_"), parsed


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…")


def read_sweep(path: Path) -> Sweep:
    """Read a sweep from a YAML file: lists `methods`, `seeds`, `folds`, and a mapping `settings`.

    Raises:
        ConfigError: It cannot be read, or holds something else.
    """
    content = read_yaml(path, exponents=False)
    known = (*_LISTS, "settings")
    if not isinstance(content, dict) or not set(content) <= set(known):
        raise ConfigError(f"{path}: expected a mapping with some of: {', '.join(known)}")
    values = {name: _listed(path, name, content[name]) for name in _LISTS if name in content}
    settings = content.get("settings") or {}
    if "methods" not in values or not isinstance(settings, dict):
        raise ConfigError(f"{path}: expected a list of methods, and settings as a mapping")
    crossed = {
        str(name).replace("-", "_"): tuple(found) if isinstance(found, list) else (found,)
        for name, found in settings.items()
    }
    return Sweep(settings=crossed, **values)


def _listed(path: Path, name: str, found: object) -> tuple[Any, ...]:
    values = found if isinstance(found, list) else [found]
    kinds = {"methods": (str,), "seeds": (int,), "folds": (int, str)}[name]
    for value in values:
        if type(value) not in kinds:
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise ConfigError(f"{path}: {name}: {value!r} is no {expected}")
    return tuple(values)


def plan_sweep(
    dataset: StoredDataset, runs: Sequence[SweepRun], manner: Manner, elsewhere: bool = False
) -> list[tuple[SweepRun, Plan]]:
    """Check all runs before the first one trains: a mistake in the last should not show after days.

    Args:
        dataset: Trained on.
        runs: Runs of the sweep.
        manner: How to go about it.
        elsewhere: Whether other machines train them, whose devices are not known here.

    Returns:
        The runs with what their files hold, which is not read again from a path, and their plans;
        those of `elsewhere` are of any machine.

    Raises:
        TrainerError, featurestore.errors.StoreError: One of them cannot be run.
    """
    methods: dict[str, Mapping[str, tuple[Cycle, ...]]] = {}
    digests: dict[str, str] = {}
    planned = []
    for run in runs:
        options = replace(run.options, init=absolute_init(run.options.init))
        if options.methods_file is not None:
            file = str(options.methods_file)
            methods[file] = methods.get(file) or own_methods(file)
            options = replace(options, methods_file=None, own_methods=methods[file])
        if options.init not in INITS and options.init not in digests:
            digests[options.init] = digest_of_file(Path(options.init))
        here = _as_if_here(options) if elsewhere else options
        plan = plan_run(dataset, here, manner.folds_at_once)
        known = replace(run, options=options, init_sha256=digests.get(options.init))
        planned.append((known, plan))
    return planned


def _as_if_here(options: Options) -> Options:
    """Return the options with what any machine has; others' requirements are checked by name."""
    for name in ("precision", "acceleration"):
        known = ("auto", *get_args(RunConfig.model_fields[name].annotation))
        if getattr(options, name) not in known:
            raise ConfigError(
                f"{name} {getattr(options, name)!r}: expected one of: {', '.join(known)}"
            )
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", options.device):
        raise ConfigError(f"no device {options.device!r}; there are: auto, cpu, cuda, cuda:N")
    return replace(options, device="cpu", precision="auto", acceleration="eager")


def start(
    dataset: StoredDataset,
    run: SweepRun,
    out: Path,
    manner: Manner,
    plan: Plan,
    notify: Notify = ignore,
) -> Known:
    """Begin a run of the sweep, or check that what is in its directory is that run.

    Raises:
        TrainerError, featurestore.errors.StoreError: It cannot be run here.
        ResumeError: Another one is there.
    """
    path = out / RUNS / run.name
    if not (path / RECORD).exists():
        return begin(dataset, plan, path, notify, manner, run.init_sha256)
    record = RunDirectory(path).record()
    begun = record.config.model_copy(update={"init": absolute_init(record.config.init)})
    asked = {name: value for name, value in plan.config if name not in _FREE}
    problems = differing(asked, dict(begun))
    if run.init_sha256 and record.init_sha256 not in (None, run.init_sha256):
        problems.append(f"the content of {begun.init}")
    if problems:
        raise ResumeError(
            f"{path}: is another run, it differs in: {', '.join(problems)}; give another --out"
        )
    return Known(plan.splits)


def finished(out: Path, runs: Sequence[SweepRun]) -> list[Path]:
    """Return the directories of the runs that are finished."""
    paths = [out / RUNS / run.name for run in runs]
    return [path for path in paths if (path / RESULT).exists()]
