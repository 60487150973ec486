"""One thread for batches of small problems, where waking threads costs more than they save."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Found = TypeVar("Found")
MOST = 8
"""Items at a time: each holds matrices of its own."""


@contextmanager
def one_thread() -> Generator[None]:
    """Run a block of code on one thread; the former number is restored.

    A symmetric eigenproblem of a few hundred rows has thousands of parallel regions of microseconds each: two threads
    took up to seven times as long as one. Numbers then also do not depend on the number of threads.
    """
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def spread(work: Callable[[Item], Found], items: Iterable[Item]) -> list[Found]:
    """`work` of every item, in order: as many items at a time as torch has threads (MOST at most), each on one of them.

    For many independent small problems, such as one a layer. The numbers do not depend on the number of threads. Grad
    mode is per thread in torch: `work` runs without gradients.
    """
    workers = min(MOST, torch.get_num_threads())

    def alone(item: Item) -> Found:
        with torch.no_grad():
            return work(item)

    with one_thread():
        if workers == 1:
            return [alone(item) for item in items]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(alone, items))
