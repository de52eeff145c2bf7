"""The page's server and its files: who may ask, what is answered, and that it is what is stored."""

import io
import json
import os
import re
import shutil
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from featurestore import cli, open_store
from featurestore.browsing.export import export, export_paths
from featurestore.browsing.runs import Runs
from featurestore.browsing.server import POLICY
from featurestore.browsing.shelf import Shelf
from featurestore.browsing.site import Site
from featurestore.errors import NotAStoreError, StorageError, StoreError
from schemas import ClipStatus
from tests.integration import filled_store
from tests.integration.browsing import (
    HOSTILE,
    SMALL,
    Served,
    build_browsed,
    build_labelled,
    served,
    write_run,
    write_sounds,
)
from trainer.metrics import average_precisions
from trainer.records.finished import open_finished
from trainer.report.classes import agreement_picture
from trainer.report.comparisons import agreements
from trainer.report.series import group, read_run
from trainer.stats import mcnemar_p


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sounds(tmp_path_factory.mktemp("browsed") / "sounds")


@pytest.fixture(scope="module")
def browsed(root: Path) -> Path:
    return build_browsed(root, root.parent / "s.zarr")


@pytest.fixture(scope="module")
def site(browsed: Path, root: Path) -> Site:
    return Site(Shelf(browsed), root)


@pytest.fixture(scope="module")
def page(site: Site) -> Iterator[Served]:
    with served(site) as page:
        yield page


DATA = "data/s.zarr/folder"


def read(site: Site, path: str) -> Any:
    answer = site.answer(path)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def test_the_page_is_answered_behind_its_token_with_a_policy_that_allows_nothing_foreign(
    page: Served,
) -> None:
    status, headers, body = page.get("")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert b'<script type="module" src="static/app.js">' in body
    assert b"http" not in body.replace(b"http-equiv", b"")
    assert page.get("static/app.js")[0] == 200


@pytest.mark.parametrize("token", ["", "x", "the-toke", "the-token2", "%00"])
def test_without_the_token_nothing_is_answered(page: Served, token: str) -> None:
    status, _, body = page.get("data/stores.json", token=token)
    assert status == 404
    assert b"folder" not in body


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil:80"])
def test_a_request_for_another_host_is_refused(page: Served, host: str) -> None:
    assert page.get("data/stores.json", {"Host": host})[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "../pyproject.toml",
        "static/../server.py",
        "static/%2e%2e/server.py",
        "data/../../etc/passwd",
        "data/s.zarr/folder/../../zarr.json",
        "data/s.zarr/nothing/clips.json",
        "data/other/folder/clips.json",
        f"{DATA}/clips/-1.json",
        f"{DATA}/clips/99.json",
        f"{DATA}/clips/99999999999.json",
        f"{DATA}/clips/1.wav",
        f"{DATA}/thumbnails/9.bin",
        f"{DATA}/sounds/99.wav",
    ],
)
def test_paths_that_lead_nowhere_are_answered_by_an_error(page: Served, path: str) -> None:
    status, headers, body = page.get(path)
    assert status in (404, 422)
    assert headers["content-type"].startswith("application/json")
    assert set(json.loads(body)) == {"error"}


def test_only_reading_is_possible(page: Served) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", page.port)
    connection.request("POST", "/the-token/data/stores.json", body=b"{}")
    assert connection.getresponse().status == 405
    connection.close()


def test_a_range_of_a_sound_is_answered_with_that_part(page: Served) -> None:
    path = f"{DATA}/sounds/0.wav"
    status, headers, whole = page.get(path)
    assert (status, headers["accept-ranges"]) == (200, "bytes")
    size = len(whole)
    cases = {
        "bytes=0-99": (0, 100),
        "bytes=100-": (100, size),
        "bytes=-50": (size - 50, size),
        f"bytes=10-{size * 2}": (10, size),
    }
    for header, (start, stop) in cases.items():
        status, headers, part = page.get(path, {"Range": header})
        assert (status, part) == (206, whole[start:stop])
        assert headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    for header in (f"bytes={size}-", "bytes=9-3"):
        status, headers, part = page.get(path, {"Range": header})
        assert (status, headers["content-range"]) == (416, f"bytes */{size}")
    for header in ("bytes=0-1,5-6", "words=0-1", "bytes=-"):
        assert page.get(path, {"Range": header})[0] == 200


