"""Skips of dead layers, of the one that says the answer, of one that another listens to, and of a sink writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import (
    SAID,
    SLOT,
    TOKEN,
    WIDTH,
    Write,
    at_token,
    axis,
    chance,
    constant,
    following,
    logit,
    look,
    planted,
    rising,
    text_of,
    the_answer,
    value,
)
from torch import Tensor

from depthscope.analyses.layer_skip import LayerSkip
from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

ATTENTION, BLOCK, MLP = range(3)
EVERYTHING = LayerSkip(tokens=192, sublayer_tokens=192, documents=8, local=True)
UNPROTECTED = LayerSkip(tokens=192, sublayer_tokens=192, documents=8, protect="none", future=0)
EARLY = chance({3: logit(1, np.sqrt(2))})
LATE = chance({3: logit(1, np.sqrt(102)), 4: logit(10, np.sqrt(102))})


def test_a_layer_that_looks_at_no_other_position_reaches_no_future_token(tmp_path: Path) -> None:
    result = look(planted({4: the_answer(10.0)}), EVERYTHING, tmp_path, rising())
    for name in ("future_kl", "future_loss", "future_shift"):
        np.testing.assert_array_equal(value(result, name), 0)
    assert value(result, "shift")[4, BLOCK] > 0.01
    ratio = result["half_ratio"]
    assert np.isnan(ratio.select(variant="future_shift").scalar())


def telling(reader: int) -> Model:
    """Layer 1 leaves a note in the slot; the reader looks everywhere and says what it finds."""

    def note(x: Tensor) -> Tensor:
        added = torch.zeros_like(x)
        added[..., SLOT.start] = 50.0
        return added

    model = planted({1: note})
    attention = model.net.model.layers[reader].self_attn  # type: ignore[union-attr, index]
    slot = torch.zeros(2 * WIDTH // 4, WIDTH, dtype=torch.float64)
    slot[0, SLOT.start] = 1.0
    out = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
    out[SAID.start + 50, 0] = 0.3
    with torch.no_grad():
        for part, weight in (("q_proj", None), ("k_proj", None), ("v_proj", slot), ("o_proj", out)):
            target = getattr(attention, part).weight
            target.zero_() if weight is None else target.copy_(weight)
    return model


def test_only_the_layer_whose_note_is_read_later_reaches_future_tokens(tmp_path: Path) -> None:
    result = look(telling(3), EVERYTHING, tmp_path, rising())
    shift, effect = value(result, "future_shift")[:, BLOCK], value(result, "future_effect_on_later")
    assert shift[1] > 1e-4
    np.testing.assert_array_equal(shift[[0, 2, 3, 4, 5]], 0)
    # the reader itself writes at its own position: its skip before a split is not seen after it
    assert effect[1, 3] > 0.1
    assert effect[1, 1] == effect[3, 3] == 0
    assert value(result, "shift")[3, BLOCK] > 1e-4
    # what the reader hears comes from layer 1 directly
    np.testing.assert_allclose(
        value(result, "local_effect")[1, 3], value(result, "effect_on_later")[1, 3], rtol=1e-9
    )


def test_a_message_that_is_passed_on_is_heard_but_not_directly(tmp_path: Path) -> None:
    def pass_on(x: Tensor) -> Tensor:
        added = torch.zeros_like(x)
        added[..., SLOT.start + 1] = x[..., SLOT.start]
        return added

    def say(x: Tensor) -> Tensor:
        added = torch.zeros_like(x)
        added[..., SAID.start + 50] = x[..., SLOT.start + 1]
        return added

    model = planted({1: constant(axis(SLOT.start, 1.0)), 2: pass_on, 4: say})
    result = look(model, EVERYTHING, tmp_path, rising())
    mediated, direct = value(result, "effect_on_later"), value(result, "local_effect")
    assert mediated[1, 4] == pytest.approx(1)
    assert direct[1, 4] == 0
    assert direct[1, 2] == direct[2, 4] == pytest.approx(1)
    # one constant number at every position: the largest and the 95 % quantile are the mean
    for name in ("effect_p95", "effect_largest"):
        np.testing.assert_allclose(value(result, name)[1, [2, 4]], 1, rtol=1e-6)


def test_only_the_first_position_is_protected_in_the_way_of_the_paper(tmp_path: Path) -> None:
    paper = LayerSkip(tokens=192, sublayer_tokens=0, documents=8, protect="first")
    counted = look(planted({1: the_answer(10.0)}), paper, tmp_path, rising())["shift"].n_items
    assert counted is not None
    assert counted[:, BLOCK].tolist() == [8 * 23] * 6


def test_skipping_dead_layers_changes_nothing_anywhere(tmp_path: Path) -> None:
    result = look(planted({}), EVERYTHING, tmp_path, rising())
    np.testing.assert_array_equal(value(result, "output_kl"), 0)
    np.testing.assert_array_equal(value(result, "loss_increase"), 0)
    np.testing.assert_array_equal(value(result, "shift"), 0)
    # nothing is written, so there is nothing to change: 0 / 0 is missing
    assert np.isnan(value(result, "effect_on_later")).all()


@pytest.mark.parametrize("writer", [0, 3, 5])
def test_the_only_live_layer_carries_the_whole_loss(writer: int, tmp_path: Path) -> None:
    result = look(planted({writer: the_answer(10.0)}), EVERYTHING, tmp_path, rising())
    kl, loss = value(result, "output_kl"), value(result, "loss_increase")
    dead = np.arange(6) != writer
    np.testing.assert_array_equal(kl[dead], 0)
    np.testing.assert_array_equal(loss[dead], 0)
    np.testing.assert_allclose(kl[writer, [BLOCK, MLP]], (np.exp(LATE) * (LATE - EARLY)).sum(), rtol=1e-6)
    np.testing.assert_allclose(loss[writer, [BLOCK, MLP]], LATE[4] - EARLY[4], rtol=1e-6)
    assert kl[writer, ATTENTION] == loss[writer, ATTENTION] == 0


def listening() -> Model:
    """Layer 1 leaves a note in the slot, layer 3 says what the note says, layers 2 and 4 do not read it."""

    def note(x: Tensor) -> Tensor:
        added = torch.zeros_like(x)
        added[..., SLOT] = following(x[..., TOKEN])
        return added

    def read(x: Tensor) -> Tensor:
        added = torch.zeros_like(x)
        added[..., SAID] = 10 * x[..., SLOT]
        return added

    aside: Write = constant(axis(TOKEN.start, 0.5))
    return planted({1: note, 2: aside, 3: read, 4: aside})


def test_the_map_shows_who_listens_to_whom(tmp_path: Path) -> None:
    result = look(listening(), EVERYTHING, tmp_path, rising())
    found = value(result, "effect_on_later")
    expected = np.full((6, 6), np.nan)
    # layers 0 and 5 write nothing, so their columns are 0 / 0; of the others only layer 3 hears layer 1, and fully
    expected[1, 1:5] = [1, 0, 1, 0]
    expected[2, 2:5] = [1, 0, 0]
    expected[3, 3:5] = [1, 0]
    expected[4, 4] = 1
    expected[0, 1:5] = 0
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert "earlier layers cannot be affected" in result["effect_on_later"].missing


def test_a_note_that_is_not_left_costs_what_its_reader_would_have_said(tmp_path: Path) -> None:
    kl = value(look(listening(), EVERYTHING, tmp_path, rising()), "output_kl")[:, BLOCK]
    assert kl[0] == kl[5] == 0
    # squares in the stream: said 1 (+ 100), token 1, the two asides together 1, the note 1 where it was left
    clean = chance({3: logit(1, np.sqrt(104)), 4: logit(10, np.sqrt(104))})
    for layer, size in ((1, np.sqrt(3)), (3, np.sqrt(4))):
        left = chance({3: logit(1, size)})
        np.testing.assert_allclose(kl[layer], (np.exp(clean) * (clean - left)).sum(), rtol=1e-6)


def sink_model() -> Model:
    """Layer 1 makes a sink of the first token; in layer 3 every position looks everywhere and says what it finds."""
    first = range(3, 13)

    def sink(x: Tensor) -> Tensor:
        return sum((at_token(t, constant(axis(SLOT.start, 1000.0)))(x) for t in first), torch.zeros_like(x))

    model = planted({1: sink})
    attention = model.net.model.layers[3].self_attn  # type: ignore[union-attr, index]
    slot = torch.zeros(2 * WIDTH // 4, WIDTH, dtype=torch.float64)
    slot[0, SLOT.start] = 1.0
    out = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
    out[SAID.start + 50, 0] = 0.3
    with torch.no_grad():
        for part, weight in (("q_proj", None), ("k_proj", None), ("v_proj", slot), ("o_proj", out)):
            target = getattr(attention, part).weight
            target.zero_() if weight is None else target.copy_(weight)
    return model


def sink_texts() -> list[str]:
    return [text_of([3 + k, *range(20, 43)]) for k in range(10)]


def test_a_protected_sink_writer_looks_harmless_and_an_unprotected_one_does_not(tmp_path: Path) -> None:
    kept = look(sink_model(), EVERYTHING, tmp_path / "sinks", sink_texts())
    gone = look(sink_model(), UNPROTECTED, tmp_path / "none", sink_texts())
    assert value(kept, "output_kl")[1, BLOCK] == 0
    assert value(gone, "output_kl")[1, BLOCK] > 1e-3
    # the layer that looks at the sink is needed either way
    assert value(kept, "output_kl")[3, BLOCK] > 1e-3
    np.testing.assert_allclose(
        value(gone, "output_kl")[3, BLOCK], value(kept, "output_kl")[3, BLOCK], rtol=1e-9
    )


def test_the_sink_itself_is_never_measured(tmp_path: Path) -> None:
    for name, skip in (("sinks", EVERYTHING), ("none", UNPROTECTED)):
        counted = look(sink_model(), skip, tmp_path / name, sink_texts())["output_kl"].n_items
        assert counted is not None
        assert counted.tolist() == [[8 * 23] * 3] * 6


def test_only_the_asked_layers_are_skipped_and_the_others_are_missing(tmp_path: Path) -> None:
    some = LayerSkip(layers=(1, 3), tokens=192, sublayer_tokens=0, documents=8)
    result = look(planted({3: the_answer(10.0)}), some, tmp_path, rising())
    kl = value(result, "output_kl")
    assert np.isnan(kl[[0, 2, 4, 5]]).all()
    assert np.isnan(kl[:, [ATTENTION, MLP]]).all()
    assert kl[1, BLOCK] == 0
    assert kl[3, BLOCK] > 1
    assert "was not skipped in this run" in result["output_kl"].missing


def test_counts_say_how_many_positions_each_kind_of_skip_read(tmp_path: Path) -> None:
    fewer = LayerSkip(tokens=192, sublayer_tokens=96, documents=8)
    result = look(planted({3: the_answer(10.0)}), fewer, tmp_path, rising())
    counted, next_counted = result["output_kl"].n_items, result["loss_increase"].n_items
    assert counted is not None
    assert next_counted is not None
    # 24 and 12 tokens of 8 windows, position 0 left out; the last position has no next token
    assert counted[3].tolist() == [8 * 11, 8 * 23, 8 * 11]
    assert next_counted[3].tolist() == [8 * 10, 8 * 22, 8 * 10]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: LayerSkip(protect="everything"),
            UnknownName,
            "protect 'everything'; known: first, none, sinks",
        ),
        (lambda: LayerSkip(layers=(2, 9)), Refused, r"layers \[9\] do not exist, it has layers 0 to 5"),
        (lambda: LayerSkip(tokens=16, documents=8), BadInput, "fewer than 4 tokens"),
        (lambda: LayerSkip(future=-1), BadInput, "future=-1 .splits. must be 0 or more"),
        (lambda: LayerSkip(sample=0), BadInput, "sample=0 .positions of a quantile. must be 1 or more"),
    ],
)
def test_impossible_parameters_are_clear_errors(
    make: type, error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        look(planted({}), make(), tmp_path, rising())


def test_every_layer_of_random_weights_matters(tmp_path: Path) -> None:
    texts = [f"text number {k} of the negative control" for k in range(9)]
    result = look(tiny("llama", torch.float32), EVERYTHING, tmp_path, texts)
    assert (value(result, "output_kl")[:, BLOCK] > 1e-4).all()
    assert float(value(result, "noise_floor")) < 1e-6
