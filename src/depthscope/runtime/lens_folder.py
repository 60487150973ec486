"""A lens on the disk: a card in JSON and the weights beside it; and whether a lens belongs to a model."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from depthscope.errors import BadInput, StoreError
from depthscope.runtime.fingerprint import weights_hash
from depthscope.runtime.lens import LOGIT, Lens
from depthscope.runtime.model import Model
from depthscope.store.atomic import read_json, write_bytes, write_json

CARD = "lens.json"
SCHEMA = 1
CONVENTION = (
    "translator s reads state s, the input of block s (s = 0: embedding output); state L is not translated"
)


class LensNotice(UserWarning):
    """Something to know about a lens that does not stop the work; given through `warnings`."""


def unembedding_hash(model: Model) -> str:
    """sha256 over the unembedding rounded to bfloat16: the same for one checkpoint in float32 and in bfloat16."""
    weight = model.head.unembedding()[0]
    digest = hashlib.sha256(f"{tuple(weight.shape)}".encode())
    for rows in weight.detach().split(16384):
        digest.update(rows.to(torch.bfloat16).cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def model_card(model: Model) -> dict[str, Any]:
    """What a lens must remember of the model that it was fitted on."""
    about = model.provenance
    return {
        "name": model.name,
        "revision": about.get("revision"),
        "weights_hash": about.get("weights_hash") or weights_hash(model.net),
        "dtype": str(model.dtype).removeprefix("torch."),
        "unembedding_hash": unembedding_hash(model),
        "d_model": model.anatomy.d_model,
        "n_layers": model.anatomy.n_layers,
    }


def save_lens(lens: Lens, folder: str | Path) -> Path:
    """Write `lens.json` and the weights as safetensors; returns the folder.

    The weights come first, under a name made of their digest, and the card that names them last: whatever stops the
    process, the folder holds the old lens or the new one, never a mixture.

    Raises:
        BadInput: for the logit lens, which has nothing to save. StoreError: when the folder cannot be written.
    """
    from safetensors.torch import save

    if lens.weight is None or lens.bias is None:
        raise BadInput(
            f"lens {lens.name} has no weights to save; the logit lens needs no folder, ask for 'logit'"
        )
    folder = Path(folder)
    parts = {"weight": lens.weight, "bias": lens.bias}
    content = {name: part.detach().float().cpu().contiguous() for name, part in parts.items()}
    file = f"lens-{lens.identity}.safetensors"
    write_bytes(folder / file, save(content, {"identity": lens.identity}))
    card = {
        "schema": SCHEMA,
        "kind": lens.kind,
        "name": lens.name,
        "identity": lens.identity,
        "weights": file,
    }
    sizes = {"n_layers": len(lens.bias), "d_model": lens.bias.shape[1], "index_convention": CONVENTION}
    write_json(folder / CARD, {**lens.about, **card, **sizes})
    for old in folder.glob("lens-*.safetensors"):
        if old.name != file:
            old.unlink(missing_ok=True)
    return folder


def load_lens(source: str | Path | Lens, model: Model, *, force: bool = False) -> Lens:
    """A lens for this model: `logit`, our own folder, a published folder, or `hub:NAME` of the published space.

    Args:
        source: "logit" gives the logit lens; a Lens is only checked. A folder with `lens.json` is one of ours, with
            `config.json` and `params.pt` a published tuned lens. "hub" stands for "hub:" and the model's own name.
        force: use a lens of another model or revision all the same, with a warning; sizes must fit in any case.

    Raises:
        BadInput: when there is no lens there, or it is of another model, width, depth or revision.
        StoreError: when the folder is damaged.
    """
    from depthscope.runtime.published_lens import is_published, load_published

    if isinstance(source, Lens):
        return fitting(source, model, force)
    if str(source) == "logit":
        return LOGIT
    if str(source) == "hub" or str(source).startswith("hub:") or is_published(Path(source)):
        return load_published(source, model, force)
    folder = Path(source)
    if not (folder / CARD).is_file():
        raise BadInput(
            f"--lens {source}: there is no lens; a lens is 'logit', a folder with {CARD} that `depthscope fit` left, a "
            "folder with config.json and params.pt, or hub:NAME"
        )
    return fitting(_stored(folder), model, force)


def _stored(folder: Path) -> Lens:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    card = read_json(folder / CARD)
    if card.get("schema") != SCHEMA:
        raise StoreError(
            f"{folder / CARD} has schema {card.get('schema')!r}, this version reads {SCHEMA}; fit it again"
        )
    try:
        found = load_file(folder / str(card["weights"]))
        lens = Lens(str(card["kind"]), str(card["name"]), found["weight"], found["bias"], card)
    except (OSError, SafetensorError, KeyError) as error:
        raise StoreError(
            f"the lens in {folder} is damaged ({error}); fit it again or copy the whole folder"
        ) from error
    if lens.identity != card.get("identity"):
        raise StoreError(
            f"the weights in {folder} are not those that {CARD} names ({lens.identity} against "
            f"{card.get('identity')}); copy the whole folder again"
        )
    return lens


def fitting(lens: Lens, model: Model, force: bool = False) -> Lens:
    """The lens on the model's device, if it is a lens of this model.

    Sizes must fit. Equal weights are the same model whatever its name; other weights of the same type are another
    model; weights in another type must agree in name and in the unembedding. Revisions must agree where both are
    known. A lens without a card is taken as it is.

    Raises:
        BadInput: when it is not.
    """
    if lens.weight is None or lens.bias is None:
        return lens
    sizes = (model.anatomy.n_layers, model.anatomy.d_model)
    if tuple(lens.bias.shape) != sizes:
        raise BadInput(
            f"lens {lens.name} has {lens.bias.shape[0]} layers of width {lens.bias.shape[1]}, {model.name} has "
            f"{sizes[0]} of width {sizes[1]}; it was fitted on another model: fit one with `depthscope fit`"
        )
    about = lens.about.get("model")
    reason = another_model(about, model) if isinstance(about, Mapping) else None
    if reason and not force:
        raise BadInput(f"lens {lens.name} is of {reason}; fit one on this model, or force it")
    if reason:
        warnings.warn(f"lens {lens.name} is of {reason}; it is used all the same", LensNotice, stacklevel=3)
    return replace(lens, weight=lens.weight.to(model.device), bias=lens.bias.to(model.device))


def another_model(fitted: Mapping[str, Any], model: Model) -> str | None:
    """What tells the model that an artefact was fitted on from this one, in words; None where nothing does."""
    here = model_card(model)
    if fitted.get("weights_hash") and fitted["weights_hash"] == here["weights_hash"]:
        return None
    was, now = fitted.get("revision"), here["revision"]
    if fitted.get("name") == here["name"] and was and now and was != now:
        return f"revision {was!r} of {here['name']}, this is revision {now!r}"
    if fitted.get("unembedding_hash") != here["unembedding_hash"]:
        return f"{fitted.get('name')!r}, whose unembedding differs from that of {here['name']!r}"
    if fitted.get("dtype") == here["dtype"]:
        return f"{fitted.get('name')!r}, whose weights differ from those of {here['name']!r}"
    if fitted.get("name") != here["name"]:
        return f"{fitted.get('name')!r} in {fitted.get('dtype')}, this is {here['name']!r} in {here['dtype']}"
    return None
