"""Logit lens: what each layer would predict, read through the lens of the run.

Question: If the model stopped after each layer and decoded its stream with its own head, what would it
predict, and how far is that from its final prediction?

Method: Every state (the embedding output, then each block's output, before the final norm) goes through the
lens of the run, then through the model's own final norm and unembedding, at hash-sampled positions. The logit
lens, the default, leaves states as they are; a ridge or tuned lens (`--lens DIR`) first maps each state
linearly. kl_to_final = KL(final || state), its median and 95th percentile (kl_median, kl_p95),
reverse_kl_to_final = KL(state || final), jsd_to_final = their Jensen-Shannon divergence (0 to ln 2, at fewer
positions), shared_mass = sum over tokens of the smaller of both probabilities, cross_entropy against the true
next token, excess_cross_entropy over the final state's, entropy, all in nats; perplexity = exp(cross_entropy);
top1_agreement and top5_overlap with the final prediction, top5_in_order = share of the five ranks with the same
token; median_rank and mean log10_rank of the final top-1 token; copy_current = probability of the token that
was just read. Effective depth in three numbers: agreement_area, the area under top1_agreement over relative
depth; agreement_half, kl_half and overlap_third, the first state from which on agreement stays at 1/2 or more,
KL at half of its maximum or less, the top-5 overlap at 0.3 or more. convergence_depth is the first state at
which a mean divergence is half of its largest value, or of its value at state 2, or less: once (`first`) or for
good (`stable`); overlap_depth is the same for a top-5 overlap above 0.3. convergence_censored and
overlap_censored are the shares of bootstrap draws in which only the final state does it, which does it always.
The final state is never mapped, so it is the model's own prediction. Position 0 is left out.

How to read: KL falls towards 0 as the prediction forms; the state where it starts to fall fast is where
layers begin to speak the language of the output, or of the lens. Agreement and rank tell the same in discrete
steps. agreement_area is 1 where the final prediction is there from the start and near 0 where it comes last.
Hover or focus a cell of a token strip to see the five most likely tokens; every note says which lens was used.

What misleads: The early stream need not be written in the head's language, so a poor early lens does not show
that nothing is known there; a fitted lens may put in what the state does not say to the model. In models with
tied embeddings early states of the logit lens decode to the current token: see copy_current. The two directions
of KL differ several-fold; compare like with like. A threshold makes a depth: agreement_half of two lenses
compare the lenses, not two models. The largest divergence often stands at the embedding, which says little of
the layers: compare with state 2. A first crossing may be a lucky dip: compare with the stable one.

Source: nostalgebraist 2020, interpreting GPT: the logit lens; Belrose et al. 2023 (arXiv 2303.08112); Hu et
al. 2025 (arXiv 2512.14064) for effective depth by divergence and overlap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.convergence import convergence, overlap_depths
from depthscope.engine.curves import Reached, area, crossing, quantile
from depthscope.engine.measured import mean, median, part, states
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.shard import sampled
from depthscope.engine.tally import PerDocument, Rows, Tally
from depthscope.engine.view import Decoded, View
from depthscope.errors import Refused
from depthscope.ranges import at_least, check_ranges
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings, Result
from depthscope.runtime.head import Decode
from depthscope.runtime.model import Batch, Model

WANTED = Decode(top_k=5, entropy=True, kl=True, reverse_kl=True, target=True, final_rank=True)
UNITS = {
    "kl_to_final": "nats",
    "reverse_kl_to_final": "nats",
    "jsd_to_final": "nats",
    "shared_mass": "probability",
    "cross_entropy": "nats",
    "excess_cross_entropy": "nats",
    "entropy": "nats",
    "top1_agreement": "probability",
    "top5_overlap": "probability",
    "top5_in_order": "probability",
    "log10_rank": "1",
    "copy_current": "probability",
}
CROSSINGS: dict[str, tuple[str, str, Reached]] = {
    "agreement_half": ("top1_agreement", "an agreement of 1/2", lambda c: c >= 0.5),
    "kl_half": (
        "kl_to_final",
        "half of the largest mean KL or less",
        lambda c: 2 * c <= c.max(-1, keepdims=True),
    ),
    "overlap_third": ("top5_overlap", "a top-5 overlap of 0.3", lambda c: c >= 0.3),
}
"""Effective depths: name -> curve, words, and where it has been reached."""
DIVERGENCES = ("kl_to_final", "reverse_kl_to_final", "jsd_to_final")
OF_FEWER = ("jsd_to_final", "shared_mass")
NOT_ASKED = "jsd_positions is 0"
OF_TARGETS = ("cross_entropy", "excess_cross_entropy", "perplexity")
NO_TARGETS = "the model is no causal language model: there is no next token to compare with"
LIMIT = 1e6
"""A perplexity beyond this says only that the lens cannot read the state."""


@dataclass(frozen=True)
class LogitLens:
    """The states decoded with the model's own head, through the lens of the run.

    Args:
        positions: hash-sampled positions that are decoded at all states.
        jsd_positions: those of them at which jsd_to_final and shared_mass are taken; 0 for none.
        strips: windows shown as token strips. strip_tokens: positions of each strip.
    """

    positions: int = 2048
    jsd_positions: int = 256
    strips: int = 3
    strip_tokens: int = 24

    def __post_init__(self) -> None:
        check_ranges(
            self,
            positions=at_least(1),
            jsd_positions=at_least(0),
            strips=at_least(0),
            strip_tokens=at_least(1),
        )

    def needs(self, anatomy: Anatomy) -> Needs:
        """All states, decoded; refused without an unembedding."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so its states cannot be decoded to tokens")
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}), WANTED, self.positions)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Per-position values summed by unit, divergences and ranks in rows, and the strips of the first windows."""
        del given
        decoded = seen.decoded
        found = {**_values(decoded), "copy_current": _copied(model, batch, seen)}
        items = {name: _items(values) for name, values in found.items()}
        values = {name: PerDocument.of(decoded.units, each) for name, each in items.items()}
        values |= self._apart(seen)
        values["agreement_area"] = PerDocument.of(decoded.units, area(items["top1_agreement"]))
        rank = decoded.trace.final_rank
        assert rank is not None
        columns = {
            "rank": _items(rank).astype(np.int32),
            "kl": items["kl_to_final"],
            "unit": np.asarray(decoded.units, dtype=str),
        }
        rows = Rows(seen.sampling_keys(decoded.rows, decoded.positions), columns, seen.needs.positions)
        shown = [r for r, window in enumerate(seen.shard.windows) if window < self.strips]
        strips = {"strips": self._strips(model, batch, seen, shown)} if shown else {}
        return Tally({**values, "rows": rows, **strips})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Curves over states, and effective depths."""
        axes, note = states(facts), _note(facts)
        found: dict[str, Measurement] = {}
        for name, unit in UNITS.items():
            missing = NO_TARGETS if name in OF_TARGETS and not facts.causal else ""
            if name in OF_FEWER and not self.jsd_positions:
                nothing = np.full(facts.n_layers + 1, np.nan)
                found[name] = Measurement(name, axes, nothing, unit, note=note, missing=NOT_ASKED)
                continue
            found[name] = mean(part(total, name, PerDocument), name, axes, unit, facts, note, missing)
        rows = part(total, "rows", Rows)
        found["kl_median"] = median(rows, "kl", "kl_median", axes, "nats", facts, note)
        found["kl_p95"] = quantile(rows, "kl", 0.95, "kl_p95", axes, "nats", facts, note)
        found["median_rank"] = median(rows, "rank", "median_rank", axes, "1", facts, note)
        found["perplexity"] = _perplexity(found["cross_entropy"], facts)
        strips = total.get("strips")
        examples = {"strips": _table(strips, facts.lens)} if isinstance(strips, Rows) else {}
        notes = (f"States were decoded through the lens `{facts.lens}`.",)
        curves = {name: part(total, name, PerDocument) for name in DIVERGENCES}
        overlap = part(total, "top5_overlap", PerDocument)
        depths = [*convergence(curves, facts), *overlap_depths(overlap, facts)]
        found |= {**_depths(total, facts), **{m.name: m for m in depths}}
        return Findings(found, examples, notes=notes)

    def _apart(self, seen: View) -> dict[str, PerDocument]:
        """Divergence and shared mass at the first of the sampled positions, in the order of their hashes."""
        assert seen.whole is not None
        count = min(self.jsd_positions, self.positions)
        chosen = sampled(seen.whole, count, seen.seed) if count else {}
        pairs = [(row, int(p)) for row, w in enumerate(seen.shard.windows) for p in chosen.get(w, ())]
        decoded = seen.decode(torch.tensor(pairs, dtype=torch.long).reshape(-1, 2), Decode(jsd=True))
        assert decoded.trace.jsd is not None
        assert decoded.trace.shared_mass is not None
        found = {"jsd_to_final": decoded.trace.jsd, "shared_mass": decoded.trace.shared_mass}
        return {name: PerDocument.of(decoded.units, _items(values)) for name, values in found.items()}

    def _strips(self, model: Model, batch: Batch, seen: View, rows: list[int]) -> Rows:
        length = min(self.strip_tokens, batch.length - 2)
        pairs = torch.tensor([(r, p) for r in rows for p in range(1, 1 + length)])
        decoded = seen.decode(pairs, Decode(top_k=5))
        ids, logits = decoded.trace.top_ids, decoded.trace.top_logits
        assert ids is not None
        assert logits is not None
        probability = torch.exp(logits - decoded.trace.logsumexp[..., None]).transpose(0, 1)
        windows = torch.tensor(seen.shard.windows)[pairs[:, 0]]
        name = _namer(model)
        columns = {
            "strip": windows.numpy(),
            "position": pairs[:, 1].numpy(),
            "document": np.asarray(decoded.units, dtype=str),
            "token": name(batch.ids.cpu()[pairs[:, 0], pairs[:, 1]]),
            "target": name(decoded.targets),
            "prediction": name(ids.transpose(0, 1)),
            "probability": probability.float().cpu().numpy(),
        }
        return Rows((windows * 10**6 + pairs[:, 1]).numpy().astype(np.uint64), columns, 10**6)


