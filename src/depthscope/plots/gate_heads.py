"""Which heads must see everything: trained gates, and what streaming of one group alone changes."""

from __future__ import annotations

from depthscope.charts import Spec, head_map, present
from depthscope.results.result import Result

SUITS = ("duo_gates",)
READS = ("gate", "sensitivity")
TITLE = "Heads that must see everything, and heads that may stream"
WORDS = {"gate": "gate (0 streams, 1 keeps all)", "sensitivity": "change when the group alone streams"}


def plot(result: Result) -> Spec:
    """A map: layer down, head across; the score is chosen in a list. Heads of one key-value group are equal."""
    return head_map(present(result, READS), WORDS, TITLE)
