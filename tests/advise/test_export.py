"""Exports: the same test on every family, the traps that give wrong numbers silently, and a folder whole or absent."""

from __future__ import annotations

import copy
import json
import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from depthscope.advise import export as exporting
from depthscope.advise.export import export
from depthscope.advise.shorten import shortened
from depthscope.errors import BadInput, LawBroken, Refused, StoreFull
from depthscope.registry import FAMILIES
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

REFUSED = dict.fromkeys(("bert", "dinov2", "vit"), "is no causal language model")
REMOVED = {"jamba": (0,), "zamba2": (0, 2), "rwkv": (1, 2), "gemma3_text": (1, 5)}
"""What goes where the rule of the family allows only some sets; layers 1 and 2 everywhere else."""


@pytest.fixture(scope="module")
def llama() -> Model:
    return tiny("llama", torch.float32)


@pytest.fixture(autouse=True)
def few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "WRITTEN", 6)


def kept(model: Model, *removed: int) -> list[int]:
    return [k for k in range(model.anatomy.n_layers) if k not in removed]


@torch.no_grad()
def skipped(model: Model, ids: torch.Tensor, removed: tuple[int, ...]) -> torch.Tensor:
    """Logits of the original network whose removed blocks hand on what they got, by plain hooks."""

    def out(_: Any, args: Any, kwargs: Any, result: Any) -> Any:
        stream = args[0] if args else kwargs["hidden_states"]
        return (stream, *result[1:]) if isinstance(result, tuple) else stream

    blocks = [model.anatomy.layers[k].block for k in removed]
    hooks = [block.register_forward_hook(out, with_kwargs=True) for block in blocks]
    try:
        return cast(Any, model.net)(input_ids=ids, use_cache=False).logits
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("family", FAMILIES.names)
def test_every_family_loads_plainly_and_computes_what_skipping_computes(family: str, tmp_path: Path):
    model = tiny(family, torch.float32)
    removed = REMOVED.get(family, (1, 2))
    if family in REFUSED:
        with pytest.raises(Refused, match=REFUSED[family]):
            export(model, kept(model, *removed), tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return
    found = export(model, kept(model, *removed), tmp_path / "out")
    net = cast(Any, AutoModelForCausalLM.from_pretrained(tmp_path / "out"))
    ids = torch.randint(3, 90, (1, 30), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = net(input_ids=ids, use_cache=False).logits
    assert_close(
        logits, skipped(model, ids, removed), rtol=0, atol=1e-5 * max(1.0, float(logits.abs().max()))
    )
    assert (found.removed, net.config.num_hidden_layers) == (removed, model.anatomy.n_layers - len(removed))
    assert max(found.checks.logits, found.checks.cached) <= found.checks.tolerance == 1e-5


def test_gpt2_that_scales_by_depth_is_made_up_for(tmp_path: Path):
    model = tiny("gpt2", torch.float32, scale_attn_by_inverse_layer_idx=True)
    own = [p.clone() for p in model.net.parameters()]
    export(model, kept(model, 0, 2), tmp_path / "out")
    for before, after in zip(own, model.net.parameters(), strict=True):
        assert_close(after, before, rtol=0, atol=0)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    old = cast(Any, model.net).transformer.h[3].attn.c_attn.weight
    assert_close(weights["transformer.h.1.attn.c_attn.weight"][:, :32], old[:, :32] * (2 / 4))


def test_a_network_that_takes_softmax_in_float32_is_exported_in_float64_too(tmp_path: Path):
    model = tiny("gemma2", torch.float64)
    made = export(model, kept(model, 1), tmp_path / "out")
    assert made.checks.logits <= 1e-6


@pytest.mark.parametrize(
    ("family", "rule", "changes"),
    [
        ("gemma2", "layer_types", {}),  # windows of the wrong layers
        ("gpt2", "fold", {"scale_attn_by_inverse_layer_idx": True}),
    ],
)
def test_a_forgotten_rule_is_caught_and_nothing_is_left(
    family: str, rule: str, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from depthscope.advise import shorten

    model = tiny(family, torch.float32, **changes)
    if rule == "fold":
        monkeypatch.setattr(shorten, "_folded", lambda *_: {})
    else:

        def forgetful(config: Any, layers: Any, depth: int) -> Any:
            found = copy.deepcopy(config)
            found.num_hidden_layers, found.layer_types = len(layers), config.layer_types[: len(layers)]
            return found

        monkeypatch.setattr(shorten, "reduced", forgetful)
    with pytest.raises(LawBroken, match=r"layers of kinds|other logits than skipping \[1\]"):
        export(model, kept(model, 1), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_shortening_shares_weights_and_changes_nothing(llama: Model):
    short = shortened(llama, [0, 3])
    assert short.anatomy.n_layers == 2
    assert short.name == "tiny-llama, without layers 1, 2"
    first = {p.data_ptr() for p in llama.net.parameters()}
    assert {p.data_ptr() for p in short.net.parameters()} <= first
    assert llama.anatomy.n_layers == llama.config.num_hidden_layers == 4


def test_the_folder_says_what_was_removed_and_from_what(llama: Model, tmp_path: Path):
    export(llama, kept(llama, 1), tmp_path / "out", findings="- It costs 3 nats.")
    about = json.loads((tmp_path / "out" / "depthscope.json").read_text())
    assert (about["kept"], about["removed"], about["base"]["layers"]) == ([0, 2, 3], [1], 4)
    card = (tmp_path / "out" / "README.md").read_text()
    for said in ('base_model: "tiny-llama"', "Removed (numbers of the original, from 0): 1.", "Kept: 0, 2-3.",
                 "- It costs 3 nats.", "arithmetic goes before facts"):  # fmt: skip
        assert said in card
    recipe = (tmp_path / "out" / "mergekit.yml").read_text()
    assert [line.split(":")[1].strip() for line in recipe.splitlines() if "layer_range:" in line] == [
        "[0, 1]",
        "[2, 4]",
    ]


def test_a_sublayer_that_is_zeroed_is_a_labelled_preview(llama: Model, tmp_path: Path):
    found = export(llama, kept(llama, 2), tmp_path / "out", zeroed=[(1, "attention"), (3, "mlp")])
    weights = load_file(tmp_path / "out" / "model.safetensors")
    zeros = [name for name, tensor in weights.items() if not tensor.any()]
    assert zeros == ["model.layers.1.self_attn.o_proj.weight", "model.layers.2.mlp.down_proj.weight"]
    assert found.checks.logits <= 1e-5
    assert (
        "**Quality preview.** The output projections of attention of layer 1, mlp of layer 3"
        in (tmp_path / "out" / "README.md").read_text()
    )


@contextmanager
def room(limit: int) -> Generator[None]:
    """Files may not grow beyond some bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [200, 20_000], ids=["in the configuration", "in the weights"])
def test_a_disk_that_fills_leaves_nothing(llama: Model, tmp_path: Path, limit: int):
    with room(limit), pytest.raises(StoreFull, match=r"File too large"):
        export(llama, kept(llama, 1), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    export(llama, kept(llama, 1), tmp_path / "out")


def test_an_export_that_is_stopped_leaves_nothing(
    llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stopped(*_: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "model_card", stopped)
    with pytest.raises(KeyboardInterrupt):
        export(llama, kept(llama, 1), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_requests_that_cannot_be_met_are_refused_before_anything_is_written(llama: Model, tmp_path: Path):
    out = tmp_path / "out"
    with pytest.raises(BadInput, match=r"layers \[4, 7\] do not exist; tiny-llama has layers 0 to 3"):
        export(llama, [0, 4, 7], out)
    with pytest.raises(BadInput, match="at least one and each once"):
        export(llama, [0, 0], out)
    with pytest.raises(BadInput, match="name attention or mlp of a layer that is kept"):
        export(llama, [0, 1], out, zeroed=[(3, "mlp")])
    with pytest.raises(Refused, match="block 0 of tiny-rwkv holds the norm"):
        export(tiny("rwkv"), [1, 2, 3], out)
    jamba = tiny("jamba")
    with pytest.raises(Refused, match="no such rule gives layers"):
        export(jamba, kept(jamba, 2), out)
    out.mkdir()
    with pytest.raises(BadInput, match="exists already"):
        export(llama, [0, 1], out)
