"""Every public function: a value that it does not take is one clear error of ours."""

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import featurestore
import trainer
from featurestore import FeatureStoreError, datasets, open_store
from featurestore.arguments import typed
from tests.integration.trainer_runs import finished_run
from tests.integration.trainer_store import sounds, tiny_store
from trainer import TrainerError

WRONG: tuple[Any, ...] = (
    None,
    1.5,
    -3,
    [None],
    True,
    1,
    float("nan"),
    10**30,
    "",
    "nothing of that name",
    b"bytes",
    [],
    ["x"],
    [1.5],
    {},
    {1: 2},
    {"x": [1]},
    object(),
    np.array(1.5),
    Path("nothing there"),
    len,
    (number for number in ("a", 2)),
)
NOT_CALLED = {
    "DatasetKind": "what an entry point names",
    "Download": "what plan_download returns",
    "Block": "what StoredDataset.blocks returns",
    "Recording": "what load returns",
    "FoundSounds": "what find_sounds returns",
    "BuildResult": "what build returns",
    "FeatureSpec": "pydantic's: its errors say what is wrong",
    "Dataset": "what load_dataset returns",
    "ClipTable": "what StoredDataset.clips returns",
    "StoredDataset": "what open_store returns",
    "FinishedRun": "what train returns",
    "make_synthetic": "takes a directory, and writes to it",
}


def public() -> Iterator[tuple[str, Callable[..., Any], Mapping[str, Any]]]:
    """Yield the name of each public function or constructor, itself, and arguments that work."""
    store, run = tiny_store(), finished_run()
    sound = sounds() / open_store(store).clips().path[0]
    spec = featurestore.FeatureSpec()
    arguments: dict[str, dict[str, Any]] = {
        "featurestore.build": {
            "source": sounds(),
            "store": "never.zarr",
            "name": "x",
            "workers": 0,
        },
        "featurestore.usable_cores": {},
        "featurestore.open_store": {"path": store},
        "featurestore.load": {"path": sound, "spec": spec},
        "featurestore.extract_file": {"path": sound, "extractor": featurestore.Extractor(spec)},
        "featurestore.find_sounds": {"directory": sounds()},
        "featurestore.Extractor": {"spec": spec},
        "datasets.Naming": {},
        "datasets.load_collection": {"root": sounds()},
        "datasets.read_frame": {"frame": {"path": ["a.wav"], "class": ["x"]}, "root": sounds()},
        "datasets.find_kind": {"name": "esc10"},
        "datasets.find_root": {"name": "synthetic"},
        "datasets.load_dataset": {"name": "folder", "root": sounds()},
        "datasets.plan_download": {"name": "esc10", "root": "never"},
        "trainer.train": {"store": store, "method": "nothing", "out": "never"},
        "trainer.resume": {"run": run},
        "trainer.predict": {"run": run, "files": []},
        "trainer.open_finished": {"path": run},
        "trainer.ZarrDataset": {"path": store, "array": "R1/mel"},
        "trainer.BlockSampler": {"data": trainer.ZarrDataset(store, "R1/mel")},
    }
    for package in (featurestore, datasets, trainer):
        for name in package.__all__:
            member = getattr(package, name)
            if isinstance(member, type) and issubclass(member, Exception):
                continue
            title = f"{package.__name__.rpartition('.')[2]}.{name}"
            if (
                not callable(member)
                or name in NOT_CALLED
                or not inspect.signature(member).parameters
            ):
                continue
            assert title in arguments, f"{title} is public, and nothing here calls it"
            yield title, member, arguments[title]
    opened = open_store(store)
    clip = opened.clips().clip_id[0]
    of_methods: dict[str, dict[str, Any]] = {
        "read_block": {"block": opened.blocks()[0], "array": "R1/mel"},
        "labels": {"block": opened.blocks()[0]},
        "read_clip": {"clip_id": clip},
        "read_row": {"fold": 1, "row": 0},
        "source_digest": {"fold": 1, "row": 0},
    }
    one_array = {"array": "R1/mel"}
    for name, method in inspect.getmembers(opened, inspect.ismethod):
        parameters = inspect.signature(method).parameters
        if name.startswith("_") or not parameters:
            continue
        usual = {"resolution": "R1"} if "resolution" in parameters else {}
        usual |= one_array if "array" in parameters else {}
        yield f"StoredDataset.{name}", method, of_methods.get(name, usual)


