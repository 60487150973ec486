"""Write-against-stream measures, values derived by hand on small vectors."""

import math

import torch
from torch.testing import assert_close

from depthscope.measures.residual import cosine, growth, relative_change, relative_norm, sink_mask

STREAM = torch.tensor([[3.0, 4.0]])
NOTHING = torch.zeros(1, 2)


def test_relative_norm_by_hand() -> None:
    # |(0, 2)| / |(3, 4)| = 2/5
    assert_close(relative_norm(torch.tensor([[0.0, 2.0]]), STREAM), torch.tensor([0.4]))


def test_relative_norm_of_an_empty_stream_is_measured_against_eps() -> None:
    assert_close(relative_norm(STREAM, NOTHING, eps=0.5), torch.tensor([10.0]))


def test_cosine_tells_erasing_from_new_from_strengthening() -> None:
    writes = torch.tensor([[-3.0, -4.0], [4.0, -3.0], [6.0, 8.0], [1.0, 0.0]])
    # the last: 3 / (1 * 5)
    assert_close(cosine(writes, STREAM.expand(4, 2)), torch.tensor([-1.0, 0.0, 1.0, 0.6]))


def test_cosine_with_a_zero_vector_is_zero() -> None:
    assert cosine(NOTHING, STREAM).item() == 0
    assert cosine(STREAM, NOTHING).item() == 0


def test_cosine_survives_norms_whose_product_overflows_float32() -> None:
    huge = torch.tensor([[3e19, 0.0]])
    assert_close(cosine(huge.sqrt() * 1e9, huge.sqrt() * 1e9), torch.tensor([1.0]))


def test_growth_by_hand() -> None:
    # w = (1, 2), s = (3, 4): 2 <w, s> = 22, |w|^2 = 5; |s + w|^2 - |s|^2 = 52 - 25 = 27
    found = growth(torch.tensor([[1.0, 2.0]]), STREAM)
    assert (found.parallel_gain.item(), found.orthogonal_energy.item()) == (22, 5)


def test_growth_terms_add_up_to_the_change_of_the_squared_norm() -> None:
    write, stream = torch.randn(2, 6, 32, dtype=torch.float64).unbind(0)
    gain, energy = growth(write, stream)
    change = (stream + write).square().sum(-1) - stream.square().sum(-1)
    assert_close(gain + energy, change, rtol=1e-12, atol=1e-12)


def test_relative_change_is_one_where_the_write_is_removed_and_two_where_it_is_reversed() -> None:
    clean = STREAM.expand(3, 2)
    changed = torch.stack([NOTHING[0], -STREAM[0], STREAM[0]])
    assert_close(relative_change(clean, changed), torch.tensor([1.0, 2.0, 0.0]))


def test_position_zero_is_always_a_sink() -> None:
    assert sink_mask(torch.ones(3, 5)).tolist() == [True, False, False, False, False]


def test_a_massive_stream_at_one_later_state_makes_a_sink_and_at_the_embedding_does_not() -> None:
    norms = torch.ones(3, 6)
    norms[0, 2] = 100.0  # the embedding does not count
    norms[2, 4] = 4.1  # just above 4 x the median 1
    norms[1, 5] = 4.0  # exactly 4 x: not above
    assert sink_mask(norms).tolist() == [True, False, False, False, True, False]


def test_median_of_an_even_number_of_positions_is_between_the_middle_two() -> None:
    # sorted 1 1 3 9: median 2, limit 8 < 9; with the upper median 3 the limit would be 12
    norms = torch.tensor([[0.0] * 4, [1.0, 1.0, 3.0, 9.0], [0.0] * 4])
    assert sink_mask(norms).tolist() == [True, False, False, True]
    # sorted 1 1 3 7: 7 is above 4 x the lower median 1, not above 4 x 2
    norms[1, 3] = 7.0
    assert sink_mask(norms).tolist() == [True, False, False, False]


def test_padded_positions_marked_nan_count_neither_as_sinks_nor_for_the_median() -> None:
    norms = torch.tensor([[[1.0] * 6, [1.0, 1.0, 1.0, 5.0, math.nan, math.nan]]])
    # with the padding counted at the top the median would not be 1
    assert sink_mask(norms).tolist() == [[True, False, False, True, False, False]]


def test_each_sequence_of_a_batch_has_its_own_median() -> None:
    norms = torch.tensor([[[1.0] * 4, [1.0, 1.0, 1.0, 5.0]], [[1.0] * 4, [5.0, 5.0, 5.0, 5.0]]])
    assert sink_mask(norms).tolist() == [[True, False, False, True], [True, False, False, False]]
