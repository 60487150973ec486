"""What every test stands on: no hub, one thread, a fixed seed, and a cache of its own.

Nothing here imports torch: tests of the light parts must be able to see that it is absent.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
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


WHOLE = ("analyses", "cli", "engine", "test_docs_examples.py", "test_docs_pages.py")
"""Tests of whole runs: shapes in signatures, which cost as much again, are not checked in them but where a test asks.

They are in the tests of single parts, and in the runs of some families that answer every analysis.
"""


@contextmanager
def signatures(checked: bool) -> Generator[None]:
    """A block in which shapes in signatures are checked, or are not."""
    import jaxtyping

    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", not checked)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What a test's fixtures call is treated as what it calls itself."""
    whole = item.path.relative_to(FOLDER).parts[0] in WHOLE
    with signatures(checked=False) if whole else nullcontext():
        return (yield)


@pytest.fixture
def signatures_checked() -> Generator[None]:
    """Shapes in signatures are checked in a test of a whole run too."""
    with signatures(checked=True):
        yield


@pytest.fixture(scope="session")
def signatures_unchecked() -> Callable[[], AbstractContextManager[None]]:
    """Makes a block in which they are not."""
    return partial(signatures, checked=False)


@pytest.fixture(autouse=True)
def _one_thread_and_a_fixed_seed() -> None:
    random.seed(0)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
