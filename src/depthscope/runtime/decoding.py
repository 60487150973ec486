"""Streamed decoding of one block of positions: running maximum, sums, ranks and top-k over vocabulary chunks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from depthscope.runtime.head import Decode, Head, Trace
from depthscope.runtime.ranking import above, ordered, top
from depthscope.threads import spread

_ROWS = 256
"""Rows of one matrix product: a block of logits this large stays in the cache while it is reduced on one thread, and
the states of one batch make blocks enough for all threads. It does not depend on their number: nor do the results."""


@dataclass(frozen=True)
class Asked:
    """Ids that are asked for at the positions of one block: the true next one [position], others [position, m]."""

    targets: Tensor | None = None
    candidates: Tensor | None = None


@dataclass(frozen=True)
class Reference:
    """The final state's logits of one block of positions and what follows from them; logsumexp in float64."""

    logits: Tensor
    probabilities: Tensor
    logsumexp: Tensor
    dotted: Tensor
    top1: Tensor
    mixed: Tensor | None
    mixed_bias: Tensor | None

    @classmethod
    def of(cls, head: Head, final: Tensor) -> Reference:
        """Logits, probabilities p, and c = pᵀ W_U: with it KL(p || q) needs no [position, vocab] product a state."""
        u = head.normalised(final)
        logits = u.new_empty(u.shape[0], head.d_vocab)
        for a, b in head.chunks():
            _logits(head, u, a, b, logits[:, a:b])
        p = torch.softmax(logits, dim=-1)
        # a softmax over a whole vocabulary in float32 adds up to 1 within 3e-5 only
        p.div_(p.sum(-1, keepdim=True, dtype=torch.float64).to(p))
        lse = logits.amax(-1).double() - p.amax(-1).double().log()
        if head.anatomy.logit_cap is None:
            mixed, mixed_bias = cls._mix(head, p, u)
            dotted = _expected(u[None], mixed, mixed_bias, head.anatomy.logit_scale)
        else:
            mixed = mixed_bias = None
            dotted = torch.linalg.vecdot(p, logits)
        return cls(logits, p, lse, dotted, logits.argmax(-1), mixed, mixed_bias)

    @staticmethod
    def _mix(head: Head, p: Tensor, u: Tensor) -> tuple[Tensor, Tensor | None]:
        mixed = torch.zeros_like(u)
        bias_part: Tensor | None = None
        for a, b in head.chunks():
            weight, bias = head.piece(a, b)
            mixed.addmm_(p[:, a:b], weight)
            if bias is not None:
                term = p[:, a:b] @ bias
                bias_part = term if bias_part is None else bias_part + term
        return mixed, bias_part


