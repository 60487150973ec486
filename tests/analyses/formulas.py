"""What every first analysis should say, computed plainly: own loops over blocks, whole softmaxes, whole matrices.

Imports torch and numpy only. A `Plain` model is a network of transformers whose blocks are called by hand: it uses
embeddings, norms, projections and MLPs of the network, never its forward. Every function is the formula as a paper
would write it, one window at a time.
"""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

Numbers = dict[str, np.ndarray]


# ------------------------------------------------------------------------------------------------ forward pass by hand


@dataclass
class Pass:
    """One window: states [state token d], writes [layer token d], attention rows [layer head query key]."""

    states: list[Tensor]
    attention: list[Tensor] = field(default_factory=list)
    mlp: list[Tensor] = field(default_factory=list)
    patterns: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Skip:
    """Leave out a layer's `block`, `attention` or `mlp` at the positions `at` [token]."""

    layer: int
    sublayer: str
    at: Tensor


class Plain:
    """A llama, gpt2 or gemma2 network, run block by block.

    Args:
        spell: what an id spells; the plain tokenizer of tiny networks spells id i as one printable character.
    """

    def __init__(self, net: Any, kind: str, spell: Callable[[int], str] = lambda i: chr(33 + i % 94)) -> None:
        self.net, self.kind, self.config, self.spell = net, kind, net.config, spell
        base = net.transformer if kind == "gpt2" else net.model
        self.base, self.blocks = base, list(base.h if kind == "gpt2" else base.layers)
        self.n_heads = self.config.num_attention_heads
        self.windows = [self.window(k) for k in range(len(self.blocks))]

    def window(self, layer: int) -> int | None:
        """Gemma 2 alternates sliding and full layers, beginning with a sliding one."""
        return self.config.sliding_window if self.kind == "gemma2" and layer % 2 == 0 else None

    def embed(self, ids: Tensor) -> Tensor:
        """The input of block 0."""
        if self.kind == "gpt2":
            return self.base.wte.weight[ids] + self.base.wpe.weight[: len(ids)]
        scale = torch.tensor(math.sqrt(self.config.hidden_size) if self.kind == "gemma2" else 1.0)
        # a number kept in float32, whatever the model's type
        return self.base.embed_tokens.weight[ids] * scale.to(self.base.embed_tokens.weight)

    def attend(self, layer: int, stream: Tensor) -> tuple[Tensor, Tensor]:
        """What attention adds to the stream, and its rows [head query key]."""
        block = self.blocks[layer]
        q, k, v = self.projected(block, stream)
        scale = q.shape[-1] ** -0.5
        if self.kind == "gemma2":
            scale = self.config.query_pre_attn_scalar**-0.5
        scores = q @ k.transpose(-1, -2) * scale
        if self.kind == "gemma2":
            scores = (
                torch.tanh(scores / self.config.attn_logit_softcapping) * self.config.attn_logit_softcapping
            )
        distance = torch.arange(len(stream))[:, None] - torch.arange(len(stream))[None, :]
        hidden = (distance < 0) | (distance >= (self.windows[layer] or len(stream)))
        scores = scores.masked_fill(hidden, -math.inf)
        rows = torch.exp(scores - torch.logsumexp(scores, -1, keepdim=True))
        # transformers takes Gemma 2's softmax in float32, whatever the model's type
        used = torch.softmax(scores.float(), -1).to(v) if self.kind == "gemma2" else rows
        joined = (used @ v).transpose(0, 1).reshape(len(stream), -1)
        if self.kind == "gpt2":
            return block.attn.c_proj(joined), rows
        written = block.self_attn.o_proj(joined)
        return (block.post_attention_layernorm(written) if self.kind == "gemma2" else written), rows

    def projected(self, block: Any, stream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values after position encoding, [head token d_head]."""

        def heads(x: Tensor, n: int) -> Tensor:
            return x.reshape(len(stream), n, -1).transpose(0, 1)

        if self.kind == "gpt2":
            q, k, v = block.attn.c_attn(block.ln_1(stream)).chunk(3, dim=-1)
            return heads(q, self.n_heads), heads(k, self.n_heads), heads(v, self.n_heads)
        x, n = block.input_layernorm(stream), self.config.num_key_value_heads
        at = block.self_attn
        q, k, v = heads(at.q_proj(x), self.n_heads), heads(at.k_proj(x), n), heads(at.v_proj(x), n)
        q, k = self.rotated(q), self.rotated(k)
        return q, k.repeat_interleave(self.n_heads // n, 0), v.repeat_interleave(self.n_heads // n, 0)

    def rotated(self, x: Tensor) -> Tensor:
        """Rotary positions: pairs (i, i + d/2) turned by position * theta^(-2i/d), angles in float32."""
        half = x.shape[-1] // 2
        theta = float(self.config.rope_parameters["rope_theta"])
        speed = 1.0 / (theta ** (torch.arange(0, 2 * half, 2, dtype=torch.float32) / (2 * half)))
        angle = torch.arange(x.shape[1], dtype=torch.float32)[:, None] * speed
        cos, sin = angle.cos().repeat(1, 2).to(x), angle.sin().repeat(1, 2).to(x)
        return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin

    def mlp(self, layer: int, stream: Tensor) -> Tensor:
        """What the MLP adds to the stream."""
        block = self.blocks[layer]
        if self.kind == "gpt2":
            return block.mlp(block.ln_2(stream))
        if self.kind == "gemma2":
            return block.post_feedforward_layernorm(block.mlp(block.pre_feedforward_layernorm(stream)))
        return block.mlp(block.post_attention_layernorm(stream))

    @torch.no_grad()
    def run(self, ids: Sequence[int], skip: Skip | None = None, clean: Pass | None = None) -> Pass:
        """All blocks, with at most one skip; `clean` keeps its stream where a skipped block does not apply."""
        stream = self.embed(torch.tensor(ids))
        found = Pass([stream])
        for layer in range(len(self.blocks)):
            chosen = skip if skip is not None and skip.layer == layer else None
            a, rows = self.attend(layer, stream)
            if chosen and chosen.sublayer == "attention":
                a = torch.where(chosen.at[:, None], torch.zeros_like(a), a)
            m = self.mlp(layer, stream + a)
            if chosen and chosen.sublayer == "mlp":
                m = torch.where(chosen.at[:, None], torch.zeros_like(m), m)
            after = stream + a + m
            if chosen and chosen.sublayer == "block":
                after = torch.where(chosen.at[:, None], stream, after)
            stream = after
            found.states.append(stream)
            found.attention.append(a)
            found.mlp.append(m)
            found.patterns.append(rows)
        return found

    @torch.no_grad()
    def logits(self, state: Tensor) -> Tensor:
        """Final norm, unembedding, soft cap."""
        norm = self.base.ln_f if self.kind == "gpt2" else self.base.norm
        logits = norm(state) @ self.net.lm_head.weight.T
        if self.kind != "gemma2":
            return logits
        cap = self.config.final_logit_softcapping
        return cap * torch.tanh(logits / cap)


# ------------------------------------------------------------------------------------------------ shared pieces


def numbers(x: Tensor) -> np.ndarray:
    """float64 on the host."""
    return x.detach().double().numpy()


def norms_of(seen: Pass) -> np.ndarray:
    """[state token]."""
    return np.stack([np.sqrt((numbers(s) ** 2).sum(-1)) for s in seen.states])


def sinks_of(seen: Pass) -> np.ndarray:
    """Position 0, and norms above 4 times the window's median at some state from 1 on."""
    norms = norms_of(seen)
    found = (norms > 4 * np.median(norms, axis=1, keepdims=True))[1:].any(0)
    found[0] = True
    return found


def unit(x: np.ndarray) -> np.ndarray:
    """Rows to length 1."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


# ------------------------------------------------------------------------------------------------ the analyses


def corpus_statistics(passes: Sequence[Pass]) -> Numbers:
    """Norms of every state from position 1 on, sinks, their writers, massive channels."""
    norms = [norms_of(p) for p in passes]
    later = np.concatenate([n[:, 1:] for n in norms], 1)
    massive = np.concatenate([(n > 4 * np.median(n, 1, keepdims=True))[:, 1:] for n in norms], 1)
    peak = np.mean([n.max(1) / np.median(n, 1) for n in norms], 0)
    plain = np.concatenate([np.stack([numbers(s)[~sinks_of(p)] for s in p.states]) for p in passes], 1)
    energy = (plain**2).sum(1)
    share = energy / energy.sum(-1, keepdims=True)
    return {
        "norm_median": np.median(later, 1),
        "norm_p99": np.quantile(later, 0.99, axis=1),
        "norm_max": np.max([n.max(1) for n in norms], 0),
        "norm_max_position": np.stack([n.argmax(1) for n in norms])[
            np.stack([n.max(1) for n in norms]).argmax(0), np.arange(len(norms[0]))
        ].astype(float),
        "sink_share": massive.mean(1),
        "peak_ratio": peak,
        "sink_writer": ((peak[1:] > 10) & (peak[1:] > 3 * peak[:-1])).astype(float),
        "massive_channel": share.argmax(-1).astype(float),
        "massive_channel_share": share.max(-1),
    }


@dataclass
class Lens:
    """Decoded states at the sampled positions: log-probabilities [state item vocab], next and current ids [item]."""

    log_p: Tensor
    targets: Tensor
    current: Tensor

    @property
    def top1(self) -> Tensor:
        """[state item]."""
        return self.log_p.argmax(-1)


def lens_of(
    plain: Plain,
    passes: Sequence[Pass],
    ids: Sequence[Sequence[int]],
    at: Mapping[int, np.ndarray],
    maps: tuple[Tensor, Tensor] | None = None,
) -> Lens:
    """Everything decoded at once, which only a tiny model allows; `maps` are A [layer d d] and b [layer d]."""
    logits, targets, current = [], [], []
    for window, positions in at.items():
        states = [s[positions] for s in passes[window].states]
        if maps is not None:
            pairs = zip(states[:-1], maps[0].to(states[0]), maps[1].to(states[0]), strict=True)
            states = [*(h + h @ a.T + b for h, a, b in pairs), states[-1]]
        logits.append(plain.logits(torch.stack(states)).double())
        targets.append(torch.tensor([ids[window][p + 1] for p in positions]))
        current.append(torch.tensor([ids[window][p] for p in positions]))
    return Lens(torch.log_softmax(torch.cat(logits, 1), -1), torch.cat(targets), torch.cat(current))


def logit_lens(lens: Lens) -> Numbers:
    """Each state's prediction against the final one and the true next token."""
    log_q, log_p = lens.log_p, lens.log_p[-1:]
    q, p = log_q.exp(), log_p.exp()
    top5 = log_q.topk(5, -1).indices
    shared = [
        [len(set(a) & set(b)) / 5 for a, b in zip(s, top5[-1].tolist(), strict=True)] for s in top5.tolist()
    ]
    final = log_q.gather(-1, lens.top1[-1].expand(len(log_q), -1)[..., None])
    every = lens.targets.expand(len(log_q), -1)[..., None]
    copied = log_q.gather(-1, lens.current.expand(len(log_q), -1)[..., None])[..., 0]
    kl = numbers((p * (log_p - log_q)).sum(-1))
    rank = numbers(1 + (log_q > final).sum(-1))
    loss = numbers(-log_q.gather(-1, every)[..., 0].mean(-1))
    agreement, overlap = numbers((lens.top1 == lens.top1[-1]).double().mean(-1)), np.mean(shared, -1)
    middle = ((p + q) / 2).log()
    jsd = numbers(((p * (log_p - middle)).sum(-1) + (q * (log_q - middle)).sum(-1)).mean(-1) / 2)
    reverse = numbers((q * (log_q - log_p)).sum(-1).mean(-1))
    return {
        "jsd_to_final": jsd,
        "shared_mass": numbers(torch.minimum(p, q).sum(-1).mean(-1)),
        "top5_in_order": numbers((top5 == top5[-1]).double().mean(-1).mean(-1)),
        "convergence_depth": np.stack([halving(c) for c in (kl.mean(-1), reverse, jsd)]),
        "overlap_depth": crossings(overlap > 0.3),
        "kl_to_final": kl.mean(-1),
        "kl_median": np.median(kl, -1),
        "kl_p95": np.quantile(kl, 0.95, axis=-1, method="inverted_cdf"),
        "reverse_kl_to_final": numbers((q * (log_q - log_p)).sum(-1).mean(-1)),
        "cross_entropy": loss,
        "excess_cross_entropy": loss - loss[-1],
        "perplexity": np.where(loss <= np.log(1e6), np.exp(loss), np.nan),
        "entropy": numbers(-(q * log_q).sum(-1).mean(-1)),
        "top1_agreement": agreement,
        "top5_overlap": overlap,
        "median_rank": np.median(rank, -1),
        "log10_rank": np.log10(rank).mean(-1),
        "copy_current": numbers(copied.exp().mean(-1)),
        "agreement_area": np.asarray(np.trapezoid(agreement, np.linspace(0, 1, len(agreement)))),
        "agreement_half": last_unmet(agreement >= 0.5),
        "kl_half": last_unmet(kl.mean(-1) <= kl.mean(-1).max() / 2),
        "overlap_third": last_unmet(overlap >= 0.3),
    }


def halving(curve: np.ndarray) -> np.ndarray:
    """First and stable crossing of half of the largest value, and of half of the value at state 2 behind it."""
    later = np.arange(len(curve)) > 2
    return np.stack([crossings(curve <= curve.max() / 2), crossings((curve <= curve[2] / 2) & later)])


def crossings(met: np.ndarray) -> np.ndarray:
    """The first state at which something holds, and the first from which on it does; the last one always does."""
    met = np.append(met[:-1], True)
    return np.asarray([np.flatnonzero(met)[0], last_unmet(met)], np.float64)


def last_unmet(met: np.ndarray) -> np.ndarray:
    """The state after the last one at which something does not hold."""
    return np.asarray(max((s + 1 for s, held in enumerate(met) if not held), default=0), np.float64)


def lens_quality(lenses: Sequence[Lens], ids: Sequence[Sequence[int]], edges: Sequence[int]) -> Numbers:
    """Each lens like the logit lens, which is the first; without gate and norms."""
    each = [logit_lens(lens) for lens in lenses]
    shared = ("kl_to_final", "kl_median", "kl_p95", "cross_entropy", "excess_cross_entropy", "entropy",
              "top1_agreement", "top5_overlap", "median_rank", "log10_rank")  # fmt: skip
    found = {name: np.stack([one[name] for one in each]) for name in shared}
    compared = {"kl": "kl_to_final", "cross_entropy": "cross_entropy", "entropy": "entropy",
                "agreement": "top1_agreement", "log10_rank": "log10_rank"}  # fmt: skip
    found |= {f"{short}_difference": found[name] - found[name][:1] for short, name in compared.items()}
    mean_p = np.stack([numbers(lens.log_p.exp().mean(1)) for lens in lenses])
    final = mean_p[0, -1]
    seen = [t for t in range(mean_p.shape[-1]) if t in buckets_of(ids, edges)]
    rest = [t for t in range(mean_p.shape[-1]) if t not in seen]

    def lumped(p: np.ndarray) -> np.ndarray:
        return np.concatenate([p[..., seen], p[..., rest].sum(-1, keepdims=True)], -1)

    found["marginal_bias"] = (lumped(final) * np.log(lumped(final) / lumped(mean_p))).sum(-1)
    found["mass_above_final"] = masses(mean_p, ids, edges) - masses(final, ids, edges)
    return found


def masses(p: np.ndarray, ids: Sequence[Sequence[int]], edges: Sequence[int]) -> np.ndarray:
    """Probabilities [.. vocab] summed by bucket; tokens that the text lacks are in the last one."""
    bucket, found = buckets_of(ids, edges), np.zeros((*p.shape[:-1], len(edges) + 1))
    for token in range(p.shape[-1]):
        found[..., bucket.get(token, len(edges))] += p[..., token]
    return found


def lens_validation(
    lenses: Sequence[Lens], own: int, chosen: set[int], ids: Sequence[Sequence[int]], edges: Sequence[int]
) -> Numbers:
    """Masses, shares of top-1 tokens and divergences, on and off the chosen tokens; `own` is the run's lens."""
    bucket, size = buckets_of(ids, edges), len(edges) + 1
    mean_p = np.stack([numbers(lens.log_p.exp().mean(1)) for lens in lenses])
    mass = masses(mean_p, ids, edges)
    top = np.stack([lens.top1.numpy() for lens in lenses])
    place = np.vectorize(lambda t: bucket.get(t, size - 1))(top)
    inside = np.vectorize(lambda t: t in chosen)(top).mean(-1)
    on = np.asarray([t in chosen for t in top[0, -1].tolist()])
    kl = np.stack(
        [numbers((lens.log_p[-1].exp() * (lens.log_p[-1] - lens.log_p)).sum(-1)) for lens in lenses]
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        retained = inside / inside[own]
    return {
        "mass": mass,
        "mass_above_final": mass - mass[:1, -1:],
        "converged_share": (np.abs(mass - mass[:1, -1:])[:, :-1, 0] < 0.02).mean(1),
        "top1_share": np.stack([(place == k).mean(-1) for k in range(size)], -1),
        "set_share": inside,
        "set_share_retained": retained,
        "kl_on_set": kl[..., on].mean(-1),
        "kl_off_set": kl[..., ~on].mean(-1),
        "kl_on_set_difference": (kl - kl[own])[..., on].mean(-1),
        "kl_off_set_difference": (kl - kl[own])[..., ~on].mean(-1),
    }


def settle_depth(lens: Lens) -> Numbers:
    """Onsets of the final top-1 over states 0..L, position by position."""
    top, last = lens.top1.T.tolist(), len(lens.top1) - 1
    hits = [[t == row[-1] for t in row] for row in top]
    first = [h.index(True) for h in hits]
    stable = [min(s for s in range(last + 1) if all(h[s:])) for h in hits]
    # at the last state there is no second one to persist into
    persistent = [min(s for s in range(last + 1) if all(h[s : s + 2])) for h in hits]
    found: Numbers = {}
    for name, depth in {"first": first, "stable": stable, "persistent": persistent}.items():
        found[name] = np.mean(depth)
        found[f"{name}_median"] = np.median(depth)
        found[f"{name}_censored"] = np.mean(np.equal(depth, last))
        found[f"{name}_histogram"] = np.mean([[d == s for s in range(last + 1)] for d in depth], 0)
    found["flip_rate"] = 1 - np.mean(hits, 0)
    return found


def buckets_of(ids: Sequence[Sequence[int]], edges: Sequence[int], special: int = 3) -> dict[int, int]:
    """Token -> bucket of its rank by falling count, ties by id; tokens below `special` are not counted."""
    seen = [t for row in ids for t in row if t >= special]
    order = sorted(set(seen), key=lambda t: (-seen.count(t), t))
    return {t: sum(rank > edge for edge in edges) for rank, t in enumerate(order, start=1)}


def frequency_onset(lens: Lens, ids: Sequence[Sequence[int]], edges: Sequence[int]) -> Numbers:
    """Share of positions whose top-1 is in each bucket, by state; tokens that the text lacks are in the last one."""
    bucket, size = buckets_of(ids, edges), len(edges) + 1
    share = np.zeros((len(lens.top1), size))
    for state, row in enumerate(lens.top1.tolist()):
        for token in row:
            share[state, bucket.get(token, size - 1)] += 1 / len(row)
    enough = share >= share[-1] / 2 - 1e-12
    onset = np.full((2, size), np.nan)
    for k in np.flatnonzero(share[-1]):
        onset[0, k] = next(s for s in range(len(share)) if enough[s, k])
        onset[1, k] = next(s for s in range(len(share)) if enough[s:, k].all())
    text = [bucket[t] for row in ids for t in row if t in bucket]
    return {
        "share": share,
        "share_above_final": share - share[-1],
        "onset": onset,
        "corpus_share": np.asarray([text.count(k) / len(text) for k in range(size)]),
        "blank_share": np.asarray(0.0),
    }


def decision_flips(lens: Lens, ids: Sequence[Sequence[int]], edges: Sequence[int]) -> Numbers:
    """Flips by bucket of the early guess, their chance levels, and the split by who was right."""
    top, true, size = lens.top1.T.tolist(), lens.targets.tolist(), len(edges) + 1
    bucket = buckets_of(ids, edges)
    place = [[bucket.get(t, size - 1) for t in row] for row in top]
    first = min(bucket, key=lambda t: sum(t == other for row in ids for other in row) * -1000 + t)
    depth, n = len(top[0]), len(top)
    flip, chance = np.full((depth, size + 1), np.nan), np.full((depth, size + 1), np.nan)
    moved, kinds = np.full((depth, size, size), np.nan), np.zeros((depth, 5))
    for s in range(depth):
        for k in range(size + 1):
            rows = [i for i in range(n) if k in (size, place[i][s])]
            if rows:
                flip[s, k] = np.mean([top[i][s] != top[i][-1] for i in rows])
                pairs = [top[i][s] != top[j][-1] for i in rows for j in range(n) if i != j]
                chance[s, k] = np.mean(pairs)
                if k < size:
                    moved[s, k] = [np.mean([place[i][-1] == to for i in rows]) for to in range(size)]
        for i in range(n):
            kinds[s, kind_of(top[i][s], top[i][-1], true[i])] += 1 / n
    hits = [[t == row[-1] for t in row] for row in top]
    lost = [any(h[a] and not h[b] for b in range(depth) for a in range(b)) for h in hits]
    return {
        "flip_rate": flip,
        "chance_flip_rate": chance,
        "constant_flip_rate": np.mean([row[-1] != first for row in top]),
        "bucket_transition": moved,
        "outcome": kinds,
        "changes": np.mean([sum(a != b for a, b in itertools.pairwise(row)) for row in top]),
        "distinct_tokens": np.mean([len(set(row)) for row in top]),
        "reentry_rate": np.mean(lost),
    }


def kind_of(early: int, final: int, true: int) -> int:
    """0 wrong to right, 1 right to wrong, 2 wrong to another wrong, 3 the same wrong, 4 right throughout."""
    if final == true:
        return 4 if early == true else 0
    if early == true:
        return 1
    return 3 if early == final else 2


def residual_contribution(passes: Sequence[Pass]) -> Numbers:
    """Sizes and angles of writes token by token, their statistics over plain positions, and where they change over."""
    table = _writes(passes)
    plain = {name: values[table["plain"] > 0] for name, values in table.items()}
    found: Numbers = {}
    for k, writer in enumerate(("attention", "mlp", "block")):
        found[f"{writer}_relative_norm"] = plain["ratio"][..., k].mean(0)
        found[f"{writer}_cosine"] = plain["cosine"][..., k].mean(0)
    kinds = {"ratio": "relative_norm", "cosine": "cosine"}
    for column, kind in kinds.items():
        sets = (table["plain"] > 0, table["plain"] >= 0, table["plain"] == 0)
        found[f"{kind}_by_sinks"] = np.stack([table[column][at].mean(0) for at in sets])
        # the sample holds float32 numbers
        sample = plain[column].astype(np.float32).astype(float)
        for name, share in {"p10": 0.1, "median": 0.5, "p90": 0.9}.items():
            found[f"{kind}_{name}"] = np.quantile(sample, share, axis=0, method="inverted_cdf")
    size, stream = plain["size"], plain["stream"]
    found |= {
        "write_norm": size.mean(0), "stream_norm": stream.mean(0), "norm_ratio": size.mean(0) / stream.mean(0),
        "write_norm_max": size.max(0), "relative_norm_max": plain["ratio"].max(0),
    }  # fmt: skip
    energy = (stream[..., 2] ** 2).sum(0)
    product = plain["cosine"][..., 2] * size[..., 2] * stream[..., 2]
    found |= {
        "parallel_gain": 2 * product.sum(0) / energy,
        "orthogonal_energy": (size[..., 2] ** 2).sum(0) / energy,
        "growth": (plain["after"] ** 2).sum(0) / energy - 1,
        "growth_gap": np.zeros(len(energy)),
        "stream_cosine": plain["kept"].mean(0),
    }
    found |= _classes(plain["cosine"], int(table["width"][0]))
    return found | _levels(np.log(plain["ratio"][..., 2].mean(0))[2:-1])


def _writes(passes: Sequence[Pass]) -> dict[str, np.ndarray]:
    """One row a token: size, stream, ratio and cosine [token, layer, writer], |h'| and cos(h, h') [token, layer]."""
    rows: dict[str, list[np.ndarray]] = {}
    for seen in passes:
        layers = []
        for layer in range(len(seen.mlp)):
            h, a, m = (numbers(t) for t in (seen.states[layer], seen.attention[layer], seen.mlp[layer]))
            layers.append([(a, h), (m, h + a), (a + m, h)])
        size = np.stack([[np.linalg.norm(w, axis=-1) for w, _ in pairs] for pairs in layers])
        stream = np.stack([[np.linalg.norm(s, axis=-1) for _, s in pairs] for pairs in layers])
        cosine = np.stack([[(unit(w) * unit(s)).sum(-1) for w, s in pairs] for pairs in layers])
        states = [numbers(s) for s in seen.states]
        found = {
            "size": size, "stream": stream, "cosine": cosine, "ratio": size / stream,
            "after": np.stack([np.linalg.norm(s, axis=-1) for s in states[1:]]),
            "kept": np.stack([(unit(a) * unit(b)).sum(-1) for a, b in itertools.pairwise(states)]),
        }  # fmt: skip
        for name, values in found.items():
            rows.setdefault(name, []).append(np.moveaxis(values, -1, 0))
        rows.setdefault("plain", []).append(np.where(sinks_of(seen), 0.0, 1.0))
        rows.setdefault("width", []).append(np.full(len(sinks_of(seen)), seen.states[0].shape[-1]))
    return {name: np.concatenate(values) for name, values in rows.items()}


def _classes(cosine: np.ndarray, width: int) -> Numbers:
    """Shares of tokens that erase, write anew and strengthen, and the last rise of the mean curve through zero."""
    border = max(0.05, 3 / math.sqrt(width))
    classes = [cosine < -border, np.abs(cosine) <= border, cosine > border]
    mean = cosine.mean(0)
    curve = mean.mean(-1)
    rises = [k for k in range(len(curve) - 1) if curve[k] < 0 <= curve[k + 1]]
    return {
        "mode_share": np.stack([c.mean(0) for c in classes], -1),
        "mode": np.sign(mean) * (np.abs(mean) > border),
        "cosine_crossing": np.asarray(rises[-1] if rises else np.nan),
    }


def _levels(curve: np.ndarray) -> Numbers:
    """Where a curve that begins at layer 2 changes level, if two levels beat one and a line; p is left to its draws."""

    def error(y: np.ndarray) -> float:
        return float(((y - y.mean()) ** 2).sum())

    def two(y: np.ndarray) -> tuple[float, int]:
        return min((error(y[:k]) + error(y[k:]), k) for k in range(3, len(y) - 2))

    if len(curve) < 6:  # a network of few layers has no levels to tell apart
        names = ("norm_change_layer", "norm_change_ratio", "norm_change_p")
        return dict.fromkeys(names, np.asarray(np.nan))
    left, k = two(curve)
    x, shuffle = np.arange(len(curve)), np.random.default_rng(1).permutation
    p = np.mean([two(shuffle(curve))[0] <= left for _ in range(1000)])
    found = p < 0.05 and left < error(curve - np.polyval(np.polyfit(x, curve, 1), x) + curve.mean())
    size = np.exp(curve[k:].mean() - curve[:k].mean())
    return {
        "norm_change_layer": np.asarray(k - 1.0 + 2 if found else np.nan),
        "norm_change_ratio": np.asarray(size if found else np.nan),
    }


def layer_skip(
    plain: Plain,
    ids: Sequence[Sequence[int]],
    splits: Sequence[Sequence[int]],
    reach: int,
    sublayer: str,
    protect: str = "sinks",
) -> Numbers:
    """Full forwards, one a layer, window and split: change of the output and of later layers' block writes."""
    depth = len(plain.blocks)
    found: dict[str, np.ndarray] = {}
    for window, own in zip(ids, splits, strict=True):
        clean = plain.run(window)
        measured = torch.tensor(~sinks_of(clean))
        at = measured if protect == "sinks" else torch.ones(len(window), dtype=torch.bool)
        token = torch.arange(len(window))
        for t in (None, *own):
            edited = at if t is None else at & (token < t)
            seen = measured if t is None else measured & (token >= t) & (token < t + reach)
            one = skips_of_window(plain, window, clean, sublayer, edited, seen, depth)
            for name, value in one.items():
                key = name if t is None else f"future_{name}"
                found[key] = np.concatenate([found[key], value], -1) if key in found else value
    return {**reduced(found, depth, ""), **reduced(found, depth, "future_")}


def skips_of_window(
    plain: Plain, window: Sequence[int], clean: Pass, sublayer: str, edited: Tensor, seen: Tensor, depth: int
) -> Numbers:
    """Of one window and all layers: output changes [layer position], sizes of changes [layer later position]."""
    writes = block_writes(clean)[:, seen]
    size = (writes**2).sum(-1).sqrt()
    kl, rise, shift, moved = [], [], [], []
    for layer in range(depth):
        other = plain.run(window, Skip(layer, sublayer, edited))
        gap, loss, apart = output_change(plain, clean, other, window)
        kl.append(gap[seen].numpy())
        shift.append(apart[seen].numpy())
        rise.append(loss[seen[:-1]].numpy())
        moved.append(((block_writes(other)[:, seen] - writes) ** 2).sum(-1).sqrt().numpy())
    clean_size = np.broadcast_to(size.numpy(), (depth, *size.shape))
    stacked = {"kl": kl, "rise": rise, "shift": shift, "moved": moved}
    return {**{name: np.stack(values) for name, values in stacked.items()}, "clean": clean_size}


def reduced(found: Numbers, depth: int, when: str) -> Numbers:
    """Means over positions, ratios of sums, largest values, and 95 % quantiles."""
    moved, clean = found[f"{when}moved"], found[f"{when}clean"]
    later = np.arange(depth)[None, :] >= np.arange(depth)[:, None]
    each = moved / np.maximum(clean, 1e-6)
    ordered = np.sort(each, -1)
    kl, loss = ("future_kl", "future_loss") if when else ("output_kl", "loss_increase")
    return {
        kl: found[f"{when}kl"].mean(-1),
        loss: found[f"{when}rise"].mean(-1),
        f"{when}shift": found[f"{when}shift"].mean(-1),
        f"{when}shift_largest": found[f"{when}shift"].max(-1),
        f"{when}effect_on_later": np.where(later, moved.sum(-1) / clean.sum(-1), np.nan),
        f"{when}effect_largest": np.where(later, each.max(-1), np.nan),
        f"{when}effect_p95": np.where(later, ordered[..., int(np.ceil(0.95 * each.shape[-1])) - 1], np.nan),
    }


def depth_of_effects(shift: np.ndarray, share: float = 0.9) -> tuple[float, float]:
    """The smallest depth that holds a share of the effects, and their centre of mass in layers."""
    depth = next(k for k in range(1, len(shift) + 1) if shift[:k].sum() >= share * shift.sum())
    return depth / len(shift), sum(k * e for k, e in enumerate(shift)) / sum(shift)


def mean_on_later(effect: np.ndarray) -> np.ndarray:
    """Mean over later layers; 0 for the last, which has none."""
    return np.asarray([effect[k, k + 1 :].mean() if k + 1 < len(effect) else 0.0 for k in range(len(effect))])


def block_writes(seen: Pass) -> Tensor:
    """[layer token d]."""
    states = torch.stack(seen.states).double()
    return states[1:] - states[:-1]


def output_change(
    plain: Plain, clean: Pass, edited: Pass, ids: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """KL(clean || edited) and |p - p'| at every position, the rise of the loss at those that have a next token."""
    log_p, log_q = (torch.log_softmax(plain.logits(s.states[-1]).double(), -1) for s in (clean, edited))
    following = torch.tensor(ids[1:])[:, None]
    loss = log_p[:-1].gather(-1, following) - log_q[:-1].gather(-1, following)
    apart = ((log_p.exp() - log_q.exp()) ** 2).sum(-1).sqrt()
    return (log_p.exp() * (log_p - log_q)).sum(-1), loss[:, 0], apart


def representation_profile(passes: Sequence[Pass]) -> Numbers:
    """Means over windows of spectra, turning angles and mean cosines of each state."""
    rows = []
    for seen in passes:
        everything = np.ones(len(seen.states[0]), bool)
        later = everything.copy()
        later[0] = False
        rows.append([_shape(numbers(s), everything, later, ~sinks_of(seen)) for s in seen.states])
    found = {name: np.mean([[state[name] for state in window] for window in rows], 0) for name in rows[0][0]}
    return found | {"curvature_change": found["curvature"] - found["curvature"][:1]}


def _shape(
    z: np.ndarray, everything: np.ndarray, later: np.ndarray, plain: np.ndarray
) -> dict[str, list[float] | float]:
    wei = [unit(z[m] - z[m].mean(0)) for m in (everything, later, plain)]
    spectra = [_spectrum(x) for x in (*wei, z)]
    angles = _angles(z)
    return {
        "prompt_entropy": [s[0] for s in spectra],
        "prompt_entropy_s2": [s[1] for s in spectra],
        "effective_rank": [s[2] for s in spectra],
        "top_share": [s[3] for s in spectra],
        "vanished_share": [0.0 for _ in spectra],
        "largest_token_share": (z**2).sum(-1).max() / (z**2).sum(),
        "curvature": [angles.mean(), _angles(z[later]).mean(), np.minimum(angles, np.pi - angles).mean()],
        "anisotropy": [_mean_cosine(unit(z[m])) for m in (everything, later, plain)],
    }


def _spectrum(x: np.ndarray) -> tuple[float, float, float, float]:
    """S1 and S2 of the Gram eigenvalues over ln min(n, d), exp of the entropy of singular values, largest share."""
    sigma = np.linalg.svd(x, compute_uv=False)
    p = sigma**2 / (sigma**2).sum()
    most = math.log(min(x.shape))
    rank = math.exp(_entropy(sigma / sigma.sum()))
    return _entropy(p) / most, -math.log((p**2).sum()) / most, rank, p.max()


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def _angles(z: np.ndarray) -> np.ndarray:
    """Between successive steps, radians; an angle that touches a step of length 0 does not exist."""
    steps = z[1:] - z[:-1]
    length = np.linalg.norm(steps, axis=-1)
    moved = (length[1:] > 0) & (length[:-1] > 0)
    cosine = (steps[1:] * steps[:-1]).sum(-1)[moved] / (length[1:] * length[:-1])[moved]
    return np.arccos(np.clip(cosine, -1, 1))


def _mean_cosine(u: np.ndarray) -> float:
    cosines = u @ u.T
    return float((cosines.sum() - np.trace(cosines)) / (len(u) * (len(u) - 1)))


def head_patterns(
    plain: Plain, passes: Sequence[Pass], ids: Sequence[Sequence[int]], every: int, offsets: int = 64
) -> Numbers:
    """Means over every n-th query from 1 on; `first` and `previous` only where that key can be seen."""
    shape = (len(plain.windows), plain.n_heads)
    rows: dict[str, np.ndarray] = {}
    profile, often = np.full((*shape, offsets), np.nan), np.zeros(offsets)
    for layer, window in enumerate(plain.windows):
        found = _heads(plain, passes, ids, layer, window, every)
        for name, by_head in found.items():
            table = rows.setdefault(name, np.full(shape, np.nan))
            table[layer] = [np.mean(h) if h else np.nan for h in by_head]
        for head in range(plain.n_heads):
            for d in range(offsets):
                seen = [
                    float(one.patterns[layer][head, i, i - d])
                    for one in passes
                    for i in range(max(1, d), len(one.states[0]))
                    if (i - 1) % every == 0
                ]
                profile[layer, head, d] = np.mean(seen) if seen else np.nan
                often[d] = len(seen)
    none = np.full(shape, np.nan)
    rows |= {"offset_profile": profile, "next": none, "far_mass": none}
    reached = profile[
        ..., often >= often.max() / 2
    ]  # the first ones: later offsets are seen by fewer queries
    rows["best_offset"] = np.nanargmax(reached, -1).astype(float)
    rows["best_offset_mass"] = np.nanmax(reached, -1)
    return rows


def _heads(
    plain: Plain,
    passes: Sequence[Pass],
    ids: Sequence[Sequence[int]],
    layer: int,
    window: int | None,
    every: int,
) -> dict[str, list[list[float]]]:
    n_heads = plain.n_heads
    found: dict[str, list[list[float]]] = {}
    for seen, read in zip(passes, ids, strict=True):
        # no start and no end is among them
        texts = [plain.spell(int(i)) for i in read]
        signs = [_is_sign(t) for t in texts]
        feeds = [not t.strip() and ("\n" in t or "\r" in t) for t in texts]
        sinks, value = sinks_of(seen), _value_norms(plain, layer, seen.states[layer])
        for head in range(n_heads):
            for i in range(1, len(read), every):
                a = numbers(seen.patterns[layer][head, i])
                heavy = a * value[head] / (a * value[head]).sum()
                rest = np.where(sinks, 0, a)
                scores = _row(a, i, window) | {
                    "local_128": sum(a[1 : i + 1]),
                    "bos": 0.0, "sep": 0.0, "newline": a[feeds].sum(), "punct": a[signs].sum(),
                    "kv_spread": _spread_in_group(plain, seen.patterns[layer][:, i], head),
                }  # fmt: skip
                if rest.sum() > 0:
                    scores["distance_nosink"] = sum(rest[j] * abs(i - j) for j in range(len(a))) / rest.sum()
                again = _row(heavy, i, window)
                scores |= {f"{name}_weighted": x for name, x in again.items() if name != "entropy"}
                for name, x in scores.items():
                    found.setdefault(name, [[] for _ in range(n_heads)])[head].append(float(x))
    return found


def _is_sign(text: str) -> bool:
    """True for punctuation and symbols alone; half a character, spelled as U+FFFD, is none."""
    bare = text.strip()
    return bool(bare) and "\ufffd" not in bare and all(unicodedata.category(c)[0] in "PS" for c in bare)


def _value_norms(plain: Plain, layer: int, stream: Tensor) -> np.ndarray:
    """|gain * W_O[:, h] v_j| of every head and key, [head key]."""
    block = plain.blocks[layer]
    _, _, v = plain.projected(block, stream)
    d = v.shape[-1]
    if plain.kind == "gpt2":
        written = [v[h] @ block.attn.c_proj.weight[h * d : (h + 1) * d] for h in range(plain.n_heads)]
    else:
        weight = block.self_attn.o_proj.weight
        written = [v[h] @ weight[:, h * d : (h + 1) * d].T for h in range(plain.n_heads)]
    gain = 1.0 + block.post_attention_layernorm.weight if plain.kind == "gemma2" else 1.0
    return np.stack([np.linalg.norm(numbers(w * gain), axis=-1) for w in written])


def _spread_in_group(plain: Plain, rows: Tensor, head: int) -> float:
    """Mean divergence of a head's row from those of the heads that share its keys."""
    size = plain.n_heads // getattr(plain.config, "num_key_value_heads", plain.n_heads)
    others = [h for h in range(head // size * size, (head // size + 1) * size) if h != head]
    smooth = lambda h: 0.999 * numbers(rows[h]) + 0.001 / rows.shape[-1]  # noqa: E731
    apart = [
        _entropy((smooth(head) + smooth(h)) / 2) - (_entropy(smooth(head)) + _entropy(smooth(h))) / 2
        for h in others
    ]
    return float(np.mean(apart)) if apart else math.nan


def _row(a: np.ndarray, i: int, window: int | None) -> dict[str, float]:
    """Scores of one attention row of query i."""
    visible = min(i + 1, window or i + 1)
    near = lambda w: sum(a[j] for j in range(1, i + 1) if i - j < w)  # noqa: E731
    scores = {
        "entropy": _entropy(a),
        "entropy_norm": _entropy(a) / math.log(visible),
        "distance": sum(a[j] * abs(i - j) for j in range(len(a))),
        "previous": a[i - 1],
        "self": a[i],
        "local_8": near(8),
        "local_32": near(32),
    }
    return scores | ({"first": a[0]} if window is None or i < window else {})
