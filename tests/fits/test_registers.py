"""Registers: pictures are what they say, attention received is counted by hand, and a tiny training runs through."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depthscope.errors import BadInput
from depthscope.fits.register_net import Pictures, RegisterNet
from depthscope.fits.registers import KINDS, Registers, _probed, _received

SMALL = Pictures(side=4, textures=4)


def test_the_class_is_the_most_frequent_texture_of_the_foreground():
    textures, label = Pictures().draw(400, torch.Generator().manual_seed(0))
    np.testing.assert_allclose((textures == 0).float().mean(), 0.6, atol=0.02)
    most = torch.stack([torch.bincount(row[row > 0], minlength=8) for row in textures]).argmax(1)
    assert (most == label).float().mean() > 0.8


def test_a_token_that_gets_all_attention_gets_as_many_times_an_even_share_as_there_are_tokens():
    kinds = torch.tensor([[0, 1, 1, 2]])
    attention = torch.zeros(1, 2, 4, 4)
    attention[..., 0] = 1
    assert _received(attention, kinds)[:3].tolist() == [4, 0, 0]
    assert np.isnan(_received(attention, kinds)[KINDS.index("register")])
    even = torch.full((1, 2, 4, 4), 0.25)
    np.testing.assert_allclose(_received(even, kinds)[:3], 1)


def test_a_probe_reads_what_is_there_and_nothing_else():
    kinds = torch.zeros(60, 5, dtype=torch.long)
    wanted = torch.randint(0, 3, (60, 5), generator=torch.Generator().manual_seed(0))
    state = torch.nn.functional.one_hot(wanted, 3).float()
    assert _probed(state, kinds, wanted, 0)[0] == 1
    noise = torch.randn(60, 5, 3, generator=torch.Generator().manual_seed(1))
    assert _probed(noise, kinds, wanted, 0)[0] < 0.5
    assert np.isnan(_probed(state, kinds, torch.full_like(wanted, -1), 0)).all()


def test_registers_stand_behind_the_cells_and_attention_sums_to_one():
    net = RegisterNet(SMALL, 3, 8, 2, 2)
    textures, label = SMALL.draw(2, torch.Generator().manual_seed(0))
    last, states, maps = net(textures)
    assert last.shape == (2, 16 + 1 + 3, 8)
    assert (len(states), len(maps)) == (3, 2)
    torch.testing.assert_close(maps[0].sum(-1), torch.ones(2, 2, 20))
    assert float(net.loss(textures, label).detach()) > 3


def test_a_short_training_learns_the_textures_of_cells():
    found = Registers((0, 2), 16, 2, 2, steps=60, rows=32, lr=1e-2, pictures=SMALL).run().measurements
    assert found["accuracy"].at(variant="0 registers", task="own_texture") > 0.9
    assert np.isnan(found["received"].at(variant="0 registers", layer=0, token="register"))
    assert np.isfinite(found["received"].at(variant="2 registers", layer=1, token="register"))
    assert np.isnan(found["own_probe"].at(variant="2 registers", layer=1, token="class_token"))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(BadInput, match="width=10, heads=4"):
        Registers(width=10)
