"""Published tuned lenses: their folders, their hub space, and a test that translators sit at the right states.

The layout is `config.json` (base_model_name_or_path, base_model_revision, d_model, num_hidden_layers, unembed_hash)
beside `params.pt` (a state dict "0.weight", "0.bias", ...; translator i reads hidden state i, that is state s = i
here). Published configurations also spell the hash key `unemebd_hash`.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depthscope.errors import BadInput, MissingPackage
from depthscope.runtime.head import Decode
from depthscope.runtime.lens import Lens
from depthscope.runtime.lens_folder import LensNotice, fitting
from depthscope.runtime.model import Model
from depthscope.runtime.run import run
from depthscope.runtime.verify import probe

CONFIG, PARAMETERS = "config.json", "params.pt"
SPACE, SPACE_TYPE = "AlignmentResearch/tuned-lens", "space"
"""Where published lenses are kept; TUNED_LENS_REPO_ID and TUNED_LENS_REPO_TYPE in the environment override them."""
HASH_KEYS = ("unembed_hash", "unemebd_hash")


def is_published(folder: Path) -> bool:
    """True for a folder in the published layout."""
    return (folder / CONFIG).is_file() and (folder / PARAMETERS).is_file()


def load_published(source: str | Path, model: Model, force: bool = False) -> Lens:
    """A published tuned lens for this model, from a folder or from the hub ("hub", "hub:NAME").

    The index test is run on a fixed text; its numbers are in `lens.about["index_test"]`.

    Raises:
        BadInput: for a lens of another model, revision or size, parameters that are missing, or translators that fit
            better one state away. MissingPackage: when the hub is asked and its client is not installed.
    """
    config_file, parameters = _files(source, model)
    import json

    config: dict[str, Any] = json.loads(config_file.read_text(encoding="utf-8"))
    _belongs(config, model, force)
    weight, bias = _parameters(parameters, config)
    lens = fitting(Lens("tuned", str(source), weight, bias, _about(config, source)), model)
    found = index_test(lens, model)
    if found["best"] != "as_is":
        said = f"the translators of {source} fit better one state away ({_said(found)}): they are numbered otherwise"
        if not force:
            raise BadInput(f"{said}; use a lens whose translator s reads state s, or force it")
        warnings.warn(said, LensNotice, stacklevel=2)
    return Lens(lens.kind, lens.name, lens.weight, lens.bias, {**lens.about, "index_test": found})


def _files(source: str | Path, model: Model) -> tuple[Path, Path]:
    folder = Path(source)
    if is_published(folder):
        return folder / CONFIG, folder / PARAMETERS
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise MissingPackage("the hub client", "pip install 'depthscope[hub]'") from error
    name = str(source).partition(":")[2] or model.name
    space = os.environ.get("TUNED_LENS_REPO_ID") or SPACE
    kind = os.environ.get("TUNED_LENS_REPO_TYPE") or SPACE_TYPE
    try:
        paths = [
            hf_hub_download(space, f"lens/{name}/{file}", repo_type=kind) for file in (CONFIG, PARAMETERS)
        ]
    except (OSError, ValueError) as error:  # the hub's own errors are of these two kinds
        raise BadInput(
            f"--lens {source}: no lens lens/{name} could be had from the {kind} {space} "
            f"({type(error).__name__}); name it as hub:NAME, or download its folder and give the path"
        ) from error
    return Path(paths[0]), Path(paths[1])


def _belongs(config: Mapping[str, Any], model: Model, force: bool) -> None:
    """Refuse a lens of another model; warn where the unembedding cannot be compared or differs."""
    named, revision = str(config.get("base_model_name_or_path", "")), config.get("base_model_revision")
    here = model.provenance.get("revision")
    reason = ""
    if _short(named) != _short(model.name):
        reason = f"the lens is of {named!r}, the model is {model.name!r}"
    elif revision and here and revision not in (here, "main"):
        reason = f"the lens is of revision {revision!r} of {named}, the model is revision {here!r}"
    if reason and not force:
        raise BadInput(f"{reason}; load the model it belongs to, or force it")
    stated = next((config[key] for key in HASH_KEYS if config.get(key)), None)
    if stated is None:
        reason = (
            reason or "its configuration has no hash of the unembedding, so the model cannot be checked by it"
        )
    elif stated != published_hash(model):
        reason = reason or f"its hash of the unembedding is not that of {model.name}: perhaps other weights"
    if reason:
        warnings.warn(f"published lens of {named}: {reason}", LensNotice, stacklevel=4)


def _short(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()


def published_hash(model: Model) -> str:
    """The hash that published configurations carry: sha256 of numpy's printed form of W_U at one decimal."""
    weight = model.head.unembedding()[0].detach().float().cpu().numpy()
    return hashlib.sha256(np.array_str(weight, precision=1).encode()).hexdigest()


