"""Loading: a hub id, a folder, a .gguf file, an embedded name or "tiny-<family>" becomes a Model."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from depthscope.anatomy.anatomy import resolve
from depthscope.anatomy.guess import describe, family_of, literal
from depthscope.errors import BadInput, LoadError, Refused, UnknownName, UnsupportedModel
from depthscope.registry import FAMILIES
from depthscope.runtime.checkpoint import Options, commit_of, open_config, open_net, open_tokenizer
from depthscope.runtime.embedded import EMBEDDED, paths, version
from depthscope.runtime.fingerprint import weights_hash
from depthscope.runtime.gguf import converted
from depthscope.runtime.glasslm import glasslm
from depthscope.runtime.model import Model
from depthscope.runtime.placement import must_be_none, must_be_usable, put

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
    "float16": torch.float16,
}
"""Types by their names; "auto" stands for what the checkpoint says."""
_TINY = "tiny-"
_HUB_ID = re.compile(r"^[\w.-]+(/[\w.-]+)?$")


class Notice(UserWarning):
    """Something to know about a loaded model that does not stop the work; given through `warnings`."""


@dataclass(frozen=True)
class Source:
    """Where a name leads: a folder or hub id (or GlassLM's file), and what is known about it beforehand."""

    where: str
    revision: str | None = None
    licence: str | None = None
    glasslm: bool = False


def load(
    name: str | Path,
    *,
    revision: str | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    device_map: Any = None,  # noqa: ANN401  (whatever transformers accepts)
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
    quantization: Any = None,  # noqa: ANN401
    force: bool = False,
) -> Model:
    """Load a model.

    Args:
        name: in this order of precedence an embedded name (`smollm2-135m`, `gemma3-270m`, `minilm-l6`,
            `minilm-l6-sre`, `glasslm-en`, `iteration-polynomial`), `tiny-<family>` (random weights), a .gguf
            file, a folder, a hub id; `./name` is always a path.
        revision: branch, tag or commit of a hub id.
        dtype: "float32", "bfloat16", "float64", "float16", a torch type, or None / "auto": what the
            checkpoint says (float32 where it says float16, which holds the same numbers).
        device: where the model goes; the CPU by default.
        device_map: passed to transformers; a model that ends up on several devices is refused.
        attn_implementation: passed to transformers; attention rows need "sdpa" or "eager".
        trust_remote_code: run code that comes with the checkpoint.
        quantization: a quantization config for transformers; weights that stay quantised are refused.
        force: accept float16, which overflows in the massive activations of small models.

    Raises:
        LoadError: when the model is not found or cannot be read; as MissingPackage it is the command that
            installs an embedded one.
        UnsupportedModel: when its architecture is not known and the guess breaks a law.
        Refused: for float16 without `force`, for quantised weights and for several devices.
        UnknownName: for an unknown dtype or attention kernel. BadInput: for a device that is not here, and for a
            revision, device map or quantization where there is nothing that it could change.

    Example:
        >>> ds.load("tiny-llama", dtype="float32").anatomy.n_layers
        4
    """
    name = str(name)
    wanted = named_dtype(dtype, force)
    must_be_usable(device, attn_implementation)
    if name.startswith(_TINY):
        must_be_none(name, revision=revision, device_map=device_map, quantization=quantization)
        return _tiny(name, wanted, device, attn_implementation)
    asked = {
        "revision": revision, "dtype": None if wanted is None else str(wanted).removeprefix("torch."),
        "device": None if device is None else str(device), "device_map": device_map,
        "attn_implementation": attn_implementation, "trust_remote_code": trust_remote_code or None,
        "quantization": quantization, "force": force or None,
    }  # fmt: skip
    source = find(name)
    idle = {"device_map": device_map, "quantization": quantization} if source.glasslm else {}
    must_be_none(name, revision=revision if Path(source.where).exists() else None, **idle)
    options = Options(revision, wanted, device_map, attn_implementation, trust_remote_code, quantization)
    net, tokenizer, found = _opened(source, options)
    net = _settled(net, wanted, None if device_map is not None else device)
    recipe = {"load": name, **{key: value for key, value in asked.items() if value is not None}}
    provenance = {
        "name": name, "revision": found, "recipe": recipe, "weights_hash": weights_hash(net),
        "license": source.licence or _stated_licence(source.where),
    }  # fmt: skip
    return _modelled(net, tokenizer, provenance)


def recipe_load(recipe: Mapping[str, Any]) -> Model:
    """Load a model again from `provenance["recipe"]`, in another process for instance.

    Args:
        recipe: {"load": name, ...} or {"tiny": family, ...} with the arguments it was made with.

    Raises:
        BadInput: when it is neither.
    """
    from depthscope.runtime.tiny import tiny

    rest = dict(recipe)
    if "load" in rest:
        return load(rest.pop("load"), **rest)
    if "tiny" in rest:
        dtype = named_dtype(rest.pop("dtype", "float64"), force=True) or torch.float64
        placed = rest.pop("device", None), rest.pop("attn_implementation", None)
        model = tiny(rest.pop("tiny"), dtype, **rest)
        put(model.net, *placed)
        return model
    raise BadInput(f"a recipe needs 'load' or 'tiny', this one has {', '.join(rest) or 'nothing'}")


def find(name: str) -> Source:
    """Where a name leads; a GGUF file is converted on the way.

    Raises:
        LoadError: for a path that does not exist; MissingPackage for an embedded name.
    """
    if name in EMBEDDED:
        packaged, files = EMBEDDED[name], paths(name)
        where = converted(files, name, packaged.digest) if packaged.form == "gguf" else files[0]
        return Source(str(where), version(name), packaged.licence, packaged.form == "glasslm")
    path = Path(name).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return Source(str(converted((path,), path.stem)))
    if path.is_dir():
        return Source(str(path))
    if path.exists():
        raise LoadError(f"{name!r} is a file, but no .gguf file; give a model folder, a .gguf file or a name")
    if not _HUB_ID.match(name) or path.suffix == ".gguf" or name.startswith("."):
        raise LoadError(f"there is no model at {name!r} (looked for {path.absolute()}); {_near(name)}")
    if "/" not in name and difflib.get_close_matches(name, _own_names(), n=1, cutoff=0.8):
        raise LoadError(f"{name!r} is neither an embedded name nor a folder here; {_near(name)}")
    return Source(name)


def named_dtype(dtype: str | torch.dtype | None, force: bool = False) -> torch.dtype | None:
    """The torch type of a name; None for None and "auto".

    Raises:
        UnknownName: for a type that models do not run in. Refused: for float16 without `force`.
    """
    if dtype is None or dtype == "auto":
        return None
    text = str(dtype).removeprefix("torch.")
    if text not in DTYPES:
        raise UnknownName("dtype", text, [*DTYPES, "auto"])
    if text == "float16" and not force:
        raise Refused(
            "float16 holds numbers up to 65,504, and single positions of small models carry more: "
            "use bfloat16 or float32, or force float16"
        )
    return DTYPES[text]


def _tiny(
    name: str, dtype: torch.dtype | None, device: str | torch.device | None, kernel: str | None
) -> Model:
    from depthscope.runtime.tiny import tiny

    model = tiny(name.removeprefix(_TINY), dtype=dtype or torch.float64)
    put(model.net, device, kernel)
    placed = {"device": None if device is None else str(device), "attn_implementation": kernel}
    recipe = {**model.provenance["recipe"], **{key: value for key, value in placed.items() if value}}
    hashed = {"recipe": recipe, "revision": None, "weights_hash": weights_hash(model.net), "license": None}
    return replace(model, provenance={**model.provenance, **hashed})


def _opened(source: Source, options: Options) -> tuple[nn.Module, Any, str | None]:
    """Network, tokenizer and revision."""
    if source.glasslm:
        net, tokenizer = glasslm(Path(source.where))
        put(net, None, options.attn_implementation)
        return net, tokenizer, source.revision
    config = open_config(source.where, options)
    net = open_net(source.where, config, options)
    image = getattr(net, "main_input_name", "input_ids") == "pixel_values"
    tokenizer = None if image else open_tokenizer(source.where, options)
    return net, tokenizer, source.revision or commit_of(source.where, options)


def _settled(net: nn.Module, wanted: torch.dtype | None, device: str | torch.device | None) -> nn.Module:
    """The network in its type and on its device; an unasked float16 becomes float32 (the same numbers)."""
    held = next(p.dtype for p in net.parameters() if p.is_floating_point())
    dtype = wanted or (torch.float32 if held == torch.float16 else held)
    net = net if held == dtype else net.to(dtype)
    return net if device is None else net.to(device)


def _modelled(net: nn.Module, tokenizer: Any, provenance: dict[str, Any]) -> Model:  # noqa: ANN401
    """A Model of the declared family, or of the generic guess where that breaks no law."""
    family, name, guessed = family_of(net)
    model = Model(net, tokenizer, resolve(net, family, name, guessed), provenance)
    if guessed:
        _accept(model)
    return model


def _accept(guessed: Model) -> None:
    from depthscope.runtime.verify import verify

    name = guessed.anatomy.name
    broken = [verdict for verdict in verify(guessed) if verdict.status == "broken"]
    if broken:
        said = "; ".join(f"law {v.law} ({v.title}): {v.reason}" for v in broken)
        raise UnsupportedModel(
            f"no family declares the architecture {name!r}, and the generic guess breaks {len(broken)} "
            f"laws: {said}.\n{describe(guessed.net)}\nThe guess, to be corrected in "
            f"depthscope/anatomy/families/{name}.py:\n{literal(guessed.anatomy.family)}"
        )
    warnings.warn(
        f"no family declares the architecture {name!r}; a generic guess of it breaks no law and is used",
        Notice,
        stacklevel=4,
    )


def _stated_licence(where: str) -> str | None:
    """The `license:` line of a model card beside the weights, or None."""
    card = Path(where) / "README.md"
    if not card.is_file():
        return None
    found = re.search(r"^license:\s*(\S+)", card.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return found[1] if found else None


def _own_names() -> list[str]:
    return [*EMBEDDED, *(f"{_TINY}{family}" for family in FAMILIES)]


def _near(name: str) -> str:
    near = difflib.get_close_matches(name, _own_names(), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"embedded names: {', '.join(EMBEDDED)}"
