"""SIGTERM, as batch systems and container engines send it, stops a program as Ctrl-C does."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from featurestore.building.build import build
from featurestore.building.executors.processes import ProcessExecutor
from featurestore.datasets import load_dataset
from featurestore.stopping import INTERRUPTED, TERMINATED, load_and_run, stoppable
from tests.conftest import contents, write_folder
from tests.integration.test_kill import start_build, wait_for_commit
from tests.integration.test_resume import is_as_undisturbed, resumed_and_signalled, short_plan
from trainer.cli import main
from trainer.run import begin


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_build_that_is_terminated_says_what_is_kept_and_loses_nothing(
    tmp_path: Path, workers: int
) -> None:
    root, store = write_folder(tmp_path / "sounds", num_folds=4, clips_a_class=12), tmp_path / "s"
    with start_build(store, root, workers) as process:
        wait_for_commit(store, process)
        os.killpg(process.pid, signal.SIGTERM)  # as SLURM does
        told = process.communicate(timeout=60)[1]
    assert process.returncode == TERMINATED == 143, told
    assert "stopped. Finished blocks are kept: the same command resumes from there." in told
    assert "Traceback" not in told
    dataset = load_dataset("folder", root)
    build(dataset, store)
    build(dataset, tmp_path / "straight")
    assert contents(store) == contents(tmp_path / "straight")


@pytest.mark.slow
def test_a_training_that_is_terminated_saves_its_state_and_resumes_to_the_same_bits(
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    begin(*short_plan(), out)
    seldom = ("--checkpoint-every", "3600")  # so that what is there was saved when it was stopped
    stopped = resumed_and_signalled(out, signal.SIGTERM, [out / "fold1/metrics.csv"], 2, *seldom)
    assert stopped.returncode == TERMINATED, stopped.stderr
    line = stopped.stderr.splitlines()[-1]
    assert line.startswith("stopped. ")
    assert f"--resume {out} resumes it" in line
    assert (out / "fold1/last.pt").is_file()
    assert main(["run", "--resume", str(out)]) == 0
    assert is_as_undisturbed(out)


_STUBBORN = """
import sys, time
from featurestore.stopping import stoppable

def program():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("saving", flush=True)
        time.sleep(60)

sys.exit(stoppable(program))
"""


def test_a_second_sigterm_ends_at_once_and_one_that_is_sent_twice_over_is_one() -> None:
    command = [sys.executable, "-c", _STUBBORN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.readline() == "saving\n"
        process.terminate()  # `timeout` signals its child and then the group
        time.sleep(0.7)
        assert process.poll() is None
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM


def test_the_handler_is_restored_and_the_exit_code_says_the_signal() -> None:
    def stopped_by(number: int) -> int:
        def program() -> int:
            os.kill(os.getpid(), number)
            time.sleep(60)
            return 0

        return stoppable(program)

    assert stopped_by(signal.SIGTERM) == TERMINATED
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert stopped_by(signal.SIGINT) == INTERRUPTED == 130
    assert stoppable(lambda: 1) == 1


def test_a_handler_of_someone_else_and_other_threads_are_left_alone() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(stoppable(lambda: 7)))
    thread.start()
    thread.join()
    assert codes == [7]
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert stoppable(lambda: os.kill(os.getpid(), signal.SIGTERM) or 3) == 3  # type: ignore[func-returns-value]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("featurestore info STORE", signal.SIGTERM),
        pytest.param("trainer report STORE", signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_command_without_a_line_of_its_own_ends_with_one(
    command: str, number: int, store: Path
) -> None:
    for name in ("run.json", "result.json"):
        (store / name).write_text("{}")
    program, *rest = command.replace("STORE", str(store)).split()
    code = f"import sys; from {program}.cli import main\n{_STOP_AT_OPEN}"
    arguments = [sys.executable, "-c", code, str(int(number)), *rest]
    run = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=60)
    assert run.returncode == 128 + number, run.stderr
    assert "stopped. What was finished is kept" in run.stderr
    assert "Traceback" not in run.stderr


_STOP_AT_OPEN = """
import os

def watch(event, arguments):
    if event == "open" and str(arguments[0]).endswith(("zarr.json", "run.json")):
        os.kill(os.getpid(), int(sys.argv[1]))

sys.addaudithook(watch)
sys.exit(main(sys.argv[2:]))
"""


def test_ctrl_c_does_not_reach_a_worker_that_is_still_starting() -> None:
    """A terminal sends it to the whole group; only the build answers, without tracebacks."""
    with ProcessExecutor(workers=1) as executor:
        (server,) = executor._processes
        os.kill(server.pid, signal.SIGINT)
        assert list(executor.run(abs, [-1])) == [1]
        assert server.poll() is None


def test_a_program_that_is_stopped_while_it_loads_prints_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slow_program.py").write_text("raise KeyboardInterrupt")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_and_run("slow_program") == INTERRUPTED
    assert capsys.readouterr().err == "\nstopped.\n"
