"""A tiny model, short texts, and what of a run folder must be the same byte for byte."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

sys.path.insert(0, str(Path(__file__).parent))  # toys.py must have a name that worker processes can import

from toys import TEXTS, fixed_files


@pytest.fixture(scope="session")
def llama() -> Model:
    return tiny("llama", torch.float32)


@pytest.fixture(scope="session")
def llama64() -> Model:
    return tiny("llama", torch.float64)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return list(TEXTS)


@pytest.fixture(scope="session")
def files() -> Callable[[Path], dict[str, bytes]]:
    return fixed_files
