"""Exit price: what early exits save and cost in text that the model writes itself.

Question: Once every look is paid for and later tokens must live with the caches of layers that were left out, do early
exits pay?

Method: The model continues the beginnings of some documents greedily. From state `floor` on, a token leaves at the
first state whose most likely token has the confidence asked for; the layers above see a copy of that state, as a cache
filled in the cheapest way would. The same text is continued whole, and with exits whose caches are exact, which no
cache could hold. agreement counts the tokens that the whole model would have written after the same text; loss is the
whole model's on what was written. net_saving counts operations with every look paid for, 2 d_model d_vocab each.
Self-speculation is run for real: the first layers draft, all of them check, the text stays the same.

How to read: Exits pay at a confidence where net_saving is above zero with its whole interval while damage, the loss of
the text with copied states minus that of the whole model's own, stays within what is allowed. copy_cost is the part of
the damage that comes of the caches alone. speedup above 1 means that drafting writes faster here.

What misleads: Greedy continuations of few prompts, all in one style. A model's own loss on its own text rewards
repetition: a damaged text can look likely. Filling the caches above an exit takes keys and values of each layer left
out, which are not counted. Speeds are those of this machine at that hour. An ordinary model was not trained to exit.

Source: Schuster et al. 2022 (arXiv 2207.07061, CALM); Elhoushi et al. 2024 (arXiv 2404.16710, LayerSkip).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, asdict, dataclass
from typing import Any

import numpy as np

from depthscope.advise.exit import Continued, Exits, Speculation, continued, speculated
from depthscope.engine.exit_policies import block_flops
from depthscope.engine.measured import mean
from depthscope.engine.needs import Facts
from depthscope.engine.study import Work
from depthscope.engine.tally import PerDocument
from depthscope.errors import BadInput, Refused
from depthscope.measures.exits import ExitCost
from depthscope.ranges import at_least, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings
from depthscope.runtime.lens import LOGIT, Lens
from depthscope.runtime.model import Model

KINDS = ("whole", "exact", "copied")


@dataclass(frozen=True)
class ExitPrice:
    """Exits by confidence, and drafts by the first layers, on the beginnings of a study's documents.

    Args:
        confidence: probabilities of the most likely token at which a token leaves.
        floor: the first state that is looked at; 0 for the middle of the depth.
        prompts: documents that are continued; prompt: tokens read of each; tokens: written after each.
        drafts: layers that draft in self-speculation; empty for a quarter and half of them.
        allowed: damage in nats a token up to which exits may pay.
        through: the lens that states are decoded through.
    """

    confidence: tuple[float, ...] = (0.5, 0.8, 0.95)
    floor: int = 0
    prompts: int = 8
    prompt: int = 32
    tokens: int = 24
    drafts: tuple[int, ...] = ()
    allowed: float = 0.1
    through: InitVar[Lens] = LOGIT

    def __post_init__(self, through: Lens) -> None:
        check_ranges(
            self,
            confidence=at_least(0, most=1),
            prompts=at_least(1),
            prompt=at_least(1),
            tokens=at_least(1),
            floor=at_least(0),
            allowed=at_least(0),
        )
        object.__setattr__(self, "_lens", through)

    @property
    def lens(self) -> Lens:
        """What states are decoded through."""
        return getattr(self, "_lens", LOGIT)

    def depends(self) -> Mapping[str, Any]:
        """The lens, where it is not the model's own head."""
        return {} if self.lens is LOGIT else {"lens": self.lens.identity}

    def must_fit(self, model: Model) -> None:
        """Nothing, where the model has the states and layers that are asked for.

        Raises:
            BadInput: for a floor beyond the last state, or drafts by all layers or none.
        """
        last = model.anatomy.n_layers
        if self.floor > last:
            raise BadInput(f"floor={self.floor}, but {model.name} has states 0 to {last}")
        if wrong := [layer for layer in self.drafts if not 1 <= layer < last]:
            raise BadInput(
                f"drafts={wrong}: it is the first layers that draft; {model.name} takes 1 to {last - 1}"
            )

    def run(self, work: Work) -> Findings:
        """One journal step for each confidence and each number of drafting layers.

        A model whose first layers cannot draft has no measurement of drafts, and a note says why.

        Raises:
            Refused: for models that write no text, and those that cannot draft where `drafts` are named.
            BadInput: for a floor or drafts beyond the layers, or a text without any document as long as a prompt.
        """
        self.must_fit(work.model)
        prompts = self._prompts(work)
        last = work.model.anatomy.n_layers
        floor = self.floor or last // 2
        drafts = self.drafts or tuple(sorted({max(1, last // 4), max(1, last // 2)} - {last}))
        steps = len(self.confidence) + len(drafts)
        found: list[Continued] = []
        for place, confidence in enumerate(self.confidence):
            found.append(self._continued(work, prompts, Exits(floor, confidence)))
            work.progress("exits", place + 1, steps)
        sped: list[list[Speculation]] = []
        gaps: list[str] = []
        for place, layer in enumerate(drafts, start=len(self.confidence)):
            try:
                sped.append(self._speculated(work, prompts, layer))
            except Refused as reason:
                if self.drafts:
                    raise
                gaps = [f"Drafts by the first layers were not tried: {reason}."]
                break
            work.progress("drafts", place + 1, steps)
        facts = Facts.of(work.model.anatomy, "documents", work.seed, work.model.name)
        names = tuple(f"prompt {k:04d}" for k in range(len(prompts)))
        costs = _Cost.of(work.model, self.lens, floor)
        exits = _by_confidence(found, self.confidence, names, facts, costs)
        spoken = (verdict(self.confidence, exits, self.allowed), *self._told(exits, facts.n_layers), *gaps)
        measured = {m.name: m for m in (*exits, *(_by_layer(sped, drafts, names, facts) if sped else ()))}
        return Findings(measured, notes=spoken)

    def _prompts(self, work: Work) -> list[tuple[int, ...]]:
        """The beginning of each document, as many as are asked for and long enough."""
        found: dict[str, tuple[int, ...]] = {}
        for window in work.windows.items:
            if len(window.ids) >= self.prompt:
                found.setdefault(window.document, tuple(window.ids[: self.prompt]))
        if not found:
            raise BadInput(
                f"no document of {work.windows.source} has {self.prompt} tokens; use a shorter prompt"
            )
        return list(found.values())[: self.prompts]

    def _continued(self, work: Work, prompts: Sequence[Sequence[int]], exits: Exits) -> Continued:
        about: dict[str, Any] = {"exits": asdict(exits), "tokens": self.tokens, "lens": self.lens.identity}
        about["prompts"] = [list(p) for p in prompts]
        stored = work.journal.step(
            "exits", about, lambda: continued(work.model, prompts, exits, self.tokens, self.lens).as_dict()
        )
        return Continued.read(stored)

    def _speculated(self, work: Work, prompts: Sequence[Sequence[int]], layer: int) -> list[Speculation]:
        about = {"layer": layer, "tokens": self.tokens, "prompts": [list(p) for p in prompts]}
        stored = work.journal.step(
            "drafts", about, lambda: [asdict(speculated(work.model, p, layer, self.tokens)) for p in prompts]
        )
        return [Speculation(**each) for each in stored]

    def _told(self, exits: Sequence[Measurement], last: int) -> list[str]:
        found = {m.name: m for m in exits}
        state, net, same = (found[name].value for name in ("exit_state", "net_saving", "agreement"))
        count = found["agreement"].columns()["n"]
        return [
            f"Confidence {confidence:g}: tokens leave at state {state[k]:.1f} of {last}, {_spent(float(net[k]))}, "
            f"{same[k]:.0%} of the tokens are those of the whole model "
            f"(n = {count[k]} documents x {self.tokens} tokens)."
            for k, confidence in enumerate(self.confidence)
        ]


def _spent(saved: float) -> str:
    """What a share of operations saved means, where it is below 0 too."""
    return (
        f"{saved:.1%} of the operations are saved"
        if saved >= 0
        else f"{-saved:.1%} more operations are spent"
    )


def verdict(confidence: Sequence[float], exits: Sequence[Measurement], allowed: float) -> str:
    """Whether exits pay, by the intervals of what they save (`net_saving`) and of what they damage (`damage`, nats)."""
    net, damage = (next(m for m in exits if m.name == name) for name in ("net_saving", "damage"))
    (low, high), (least, most) = (np.asarray([m.low, m.high], np.float64) for m in (net, damage))
    if np.isnan([low, high, least, most]).any():
        return "Not decided whether early exits pay: one document gives no interval."
    pays = (low > 0) & (most <= allowed)
    if pays.any():
        said = ", ".join(f"{c:g}" for c, p in zip(confidence, pays, strict=True) if p)
        return f"Early exits pay at confidence {said}: they save operations, and damage stays within {allowed:g} nats."
    if ((high <= 0) | (least > allowed)).all():
        return (
            "Early exits do not pay: at every confidence they save no operation or damage the text too much."
        )
    return "Not decided whether early exits pay: more documents are needed."


@dataclass(frozen=True)
class _Cost:
    """Operations of exits from a floor on."""

    cost: ExitCost
    floor: int

    @classmethod
    def of(cls, model: Model, lens: Lens, floor: int) -> _Cost:
        head = 2.0 * model.anatomy.d_model * model.anatomy.d_vocab
        extra = 0.0 if lens.weight is None else 2.0 * model.anatomy.d_model**2
        return cls(ExitCost(np.asarray(block_flops(model)), head, extra, head + extra, decodes=True), floor)

    def saved(self, states: np.ndarray) -> np.ndarray:
        """Share of operations saved by each token [prompt, token]; the first one of a prompt does not look."""
        checks = np.arange(self.floor, len(self.cost.blocks))
        saving = self.cost.saving(np.minimum(states - self.floor, len(checks)), checks)
        saving[:, 0] = 0.0
        return saving


def _by_confidence(
    found: Sequence[Continued],
    confidence: Sequence[float],
    names: tuple[str, ...],
    facts: Facts,
    costs: _Cost,
) -> list[Measurement]:
    axes = {"confidence": np.asarray(confidence)}
    losses = np.stack([np.stack([each.losses[k] for k in KINDS], 1) for each in found], 1)
    states = np.stack([each.states.mean(1) for each in found], 1)
    values: dict[str, tuple[np.ndarray, str, str]] = {
        "exit_state": (states, "1", "mean state at which tokens are read off"),
        "gross_saving": (1 - states / facts.n_layers, "1", "share of the layers that is left out"),
        "net_saving": (
            np.stack([costs.saved(each.states).mean(1) for each in found], 1), "1",
            "share of the operations saved, every look paid for; below 0: exits cost more",
        ),
        "agreement": (
            np.stack([each.agreement for each in found], 1), "probability",
            "tokens that the whole model would have written after the same text",
        ),
        "damage": (losses[..., 2] - losses[..., 0], "nats", "copied states minus the whole model's own text"),
        "copy_cost": (losses[..., 2] - losses[..., 1], "nats", "loss with copied states minus that with exact caches"),
    }  # fmt: skip
    measured = [
        _mean(names, part, name, axes, unit, facts, note) for name, (part, unit, note) in values.items()
    ]
    by = {**axes, "mode": np.asarray(KINDS)}
    return [
        *measured,
        _mean(names, losses, "loss", by, "nats", facts, "of the whole model on what was written"),
    ]


def _by_layer(
    sped: Sequence[Sequence[Speculation]], drafts: Sequence[int], names: tuple[str, ...], facts: Facts
) -> list[Measurement]:
    axes = {"layer": np.asarray(drafts)}
    accepted = np.asarray([[one.accepted for one in each] for each in sped]).T
    speed = np.asarray([[one.speed / one.plain for one in each] for each in sped]).T
    same = np.asarray([[float(one.same) for one in each] for each in sped]).T
    return [
        _mean(
            names,
            accepted,
            "accepted",
            axes,
            "probability",
            facts,
            "drafted tokens that the whole model kept",
        ),
        _mean(
            names,
            speed,
            "speedup",
            axes,
            "1",
            facts,
            "tokens a second with drafts over those without, measured",
        ),
        _mean(
            names,
            same,
            "same_text",
            axes,
            "probability",
            facts,
            "prompts whose text is unchanged by drafting",
        ),
    ]


def _mean(
    names: tuple[str, ...],
    values: np.ndarray,
    name: str,
    axes: Mapping[str, np.ndarray],
    unit: str,
    facts: Facts,
    note: str,
) -> Measurement:
    """Mean over prompts [prompt, *cells]."""
    return mean(PerDocument.of(names, values), name, axes, unit, facts, note)
