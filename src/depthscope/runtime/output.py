"""The output of counterfactuals against that of the clean pass: divergence, loss, and distance of probabilities.

Differences are taken entry by entry of the vocabulary, not as differences of sums: a shift far below the
probabilities themselves would drown in their rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.runtime.head import Head

_ROWS = 384
"""Rows of one matrix product over the whole vocabulary."""


@dataclass(frozen=True)
class OutputChange:
    """Changes of the output, [variant position].

    Args:
        kl: KL(clean || variant), nats. cross_entropy: of the target under the variant, nats.
        shift: ||p - p'||, the Euclidean distance of the two distributions, 0 to sqrt 2.
    """

    kl: Tensor
    cross_entropy: Tensor
    shift: Tensor


@torch.no_grad()
def output_change(
    head: Head,
    states: Float[Tensor, "variant position d_model"],
    final: Float[Tensor, "position d_model"],
    targets: Int[Tensor, " position"],
) -> OutputChange:
    """Decode counterfactual final states and compare them with the clean ones of the same positions.

    Memory: four tables of rows x vocabulary, within the head's budget.
    """
    rows = max(1, min(_ROWS, head.budget // (4 * head.d_vocab * head.precision.itemsize)))
    step = max(1, min(final.shape[0], rows // 4))
    parts = [
        _block(head, states[:, k : k + step], final[k : k + step], targets[k : k + step], rows)
        for k in range(0, max(1, final.shape[0]), step)
    ]
    return OutputChange(
        *(torch.cat([getattr(p, name) for p in parts], 1) for name in OutputChange.__annotations__)
    )


def _block(head: Head, states: Tensor, final: Tensor, targets: Tensor, rows: int) -> OutputChange:
    """One block of positions, some variants at a time; memory that is used again costs no new pages."""
    positions, (weight, bias) = len(final), head.piece(0, head.d_vocab)
    together = max(1, rows // max(1, positions))
    memory = final.new_empty(4, together, positions, head.d_vocab, dtype=head.precision)

    def log_p(of: Tensor, out: Tensor, p: Tensor) -> None:
        """Write log-probabilities into `out` and probabilities into `p`, both [.. position vocab]."""
        flat = out.view(-1, head.d_vocab)
        torch.mm(head.normalised(of).reshape(-1, of.shape[-1]), weight.T, out=flat)
        head.finish(flat if bias is None else flat.add_(bias))
        torch.softmax(out, -1, out=p)
        out.sub_((out.amax(-1) - p.amax(-1).log())[..., None])

    clean_log, clean = memory[2, 0], memory[3, 0]
    log_p(final, clean_log, clean)
    found = states.new_empty(3, *states.shape[:2], dtype=head.precision)
    for start in range(0, states.shape[0], together):
        some = states[start : start + together]
        log_q, q = memory[0, : len(some)], memory[1, : len(some)]
        log_p(some, log_q, q)
        part = found[:, start : start + together]
        part[1] = -log_q.gather(-1, targets.expand(len(some), -1)[..., None])[..., 0]
        part[0] = torch.linalg.vecdot(torch.sub(clean_log, log_q, out=log_q), clean).clamp_min_(0)
        part[2] = torch.linalg.vector_norm(q.sub_(clean), dim=-1)
    return OutputChange(*found)