def _parameters(path: Path, config: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    try:
        found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise BadInput(
            f"{path} holds no plain weights ({type(error).__name__}); only tensors are read"
        ) from error
    n_layers = int(config.get("num_hidden_layers", 0))
    wanted = [f"{s}.{part}" for s in range(n_layers) for part in ("weight", "bias")]
    missing = [key for key in wanted if key not in found]
    if missing or not n_layers:
        raise BadInput(
            f"{path} has no {', '.join(missing[:3]) or 'translators'}; {CONFIG} speaks of {n_layers} layers, the file "
            f"has {len(found)} entries: {', '.join(sorted(found)[:4])} ..."
        )
    stacked = (
        torch.stack([found[f"{s}.{part}"].float() for s in range(n_layers)]) for part in ("weight", "bias")
    )
    return next(stacked), next(stacked)


def _about(config: Mapping[str, Any], source: str | Path) -> dict[str, Any]:
    return {"source": str(source), "published": dict(config)}


@torch.no_grad()
def index_test(lens: Lens, model: Model) -> dict[str, Any]:
    """Mean KL(final || state) in nats with each translator at its own state and at the neighbours'.

    `plus_one` puts translator s + 1 at state s, `minus_one` translator s - 1. Each is compared with `as_is` over the
    states that both have: as_is_plus, as_is_minus. `best` is "as_is" unless a shifted lens is strictly better. With a
    single layer nothing can be shifted. Position 0 is left out.
    """
    seen = run(model, probe(model), read=["L0.resid_pre", "L*.resid_post"])
    states = seen.states()[:, :, 1:].flatten(1, 2).to(model.head.precision)
    last = len(states) - 1

    def kl(shift: int) -> Tensor:
        own = range(max(0, -shift), min(last, last - shift))
        moved = torch.stack([lens.at(s + shift, states[s]) for s in own])
        trace = model.head.decode(moved, states[-1], Decode(kl=True))
        assert trace.kl is not None
        return trace.kl.double().mean(1)

    if last < 2:
        return {"best": "as_is"}
    plain, plus, minus = kl(0), kl(1), kl(-1)
    found: dict[str, Any] = {
        "as_is": float(plain.mean()), "plus_one": float(plus.mean()), "minus_one": float(minus.mean()),
        "as_is_plus": float(plain[:-1].mean()), "as_is_minus": float(plain[1:].mean()),
    }  # fmt: skip
    gains = {
        "plus_one": found["as_is_plus"] - found["plus_one"],
        "minus_one": found["as_is_minus"] - found["minus_one"],
    }
    best = max(gains, key=lambda name: gains[name])
    return {**found, "best": best if gains[best] > 0 else "as_is"}


def _said(found: Mapping[str, Any]) -> str:
    numbers = (f"{name} {value:.3f}" for name, value in found.items() if isinstance(value, float))
    return f"mean KL in nats: {', '.join(numbers)}"
