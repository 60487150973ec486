"""What each head's mean output at the end of a prompt with examples does for the answer."""

from __future__ import annotations

from depthscope.charts import Spec, head_map, present
from depthscope.results.result import Result

SUITS = ("function_vectors",)
READS = ("indirect_effect",)
TITLE = "Heads that carry a task"
WORDS = {"indirect_effect": "gain in probability of the answer"}


def plot(result: Result) -> Spec:
    """A map: layer down, head across, the mean gain over tasks. Layers without heads stay empty."""
    return head_map(present(result, READS), WORDS, TITLE)
