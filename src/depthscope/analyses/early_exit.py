"""Early exit: how much of the depth could be saved if a token left as soon as its prediction is safe.

Question: If each token stopped at the first layer that is sure enough, how many layers would that save, and is
anything left of it once the looking is paid for?

Method: At hash-sampled positions the states are decoded through the run's lens, and a policy looks at every n-th state:
prob (probability of the top-1), margin (its lead over the second), entropy, patience (looks in a row with the same
top-1), cosine (of the state with the one before it, which needs no vocabulary), classifier (a logistic regression on
probability, margin, entropy and depth: how likely the top-1 is the final one). Thresholds are chosen on one half of the
documents: from the strictest on, the loosest before the lower 95 % bound of the agreement with the final top-1 first
falls below the target. The classifier is trained on every other one of these and calibrated on the rest. All that is
measured is on the other half. gross_saving counts layers; net_saving counts
operations: a look costs 2 d_model d_vocab, and 2 d_model^2 for a lens. Oracles know the answer and look for free:
first_agree leaves at the first state that agrees with the final top-1, stable at the first from which all agree.

How to read: The oracles are the room there is. A policy pays where net_saving is above zero with its whole interval.
check_cost says how many blocks one look costs: with few layers of small width and a large vocabulary, looking costs
more than it can save.

What misleads: Agreement is counted token by token on given text: in generation errors add up, and later tokens miss the
keys and values of layers that were left out. Agreement is with the model, not with the truth: compare accuracy. Counted
operations are no seconds. The best policy is named after the fact, so its saving is a little too good. A policy that
reaches no target never stops and does not look: it saves 0.

Source: Schuster et al. 2022 (arXiv 2207.07061, CALM); Din et al. 2023 (arXiv 2303.09435); How Do LLMs Use Their Depth?
(arXiv 2510.18871).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.exit_policies import Simulation, block_flops
from depthscope.engine.measured import part
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import Rows, Sum, Tally
from depthscope.engine.view import View
from depthscope.errors import BadInput, Refused
from depthscope.ranges import above, at_least, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.head import Decode
from depthscope.runtime.model import Batch, Model


@dataclass(frozen=True)
class EarlyExit:
    """Exit policies simulated on decoded states.

    Args:
        targets: agreements with the final top-1 that thresholds are calibrated for, in percent.
        every: a policy looks at every n-th state. start: the first state it looks at.
        positions: hash-sampled positions that are decoded at all states.
    """

    targets: tuple[int, ...] = (90, 95, 98, 99)
    every: tuple[int, ...] = (1, 4)
    start: int = 1
    positions: int = 2048

    def __post_init__(self) -> None:
        check_ranges(
            self,
            targets=above(0, below=100, what="percentages"),
            every=at_least(1),
            start=at_least(1, what="a state"),
            positions=at_least(1),
        )

    def needs(self, anatomy: Anatomy) -> Needs:
        """What policies look at; refused without an unembedding, and where there is no state to stop at."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so no layer can answer early")
        if self.start >= anatomy.n_layers:
            raise BadInput(
                f"start={self.start} leaves no state to stop at before the last, {anatomy.n_layers}"
            )
        wanted = Decode(top_k=2, entropy=True, target=True)
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}), wanted, self.positions)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """What policies look at, at every state of each position; and the sizes that operations are counted from."""
        del batch, given
        decoded = seen.decoded
        units = np.asarray(decoded.units, dtype=str)
        columns = {**_scores(seen), "unit": units}
        rows = Rows(seen.sampling_keys(decoded.rows, decoded.positions), columns, seen.needs.positions)
        lens = 0.0 if seen.lens.weight is None else 2.0 * model.anatomy.d_model**2
        head = 2.0 * model.anatomy.d_model * model.anatomy.d_vocab
        sizes = np.asarray([head, lens, 6.0 * model.anatomy.d_model, *block_flops(model)])
        return Tally({"rows": rows, "sizes": Sum(sizes, np.ones(len(sizes), np.int64))})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Thresholds from one half of the documents, everything else on the other."""
        sizes = part(total, "sizes", Sum)
        simulation = Simulation(
            part(total, "rows", Rows).columns, sizes.total / sizes.count, self.targets, self.every, self.start, facts
        )  # fmt: skip
        found = simulation.measurements()
        return Findings(found, notes=tuple(_verdict(found, target) for target in self.targets))


def _scores(seen: View) -> dict[str, np.ndarray]:
    """Columns [item, state]; NaN in `cross_entropy` and 0 in `right` where there is no next token."""
    decoded, trace = seen.decoded, seen.decoded.trace
    assert trace.top_ids is not None
    assert trace.top_logits is not None
    assert trace.entropy is not None
    assert trace.cross_entropy is not None
    p = torch.exp(trace.top_logits[..., :2] - trace.logsumexp[..., None])
    states = seen.states_at(decoded.rows, decoded.positions)
    turned = torch.nn.functional.cosine_similarity(states[1:], states[:-1], dim=-1)
    known = torch.where(decoded.has_target, 0.0, torch.nan).to(p)
    right = (trace.top_ids[..., 0] == decoded.targets).to(p)
    return {
        "id": trace.top_ids[..., 0].T.cpu().numpy().astype(np.int32),
        "prob": _items(p[..., 0]),
        "margin": _items(p[..., 0] - p[..., 1]),
        "entropy": _items(-trace.entropy),
        "cosine": _items(torch.cat([torch.ones_like(turned[:1]), turned])),
        "right": _items(right + known),
        "cross_entropy": _items(trace.cross_entropy + known),
    }


def _items(values: Tensor) -> np.ndarray:
    """[state, item] -> [item, state] on the host."""
    return values.T.float().cpu().numpy()


def _verdict(found: Mapping[str, Measurement], target: int) -> str:
    """Whether any policy saves operations, by the intervals; what those that decode cost; the room there is."""
    net = found["net_saving"].select(target=target)
    if np.isnan(net.value).all() or net.low is None or net.high is None:
        return f"At {target} % agreement: not decided, too few documents for two halves."
    decoding = np.asarray(net.axes["policy"]) != "cosine"
    best, decoded = _best(net.value), _best(np.where(decoding[:, None], net.value, np.nan))
    said = "not decided whether early exits pay"
    if net.low[best] > 0:
        said = "early exits pay"
    elif net.value[best] <= 0:
        said = "early exits do not pay, no policy saves any operation"
    room = found["oracle_gross_saving"].select(policy="stable").value[0]
    return (
        f"At {target} % agreement: {said}. Best net saving: {_told(found, target, best)}; best of those that decode at "
        f"every look: {_told(found, target, decoded)}. Knowing the answer for free, {room:.0%} of the layers could go."
    )


def _best(values: np.ndarray) -> tuple[int, ...]:
    return tuple(int(k) for k in np.unravel_index(np.nanargmax(values), values.shape))


def _told(found: Mapping[str, Measurement], target: int, place: tuple[int, ...]) -> str:
    """One policy's net and gross saving."""
    net, gross = (found[name].select(target=target) for name in ("net_saving", "gross_saving"))
    assert net.low is not None
    assert net.high is not None
    value, low, high = (_percent(float(part[place])) for part in (net.value, net.low, net.high))
    policy, every = (np.asarray(labels)[k] for labels, k in zip(net.axes.values(), place, strict=True))
    left_out = _percent(float(gross.value[place]))
    return f"{value} [{low}, {high}] of the operations ({policy}, every {every}, leaves out {left_out} of the layers)"


def _percent(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f} %"
