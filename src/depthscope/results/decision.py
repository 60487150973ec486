"""A decision about running a shallower model: numbers with intervals, and sentences by their key, in no language.

The stored JSON is the whole interface: whoever decides writes it, whoever renders reads it, and the two need not be
on one machine. Percentages, points and money are made when it is rendered; here are shares, counts and amounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, Literal

from depthscope.errors import StoreError
from depthscope.results.decoding import decoded

SCHEMA = 1
"""Version of the stored form."""

Verdict = Literal["base", "accept", "reject", "undecided", "not_tested"]
Kind = Literal["base", "sibling", "pruned", "quantised", "ladder"]
STEPS = (
    "task_sheet", "baseline", "depth", "shallow_first", "pruning_ladder", "stress", "width_and_retraining", "rollout",
)  # fmt: skip
"""The steps of the procedure, 1 to 8; each writes a section and the work can stop after any."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval over n independent units; None where something is not known."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @property
    def bounded(self) -> bool:
        """Whether value and both ends are known: only then may it be said in a sentence."""
        return None not in (self.value, self.low, self.high)

    def scaled(self, factor: float) -> Estimate:
        """The number times a factor of 0 or more, its interval with it."""
        value, low, high = (
            None if part is None else part * factor for part in (self.value, self.low, self.high)
        )
        return Estimate(value, low, high, self.n)


@dataclass(frozen=True)
class Said:
    """A sentence by its key in the phrases, with the numbers and names it speaks of.

    Args:
        key: such as "task.reject". slots: name -> text, number, list of texts, or an Estimate as a mapping.
    """

    key: str
    slots: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, key: str, **slots: Any) -> Said:
        """A sentence from its slots; Estimates become mappings."""
        return cls(
            key, {name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
                  for name, value in slots.items()},
        )  # fmt: skip


@dataclass(frozen=True)
class TaskLine:
    """One line of the task sheet.

    Args:
        volume: requests a month. criticality: A stops the line, B degrades, C is nice to have. proposed: what the
        rules
            would give, and why. threshold: the least score that is acceptable, or None. allowed_drop: share of
            items. items: in the file. needed: items for the allowed drop to be told. math, multi_hop: items that
            were recognised as such. by: how items are scored. hash: of the file.
    """

    name: str
    owner: str
    type: str
    volume: float
    criticality: str
    proposed: str
    because: str
    metric: str
    threshold: float | None
    allowed_drop: float
    items: int
    needed: int
    math: int
    multi_hop: int
    must_pass: int
    by: tuple[str, ...]
    hash: str


@dataclass(frozen=True)
class Regression:
    """An item that the base got right and a variant gets wrong; texts are model text, to be escaped."""

    task: str
    item: str
    prompt: str
    expected: str
    before: str
    after: str
    must_pass: bool = False


@dataclass(frozen=True)
class TaskFound:
    """What one variant does on one task.

    Args:
        score: share of items right. change: score minus that of the base on the same items, paired.
        verdict: by the allowed drop, the threshold and the must-pass list together. reason: key of what decided it.
        more: items that are missing for a decision, where undecided. p: McNemar's exact p. lost, won: items right
            before and wrong now, and the other way. failed: must-pass items among the lost. by: how it was scored.
    """

    task: str
    score: Estimate
    change: Estimate
    verdict: Verdict
    reason: str = ""
    more: int | None = None
    p: float | None = None
    lost: int = 0
    won: int = 0
    failed: tuple[str, ...] = ()
    by: str = ""


@dataclass(frozen=True)
class Outputs:
    """What a variant's long answers look like: shares of answers that repeat, are cut off, or have no usable form."""

    task: str
    repeated: Estimate
    truncated: Estimate
    malformed: Estimate
    length: Estimate


