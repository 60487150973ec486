"""Distribution measures against values derived by hand and against torch.distributions."""

import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence
from torch.testing import assert_close

from depthscope.measures.distribution import (
    cross_entropy,
    entropy,
    jensen_shannon,
    kl,
    overlap,
    probability_distance,
    rank,
    ties,
    top1,
)

LN2 = math.log(2)
QUARTER_HALF_QUARTER = torch.tensor([[1.0, 2.0, 1.0]]).log()
UNIFORM = torch.zeros(1, 3)
ONLY_FIRST = torch.tensor([[0.0, -math.inf]])
ONLY_SECOND = torch.tensor([[-math.inf, 0.0]])


def test_entropy_of_quarter_half_quarter_is_one_and_a_half_bits() -> None:
    # 1/4 * 2 ln 2 + 1/2 * ln 2 + 1/4 * 2 ln 2 = 1.5 ln 2
    assert_close(entropy(QUARTER_HALF_QUARTER), torch.tensor([1.5 * LN2]))


def test_entropy_of_a_certain_prediction_is_zero_and_of_a_uniform_one_log_n() -> None:
    assert_close(entropy(ONLY_FIRST), torch.tensor([0.0]))
    assert_close(entropy(UNIFORM), torch.tensor([math.log(3)]))


def test_absent_vocabulary_rows_change_no_entropy_and_no_divergence() -> None:
    absent = torch.full((1, 2), -math.inf)
    p, q = (torch.cat([logits, absent], dim=-1) for logits in (QUARTER_HALF_QUARTER, UNIFORM))
    assert_close(entropy(p), entropy(QUARTER_HALF_QUARTER))
    assert_close(kl(p, q), kl(QUARTER_HALF_QUARTER, UNIFORM))
    assert_close(jensen_shannon(p, q), jensen_shannon(QUARTER_HALF_QUARTER, UNIFORM))


def test_divergence_to_uniform_is_what_entropy_lacks_to_log_n() -> None:
    # KL(p || u) = ln 3 - H(p)
    assert_close(kl(QUARTER_HALF_QUARTER, UNIFORM), torch.tensor([math.log(3) - 1.5 * LN2]))


def test_divergence_has_a_direction() -> None:
    # KL(u || p) = 1/3 (ln 4/3 + ln 2/3 + ln 4/3) = 1/3 ln 32/27
    assert_close(kl(UNIFORM, QUARTER_HALF_QUARTER), torch.tensor([math.log(32 / 27) / 3]))


def test_divergence_is_infinite_where_q_excludes_what_p_allows() -> None:
    assert kl(torch.zeros(1, 2), ONLY_FIRST).item() == math.inf
    # p = (1, 0) against (1/2, 1/2): 1 ln 2
    assert_close(kl(ONLY_FIRST, torch.zeros(1, 2)), torch.tensor([LN2]))


def test_jensen_shannon_of_disjoint_predictions_is_log_two() -> None:
    assert_close(jensen_shannon(ONLY_FIRST, ONLY_SECOND), torch.tensor([LN2]))


def test_jensen_shannon_of_certain_and_even_by_hand() -> None:
    # p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4):
    # KL(p || m) = ln 4/3; KL(q || m) = 1/2 ln 2/3 + 1/2 ln 2 = 1/2 ln 4/3; half the sum = 3/4 ln 4/3
    assert_close(jensen_shannon(ONLY_FIRST, torch.zeros(1, 2)), torch.tensor([0.75 * math.log(4 / 3)]))


def test_entropy_and_divergence_agree_with_torch_distributions() -> None:
    p, q = torch.randn(2, 5, 7, 301, dtype=torch.float64).unbind(0)
    assert_close(entropy(p), Categorical(logits=p).entropy())
    assert_close(kl(p, q), kl_divergence(Categorical(logits=p), Categorical(logits=q)))


def test_cross_entropy_is_minus_log_probability_of_the_target() -> None:
    found = cross_entropy(QUARTER_HALF_QUARTER.expand(3, 3), torch.tensor([0, 1, 2]))
    assert_close(found, torch.tensor([2 * LN2, LN2, 2 * LN2]))


def test_cross_entropy_of_an_absent_target_is_infinite() -> None:
    assert cross_entropy(ONLY_FIRST, torch.tensor([1])).item() == math.inf


def test_rank_counts_strictly_greater_logits_and_ties_favour_the_target() -> None:
    logits = torch.tensor([3.0, 1.0, 3.0, 2.0]).expand(4, 4)
    target = torch.arange(4)
    assert rank(logits, target).tolist() == [1, 4, 1, 3]
    assert ties(logits, target).tolist() == [1, 0, 1, 0]
    assert rank(logits, target).dtype == torch.int64


def test_ties_among_absent_tokens_do_not_count_the_target_itself() -> None:
    assert ties(torch.tensor([[0.0, -math.inf, -math.inf]]), torch.tensor([2])).tolist() == [1]


def test_rank_agrees_with_a_sort_where_nothing_ties() -> None:
    logits = torch.randn(4, 50, dtype=torch.float64)
    target = torch.tensor([0, 7, 49, 20])
    place = logits.argsort(descending=True).eq(target[:, None]).int().argmax(-1)
    assert_close(rank(logits, target), place + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_top1_of_equal_maxima_is_the_lowest_id(dtype: torch.dtype) -> None:
    logits = torch.zeros(2, 50_000, dtype=dtype)
    logits[0, [137, 4_096, 49_999]] = 1.0
    assert top1(logits).tolist() == [137, 0]


def test_overlap_is_the_share_of_common_ids_in_any_order() -> None:
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]])
    others = torch.tensor([[4, 3, 2, 1], [9, 1, 8, 7], [5, 6, 7, 8]])
    assert_close(overlap(ids, others), torch.tensor([1.0, 0.25, 0.0]))


def test_probability_distance_of_two_different_certainties_is_root_two() -> None:
    assert_close(probability_distance(ONLY_FIRST, ONLY_SECOND), torch.tensor([math.sqrt(2)]))


def test_probability_distance_by_hand() -> None:
    # (1/4, 1/2, 1/4) - (1/3, 1/3, 1/3) = (-1/12, 1/6, -1/12), norm sqrt(6/144)
    assert_close(probability_distance(QUARTER_HALF_QUARTER, UNIFORM), torch.tensor([math.sqrt(6) / 12]))


@pytest.mark.parametrize(
    "measure",
    [entropy, lambda z: kl(z, z * 0), lambda z: jensen_shannon(z, z * 0)],
    ids=["entropy", "kl", "jensen_shannon"],
)
def test_a_nan_logit_gives_nan_in_its_own_row_only(measure) -> None:
    logits = torch.zeros(2, 4)
    logits[1, 2] = math.nan
    assert measure(logits).isnan().tolist() == [False, True]


def test_half_precision_logits_give_float32_results() -> None:
    assert entropy(torch.zeros(1, 5, dtype=torch.bfloat16)).dtype == torch.float32
