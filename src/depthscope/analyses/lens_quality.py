"""Lens quality: how well each lens reads the states, beside the logit lens.

Question: How far from the model's own prediction is what each lens reads in a state, and does a fitted lens
read better than the logit lens?

Method: All lenses of the run (`--lens logit,DIR,DIR`; the logit lens is added where it is not given) decode the
same hash-sampled positions, the first of those that other analyses decode. By lens and state: KL(final || state)
with median and 95th percentile, cross_entropy of the true next token and its excess over the final state's,
entropy, all in nats; top1_agreement, top5_overlap; rank of the final top-1 (median, mean log10). *_difference is
the lens minus the logit lens, position by position, with an interval over documents. gate_share is the share of
the states s <= 0.8 L where mean KL is below the logit lens's, gate_sure_share where the whole interval is;
gate_worst_difference the largest difference there, at gate_worst_state; gate is 1 if mean KL is below at all of
them. weight_norm and bias_norm are Frobenius norms of the residual translator A_s, b_s. mass_above_final is the
mean mass of each frequency bucket minus that under the final state. marginal_bias = KL(mean final || mean state)
of the distributions averaged over positions, over the most frequent tokens and all others together, which can only
make it smaller.

How to read: A fitted lens should be below the logit lens everywhere, most of all in the first half; that is the
least that is asked of it (gate). A marginal bias near 0 and a mass above final near 0 say that its guesses are
right on average; KL says whether they are right for this context.

What misleads: A lens that was fitted on the same text looks better than it is: the notes say where that is so.
gate_worst_difference is the largest of many, so its interval is too kind. A low KL does not show that the model
uses what the lens reads. Buckets of a short text are chance beyond the most frequent tokens. The marginal bias of
few positions is above 0 by chance too, and has no interval here.

Source: Belrose et al. 2023 (arXiv 2303.08112), sections 3 and 4; Din et al. 2023 (arXiv 2303.09435).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.curves import quantile
from depthscope.engine.lenses import Compared, cards, compared, names, overlaps, readable, with_rest
from depthscope.engine.measured import Axes, mean, median, part, states
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import PerDocument, Rows, Sum, Tally
from depthscope.engine.view import View
from depthscope.errors import BadInput
from depthscope.materials.frequency import EDGES, bucket_names
from depthscope.ranges import at_least, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model

UNITS = {
    "kl_to_final": "nats",
    "cross_entropy": "nats",
    "excess_cross_entropy": "nats",
    "entropy": "nats",
    "top1_agreement": "probability",
    "top5_overlap": "probability",
    "log10_rank": "1",
}
COMPARED = {"kl": "kl_to_final", "cross_entropy": "cross_entropy", "entropy": "entropy",
            "agreement": "top1_agreement", "log10_rank": "log10_rank"}  # fmt: skip
"""What is compared with the logit lens: prefix of its name -> measurement."""
NO_TARGETS = "the model is no causal language model: there is no next token to compare with"
DEPTH = 0.8
"""The gate judges states up to this share of the depth."""


@dataclass(frozen=True)
class LensQuality:
    """Every lens of the run against the model's own prediction and against the logit lens.

    Args:
        positions: hash-sampled positions, decoded at all states through every lens.
        table: path of a frequency table; "" counts the text that is read. edges: last rank of each bucket but the last.
        marginal_tokens: the most frequent tokens that marginal_bias tells apart.
    """

    positions: int = 512
    table: str = ""
    edges: tuple[int, ...] = EDGES
    marginal_tokens: int = 2048

    def __post_init__(self) -> None:
        check_ranges(self, positions=at_least(1), marginal_tokens=at_least(1))

    def needs(self, anatomy: Anatomy) -> Needs:
        """The states; refused without an unembedding, or with a frequency table of another vocabulary."""
        if self.positions < 1 or self.marginal_tokens < 1:
            raise BadInput(
                f"positions={self.positions}, marginal_tokens={self.marginal_tokens}; both are 1 or more"
            )
        return readable(anatomy, self.table, self.edges)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """Values and differences of each position by lens and state, summed by unit."""
        del batch, given
        found = compared(model, seen, self.positions, self.table, self.edges)
        if found is None:
            return Tally({})
        values = _values(found)
        differences = {f"{short}_difference": values[n] - values[n][:, :1] for short, n in COMPARED.items()}
        mass = with_rest(found.items("group_mass"))
        differences["mass_above_final"] = mass - mass[:, :1, -1:]
        sums = {name: PerDocument.of(found.units, each) for name, each in (values | differences).items()}
        decoded = found.decoded[0]
        rows = Rows(
            seen.sampling_keys(decoded.rows, decoded.positions),
            {
                "kl": values["kl_to_final"],
                "rank": found.items("final_rank").astype(np.int32),
                "unit": np.asarray(found.units, dtype=str),
            },
            self.positions,
        )
        ids = found.table.order[: min(self.marginal_tokens, int((found.table.counts > 0).sum()))]
        marginal = Sum(found.probabilities(seen, ids), np.asarray(len(found.units), np.int64))
        lenses = {"lenses": cards(seen, found.lenses), "norms": _norms(found)}
        return Tally({**sums, "rows": rows, "marginal": marginal, **lenses})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Curves by lens, differences, the gate, norms, and what the lenses say on average."""
        called = names(part(total, "lenses", Rows))
        axes = {"lens": np.asarray(called), **states(facts)}
        note = "held-out text where the notes do not say otherwise; position 0 left out"
        found: dict[str, Measurement] = {}
        for name, unit in UNITS.items():
            found[name] = _mean(total, name, axes, unit, facts, note)
        rows = part(total, "rows", Rows)
        found["kl_median"] = median(rows, "kl", "kl_median", axes, "nats", facts, note)
        found["kl_p95"] = quantile(rows, "kl", 0.95, "kl_p95", axes, "nats", facts, note)
        found["median_rank"] = median(rows, "rank", "median_rank", axes, "1", facts, note)
        for short, name in COMPARED.items():
            unit = "1" if UNITS[name] == "probability" else UNITS[name]
            found[f"{short}_difference"] = _mean(
                total, f"{short}_difference", axes, unit, facts, "lens minus logit lens, paired by position"
            )
        by_bucket = {**axes, "bucket": np.asarray(bucket_names(self.edges))}
        words = "mean mass of the bucket minus that under the final state"
        found["mass_above_final"] = _mean(total, "mass_above_final", by_bucket, "1", facts, words)
        found["marginal_bias"] = _marginal(part(total, "marginal", Sum), axes)
        found |= _norm_measurements(part(total, "norms", Sum), axes)
        found |= _gate(found["kl_difference"], facts)
        alone = ("Only the logit lens was given, so nothing is compared; add --lens logit,DIR.",)
        notes = (*(alone if len(called) == 1 else ()), *overlaps(part(total, "lenses", Rows)))
        return Findings(found, notes=notes)