def _expected(u: Tensor, mixed: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """<p, z> of states [state, position, d_model] whose logits are affine: c u + p b; one row after the other."""
    dotted = torch.linalg.vecdot(u, mixed[None])
    return ((dotted if bias is None else dotted + bias) * scale).reshape(-1)


def decode_block(head: Head, states: Tensor, final: Tensor, wanted: Decode, asked: Asked) -> Trace:
    """Decode [state, position, d_model] against one block of positions that fits the budget."""
    reference = Reference.of(head, final)
    rows = _ROWS if not wanted.jsd else min(_ROWS, head.budget // (head.d_vocab * head.precision.itemsize))
    together = max(1, rows // max(1, states.shape[1]))
    parts = states.split(together)
    work = partial(_decode_states, head, ref=reference, wanted=wanted, asked=asked)
    return Trace.joined(spread(work, parts) if states.device.type == "cpu" else list(map(work, parts)), dim=0)


def _decode_states(head: Head, states: Tensor, ref: Reference, wanted: Decode, asked: Asked) -> Trace:
    n_states = states.shape[0]
    u = head.normalised(states).flatten(0, 1)
    running = _Running(head, u, n_states, ref, wanted, asked)
    block = u.new_empty(2, u.shape[0], head.chunk)
    kept = u.new_empty(u.shape[0], head.d_vocab) if wanted.jsd else None
    for start, stop in head.chunks():
        if stop - start < head.chunk:
            block = u.new_empty(2, u.shape[0], stop - start)
        z = _logits(head, u, start, stop, block[0])
        if kept is not None:
            kept[:, start:stop] = z
        running.take(z, start, block[1])
    found = running.trace()
    if kept is None:
        return found
    jsd, shared = _compared(head, kept.view(n_states, *ref.logits.shape), found.logsumexp, ref)
    return replace(found, jsd=jsd, shared_mass=shared)


def _compared(head: Head, logits: Tensor, logsumexp: Tensor, ref: Reference) -> tuple[Tensor, Tensor]:
    """JSD(p, q) = ln 2 + 1/2 sum q t - 1/2 sum (p + q) ln(1 + e^t) with t = ln q - ln p, and sum min(p, q)."""
    jsd, shared = torch.full_like(logsumexp, math.log(2)), torch.zeros_like(logsumexp)
    for start, stop in head.chunks():
        log_q = logits[..., start:stop].sub_(logsumexp[..., None])
        p, q = ref.probabilities[:, start:stop], log_q.exp()
        t = log_q.sub_(ref.logits[:, start:stop] - ref.logsumexp[:, None].to(ref.logits))
        jsd += torch.linalg.vecdot(q, t) / 2
        jsd -= torch.linalg.vecdot(p + q, torch.nn.functional.softplus(t, threshold=40.0)) / 2
        shared += torch.minimum(p, q).sum(-1)
    return jsd.clamp_(0.0, math.log(2)), shared.clamp_(0.0, 1.0)


def _logits(head: Head, u: Tensor, start: int, stop: int, out: Tensor) -> Tensor:
    """Logits of some columns, written into `out`: memory that is used again costs no new pages."""
    weight, bias = head.piece(start, stop)
    torch.mm(u, weight.T, out=out)
    return head.finish(out if bias is None else out.add_(bias))


class _Running:
    """Sums over the chunks seen so far, for rows = state x position."""

    def __init__(
        self, head: Head, u: Tensor, n_states: int, ref: Reference, wanted: Decode, asked: Asked
    ) -> None:
        self.n_states, self.ref, self.wanted, self.u = n_states, ref, wanted, u
        self.scale = head.anatomy.logit_scale
        rows = u.shape[0]
        zeros = u.new_zeros(rows)
        # one number a row, added to with every chunk: in float64 its rounding stays out of divergences near 0
        self.logsumexp = u.new_full((rows,), float("-inf"), dtype=torch.float64)
        self.weighted = zeros.clone() if wanted.entropy or wanted.reverse_kl else None
        self.against = zeros.clone() if wanted.reverse_kl else None
        self.dotted = zeros.clone() if wanted.kl and ref.mixed is None else None
        self.top_ids = torch.zeros(rows, 0, dtype=torch.long, device=u.device)
        self.top_logits = u.new_zeros(rows, 0)
        self.targets = None if asked.targets is None else asked.targets.repeat(n_states)
        self.finals = ref.top1.repeat(n_states)
        need_target = wanted.target or wanted.target_rank
        self.target_logit = (
            _gathered(head, u, self.targets) if need_target and self.targets is not None else None
        )
        self.final_logit = _gathered(head, u, self.finals) if wanted.final_rank else None
        self.final_above, self.target_above = zeros.clone(), zeros.clone()
        self.candidates = _Candidates.of(head, u, n_states, asked.candidates) if wanted.candidates else None
        self.groups = [torch.tensor(sorted(set(g)), dtype=torch.long, device=u.device) for g in wanted.groups]
        self.group_mass = u.new_zeros(rows, len(self.groups))

    def take(self, z: Tensor, start: int, buffer: Tensor) -> None:
        """Add one chunk of logits [row, chunk]; `buffer` has its shape. Both are written over."""
        peak = self._take_top(z, start) if self.wanted.top_k else z.amax(-1)
        if self.final_logit is not None:
            self.final_above += above(z, self.final_logit, self.finals, start, buffer)
        if self.target_logit is not None and self.wanted.target_rank and self.targets is not None:
            self.target_above += above(z, self.target_logit, self.targets, start, buffer)
        if self.candidates is not None:
            self.candidates.count(z, start, buffer)
        if self.dotted is not None:
            self.dotted += self._paired(z, self.ref.probabilities[:, start : start + z.shape[1]])
        self._take_sums(z, peak, start, buffer)

    def _take_sums(self, z: Tensor, peak: Tensor, start: int, buffer: Tensor) -> None:
        """Fold in the chunk's own softmax p: means under p, weighted with the chunk's share of the probability."""
        p = torch.softmax(z, dim=-1, out=buffer)
        chunk = peak.double() - p.amax(-1).double().log()
        together = torch.logaddexp(self.logsumexp, chunk)
        kept, share = (torch.exp(part - together).to(p) for part in (self.logsumexp, chunk))
        # products go where the logits were, which nobody needs any more: fresh memory costs as much as a product
        if self.weighted is not None:
            self.weighted.mul_(kept).addcmul_(torch.mul(p, z, out=z).sum(-1), share)
        if self.against is not None:
            reference = self.ref.logits[:, start : start + z.shape[1]]
            product = torch.mul(self._by_state(p, reference), reference, out=self._by_state(z, reference))
            self.against.mul_(kept).addcmul_(product.sum(-1).reshape(-1), share)
        for k, group in enumerate(self.groups):
            inside = group[(group >= start) & (group < start + z.shape[1])] - start
            self.group_mass[:, k].mul_(kept).addcmul_(p[:, inside].sum(-1), share)
        self.logsumexp = together

    def _by_state(self, rows: Tensor, like: Tensor) -> Tensor:
        """[row, chunk] as [state, position, chunk], in place."""
        return rows.view(self.n_states, *like.shape)

    def _paired(self, rows: Tensor, reference: Tensor) -> Tensor:
        """Row-wise products with the reference of the row's position."""
        return torch.linalg.vecdot(rows.view(self.n_states, *reference.shape), reference[None]).reshape(-1)

    def _take_top(self, z: Tensor, start: int) -> Tensor:
        """Merge this chunk's k best into the running ones; returns the chunk's maximum a row."""
        logits, ids = top(z, self.wanted.top_k)
        peak = logits.amax(-1)
        logits = torch.cat([self.top_logits, logits], dim=-1)
        ids = torch.cat([self.top_ids, ids + start], dim=-1)
        logits, ids = ordered(logits, ids)
        self.top_logits, self.top_ids = logits[:, : self.wanted.top_k], ids[:, : self.wanted.top_k]
        return peak

    def trace(self) -> Trace:
        """The finished reductions, [state, position]."""
        lse = self.logsumexp.to(self.u)
        shape = (self.n_states, len(self.ref.top1))
        mean_logit = self.weighted
        ids, logits = (self.top_ids, self.top_logits) if self.wanted.top_k else (None, None)
        found = self.candidates
        return Trace(
            logsumexp=lse.reshape(shape),
            entropy=_square(
                shape, lse - mean_logit if mean_logit is not None and self.wanted.entropy else None
            ),
            kl=_square(shape, self._kl()),
            reverse_kl=_square(shape, self._reverse_kl(lse, mean_logit)),
            cross_entropy=_square(
                shape,
                lse - self.target_logit if self.wanted.target and self.target_logit is not None else None,
            ),
            target_rank=_square(shape, 1 + self.target_above.long() if self.wanted.target_rank else None),
            final_rank=_square(shape, 1 + self.final_above.long() if self.wanted.final_rank else None),
            top_ids=_square(shape, ids),
            top_logits=_square(shape, logits),
            final_top1=self.ref.top1,
            candidate_log_prob=_square(shape, None if found is None else found.logit - lse[:, None]),
            candidate_rank=_square(shape, None if found is None else 1 + found.above.long()),
            group_mass=_square(shape, self.group_mass if self.groups else None),
        )

    def _kl(self) -> Tensor | None:
        """KL(p || q) = logsumexp(z) - logsumexp(z_final) - (<p, z> - <p, z_final>).

        Both products are taken in the same way: where channels of a thousand cancel within a logit (Gemma), rounding is
        the same in both and a state that equals the final one has 0.
        """
        if not self.wanted.kl:
            return None
        if self.dotted is not None:
            dotted = self.dotted
        else:
            assert self.ref.mixed is not None
            u = self.u.view(self.n_states, *self.ref.mixed.shape)
            dotted = _expected(u, self.ref.mixed, self.ref.mixed_bias, self.scale)
        change = dotted - self.ref.dotted.repeat(self.n_states)
        grown = self.logsumexp - self.ref.logsumexp.repeat(self.n_states)
        return (grown - change).clamp_min_(0.0).to(self.u)

    def _reverse_kl(self, lse: Tensor, mean_logit: Tensor | None) -> Tensor | None:
        """KL(q || p) = <q, z> - logsumexp(z) - <q, z_final> + logsumexp(z_final)."""
        if self.against is None or mean_logit is None:
            return None
        final = self.ref.logsumexp.to(lse).repeat(self.n_states)
        return (mean_logit - lse - self.against + final).clamp_min_(0.0)


@dataclass
class _Candidates:
    """Logits of the candidates of each row, and how many others exceed each so far; all [row, candidate]."""

    ids: Tensor
    logit: Tensor
    above: Tensor

    @classmethod
    def of(cls, head: Head, u: Tensor, n_states: int, candidates: Tensor | None) -> _Candidates:
        assert candidates is not None
        ids = candidates.repeat(n_states, 1)
        columns = [_gathered(head, u, ids[:, k]) for k in range(ids.shape[1])]
        logit = torch.stack(columns, -1) if columns else u.new_zeros(len(u), 0)
        return cls(ids, logit, torch.zeros_like(logit))

    def count(self, z: Tensor, start: int, buffer: Tensor) -> None:
        """Add what one chunk holds above each candidate."""
        for k in range(self.ids.shape[1]):
            self.above[:, k] += above(z, self.logit[:, k], self.ids[:, k], start, buffer)


def _square(shape: tuple[int, int], values: Tensor | None) -> Tensor | None:
    """[row, ...] -> [state, position, ...]."""
    return None if values is None else values.reshape(*shape, *values.shape[1:])


def _gathered(head: Head, u: Tensor, ids: Tensor) -> Tensor:
    weight, bias = head.unembedding()
    rows = weight[ids].to(head.precision)
    logit = torch.linalg.vecdot(u, rows)
    return head.finish(logit if bias is None else logit + bias[ids].to(head.precision))