def outcome(function: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
    """Return nothing if all is well: it works, or says in a line what is wrong."""
    try:
        result = function(**arguments)
        if inspect.isgenerator(result) or isinstance(result, itertools.chain):
            next(result, None)
    except (FeatureStoreError, TrainerError) as error:
        text = str(error)
        return "" if text and "\n" not in text and len(text) < 1000 else f"says {text!r}"
    except BaseException as error:  # noqa: BLE001 (whatever comes is what is looked for)
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize(
    "each", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["in turn", "each"]
)
def test_a_wrong_value_of_any_argument_of_any_public_function_is_an_error_of_ours(
    each: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default each parameter is given one of the values, in turn; slow: all of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEATURESTORE_DATA", str(tmp_path))
    Path("bare").mkdir()  # nothing is built: there are no sounds, which is found out late
    Path("bare/clips.csv").write_text("path,class\na.wav,x\n")
    faults, calls, turns = [], 0, itertools.cycle(WRONG)
    for name, function, usual in public():
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                continue
            for value in WRONG if each else [next(turns)]:
                calls += 1
                if fault := outcome(function, {**usual, parameter.name: value}):
                    faults.append(f"{name}({parameter.name}={value!r}): {fault}")
    assert not faults, "\n".join([f"{len(faults)} of {calls}", *faults])


def test_what_was_expected_and_what_was_given_are_said(tmp_path: Path) -> None:
    store = open_store(tiny_store())
    for call, words in (
        (lambda: store.read("R1/mel", folds=1), "folds: expected a list of whole numbers or None"),
        (lambda: store.torch_dataset("R1/mel", folds=1), "folds: expected a list of whole numbers"),
        (lambda: open_store(None), "path: expected a text, a path or a Storage, got None"),
        (lambda: store.read_row(1, 10_000), "row: expected 0 to"),
        (lambda: trainer.ZarrDataset(store.path, "R1/mel", folds=["1"]), "got ['1']"),
    ):
        with pytest.raises(featurestore.FeatureStoreError) as caught:
            call()  # type: ignore[no-untyped-call]
        assert words in str(caught.value)
        assert isinstance(caught.value, TypeError | ValueError)


def test_what_fits_is_taken_also_from_numpy_and_of_iterators() -> None:
    store = open_store(tiny_store())
    one = store.read("R1/mel", folds=[1])[0]
    for folds in (np.array([1]), (number for number in (1,)), {1}, np.int64([1]), range(1, 2)):
        np.testing.assert_array_equal(store.read("R1/mel", folds)[0], one)
    assert len(store.clips([]).clip_id) == 0
    assert featurestore.find_sounds(str(sounds())) == featurestore.find_sounds(sounds())


def test_what_stands_for_a_path_a_word_or_a_mask_is_taken_for_it() -> None:
    class Place:
        def __fspath__(self) -> str:
            return str(sounds())

    @typed
    def taken(
        path: Path | None = None,
        place: Path | str = "",
        word: Literal["best", "last"] = "best",
        frame: Any = None,
    ) -> tuple[Any, ...]:
        return path, place, word, frame

    assert featurestore.find_sounds(Place()) == featurestore.find_sounds(sounds())  # type: ignore[arg-type]
    reader = iter("ab")
    assert taken("a", "s3://b/c", np.str_("last"), reader) == (  # type: ignore[arg-type]
        Path("a"),
        "s3://b/c",
        "last",
        reader,
    )
    for wrong in ({"path": ""}, {"path": b"a"}, {"word": "worst"}, {"word": True}):
        with pytest.raises(featurestore.FeatureStoreError, match="expected"):
            taken(**wrong)
    table = open_store(tiny_store()).clips()
    mask = np.arange(len(table)) % 2 == 0
    for same in (mask, mask.tolist(), tuple(mask), (bool(one) for one in mask)):
        assert table.where(same).clip_id.tolist() == table.clip_id[mask].tolist()  # type: ignore[arg-type]
    assert len(table.where([])) == 0


@pytest.mark.parametrize(
    "arguments",
    ["build --root x --name=", ["build", "--root", "x", "--name", ""], ["info", ""]],
    ids=str,
)
def test_an_empty_argument_is_no_value(
    arguments: str | list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from featurestore.cli import main

    assert main(arguments.split() if isinstance(arguments, str) else arguments) == 2
    assert "expected a value, got an empty text" in capsys.readouterr().err
