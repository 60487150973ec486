"""Curvature and anisotropy against paths and clouds whose answer is known."""

import math

import pytest
import torch
from torch.testing import assert_close

from depthscope.errors import UnknownName
from depthscope.measures.geometry import (
    anisotropy_from_sums,
    cosine_anisotropy,
    curvature,
    outlier_dimensions,
    self_cluster,
    uniformity,
)

F64 = torch.float64


def path(points: torch.Tensor, mode: str = "signed", mask: torch.Tensor | None = None) -> tuple[float, int]:
    valid = torch.ones(1, len(points), dtype=torch.bool) if mask is None else mask
    angle, skipped = curvature(points.unsqueeze(0), valid, mode)
    return angle.item(), int(skipped.item())


LINE = torch.arange(1.0, 9.0)[:, None] * torch.tensor([3.0, -1.0, 2.0])
ZIG_ZAG = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).repeat(4, 1)


def test_straight_line_does_not_turn_even_in_float32() -> None:
    # arccos would give about 3e-4 here
    assert path(LINE)[0] == pytest.approx(0, abs=1e-6)


def test_zig_zag_turns_back_each_time() -> None:
    assert path(ZIG_ZAG)[0] == pytest.approx(math.pi)
    assert path(ZIG_ZAG, "folded")[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("m", [3, 4, 5, 12])
def test_regular_polygon_turns_by_its_outer_angle(m: int) -> None:
    turns = torch.arange(m + 2, dtype=F64) * 2 * math.pi / m
    assert path(torch.stack([turns.cos(), turns.sin()], dim=-1))[0] == pytest.approx(2 * math.pi / m)


def test_triangle_folds_two_thirds_of_pi_to_one_third() -> None:
    turns = torch.arange(5, dtype=F64) * 2 * math.pi / 3
    assert path(torch.stack([turns.cos(), turns.sin()], dim=-1), "folded")[0] == pytest.approx(math.pi / 3)


def test_independent_vectors_turn_by_two_thirds_of_pi() -> None:
    # neighbouring differences share one vector: cosine -1/2 in high dimension
    points = torch.randn(200, 2000)
    assert path(points)[0] == pytest.approx(2 * math.pi / 3, abs=0.01)
    assert path(points, "folded")[0] == pytest.approx(math.pi / 3, abs=0.01)


def test_random_walk_turns_by_a_right_angle() -> None:
    assert path(torch.randn(200, 2000).cumsum(0))[0] == pytest.approx(math.pi / 2, abs=0.01)


def test_state_angle_is_between_centred_states() -> None:
    # the mean of a closed square is its centre: neighbours stand at right angles there
    square = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]) + 10
    assert path(square, "state_angle")[0] == pytest.approx(math.pi / 2, abs=1e-5)


def test_repeated_tokens_are_skipped_and_counted() -> None:
    # right, still, up, up: the angles at both ends of the still step are undefined, the last is 0
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    angle, skipped = path(points)
    assert angle == pytest.approx(0, abs=1e-6)
    assert skipped == 2


def test_a_step_of_rounding_size_is_a_zero_step() -> None:
    base = torch.tensor([1000.0, 1000.0])
    points = torch.stack([base, base + 1, torch.nextafter(base + 1, base), base - 1])
    assert path(points)[1] == 2


def test_angles_at_masked_tokens_are_left_out_and_not_counted() -> None:
    # a right angle at token 1; token 3 is masked, so only the angle of tokens 0 1 2 and that of 4 5 6 remain
    points = torch.tensor([[0, 0], [1, 0], [1, 1], [9, 9], [0, 0], [1, 0], [2, 0]], dtype=F64)
    mask = torch.tensor([[True, True, True, False, True, True, True]])
    angle, skipped = path(points, mask=mask)
    assert angle == pytest.approx(math.pi / 4)
    assert skipped == 0


@pytest.mark.parametrize("mode", ["signed", "folded", "state_angle"])
@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_tokens_have_no_curvature(mode: str, n: int) -> None:
    assert math.isnan(path(torch.randn(n, 4), mode)[0])
    mask = torch.arange(5)[None, :] < n
    assert math.isnan(path(torch.randn(5, 4), mode, mask)[0])


