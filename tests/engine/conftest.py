"""A tiny model, short texts, and what of a run folder must be the same byte for byte."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny
from depthscope.store.run import Run

sys.path.insert(0, str(Path(__file__).parent))  # toys.py must have a name that worker processes can import

from toys import HOW, TEXTS, audit, fixed_files


@pytest.fixture(scope="session")
def llama() -> Model:
    return tiny("llama", torch.float32)


@pytest.fixture(scope="session")
def llama64() -> Model:
    return tiny("llama", torch.float64)


@pytest.fixture(scope="session")
def exact(llama64: Model, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All first analyses in float64 over nine windows, eight a batch: what other batches are compared with."""
    return audit(llama64, out=tmp_path_factory.mktemp("exact") / "run", **{**HOW, "tokens": 360})


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return list(TEXTS)


@pytest.fixture(scope="session")
def files() -> Callable[[Path], dict[str, bytes]]:
    return fixed_files
