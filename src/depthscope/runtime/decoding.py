"""Streamed decoding of one block of positions: running maximum, sums, ranks and top-k over vocabulary chunks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from depthscope.runtime.head import GROUP, Decode, Head, Trace

_ROWS = 768
"""Rows of one matrix product: with 4,096 columns the fastest of six sizes tried on two threads."""


@dataclass(frozen=True)
class Asked:
    """Ids that are asked for at the positions of one block: the true next one [position], others [position, m]."""

    targets: Tensor | None = None
    candidates: Tensor | None = None


@dataclass(frozen=True)
class Reference:
    """The final state's logits of one block of positions and what follows from them."""

    logits: Tensor
    probabilities: Tensor
    logsumexp: Tensor
    entropy: Tensor
    top1: Tensor
    mixed: Tensor | None
    mixed_bias: Tensor | None

    @classmethod
    def of(cls, head: Head, final: Tensor) -> Reference:
        """Logits, probabilities p, and c = pᵀ W_U: with it KL(p || q) needs no [position, vocab] product a state."""
        logits = torch.cat([_logits(head, head.normalised(final), a, b) for a, b in head.chunks()], dim=-1)
        lse = torch.logsumexp(logits, dim=-1)
        p = torch.exp(logits - lse[:, None])
        entropy = lse - (p * logits).sum(-1)
        mixed = mixed_bias = None
        if head.anatomy.logit_cap is None:
            mixed, mixed_bias = cls._mix(head, p)
        return cls(logits, p, lse, entropy, logits.argmax(-1), mixed, mixed_bias)

    @staticmethod
    def _mix(head: Head, p: Tensor) -> tuple[Tensor, Tensor | None]:
        mixed = torch.zeros(p.shape[0], 0)
        bias_part: Tensor | None = None
        for a, b in head.chunks():
            weight, bias = head.piece(a, b)
            part = p[:, a:b] @ weight
            mixed = part if mixed.shape[1] == 0 else mixed.add_(part)
            if bias is not None:
                term = p[:, a:b] @ bias
                bias_part = term if bias_part is None else bias_part + term
        return mixed, bias_part


