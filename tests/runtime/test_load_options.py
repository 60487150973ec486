"""Options of loading: they reach the network, or are refused with what was asked before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from depthscope.errors import BadInput, DepthscopeError, UnknownName
from depthscope.runtime.load import load, recipe_load


@pytest.mark.parametrize(
    ("asked", "kind", "said"),
    [
        ({"device": "cudaa"}, BadInput, "--device cudaa: .*Use cpu"),
        ({"device": "cuda:77"}, BadInput, "--device cuda:77: .*Use cpu"),
        ({"device": "meta"}, BadInput, "--device meta: it holds no numbers"),
        (
            {"attn_implementation": "sdpb"},
            UnknownName,
            "unknown attention kernel 'sdpb'; did you mean 'sdpa'",
        ),
        ({"revision": "v9"}, BadInput, "revision='v9' belongs to a hub id, and tiny-llama is none"),
        ({"device_map": "auto"}, BadInput, "device_map='auto' belongs to a checkpoint"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_was_asked(
    asked: dict[str, Any], kind: type[DepthscopeError], said: str
):
    with pytest.raises(kind, match=said) as caught:
        load("tiny-llama", **asked)
    assert caught.value.exit_code == 2


def test_a_revision_of_what_is_no_hub_id_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="belongs to a hub id"):
        load(tmp_path, revision="main")


def test_a_tiny_model_runs_the_kernel_that_was_asked_for_and_is_loaded_so_again():
    model = load("tiny-llama", attn_implementation="eager", device="cpu")
    again = recipe_load(model.provenance["recipe"])
    assert [m.config._attn_implementation for m in (model, again)] == ["eager", "eager"]
    assert load("tiny-llama").config._attn_implementation == "sdpa"