def test_the_table_and_the_tiles_are_what_is_stored(site: Site, browsed: Path) -> None:
    dataset = open_store(browsed)
    table, columns = dataset.all_clips(), read(site, f"{DATA}/clips.json")["columns"]
    assert columns["clip_id"] == table.clip_id.tolist()
    assert columns["status"] == table.status.tolist()
    collection = read(site, f"{DATA}/collection.json")
    assert HOSTILE in collection["card"]["class_names"]
    assert collection["counts"] == {"ok": 18, "unreadable": 1}
    group = collection["thumbnail"]["group"]
    shape = tuple(collection["thumbnail"]["shape"])
    tiles = b"".join(
        site.answer(f"{DATA}/thumbnails/{at}.bin").body for at in range(-(-len(table) // group))
    )
    images = np.frombuffer(tiles, np.uint8).reshape(len(table), *shape)
    for number, clip_id in enumerate(table.clip_id):
        if table.status[number] != ClipStatus.OK:
            assert not images[number].any()
            continue
        stored = dataset.read_clip(clip_id)
        np.testing.assert_allclose(images[number] / 255, stored["R1/mel"], atol=1 / 255)
        facts = read(site, f"{DATA}/clips/{number}.json")
        values = np.frombuffer(site.answer(f"{DATA}/clips/{number}.bin").body, "<u2") / 65_535
        for array in facts["arrays"]:
            of = values[array["offset"] :][: np.prod(array["shape"])].reshape(array["shape"])
            np.testing.assert_allclose(of, stored[array["name"]], atol=1e-4)


def test_a_sound_is_its_own_rows_file(site: Site, browsed: Path, root: Path) -> None:
    table = open_store(browsed).all_clips()
    for number in np.flatnonzero(table.status == ClipStatus.OK):
        heard, rate = soundfile.read(io.BytesIO(site.answer(f"{DATA}/sounds/{number}.wav").body))
        source, source_rate = soundfile.read(root / table.path[number])
        assert rate == source_rate
        np.testing.assert_allclose(heard, source, atol=2 / 32_768)
        facts = read(site, f"{DATA}/sounds/{number}.json")
        assert facts["compared"]
        assert facts["peak_db"] == pytest.approx(20 * np.log10(0.5), abs=0.02)


def test_a_file_that_was_replaced_is_not_played_and_a_missing_one_says_so(
    browsed: Path, root: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(root, tmp_path / "sounds")
    table = open_store(browsed).all_clips()
    first, second = np.flatnonzero(table.status == ClipStatus.OK)[:2]
    soundfile.write(copy / table.path[first], np.zeros(9000), 22_050)
    (copy / table.path[second]).unlink()
    site = Site(Shelf(browsed), copy)
    for number, words in ((first, "is not the file"), (second, "does not exist")):
        for suffix in ("json", "wav"):
            answer = site.answer(f"{DATA}/sounds/{number}.{suffix}")
            assert answer.status == 422
            assert words in json.loads(answer.body)["error"]


def test_without_a_root_there_is_no_sound(browsed: Path) -> None:
    site = Site(Shelf(browsed))
    assert not read(site, "data/stores.json")["sounds"]
    assert site.answer(f"{DATA}/sounds/0.wav").status == 404


def test_clips_that_were_repeated_are_found(site: Site, browsed: Path) -> None:
    for _ in range(100):
        facts = read(site, f"{DATA}/repetition.json")
        if facts["period_s"]:
            break
        time.sleep(0.02)
    dataset = open_store(browsed)
    table, frame_s = dataset.all_clips(), SMALL.hop_length / SMALL.sample_rate
    periods = [None if p is None else round(p / frame_s) for p in facts["period_s"]]
    for number, clip_id in enumerate(table.clip_id):
        if table.status[number] != ClipStatus.OK:
            assert periods[number] is None
            continue
        full = dataset.read_clip(clip_id)["R2/full"]
        if period := periods[number]:
            np.testing.assert_array_equal(full[:, period:], full[:, : full.shape[1] - period])
        assert (period is not None) == (table.duration_s[number] < 60 * frame_s)
    assert any(periods)


def test_the_page_says_how_far_the_search_for_repetition_is_before_it_has_started(
    browsed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    facts = read(Site(Shelf(browsed)), f"{DATA}/repetition.json")
    assert (facts["done"], facts["total"], facts["period_s"]) == (0, 19, None)


def test_a_store_that_is_built_shows_what_is_there_and_then_the_rest(tmp_path: Path) -> None:
    finished = filled_store.fill_store(tmp_path / "all.zarr", (8, 16), {1: 16}, chunk=4)
    blocks = finished.blocks()
    store = tmp_path / "s.zarr"
    arrays = filled_store.start_store(store, (8, 16), {1: 16}, chunk=4)
    site = Site(Shelf(store))
    assert read(site, "data/s.zarr/noise/collection.json")["counts"] == {"pending": 16}
    filled_store.write(arrays, blocks[0])
    states = read(site, "data/stores.json")["stores"][0]["datasets"][0]
    assert (states["state"], states["counts"]) == ("building", {"ok": 4, "pending": 12})
    revision = read(site, "data/s.zarr/noise/clips.json")["revision"]
    time.sleep(1.05)
    collection = read(site, "data/s.zarr/noise/collection.json")
    assert collection["counts"] == {"ok": 4, "pending": 12}
    assert collection["revision"] != revision
    tiles = np.frombuffer(site.answer("data/s.zarr/noise/thumbnails/0.bin").body, np.uint8)
    shown = tiles.reshape(16, -1).any(axis=1)
    assert shown.tolist() == [True] * 4 + [False] * 12
    assert site.answer("data/s.zarr/noise/clips/9.bin").status == 422
    assert read(site, "data/s.zarr/noise/clips/2.json")["row"]["source_sha256"]


def test_a_clip_that_is_tried_again_with_success_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurestore.browsing.site._LEAST_AGE_S", 0)
    arrays = filled_store.start_store(tmp_path / "s.zarr", (8, 16), {1: 4}, chunk=4)
    (block,) = filled_store.fold_blocks(1, 4, 4)
    site = Site(Shelf(tmp_path / "s.zarr"))
    filled_store.write(arrays, block, [1])
    before = read(site, "data/s.zarr/noise/collection.json")
    assert before["counts"] == {"ok": 3, "unreadable": 1}
    filled_store.write(arrays, block)
    after = read(site, "data/s.zarr/noise/collection.json")
    assert after["counts"] == {"ok": 4}
    assert after["revision"] != before["revision"]


@pytest.mark.parametrize("key", ["zarr.json", "folder/zarr.json", "folder/fold1/status/c/0"])
def test_a_damaged_store_says_so_in_a_line(browsed: Path, tmp_path: Path, key: str) -> None:
    store = shutil.copytree(browsed, tmp_path / "s.zarr")
    file = store / key
    file.write_bytes(file.read_bytes()[:-9])
    site = Site(Shelf(store))
    described = read(site, "data/stores.json")["stores"][0]
    errors = [described["error"], *(d["error"] for d in described["datasets"])]
    answer = site.answer(f"{DATA}/collection.json")
    errors.append(json.loads(answer.body).get("error", ""))
    assert any(errors)
    assert not any("\n" in error for error in errors)
    assert answer.status == 422


def test_a_damaged_chunk_costs_only_what_needs_it(browsed: Path, tmp_path: Path) -> None:
    store = shutil.copytree(browsed, tmp_path / "s.zarr")
    (store / "folder/fold1/R1/mel/c/0/0/0").write_bytes(b"rubbish")
    site = Site(Shelf(store))
    assert read(site, f"{DATA}/clips.json")["columns"]["fold"][0] == 1
    answer = site.answer(f"{DATA}/thumbnails/0.bin")
    assert answer.status == 422
    assert "rows 0 to 4" in json.loads(answer.body)["error"]
    whole = max(np.flatnonzero(open_store(browsed).all_clips().status == ClipStatus.OK))
    assert read(site, f"{DATA}/clips/{whole}.json")["arrays"]


def test_a_directory_lists_its_stores_as_they_come(browsed: Path, tmp_path: Path) -> None:
    site = Site(Shelf(tmp_path))
    assert read(site, "data/stores.json")["stores"] == []
    shutil.copytree(browsed, tmp_path / "a store.zarr")
    (tmp_path / "note.txt").write_text("no store")
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr" / "zarr.json").write_text("{")
    first, second = read(site, "data/stores.json")["stores"]
    assert first["datasets"][0]["counts"] == {"ok": 18, "unreadable": 1}
    assert second["error"]
    assert read(site, f"data/{first['key']}/folder/clips.json")


def test_what_is_no_store_and_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_text("{}")
    with pytest.raises(NotAStoreError):
        Shelf(tmp_path)
    with pytest.raises(StoreError):
        Shelf(tmp_path / "absent")


@pytest.mark.slow
def test_a_hundred_thousand_clips_are_answered_in_a_second(tmp_path: Path) -> None:
    filled_store.fill_store(tmp_path / "s.zarr", (2, 2), {1: 50_000, 2: 50_000}, chunk=5000)
    site = Site(Shelf(tmp_path / "s.zarr"))
    start = time.process_time()
    collection = read(site, "data/s.zarr/noise/collection.json")
    columns = read(site, "data/s.zarr/noise/clips.json")["columns"]
    read_s = time.process_time() - start
    assert collection["num_clips"] == len(columns["clip_id"]) == 100_000
    assert len(site.answer("data/s.zarr/noise/thumbnails/6249.bin").body) == 16 * 4
    assert read_s < 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_stopped_and_says_so_as_every_command(
    number: signal.Signals, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def stop_once_it_answers() -> None:
        while not said:
            said.extend(re.findall(r"http://127.0.0.1:\S+/", capfd.readouterr().out))
            time.sleep(0.01)
        with urllib.request.urlopen(f"{said[0]}data/stores.json") as answer:  # noqa: S310
            said.append(answer.read().decode())
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=stop_once_it_answers)
    thread.start()
    try:
        assert cli.main(["browse", str(tmp_path)]) == 128 + number
    finally:
        said.append("")  # of a command that printed no address
        thread.join()
    assert '"stores":[]' in said[1]


def test_a_directory_without_stores_is_shown_and_said_to_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(self: object, sockets: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("uvicorn.Server.run", stop)
    assert cli.main(["browse", str(tmp_path)]) == 130
    said = " ".join(capsys.readouterr().err.split())
    assert "There is no store in" in said
    assert "stopped. The page is no longer served." in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["absent.zarr"], "no store"), (["{store}", "--root", "absent"], "does not exist")],
)
def test_the_command_refuses_what_is_not_there(
    browsed: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [argument.replace("{store}", str(browsed)) for argument in arguments]
    assert cli.main(["browse", *line]) == 1
    assert words in capsys.readouterr().err


@pytest.fixture(scope="module")
def two_runs(browsed: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs of two methods: one knows what is in files named 0, the other what is of fold 1."""
    dataset, place = open_store(browsed), tmp_path_factory.mktemp("runs")
    return [
        write_run(place / "mel", dataset, "mel", lambda clip: clip.endswith("/0.wav")),
        write_run(place / "resize", dataset, "resize", lambda clip: clip.startswith("fold1")),
    ]


def test_what_runs_made_of_each_clip_is_at_its_row(browsed: Path, two_runs: list[Path]) -> None:
    site = Site(Shelf(browsed), runs=Runs(two_runs))
    assert read(site, "data/stores.json")["runs"]
    facts, table = read(site, f"{DATA}/runs.json"), open_store(browsed).all_clips()
    for run, path in zip(facts["runs"], two_runs, strict=True):
        finished = open_finished(path)
        judged = [finished.predictions(fold, "last") for fold in finished.folds]
        known = {
            clip: (int(of.predicted[at]), of.probabilities[at], of.labels[at])
            for of in judged
            for at, clip in enumerate(of.clip_ids)
        }
        for number, clip in enumerate(table.clip_id):
            if clip not in known:
                assert (run["predicted"][number], run["p_true"][number]) == (None, None)
                continue
            predicted, shares, label = known[clip]
            assert run["predicted"][number] == predicted
            assert run["p_true"][number] == pytest.approx(shares[label], abs=1e-5)
            said = read(site, f"{DATA}/probabilities/{number}.json")[run["key"]]
            np.testing.assert_allclose(said, shares, atol=1e-5)
        assert run["epochs"]["1"]["epoch"][0] == 1


def test_who_is_right_where_is_what_the_report_says(browsed: Path, two_runs: list[Path]) -> None:
    site = Site(Shelf(browsed), runs=Runs(two_runs))
    (pair,) = read(site, f"{DATA}/runs.json")["comparisons"]
    (one,) = agreements(next(iter(group([read_run(path) for path in two_runs]).values())))
    counts = [sum(code == of for _, code in pair["clips"]) for of in range(4)]
    assert tuple(counts) == one.counts()
    assert min(counts) > 0
    assert pair["p"] == mcnemar_p(*one.counts()[1:3])
    table = open_store(browsed).all_clips()
    for row, code in pair["clips"]:
        clip = str(table.clip_id[row])
        assert code == 2 * (not clip.endswith("/0.wav")) + (not clip.startswith("fold1"))


def test_the_reports_picture_of_who_is_right_where_has_the_pages_numbers(
    browsed: Path, two_runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = agreements(next(iter(group([read_run(path) for path in two_runs]).values())))
    figures: list[Any] = []
    monkeypatch.setattr("trainer.report.classes.rendered", figures.append)
    agreement_picture(one)
    (axes,) = figures[0].axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [HOSTILE, "high", "low", "fold 1", "fold 2"]
    (pair,) = read(Site(Shelf(browsed), runs=Runs(two_runs)), f"{DATA}/runs.json")["comparisons"]
    table = open_store(browsed).all_clips()
    of_row = [table.class_id == label for label in range(3)] + [table.fold == f for f in (1, 2)]
    for outcome, bars in enumerate(axes.containers):
        for has, bar in zip(of_row, bars, strict=True):
            codes = [code for row, code in pair["clips"] if has[row]]
            assert bar.get_width() == pytest.approx(100 * codes.count(outcome) / len(codes))
    said = sorted(text.get_text() for text in axes.texts)
    assert said == sorted(
        str([code for row, code in pair["clips"] if has[row]].count(outcome) or "")
        for has in of_row
        for outcome in range(4)
    )


def test_runs_that_do_not_fit_are_refused_in_a_line(
    browsed: Path, two_runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = filled_store.fill_store(tmp_path / "other.zarr", (2, 2), {1: 4}, chunk=4)
    cut = shutil.copytree(two_runs[0], tmp_path / "cut")
    (cut / "fold1" / "last.csv").write_bytes(b"clip_id")
    cases = {
        "trained on other features": ([other.path], two_runs[0]),
        "is damaged": ([str(browsed)], cut),
        "no such directory": ([str(browsed)], tmp_path / "absent"),
    }
    for words, (place, run) in cases.items():
        assert cli.main(["browse", *place, "--run", str(run), "-q"]) == 1
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_labelled(tmp_path_factory.mktemp("labelled"))


def test_runs_of_several_labels_are_shown_by_class_and_by_the_label_that_is_most_wrong(
    labelled: Path, tmp_path: Path
) -> None:
    dataset = open_store(labelled)
    runs = [
        write_run(tmp_path / "mel", dataset, "mel", lambda clip: clip.endswith("-0.wav")),
        write_run(tmp_path / "resize", dataset, "resize", lambda clip: clip.startswith("1")),
    ]
    site = Site(Shelf(labelled), runs=Runs(runs))
    base = f"data/birds.zarr/{dataset.name}"
    facts, columns = read(site, f"{base}/runs.json"), read(site, f"{base}/clips.json")["columns"]
    for run, path in zip(facts["runs"], runs, strict=True):
        finished = open_finished(path)
        judged = {fold: finished.predictions(fold, "last") for fold in finished.folds}
        for fold, of in judged.items():
            expected = [v if v is not None else np.nan for v in run["precisions"][str(fold)]]
            np.testing.assert_array_equal(average_precisions(of.labels, of.probabilities), expected)
        shares = {
            clip: (of.labels[at], of.probabilities[at])
            for of in judged.values()
            for at, clip in enumerate(of.clip_ids)
        }
        wrong = []
        for row, clip in enumerate(columns["clip_id"]):
            labels, said = shares[clip]
            mistakes = np.abs(labels - said)
            worst = run["predicted"][row]
            assert mistakes[worst] == mistakes.max()
            assert run["p_predicted"][row] == pytest.approx(said[worst], abs=1e-5)
            assert run["p_true"][row] == pytest.approx(1 - mistakes.max(), abs=1e-5)
            assert run["right"][row] == bool((mistakes < 0.5).all())
            wrong.append(not run["right"][row])
        assert 0 < sum(wrong) < len(wrong)
    (pair,) = facts["comparisons"]
    series = next(iter(group([read_run(path) for path in runs]).values()))
    first, second = (one.precisions() for one in series)
    for number, of_class in enumerate(pair["classes"]):
        both = [first[fold][number] - second[fold][number] for fold in first]
        differences = [value for value in both if not np.isnan(value)]
        assert of_class["num_folds"] == len(differences)
        if len(differences) > 1:
            assert of_class["mean"] == pytest.approx(np.mean(differences))
    assert any("mean" in of_class for of_class in pair["classes"])


def test_features_and_several_labels_are_what_is_stored(labelled: Path) -> None:
    store = labelled
    site, dataset = Site(Shelf(store), store.parent / "birds"), open_store(store)
    (described,) = read(site, "data/stores.json")["stores"][0]["datasets"]
    base = f"data/birds.zarr/{described['name']}"
    arrays = {a["name"]: a for a in read(site, f"{base}/collection.json")["arrays"]}
    assert arrays["features/waveform"]["seconds"] == pytest.approx(
        arrays["R2/full"]["seconds"], abs=1e-3
    )
    columns, table = read(site, f"{base}/clips.json")["columns"], dataset.all_clips()
    for labels, multi_hot in zip(columns["labels"], dataset.all_labels(), strict=True):
        assert labels == np.flatnonzero(multi_hot).tolist()
    assert [] in columns["labels"]
    for number, clip_id in enumerate(table.clip_id):
        facts = read(site, f"{base}/clips/{number}.json")
        shares = np.frombuffer(site.answer(f"{base}/clips/{number}.bin").body, "<u2") / 65_535
        stored = dataset.read_clip(clip_id)
        assert [array["name"] for array in facts["arrays"]] == list(stored)
        for array in facts["arrays"]:
            low, high = array["range"]
            of = shares[array["offset"] :][: np.prod(array["shape"])].reshape(array["shape"])
            np.testing.assert_allclose(
                low + of * (high - low), stored[array["name"]], atol=1e-4 * (high - low)
            )
    assert read(site, f"{base}/sounds/0.json")["compared"]


def test_an_export_has_the_bytes_that_the_server_answers(
    browsed: Path, root: Path, two_runs: list[Path], tmp_path: Path
) -> None:
    arguments = ["--root", str(root), *(word for run in two_runs for word in ("--run", str(run)))]
    out = tmp_path / "page"
    assert cli.main(["browse", str(browsed), *arguments, "--export", str(out)]) == 0
    site = Site(Shelf(browsed), root, Runs(two_runs), exported=True)
    written = {str(file.relative_to(out)): file for file in out.rglob("*") if file.is_file()}
    assert {path for path in export_paths(site) if site.answer(path).status == 200} <= set(written)
    for path, file in written.items():
        assert file.read_bytes() == site.answer(path).body
    assert json.loads((out / "data/stores.json").read_bytes())["exported"]
    kinds = {path.rsplit("/", 2)[-2] for path in written if path.startswith("data/s.zarr/folder/")}
    assert kinds == {"folder", "thumbnails", "clips", "sounds", "probabilities"}


def test_an_export_overwrites_nothing_and_an_interrupted_one_cannot_be_opened(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    with pytest.raises(StorageError, match="not empty"):
        export(site, tmp_path / "taken")
    total, written = export(site, tmp_path / "cut")
    for _ in range(total - 1):
        next(written)
    assert not (tmp_path / "cut" / "index.html").exists()
    next(written)
    assert (tmp_path / "cut" / "index.html").exists()


def test_many_requests_at_once_get_the_same_tiles(site: Site) -> None:
    answers: list[bytes] = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(site.answer(f"{DATA}/thumbnails/0.bin").body)
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert len(set(answers)) == 1
