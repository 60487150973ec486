"""The head: from a state to logits exactly as the model does it, streamed over the vocabulary and reduced on the way.

head(h) = cap(scale * (W_U readout(norm(h)) + b)). Nothing of shape [state, position, vocab] ever exists: a chunk of
logits is reduced to what was asked for and forgotten. The final state's logits are kept for one block of positions.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from depthscope.anatomy.anatomy import Anatomy
from depthscope.errors import BadInput, Refused

BUDGET = 256 * 2**20
"""Bytes of logits held at one time, beyond the model."""
CHUNK = 4096


@dataclass(frozen=True)
class Decode:
    """What is wanted of a state's decoded distribution. The union of several is the field-wise or / maximum.

    Args:
        top_k: the k most likely ids and their logits. entropy: in nats.
        kl, reverse_kl: KL(final || state) and KL(state || final) in nats.
        jsd: Jensen-Shannon divergence to the final state in nats, and the probability that both share. It needs the
            finished logsumexp, so a state's logits are kept and looked at twice: about two thirds more time.
        target: log-probability of the target ids (cross-entropy). target_rank, final_rank: competition ranks of the
            target and of the final state's top-1.
        candidates: log-probabilities and ranks of ids given for each position, such as the options of a question.
        groups: sets of ids whose probability mass is wanted, such as the ten most frequent tokens.
    """

    top_k: int = 0
    entropy: bool = False
    kl: bool = False
    reverse_kl: bool = False
    jsd: bool = False
    target: bool = False
    target_rank: bool = False
    final_rank: bool = False
    candidates: bool = False
    groups: tuple[tuple[int, ...], ...] = ()

    def __or__(self, other: Decode) -> Decode:
        if self.groups and other.groups and self.groups != other.groups:
            raise BadInput(
                f"two analyses ask for the mass of different token sets, {len(self.groups)} and {len(other.groups)}; "
                "use one frequency table for both, or two run folders"
            )
        return Decode(*(max(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) for f in fields(self))


@dataclass(frozen=True)
class Trace:
    """Reductions of decoded states, [state, position] in float32 (ranks int64); ids are [state, position, k].

    Of candidates [state, position, candidate], of groups [state, position, group].

    What was not asked for is None. `logsumexp` is always there, so probability = exp(logit - logsumexp).
    """

    logsumexp: Tensor
    entropy: Tensor | None = None
    kl: Tensor | None = None
    reverse_kl: Tensor | None = None
    jsd: Tensor | None = None
    shared_mass: Tensor | None = None
    cross_entropy: Tensor | None = None
    target_rank: Tensor | None = None
    final_rank: Tensor | None = None
    top_ids: Tensor | None = None
    top_logits: Tensor | None = None
    final_top1: Tensor | None = None
    candidate_log_prob: Tensor | None = None
    candidate_rank: Tensor | None = None
    group_mass: Tensor | None = None

    @classmethod
    def joined(cls, parts: list[Trace], dim: int) -> Trace:
        """Parts side by side along the state (0) or position (1) axis; final_top1 [position] follows positions."""
        names = [f.name for f in fields(cls) if getattr(parts[0], f.name) is not None]
        whole = {n: torch.cat([getattr(p, n) for p in parts], dim=dim) for n in names if n != "final_top1"}
        if parts[0].final_top1 is not None:
            whole["final_top1"] = (
                torch.cat([p.final_top1 for p in parts if p.final_top1 is not None])
                if dim
                else parts[0].final_top1
            )
        return cls(**whole)


@dataclass
class Head:
    """The decoding end of one model.

    Args:
        anatomy: where norm, readout and unembedding are.
        dtype: the model's type; computation is float32, or float64 for float64 models.
    """

    anatomy: Anatomy
    dtype: torch.dtype
    budget: int = BUDGET
    chunk: int = CHUNK
    _norm: list[nn.Module] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.anatomy.unembed is None:
            raise Refused(f"{self.anatomy.name} has no unembedding, its states cannot be decoded to tokens")
        self.precision = torch.float64 if self.dtype == torch.float64 else torch.float32
        chain = [m for m in (self.anatomy.final_norm, *self.anatomy.readout) if m is not None]
        self._norm = (
            chain if self.dtype == self.precision else [copy.deepcopy(m).to(self.precision) for m in chain]
        )

    @property
    def d_vocab(self) -> int:
        """Rows of the unembedding (padded rows included)."""
        return self.anatomy.d_vocab

    def normalised(self, state: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """Final norm and readout of a state, computed in float32."""
        value = state.to(self.precision)
        for module in self._norm:
            value = module(value)
        return value

    def unembedding(self) -> tuple[Tensor, Tensor | None]:
        """W_U [vocab, d_model] and its bias as the model stores them."""
        module = self.anatomy.unembed
        assert module is not None
        bias = getattr(module, "bias", None)
        return module.weight, bias  # pyright: ignore[reportReturnType]

    def piece(self, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """Rows start..stop of W_U and the bias in the head's precision."""
        weight, bias = self.unembedding()
        part = weight[start:stop].to(self.precision)
        return part, None if bias is None else bias[start:stop].to(self.precision)

    def finish(self, logits: Tensor) -> Tensor:
        """Scale and soft-cap, in place."""
        if self.anatomy.logit_scale != 1.0:
            logits.mul_(self.anatomy.logit_scale)
        cap = self.anatomy.logit_cap
        return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Bounds of the vocabulary chunks."""
        for start in range(0, self.d_vocab, self.chunk):
            yield start, min(start + self.chunk, self.d_vocab)

    @torch.no_grad()
    def logits(
        self, state: Float[Tensor, "... d_model"], ids: Int[Tensor, " id"] | None = None
    ) -> Float[Tensor, "... column"]:
        """Logits of some ids, or of all; for a few positions or a few ids only."""
        weight, bias = self.unembedding()
        columns = slice(0, self.d_vocab) if ids is None else ids
        some = None if bias is None else bias[columns].to(self.precision)
        return self.finish(
            nn.functional.linear(self.normalised(state), weight[columns].to(self.precision), some)
        )

    def graded(
        self, state: Float[Tensor, "... d_model"], ids: Int[Tensor, " id"] | None = None
    ) -> Float[Tensor, "... column"]:
        """`logits` with their gradient: nothing is changed in place."""
        weight, bias = self.unembedding()
        columns = slice(0, self.d_vocab) if ids is None else ids
        some = None if bias is None else bias[columns].to(self.precision)
        logits = nn.functional.linear(self.normalised(state), weight[columns].to(self.precision), some)
        logits, cap = logits * self.anatomy.logit_scale, self.anatomy.logit_cap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    @torch.no_grad()
    def logit_of(
        self, state: Float[Tensor, "*state position d_model"], ids: Int[Tensor, " position"]
    ) -> Float[Tensor, "*state position"]:
        """The logit of one id at each position."""
        weight, bias = self.unembedding()
        logit = torch.linalg.vecdot(self.normalised(state), weight[ids].to(self.precision))
        return self.finish(logit if bias is None else logit + bias[ids].to(self.precision))

    @torch.no_grad()
    def decode(
        self,
        states: Float[Tensor, "state position d_model"],
        final: Float[Tensor, "position d_model"],
        wanted: Decode,
        targets: Int[Tensor, " position"] | None = None,
        candidates: Int[Tensor, "position candidate"] | None = None,
    ) -> Trace:
        """Decode states and reduce them; one pass over the vocabulary serves everything that is wanted.

        Args:
            states: any states (or counterfactual final states) at some positions.
            final: the final state of the clean pass at the same positions, the reference of KL and ranks.
            targets: ids for `target` and `target_rank`; required when they are wanted.
            candidates: ids for `candidates`; required when they are wanted.

        Raises:
            BadInput: when targets or candidates are wanted and not given, or a group holds an id that does not exist.
        """
        from depthscope.runtime.decoding import Asked, decode_block

        if targets is None and (wanted.target or wanted.target_rank):
            raise BadInput(
                "a decode with target or target_rank needs the ids of the targets, none were given"
            )
        if candidates is None and wanted.candidates:
            raise BadInput("a decode with candidates needs their ids at each position, none were given")
        beyond = [i for group in wanted.groups for i in group if not 0 <= i < self.d_vocab]
        if beyond:
            raise BadInput(f"a group holds the ids {beyond[:3]}; the vocabulary has {self.d_vocab}")
        per_position = self.d_vocab * self.precision.itemsize * 2
        step = max(1, int(self.budget // max(1, per_position)))
        parts = [
            decode_block(
                self,
                states[:, k : k + step],
                final[k : k + step],
                wanted,
                Asked(_piece(targets, k, step), _piece(candidates, k, step)),
            )
            for k in range(0, max(1, final.shape[0]), step)  # no position at all is one empty block
        ]
        return Trace.joined(parts, dim=1)


def _piece(ids: Tensor | None, start: int, step: int) -> Tensor | None:
    return None if ids is None else ids[start : start + step]
