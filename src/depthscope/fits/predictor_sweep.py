"""Predictor sweep: how much the split of a state depends on what predicts it.

Question: Is the predictable part of a state a property of the model, or of the predictor that was built for it?

Method: Predictors of different designs (attention, attention with an MLP, a recurrent unit, a linear map of the last
few states; more layers, heads and wider heads; shorter views; with and without positions) are trained on the same
tokens in the same order, linear maps solved on the same windows as ridge regressions, and all are judged on the same
held-out texts. "around" changes one thing at a time, "full" takes all combinations. Of each the parameters and R2; of
each pair, at the same tokens, linear CKA of the expectations, the mean principal angle between their leading
directions, and the rank correlation of the lengths of the novel parts. Where labelled documents are given, linear
probes read their domain and the class of each token from the state and from both parts of every design. The base stands
there a second time with another seed.

How to read: r2_over_base says what a change of design is worth, in R2, with an interval over the same draws. If
novelty_with_base stays near 1 where R2 differs, which tokens are novel does not depend on the design, and the split
may be quoted without naming one. The second seed says what agreement at best can be. probe_difference is the F1 of the
expected part minus that of the novel part: where its sign is one in all designs, what the parts hold is the model's.

What misleads: Equal tokens are not equal training: a large design needs more of both, so a short sweep favours small
and solved ones; look at the learning curves of a predictor before a design is called worse. CKA is large for all
that share a few long directions; the angle asks for the directions themselves, however little they hold. A design
that sees one position cannot use the text, yet may predict most of what can be predicted: that is a finding.

Source: Sekiguchi, Ishigaki and Maeda, predictable and novel components of hidden states, where the dependence on the
architecture is named as future work; Kornblith et al. 2019 (linear CKA); Bjorck and Golub 1973 (principal angles).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from depthscope.engine.study import Work
from depthscope.errors import BadInput, Refused
from depthscope.fits.predictor_course import Course
from depthscope.fits.sweep_bench import Bench, Compared
from depthscope.fits.sweep_designs import Factors, designs
from depthscope.fits.sweep_findings import Swept
from depthscope.fits.sweep_probes import ProbeTable
from depthscope.ranges import above, at_least, check_ranges
from depthscope.results.result import Findings
from depthscope.runtime.predictor import Design

GIB = 2**30


@dataclass(frozen=True)
class PredictorSweep:
    """Predictors of different designs, each a journal step: a killed sweep goes on with the next design.

    Memory beyond the model: the streams of all windows that are read, if they fit into `memory`, and one design's
    training. Otherwise the model reads the text again for every design.

    Args:
        layers: whose outputs are predicted; empty: the first, middle and last.
        factors: fields of `Factors` that replace the defaults. grid: "around" or "full".
        norm, residual: of every design; with residual "linear" all start from a ridge and are hard to tell apart.
        steps, rows, lr: of every training. held_out: share of the documents to judge on.
        evaluate: tokens judged. compared: tokens at which designs are compared with each other.
        memory: GiB of streams that are kept.
        probed: documents of a label that are probed, 0 for no probes; source: a file of labelled documents, see
            `materials.probe_windows.ProbeWindows`. Only those are probed that a reading with `reserve` leaves out.
    """

    layers: tuple[int, ...] = ()
    factors: Mapping[str, Any] = field(default_factory=dict)
    grid: str = "around"
    norm: str = "standard"
    residual: str = "gain"
    steps: int = 300
    rows: int = 16
    lr: float = 1e-3
    held_out: float = 0.1
    evaluate: int = 16384
    compared: int = 1024
    memory: float = 1.0
    probed: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            steps=at_least(1),
            rows=at_least(1),
            evaluate=at_least(1),
            memory=above(0),
            compared=at_least(8),
            probed=at_least(0),
        )
        _ = self.designs

    @property
    def designs(self) -> dict[str, Design]:
        """By name, the base first.

        Raises:
            BadInput: for an unknown field of `factors`, or one without values.
        """
        unknown = sorted(set(self.factors) - set(Factors.__dataclass_fields__))
        if unknown:
            raise BadInput(f"factors has no {unknown}; it has {', '.join(Factors.__dataclass_fields__)}")
        given = {name: tuple(values) for name, values in self.factors.items()}
        return designs(Factors(**given), self.grid, self.norm, self.residual)

    @property
    def course(self) -> Course:
        """Of every training; points of the curve at the start and the end only."""
        return Course(
            steps=self.steps,
            rows=self.rows,
            lr=self.lr,
            floor=self.lr / 10,
            check=self.steps,
            save=self.steps,
        )

    def depends(self) -> Mapping[str, Any]:
        """Nothing else."""
        return {}

    def run(self, work: Work) -> Findings:
        """All designs, then their comparison.

        Raises:
            Refused: for models that do not read from left to right. BadInput: for layers that do not exist, or a text
            without full windows.
        """
        if not work.model.anatomy.family.causal:
            raise Refused(
                f"{work.model.name} sees both sides of a token; nothing is to be predicted from left to right"
            )
        how = Compared(
            self.layers, self.held_out, self.evaluate, self.compared, int(self.memory * GIB), self.probed, self.source
        )  # fmt: skip
        bench = Bench.of(work, self.designs, self.course, how)
        steps: dict[str, Any] = {}
        for k, (name, design) in enumerate(bench.asked.items()):
            work.progress("design", k + 1, len(bench.asked))
            steps[name] = bench.step(name, design)
        kept = {name: bench.kept(name) for name in steps}
        sized = (len(set(bench.parts.units)), len(bench.parts.judged) * (bench.parts.length - 1))
        note = f"judged on {bench.parts.source}, n counts {bench.parts.kind}"
        found = Swept(steps, [s - 1 for s in bench.states], kept, bench.units, sized, note, work.seed)
        made, remarks = (
            found.measurements(),
            [*bench.remarks(), f"residual {self.residual!r}, norm {self.norm!r}"],
        )
        if bench.probing is not None:
            table = ProbeTable(bench.probing, bench.probes(), work.seed, partial(work.progress, "probes"))
            about = {"designs": [bench.about(name) for name in bench.asked]}
            made |= table.measurements(work.journal.step("probes", about, table.found))
            remarks += table.remarks()
        return Findings(made, notes=tuple(remarks))
