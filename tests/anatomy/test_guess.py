"""Architectures that no family declares: what a guess finds, when the laws refuse it, what is then said."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
import transformers

from depthscope.anatomy.family import Family
from depthscope.anatomy.guess import describe, families_by_type, family_of, literal
from depthscope.errors import UnsupportedModel
from depthscope.registry import FAMILIES
from depthscope.runtime.tiny import assembled
from depthscope.runtime.verify import verify

SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def foreign(config_class: str, auto: str = "AutoModelForCausalLM", **changes: Any) -> torch.nn.Module:
    config = getattr(transformers, config_class)(**{**SIZES, **changes})
    torch.manual_seed(0)
    net = getattr(transformers, auto).from_config(config).eval().double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return net


def broken_laws(net: torch.nn.Module, family: Family, name: str) -> list[int]:
    return [v.law for v in verify(assembled(net, family, name)) if v.status == "broken"]


@pytest.mark.parametrize(
    ("config_class", "changes", "parallel"),
    [
        ("StableLmConfig", {}, False),
        ("StableLmConfig", {"use_parallel_residual": True}, True),
        ("CohereConfig", {}, True),
        ("Starcoder2Config", {}, False),
        ("GPTBigCodeConfig", {"n_embd": 32, "n_head": 4, "n_layer": 4}, False),
        (
            "Qwen2MoeConfig",
            {
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 16,
                "shared_expert_intermediate_size": 16,
                "experts_implementation": "eager",
            },
            False,
        ),
    ],
)
def test_a_guess_of_a_common_layout_breaks_no_law(config_class: str, changes: dict, parallel: bool) -> None:
    net = foreign(config_class, **changes)
    family, name, guessed = family_of(net)
    assert guessed
    assert name == net.config.model_type
    assert assembled(net, family, name).anatomy.parallel is parallel
    assert broken_laws(net, family, name) == []


@pytest.mark.parametrize(
    ("config_class", "changes"),
    [
        ("GraniteConfig", {"residual_multiplier": 0.5}),
        ("Glm4Config", {"head_dim": 8}),
        ("BloomConfig", {"n_layer": 4, "n_head": 4}),
    ],
    ids=["scaled writes", "norms after the sublayers", "the sum inside the sublayer"],
)
def test_a_guess_that_misses_what_is_added_breaks_law_1(config_class: str, changes: dict) -> None:
    net = foreign(config_class, **changes)
    family, name, _ = family_of(net)
    assert 1 in broken_laws(net, family, name)


def test_the_printed_literal_is_the_guess_and_two_lines_more_make_granite_hold() -> None:
    net = foreign("GraniteConfig", residual_multiplier=0.5, logits_scaling=4.0, embedding_multiplier=3.0)
    family, name, _ = family_of(net)
    text = literal(family)
    space: dict[str, Any] = {}
    exec(text, space)
    assert space["FAMILY"] == family
    repaired = text.replace(
        "FAMILY = Family(\n",
        'FAMILY = Family(\n    attn_scale="residual_multiplier",\n    mlp_scale="residual_multiplier",\n',
    )
    exec(repaired, space)
    assert broken_laws(net, space["FAMILY"], name) == []


def test_without_a_guess_the_message_says_what_is_there_and_what_to_write() -> None:
    net = foreign("RobertaConfig", "AutoModelForMaskedLM")
    with pytest.raises(UnsupportedModel) as raised:
        family_of(net)
    message = str(raised.value)
    for said in (
        "'roberta'",
        "encoder.layer",
        "attention (RobertaAttention)",
        "families/",
        "FAMILY = Family(",
    ):
        assert said in message
    assert describe(net) in message


def test_a_declared_model_type_is_never_guessed() -> None:
    net = foreign("MistralConfig", sliding_window=5)
    assert family_of(net) == (FAMILIES["llama"], "llama", False)


def test_every_model_type_belongs_to_one_family() -> None:
    declared = [kind for name in FAMILIES.names for kind in FAMILIES[name].model_types]
    assert len(declared) == len(set(declared))
    assert set(families_by_type()) == set(declared)
    assert {families_by_type()[name] for name in ("mistral", "qwen2", "smollm3")} == {"llama"}


def test_importing_the_anatomy_imports_no_family() -> None:
    code = (
        "import sys, depthscope.anatomy.guess; "
        "print([m for m in sys.modules if m.startswith('depthscope.anatomy.families.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
