"""Explicit bias: sequences copy behind triggers, scores are counted by hand, and a tiny training runs through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from depthscope.engine.making import make
from depthscope.errors import BadInput
from depthscope.fits.bias_net import BiasNet, Chains
from depthscope.fits.explicit_bias import ExplicitBias, judged

CHAINS = Chains(tokens=8, triggers=2, length=12)


def test_behind_a_trigger_stands_what_stood_before_it():
    ids = CHAINS.draw(64, torch.Generator().manual_seed(0))
    assert ids[:, 0].tolist() == [0] * 64
    assert int((ids[:, 1:] == 0).sum()) == 0
    found = [(r, k) for r, k in torch.nonzero(CHAINS.copies(ids)).tolist() if k + 1 < 12]
    assert len(found) > 20
    for row, place in found:
        assert ids[row, place] in (1, 2)
        assert ids[row, place + 1] == ids[row, place - 1] != 0


def test_a_pair_is_one_more_key_that_every_query_sees_and_no_key_ahead_is_seen():
    for pair in (False, True):
        with torch.no_grad():
            _, _, maps = BiasNet(CHAINS, 8, 2, 2, pair)(CHAINS.draw(3, torch.Generator().manual_seed(0)))
        assert maps[0].shape == (3, 2, 12, 12 + pair)
        torch.testing.assert_close(maps[0].sum(-1), torch.ones(3, 2, 12))
        assert float(maps[0][..., :12].triu(1).abs().max()) == 0
        assert not pair or float(maps[0][..., 12].min()) > 0


def test_networks_of_one_seed_differ_in_their_pairs_only():
    nets = []
    for pair in (False, True):
        torch.manual_seed(5)
        nets.append(dict(BiasNet(CHAINS, 8, 2, 2, pair).named_parameters()))
    assert set(nets[1]) - set(nets[0]) == {"layers.0.pair", "layers.1.pair"}
    for name in nets[0]:
        torch.testing.assert_close(nets[0][name], nets[1][name], rtol=0, atol=0)


class Resting(BiasNet):
    """Heads that rest on position 0 but where a token is to be copied, and there on the token before."""

    def forward(self, ids):
        logits, states, maps = super().forward(ids)
        row = torch.zeros_like(maps[0])
        row[..., 0] = 1
        copies = CHAINS.copies(ids)[:, None, :, None]
        before = torch.diag(torch.ones(11), -1).expand_as(row)
        return logits, states, [torch.where(copies, before, row)] * len(maps)


def test_idle_queries_are_those_that_copy_nothing():
    ids = CHAINS.draw(16, torch.Generator().manual_seed(0))
    net = Resting(CHAINS, 8, 2, 2, pair=False)
    found = judged(net, CHAINS, ids)
    np.testing.assert_allclose(found["first_idle"], 1)
    copies = CHAINS.copies(ids)[:, 1:].double()
    beside = (copies * (torch.arange(1, 12) == 1)).mean(1)  # at position 1 the token before is the first
    expected = 1 - copies.mean(1) + beside
    np.testing.assert_allclose(found["first_share"][:, 0, 0], expected, atol=1e-6)
    assert np.isnan(found["pair_share"]).all()


def test_a_short_training_leaves_a_run(tmp_path: Path):
    study = ExplicitBias(8, 1, 1, steps=3, rows=4, length=12)
    found = make("explicit_bias", study, tmp_path / "run")["explicit_bias"]
    assert np.isnan(found["pair_share"].at(variant="plain", layer=0, head=0))
    assert 0 < found["pair_share"].at(variant="explicit pair", layer=0, head=0) < 1
    n = found["first_share"].n
    assert n is not None
    assert set(n.ravel().tolist()) == {256}


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(BadInput, match="width=9"):
        ExplicitBias(width=9)
