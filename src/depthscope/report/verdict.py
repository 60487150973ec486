"""The verdict box: sentences in plain words, each from a rule: measurement, threshold, interval.

A rule is a function of the results that can also say "not decided"; it never guesses past its interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from depthscope.report import (
    components,
    early_guesses,
    erasure,
    function_uses,
    grammar,
    heads,
    linear_maps,
    predictors,
    residual,
    similarity,
    sinks,
    valley,
)
from depthscope.report.adaptive import tokens_differ
from depthscope.report.correlates import metrics_follow
from depthscope.report.difficulty import harder_deeper
from depthscope.report.extremes import length_spreads, randomness_spreads, repetition_compresses
from depthscope.report.fact_memories import facts_hit, makes_up_after_a_miss
from depthscope.report.functions import iteration_head_works, vector_does_tasks
from depthscope.report.later_tokens import late_layers
from depthscope.report.modes import two_kinds_of_prompts
from depthscope.report.pruning import deepest_may_go
from depthscope.report.quality import earlier_or_last
from depthscope.report.roles import UNTRAINED, roles_in_depth, roles_stand_out
from depthscope.report.sentence import Cell, Verdict
from depthscope.report.shortened import tasks_kept
from depthscope.report.steering import split_stable, text_turns, what_parts_carry
from depthscope.report.trained_heads import (
    gates_part,
    pairs_take_over,
    patches_gather,
    registers_take_over,
    task_carries_over,
)
from depthscope.results.measurement import Measurement
from depthscope.results.result import Result

Results = Mapping[str, Result]

WIDE = 0.25
"""An interval of the settle depth that spans more than this share of the depth decides nothing."""

DOCUMENTS = 8
"""Fewer independent documents than this decide nothing about layers."""

JUDGED = 0.8
"""Lenses are judged up to this share of the depth."""

LISTED = 6
"""So many layers are named when several cannot be told apart."""


def settling(results: Results) -> Verdict:
    """Where predictions settle: the median of the stable onset; not decided if its interval exceeds WIDE."""
    topic = "Where predictions settle"
    found = results["settle_depth"]
    share = found["stable_histogram"]
    states = np.asarray(share.axes["state"])
    last = int(states.max())
    median = Cell.of(found["stable_median"])
    early = float(np.nansum(share.value[states < last / 2]))
    because = (
        f"settle_depth/stable_median is {median.said()} in states of {last}; it decides when the interval "
        f"spans at most {WIDE:.0%} of the depth."
    )
    if not median.high - median.low <= WIDE * last:
        return Verdict(topic, "Not decided: the interval of the settle depth is too wide.", False, because)
    sentence = (
        f"Half of the predictions have settled by state {median.value:g} of {last} "
        f"({median.value / last:.0%} of the depth); {early:.0%} settle in the first half{_through(results)}."
    )
    return Verdict(topic, sentence, True, because)


def cheapest_layers(results: Results) -> Verdict:
    """Which layers cost least when skipped; not decided if all are alike or n is below DOCUMENTS."""
    topic = "Layers that cost least when skipped"
    found = results["layer_skip"]["loss_increase"].select(sublayer="block")
    kept = protected_layers(found, results)
    named = ", ".join(f"layer {layer} ({reason})" for layer, reason in kept.items())
    free = {int(a): Cell.of(found, layer=a) for a in found.axes["layer"] if int(a) not in kept}
    free = {layer: cell for layer, cell in free.items() if np.isfinite(cell.value)}
    if not free:
        return Verdict(topic, "Not decided: every layer is protected.", False, f"Protected: {named}.")
    best = min(free, key=lambda layer: free[layer].value)
    cell = free[best]
    because = f"layer_skip/loss_increase of layer {best} is {cell.said()} nats. Protected: {named}."
    units = results["layer_skip"].provenance.get("units", "documents")
    if units != "documents" or cell.n is None or cell.n < DOCUMENTS:
        short = f"Not decided: at least {DOCUMENTS} independent documents are needed, found {cell.n} {units}."
        return Verdict(topic, short, False, because)
    others = [layer for layer in free if layer != best]
    alike = [layer for layer in others if free[layer].overlaps(cell)]
    if others and len(alike) == len(others):
        return Verdict(topic, "Not decided: no layer can be told apart from all the others.", False, because)
    floor = results["layer_skip"].findings.measurements.get("noise_floor")
    noise = 0.0 if floor is None else 3 * floor.scalar()
    return Verdict(topic, _cheapest(best, cell, alike, noise), True, because)


def protected_layers(found: Measurement, results: Results) -> dict[int, str]:
    """Layer -> why it is never proposed: first, last, or writes a sink (corpus_statistics)."""
    layers = [int(layer) for layer in found.axes["layer"]]
    kept = {min(layers): "first", max(layers): "last"}
    if "corpus_statistics" in results:
        measured = results["corpus_statistics"].findings.measurements
        if "sink_writer" in measured:
            writes = measured["sink_writer"]
            sinks = np.asarray(writes.axes["layer"])[writes.value > 0]
            kept |= {int(layer): "writes the sink" for layer in sinks if int(layer) not in kept}
    return dict(sorted(kept.items()))


def richest_state(results: Results) -> Verdict:
    """Where the representation is richest: highest prompt entropy without massive tokens.

    Not decided if its interval overlaps that of the best state of the other half, or if the effective rank is
    highest in the other half.
    """
    topic = "Where the representation is richest"
    found = results["representation_profile"]
    entropy, mode = _without_massive(found["prompt_entropy"])
    states = np.asarray(entropy.axes["state"])
    last = int(states.max())
    best, rival = _best_of_halves(entropy, last)
    mine, theirs = Cell.of(entropy, state=best), Cell.of(entropy, state=rival)
    because = (
        f"representation_profile/prompt_entropy (mode {mode}) is {mine.said()} at state {best}; the best "
        f"state of the other half is {rival} with {theirs.said()}."
    )
    if mine.overlaps(theirs):
        return Verdict(topic, "Not decided: the best states of both halves overlap.", False, because)
    if "effective_rank" in found.findings.measurements:
        second = _best_of_halves(_without_massive(found["effective_rank"])[0], last)[0]
        because += f" Effective rank is highest at state {second}."
        if (second < last / 2) != (best < last / 2):
            return Verdict(topic, "Not decided: entropy and rank disagree on the half.", False, because)
    sentence = (
        f"Prompts spread over most directions at state {best} of {last} ({best / last:.0%} of the depth), "
        "massive tokens left out."
    )
    return Verdict(topic, sentence, True, because)


def guess_and_refine(results: Results) -> Verdict:
    """Whether early top-1 are mostly overturned: flip rate at a quarter of the depth against one half."""
    topic = "Guess first, refine later"
    found = results["settle_depth"]["flip_rate"]
    states = np.asarray(found.axes["state"])
    last = int(states.max())
    quarter = int(states[np.abs(states - last / 4).argmin()])
    cell = Cell.of(found, state=quarter)
    because = (
        f"settle_depth/flip_rate at state {quarter} of {last} is {cell.said()}; the threshold is one half."
    )
    if cell.low > 0.5:
        word = "overturned: early layers guess, later layers refine"
    elif cell.high < 0.5:
        word = "kept: early layers already decide"
    else:
        return Verdict(
            topic, "Not decided: about half of the early top-1 tokens are overturned.", False, because
        )
    return Verdict(
        topic,
        f"At a quarter of the depth, top-1 tokens are mostly {word} ({cell.value:.0%} change){_through(results)}.",
        True,
        because,
    )


def better_lens(results: Results) -> Verdict:
    """Whether fitted lenses read better: KL below the logit lens's at every state up to JUDGED of the depth."""
    topic = "Whether a fitted lens reads better than the logit lens"
    found = results["lens_quality"]["kl_difference"]
    states, lenses = np.asarray(found.axes["state"]), [str(name) for name in found.axes["lens"]]
    judged = [int(s) for s in states if s <= JUDGED * states.max() + 1e-9]
    if len(lenses) < 2:
        return Verdict(topic, "Not decided: no other lens than the logit lens was given.", False, "")
    said, decided, because = [], True, []
    for lens in lenses[1:]:
        cells = {s: Cell.of(found, lens=lens, state=s) for s in judged}
        worst = max(cells, key=lambda s, of=cells: of[s].value)
        because.append(
            f"lens_quality/kl_difference of {lens} is largest at state {worst}: {cells[worst].said()} nats"
        )
        worse = [str(s) for s, cell in cells.items() if cell.low >= 0]
        if worse:
            said.append(f"{lens} does not: it is no better at state {', '.join(worse[:LISTED])}")
        elif all(cell.high < 0 for cell in cells.values()):
            said.append(f"{lens} does, at every state from 0 to {judged[-1]}")
        else:
            said.append(f"not decided for {lens}: at some states the interval of the difference holds 0")
            decided = False
    return Verdict(
        topic, f"{'; '.join(said).capitalize()}.", decided, f"{'; '.join(because)}. The threshold is 0."
    )


