"""Tiny models wired by hand, so that the answer of every analysis is known before it is asked.

The planted llama has a stream of three blocks of V numbers: `said` is all that its unembedding reads, `token` holds the
current token and nothing writes there unless told to, `slot` is free. Its blocks write nothing but what a test puts in
place of their MLPs: a function of the raw stream. Token t stands in the stream as the t-th unit vector of `said` and of
`token`. Ids 3 to V - 1 are characters, so `rising(...)` gives texts whose ids rise one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from depthscope.engine.audit import audit
from depthscope.engine.needs import Analysis
from depthscope.registry import FAMILIES
from depthscope.results.result import Result
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import assembled, tiny

V = 64
SAID, TOKEN, SLOT = slice(0, V), slice(V, 2 * V), slice(2 * V, 3 * V)
WIDTH, SHARP, LENGTH = 3 * V, 1.5, 24
Write = Callable[[Tensor], Tensor]


class Written(nn.Module):
    """A function in an MLP's place."""

    def __init__(self, write: Write) -> None:
        super().__init__()
        self.write = write

    def forward(self, x: Tensor) -> Tensor:
        """What the layer adds."""
        return self.write(x)


def planted(writes: Mapping[int, Write], n_layers: int = 6) -> Model:
    """A llama whose layer k adds writes[k](stream), and nothing where there is no such function."""
    size = {
        "vocab_size": V, "hidden_size": WIDTH, "num_hidden_layers": n_layers, "intermediate_size": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    net = tiny("llama", torch.float64, **size).net
    unit = torch.eye(V, dtype=torch.float64)
    nothing = torch.zeros(V, V, dtype=torch.float64)
    with torch.no_grad():
        net.model.embed_tokens.weight.copy_(torch.cat([unit, unit, nothing], 1))  # type: ignore[union-attr, operator]
        net.lm_head.weight.copy_(SHARP * torch.cat([unit, nothing, nothing], 1))  # type: ignore[union-attr, operator]
        net.model.norm.weight.fill_(1.0)  # type: ignore[union-attr, operator]
        for k, block in enumerate(net.model.layers):  # type: ignore[union-attr, arg-type]
            for part in (block.self_attn.o_proj, block.mlp.down_proj):
                part.weight.zero_()
            if k in writes:
                block.post_attention_layernorm = nn.Identity()
                block.mlp = Written(writes[k])
    return assembled(net, FAMILIES["llama"], "llama")


def following(t: Tensor) -> Tensor:
    """[.. token] one-hot rows -> the next id, 3 after V - 1."""
    turned = t.roll(1, -1)
    turned[..., 3] = turned[..., 3] + turned[..., 0]
    turned[..., 0] = 0
    return turned


def says(token: Callable[[Tensor], Tensor], strength: float) -> Write:
    """A write of `strength` times the token that a function of the current one-hot token gives."""

    def write(x: Tensor) -> Tensor:
        added = torch.zeros_like(x)
        added[..., SAID] = strength * token(x[..., TOKEN])
        return added

    return write


def the_answer(strength: float) -> Write:
    """Says the true next token of a rising text."""
    return says(following, strength)


def a_mistake(strength: float) -> Write:
    """Says the token after the true next one."""
    return says(lambda t: following(following(t)), strength)


def constant(vector: Tensor) -> Write:
    """The same write at every position."""
    return lambda x: vector.to(x).expand_as(x)


def at_token(token: int, write: Write) -> Write:
    """A write at one token only."""
    return lambda x: write(x) * x[..., TOKEN][..., token, None]


def axis(place: int, size: float = 1.0) -> Tensor:
    """One number in the stream."""
    found = torch.zeros(WIDTH, dtype=torch.float64)
    found[place] = size
    return found


def text_of(ids: Sequence[int]) -> str:
    """Characters whose ids, by the plain tokenizer, are those given (3 to V - 1)."""
    return "".join(chr(2 * (V - 3) + i - 3) for i in ids)


def rising(documents: int = 10, length: int = LENGTH, start: int = 3, step: int = 3) -> list[str]:
    """Texts whose ids rise one by one, each from another id, without a wrap."""
    return [text_of(range(start + step * k, start + step * k + length)) for k in range(documents)]


def look(
    model: Model, analysis: str | Analysis, out: Path, text: Sequence[str], window: int = LENGTH
) -> Result:
    """The result of one analysis over whole texts, one window each.

    Laws are not run: law 1 asks that an MLP reacts to its mixer, and the mixers of a planted model are silent.
    """
    with mock.patch("depthscope.engine.audit.verify", return_value=()):
        run = audit(model, [analysis], out=out / "run", text=list(text), tokens=10**6, window=window)
    (result,) = run.values()
    return result


def value(result: Result, name: str) -> np.ndarray:
    """The values of one measurement."""
    return result[name].value


def chance(logits: Mapping[int, float]) -> np.ndarray:
    """Log-probabilities of V tokens of which all but a few have logit 0."""
    z = np.zeros(V)
    for token, logit in logits.items():
        z[token] = logit
    return z - np.log(np.exp(z).sum())


def logit(said: float, size: float) -> float:
    """The logit of a token that `said` holds at that strength in a stream of that norm, through an RMS norm."""
    return SHARP * said / np.sqrt(size**2 / WIDTH + 1e-6)


def silent_gpt2(neurons: int) -> Any:
    """A gpt2 of two layers of which only the embedding and the unembedding do anything; a test wires its MLPs."""
    net: Any = tiny(
        "gpt2", n_layer=2, n_head=2, n_embd=2 * V, vocab_size=V, n_inner=neurons, tie_word_embeddings=False
    ).net
    base, one = net.transformer, torch.eye(V, dtype=torch.float64)
    with torch.no_grad():
        base.wpe.weight.zero_()
        base.wte.weight.copy_(torch.cat([one, -one], 1))
        net.lm_head.weight.copy_(torch.cat([one, -one], 1))
        base.ln_f.weight.fill_(1)
        for block in base.h:
            for part in (block.attn.c_proj, block.mlp.c_proj, block.mlp.c_fc):
                part.weight.zero_()
                part.bias.zero_()
            block.ln_2.weight.fill_(1)
            block.ln_2.bias.zero_()
    return net
