"""Tiny random models of every family, without any download: the ground on which laws and contracts are tested."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers

from depthscope.anatomy.anatomy import resolve
from depthscope.anatomy.family import Family
from depthscope.registry import FAMILIES
from depthscope.runtime.model import Model

_AUTO = {
    "causal": "AutoModelForCausalLM",
    "masked": "AutoModelForMaskedLM",
    "base": "AutoModel",
    "image": "AutoModel",
}


RANDOM = "random weights"
"""How the weights' hash of a null of random weights begins."""


class PlainTokenizer:
    """One token a character, ids 3..: enough to carry text through a tiny model. Ids 0, 1, 2 are pad, bos, eos.

    eos is the mask of models that predict what is masked: no text holds it.
    """

    pad_token_id = 0
    bos_token_id = 1
    eos_token_id = 2
    mask_token_id = 2

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def encode(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
        """Ids of a text; special tokens are never added (both flags are accepted for the interface)."""
        del add_special_tokens, verbose
        return [3 + ord(character) % (self.size - 3) for character in text]

    def decode(self, ids: Sequence[int] | int) -> str:
        """A readable stand-in for ids."""
        several = [ids] if isinstance(ids, int) else list(ids)
        return "".join(chr(33 + int(i) % 94) for i in several)

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """One stand-in character an id."""
        return [self.decode(int(i)) for i in ids]


def tiny(
    name: str,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    config_class: str = "",
    **changes: Any,
) -> Model:
    """A tiny random model of a family, its weights spread enough that layers matter.

    Args:
        name: a family's name. changes: configuration values that replace the family's own.
        config_class: another configuration class of transformers that the family serves, such as "MistralConfig".

    Raises:
        UnknownName: for a family that does not exist.
    """
    family: Family = FAMILIES[name]
    config = getattr(transformers, config_class or family.config_class)(**{**family.tiny, **changes})
    torch.manual_seed(seed)
    auto = getattr(transformers, _AUTO[family.head_class])
    net = auto.from_config(config).eval()
    _spread(net, seed)
    net = net.to(dtype)
    return assembled(
        net,
        family,
        name,
        recipe={
            "tiny": name,
            "seed": seed,
            "dtype": str(dtype).removeprefix("torch."),
            "config_class": config_class,
            **changes,
        },
    )


def assembled(net: torch.nn.Module, family: Family, name: str, recipe: dict[str, Any] | None = None) -> Model:
    """A Model around a network built in memory, with the plain tokenizer where it reads tokens."""
    apply_overrides(net, family)
    anatomy = resolve(net, family, name)
    size = getattr(anatomy.unembed, "weight", torch.zeros(1)).shape[0] if anatomy.unembed is not None else 96
    tokenizer = PlainTokenizer(int(size)) if family.reads == "tokens" else None
    return Model(net, tokenizer, anatomy, {"name": f"tiny-{name}", "recipe": recipe})


def untrained(model: Model, seed: int = 0) -> Model:
    """The same architecture and tokenizer with the random weights that its own code starts from: the untrained null."""
    torch.manual_seed(seed)
    net = type(model.net)(model.net.config).eval().to(model.device, model.dtype)
    family = model.anatomy.family
    about = {
        "name": f"{model.name}, untrained",
        "revision": None,
        "weights_hash": f"{RANDOM}, seed {seed}",
    }
    return Model(net, model.tokenizer, resolve(net, family, model.anatomy.name, model.anatomy.guessed), about)


def apply_overrides(net: torch.nn.Module, family: Family) -> None:
    """Set the configuration values that the family's laws need."""
    for key, value in family.overrides.items():
        setattr(net.config, key, value)


def _spread(net: torch.nn.Module, seed: int) -> None:
    """Random norm gains and biases, so that a forgotten norm or bias cannot pass a law unseen."""
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.is_floating_point():
                continue
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32).to(parameter.dtype)
            parameter.add_(noise * (0.1 if parameter.dim() < 2 else 0.05))
