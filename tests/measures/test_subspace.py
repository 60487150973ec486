"""Principal angles by hand and against scipy."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.linalg import subspace_angles

from depthscope.measures.subspace import principal_angles


def test_angles_of_two_planes_by_hand() -> None:
    plane = torch.eye(3, dtype=torch.float64)[:2]
    turned = torch.tensor([[2.0, 0.0, 0.0], [1.0, math.cos(0.3), math.sin(0.3)]], dtype=torch.float64)
    torch.testing.assert_close(principal_angles(plane, turned), torch.tensor([0.0, 0.3], dtype=torch.float64))
    torch.testing.assert_close(
        principal_angles(plane[:1], torch.eye(3, dtype=torch.float64)[2:]),
        torch.tensor([math.pi / 2], dtype=torch.float64),
    )


def test_angles_agree_with_scipy_from_tiny_to_right() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(4, 9))
    for size in (1e-9, 1e-3, 1.0, 100.0):
        two = one + size * rng.normal(size=(4, 9))
        wanted = np.sort(subspace_angles(one.T, two.T))
        found = principal_angles(torch.from_numpy(one), torch.from_numpy(two)).numpy()
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-14)
