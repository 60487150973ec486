"""Heads wired by hand: previous token, self, first, everywhere; windows and learned sinks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import LENGTH, look

from depthscope.analyses.head_patterns import HeadPatterns
from depthscope.errors import BadInput, Refused
from depthscope.results.result import Result
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

TEXTS = [f"text number {k} of as many tokens" for k in range(9)]
EVERY = 5
QUERIES = np.arange(1, LENGTH, EVERY)
PREVIOUS, SELF, FIRST, EVERYWHERE = range(4)
WIDTH, D_HEAD = 128, 32


def wired() -> Model:
    """A gpt2 of one layer that sees positions only; each head's key is its position, its query the one it looks for."""
    model = tiny("gpt2", torch.float64, n_layer=1, n_embd=WIDTH, n_positions=64)
    base = model.net.transformer
    seen = torch.eye(D_HEAD, dtype=torch.float64)
    wanted = {PREVIOUS: seen.roll(-1, 1), SELF: seen, FIRST: torch.zeros_like(seen)}
    wanted[FIRST][:, 0] = 1
    weight = torch.zeros(WIDTH, 3 * WIDTH, dtype=torch.float64)
    for head, target in wanted.items():
        columns = slice(head * D_HEAD, (head + 1) * D_HEAD)
        weight[:D_HEAD, columns] = 100 * target
        weight[:D_HEAD, WIDTH + columns.start : WIDTH + columns.stop] = seen
    with torch.no_grad():
        base.wte.weight.zero_()  # type: ignore[union-attr, operator]
        base.wpe.weight.copy_(torch.eye(64, WIDTH))  # type: ignore[union-attr, operator]
        block = base.h[0]  # type: ignore[union-attr, index]
        block.ln_1.weight.fill_(1.0)
        block.ln_1.bias.zero_()
        block.attn.c_attn.weight.copy_(weight)
        block.attn.c_attn.bias.zero_()
    return model


def scores(result: Result, layer: int, head: int) -> dict[str, float]:
    by_head = {n: m for n, m in result.findings.measurements.items() if m.value.ndim == 2}
    return {name: float(m.value[layer, head]) for name, m in by_head.items()}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return look(wired(), HeadPatterns(every_query=EVERY), tmp_path_factory.mktemp("heads"), TEXTS)


def close(found: dict[str, float], expected: dict[str, float]) -> None:
    for name, number in expected.items():
        np.testing.assert_allclose(found[name], number, atol=1e-9, err_msg=name)


def test_a_previous_token_head_looks_one_back(result: Result) -> None:
    # at query 1 the previous token is the first one, which no local mass counts
    others = (len(QUERIES) - 1) / len(QUERIES)
    expected = {"previous": 1, "distance": 1, "entropy": 0, "entropy_norm": 0, "self": 0, "first": 1 - others}
    close(scores(result, 0, PREVIOUS), {**expected, "local_8": others, "local_32": others})


def test_a_self_head_looks_at_its_own_token(result: Result) -> None:
    expected = {
        "self": 1,
        "distance": 0,
        "entropy": 0,
        "previous": 0,
        "first": 0,
        "local_8": 1,
        "local_32": 1,
    }
    close(scores(result, 0, SELF), expected)


def test_a_first_token_head_rests_on_the_first_token(result: Result) -> None:
    expected = {"first": 1, "distance": QUERIES.mean(), "entropy": 0, "self": 0, "local_8": 0, "local_32": 0}
    close(scores(result, 0, FIRST), {**expected, "previous": 1 / len(QUERIES)})


def test_a_head_that_looks_everywhere_is_uniform(result: Result) -> None:
    share = 1 / (QUERIES + 1)
    expected = {
        "entropy_norm": 1,
        "entropy": np.log(QUERIES + 1).mean(),
        "distance": (QUERIES / 2).mean(),
        "previous": share.mean(),
        "self": share.mean(),
        "first": share.mean(),
        "local_8": (np.minimum(QUERIES, 8) * share).mean(),
        "local_32": (QUERIES * share).mean(),
    }
    close(scores(result, 0, EVERYWHERE), expected)


def blind(name: str) -> Model:
    """A family whose queries are zero: every head looks at all it can see alike."""
    model = tiny(name, torch.float64)
    with torch.no_grad():
        for layer in model.anatomy.layers:
            assert layer.attn is not None
            for part in (layer.attn.module.q_proj, layer.attn.module.k_proj):
                for parameter in part.parameters():  # type: ignore[union-attr]
                    parameter.zero_()
    return model


def test_in_a_sliding_window_first_counts_only_queries_that_can_see_it(tmp_path: Path) -> None:
    model, queries = blind("gemma2"), np.arange(1, LENGTH, 2)
    result = look(model, HeadPatterns(every_query=2), tmp_path, TEXTS)
    visible = np.minimum(queries + 1, 5)
    assert model.anatomy.window_of_layer == (5, None, 5, None)
    expected = {
        "first": (1 / visible[queries < 5]).mean(),
        "previous": (1 / visible).mean(),
        "distance": ((visible - 1) / 2).mean(),
        "entropy_norm": 1,
        "local_8": ((visible - (queries < 5)) / visible).mean(),
    }
    close(scores(result, 0, 0), expected)
    close(scores(result, 1, 0), {"first": (1 / (queries + 1)).mean(), "distance": (queries / 2).mean()})
    counted = result["first"].n_items
    assert counted is not None
    assert counted[:, 0].tolist() == [9 * 2, 9 * 12, 9 * 2, 9 * 12]