RULES: tuple[tuple[str, Callable[[Results], Verdict]], ...] = (
    ("settle_depth", settling),
    ("settle_depth", guess_and_refine),
    ("lens_quality", better_lens),
    ("frequency_onset", early_guesses.frequent_first),
    ("pos_depth", early_guesses.function_words_first),
    ("early_exit", early_guesses.exits_pay),
    ("exit_price", early_guesses.exits_pay_in_writing),
    ("residual_contribution", residual.writes_turn),
    ("residual_width", residual.late_width),
    ("layer_skip", cheapest_layers),
    ("layer_skip", late_layers),
    ("pruning_damage", deepest_may_go),
    ("prune", tasks_kept),
    ("depth_by_difficulty", harder_deeper),
    ("adaptive_compute", tokens_differ),
    ("linear_maps", linear_maps.depth_kept),
    ("residual_erasure", erasure.question_needed),
    ("component_steering", what_parts_carry),
    ("component_steering", text_turns),
    ("predictor", predictors.more_than_linear),
    ("predictor_sweep", split_stable),
    ("representation_profile", richest_state),
    ("representation_profile", valley.one_token),
    ("extreme_inputs", repetition_compresses),
    ("extreme_inputs", randomness_spreads),
    ("extreme_inputs", length_spreads),
    ("entropy_modes", two_kinds_of_prompts),
    ("layer_quality", earlier_or_last),
    ("layer_quality", metrics_follow),
    ("augmentation_invariance", similarity.most_invariant),
    ("layer_similarity", similarity.largest_change),
    ("predictability", components.novelty_surprises),
    ("component_probes", components.domain_expected),
    ("component_probes", components.token_novel),
    ("model_similarity", similarity.late_or_early),
    ("attention_sinks", sinks.heads_rest),
    ("massive_activations", sinks.massive_are_constants),
    ("streaming_cache", sinks.first_keys_needed),
    ("induction_heads", heads.copies_context),
    ("induction_ablation", heads.induction_needed),
    ("retrieval_ablation", heads.retrieval_needed),
    ("fact_memory", facts_hit),
    ("fact_memory", makes_up_after_a_miss),
    ("duo_gates", gates_part),
    ("registers", registers_take_over),
    ("image_registers", patches_gather),
    ("explicit_bias", pairs_take_over),
    ("iteration_transfer", task_carries_over),
    ("grammar_heads", grammar.heads_know_grammar),
    ("grammar_heads", grammar.heads_hold_trees),
    ("minimal_pairs", grammar.pairs_told),
    (f"{UNTRAINED}head_atlas", roles_stand_out),
    ("head_atlas", roles_in_depth),
    ("function_vectors", vector_does_tasks),
    ("function_transfer", function_uses.task_of_its_own),
    ("function_transfer", function_uses.vectors_add_up),
    ("function_transfer", function_uses.more_than_words),
    ("function_texts", function_uses.works_in_texts),
    ("function_offsets", function_uses.more_than_offsets),
    ("function_reach", function_uses.reaches_invented_words),
    ("iteration_heads", iteration_head_works),
)
"""Which analysis a rule needs, and the rule; in the order of the box."""


