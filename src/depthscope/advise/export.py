"""Export: a model without some layers as an ordinary checkpoint, held to the skips it stands for before it exists.

The folder appears whole or not at all: it is written under another name, loaded again with plain
AutoModelForCausalLM, compared, and only then renamed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from torch import Tensor

from depthscope.advise.card import model_card, recipe
from depthscope.advise.shorten import Zeroed, checked, shortened
from depthscope.anatomy.anatomy import resolve
from depthscope.errors import BadInput, LawBroken
from depthscope.runtime.checkpoint import quiet
from depthscope.runtime.edits import Edit, skip
from depthscope.runtime.hooks import hooked
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import quiet as without_cache
from depthscope.runtime.wiring import taps
from depthscope.store.atomic import write_json, write_text
from depthscope.store.growing import growing

ABOUT = "depthscope.json"
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 2**-7, torch.float16: 2**-10}
"""Largest difference of logits that is accepted, relative to the largest logit (or to 1 where that is smaller).

Some networks take softmax or rotary angles in float32 whatever their weights are, hence not less in float64.
"""
WRITTEN = 16
"""Tokens that are written with the cache and read without it."""
LONGEST = 1024
"""Tokens of the longest prompt that is compared; windows of attention beyond it are compared by the configuration."""


@dataclass(frozen=True)
class Checks:
    """What an exported checkpoint was held to.

    Args:
        logits: largest difference of logits from the skips it stands for, over `prompts`, relative to the largest one.
        cached: by how much, of the largest logit, a token that was written with the cache misses the largest logit of
            the same text read without it. tolerance: of both. tokens: written so.
    """

    logits: float
    cached: float
    tolerance: float
    prompts: tuple[int, ...]
    tokens: int


@dataclass(frozen=True)
class Exported:
    """A checkpoint that loads with AutoModelForCausalLM.

    Args:
        kept, removed: layers by their numbers in the original. zeroed: sublayers that write nothing.
        bytes: of the files with weights.
    """

    folder: Path
    kept: tuple[int, ...]
    removed: tuple[int, ...]
    zeroed: tuple[tuple[int, str], ...]
    checks: Checks
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """The export as JSON."""
        return {**asdict(self), "folder": str(self.folder)}


def export(
    model: Model,
    kept: Iterable[int],
    out: str | Path,
    *,
    zeroed: Zeroed = (),
    findings: str = "",
    verify: Callable[[Model], None] | None = None,
    seed: int = 0,
) -> Exported:
    """Write a model with the kept layers only as an ordinary checkpoint.

    Beside the weights: configuration, generation settings, tokenizer, a model card (README.md), a mergekit recipe as
    documentation, and depthscope.json with what was removed and checked.

    Args:
        out: a folder that does not exist yet. findings: Markdown for the model card: what the removal costs.
        verify: called with the loaded checkpoint; what it raises keeps the folder from appearing.
        zeroed: see `shortened`. seed: of the random prompts that logits are compared on.

    Raises:
        BadInput, Refused: what `shortened` raises; BadInput too for a folder that exists.
        LawBroken: when the loaded checkpoint does not compute what the skips compute; nothing is left behind.
        StoreFull, StoreError: when it cannot be written; nothing is left behind.
    """
    kept, folder = checked(model, kept), Path(out)
    if folder.exists():
        raise BadInput(f"{folder} exists already; name a folder that does not, or remove it")
    short = shortened(model, kept, zeroed)
    removed = tuple(k for k in range(model.anatomy.n_layers) if k not in kept)
    with growing(folder) as partial:
        _written(short, partial)
        loaded = _loaded(model, partial)
        checks = _held(model, short, loaded, zeroed, removed, seed)
        if verify is not None:
            verify(loaded)
        size = sum(path.stat().st_size for path in partial.glob("*.safetensors"))
        found = Exported(folder, kept, removed, tuple((k, w) for k, w in zeroed), checks, size)
        write_json(partial / ABOUT, {"base": _base(model), **found.as_dict(), "folder": folder.name})
        write_text(partial / "README.md", model_card(model, found, findings))
        write_text(
            partial / "mergekit.yml", recipe(model.name, kept, str(model.dtype).removeprefix("torch."))
        )
    return found


def _written(short: Model, partial: Path) -> None:
    with quiet():
        cast(Any, short.net).save_pretrained(partial)
        if hasattr(short.tokenizer, "save_pretrained"):
            short.tokenizer.save_pretrained(partial)


def _held(
    model: Model, short: Model, loaded: Model, zeroed: Zeroed, removed: Sequence[int], seed: int
) -> Checks:
    """The checks of a written checkpoint: kinds of layers, logits against skips, cached against uncached writing.

    Raises:
        LawBroken: when one of them fails.
    """
    edits = [*(skip(k) for k in removed), *(skip(layer, word) for layer, word in zeroed)]
    kinds = (loaded.anatomy.kind_of_layer, loaded.anatomy.window_of_layer)
    if kinds != (short.anatomy.kind_of_layer, short.anatomy.window_of_layer) or kinds != _kinds(
        model, removed
    ):
        raise LawBroken(
            f"the exported checkpoint has layers of kinds {kinds}, expected {_kinds(model, removed)}"
        )
    tolerance = TOLERANCE[model.dtype]
    prompts = _prompts(model, seed)
    logits = max(_difference(_logits(model, p, edits), _logits(loaded, p, [])) for p in prompts)
    if not logits <= tolerance:
        raise LawBroken(
            f"the exported checkpoint computes other logits than skipping {list(removed)} in {model.name}: relative "
            f"difference {logits:.3g}, accepted {tolerance:.3g}. Its architecture depends on depth in a way that is "
            "not known here; nothing was written"
        )
    cached = _cache_misses(loaded, prompts[0], WRITTEN)
    if not cached <= tolerance:
        raise LawBroken(
            f"the exported checkpoint writes other tokens with its cache than without: by {cached:.3g} of the largest "
            f"logit, accepted {tolerance:.3g}; nothing was written"
        )
    return Checks(logits, cached, tolerance, tuple(p.length for p in prompts), WRITTEN)


def _loaded(model: Model, partial: Path) -> Model:
    """The checkpoint as anybody would load it; kernels are those of the model it is compared with."""
    config = cast(Any, model.net).config
    same: dict[str, Any] = {"attn_implementation": config._attn_implementation}
    if getattr(config, "_experts_implementation", None):
        same["experts_implementation"] = config._experts_implementation
    with quiet():
        net = transformers.AutoModelForCausalLM.from_pretrained(partial, **same).eval()
    net = cast(Any, net).to(model.device)
    anatomy = model.anatomy
    return Model(net, model.tokenizer, resolve(net, anatomy.family, anatomy.name, anatomy.guessed))


def _kinds(model: Model, removed: Sequence[int]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    kept = [layer for layer in model.anatomy.layers if layer.index not in removed]
    return tuple(layer.kind for layer in kept), tuple(layer.window for layer in kept)


def _prompts(model: Model, seed: int) -> tuple[Batch, ...]:
    """Three rows of random ids, the last one longer than every window of attention where that can be had."""
    windows = [w for w in model.anatomy.window_of_layer if w]
    limit = getattr(model.config, "max_position_embeddings", None) or LONGEST
    longest = min(max([48, *(w + 16 for w in windows)]), limit, LONGEST)
    generator = torch.Generator().manual_seed(seed)
    lengths = (min(12, longest), min(24, longest), longest)
    return tuple(
        Batch.of_ids(torch.randint(3, model.anatomy.d_vocab, (1, n), generator=generator)).to(model.device)
        for n in lengths
    )


def _logits(model: Model, batch: Batch, edits: Sequence[Edit]) -> Tensor:
    with torch.no_grad(), hooked(taps(model.anatomy, (), edits, {}, batch.length)):
        return model.net(**batch.inputs, **without_cache(model)).logits.double()


def _difference(first: Tensor, second: Tensor) -> float:
    """Largest difference, relative to the largest value or 1; NaN and infinities count as infinite."""
    if not bool(torch.isfinite(second).all()):
        return math.inf
    return float((first - second).abs().max() / first.abs().max().clamp_min(1.0))


def _cache_misses(model: Model, prompt: Batch, tokens: int) -> float:
    settings: Any = transformers.GenerationConfig(
        do_sample=False, num_beams=1, max_new_tokens=tokens, eos_token_id=None, pad_token_id=0, use_cache=True
    )
    net = cast(Any, model.net)
    own, net.generation_config = net.generation_config, settings
    try:
        with torch.no_grad(), quiet():
            ids = net.generate(prompt.ids, generation_config=settings)
    finally:
        net.generation_config = own
    logits = _logits(model, Batch.of_ids(ids).to(model.device), [])[0, prompt.length - 1 : -1]
    chosen = logits.gather(-1, ids[0, prompt.length :, None])[:, 0]
    return float(((logits.amax(-1) - chosen) / logits.abs().amax(-1).clamp_min(1.0)).max())


def _base(model: Model) -> dict[str, Any]:
    keys = ("name", "revision", "weights_hash", "license")
    return {key: model.provenance.get(key) for key in keys} | {"layers": model.anatomy.n_layers}
