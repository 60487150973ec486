"""How text is split and which positions a fit learns from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from depthscope.engine.reading import Reading
from depthscope.errors import BadInput
from depthscope.fits.quality import chosen
from depthscope.fits.states import Split, batches, read, split
from depthscope.materials.window import Window, Windows
from depthscope.runtime.model import Model


def windows_of(documents: int, each: int = 2) -> Windows:
    items = [Window(k, f"d{k % documents}", tuple(range(3, 23))) for k in range(documents * each)]
    return Windows(tuple(items), "a test", "", 0)


@pytest.mark.parametrize(
    ("documents", "share", "held"), [(40, 0.1, 4), (9, 0.1, 1), (9, 0.4, 4), (8, 0.4, 3)]
)
def test_parts_share_no_document_and_hold_out_the_share_that_was_asked(
    documents: int, share: float, held: int
):
    found = split(windows_of(documents), share, 0)
    names = [{w.document for w in part} for part in (found.held_out, found.validation, found.train)]
    assert [len(n) for n in names] == [held, held, documents - 2 * held]
    assert len(set.union(*names)) == documents


def test_a_document_keeps_its_part_whatever_the_order_of_the_text_and_another_seed_moves_it():
    whole = windows_of(30)
    turned = replace(whole, items=tuple(replace(w, index=k) for k, w in enumerate(reversed(whole.items))))
    held = {w.document for w in split(whole, 0.2, 0).held_out}
    assert {w.document for w in split(turned, 0.2, 0).held_out} == held
    assert {w.document for w in split(whole, 0.2, 1).held_out} != held


def test_below_eight_documents_windows_are_split():
    found = split(windows_of(2, 5), 0.1, 0)
    assert found.kind == "windows"
    assert len(found.train) == 8


@pytest.mark.parametrize("share", [0.0, 0.5, -1.0])
def test_a_share_that_leaves_nothing_to_train_on_is_refused(share: float):
    with pytest.raises(BadInput, match=r"above 0 and at most 0\.4"):
        split(windows_of(9), share, 0)


def test_a_text_that_cannot_be_split_in_three_is_refused():
    with pytest.raises(BadInput, match="at least 3"):
        split(windows_of(1, 2), 0.1, 0)


def test_batches_are_of_equal_length_and_hold_every_window_once(model: Model, reading: Reading):
    windows = replace(reading, tokens=3000, window=40).windows(model).items
    found = list(batches(windows, 3))
    assert sorted(w.index for batch in found for w in batch) == [w.index for w in windows]
    assert all(len({len(w.ids) for w in batch}) == 1 and len(batch) <= 3 for batch in found)
    assert len({len(w.ids) for w in windows}) > 1


def test_position_zero_and_massive_positions_are_left_out(
    model: Model, parts: Split, monkeypatch: pytest.MonkeyPatch
):
    batch = next(iter(batches(parts.train)))
    assert not read(model, batch).kept[:, 0].any()
    with torch.no_grad():
        token = batch[0].ids[7]
        row = model.net.transformer.wte.weight[token].clone()
        model.net.transformer.wte.weight[token] *= 1000.0
    kept = read(model, batch).kept
    with torch.no_grad():
        model.net.transformer.wte.weight[token] = row
    ids = torch.tensor([w.ids for w in batch])
    assert not kept[ids == token].any()
    assert kept.float().mean() > 0.5


def test_chosen_positions_are_kept_ones_and_fewer_of_them_are_a_part_of_more(parts: Split):
    batch = next(iter(batches(parts.train)))
    kept = torch.rand(len(batch), len(batch[0].ids), generator=torch.Generator().manual_seed(2)) < 0.5
    few, many = chosen(kept, batch, 4, 0), chosen(kept, batch, 9, 0)
    assert few.sum(1).tolist() == [4] * len(batch)
    assert not (few & ~many).any()
    assert not (many & ~kept).any()
    assert (chosen(kept, batch, 10**6, 0) == kept).all()
    assert (chosen(kept, batch, 4, 1) != few).any()