def _mean(total: Tally, name: str, axes: Axes, unit: str, facts: Facts, note: str) -> Measurement:
    missing = NO_TARGETS if "cross_entropy" in name and not facts.causal else ""
    return mean(part(total, name, PerDocument), name, axes, unit, facts, note, missing)


def _values(found: Compared) -> dict[str, np.ndarray]:
    """[item lens state] of everything that is averaged."""
    has_target = found.decoded[0].has_target.cpu().numpy()
    loss = np.where(has_target[:, None, None], found.items("cross_entropy"), np.nan)
    top = found.items("top_ids")
    shared = (top[..., :, None] == top[:, :, -1:, None, :]).any(-1).mean(-1)
    return {
        "kl_to_final": found.items("kl"),
        "cross_entropy": loss,
        "excess_cross_entropy": loss - loss[:, :, -1:],
        "entropy": found.items("entropy"),
        "top1_agreement": (top[..., 0] == top[:, :, -1:, 0]).astype(np.float64),
        "top5_overlap": shared,
        "log10_rank": np.log10(found.items("final_rank")),
    }


def _norms(found: Compared) -> Sum:
    """Norms of A_s and b_s, [lens state 2], once a shard; zero at state L, which is not translated."""
    n_states = len(found.decoded[0].trace.logsumexp)
    norms = np.zeros((len(found.lenses), n_states, 2))
    for k, lens in enumerate(found.lenses):
        for j, tensor in enumerate((lens.weight, lens.bias)):
            if tensor is not None:
                norms[k, :-1, j] = tensor.detach().double().flatten(1).norm(dim=1).cpu().numpy()
    return Sum(norms, np.asarray(1, np.int64))


def _norm_measurements(norms: Sum, axes: Axes) -> dict[str, Measurement]:
    labels = {axis: np.asarray(v) for axis, v in axes.items()}
    value = norms.total / norms.count
    note = "of the residual translator; 0 leaves the state as it is"
    called = ("weight_norm", "bias_norm")
    return {n: Measurement(n, labels, value[..., k], "1", note=note) for k, n in enumerate(called)}


def _marginal(found: Sum, axes: Axes) -> Measurement:
    """KL between mean distributions over some tokens and all others together."""
    count = int(found.count)
    mean_p = with_rest(found.total / count)
    final = mean_p[:1, -1:]
    # a class that the final state never gives adds nothing, one that a state never gives would be infinite
    ratio = np.log(np.maximum(final, 1e-300)) - np.log(np.maximum(mean_p, 1e-300))
    value = np.maximum(np.where(final > 0, final * ratio, 0.0).sum(-1), 0.0)
    labels = {axis: np.asarray(v) for axis, v in axes.items()}
    note = f"over the {found.total.shape[-1]:,} most frequent tokens and the others together, {count:,} positions"
    return Measurement("marginal_bias", labels, value, "nats", n_items=np.asarray(count), n=None, note=note)


def _gate(difference: Measurement, facts: Facts) -> dict[str, Measurement]:
    """Whether KL is below the logit lens's at every state up to 0.8 L; the logit lens itself is not judged."""
    judged = int(DEPTH * facts.n_layers + 1e-9) + 1
    axes = {"lens": difference.axes["lens"]}
    value, low, high = (
        np.asarray(p)[:, :judged] for p in (difference.value, difference.low, difference.high)
    )
    worst = value.argmax(1)
    at = (np.arange(len(value)), worst)
    own = np.arange(len(value)) == 0
    note, why = f"states 0 to {judged - 1} of {facts.n_layers}", "the logit lens is not compared with itself"

    def of(name: str, each: np.ndarray, unit: str = "1", **more: np.ndarray | None) -> Measurement:
        return Measurement(name, axes, np.where(own, np.nan, each), unit, note=note, missing=why, **more)

    counts = {
        part: None if (c := getattr(difference, part)) is None else np.where(own, 0, c[:, :judged][at])
        for part in ("n", "n_items")
    }
    ends = {"low": np.where(own, np.nan, low[at]), "high": np.where(own, np.nan, high[at])}
    return {
        "gate_share": of("gate_share", np.asarray((value < 0).mean(1)), "probability"),
        "gate_sure_share": of("gate_sure_share", np.asarray((high < 0).mean(1)), "probability"),
        "gate_worst_difference": of("gate_worst_difference", value[at], "nats", **ends, **counts),
        "gate_worst_state": of("gate_worst_state", np.asarray(worst, np.float64)),
        "gate": of("gate", np.asarray((value < 0).all(1), np.float64)),
    }
