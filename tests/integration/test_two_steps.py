"""Tasks in two steps: a block's commit, and the next block's extraction meanwhile."""

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from featurestore.building.executors import Executor, SerialExecutor, TwoSteps
from featurestore.building.executors.processes import ProcessExecutor
from tests.worker_tasks import (
    Step,
    die,
    first_step,
    number,
    second_step,
    second_step_fails,
    second_step_killed_once,
)

_BOTH = TwoSteps(first_step, second_step)


@pytest.fixture(params=["serial", "forked", "anew"])
def one(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Each executor that overlaps, with one worker."""
    with ExitStack() as stack:
        if request.param == "serial":
            yield SerialExecutor()
        else:
            fork = request.param == "forked"
            yield stack.enter_context(ProcessExecutor(1, "json", fork=fork))


def steps(place: Path, total: int) -> list[Step]:
    return [Step(place, number, total) for number in range(total)]


def test_a_second_step_runs_while_the_next_task_has_its_first_and_never_two_at_once(
    one: Executor, tmp_path: Path
) -> None:
    assert list(one.run(_BOTH, steps(tmp_path, 5))) == [0, 1, 2, 3, 4]
    assert list(one.run(_BOTH, steps(tmp_path, 1))) == [0]
    assert list(one.run(_BOTH, [])) == []


def test_an_error_of_a_second_step_is_raised_and_what_follows_is_given_up(
    one: Executor, tmp_path: Path
) -> None:
    results = one.run(TwoSteps(first_step, second_step_fails), steps(tmp_path, 5))
    with pytest.raises(OSError, match="No space left"):
        list(results)
    assert not (tmp_path / "first3").exists()
    assert list(one.run(_BOTH, steps(tmp_path, 2))) == [0, 1]


def test_an_error_of_a_first_step_comes_after_the_result_before_it(tmp_path: Path) -> None:
    with ProcessExecutor(1, "json") as one:
        results = one.run(TwoSteps(_fails_at_two, number), steps(tmp_path, 3))
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ValueError, match="two"):
            next(results)


def _fails_at_two(step: Step) -> Step:
    if step.number == 2:
        raise ValueError("two")
    return step


def test_a_worker_that_dies_over_a_second_step_loses_neither_of_its_tasks(tmp_path: Path) -> None:
    function = TwoSteps(first_step, second_step_killed_once)
    with ProcessExecutor(2, "json") as two:
        assert sorted(two.run(function, steps(tmp_path, 6), rescue=number)) == [0, 1, 2, 3, 4, 5]


def test_a_worker_that_dies_over_a_first_step_loses_neither_of_its_tasks(tmp_path: Path) -> None:
    with ProcessExecutor(2, "json") as two:
        results = two.run(TwoSteps(die, number), steps(tmp_path, 3), rescue=number)
        assert sorted(results) == [0, 1, 2]


def test_a_step_that_runs_when_a_serial_build_is_stopped_ends_and_no_other_begins() -> None:
    """Ctrl-C in the middle of an extraction: the block that is being committed is finished."""
    ended = []

    def second(task: int) -> int:
        time.sleep(0.05)
        ended.append(task)
        return task

    def first(task: int) -> int:
        if task == 2:
            raise KeyboardInterrupt
        return task

    with pytest.raises(KeyboardInterrupt):
        list(SerialExecutor().run(TwoSteps(first, second), range(5)))
    assert ended == [0, 1]


def test_a_serial_build_that_is_given_up_commits_nothing_more() -> None:
    ended: list[int] = []
    results = SerialExecutor().run(TwoSteps(int, lambda task: ended.append(task)), range(5))
    assert isinstance(results, Generator)
    next(results)
    results.close()
    assert ended == [0]