@pytest.mark.parametrize("mode", ["signed", "state_angle"])
def test_all_equal_tokens_have_no_curvature_and_all_angles_skipped(mode: str) -> None:
    angle, skipped = path(torch.ones(5, 4), mode)
    assert math.isnan(angle)
    assert skipped == {"signed": 3, "state_angle": 4}[mode]


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(UnknownName, match="signed"):
        path(LINE, "sined")


def test_anisotropy_of_equal_opposite_and_orthogonal_directions() -> None:
    assert cosine_anisotropy(torch.tensor([[1.0, 0.0], [5.0, 0.0], [0.1, 0.0]])).item() == pytest.approx(1)
    assert cosine_anisotropy(torch.eye(4)).item() == pytest.approx(0, abs=1e-12)
    # two antipodal pairs: of 6 pairs 2 have cosine -1, 4 have 0: -1/3 = -1/(n - 1)
    cross = torch.cat([torch.eye(2), -torch.eye(2)])
    assert cosine_anisotropy(cross).item() == pytest.approx(-1 / 3)


def test_anisotropy_is_the_mean_off_diagonal_cosine() -> None:
    vectors = torch.randn(30, 8, dtype=F64) + 1
    cosines = torch.nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=-1)
    expected = (cosines.sum() - 30) / (30 * 29)
    assert_close(cosine_anisotropy(vectors), expected)


def test_anisotropy_adds_up_over_batches() -> None:
    vectors = torch.randn(30, 8, dtype=F64) + 1
    units = vectors / vectors.norm(dim=-1, keepdim=True)
    total = units[:11].sum(0) + units[11:].sum(0)
    assert_close(anisotropy_from_sums(total, 30), cosine_anisotropy(vectors))
    assert_close(anisotropy_from_sums(total[None], torch.tensor([30])), cosine_anisotropy(vectors)[None])


def test_zero_vectors_have_no_direction_and_one_vector_no_pair() -> None:
    assert_close(
        cosine_anisotropy(torch.cat([torch.eye(3), torch.zeros(2, 3)])), torch.tensor(0.0, dtype=F64)
    )
    assert cosine_anisotropy(torch.tensor([[1.0, 2.0], [0.0, 0.0]])).isnan()


def test_self_cluster_is_one_on_a_line_and_zero_at_chance() -> None:
    line = torch.tensor([[1.0, 0.0, 0.0], [-2.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    assert self_cluster(line).item() == pytest.approx(1)
    # an orthonormal basis: ||U U^T||^2 = 4; E = 4 + 4 * 3 / 4 = 7
    assert self_cluster(torch.eye(4)).item() == pytest.approx((4 - 7) / (16 - 7))
    assert self_cluster(torch.randn(400, 50)).item() == pytest.approx(0, abs=2e-3)
    assert self_cluster(torch.tensor([[1.0, 2.0], [0.0, 0.0]])).isnan()


def test_uniformity_of_equal_opposite_and_orthogonal_directions() -> None:
    assert uniformity(torch.tensor([[1.0, 0.0], [5.0, 0.0]])).item() == pytest.approx(0, abs=1e-12)
    assert uniformity(torch.eye(5)).item() == pytest.approx(-4)
    # opposite: squared distance 4, t = 2
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).item() == pytest.approx(-8)
    mixed = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    assert uniformity(mixed).item() == pytest.approx(math.log((1 + 2 * math.exp(-4)) / 3))
    assert uniformity(torch.zeros(3, 2)).isnan()


def test_one_long_dimension_is_an_outlier_with_its_share() -> None:
    # 4 vectors of 10 dimensions with entries +-1 but for one dimension of +-20
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None]
    found = outlier_dimensions(signs * torch.tensor([1.0] * 9 + [20.0]))
    assert found.number.item() == 1
    assert found.share.item() == pytest.approx(400 / 409)
    # values +-1 have kurtosis 1 - 3
    assert found.kurtosis.item() == pytest.approx(-2)
    normal = outlier_dimensions(torch.randn(4000, 8))
    assert normal.number.item() == 0
    assert abs(normal.kurtosis.item()) < 0.6
    assert all(value.isnan() for value in outlier_dimensions(torch.zeros(3, 2)))
    assert outlier_dimensions(torch.ones(3, 2)).kurtosis.isnan()
