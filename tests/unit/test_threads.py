from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from trainer.threads import computing_threads, driving_threads, threads_per_fold


@pytest.mark.parametrize(
    ("cores", "folds", "batch", "device", "expected"),
    [
        (2, 1, 64, "cpu", 2),
        (2, 2, 64, "cpu", 1),
        (2, 10, 64, "cpu", 1),
        (64, 1, 64, "cpu", 64),
        (64, 10, 64, "cpu", 6),
        (192, 1, 64, "cpu", 64),
        (64, 1, 8, "cpu", 8),
        (1, 1, 2, "cpu", 1),
        (64, 1, 64, "cuda", 4),
        (64, 20, 64, "cuda", 3),
        (2, 4, 64, "cuda", 1),
    ],
)
def test_folds_share_the_cores_and_none_gets_more_than_it_can_use(
    cores: int, folds: int, batch: int, device: str, expected: int
) -> None:
    assert threads_per_fold(cores, folds, batch, device) == expected


def test_one_thread_trains_all_folds_of_a_gpu_and_each_fold_of_a_cpu_has_its_own() -> None:
    assert [driving_threads(5, device) for device in ("cuda", "cpu")] == [1, 5]


def test_the_number_of_threads_reaches_threads_begun_in_it_and_is_put_back() -> None:
    before = torch.get_num_threads()
    with computing_threads(3), ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 3
    assert torch.get_num_threads() == before
