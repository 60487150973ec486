"""Every kind of edit does what it says, at heads, sublayers and streams, and only where it is said to."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.runtime import edits
from depthscope.runtime.edits import Edit
from depthscope.runtime.model import Model
from depthscope.runtime.run import run
from depthscope.runtime.tiny import tiny

IDS = torch.randint(3, 96, (2, 8), generator=torch.Generator().manual_seed(7))
AT = torch.tensor([[0, 1, 0, 0, 1, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0, 0]], dtype=torch.bool)
SITES = {
    "L1.H2.head_out": 8,
    "L1.attn_in": 32,
    "L1.attn_out": 32,
    "L2.mlp_in": 32,
    "L2.mlp_hidden": 64,
    "L2.mlp_out": 32,
    "L1.resid_pre": 32,
    "L2.resid_mid": 32,
    "L2.resid_post": 32,
    "embed": 32,
}


@functools.cache
def model() -> Model:
    return tiny("llama", torch.float64, seed=8)


@functools.cache
def clean(site: str) -> Tensor:
    return run(model(), IDS, read=[site])[site]


@functools.cache
def other(site: str) -> Tensor:
    return run(model(), IDS.flip(1), read=[site])[site]


def edited(site: str, edit: Edit) -> Tensor:
    return run(model(), IDS, read=[site], edit=[edit])[site]


def vector(width: int, seed: int = 0) -> Tensor:
    return torch.randn(width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def without(x: Tensor, direction: Tensor) -> Tensor:
    unit = direction / direction.norm()
    return x - (x @ unit)[..., None] * unit


Kind = tuple[Callable[[str, int, Tensor | None], Edit], Callable[[str, Tensor], Tensor]]
KINDS: dict[str, Kind] = {
    "zero": (lambda s, _, at: edits.zero(s, at), lambda _, x: torch.zeros_like(x)),
    "mean": (lambda s, w, at: edits.mean(s, vector(w), at), lambda _, x: vector(x.shape[-1]).expand_as(x)),
    "resample": (lambda s, _, at: edits.resample(s, other(s), at), lambda s, _: other(s)),
    "swap": (lambda s, _, at: edits.swap(s, at), lambda _, x: torch.stack([x[1], x[0]])),
    "add": (lambda s, w, at: edits.add(s, vector(w), -2.5, at), lambda _, x: x - 2.5 * vector(x.shape[-1])),
    "scale": (lambda s, _, at: edits.scale(s, -0.5, at), lambda _, x: -0.5 * x),
    "project_out": (
        lambda s, w, at: edits.project_out(s, vector(w)[None], at),
        lambda _, x: without(x, vector(x.shape[-1])),
    ),
    "replace_with": (
        lambda s, _, at: edits.replace_with(s, 2 * other(s), at),
        lambda s, _: 2 * other(s),
    ),
}


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("site", list(SITES))
@pytest.mark.parametrize("kind", list(KINDS))
def test_an_edit_puts_its_value_in_place_and_reads_see_it(kind: str, site: str) -> None:
    make, expected = KINDS[kind]
    close(edited(site, make(site, SITES[site], None)), expected(site, clean(site)))


@pytest.mark.parametrize(
    "site", ["L1.H2.head_out", "L1.attn_out", "L2.mlp_hidden", "L2.resid_mid", "L2.resid_post"]
)
@pytest.mark.parametrize("kind", list(KINDS))
def test_positions_outside_the_mask_keep_their_value(kind: str, site: str) -> None:
    make, expected = KINDS[kind]
    found = edited(site, make(site, SITES[site], AT))
    close(found, torch.where(AT[..., None], expected(site, clean(site)), clean(site)))
    alike = torch.tensor([False, True, False, False, True, False, False, False])
    found = edited(site, make(site, SITES[site], alike))
    close(found, torch.where(alike[None, :, None], expected(site, clean(site)), clean(site)))


@pytest.mark.parametrize("site", list(SITES))
def test_an_edit_reaches_the_last_state(site: str) -> None:
    last = "L3.resid_post"
    changed = run(model(), IDS, read=[last], edit=[edits.scale(site, 3.0)])[last]
    assert float((changed - clean(last)).abs().max()) > 1e-3


def test_an_edit_at_one_head_leaves_the_other_heads_alone() -> None:
    found = edited("L1.head_out", edits.zero("L1.H2.head_out"))
    expected = clean("L1.head_out").clone()
    expected[:, :, 2] = 0
    close(found, expected, 0)
    assert found.shape == (2, 8, 4, 8)


def test_zeroing_every_head_is_skipping_the_attention() -> None:
    last = "L3.resid_post"
    heads = run(model(), IDS, read=[last], edit=[edits.zero(f"L1.H{h}.head_out") for h in range(4)])[last]
    close(heads, run(model(), IDS, read=[last], edit=[edits.skip(1, "attention")])[last])


def test_edits_at_one_site_act_one_after_the_other() -> None:
    site = "L1.mlp_out"
    order = [edits.add(site, vector(32)), edits.scale(site, 2.0)]
    close(run(model(), IDS, read=[site], edit=order)[site], 2 * (clean(site) + vector(32)))
    close(run(model(), IDS, read=[site], edit=order[::-1])[site], 2 * clean(site) + vector(32))


def test_edits_at_several_sites_act_together() -> None:
    seen = run(
        model(),
        IDS,
        read=["L1.attn_out", "L3.mlp_out"],
        edit=[edits.zero("L1.attn_out"), edits.zero("L3.mlp_out")],
    )
    assert float(seen["L1.attn_out"].abs().max()) == float(seen["L3.mlp_out"].abs().max()) == 0


def test_a_skipped_block_gives_back_its_input_whatever_that_is() -> None:
    seen = run(model(), IDS, read=["L2.resid_pre", "L2.resid_post"], edit=[edits.skip(2)])
    close(seen["L2.resid_post"], seen["L2.resid_pre"], 0)
    seen = run(
        model(),
        IDS,
        read=["L2.resid_pre", "L2.resid_post"],
        edit=[edits.scale("L2.resid_pre", 2.0), edits.skip(2)],
    )
    close(seen["L2.resid_post"], 2 * clean("L2.resid_pre"), 0)


@pytest.mark.parametrize(("sublayer", "site"), [("attention", "L2.attn_out"), ("mlp", "L2.mlp_out")])
def test_a_skipped_sublayer_adds_nothing_and_the_other_sees_the_rest(sublayer: str, site: str) -> None:
    seen = run(
        model(),
        IDS,
        read=["L2.resid_pre", "L2.attn_out", "L2.mlp_out", "L2.resid_post"],
        edit=[edits.skip(2, sublayer)],
    )
    assert float(seen[site].abs().max()) == 0
    close(seen["L2.resid_post"], seen["L2.resid_pre"] + seen["L2.attn_out"] + seen["L2.mlp_out"])
    if sublayer == "attention":
        assert float((seen["L2.mlp_out"] - clean("L2.mlp_out")).abs().max()) > 1e-3


def test_a_state_space_mixer_is_skipped_by_its_own_word() -> None:
    mamba = tiny("mamba", torch.float64)
    seen = run(mamba, IDS, read=["L1.resid_pre", "L1.ssm_out", "L1.resid_post"], edit=[edits.skip(1, "ssm")])
    assert float(seen["L1.ssm_out"].abs().max()) == 0
    close(seen["L1.resid_post"], seen["L1.resid_pre"])


def test_a_scaled_write_is_edited_as_it_is_added() -> None:
    falcon = tiny("falcon_h1", torch.float64)
    value = vector(falcon.anatomy.d_model)
    sites = ["L1.resid_pre", "L1.attn_out", "L1.ssm_out", "L1.resid_mid"]
    seen = run(falcon, IDS, read=sites, edit=[edits.mean("L1.attn_out", value)])
    close(seen["L1.attn_out"], value.expand_as(seen["L1.attn_out"]))
    close(seen["L1.resid_mid"], seen["L1.resid_pre"] + value + seen["L1.ssm_out"])


def test_directions_that_are_not_independent_remove_their_span_and_no_more() -> None:
    site, direction = "L2.resid_post", vector(32)
    thrice = torch.stack([direction, -2 * direction, torch.zeros(32, dtype=torch.float64)])
    close(edited(site, edits.project_out(site, thrice)), without(clean(site), direction))


def test_two_directions_are_removed_with_everything_between_them() -> None:
    site, pair = "L2.resid_post", torch.stack([vector(32, 1), vector(32, 2)])
    left = edited(site, edits.project_out(site, pair))
    close(left @ pair.T, torch.zeros(2, 8, 2, dtype=torch.float64))
    removed = (clean(site) - left).reshape(-1, 32)
    shares = torch.linalg.lstsq(pair.T, removed.T).solution
    close(shares.T @ pair, removed)


def test_no_directions_remove_nothing() -> None:
    site = "L2.resid_post"
    close(edited(site, edits.project_out(site, torch.zeros(2, 32))), clean(site), 0)


@pytest.mark.parametrize(
    ("site", "error", "words"),
    [
        ("L1.atn_out", UnknownName, "attn_out"),
        ("1.attn_out", BadInput, "write it as"),
        ("L9.attn_out", BadInput, "layers 0 to 3"),
        ("L1.H7.head_out", BadInput, "heads 0 to 3"),
        ("L1.ssm_out", Refused, "no state-space"),
        ("L1.H1.mlp_out", BadInput, "only head_out has heads"),
    ],
)
def test_a_site_that_does_not_exist_is_a_clear_error(site: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        run(model(), IDS, read=["L1.resid_post"], edit=[edits.zero(site)])
    with pytest.raises(error, match=words):
        run(model(), IDS, read=[site])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: edits.zero("L1.attn_out", torch.ones(5, dtype=torch.bool)), "5 positions"),
        (lambda: edits.mean("L1.attn_out", torch.zeros(31)), "31"),
        (lambda: edits.add("L1.attn_out", torch.zeros(33)), "33"),
        (lambda: edits.project_out("L1.attn_out", torch.zeros(1, 30)), "30"),
        (lambda: edits.replace_with("L1.attn_out", torch.zeros(2, 7, 32)), "7"),
        (lambda: edits.resample("L1.attn_out", torch.zeros(3, 8, 32)), "3"),
    ],
)
def test_a_value_that_does_not_fit_is_a_clear_error(make: Callable[[], Edit], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        run(model(), IDS, read=["L1.attn_out"], edit=[make()])


def test_a_sublayer_that_is_none_is_a_clear_error() -> None:
    with pytest.raises(BadInput, match="block, attention, ssm or mlp"):
        edits.skip(1, "attn")
