"""One thread for batches of small problems, where waking threads costs more than they save."""

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Generator[None]:
    """Run a block of code on one thread; the former number is restored.

    A symmetric eigenproblem of a few hundred rows has thousands of parallel regions of microseconds each: two threads
    took up to seven times as long as one. Numbers then also do not depend on the number of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
