"""Linear maps: each state of a model predicted linearly from each state of another.

Question: Are the states of a deeper model new, or those of a shallower one stretched over more layers?

Method: For every source state m and target state l the W and b that minimise the squared error of h_l = W h_m + b with
a ridge penalty, in closed form from one pass over the training documents. The penalty is a multiple of the mean
diagonal of the centred Gram matrix, chosen for each pair on validation documents; errors are measured on documents held
out from both, sinks left out. relative_error is the mean over positions of |h' - h| / |h|. Where the target model is
wide, targets are projected on random orthonormal directions first, which a ridge regression does not notice.
best_source is the source state with the smallest error for each target, embeddings left out. With `differences` the
contributions h_{l+1} - h_l take the place of states.

How to read: Best sources on the line of equal relative depth say that layers correspond by their share of the depth;
best sources of the same number say that the deeper model goes on where the shallower one ends. Errors are to be
compared with mean_error, what the mean of all targets gives, and with embedding_error. A map of a model onto itself and
onto its stretched copy show what a diagonal looks like where nothing is to be found out.

What misleads: A state holds most of the one before, so a diagonal appears from smoothness alone: compare with the
model's map onto itself, and look at `differences`, from which what is carried along is taken away. A linear map that
exists is not the same computation. Errors fall with more text; too little text for the width makes all of them large.

Source: Csordas, Manning and Potts 2025 (arXiv 2505.13898), linear maps between models of different depth; there the
maps are trained by gradient descent, here they are solved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import InitVar, dataclass
from typing import Any

import torch

from depthscope.engine.needs import Facts
from depthscope.engine.provenance import hashed, identity
from depthscope.engine.study import Work
from depthscope.errors import BadInput, UnknownName
from depthscope.fits.map_diagonal import Geometry
from depthscope.fits.map_findings import Judged
from depthscope.fits.map_judge import Judge
from depthscope.fits.map_rows import Pair, Source
from depthscope.fits.map_sums import Maps, Solved, chosen, gathered
from depthscope.fits.states import Split, batches, split
from depthscope.fits.vocabulary import refuse_other_vocabulary
from depthscope.ranges import above, at_least, check_ranges
from depthscope.results.result import Findings
from depthscope.runtime.model import Model
from depthscope.runtime.stretch import stretched
from depthscope.runtime.tiny import untrained

GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Multiples of the mean diagonal that penalties are chosen from."""
CONTROLS = ("itself", "stretched", "untrained")
"""Targets that are made of the source model."""
ROWS = ("raw", "rms")
ENOUGH = 30
"""Training positions for each dimension of the source below which a note says that errors are too large."""