def _note(facts: Facts) -> str:
    return (
        f"lens {facts.lens}; position 0 left out; state s is the output of block s-1, before the final norm"
    )


def _values(decoded: Decoded) -> dict[str, Tensor]:
    t = decoded.trace
    assert t.kl is not None
    assert t.reverse_kl is not None
    assert t.entropy is not None
    assert t.cross_entropy is not None
    assert t.top_ids is not None
    assert t.final_rank is not None
    loss = torch.where(decoded.has_target, t.cross_entropy, torch.full_like(t.cross_entropy, torch.nan))
    shared = (t.top_ids[..., :, None] == t.top_ids[-1][..., None, :]).any(-1).double().mean(-1)
    return {
        "kl_to_final": t.kl,
        "reverse_kl_to_final": t.reverse_kl,
        "cross_entropy": loss,
        "excess_cross_entropy": loss - loss[-1],
        "entropy": t.entropy,
        "top1_agreement": (t.top_ids[..., 0] == t.top_ids[-1, :, 0]).double(),
        "top5_overlap": shared,
        "top5_in_order": (t.top_ids == t.top_ids[-1]).double().mean(-1),
        "log10_rank": t.final_rank.double().log10(),
    }


def _copied(model: Model, batch: Batch, seen: View) -> Tensor:
    """Probability of the token that stands at each decoded position, [state, item]."""
    decoded = seen.decoded
    current = batch.ids[decoded.rows, decoded.positions]
    states = seen.lens(seen.states_at(decoded.rows, decoded.positions))
    return torch.exp(model.head.logit_of(states, current) - decoded.trace.logsumexp)


