"""Shapes in signatures are enforced while parts are tested, and can be left out for whole runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import jaxtyping
import numpy as np
import pytest

from depthscope.measures.token_probes import row_cosines


def test_a_tensor_of_another_shape_is_refused():
    with pytest.raises(jaxtyping.TypeCheckError):
        row_cosines(np.ones((2, 3, 4)), np.ones((2, 3, 4)))


def test_whole_runs_may_leave_the_check_out(
    signatures_unchecked: Callable[[], AbstractContextManager[None]],
):
    with signatures_unchecked():
        row_cosines(np.ones((2, 3, 4)), np.ones((2, 3, 4)))
    with pytest.raises(jaxtyping.TypeCheckError):
        row_cosines(np.ones((2, 3, 4)), np.ones((2, 3, 4)))
