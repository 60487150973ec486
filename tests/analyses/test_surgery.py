"""Surgery on layers whose answer is known, and against networks whose blocks are put together by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from formulas import Plain
from planted import SAID, SLOT, TOKEN, chance, following, look, planted, rising, the_answer, value
from torch import Tensor

from depthscope.analyses.surgery import Surgery
from depthscope.errors import BadInput, Refused
from depthscope.runtime.model import Model
from depthscope.runtime.surgery import PLANS, SINGLE
from depthscope.runtime.tiny import tiny

DROP, SWAP, ATTENTION, MLP = range(4)
SMALL = Surgery(kept=(2,), tokens=192, sublayer_tokens=192, documents=8)
COLUMN = {name: k for k, name in enumerate(PLANS)}


def test_dead_layers_may_be_dealt_with_in_any_way(tmp_path: Path) -> None:
    result = look(planted({}), SMALL, tmp_path, rising())
    for name in ("loss_increase", "single_loss_increase"):
        np.testing.assert_allclose(np.nan_to_num(value(result, name)), 0, atol=1e-12)
    np.testing.assert_array_equal(value(result, "agreement"), 1)
    np.testing.assert_array_equal(np.isnan(value(result, "single_agreement"))[:, SWAP], np.arange(6) == 5)
    # nothing is said, so the token itself stands out: its logit is that of a stream of norm sqrt 2
    np.testing.assert_allclose(
        value(result, "intact_loss"), -chance({3: 1.5 * np.sqrt(96 / (1 + 96e-6))})[4], rtol=1e-4
    )


def note(x: Tensor) -> Tensor:
    """Leaves the next token in the slot."""
    added = torch.zeros_like(x)
    added[..., SLOT] = following(x[..., TOKEN])
    return added


def read(x: Tensor) -> Tensor:
    """Says what the slot holds."""
    added = torch.zeros_like(x)
    added[..., SAID] = 10 * x[..., SLOT]
    return added


def test_only_the_order_of_writer_and_reader_matters(tmp_path: Path) -> None:
    result = look(planted({2: note, 3: read}), SMALL, tmp_path, rising())
    drop, swap = value(result, "single_loss_increase")[:, [DROP, SWAP]].T
    costly = np.zeros(6, bool)
    costly[[2, 3]] = True
    np.testing.assert_array_equal(drop > 1, costly)
    # layer 1 and 4 are dead: a swap with them moves nothing past its partner
    np.testing.assert_array_equal(np.nan_to_num(swap) > 1, np.arange(6) == 2)
    mixer, mlp = value(result, "single_loss_increase")[:, [ATTENTION, MLP]].T
    np.testing.assert_allclose(mixer, 0, atol=1e-12)
    np.testing.assert_allclose(mlp, drop, rtol=1e-9)
    agreement = value(result, "single_agreement")
    assert (agreement[costly, DROP] == 0).all()
    assert (agreement[~costly, DROP] == 1).all()


def test_plans_on_the_middle_are_told_apart_by_what_they_do_to_writer_and_reader(tmp_path: Path) -> None:
    # of six layers two are kept: the first and the last; the reader runs before the writer in what is reversed
    result = look(planted({2: note, 3: read}), SMALL, tmp_path, rising())
    loss = dict(zip(PLANS, value(result, "loss_increase")[0].tolist(), strict=True))
    reads_nothing = value(result, "single_loss_increase")[3, DROP]
    # side by side, and in reverse, the reader finds an empty slot; so does the central layer 3, however often it runs
    for name in ("parallel_sum", "reverse"):
        np.testing.assert_allclose(loss[name], reads_nothing, rtol=1e-9)
    np.testing.assert_allclose(loss["repeat_centre"], loss["skip"], rtol=1e-9)
    assert (
        loss["skip"] > reads_nothing
    )  # a note that nobody reads makes the stream longer, so the wrong token says less
    # a second time round the reader finds two notes and says it again, which is more of the right answer
    assert loss["loop"] < 0
    assert loss["loop_parallel"] < loss["parallel_mean"]
    assert value(result, "agreement")[0, COLUMN["loop"]] == 1


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_losses_and_agreement_are_those_of_blocks_called_by_hand(kind: str, tmp_path: Path) -> None:
    model = tiny(kind, torch.float64, num_hidden_layers=4) if kind == "llama" else tiny(kind, torch.float64)
    depth = model.anatomy.n_layers
    texts = [f"boat number {k} went out and came back {k * k} days later" for k in range(9)]
    result = look(model, Surgery(kept=(1,), tokens=160, sublayer_tokens=0, documents=8), tmp_path, texts, 20)
    plain = Plain(model.net, kind)
    first, middle = 1, list(range(1, depth))
    by_hand = {
        "skip": [[k] for k in range(first)],
        "reverse": [[k] for k in [*range(first), *middle[::-1]]],
        "parallel_mean": [*([k] for k in range(first)), middle],
        "loop": [[k] for k in [*range(first), *middle, *middle]],
    }
    ids = window_ids(tmp_path)
    for name, steps in by_hand.items():
        rise, same = expected(plain, ids, steps)
        np.testing.assert_allclose(
            value(result, "loss_increase")[0, COLUMN[name]], rise, rtol=1e-5, atol=1e-7
        )
        np.testing.assert_allclose(value(result, "agreement")[0, COLUMN[name]], same, rtol=1e-9)


def window_ids(folder: Path) -> list[list[int]]:
    import pyarrow.parquet as pq

    from depthscope.engine.needs import SweepNeed
    from depthscope.engine.shard import sweep_shards
    from depthscope.materials.window import Window, Windows

    rows = sorted(
        pq.read_table(folder / "run" / "inputs" / "text.parquet").to_pylist(), key=lambda r: r["window"]
    )
    windows = Windows(tuple(Window(r["window"], r["document"], tuple(r["ids"])) for r in rows), "", "", 0)
    shards = sweep_shards(windows, SweepNeed((), (), 160, 8), 0, 0)
    return [list(windows.items[w].ids[: s.length]) for s in shards for w in s.windows]


@torch.no_grad()
def expected(plain: Plain, windows: list[list[int]], steps: list[list[int]]) -> tuple[float, float]:
    """Mean rise of the loss and share of kept top-1, one window at a time, blocks called by hand."""
    rises: list[float] = []
    same: list[bool] = []
    for window in windows:
        ids = torch.tensor(window)
        clean = plain.run(window).states[-1]
        stream: Any = plain.embed(ids)
        for layers in steps:
            outs = [block(plain, k, stream) for k in layers]
            stream = sum(outs) / len(outs)
        log_p, changed = (plain.logits(x).log_softmax(-1)[:-1] for x in (clean, stream))
        gold = ids[1:, None]
        rises += (log_p.gather(1, gold) - changed.gather(1, gold))[:, 0].tolist()
        same += (log_p.argmax(-1) == changed.argmax(-1)).tolist()
    return float(np.mean(rises)), float(np.mean(same))


def block(plain: Plain, layer: int, stream: Tensor) -> Tensor:
    """A block's output."""
    middle = stream + plain.attend(layer, stream)[0]
    return middle + plain.mlp(layer, middle)