def _depths(total: Tally, facts: Facts) -> dict[str, Measurement]:
    """Effective depth by agreement, by divergence and by overlap."""
    note = f"area under top1_agreement over depth 0 to 1; lens {facts.lens}"
    curve = part(total, "agreement_area", PerDocument)
    found = {"agreement_area": mean(curve, "agreement_area", {}, "1", facts, note)}
    for name, (of, said, reached) in CROSSINGS.items():
        note = f"first state with {said} for good, of {facts.n_layers}; lens {facts.lens}"
        found[name] = crossing(part(total, of, PerDocument), reached, name, facts, note)
    return found


def _perplexity(loss: Measurement, facts: Facts) -> Measurement:
    """exp(mean cross-entropy), missing beyond LIMIT."""
    with np.errstate(over="ignore"):
        value, low, high = (np.exp(np.asarray(part)) for part in (loss.value, loss.low, loss.high))
    kept = value <= LIMIT
    missing = NO_TARGETS if not facts.causal else f"above {LIMIT:.0e}, where it says no more than the loss"
    return replace(
        loss,
        name="perplexity",
        unit="1",
        value=np.where(kept, value, np.nan),
        low=np.where(kept, low, np.nan),
        high=np.where(kept & np.isfinite(high), high, np.nan),
        missing="" if kept.all() else missing,
    )


def _items(values: Tensor) -> np.ndarray:
    """[state, item] -> [item, state] on the host."""
    return values.T.double().cpu().numpy()


def _namer(model: Model):  # noqa: ANN202  (a local function, typed below)
    def name(ids: Tensor) -> np.ndarray:
        flat = ids.cpu().flatten().tolist()
        known = {i: model.tokenizer.decode([i]) for i in set(flat)}
        return np.asarray([known[i] for i in flat], dtype=str).reshape(ids.shape)

    return name


def _table(rows: Rows, lens: str) -> Table:
    """One row a (strip, position, state, k)."""
    c = rows.columns
    n, n_states, k = c["prediction"].shape
    grid = np.indices((n, n_states, k)).reshape(3, -1)
    item, state, place = grid
    one = {name: c[name][item] for name in ("strip", "document", "position", "token", "target")}
    cells = {
        "prediction": c["prediction"].reshape(-1),
        "probability": c["probability"].reshape(-1).astype(np.float64),
    }
    return Table(
        {**one, "state": state, "k": place + 1, **cells},
        f"token strips: the five most likely tokens at each state, through the lens {lens}",
    )
