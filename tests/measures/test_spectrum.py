"""Spectral entropies against closed forms."""

import math

import pytest
import torch
from torch.testing import assert_close

from depthscope.errors import BadInput, UnknownName
from depthscope.measures.spectrum import (
    MODES,
    effective_rank,
    gram_eigenvalues,
    participation_ratio,
    prepare,
    prompt_entropy,
    renyi_entropy,
    s2_entropy,
)

F64 = torch.float64


def all_valid(vectors: torch.Tensor) -> torch.Tensor:
    return torch.ones(vectors.shape[:2], dtype=torch.bool)


def raw(vectors: torch.Tensor, mode: str, alpha: float = 1.0) -> torch.Tensor:
    return prompt_entropy(vectors, all_valid(vectors), mode=mode, alpha=alpha, normalisation="raw")


def unit_rows_of_equal_cosine(n: int, rho: float) -> torch.Tensor:
    gram = (1 - rho) * torch.eye(n, dtype=F64) + rho
    return torch.linalg.cholesky(gram).unsqueeze(0)


ORTHONORMAL = torch.eye(6, 9, dtype=F64).unsqueeze(0)
ALPHAS = [0.0, 0.5, 1.0, 2.0, 3.0, math.inf]


@pytest.mark.parametrize("alpha", ALPHAS)
def test_orthonormal_rows_have_entropy_log_n_at_every_order(alpha: float) -> None:
    assert_close(raw(ORTHONORMAL, "uncentred", alpha), torch.tensor([math.log(6)], dtype=F64))


@pytest.mark.parametrize("mode", ["wei", "centred"])
def test_centring_orthonormal_rows_costs_one_direction(mode: str) -> None:
    assert_close(raw(ORTHONORMAL, mode), torch.tensor([math.log(5)], dtype=F64))
    full = prompt_entropy(ORTHONORMAL, all_valid(ORTHONORMAL), mode=mode, normalisation="maxRank")
    assert_close(full, torch.ones(1, dtype=F64))


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0, math.inf])
def test_rank_one_has_entropy_zero(alpha: float) -> None:
    rows = torch.arange(1.0, 6.0, dtype=F64)[:, None] * torch.randn(8, dtype=F64)
    assert_close(raw(rows.unsqueeze(0), "uncentred", alpha), torch.zeros(1, dtype=F64), rtol=0, atol=1e-9)


def test_two_orthogonal_groups_have_binary_entropy() -> None:
    # 3 rows along x and 5 along y: p = 3/8, 5/8
    rows = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 5, dtype=F64).unsqueeze(0)
    expected = -(3 / 8) * math.log(3 / 8) - (5 / 8) * math.log(5 / 8)
    assert_close(raw(rows, "uncentred"), torch.tensor([expected], dtype=F64))


def test_unit_rows_of_equal_cosine_have_two_eigenvalues() -> None:
    # Gram = (1 - rho) I + rho 1 1^T: 1 + (n - 1) rho once, 1 - rho else; over the trace 7: 2.8/7 and 0.7/7
    found = gram_eigenvalues(unit_rows_of_equal_cosine(7, 0.3))
    assert_close(found, torch.tensor([[0.4] + [0.1] * 6], dtype=F64))


def test_gaussian_rows_have_the_known_expected_purity() -> None:
    # E[tr K^2 / (tr K)^2] = (n + d + 1) / (n d + 2) for n x d standard normals: (20 + 30 + 1) / 602
    purity = (-s2_entropy(torch.randn(2000, 20, 30, dtype=F64))).exp()
    standard_error = purity.std() / math.sqrt(2000)
    assert abs(purity.mean() - 51 / 602) < 4 * standard_error
    assert standard_error < 1e-3 * 51 / 602


def test_renyi_entropies_of_half_quarter_quarter() -> None:
    # S_0 = ln 3; S_1/2 = 2 ln(sqrt(1/2) + 1); S_1 = 1.5 ln 2; S_2 = -ln(1/4 + 1/16 + 1/16) = ln 8/3;
    # S_inf = ln 2
    p = torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=F64)
    expected = {
        0.0: math.log(3), 0.5: 2 * math.log(math.sqrt(0.5) + 1), 1.0: 1.5 * math.log(2), 2.0: math.log(8 / 3),
        math.inf: math.log(2),
    }  # fmt: skip
    for alpha, value in expected.items():
        assert_close(renyi_entropy(p, alpha), torch.tensor(value, dtype=F64))


