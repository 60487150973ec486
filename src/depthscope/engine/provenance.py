"""Where numbers come from: the identity of a model, and what the manifest says of a run."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

import depthscope
from depthscope.engine.source import Source
from depthscope.materials.frequency import vocabulary
from depthscope.runtime.fingerprint import weights_hash
from depthscope.runtime.model import Model

_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow")


def hashed(model: Model) -> Model:
    """The model with a hash of its weights in its provenance, taken now where it was built in memory."""
    if model.provenance.get("weights_hash"):
        return model
    return replace(model, provenance={**model.provenance, "weights_hash": weights_hash(model.net)})


def identity(model: Model) -> dict[str, Any]:
    """What must be equal for two runs to be of one model: name, revision, weights, type, device, kernel."""
    return {
        "model": model.name,
        "revision": model.provenance.get("revision"),
        "weights_hash": model.provenance.get("weights_hash"),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "kernel": str(getattr(model.config, "_attn_implementation", "")),
    }


def described(model: Model, text: Source, seed: int, sample: Mapping[str, int]) -> dict[str, Any]:
    """Model, data, versions, threads and seed, for the manifest."""
    anatomy, found = model.anatomy, identity(model)
    return {
        "depthscope": depthscope.__version__,
        "model": {
            "name": found["model"],
            "revision": found["revision"],
            "weights_hash": found["weights_hash"],
            "family": anatomy.name,
            "guessed_family": anatomy.guessed,
            "dtype": found["dtype"],
            "device": found["device"],
            "attention": found["kernel"],
            "n_layers": anatomy.n_layers,
            "n_heads": anatomy.n_heads,
            "n_kv_heads": anatomy.n_kv_heads,
            "d_model": anatomy.d_model,
            "d_vocab": anatomy.d_vocab,
            "tokenizer": vocabulary(model.tokenizer)[0] if hasattr(model.tokenizer, "__len__") else None,
            "kind_of_layer": list(anatomy.kind_of_layer),
            "parameters": sum(p.numel() for p in model.net.parameters()),
        },
        "data": {**text.described(), "sample": dict(sample)},
        "seed": seed,
        "threads": torch.get_num_threads(),
        "kernel": found["kernel"],
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
    }