@dataclass(frozen=True)
class LinearMaps:
    """Maps of the states of one model onto those of another, or onto its own.

    Memory beyond the model: `memory` for the sums of a group of sources (one at least), the states of one batch of both
    models, and the random directions. The text is read once for each group; a killed study goes on with the next group.

    Args:
        other: what is predicted: "itself", "stretched" (its copy with every block split in two passes of half
            strength), "untrained" (random weights of the same configuration), or the name of `target`.
        sources, targets: which states (with `differences`: layers); empty means all. State 0 is always a source.
        differences: contributions of layers take the place of states.
        rows: "rms" divides every row by its root mean square first, so that no position counts more than another.
        width: random directions of each target that are predicted, where the target model is wider; 0: all dimensions.
        ridge: multiples of the mean diagonal to choose from.
        held_out: share of the documents to judge on, and as much again to choose by.
        memory: bytes of sums held at a time.
        target: the other model.
    """

    other: str = "itself"
    sources: tuple[int, ...] = ()
    targets: tuple[int, ...] = ()
    differences: bool = False
    rows: str = "raw"
    width: int = 512
    ridge: tuple[float, ...] = GRID
    held_out: float = 0.15
    memory: int = 2**30
    target: InitVar[Model | None] = None

    def __post_init__(self, target: Model | None) -> None:
        if self.rows not in ROWS:
            raise UnknownName("rows", self.rows, ROWS)
        check_ranges(
            self, ridge=above(0, what="times the mean diagonal"), width=at_least(0), memory=at_least(1)
        )
        if target is not None:
            target = hashed(target)
            object.__setattr__(self, "other", target.name if self.other == "itself" else self.other)
        elif self.other not in CONTROLS:
            raise UnknownName("target without a model", self.other, CONTROLS)
        object.__setattr__(self, "_target", target)

    def depends(self) -> Mapping[str, Any]:
        """The other model, where it is one of its own."""
        given: Model | None = getattr(self, "_target", None)
        return {} if given is None else {"other": identity(given)}

    def run(self, work: Work) -> Findings:
        """All maps, a journal step for each group of sources.

        Raises:
            Refused: for two models of different vocabulary or tokenizer, or a model that cannot be stretched.
            BadInput: for states that do not exist, or too few documents. NonFinite: for states without finite numbers.
        """
        parts = split(work.windows, self.held_out, work.seed)
        pair = self._pair(work)
        sources = self._numbers("sources", self.sources, work.model)
        sources = sources if self.differences or 0 in sources else (0, *sources)
        todo = [Source(k) for k in sources] + [Source(sources[len(sources) // 2], shuffled=True)]
        size = max(1, self.memory // pair.bytes_of_source())
        groups = [tuple(todo[k : k + size]) for k in range(0, len(todo), size)]
        units = tuple(sorted({parts.unit_of[w.index] for w in parts.held_out}))
        told = _Told(work, len(groups) * sum(len(w.ids) for w in work.windows.items))
        steps = [self._step(work, pair, group, parts, units, told) for group in groups]
        lengths = (work.model.anatomy.n_layers, pair.target.anatomy.n_layers)
        geometry = Geometry(sources, pair.targets, lengths, pair.source is pair.target, self.differences)
        facts = Facts.of(work.model.anatomy, parts.kind, work.seed, work.model.name)
        judged = Judged.of(steps, geometry, units, facts, _note(pair, parts))
        return Findings(
            judged.measurements(), notes=tuple(_remarks(pair, parts, int(steps[0]["positions"]), units))
        )

    def _pair(self, work: Work) -> Pair:
        given: Model | None = getattr(self, "_target", None)
        if given is not None:
            refuse_other_vocabulary(work.model, given, work.windows)
        target = given or self._made(work)
        targets = self._numbers("targets", self.targets, target)
        return Pair(work.model, target, targets, self.differences, self.rows, self.width, work.seed)

    def _made(self, work: Work) -> Model:
        if self.other == "itself":
            return work.model
        return stretched(work.model) if self.other == "stretched" else untrained(work.model, work.seed)

    def _numbers(self, name: str, asked: tuple[int, ...], model: Model) -> tuple[int, ...]:
        """State or layer numbers, all of them where none are asked for.

        Raises:
            BadInput: for numbers that do not exist.
        """
        last = model.anatomy.n_layers - (1 if self.differences else 0)
        wrong = [k for k in asked if not 0 <= k <= last]
        if wrong:
            kind = "layers" if self.differences else "states"
            raise BadInput(f"{name}={asked}: {wrong} do not exist, {model.name} has {kind} 0 to {last}")
        return tuple(sorted(set(asked))) or tuple(range(last + 1))

    def _step(
        self,
        work: Work,
        pair: Pair,
        group: tuple[Source, ...],
        parts: Split,
        units: tuple[str, ...],
        told: _Told,
    ) -> Any:  # noqa: ANN401  (JSON)
        about = {
            "group": [[*source] for source in group], "targets": list(pair.targets), "other": self.other,
            "differences": self.differences, "rows": self.rows, "width": pair.kept, "ridge": list(self.ridge),
            "held_out": self.held_out, "seed": work.seed, **self.depends(),
        }  # fmt: skip

        def compute() -> dict[str, Any]:
            with torch.no_grad():
                solved = Solved.of(gathered(pair, group, parts.train, told))
                places = chosen(pair, group, solved, self.ridge, parts.validation, told)
                alphas = torch.tensor(self.ridge, dtype=torch.float64, device=places.device)[places]
                judge = Judge(pair, Maps.of(pair, solved, alphas), group, units)
                for batch in batches(parts.held_out):
                    judge.add(pair.items(batch), parts)
                    told(sum(len(w.ids) for w in batch))
            return {**judge.found(), "alpha": alphas.tolist(), "positions": solved.count}

        return work.journal.step("linear-maps", about, compute)


class _Told:
    """Adds up what was read and says so."""

    def __init__(self, work: Work, total: int) -> None:
        self.work, self.total, self.done = work, total, 0

    def __call__(self, tokens: int) -> None:
        self.done += tokens
        self.work.progress("map", self.done, self.total)


def _note(pair: Pair, parts: Split) -> str:
    what = "layers" if pair.differences else "states"
    said = f"{what} of {pair.source.name} onto {what} of {pair.target.name}, held-out {parts.kind}, sinks of either out"
    said += ", rows of root mean square 1" if pair.rows == "rms" else ""
    if not pair.projected:
        return said
    many = f"{pair.kept} random directions of {pair.target.anatomy.d_model}"
    return f"{said}, targets on {many}: lengths are off by {2 / pair.kept**0.5:.0%} at most"


def _remarks(pair: Pair, parts: Split, positions: int, units: tuple[str, ...]) -> Iterator[str]:
    wide, who = pair.source.anatomy.d_model, f"{pair.source.name} onto {pair.target.name}"
    yield f"{who}: {positions} training positions, {len(units)} held-out {parts.kind}."
    if positions < ENOUGH * wide:
        yield (
            f"{positions} training positions for {wide} dimensions are fewer than {ENOUGH} each: all errors are larger "
            "than more text would make them."
        )
    if pair.projected:
        yield f"Targets were projected on {pair.kept} random directions each; dimension_r2 is over those directions."
