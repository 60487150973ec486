"""What every test stands on: no hub, one thread, a fixed seed, and a cache of its own.

Nothing here imports torch: tests of the light parts must be able to see that it is absent.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Two workers share two cores; more threads each would only fight. Read when torch is first imported.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

# Several folders of tests stand on the models of tests/wired_heads.py.
FOLDER = str(Path(__file__).parent)
if FOLDER not in sys.path:
    sys.path.append(FOLDER)

# What is kept through a power cut is not tested here, and hundreds of small files would wait for the disk one by one.
# Tests of a failing disk put their own function in its place.
os.fsync = lambda _: None

# xdist workers inherit the folder of the process that started them: a model is converted once per test run.
_CACHE = None
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="depthscope-tests-")
    os.environ["DEPTHSCOPE_CACHE"] = _CACHE.name


def pytest_unconfigure() -> None:
    """Remove the cache that this process made."""
    if _CACHE is not None:
        _CACHE.cleanup()


@contextmanager
def unchecked() -> Generator[None]:
    """A block in which shapes in signatures are not checked: for runs of code whose signatures other tests check."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def signatures_unchecked() -> Callable[[], AbstractContextManager[None]]:
    """See `unchecked`."""
    return unchecked


@pytest.fixture(autouse=True)
def _one_thread_and_a_fixed_seed() -> None:
    random.seed(0)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
