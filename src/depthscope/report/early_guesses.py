"""Verdicts on early guesses: frequent tokens first, function words first, and whether leaving early pays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from depthscope.report.sentence import Cell, Verdict
from depthscope.results.result import Result

Results = Mapping[str, Result]
ALLOWED = 0.1
"""Damage in nats a token where a run does not say what it allowed."""


def frequent_first(results: Results) -> Verdict:
    """Whether early guesses are frequent tokens: share of the first bucket, an eighth of the depth minus the end."""
    topic = "Whether early guesses are the most frequent tokens"
    found = results["frequency_onset"]["share_above_final"]
    states, bucket = np.asarray(found.axes["state"]), np.asarray(found.axes["bucket"])[0]
    last = int(states.max())
    early = int(states[np.abs(states - last / 8).argmin()])
    cell = Cell.of(found, state=early, bucket=bucket)
    share = results["frequency_onset"]["share"]
    here, end = (Cell.of(share, state=s, bucket=bucket).value for s in (early, last))
    because = f"frequency_onset/share_above_final of ranks {bucket} at state {early} is {cell.said()}; "
    because += "the threshold is 0."
    through = f"read through the lens {results['frequency_onset'].provenance.get('lens', 'logit')}"
    if cell.low > 0:
        words = f"more often than in the end ({end:.0%}): frequent tokens come first"
    elif cell.high < 0:
        words = f"less often than in the end ({end:.0%}): frequent tokens do not come first"
    else:
        return Verdict(topic, f"Not decided: about as often early as in the end, {through}.", False, because)
    sentence = (
        f"At state {early} of {last} a token of ranks {bucket} is on top at {here:.0%} of positions, {words}; "
        f"{through}."
    )
    return Verdict(topic, sentence, True, because)


def function_words_first(results: Results) -> Verdict:
    """Whether function words come before content words: difference of their first states with rank 1 against 0."""
    topic = "Whether function words are predicted at smaller depth than content words"
    found = results["pos_depth"]["difference"]
    k = int(np.asarray(found.axes["k"]).min())
    cell = Cell.of(found, definition="first", k=k)
    if np.isnan(cell.value):
        return Verdict(topic, f"Not decided: {found.missing or 'too few words'}.", False, "")
    because = f"pos_depth/difference (content minus function, first state with rank <= {k}) is {cell.said()} states; "
    because += "the threshold is 0."
    if cell.low > 0:
        said = f"Function words come {cell.value:.1f} states before content words"
    elif cell.high < 0:
        said = f"Content words come {-cell.value:.1f} states before function words"
    else:
        return Verdict(topic, "Not decided: the interval of the difference holds 0.", False, because)
    lens = results["pos_depth"].provenance.get("lens", "logit")
    return Verdict(topic, f"{said}, read through the lens {lens}.", True, because)


def exits_pay(results: Results) -> Verdict:
    """Whether leaving early pays: the best net saving of operations at the strictest target but one against 0."""
    topic = "Whether tokens could leave early"
    found = results["early_exit"]["net_saving"]
    target = sorted(int(t) for t in found.axes["target"])[-2:][0]
    cells = {
        (str(policy), int(every)): Cell.of(found, policy=policy, every=every, target=target)
        for policy in np.asarray(found.axes["policy"])
        for every in np.asarray(found.axes["every"])
    }
    cells = {name: cell for name, cell in cells.items() if np.isfinite(cell.value)}
    if not cells:
        return Verdict(topic, f"Not decided: {found.missing or 'too few documents'}.", False, "")
    (policy, every), best = max(cells.items(), key=lambda item: item[1].value)
    because = f"early_exit/net_saving of {policy}, every {every}, at {target} % agreement is {best.said()}; "
    because += "the best of all policies, the threshold is 0."
    if best.low > 0:
        sentence = f"At {target} % agreement, {policy} would save {_percent(best.value)} of the operations."
    elif best.high <= 0:
        sentence = f"At {target} % agreement no policy saves operations: looking costs more than it saves."
    else:
        return Verdict(topic, "Not decided: the interval of the best saving holds 0.", False, because)
    return Verdict(topic, sentence, True, because)


def exits_pay_in_writing(results: Results) -> Verdict:
    """Whether exits pay in text that the model writes: a saving above 0 at a confidence whose damage is allowed."""
    topic = "Whether tokens could leave early in text that the model writes"
    result = results["exit_price"]
    saved, damage = result["net_saving"], result["damage"]
    allowed = float(result.parameters.get("allowed", ALLOWED))
    cells = {
        float(c): (Cell.of(saved, confidence=c), Cell.of(damage, confidence=c))
        for c in saved.axes["confidence"]
    }
    best = max(cells, key=lambda c: cells[c][0].value)
    because = (
        f"exit_price/net_saving is largest at confidence {best:g}: {cells[best][0].said()}, threshold 0; "
        f"exit_price/damage there is {cells[best][1].said()} nats, threshold {allowed:g}."
    )
    paying = [f"{c:g}" for c, (net, harm) in cells.items() if net.low > 0 and harm.high <= allowed]
    if paying:
        sentence = f"At confidence {', '.join(paying)} exits save operations and the text stays as good."
    elif all(net.high <= 0 or harm.low > allowed for net, harm in cells.values()):
        sentence = "Exits do not pay: at every confidence they save no operation or damage the text too much."
    else:
        return Verdict(topic, "Not decided whether exits pay: more documents are needed.", False, because)
    return Verdict(topic, sentence, True, because)


def _percent(share: float) -> str:
    """A share as a percentage; with a decimal below 10 %, so that a small one is not printed as none."""
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"
