"""Exit policies: thresholds calibrated on one half of the units, agreement and savings measured on the other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from depthscope.engine.measured import mean
from depthscope.engine.needs import Facts
from depthscope.engine.tally import PerDocument
from depthscope.measures.exits import ExitCost, first_check, logistic_probability, loosest, run_length
from depthscope.measures.statistics import bootstrap_ratio
from depthscope.results.measurement import Measurement

if TYPE_CHECKING:
    from torch import Tensor

    from depthscope.runtime.model import Model

POLICIES = ("prob", "margin", "entropy", "patience", "cosine", "classifier")
FEATURES = ("prob", "margin", "entropy")
"""What the classifier reads of a decoded state, beside its depth."""
ORACLES = ("first_agree", "stable")
GRID = 64
"""Thresholds that are tried for a policy: quantiles of its scores."""
SIGN = {"entropy": -1.0}
"""Scores are the higher the surer, so an entropy counts with its sign turned."""
MEASURED = {
    "agreement": (
        "probability",
        "top-1 at the exit is the final top-1; on documents that chose no threshold",
    ),
    "gross_saving": ("1", "share of the layers that is left out"),
    "net_saving": (
        "1",
        "share of the operations that is saved after every look is paid for; below 0: exits cost more",
    ),
    "exit_state": ("1", "mean state at which tokens stop"),
    "accuracy": ("probability", "top-1 at the exit is the true next token"),
    "cross_entropy": ("nats", "of the true next token at the exit"),
}


def block_flops(model: Model) -> list[float]:
    """Operations of each block for one token: 2 a weight; of experts only those that a token is sent to.

    Attention over earlier tokens is left out, so blocks of long contexts cost more than this.
    """
    share, experts = _routed(model.config)

    def active(p: Tensor) -> float:
        return p.numel() * (share if p.dim() == 3 and p.shape[0] == experts else 1.0)

    return [2.0 * sum(map(active, layer.block.parameters())) for layer in model.anatomy.layers]


def _routed(config: Any) -> tuple[float, int]:  # noqa: ANN401
    """Share of the experts that a token is sent to, and their number; (1, 0) without experts."""
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    experts = next((n for name in names if (n := getattr(config, name, None))), 0)
    return (getattr(config, "num_experts_per_tok", experts) / experts if experts else 1.0), int(experts)


@dataclass(frozen=True)
class Simulation:
    """All policies on all positions.

    Args:
        columns: `unit`; and [item, state] `id`, `right`, `cross_entropy` and a score by the name of each policy but
            patience and classifier, the higher the surer.
        sizes: operations of the head, of a lens, of a cosine, and of each block.
        targets: agreements in percent. every, start: which states are looked at.
    """

    columns: Mapping[str, np.ndarray]
    sizes: np.ndarray
    targets: tuple[int, ...]
    every: tuple[int, ...]
    start: int
    facts: Facts

    def measurements(self) -> dict[str, Measurement]:
        """All of them by name."""
        found = [*self.by_policy(), *self.by_oracle(), *self.whole(), self.check_cost()]
        return {m.name: m for m in found}

    @cached_property
    def units(self) -> list[str]:
        """The unit of each position."""
        return self.columns["unit"].tolist()

    @cached_property
    def calibrates(self) -> np.ndarray:
        """True where a position's unit is in the half that thresholds are chosen on: every other one by hash."""
        return np.isin(self.columns["unit"], self._ordered[::2])

    @cached_property
    def learns(self) -> np.ndarray:
        """True where a position's unit is one that the classifier is trained on: every other one that calibrates."""
        return np.isin(self.columns["unit"], self._ordered[::4])

    @cached_property
    def _ordered(self) -> list[str]:
        """Units in the order of their hashes."""
        key = {u: hashlib.sha256(f"{self.facts.seed}:{u}".encode()).digest() for u in set(self.units)}
        return sorted(key, key=key.__getitem__)

    def chooses(self, policy: str) -> np.ndarray:
        """True where a position's unit has a say in a policy's thresholds: no unit that the policy was trained on."""
        return self.calibrates & ~self.learns if policy == "classifier" else self.calibrates

    @cached_property
    def classified(self) -> np.ndarray:
        """By the classifier, the probability [item, state] that the top-1 of a state is the final one."""
        ids, last = self.columns["id"], self.facts.n_layers
        depth = np.broadcast_to(np.arange(last) / last, (len(ids), last))
        features = np.stack([*(self.columns[name][:, :last] for name in FEATURES), depth], axis=-1)
        flat = features.reshape(-1, features.shape[-1]).astype(np.float64)
        first = np.arange(last) >= self.start
        own = (self.learns[:, None] & first).ravel()
        agreed = (ids[:, :last] == ids[:, -1:]).ravel()
        return logistic_probability(flat[own], agreed[own], flat).reshape(len(ids), last)

    def checks(self, every: int) -> np.ndarray:
        """The states that are looked at, all before the last."""
        return np.arange(self.start, self.facts.n_layers, every)

    def score(self, policy: str, every: int) -> np.ndarray:
        """Scores [item, check]."""
        at = self.checks(every)
        if policy == "patience":
            return run_length(self.columns["id"][:, at])
        return self.classified[:, at] if policy == "classifier" else self.columns[policy][:, at]

    def at_exit(self, column: str, exits: np.ndarray, every: int) -> np.ndarray:
        """A column where exits [item, cell] stop: numbers of checks, their count for the last state."""
        states = np.append(self.checks(every), self.facts.n_layers)[exits]
        return np.take_along_axis(self.columns[column], states, axis=1)

    def agreed(self, exits: np.ndarray, every: int) -> np.ndarray:
        """1 where the top-1 at the exit is the final one, [item, cell]."""
        return (self.at_exit("id", exits, every) == self.columns["id"][:, -1:]).astype(np.float64)

    def thresholds(self, policy: str, every: int) -> np.ndarray:
        """For each target the loosest safe threshold by the calibrating half; infinite where none is safe."""
        score, chooses = self.score(policy, every), self.chooses(policy)
        if not chooses.any():
            return np.full(len(self.targets), np.inf)
        tried = np.unique(np.quantile(score[chooses], np.linspace(0, 1, GRID), method="lower"))[::-1]
        agreed = self.agreed(first_check(score, tried), every)
        sums = PerDocument.of(self.units, np.where(chooses[:, None], agreed, np.nan))
        low = bootstrap_ratio(sums.sums, sums.counts, seed=self.facts.seed).low
        walked = [loosest(low, target / 100) for target in self.targets]
        return np.asarray([tried[n - 1] if n else np.inf for n in walked], np.float64)

    def by_policy(self) -> list[Measurement]:
        """Each policy, interval of looks and target, on the half that did not choose the thresholds."""
        chosen = {(p, e): self.thresholds(p, e) for p in POLICIES for e in self.every}
        cells = [[self._walked(p, e, chosen[p, e]) for e in self.every] for p in POLICIES]
        axes = {
            "policy": np.asarray(POLICIES),
            "every": np.asarray(self.every),
            "target": np.asarray(self.targets),
        }
        found = [
            self._mean(
                np.stack([np.stack([c[name] for c in row], 1) for row in cells], 1), name, axes, unit, note
            )
            for name, (unit, note) in MEASURED.items()
        ]
        limits = np.asarray([[chosen[p, e] * SIGN.get(p, 1) for e in self.every] for p in POLICIES])
        limits = np.where(np.isfinite(limits), limits, np.nan)
        note = "probability, margin, cosine, looks or what the classifier says: at least; entropy in nats: at most"
        missing = "no threshold was safe for the target" if np.isnan(limits).any() else ""
        return [*found, Measurement("threshold", axes, limits, "1", note=note, missing=missing)]

    def _walked(self, policy: str, every: int, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """Values [item, target] by measurement; a policy without a safe threshold does not look."""
        exits = first_check(self.score(policy, every), chosen)
        net = self.cost(policy).saving(exits, self.checks(every))
        return self._values(exits, every, np.where(np.isfinite(chosen), net, 0.0))

    def _values(self, exits: np.ndarray, every: int, net: np.ndarray) -> dict[str, np.ndarray]:
        last = self.facts.n_layers
        state = np.append(self.checks(every), last)[exits]
        return {
            "agreement": self.agreed(exits, every),
            "exit_state": state.astype(np.float64),
            "gross_saving": 1 - state / last,
            "net_saving": net,
            "accuracy": self.at_exit("right", exits, every),
            "cross_entropy": self.at_exit("cross_entropy", exits, every),
        }

    def cost(self, policy: str) -> ExitCost:
        """What a policy pays."""
        head, lens, cosine = self.sizes[:3]
        if policy in ORACLES:
            return ExitCost(self.sizes[3:], head, lens, 0.0, decodes=False)
        decodes = policy != "cosine"
        return ExitCost(self.sizes[3:], head, lens, head + lens if decodes else cosine, decodes)

    def by_oracle(self) -> list[Measurement]:
        """What could be saved by who knows the final top-1 and looks for free."""
        gross, net = [], []
        for every in self.every:
            hit = self.columns["id"][:, self.checks(every)] == self.columns["id"][:, -1:]
            unbroken = np.logical_and.accumulate(hit[:, ::-1], axis=1)[:, ::-1]
            exits = np.concatenate([first_check(h.astype(float), np.ones(1)) for h in (hit, unbroken)], 1)
            values = self._values(exits, every, self.cost(ORACLES[0]).saving(exits, self.checks(every)))
            gross.append(values["gross_saving"])
            net.append(values["net_saving"])
        axes = {"policy": np.asarray(ORACLES), "every": np.asarray(self.every)}
        note = "knows the final top-1 and looks for free"
        return [
            self._mean(np.stack(gross, 2), "oracle_gross_saving", axes, "1", note),
            self._mean(np.stack(net, 2), "oracle_net_saving", axes, "1", note),
        ]

    def whole(self) -> list[Measurement]:
        """The model without exits, on the same positions."""
        note = "of the last state, on the same half of the documents"
        return [
            self._mean(self.columns["right"][:, -1], "full_accuracy", {}, "probability", note),
            self._mean(self.columns["cross_entropy"][:, -1], "full_cross_entropy", {}, "nats", note),
        ]

    def check_cost(self) -> Measurement:
        """How many blocks one decoded look costs."""
        value = (self.sizes[0] + self.sizes[1]) / self.sizes[3:].mean()
        return Measurement(
            "check_cost", {}, np.asarray(value), "1", note="operations of one decoded look / those of a block"
        )

    def _mean(
        self, values: np.ndarray, name: str, axes: Mapping[str, np.ndarray], unit: str, note: str
    ) -> Measurement:
        """Mean of values [item, *cells] over the half that did not choose the thresholds."""
        kept = np.where(self.calibrates.reshape(-1, *([1] * (values.ndim - 1))), np.nan, values)
        missing = "no next token is known, or there are too few documents for two halves"
        return mean(PerDocument.of(self.units, kept), name, axes, unit, self.facts, note, missing)