def test_renyi_entropy_falls_with_the_order_and_is_continuous_at_one() -> None:
    p = torch.rand(50, 12, dtype=F64).softmax(-1) ** 3
    p = p / p.sum(-1, keepdim=True)
    values = torch.stack([renyi_entropy(p, alpha) for alpha in ALPHAS])
    assert (values[1:] <= values[:-1] + 1e-12).all()
    assert_close(renyi_entropy(p, 1 + 1e-5), renyi_entropy(p), rtol=0, atol=1e-4)


def test_order_two_needs_no_eigenvalues() -> None:
    for shape in [(4, 5, 11), (4, 11, 5)]:
        rows = torch.randn(shape, dtype=F64)
        assert_close(s2_entropy(rows), renyi_entropy(gram_eigenvalues(rows), 2.0))


@pytest.mark.parametrize("shape", [(3, 5, 11), (3, 11, 5)])
def test_eigenvalues_are_squared_singular_values_over_their_sum(shape: tuple[int, ...]) -> None:
    rows = torch.randn(shape, dtype=F64)
    squared = torch.linalg.svdvals(rows).square()
    found = gram_eigenvalues(rows)
    assert found.shape == (3, 5)
    assert_close(found, squared / squared.sum(-1, keepdim=True))


def test_float32_agrees_with_float64() -> None:
    rows = torch.randn(4, 64, 96, dtype=F64)
    assert_close(raw(rows.float(), "wei").double(), raw(rows, "wei"), rtol=0, atol=1e-5)


def test_rank_ladder_holds() -> None:
    p = gram_eigenvalues(torch.randn(20, 8, 12, dtype=F64) * torch.logspace(0, -2, 12, dtype=F64))
    ladder = [participation_ratio(p), renyi_entropy(p).exp(), effective_rank(p)]
    assert (ladder[0] < ladder[1]).all()
    assert (ladder[1] < ladder[2]).all()
    assert_close(ladder[0], renyi_entropy(p, 2.0).exp())


def test_effective_rank_and_participation_ratio_by_hand() -> None:
    # lambda = 4, 1, so sigma = 2, 1 and q = 2/3, 1/3: exp(ln 3 - 2/3 ln 2) = 3 / 2^(2/3); PR = 25/17
    p = torch.tensor([4.0, 1.0, 0.0], dtype=F64)
    assert_close(effective_rank(p), torch.tensor(3 / 2 ** (2 / 3), dtype=F64))
    assert_close(participation_ratio(p), torch.tensor(25 / 17, dtype=F64))
    assert_close(effective_rank(torch.ones(5)), torch.tensor(5.0))


def test_one_massive_first_token_collapses_wei_and_uncentred_but_not_unit() -> None:
    rows = torch.randn(1, 40, 64, dtype=F64)
    rows[:, 0] *= 300
    value = {mode: prompt_entropy(rows, all_valid(rows), mode=mode).item() for mode in MODES}
    assert value["wei"] < 0.3
    assert value["uncentred"] < 0.05
    assert value["unit"] > 0.9
    later = torch.ones(1, 40, dtype=torch.bool)
    later[:, 0] = False
    assert prompt_entropy(rows, later).item() > 0.9


def test_normalisations_divide_by_what_their_names_say() -> None:
    # 6 orthonormal rows in 9 dimensions, not centred: S = ln 6; log rank bound ln 6
    expected = {
        "raw": math.log(6), "logN": 1.0, "logD": math.log(6) / math.log(9), "logNlogD": 1 / math.log(9),
        "maxEntropy": 1.0, "maxRank": 1.0,
    }  # fmt: skip
    for name, value in expected.items():
        found = prompt_entropy(ORTHONORMAL, all_valid(ORTHONORMAL), "uncentred", 1.0, name)
        assert_close(found, torch.tensor([value], dtype=F64))


def test_more_tokens_than_dimensions_are_normalised_by_the_dimensions() -> None:
    rows = torch.eye(3, dtype=F64).repeat(4, 1).unsqueeze(0)
    assert_close(prompt_entropy(rows, all_valid(rows), "uncentred"), torch.ones(1, dtype=F64))