def verdicts(results: Results) -> list[Verdict]:
    """All sentences that the results allow; a rule whose measurement is missing or broken says so."""
    return [_tried(rule, results) for analysis, rule in RULES if analysis in results]


def _tried(rule: Callable[[Results], Verdict], results: Results) -> Verdict:
    topic = (rule.__doc__ or rule.__name__).partition(":")[0].partition(";")[0]
    try:
        return rule(results)
    except Exception as error:  # noqa: BLE001  (one broken file must not take the page with it)
        return Verdict(topic, "Not decided: a measurement is missing or cannot be read.", False, str(error))


def _through(results: Results) -> str:
    """The lens that states were read through, where the result says so."""
    lens = results["settle_depth"].provenance.get("lens")
    return f", read through the lens {lens}" if lens else ""


def _cheapest(best: int, cell: Cell, alike: list[int], noise: float) -> str:
    named = ", ".join(str(layer) for layer in alike[:LISTED]) + (" and more" if len(alike) > LISTED else "")
    several = (
        f" {'Layers' if len(alike) > 1 else 'Layer'} {named} cannot be told apart from it." if alike else ""
    )
    loss = f"{cell.value:+.3g} nats of loss" if abs(cell.value) > noise else "no loss above the noise floor"
    return (
        f"Skipping layer {best} costs least: {loss}.{several} This is loss only, not verified by generation."
    )


def _without_massive(found: Measurement) -> tuple[Measurement, str]:
    modes = [str(mode) for mode in found.axes["mode"]]
    mode = next((mode for mode in modes if "no_massive" in mode), modes[0])
    return found.select(mode=mode), mode


def _best_of_halves(found: Measurement, last: int) -> tuple[int, int]:
    """The state with the highest value, and the best state of the other half."""
    states, value = np.asarray(found.axes["state"]), np.where(np.isnan(found.value), -np.inf, found.value)
    early = states < last / 2
    tops = [int(states[half][value[half].argmax()]) for half in (early, ~early)]
    tops.sort(key=lambda state: float(value[states == state][0]), reverse=True)
    return tops[0], tops[1]
