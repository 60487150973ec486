"""A tiny model and a text of nine documents for it."""

from __future__ import annotations

import pytest
import torch

from depthscope.engine.journal import Journal
from depthscope.engine.reading import Reading
from depthscope.fits.states import Split, split
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

TEXTS = tuple(
    f"{who} walked {n} miles along the {what} and counted {n + 4} of them before the evening came down on it all."
    for n, (who, what) in enumerate(
        (w, t) for w in ("A heron", "The smith", "My aunt") for t in ("canal", "wall", "old road", "pier")
    )
)
"""Twelve documents of about a hundred characters: as many tokens for the tiny models."""


@pytest.fixture(scope="session")
def reading() -> Reading:
    return Reading(list(TEXTS), tokens=1152, window=48)


@pytest.fixture(scope="session")
def model() -> Model:
    return tiny("gpt2", torch.float32)


@pytest.fixture(scope="session")
def exact() -> Model:
    """The same in float64."""
    return tiny("gpt2", torch.float64)


@pytest.fixture(scope="session")
def parts(model: Model, reading: Reading) -> Split:
    return split(reading.windows(model), 0.1, 0)


@pytest.fixture
def journal(tmp_path) -> Journal:
    return Journal(tmp_path / "journal", "m", "d")