def shared_keys() -> Model:
    model = planted({})
    model.net.model.layers[3].self_attn.is_kv_shared_layer = True  # type: ignore[union-attr, index]
    return model


@pytest.mark.parametrize(
    ("model", "make", "error", "words"),
    [
        (
            lambda: planted({}),
            lambda: Surgery(kept=(6,)),
            BadInput,
            r"kept=\[6\]; of 6 layers 0 to 5 can be kept",
        ),
        (
            lambda: planted({}),
            lambda: Surgery(loops=0),
            BadInput,
            "loops=0 must be 1 or more",
        ),
        (shared_keys, Surgery, Refused, "layer 3 reads the keys and values of an earlier layer"),
    ],
)
def test_impossible_surgery_is_a_clear_error(
    model: Any, make: Any, error: type, words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        look(model(), make(), tmp_path, rising())


def test_counts_and_axes_are_those_of_the_plans(tmp_path: Path) -> None:
    result = look(planted({3: the_answer(10.0)}), Surgery(tokens=192, sublayer_tokens=96), tmp_path, rising())
    assert np.asarray(result["loss_increase"].axes["kept"]).tolist() == [4, 2]
    assert tuple(result["single_loss_increase"].axes["variant"]) == SINGLE
    counted = result["single_loss_increase"].n_items
    assert counted is not None
    assert counted[3].tolist() == [8 * 23, 8 * 23, 8 * 11, 8 * 11]
    assert counted[5].tolist() == [8 * 23, 0, 8 * 11, 8 * 11]