def test_a_learned_sink_takes_mass_that_is_in_no_column(tmp_path: Path) -> None:
    model = blind("gpt_oss")
    full = model.anatomy.window_of_layer.index(None)
    with torch.no_grad():
        for layer in model.anatomy.layers:
            assert layer.attn is not None
            layer.attn.module.sinks.zero_()  # type: ignore[union-attr, operator]
    result = look(model, HeadPatterns(every_query=EVERY), tmp_path, TEXTS)
    share = 1 / (QUERIES + 2)
    close(
        scores(result, full, 0),
        {"first": share.mean(), "self": share.mean(), "local_32": (QUERIES * share).mean()},
    )


def test_an_encoder_looks_both_ways(tmp_path: Path) -> None:
    model = tiny("bert", torch.float64)
    with torch.no_grad():
        for block in model.net.bert.encoder.layer:  # type: ignore[union-attr]
            for part in (block.attention.self.query, block.attention.self.key):
                part.weight.zero_()
                part.bias.zero_()
    result = look(model, HeadPatterns(every_query=EVERY), tmp_path, TEXTS)
    offsets = np.abs(QUERIES[:, None] - np.arange(LENGTH)[None, :])
    expected = {"entropy": np.log(LENGTH), "entropy_norm": 1, "distance": offsets.mean(), "first": 1 / LENGTH}
    close(scores(result, 0, 0), expected)


def test_a_model_without_attention_has_no_heads_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"no layer has softmax attention heads \(its layers are: ssm\)"):
        look(tiny("mamba"), HeadPatterns(), tmp_path, TEXTS)


def test_random_weights_have_no_head_of_a_single_mind(tmp_path: Path) -> None:
    result = look(tiny("gpt2", torch.float32), HeadPatterns(every_query=EVERY), tmp_path, TEXTS)
    for name in ("previous", "first", "self"):
        assert result[name].value.max() < 0.6
    assert result["entropy_norm"].value.min() > 0.5


def test_offsets_far_keys_and_what_values_weigh(result: Result) -> None:
    profile = result["offset_profile"].value[0]
    np.testing.assert_allclose(profile[PREVIOUS, :3], [0, 1, 0], atol=1e-9)
    np.testing.assert_allclose(profile[SELF, :3], [1, 0, 0], atol=1e-9)
    assert np.isnan(profile[:, LENGTH:]).all()
    best = [scores(result, 0, head)["best_offset"] for head in (PREVIOUS, SELF)]
    assert best == [1, 0]
    # no query of these texts sees more than the nearest 256 keys; each head has keys of its own
    assert np.isnan(result["far_mass"].value).all()
    assert "longer windows" in result["far_mass"].missing
    assert np.isnan(result["kv_spread"].value).all()
    # this model writes nothing from positions, so no key weighs anything
    assert np.isnan(result["first_weighted"].value).all()


def test_mass_beyond_first_and_recent_keys_and_heads_of_one_group(tmp_path: Path) -> None:
    result = look(blind("llama"), HeadPatterns(every_query=EVERY, stream=(1, 3)), tmp_path, TEXTS)
    far = QUERIES[QUERIES >= 4]
    close(scores(result, 1, 2), {"far_mass": ((far + 1 - 4) / (far + 1)).mean(), "kv_spread": 0})


def test_a_key_weighs_as_much_as_its_value_is_long(tmp_path: Path) -> None:
    model = wired()
    with torch.no_grad():
        block = model.net.transformer.h[0]  # type: ignore[union-attr, index]
        value = block.attn.c_attn.weight[:, 2 * WIDTH :]
        value.zero_()
        value[:D_HEAD, EVERYWHERE * D_HEAD] = 1.0
        value[0, EVERYWHERE * D_HEAD] = 0.1
        block.attn.c_proj.weight.copy_(torch.eye(WIDTH))
    found = scores(look(model, HeadPatterns(every_query=EVERY), tmp_path, TEXTS), 0, EVERYWHERE)
    # the norm takes the mean over the stream from every position's unit vector, and so from every value
    mean = (D_HEAD - 1 + 0.1) / WIDTH
    light = abs(0.1 - mean) / (1 - mean)
    close(found, {"first_weighted": (light / (light + QUERIES)).mean(), "first": (1 / (QUERIES + 1)).mean()})


def test_every_pair_of_heads_is_compared_where_asked(tmp_path: Path) -> None:
    result = look(wired(), HeadPatterns(every_query=EVERY, pairs=True), tmp_path, TEXTS[:2])
    apart = result["divergence"].value[0, :, 0]
    np.testing.assert_allclose(np.diag(apart), 0, atol=1e-9)
    np.testing.assert_allclose(apart, apart.T, atol=1e-9)
    # one key against another, each smoothed by a thousandth over the keys
    assert apart[PREVIOUS, SELF] == pytest.approx(np.log(2), abs=0.01)


@pytest.mark.parametrize("stream", [(0, 0), (-1, 5)])
def test_windows_without_keys_are_refused(stream: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match="1 or more recent keys"):
        HeadPatterns(stream=stream)
