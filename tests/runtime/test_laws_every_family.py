"""Every family's laws, what breaking one of its paths does, and the rules of replay, on tiny models."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch

from depthscope.anatomy.family import Family
from depthscope.errors import Refused
from depthscope.registry import FAMILIES
from depthscope.runtime import edits
from depthscope.runtime.hooks import Tape, hooked
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.replay import Parallel, replay
from depthscope.runtime.run import Seen, run
from depthscope.runtime.sweep import skip_variants, sweep
from depthscope.runtime.tiny import assembled, tiny
from depthscope.runtime.verify import Verdict, probe, verify

DTYPES = {
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}

# One letter a law, 1 to 6: h holds, n not applicable, r refused.
EXPECTED = {
    "bert": "hhhhhh",
    "deepseek_v3": "hhhhhh",
    "dinov2": "hhhhhh",
    "falcon_h1": "hhhhhh",
    "gemma2": "hhhhhh",
    "gemma3_text": "hhhhhh",
    "gpt2": "hhhhhh",
    "gpt_neox": "hhhhhh",
    "gpt_oss": "hhhhhh",
    "jamba": "hhhhhh",
    "lfm2": "hhhhhh",
    "llama": "hhhhhh",
    "mamba": "hhnhhn",
    "mamba2": "hhnhhn",
    "mixtral": "hhhhhh",
    "olmo2": "hhhhhh",
    "opt": "hhhhhh",
    "phi3": "hhhhhh",
    "qwen3": "hhhhhh",
    "qwen3_moe": "hhhhhh",
    "qwen3_next": "hhhhhh",
    "recurrent_gemma": "hhhhhh",
    "rwkv": "hhnhhn",
    "vit": "hhhhhh",
    "xlstm": "hhnhhn",
    "zamba2": "hhrhhr",
}
SHARED = "its attention is in a shared transformer that feeds the mixer and writes nothing to the stream"
REASONS = {
    ("zamba2", 3): SHARED,
    ("zamba2", 6): SHARED,
    **{(name, 3): "no layer has softmax attention" for name in ("mamba", "mamba2", "rwkv", "xlstm")},
    **{
        (name, 6): "no layer has attention heads with an output projection"
        for name in ("mamba", "mamba2", "rwkv", "xlstm")
    },
}

# What one literal serves besides its own tiny configuration.
SERVED = {
    "mistral": ("llama", "MistralConfig", {"sliding_window": 5}),
    "qwen2": (
        "llama",
        "Qwen2Config",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2},
    ),
    "smollm3": ("llama", "SmolLM3Config", {"no_rope_layers": [1, 1, 1, 0]}),
    "olmo3": ("olmo2", "Olmo3Config", {"sliding_window": 5}),
    "exaone4": ("olmo2", "Exaone4Config", {"sliding_window": 5, "sliding_window_pattern": 2}),
    "gpt_neox, sequential": ("gpt_neox", "", {"use_parallel_residual": False}),
    "gpt2, other scales": (
        "gpt2",
        "",
        {"scale_attn_by_inverse_layer_idx": True, "tie_word_embeddings": False},
    ),
    "deepseek_v3, dense queries": ("deepseek_v3", "", {"q_lora_rank": None}),
    "zamba2, adapters": (
        "zamba2",
        "",
        {"use_shared_attention_adapter": True, "adapter_rank": 4, "use_mem_rope": True},
    ),
    "mamba, fp32 residual": ("mamba", "", {"residual_in_fp32": True}),
    "dinov2, gated": ("dinov2", "", {"use_swiglu_ffn": True}),
    "dinov2, registers": ("dinov2", "Dinov2WithRegistersConfig", {}),
    "phi3, full": ("phi3", "", {"sliding_window": None}),
}


@functools.cache
def model_of(name: str, dtype: torch.dtype = torch.float64) -> Model:
    return tiny(name, dtype)


def told(name: str, verdict: Verdict) -> tuple[str, str]:
    return {"holds": "h", "not applicable": "n", "refused": "r", "broken": "b"}[verdict.status], (
        verdict.reason if verdict.status != "holds" else ""
    )


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FAMILIES.names)
def test_every_family_keeps_the_laws_that_the_table_says(name: str, dtype: str) -> None:
    found = {v.law: told(name, v) for v in verify(model_of(name, DTYPES[dtype]))}
    expected = {k: (letter, REASONS.get((name, k), "")) for k, letter in enumerate(EXPECTED[name], start=1)}
    assert found == expected


@pytest.mark.parametrize("case", list(SERVED))
def test_a_literal_serves_its_other_model_types_and_options(case: str) -> None:
    name, config_class, changes = SERVED[case]
    dtype = torch.float32 if "fp32" in case else torch.float64
    model = tiny(name, dtype, config_class=config_class, **changes)
    statuses = {v.law: told(name, v) for v in verify(model)}
    expected = {k: (letter, REASONS.get((name, k), "")) for k, letter in enumerate(EXPECTED[name], start=1)}
    assert statuses == expected


# What is put in a path's place: a module that exists, gives a tensor of the same shape, and is wrong.
NOTHING = {"final_norm": None}
WRONG: dict[str, list[dict[str, object]]] = {
    "bert": [
        {"attn_write": ("attention.output",)},
        {"mlp_write": ("output",)},
        {"attn_proj": ("attention.self.query",)},
        {"attn_norm": "output.LayerNorm"},
        {"mlp_norm": "attention.output.LayerNorm"},
        {"post_norm": False},
        {"readout": ()},
        {"final_norm": "embeddings.LayerNorm"},
    ],
    "deepseek_v3": [
        {"attn_write": ("input_layernorm",)},
        {"mlp_write": ("post_attention_layernorm",)},
        {"attn_proj": ("mlp.down_proj", "mlp.shared_experts.down_proj")},
        NOTHING,
    ],
    "dinov2": [
        {"attn_write": ()},
        {"attn_write": ("norm1",)},
        {"mlp_write": ()},
        {"mlp_write": ("norm2",)},
        {"attn_proj": ("attention.q_proj",)},
        NOTHING,
    ],
    "falcon_h1": [
        {"attn_write": ("input_layernorm",)},
        {"ssm_write": ("input_layernorm",)},
        {"mlp_write": ("pre_ff_layernorm",)},
        {"attn": ("feed_forward",), "attn_write": ("self_attn",)},
        {"ssm": (), "ssm_write": ()},
        {"attn_scale": None},
        {"ssm_scale": None},
        {"logit_scale": None},
        {"attn_proj": ("self_attn.q_proj",)},
        NOTHING,
    ],
    "gemma2": [
        {"attn_write": ()},
        {"mlp_write": ()},
        {"attn_write": ("input_layernorm",)},
        {"mlp_write": ("pre_feedforward_layernorm",)},
        {"attn_proj": ("self_attn.k_proj",)},
        {"logit_cap": None},
        NOTHING,
    ],
    "gemma3_text": [
        {"attn_write": ()},
        {"mlp_write": ()},
        {"attn_write": ("input_layernorm",)},
        {"mlp_write": ("pre_feedforward_layernorm",)},
        {"attn_proj": ("self_attn.k_proj",)},
        NOTHING,
    ],
    "gpt2": [
        {"attn_write": ("ln_1",)},
        {"mlp_write": ("ln_2",)},
        {"attn_proj": ("mlp.c_proj",)},
        {"parallel": True},
        NOTHING,
    ],
    "gpt_neox": [
        {"attn_write": ("input_layernorm",)},
        {"mlp_write": ("post_attention_layernorm",)},
        {"attn_proj": ("mlp.dense_4h_to_h",)},
        {"parallel": False},
        NOTHING,
    ],
    "gpt_oss": [
        {"attn_write": ("input_layernorm",)},
        {"mlp_write": ("post_attention_layernorm",)},
        {"attn_proj": ("self_attn.q_proj",)},
        NOTHING,
    ],
    "jamba": [
        {"attn_write": ("input_layernorm",)},
        {"ssm_write": ("input_layernorm",)},
        {"mlp_write": ("pre_ff_layernorm",)},
        {"attn_proj": ("self_attn.q_proj",)},
        {"ssm": ()},
        NOTHING,
    ],
    "lfm2": [
        {"attn_write": ("operator_norm",)},
        {"ssm_write": ("operator_norm",)},
        {"mlp_write": ("ffn_norm",)},
        {"attn_proj": ("self_attn.q_proj",)},
        NOTHING,
    ],
    "llama": [
        {"attn_write": ("input_layernorm",)},
        {"mlp_write": ("post_attention_layernorm",)},
        {"attn": ("mlp",), "attn_write": ("self_attn",)},
        {"mlp": ("self_attn",)},
        {"attn_proj": ("self_attn.q_proj",)},
        {"logit_scale": "hidden_size"},
        {"parallel": True},
        NOTHING,
    ],
    "mamba": [{"ssm_write": ("norm",)}, {"ssm": ("norm",)}, NOTHING],
    "mamba2": [{"ssm_write": ("norm",)}, {"ssm": ("norm",)}, NOTHING],
    "mixtral": [
        {"attn_write": ("input_layernorm",)},
        {"mlp_write": ("post_attention_layernorm",)},
        {"attn_proj": ("self_attn.q_proj",)},
        NOTHING,
    ],
    "olmo2": [
        {"attn_write": ()},
        {"mlp_write": ()},
        {"attn_write": ("post_feedforward_layernorm",)},
        {"attn_proj": ("self_attn.q_proj",)},
        NOTHING,
    ],
    "opt": [
        {"attn_write": ("self_attn_layer_norm",)},
        {"mlp_write": ("final_layer_norm",)},
        {"attn_proj": ("self_attn.q_proj",)},
        NOTHING,
    ],
    "phi3": [
        {"attn_write": ("input_layernorm",)},
        {"mlp_write": ("post_attention_layernorm",)},
        {"attn_proj": ("mlp.down_proj",)},
        NOTHING,
    ],
    "qwen3": [
        {"attn_write": ("input_layernorm",)},
        {"mlp_write": ("post_attention_layernorm",)},
        {"attn_proj": ("self_attn.k_proj",)},
        NOTHING,
    ],
    "qwen3_moe": [
        {"attn_write": ("input_layernorm",)},
        {"mlp_write": ("post_attention_layernorm",)},
        {"attn_proj": ("self_attn.k_proj",)},
        NOTHING,
    ],
    "qwen3_next": [
        {"attn_write": ("input_layernorm",)},
        {"ssm_write": ("input_layernorm",)},
        {"mlp_write": ("post_attention_layernorm",)},
        {"attn_proj": ("mlp.down_proj", "mlp.shared_expert.down_proj")},
        {"ssm": ()},
        NOTHING,
    ],
    "recurrent_gemma": [
        {"attn_write": ("temporal_pre_norm",)},
        {"ssm_write": ("temporal_pre_norm",)},
        {"mlp_write": ("channel_pre_norm",)},
        {"attn_proj": ("temporal_block.q_proj",)},
        {"logit_cap": None},
        NOTHING,
    ],
    "rwkv": [
        {"ssm_write": ("ln1",)},
        {"mlp_write": ("ln2",)},
        {"mlp_write": ("feed_forward.value",)},
        {"pre": None},
        {"overrides": {"rescale_every": 2}},
        NOTHING,
    ],
    "vit": [
        {"attn_write": ("layernorm_before",)},
        {"mlp_write": ("layernorm_after",)},
        {"attn_proj": ("attention.q_proj",)},
        NOTHING,
    ],
    "xlstm": [
        {"ssm_write": ("norm_mlstm",)},
        {"mlp_write": ("norm_ffn",)},
        {"logit_cap": None},
        NOTHING,
    ],
    "zamba2": [
        {"ssm_write": ("input_layernorm", "mamba_decoder.input_layernorm")},
        {"ssm": ("mamba", "linear")},
        NOTHING,
    ],
}
SABOTAGES = [(name, change) for name, changes in WRONG.items() for change in changes]


def label(case: object) -> str:
    return case if isinstance(case, str) else ", ".join(f"{k}={v}" for k, v in dict(case).items())  # type: ignore[call-overload]


@pytest.mark.parametrize(("name", "change"), SABOTAGES, ids=label)
def test_a_wrong_path_of_a_family_breaks_a_law(name: str, change: dict[str, object]) -> None:
    family = dataclasses.replace(FAMILIES[name], **change)
    net = tiny(name).net if "overrides" in change else model_of(name).net
    broken = [v.law for v in verify(assembled(net, family, name), laws=(1, 2, 6)) if v.status == "broken"]
    assert broken


@pytest.mark.parametrize("name", FAMILIES.names)
def test_every_family_has_a_sabotage_for_each_of_its_writes_and_its_final_norm(name: str) -> None:
    family: Family = FAMILIES[name]
    tried = {key for change in WRONG[name] for key in change}
    kinds = [kind for kind in ("attn", "ssm", "mlp") if getattr(family, kind)]
    scales = [f"{kind}_scale" for kind in kinds if getattr(family, f"{kind}_scale")]
    needed = {f"{kind}_write" for kind in kinds} | set(scales) | {"final_norm"}
    assert needed | ({"attn_proj"} if family.attn else set()) <= tried


CAUSAL = [name for name in FAMILIES.names if FAMILIES[name].head_class == "causal"]


def recorded(model: Model) -> Seen:
    return run(model, probe(model, rows=2, length=10), read=["L0.resid_pre", "L*.resid_post"], record=True)


def block_writes(seen: Seen) -> torch.Tensor:
    states = torch.stack([seen.tensors[site] for site in seen.model.anatomy.states()])
    return states[1:] - states[:-1]


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    a, b = p.log_softmax(-1), q.log_softmax(-1)
    return (a.exp() * (a - b)).sum(-1)


@pytest.mark.parametrize("name", CAUSAL)
def test_the_staircase_equals_one_full_pass_a_variant(name: str) -> None:
    model = model_of(name)
    seen = recorded(model)
    at = torch.ones_like(seen.batch.mask)
    at[:, 0] = False
    variants = skip_variants(model.anatomy, ("block", "attention", "mlp"))
    found = sweep(seen, variants, at, at)
    last = f"L{model.anatomy.n_layers - 1}.resid_post"
    clean = model.head.logits(seen[last])
    for place, variant in enumerate(variants):
        edited = run(model, seen.batch, read=["L0.resid_pre", "L*.resid_post"], edit=variant.at(at).edits)
        expected = (kl(clean, model.head.logits(edited[last])) * at).sum(-1)
        torch.testing.assert_close(found.output_kl[place], expected, rtol=1e-9, atol=1e-9)
        moved = block_writes(edited) - block_writes(seen)
        moved[: variant.start()] = 0.0
        torch.testing.assert_close(
            found.changed[place], (moved.norm(dim=-1) * at).sum(-1).double(), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("name", FAMILIES.names)
def test_replays_with_edits_leave_no_trace_in_the_recorded_pass(name: str) -> None:
    model = model_of(name)
    batch = probe(model)
    clean = run(model, batch, read=["L0.resid_pre", "L*.resid_post"], record=True)
    before = {site: value.clone() for site, value in clean.tensors.items()}
    n_layers = model.anatomy.n_layers
    replay(clean, 0, edit=[edits.skip(1), edits.scale("L0.resid_post", 3.0)])
    replay(
        clean,
        0,
        order=[1, 0, Parallel((2, 1)), *range(2, n_layers)],
        edit=[edits.scale("L2.resid_post", 0.5)],
    )
    again = replay(clean, 0, read=["L*.resid_post"])
    for site, value in before.items():
        torch.testing.assert_close(clean[site], value, rtol=0, atol=0)
        torch.testing.assert_close(again[site] if site in again.tensors else value, value, rtol=0, atol=1e-12)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.net.modules())


@pytest.mark.parametrize("name", CAUSAL)
def test_a_recorded_call_that_carries_a_cache_is_refused(name: str) -> None:
    model = model_of(name)
    batch = Batch.of_ids(torch.randint(3, 96, (2, 6)))
    clean = run(model, batch, read=["L0.resid_pre", "L*.resid_post"], record=True)
    calls: dict = {}
    tapes = [
        Tape(x.block, lambda args, kwargs, k=x.index: calls.__setitem__(k, (args, kwargs)))
        for x in model.anatomy.layers
    ]
    with torch.no_grad(), hooked(tapes):
        model.net(**batch.inputs, use_cache=True)
    cached = dataclasses.replace(clean, calls=calls)
    with pytest.raises(Refused, match="cache"):
        replay(cached, 0)
