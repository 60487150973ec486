"""Registers: pictures are what they say, attention received is counted by hand, and a tiny training runs through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from depthscope.engine.making import make
from depthscope.engine.picture_tokens import KINDS, Probed, norms, received
from depthscope.errors import BadInput, RunMismatch
from depthscope.fits.register_net import RegisterNet
from depthscope.fits.registers import Registers
from depthscope.materials.pictures import Pictures

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
    assert received(attention, kinds)[0, :3].tolist() == [4, 0, 0]
    assert np.isnan(received(attention, kinds)[0, KINDS.index("register")])
    even = torch.full((1, 2, 4, 4), 0.25)
    np.testing.assert_allclose(received(even, kinds)[0, :3], 1)


def test_norms_are_over_the_median_of_the_cells_alone():
    state = torch.tensor([1.0, 2, 2, 9, 100])[None, :, None] * torch.ones(1, 5, 3)
    ratio, share = norms(state, torch.tensor([[True, True, True, True, False]]))
    np.testing.assert_allclose((ratio, share), [[4.5], [0.25]])


def test_a_probe_reads_what_is_there_and_nothing_else():
    kinds = torch.zeros(60, 5, dtype=torch.long)
    own = torch.randint(0, 3, (60, 5), generator=torch.Generator().manual_seed(0))
    probed = Probed.of(kinds, torch.full((60,), -1), own, 0)
    assert not set(probed.row[probed.train]) & set(probed.row[~probed.train])
    state = torch.nn.functional.one_hot(own, 3).float()[probed.row, probed.position].numpy()[:, None]
    found = probed.scores(state)
    assert np.nanmin(found["own_probe"][30:, 0, 0]) == 1
    assert np.isnan(found["own_probe"][:30]).all()  # trained on
    assert np.isnan(found["class_probe"]).all()
    noise = np.random.default_rng(1).normal(size=state.shape)
    assert np.nanmean(probed.scores(noise)["own_probe"]) < 0.5


def test_registers_stand_behind_the_cells_and_attention_sums_to_one():
    net = RegisterNet(SMALL, 3, 8, 2, 2)
    textures, label = SMALL.draw(2, torch.Generator().manual_seed(0))
    last, states, maps = net(textures)
    assert last.shape == (2, 16 + 1 + 3, 8)
    assert (len(states), len(maps)) == (3, 2)
    torch.testing.assert_close(maps[0].sum(-1), torch.ones(2, 2, 20))
    assert float(net.loss(textures, label).detach()) > 3


def test_encoders_of_one_seed_differ_in_their_registers_only():
    nets = []
    for count in (0, 2):
        torch.manual_seed(5)
        nets.append(dict(RegisterNet(SMALL, count, 8, 1, 2).named_parameters()))
    for name in set(nets[0]) - {"extra"}:
        torch.testing.assert_close(nets[0][name], nets[1][name], rtol=0, atol=0)


def test_a_short_training_learns_the_textures_of_cells_and_is_not_repeated(tmp_path: Path):
    study = Registers((0, 2), 16, 2, 2, steps=60, lr=1e-2, side=4, textures=4)
    steps: list[int] = []
    run = make("registers", study, tmp_path / "run", progress=lambda _, done, __: steps.append(done))
    found = run["registers"]
    assert found["accuracy"].at(variant="0 registers", task="own_texture") > 0.9
    assert np.isnan(found["received"].at(variant="0 registers", layer=0, token="register"))
    assert np.isfinite(found["received"].at(variant="2 registers", layer=1, token="register"))
    assert np.isnan(found["own_probe"].at(variant="2 registers", layer=1, token="class_token"))
    n = found["received"].n
    assert n is not None
    assert n[0, 0, 0] == 256
    assert steps[-1] == 120
    make("registers", study, tmp_path / "run", progress=lambda _, done, __: steps.append(done))
    assert len(steps) == 120
    with pytest.raises(RunMismatch, match="seed is 0 there and 1 here"):
        make("registers", study, tmp_path / "run", seed=1)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(BadInput, match="width=10"):
        Registers(width=10)
