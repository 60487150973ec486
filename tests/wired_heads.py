"""Attention-only models with heads wired by hand: what each looks at and writes is known exactly.

A gpt2 whose norms are the identity and whose MLPs add nothing. Its stream holds four blocks of `size` numbers: TOKEN
(the current token as a unit vector), POSITION (the same of the position), SAID (all that the unembedding reads) and
SLOT (where a previous-token head leaves the token before). A head of d_head = `size` numbers compares one of these
blocks with another; its scores are SHARP or 0, so a row is exact to far below 1e-9 in float64. Heads that are not named
attend to all they can see alike and write nothing. Begin texts with a token that does not come again: position 0 has
nothing before it but itself.

    model = planted_heads({(0, 1): "previous", (1, 2): "induction"})

    previous    looks one back, writes that token into SLOT
    self        looks at its own position, writes nothing
    first       rests on position 0, writes nothing: a sink
    uniform     looks everywhere alike, writes nothing
    induction   looks at what followed earlier copies of its token (needs a `previous` head in an earlier layer), rests
                on position 0 where there is none, and says the tokens it looks at
    duplicate   looks at all copies of its token, its own included, writes nothing
    copy        looks everywhere alike and says what it sees
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from depthscope.registry import FAMILIES
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import assembled, tiny

SHARP = 120.0
KINDS = ("previous", "self", "first", "uniform", "induction", "duplicate", "copy")
Heads = Mapping[tuple[int, int], str]


class Silent(nn.Module):
    """An MLP that adds nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(x)


def planted_heads(
    heads: Heads, *, n_layers: int = 2, n_heads: int = 4, size: int = 64, says: float = 10.0
) -> Model:
    """A model whose (layer, head) pairs are of the given kinds; the others are silent and uniform.

    Args:
        size: of the vocabulary, the longest text and d_head; 4 heads make its stream 4 * size wide. says: how strongly
            induction and copy heads write the logit of a token they look at in full.
    """
    width = n_heads * size
    assert width >= 4 * size, "the stream holds four blocks"
    model = tiny(
        "gpt2", torch.float64, n_layer=n_layers, n_head=n_heads, n_embd=width, n_positions=size,
        vocab_size=size, n_inner=8, tie_word_embeddings=False,
    )  # fmt: skip
    net, base = model.net, model.net.transformer
    with torch.no_grad():
        base.wte.weight.copy_(_into(size, width, 0))  # type: ignore[union-attr, operator]
        base.wpe.weight.copy_(_into(size, width, 1))  # type: ignore[union-attr, operator]
        net.lm_head.weight.copy_(_into(size, width, 2))  # type: ignore[union-attr, operator]
        base.ln_f = nn.Identity()
        for layer, block in enumerate(base.h):  # type: ignore[union-attr, arg-type]
            block.ln_1, block.ln_2, block.mlp = nn.Identity(), nn.Identity(), Silent()
            for part in (block.attn.c_attn, block.attn.c_proj):
                part.weight.zero_()
                part.bias.zero_()
            for (at, head), kind in heads.items():
                if at == layer:
                    _wire(block.attn, head, kind, size, says)
    return assembled(net, FAMILIES["gpt2"], "gpt2")


def _into(size: int, width: int, block: int) -> Tensor:
    """Unit vectors of one block of the stream, [size, width]."""
    found = torch.zeros(size, width, dtype=torch.float64)
    found[:, block * size : (block + 1) * size] = torch.eye(size)
    return found


def _wire(attn: nn.Module, head: int, kind: str, size: int, says: float) -> None:
    """Set one head's queries, keys, values and write. Scores are divided by sqrt(d_head), so it is put into queries."""
    token, position, said, slot = (slice(k * size, (k + 1) * size) for k in range(4))
    mine = slice(head * size, (head + 1) * size)
    width = attn.c_attn.weight.shape[0]  # type: ignore[union-attr]
    weight, bias = attn.c_attn.weight, attn.c_attn.bias  # type: ignore[union-attr]
    query, key, value = (weight[:, k * width :][:, mine] for k in range(3))
    one, sharp = torch.eye(size, dtype=torch.float64), SHARP * size**0.5
    out = attn.c_proj.weight[mine]  # type: ignore[union-attr, index]
    if kind == "previous":
        query[position], key[position] = sharp * one.roll(-1, 1), one
        value[token], out[:, slot] = one, one
    elif kind == "self":
        query[position], key[position] = sharp * one, one
    elif kind == "first":
        key[position], bias[:width][mine][0] = one, sharp  # type: ignore[index]
    elif kind == "induction":
        # the last number of the head is no token: position 0 scores half there, so unmatched tokens rest on it
        query[token], key[slot] = sharp * one, one
        key[position.start, -1], bias[:width][mine][-1] = 1.0, sharp / 2  # type: ignore[index]
        value[token], out[:, said] = one, says * one
    elif kind == "duplicate":
        query[token], key[token] = sharp * one, one
    elif kind == "copy":
        value[token], out[:, said] = one, says * one
    elif kind != "uniform":
        raise ValueError(f"no planted head is called {kind!r}; there are {', '.join(KINDS)}")


def text_of(ids: list[int], size: int = 64) -> str:
    """Characters whose ids, by the plain tokenizer, are those given (3 to size - 1)."""
    return "".join(chr(2 * (size - 3) + i - 3) for i in ids)
