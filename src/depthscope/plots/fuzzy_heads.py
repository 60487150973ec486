"""Which heads look from a word to the label of one that is only alike, by how the two are alike."""

from __future__ import annotations

from depthscope.charts import Spec, head_map, present, split
from depthscope.results.result import Result

SUITS = ("fuzzy_induction",)
READS = ("advantage",)
TITLE = "Heads that match words that are only alike"
WORDS = {
    "same": "the same word", "case": "other case", "inflection": "other form", "synonym": "same meaning",
    "translation": "other language", "nonce": "invented words",
}  # fmt: skip


def plot(result: Result) -> Spec:
    """A map of heads, how words are alike chosen in a list: attention to the right label minus that to the others."""
    scores = split(present(result, READS)["advantage"], "relation")
    return head_map(scores, {name: WORDS.get(name, name) for name in scores}, TITLE)