def decode_block(head: Head, states: Tensor, final: Tensor, wanted: Decode, asked: Asked) -> Trace:
    """Decode [state, position, d_model] against one block of positions that fits the budget."""
    reference = Reference.of(head, final)
    together = max(1, _ROWS // max(1, states.shape[1]))
    parts = [
        _decode_states(head, states[k : k + together], reference, wanted, asked)
        for k in range(0, states.shape[0], together)
    ]
    return Trace.joined(parts, dim=0)


def _decode_states(head: Head, states: Tensor, ref: Reference, wanted: Decode, asked: Asked) -> Trace:
    n_states = states.shape[0]
    u = head.normalised(states).flatten(0, 1)
    running = _Running(head, u, n_states, ref, wanted, asked)
    buffer = torch.empty(0, device=u.device)
    for start, stop in head.chunks():
        logits = _logits(head, u, start, stop)
        if buffer.shape != logits.shape:
            buffer = torch.empty_like(logits)
        running.take(logits, start, buffer)
    return running.trace()


def _logits(head: Head, u: Tensor, start: int, stop: int) -> Tensor:
    weight, bias = head.piece(start, stop)
    return head.finish(nn.functional.linear(u, weight, bias))


class _Running:
    """Sums over the chunks seen so far, for rows = state x position."""

    def __init__(
        self, head: Head, u: Tensor, n_states: int, ref: Reference, wanted: Decode, asked: Asked
    ) -> None:
        self.n_states, self.ref, self.wanted, self.u = n_states, ref, wanted, u
        self.scale = head.anatomy.logit_scale
        rows = u.shape[0]
        zeros = u.new_zeros(rows)
        self.maximum = u.new_full((rows,), float("-inf"))
        self.total = zeros.clone()
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
        self.group_total = u.new_zeros(rows, len(self.groups))

    def take(self, z: Tensor, start: int, buffer: Tensor) -> None:
        """Add one chunk of logits [row, chunk]; `buffer` has its shape."""
        peak = self._take_top(z, start) if self.wanted.top_k else z.amax(-1)
        if self.final_logit is not None:
            self.final_above += _above(z, self.final_logit, self.finals, start, buffer)
        if self.target_logit is not None and self.wanted.target_rank and self.targets is not None:
            self.target_above += _above(z, self.target_logit, self.targets, start, buffer)
        if self.candidates is not None:
            self.candidates.count(z, start, buffer)
        if self.dotted is not None:
            self.dotted += self._paired(z, self.ref.probabilities[:, start : start + z.shape[1]])
        self._take_sums(z, peak, start, buffer)

    def _take_sums(self, z: Tensor, peak: Tensor, start: int, buffer: Tensor) -> None:
        maximum = torch.maximum(self.maximum, peak)
        shrink = torch.exp(self.maximum - maximum)
        e = torch.sub(z, maximum[:, None], out=buffer).exp_()
        self.total.mul_(shrink).add_(e.sum(-1))
        if self.weighted is not None:
            self.weighted.mul_(shrink).add_(torch.linalg.vecdot(e, z))
        if self.against is not None:
            self.against.mul_(shrink).add_(self._paired(e, self.ref.logits[:, start : start + z.shape[1]]))
        self.maximum = maximum
        for k, group in enumerate(self.groups):
            inside = group[(group >= start) & (group < start + z.shape[1])] - start
            self.group_total[:, k].mul_(shrink).add_(e[:, inside].sum(-1))

    def _paired(self, rows: Tensor, reference: Tensor) -> Tensor:
        """Row-wise products with the reference of the row's position."""
        return torch.linalg.vecdot(rows.view(self.n_states, *reference.shape), reference[None]).reshape(-1)

    def _take_top(self, z: Tensor, start: int) -> Tensor:
        """Merge this chunk's k best into the running ones; returns the chunk's maximum a row."""
        logits, ids = _top(z, self.wanted.top_k)
        peak = logits.amax(-1)
        logits = torch.cat([self.top_logits, logits], dim=-1)
        ids = torch.cat([self.top_ids, ids + start], dim=-1)
        logits, ids = _ordered(logits, ids)
        self.top_logits, self.top_ids = logits[:, : self.wanted.top_k], ids[:, : self.wanted.top_k]
        return peak

    def trace(self) -> Trace:
        """The finished reductions, [state, position]."""
        lse = self.maximum + self.total.log()
        shape = (self.n_states, len(self.ref.top1))
        mean_logit = None if self.weighted is None else self.weighted / self.total
        ids, logits = (self.top_ids, self.top_logits) if self.wanted.top_k else (None, None)
        found = self.candidates
        return Trace(
            logsumexp=lse.reshape(shape),
            entropy=_square(
                shape, lse - mean_logit if mean_logit is not None and self.wanted.entropy else None
            ),
            kl=_square(shape, self._kl(lse)),
            reverse_kl=_square(shape, self._reverse_kl(lse, mean_logit)),
            cross_entropy=_square(
                shape,
                lse - self.target_logit if self.wanted.target and self.target_logit is not None else None,
            ),
            target_rank=_square(shape, 1 + self.target_above.long() if self.wanted.target_rank else None),
            final_rank=_square(shape, 1 + self.final_above.long() if self.wanted.final_rank else None),
            top_ids=None if ids is None else ids.reshape(*shape, ids.shape[-1]),
            top_logits=None if logits is None else logits.reshape(*shape, logits.shape[-1]),
            final_top1=self.ref.top1,
            candidate_log_prob=None if found is None else (found.logit - lse[:, None]).reshape(*shape, -1),
            candidate_rank=None if found is None else 1 + found.above.long().reshape(*shape, -1),
            group_mass=(self.group_total / self.total[:, None]).reshape(*shape, -1) if self.groups else None,
        )

    def _kl(self, lse: Tensor) -> Tensor | None:
        """KL(p || q) = -H(p) - <p, z> + logsumexp(z), with <p, z> = c u + p b where the head is affine."""
        if not self.wanted.kl:
            return None
        if self.dotted is not None:
            dotted = self.dotted
        else:
            assert self.ref.mixed is not None
            dotted = self._paired(self.u, self.ref.mixed)
            if self.ref.mixed_bias is not None:
                dotted = dotted + self.ref.mixed_bias.repeat(self.n_states)
            dotted = dotted * self.scale
        return (lse - dotted - self.ref.entropy.repeat(self.n_states)).clamp_min_(0.0)

    def _reverse_kl(self, lse: Tensor, mean_logit: Tensor | None) -> Tensor | None:
        """KL(q || p) = <q, z> - logsumexp(z) - <q, z_final> + logsumexp(z_final)."""
        if self.against is None or mean_logit is None:
            return None
        final = self.ref.logsumexp.repeat(self.n_states)
        return (mean_logit - lse - self.against / self.total + final).clamp_min_(0.0)


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
            self.above[:, k] += _above(z, self.logit[:, k], self.ids[:, k], start, buffer)


def _square(shape: tuple[int, int], values: Tensor | None) -> Tensor | None:
    return None if values is None else values.reshape(shape)


def _gathered(head: Head, u: Tensor, ids: Tensor) -> Tensor:
    weight, bias = head.unembedding()
    rows = weight[ids].to(head.precision)
    logit = torch.linalg.vecdot(u, rows)
    return head.finish(logit if bias is None else logit + bias[ids].to(head.precision))


def _above(z: Tensor, logit: Tensor, ids: Tensor, start: int, buffer: Tensor) -> Tensor:
    """How many of the chunk exceed a logit, its own id left out by index (a gathered logit rounds differently)."""
    count = torch.gt(z, logit[:, None], out=buffer).sum(-1)
    place = ids - start
    inside = (place >= 0) & (place < z.shape[1])
    own = z.gather(-1, place.clamp(0, z.shape[1] - 1)[:, None])[:, 0] > logit
    return count - (inside & own).to(count.dtype)


def _top(z: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and their ids; of equal ones those with the lowest ids."""
    width = z.shape[1]
    values, ids = _largest(z, min(k + 1, width))
    if width <= k:
        return values, ids
    # topk picks any of equal values: rows where the one left out equals the last one kept are sorted in full
    tied = (values[:, k - 1] == values[:, k]).nonzero()[:, 0]
    values, ids = values[:, :k], ids[:, :k]
    if len(tied):
        order = torch.argsort(z[tied], dim=-1, descending=True, stable=True)[:, :k]
        ids = ids.index_copy(0, tied, order)
    return values, ids


def _largest(z: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, falling, through group maxima: the k best groups hold the k best values."""
    rows, width = z.shape
    if width % GROUP or width // GROUP <= k:
        found = torch.topk(z, k, dim=-1)
        return found.values, found.indices
    grouped = z.view(rows, width // GROUP, GROUP)
    groups = torch.topk(grouped.amax(-1), k, dim=-1, sorted=False).indices
    values = grouped.gather(1, groups[:, :, None].expand(-1, -1, GROUP)).reshape(rows, k * GROUP)
    found = torch.topk(values, k, dim=-1)
    ids = groups.gather(-1, found.indices // GROUP) * GROUP + found.indices % GROUP
    return found.values, ids


def _ordered(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """By falling logit, ties by rising id."""
    by_id = torch.argsort(ids, dim=-1)
    logits, ids = logits.gather(-1, by_id), ids.gather(-1, by_id)
    order = torch.argsort(logits, dim=-1, descending=True, stable=True)
    return logits.gather(-1, order), ids.gather(-1, order)
