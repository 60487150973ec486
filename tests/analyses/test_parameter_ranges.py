"""No analysis takes -1 for a number that counts, scales or limits: it is refused before anything is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import pytest

from depthscope.errors import BadInput
from depthscope.registry import ANALYSES
from depthscope.runtime.tiny import tiny


def negatives(name: str) -> Iterator[dict[str, int]]:
    """One parameter of the analysis set to -1, for each that is a number by default."""
    for field in fields(ANALYSES[name]):
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            yield {field.name: -1}


PREDICTED = ("predictability", "component_probes")
"""What must be handed a folder of predictors before it says more."""


@pytest.mark.parametrize("name", [name for name in ANALYSES if name not in PREDICTED])
def test_a_parameter_of_minus_one_is_refused(name: str):
    model = tiny("llama")
    for wrong in negatives(name):
        with pytest.raises(BadInput, match="-1"):
            ANALYSES[name](**wrong).needs(model.anatomy)