@dataclass(frozen=True)
class Variant:
    """One row of the core table.

    Args:
        layers: kept. removed: indices in the base, where known. parameters, bytes: of the checkpoint. kv: bytes of
            cache a token. prefill, decode: measured tokens a second.
        cost: money for 1,000 requests of the mix of tasks. saving: share of the base's cost. loss: nats on the
            calibration text.
        math: change on items that need arithmetic. also: the same tasks scored another way. accepted, rejected, open:
            task names. worst: the task that loses most. step: where it came in.
    """

    name: str
    kind: Kind
    layers: int
    removed: tuple[int, ...] = ()
    model: str = ""
    hash: str = ""
    parameters: int = 0
    bytes: int = 0
    kv: float | None = None
    prefill: Estimate = field(default_factory=Estimate)
    decode: Estimate = field(default_factory=Estimate)
    cost: Estimate = field(default_factory=Estimate)
    saving: Estimate = field(default_factory=Estimate)
    loss: Estimate = field(default_factory=Estimate)
    tasks: tuple[TaskFound, ...] = ()
    also: tuple[TaskFound, ...] = ()
    math: Estimate = field(default_factory=Estimate)
    math_verdict: Verdict = "not_tested"
    accepted: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    worst: str = ""
    pareto: bool = False
    regressions: tuple[Regression, ...] = ()
    outputs: tuple[Outputs, ...] = ()
    note: str = ""
    step: int = 2

    def on(self, task: str) -> TaskFound | None:
        """What was found on one task, or None."""
        return next((found for found in self.tasks if found.task == task), None)


@dataclass(frozen=True)
class LayerLine:
    """One layer of the depth diagnosis: its effect on the output everywhere, on later tokens, and what it writes."""

    layer: int
    all_tokens: Estimate
    later_tokens: Estimate
    write: Estimate
    kl_to_final: Estimate


@dataclass(frozen=True)
class Depth:
    """How the base uses its depth on the user's own prompts.

    Args:
        layers: in the base. feeding: how many of its first layers hold nine tenths of the effect on later tokens.
        half_all, half_later: effect of the second half over that of the first, on all and on later tokens.
        run: folder with the full results, relative to the report.
    """

    layers: int
    feeding: Estimate
    half_all: Estimate
    half_later: Estimate
    lines: tuple[LayerLine, ...]
    prompts: int
    run: str


@dataclass(frozen=True)
class WidthLine:
    """One state of the stream: how many of its directions the loss needs, as a number and as a share of all."""

    state: int
    directions: Estimate
    share: Estimate


@dataclass(frozen=True)
class Width:
    """How much of the width of the stream the base needs on the calibration text.

    Args:
        directions: the width. allowed: rise of the loss, nats, that a narrowed state may cost. late: share needed in
            the last third of the states minus that in the middle third. run: folder, relative to the report.
    """

    directions: int
    allowed: float
    lines: tuple[WidthLine, ...]
    late: Estimate
    run: str


@dataclass(frozen=True)
class Route:
    """Which variant answers a task, and what that costs a month."""

    task: str
    variant: str
    volume: float
    base_cost: Estimate
    cost: Estimate
    reason: str


@dataclass(frozen=True)
class Step:
    """One section: its number, whether it was done, and the sentences that stand in it."""

    number: int
    state: Literal["done", "stopped", "not_evaluated"]
    said: tuple[Said, ...] = ()


@dataclass(frozen=True)
class Decision:
    """Everything the report says.

    Args:
        headline: decision, saving, exceptions, confidence, next: the five lines of the first screen.
        meeting: sentences to read out. risks: notes that were triggered. currency: of all money, "" without prices.
        chosen: the variant that most tasks go to; the base's name where nothing is adopted.
        provenance: command, seed, hashes, versions.
    """

    title: str
    base: str
    currency: str
    headline: tuple[Said, ...]
    meeting: tuple[Said, ...]
    risks: tuple[Said, ...]
    steps: tuple[Step, ...]
    tasks: tuple[TaskLine, ...]
    variants: tuple[Variant, ...] = ()
    depth: Depth | None = None
    routes: tuple[Route, ...] = ()
    chosen: str = ""
    monthly: Estimate = field(default_factory=Estimate)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    width: Width | None = None
    schema: int = SCHEMA

    def variant(self, name: str) -> Variant | None:
        """The variant of that name, or None."""
        return next((one for one in self.variants if one.name == name), None)

    def as_json(self) -> dict[str, Any]:
        """The decision as JSON."""
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Decision:
        """The decision that `as_json` wrote.

        Raises:
            StoreError: for another schema or a form that does not fit.
        """
        if stored.get("schema") != SCHEMA:
            raise StoreError(
                f"this decision has schema {stored.get('schema')!r}, this depthscope reads {SCHEMA}; "
                "run `decide` again"
            )
        return decoded(cls, stored)
