"""Works that one thread does by turns: none waits for another, and all are closed at the end."""

import threading
from collections import deque
from collections.abc import Callable
from functools import partial

import pytest
import torch

from trainer.training.folds import take_turns
from trainer.training.stage import Progress

CPU = torch.device("cpu")


def drive(works: list[Callable[[], Progress[None]]], at_once: int) -> None:
    take_turns(deque(works), at_once, CPU, threading.Event())


def counting(seen: list[str], name: str, steps: int) -> Progress[None]:
    try:
        for step in range(steps):
            seen.append(f"{name}{step}")
            yield None
    finally:
        seen.append(f"{name} over")


def test_works_take_turns_and_the_next_starts_when_one_is_over() -> None:
    seen: list[str] = []
    drive(
        [partial(counting, seen, name, steps) for name, steps in (("a", 2), ("b", 3), ("c", 1))], 2
    )
    assert seen == ["a0", "b0", "a1", "b1", "a over", "b2", "b over", "c0", "c over"]


def test_a_work_that_waits_lets_the_others_go_on() -> None:
    seen: list[str] = []
    arrived = threading.Event()

    def waiting() -> Progress[None]:
        while not arrived.is_set():
            yield arrived.is_set
        seen.append("arrived")

    def other() -> Progress[None]:
        for step in range(3):
            seen.append(f"step {step}")
            yield None
        threading.Timer(0.02, arrived.set).start()

    drive([waiting, other], 2)
    assert seen == ["step 0", "step 1", "step 2", "arrived"]


@pytest.mark.parametrize("number", [1, 3])
def test_an_error_closes_what_is_in_progress_and_starts_nothing_more(number: int) -> None:
    seen: list[str] = []

    def failing() -> Progress[None]:
        yield None
        raise ZeroDivisionError

    works = [partial(counting, seen, name, 9) for name in "abcd"]
    with pytest.raises(ZeroDivisionError):
        drive([failing, *works], number)
    started = "abcd"[: number - 1]
    assert [line for line in seen if "over" in line] == [f"{name} over" for name in started[::-1]]
    assert not any(line.startswith("d") for line in seen)


def test_works_are_closed_where_they_are_once_another_thread_wants_the_end() -> None:
    seen: list[str] = []
    stop = threading.Event()

    def stopping() -> Progress[None]:
        yield None
        stop.set()
        yield None
        raise AssertionError("stopped before")

    take_turns(deque([stopping, partial(counting, seen, "a", 9)]), 2, CPU, stop)
    assert seen == ["a0", "a1", "a over"]
