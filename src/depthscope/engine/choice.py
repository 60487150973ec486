"""Which analyses an audit runs: names resolved, dependencies added, refusals heard before anything is read."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from depthscope.engine.needs import Analysis, Parametrised, Particular
from depthscope.errors import BadInput, Refused
from depthscope.registry import ANALYSES
from depthscope.results.result import Text
from depthscope.runtime.model import Model

FIRST = (
    "corpus_statistics",
    "logit_lens",
    "settle_depth",
    "residual_contribution",
    "layer_skip",
    "representation_profile",
    "head_patterns",
)
"""What an audit without a list of analyses runs; of these, what a model refuses is left out and noted."""


@dataclass(frozen=True)
class Chosen:
    """The analyses that will run, and those of the default list that the model refuses, with the reason.

    Args:
        implied: those that nobody named; the others wait for them, whatever parameters they ran with.
    """

    analyses: Mapping[str, Analysis]
    refused: Mapping[str, str]
    implied: frozenset[str] = frozenset()


def chosen(analyses: Iterable[str | Analysis] | None, model: Model) -> Chosen:
    """Resolve names, add what they wait for, and ask each whether the model can answer it.

    Raises:
        UnknownName: for an unknown name. Refused: when a named analysis refuses the model.
        BadInput: for no analysis, or one that is named twice with different parameters. What `Particular` ones raise.
    """
    if isinstance(analyses, str):
        raise BadInput(f"analyses={analyses!r} is one text; give a list, as [{analyses!r}]")
    named: dict[str, Analysis] = {}
    implied: dict[str, Analysis] = {}
    refused: dict[str, str] = {}
    for item in FIRST if analyses is None else analyses:
        name, analysis = _resolved(item)
        if named.get(name, analysis) != analysis:
            raise BadInput(
                f"{name} was asked for twice, with {named[name]} and {analysis}; use two run folders"
            )
        try:
            implied |= _before(analysis, model)
        except Refused as reason:
            if analyses is not None:
                raise Refused(f"{name} cannot run on {model.name}: {reason}") from reason
            refused[name] = str(reason)
            continue
        if isinstance(analysis, Particular):
            analysis.must_fit(model)
        named[name] = analysis
    if not named:
        raise BadInput(f"no analysis to run; refused: {refused}")
    for name, analysis in named.items():
        words(name, analysis)
    before = {name: analysis for name, analysis in implied.items() if name not in named}
    return Chosen({**before, **named}, refused, frozenset(before))


def _before(analysis: Analysis, model: Model) -> dict[str, Analysis]:
    """What an analysis waits for, and what that waits for, each with its default parameters."""
    found: dict[str, Analysis] = {}
    left = list(analysis.needs(model.anatomy).after)
    while left:
        name = left.pop()
        if name not in found:
            found[name] = ANALYSES[name]()
            left += found[name].needs(model.anatomy).after
    return found


def _resolved(item: str | Analysis) -> tuple[str, Analysis]:
    """Name and object. One of ours is called by its file, an object from elsewhere by its class in snake case."""
    if isinstance(item, str):
        return item, ANALYSES[item]()
    if not hasattr(item, "needs"):
        raise BadInput(f"{item!r} is no analysis; give a name, or an object with needs, observe and conclude")
    package, _, file = type(item).__module__.rpartition(".")
    own = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(item).__name__).lower()
    return (file if package == ANALYSES.package else own), item


def words(name: str, analysis: Parametrised) -> Text:
    """The docstring of the module of an analysis or a study, taken apart; of its class, where it comes from elsewhere.

    Raises:
        UnknownName: when a section is missing.
    """
    if type(analysis).__module__.startswith(f"{ANALYSES.package}."):
        return Text.of(ANALYSES.docstring(name))
    written = inspect.getdoc(type(analysis)) or ""
    return Text.of(
        written if "Question:" in written else inspect.getdoc(inspect.getmodule(type(analysis))) or ""
    )