def test_normaliser_counts_the_true_length_and_not_the_padding() -> None:
    padded = torch.cat([ORTHONORMAL, torch.full((1, 10, 9), 7.0, dtype=F64)], dim=1)
    mask = torch.arange(16)[None, :] < 6
    assert_close(prompt_entropy(padded, mask, "uncentred", 1.0, "logN"), torch.ones(1, dtype=F64))


@pytest.mark.parametrize("mode", ["wei", "centred"])
def test_equal_tokens_vanish_under_centring_and_give_nan(mode: str) -> None:
    rows = (torch.randn(1, 1, 64) * 100).expand(1, 30, 64) * (1 + 1e-7)
    assert prompt_entropy(rows, all_valid(rows), mode=mode).isnan().all()


def test_one_token_gives_nan_without_touching_its_neighbours() -> None:
    rows = torch.randn(2, 6, 9, dtype=F64)
    mask = torch.tensor([[True] + [False] * 5, [True] * 6])
    found = prompt_entropy(rows, mask, "uncentred")
    assert found[0].isnan()
    assert_close(found[1:], prompt_entropy(rows[1:], mask[1:], "uncentred"))


def test_masked_rows_are_zero_even_if_they_held_nan() -> None:
    rows = torch.randn(1, 4, 3)
    rows[0, 3] = math.nan
    mask = torch.tensor([[True, True, True, False]])
    for mode in MODES:
        found = prepare(rows, mask, mode)
        assert found.isfinite().all()
        assert (found[0, 3] == 0).all()


def test_wei_rows_have_norm_one_and_centred_rows_mean_zero() -> None:
    rows = torch.randn(2, 7, 5, dtype=F64) + 3
    mask = torch.arange(7)[None, :] < torch.tensor([[7], [4]])
    lengths = torch.linalg.vector_norm(prepare(rows, mask, "wei"), dim=-1)
    assert_close(lengths, mask.double())
    assert_close(prepare(rows, mask, "centred").sum(1), torch.zeros(2, 5, dtype=F64), rtol=0, atol=1e-12)


def test_nan_stays_in_its_own_item() -> None:
    rows = torch.randn(2, 4, 6)
    rows[0, 0, 0] = math.nan
    assert gram_eigenvalues(rows).isnan().all(-1).tolist() == [True, False]
    assert raw(rows, "unit").isnan().tolist() == [True, False]
    assert raw(rows, "unit", 2.0).isnan().tolist() == [True, False]


def test_an_item_of_zeros_has_no_spectrum() -> None:
    zeros = torch.zeros(1, 3, 4)
    assert gram_eigenvalues(zeros).isnan().all()
    assert s2_entropy(zeros).isnan().all()
    for alpha in ALPHAS:
        assert renyi_entropy(gram_eigenvalues(zeros), alpha).isnan().all()


def test_streams_whose_squares_overflow_are_scaled_first() -> None:
    assert_close(gram_eigenvalues(torch.eye(4).unsqueeze(0) * 1e30), torch.full((1, 4), 0.25))


def test_a_gram_product_of_reduced_precision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = torch.Tensor.__matmul__

    def coarse(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return exact(self, other).half().to(self.dtype)

    rows = torch.randn(1, 30, 2) @ torch.randn(1, 2, 40)
    gram_eigenvalues(rows)
    monkeypatch.setattr(torch.Tensor, "__matmul__", coarse)
    with pytest.raises(ValueError, match="no negative eigenvalues"):
        gram_eigenvalues(rows)


@pytest.mark.parametrize("shape", [(2, 2, 4096), (2, 512, 576), (2, 600, 64)])
def test_rounding_of_rank_one_rows_is_never_refused(shape: tuple[int, ...]) -> None:
    rows = torch.randn(shape[0], shape[1], 1) * torch.randn(shape[0], 1, shape[2])
    assert_close(gram_eigenvalues(rows)[:, 0], torch.ones(2))


def test_unknown_names_and_orders_are_refused_with_what_is_known() -> None:
    with pytest.raises(UnknownName, match="centred"):
        raw(ORTHONORMAL, "centered")
    with pytest.raises(UnknownName, match="maxEntropy"):
        prompt_entropy(ORTHONORMAL, all_valid(ORTHONORMAL), normalisation="maxentropy")
    with pytest.raises(BadInput, match="-1"):
        renyi_entropy(torch.tensor([1.0]), -1.0)
