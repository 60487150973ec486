"""A made-up but plausible run of a model with 12 layers of 8 heads: the analyses that have plots, without any model.

Every curve has a planted shape, so that verdicts and pages can be tested: predictions settle late, layer 6
costs least loss when skipped, layer 1 writes a sink, prompt entropy is highest at state 4. Some tokens are
hostile.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from depthscope.engine.choice import FIRST
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings, Result, Text
from depthscope.store.run import Run, RunFolder, open_run

L, H, DOCUMENTS = 12, 8, 24
STATES, LAYERS = np.arange(L + 1), np.arange(L)
DEPTH = STATES / L
HOSTILE = ("</script><img src=x onerror=alert(1)>", "<!--", "\u202eevil", "\u2028", "\x00\x1b[31m", "&amp;")
WORDS = ("The", " house", " by", " the", " sea", " was", " quiet", ",", " and", " nobody", "\n", " 家")
BUCKETS = ("1-10", "11-100", "101-1000", "rest")
MODES = ("wei", "wei_no_first", "wei_no_massive", "uncentred")

TEXTS = {
    "logit_lens": Text(
        "What each state already predicts",
        "If the model had to answer after k layers, what would it say, and how far off is that?",
        "Each state is taken through the model's own final norm and unembedding.",
        "Low divergence means that the state already holds the final prediction in the output space.",
        "Early states may hold the answer in a form that this lens cannot read: high proves no absence.",
        "nostalgebraist 2020; Belrose et al. 2023, arXiv:2303.08112, section 2",
    ),
    "settle_depth": Text(
        "Where predictions settle",
        "After how many layers does the top-1 token stop changing?",
        "The first state from which on the top-1 equals the final one.",
        "Mass at late states means that the model keeps deciding until the end.",
        "First onset counts lucky hits; stable onset does not.",
        "Belrose et al. 2023, arXiv:2303.08112; Schuster et al. 2022, arXiv:2207.07061",
    ),
    "frequency_onset": Text(
        "Which tokens early states guess",
        "Do early layers guess the most frequent tokens?",
        "The top-1 token of each state, sorted into classes by its rank in the text.",
        "First bars of frequent tokens only mean guessing by frequency.",
        "The final prediction is itself skewed towards frequent tokens.",
        "arXiv:2510.18871, section 3",
    ),
    "decision_flips": Text(
        "How early guesses are overturned",
        "When a guess is given up, was it frequent or rare?",
        "The top-1 token of each state against the final one.",
        "A flip rate near chance means that the guess knew nothing of its context.",
        "A flip may be a small change of probability.",
        "arXiv:2510.18871, section 4",
    ),
    "pos_depth": Text(
        "Depth by part of speech",
        "Are function words predicted earlier than words of content?",
        "The rank of the final token at every state, by the class of the word it starts.",
        "A positive difference says that function words come first.",
        "Function words are few and expected.",
        "arXiv:2510.18871, part-of-speech case study",
    ),
    "fact_depth": Text(
        "How deep answers are recalled",
        "At which depth does each token of a known answer emerge?",
        "Prompts are read with their answers; ranks of the right tokens are taken at every state.",
        "A positive difference says that the first token forms deeper than later ones.",
        "Later tokens often only complete a name.",
        "How Do LLMs Use Their Depth?, arXiv:2510.18871",
    ),
    "option_depth": Text(
        "When options are gathered and chosen",
        "When do the options of a question rank high, and when is one of them chosen?",
        "Probabilities and ranks of the options at the last position of each prompt.",
        "Early collection and a late overtake mean: gather, then decide.",
        "Letters are frequent tokens: look at the controls.",
        "How Do LLMs Use Their Depth?, arXiv:2510.18871",
    ),
    "option_patch": Text(
        "Answers after a patched last position",
        "From which depth on does the last position carry another prompt's answer?",
        "A donor's state takes the place of the last position's, and the model goes on.",
        "Early patches leave the target's options, late ones bring the donor's.",
        "Layers above look back at the target's text.",
        "How Do LLMs Use Their Depth?, arXiv:2510.18871",
    ),
    "depth_by_difficulty": Text(
        "Depth by difficulty",
        "Do harder problems use deeper layers?",
        "Centres of the effects of skipping layers, by level.",
        "The verdict rests on the slope and on an equivalence test.",
        "A large p is no proof of equal depth.",
        "Csordas et al. 2025, arXiv:2505.13898",
    ),
    "adaptive_compute": Text(
        "Adaptive compute",
        "Do some tokens need nearly all of the depth while others are done early?",
        "The divergence of every state's prediction from the final one.",
        "Early and deep shares that are both large say that tokens differ.",
        "A depth is that of a lens.",
        "arXiv:2602.13517, as recalled",
    ),
    "prune": Text(
        "Which layers of a model can go",
        "Which layers can be removed, what is lost, and what is gained?",
        "Sets of layers are proposed, screened by loss and verified by tasks.",
        "A task holds when the interval of its difference lies above the margin.",
        "A small rise of the loss says little of tasks.",
        "Men et al. 2024, arXiv:2403.03853",
    ),
    "early_exit": Text(
        "Early exit",
        "How many layers could be saved if a token left as soon as it is safe?",
        "Policies calibrated on half of the documents, measured on the other.",
        "A policy pays where the net saving is above zero.",
        "Agreement is counted token by token on given text.",
        "Schuster et al. 2022, arXiv:2207.07061",
    ),
    "exit_price": Text(
        "Exit price",
        "Once every look is paid for, do early exits pay in text that the model writes?",
        "Documents are continued with exits and copied states.",
        "Exits pay where operations are saved and the text stays whole.",
        "A model's own loss on its own text rewards repetition.",
        "Schuster et al. 2022, arXiv:2207.07061",
    ),
    "model_similarity": Text(
        "How alike two models are",
        "Which states of another model arrange texts as this one's do?",
        "CKA of pooled vectors of every state of the one with every state of the other.",
        "Near 1 on the diagonal says that the models agree at that depth.",
        "Early states share their embeddings.",
        "Kornblith et al. 2019",
    ),
    "lens_quality": Text(
        "How well each lens reads",
        "How far from the final prediction is what each lens reads?",
        "All lenses decode the same positions.",
        "A fitted lens should be below the logit lens at every state.",
        "A lens that was fitted on this text looks better than it is.",
        "Belrose et al. 2023, arXiv:2303.08112, section 3",
    ),
    "lens_validation": Text(
        "Whether frequent tokens come from the lens",
        "Is early dominance of frequent tokens in the states or in the lens?",
        "Masses and top-1 shares of frequent tokens under every lens.",
        "Dominance under a lens that never saw the vocabulary is evidence.",
        "Equal mass follows from training and proves nothing.",
        "arXiv:2510.18871, appendix",
    ),
    "residual_contribution": Text(
        "What each sublayer writes",
        "How large is each write against the stream, and does it strengthen or turn it?",
        "Norm of the write over norm of the stream it is added to, and their cosine.",
        "Small relative norm late in the model means refinement.",
        "A small write may matter: size is not effect.",
        "Csordás et al. 2025, arXiv:2505.13898, section 3",
    ),
    "residual_width": Text(
        "How much of the width is in use",
        "Over how many directions do the states spread, and how many does the loss need?",
        "Principal directions of each state; the model goes on from its first k.",
        "Near the whole width means that the width is in use.",
        "A correlation at best for the question whether a wider model would be better.",
        "Csordás et al. 2025, arXiv:2505.13898, discussion",
    ),
    "layer_quality": Text(
        "What each state is worth in tasks",
        "Which state gives the best vectors of whole texts for a task?",
        "Every text is pooled to one vector at every state.",
        "A gain above 0 says that an earlier state beats the last.",
        "The best state of one task is not that of another.",
        "Skean et al. 2025, arXiv:2502.02013",
    ),
    "augmentation_invariance": Text(
        "Whether noise moves a text",
        "At which depth does a disturbed text keep its vector?",
        "Views of each text are pooled and must find each other.",
        "A low loss says that noise does not move a text into another's place.",
        "Invariance is not quality.",
        "Skean et al. 2025, arXiv:2502.02013",
    ),
    "layer_similarity": Text(
        "How alike the states are",
        "Which states hold the same arrangement of texts?",
        "CKA of pooled vectors of all pairs of states.",
        "Blocks along the diagonal are stretches that keep the arrangement.",
        "With few texts plain CKA finds unrelated vectors alike.",
        "Kornblith et al. 2019",
    ),
    "layer_skip": Text(
        "What skipping a layer costs",
        "Which layers does the model need for its output, and which later layers depend on them?",
        "The forward pass is replayed with the layer's write left out.",
        "Tall marks are layers whose absence raises the loss.",
        "Loss over text is not ability: verify by generation before removing anything.",
        "Csordás et al. 2025, arXiv:2505.13898, section 4; Men et al. 2024, arXiv:2403.03853",
    ),
    "representation_profile": Text(
        "How rich each state is",
        "How many directions does a prompt use at each depth?",
        "Spectral entropy of the prompt's Gram matrix, and three companions.",
        "High prompt entropy means that tokens keep apart.",
        "One massive token turns the spectrum: compare the modes.",
        "Skean et al. 2025, arXiv:2502.02013",
    ),
    "dataset_geometry": Text(
        "The shape of a set of texts",
        "Over how many directions do the vectors of different texts spread?",
        "One pooled vector a text; spectra, angles and neighbours of all of them.",
        "Compare states, not numbers.",
        "Every one of these depends on the number of texts.",
        "Skean et al. 2025, arXiv:2502.02013",
    ),
    "checkpoints": Text(
        "Checkpoints of one training",
        "When in training, and in which layers, does a measurement get the values it ends with?",
        "Every checkpoint is audited with the same analyses on the same windows.",
        "Rows that reach their last colour early settled early.",
        "A change adds up noise as well as learning.",
        "arXiv:2502.02013; Pythia, arXiv:2304.01373",
    ),
    "linear_maps": Text(
        "Linear maps onto a deeper model",
        "Are the states of a deeper model those of a shallower one, stretched?",
        "Every state is predicted from every state by a ridge regression.",
        "Best sources at equal relative depth mean that layers correspond by their share of the depth.",
        "States change slowly, so a diagonal appears in any case.",
        "Csordás et al. 2025, arXiv:2505.13898",
    ),
    "surgery": Text(
        "Layers out of their order",
        "Does the order of the layers matter?",
        "The middle is skipped, reversed, repeated, or run side by side.",
        "Plans that cost less than a skip show layers that work out of place.",
        "Loss on text is forgiving.",
        "Sun et al. 2024, arXiv:2407.09298",
    ),
    "surgery_options": Text(
        "Surgery on questions",
        "How much of the ability to answer survives?",
        "Plans of surgery on questions with options.",
        "The task that falls first needs the middle most.",
        "Choices are forgiving.",
        "Sun et al. 2024, arXiv:2407.09298",
    ),
    "pruning_criteria": Text(
        "Scores by which layers are removed",
        "Which layers would each criterion remove first?",
        "Influence, loss, effect on later tokens, and gradients, side by side.",
        "Low ranks go first.",
        "A criterion is a guess.",
        "Men et al. 2024, arXiv:2403.03853",
    ),
    "pruning_damage": Text(
        "What removing layers costs",
        "How much does the loss rise when a criterion's layers go?",
        "The layers of lowest rank are removed together.",
        "The lowest curve is the criterion to prune by.",
        "Low loss is not intact ability.",
        "Gromov et al. 2024, arXiv:2403.17887",
    ),
    "head_patterns": Text(
        "What each head looks at",
        "Does a head look at the previous token, the first, itself, or widely?",
        "Means of attention rows over queries from 1 on.",
        "Bright cells are heads that do mostly this.",
        "A pattern is not a function: test it by ablation.",
        "Clark et al. 2019, arXiv:1906.04341",
    ),
    "residual_erasure": Text(
        "Until which depth the answer needs each token",
        "If what one position holds is wiped out, does the answer change?",
        "Each state of each position becomes the mean state, and the model goes on.",
        "Where the line of the question falls to zero, it is done with.",
        "A prompt that is not answered maps a guess.",
        "Csordas et al. 2025, arXiv:2505.13898",
    ),
    "integrated_gradients": Text(
        "Which tokens carry the answer at each layer",
        "How much does each token add to the right answer?",
        "Gradients on a straight path from a baseline.",
        "Early layers hold the answer in the question, late ones in its last position.",
        "Everything is relative to the baseline.",
        "Sundararajan et al. 2017, arXiv:1703.01365",
    ),
    "extreme_inputs": Text(
        "What extreme inputs do",
        "What do repetition, random tokens and length do to the entropy?",
        "Texts are edited on their ids, level by level.",
        "A negative slope of repetition says that the state compresses what is repeated.",
        "Random ids are no language.",
        "Skean et al. 2025, arXiv:2502.02013",
    ),
    "entropy_modes": Text(
        "Two kinds of prompts",
        "Do prompt entropies have two modes?",
        "Three tests of the entropies of prompts must agree.",
        "Two stripes of the map are two modes.",
        "The dip test is careful.",
        "Skean et al. 2024, arXiv:2412.09563",
    ),
    "corpus_statistics": Text(
        "What the stream looks like over the corpus",
        "How large are states, and where are the sinks?",
        "Norm quantiles and massive activations.",
        "One layer that writes a sink stands out.",
        "Means over positions hide the sink.",
        "Sun et al. 2024, arXiv:2402.17762",
    ),
}


def measurement(
    name: str,
    axes: Mapping[str, Any],
    value: Any,
    unit: str = "1",
    spread: float = 0.05,
    n: int = DOCUMENTS,
    **more: str,
) -> Measurement:
    """A measurement with an interval of relative half width `spread` and n documents."""
    value = np.asarray(value, dtype=np.float64)
    half = np.abs(value) * spread
    labels = {axis: np.asarray(names) for axis, names in axes.items()}
    counts = {"n": np.full(value.shape, n), "n_items": np.full(value.shape, 85 * n)}
    low, high = np.asarray(value - half), np.asarray(value + half)
    return Measurement(name, labels, value, unit, low, high, **counts, **more)


def result(analysis: str, found: list[Measurement], notes: tuple[str, ...] = (), **examples: Table) -> Result:
    findings = Findings({m.name: m for m in found}, examples, {}, notes)
    provenance = {"positions": 2048, "documents": DOCUMENTS, "lens": "logit"}
    return Result(analysis, {"k": 5}, findings, TEXTS[analysis], provenance)


def strips(tokens: tuple[str, ...] = (*WORDS[:6], *HOSTILE)) -> Table:
    """One strip of tokens; the last three states already hold the final prediction."""
    rows: list[tuple[Any, ...]] = []
    vocabulary = (*WORDS, *HOSTILE)
    for position, token in enumerate(tokens):
        for state in STATES:
            for k in range(1, 6):
                shift = k - 1 + (0 if state >= L - 2 else int(L - state))
                guess = vocabulary[(position + 1 + shift) % len(vocabulary)]
                probability = float(0.02 + 0.9 * DEPTH[state] ** 2) / k**1.5
                target = tokens[(position + 1) % len(tokens)]
                rows.append((0, "prose/sea.txt", position, token, target, int(state), k, guess, probability))
    names = ("strip", "document", "position", "token", "target", "state", "k", "prediction", "probability")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    text = ("document", "token", "target", "prediction")
    return Table(
        {n: np.array(v, dtype=object if n in text else None) for n, v in columns.items()}, "top-5 by state"
    )


def logit_lens() -> Result:
    by = {"state": STATES}
    kl = 11 * (1 - DEPTH) ** 1.6
    found = [
        measurement("kl_to_final", by, kl, "nats"),
        measurement("reverse_kl_to_final", by, 0.8 * kl, "nats"),
        measurement("cross_entropy", by, 3.1 + kl, "nats"),
        measurement("entropy", by, 2.9 + 4 * DEPTH * (1 - DEPTH), "nats"),
        measurement("top1_agreement", by, DEPTH**2.5, "probability"),
        measurement("top5_overlap", by, DEPTH**2.0, "probability"),
        measurement("median_rank", by, np.round(1 + 20_000 * (1 - DEPTH) ** 4)),
    ]
    return result("logit_lens", found, ("2,048 positions chosen by hash.",), strips=strips())


def settle_depth(
    median: tuple[float, float, float] = (9.0, 8.5, 9.5), flips: tuple[float, float] = (0.9, 0.05)
) -> Result:
    share = np.exp(-0.5 * ((STATES - 9) / 2.0) ** 2)
    share /= share.sum()
    middle, low, high = (np.array(v) for v in median)
    found = [
        measurement("first", {}, 7.2),
        measurement("stable", {}, 8.8),
        measurement("persistent", {}, 8.1),
        Measurement("stable_median", {}, middle, "1", low, high, np.array(DOCUMENTS), np.array(2048)),
        measurement("stable_censored", {}, 0.0, "probability"),
        measurement("stable_histogram", {"state": STATES}, share, "probability"),
        measurement("first_histogram", {"state": STATES}, np.roll(share, -2), "probability"),
        measurement("persistent_histogram", {"state": STATES}, np.roll(share, -1), "probability"),
        measurement(
            "flip_rate", {"state": STATES}, flips[0] + (0 - flips[0]) * DEPTH**4, "probability", flips[1]
        ),
    ]
    return result("settle_depth", found)


def frequency_onset() -> Result:
    rest = np.stack([0.1 + 0.2 * DEPTH, 0.05 + 0.1 * DEPTH, 0.05 + 0.2 * DEPTH], -1)
    share = np.concatenate([1 - rest.sum(-1, keepdims=True), rest], -1)
    by = {"state": STATES, "bucket": BUCKETS}
    found = [
        measurement("share", by, share, "probability"),
        measurement("share_above_final", by, share - share[-1]),
        measurement("corpus_share", {"bucket": BUCKETS}, [0.2, 0.25, 0.25, 0.3], "probability"),
    ]
    return result("frequency_onset", found)


def decision_flips() -> Result:
    flips = 0.95 * (1 - DEPTH[:, None] ** 3) * np.array([0.8, 0.6, 0.9, 1.0, 0.8])
    flips[2, 3] = np.nan
    stay = DEPTH[:, None, None] * np.eye(4) + (1 - DEPTH[:, None, None]) / 4
    by = {"state": STATES, "bucket": (*BUCKETS, "all")}
    to = {"state": STATES, "bucket": BUCKETS, "transition": tuple(f"to {name}" for name in BUCKETS)}
    found = [
        measurement("flip_rate", by, flips, "probability", missing="no such guess"),
        measurement("chance_flip_rate", by, np.full(flips.shape, 0.97), "probability"),
        measurement("bucket_transition", to, stay, "probability"),
    ]
    return result("decision_flips", found)


def pos_depth() -> Result:
    names, late = ("DET", "ADP", "PUNCT", "CONTENT", "function", "content", "CONT"), [3, 4, 5, 9, 3.5, 9, 8]
    onset = np.array(late)[:, None, None] + np.array([0, 2, 1])[:, None] - np.array([0, 2, 2.5])
    reached = 1 / (1 + np.exp(np.array(late)[:, None] - STATES))
    reached[3] = np.nan
    by = {"word_class": names, "definition": ("first", "stable", "persistent"), "k": [1, 10, 100]}
    found = [
        measurement("onset", by, onset),
        measurement(
            "reached", {"word_class": names, "state": STATES}, reached, "probability", missing="none"
        ),
        measurement("difference", {"definition": by["definition"], "k": by["k"]}, np.full((3, 3), 5.5)),
    ]
    return result("pos_depth", found, ("Function words come before content words.",))


def fact_depth() -> Result:
    places = np.array([[8.0, np.nan, np.nan], [9, 6, np.nan], [10, 6, 4], [np.nan] * 3])
    by = {"bucket": ("1", "2", "3", "4+"), "token": (1, 2, 3)}
    top = 1 / (1 + np.exp(np.stack([places, places - 3])[..., None] - STATES))
    few = {"missing": "insufficient: 0 to 12 facts where 50 are needed"}
    found = [
        measurement("share_in_top", {"k": (1, 10), **by, "state": STATES}, top, "probability", **few),
        measurement("accuracy", by, np.where(np.isnan(places), np.nan, 0.4), "probability", **few),
    ]
    return result("fact_depth", found)


def option_depth() -> Result:
    by = {"task": ("choice", "sentiment"), "mode": ("few_shot", "unused_letters", "elsewhere")}
    rise = 1 / (1 + np.exp(np.array([5.0, 7.0])[:, None, None] - STATES))
    mass = rise * np.array([0.9, 0.02, 0.01])[:, None]
    mass[1, 1] = np.nan
    choice = 0.25 + 0.7 * DEPTH * np.ones((2, 3, 1))
    by_state = {**by, "state": STATES}
    found = [
        measurement("option_mass", by_state, mass, "probability", missing="none is asked for"),
        measurement("restricted_agreement", by_state, choice, "probability"),
        measurement("restricted_accuracy", by_state, choice - 0.1, "probability"),
        measurement("overtake", by, [[9.0, 8, 8], [7, 8, 8]]),
    ]
    return result("option_depth", found)


def option_patch() -> Result:
    donor = 1 / (1 + np.exp(8.0 - STATES))
    share = np.stack([0.8 * (1 - donor), 0.9 * donor, 0.2 - 0.1 * donor], 1)
    found = [
        measurement(
            "output_share", {"state": STATES, "option": ("target", "donor", "other")}, share, "probability"
        ),
        measurement("transition", {}, 8.0),
        measurement("lens_transition", {}, 9.5),
    ]
    return result("option_patch", found)


def depth_by_difficulty() -> Result:
    cells, levels = {"score": ("future_output", "settle"), "kept": ("all", "answered")}, {"level": [2, 3, 4]}
    share = np.exp(-(((LAYERS[:, None] - 4 - 0.4 * np.arange(3)) / 2) ** 2))
    few = "insufficient: fewer than two levels with 50 problems"
    answered = np.array([[1.0, np.nan], [1.0, np.nan]])
    found = [
        measurement("depth_score", {**cells, **levels}, 4 + 0.4 * np.arange(3) * np.ones((2, 2, 1))),
        measurement("effect_share", {"score": ("future_output",), "layer": LAYERS, **levels}, share[None]),
        measurement("slope", cells, 0.4 * answered, spread=0.2, missing=few),
        measurement("verdict", cells, answered, missing=few),
        measurement("detectable_slope", cells, 0.2 * answered, missing=few),
        measurement("equivalence_p", cells, 0.6 * answered, "probability", missing=few),
    ]
    return result("depth_by_difficulty", found)


def early_exit() -> Result:
    by = {
        "policy": ("prob", "margin", "entropy", "patience", "cosine", "classifier"),
        "every": [1, 4],
        "target": [90, 95, 99],
    }
    gross = (
        np.array([0.3, 0.25, 0.2, 0.1, 0.05, 0.32])[:, None, None]
        * np.array([1, 0.9])[:, None]
        * [1, 0.6, 0.2]
    )
    agreement = np.broadcast_to(np.array([0.91, 0.96, 0.995]), gross.shape)
    oracle = {"policy": ("first_agree", "stable"), "every": [1, 4]}
    found = [
        measurement("agreement", by, agreement, "probability", 0.005),
        measurement("gross_saving", by, gross),
        measurement("net_saving", by, gross - np.array([3, 3, 3, 3, 0.01, 3])[:, None, None]),
        measurement("oracle_gross_saving", oracle, [[0.5, 0.45], [0.3, 0.28]]),
        measurement("check_cost", {}, 8.1),
    ]
    return result("early_exit", found, ("At 95 % agreement: early exits do not pay.",))


def exit_price() -> Result:
    by = {"confidence": (0.5, 0.8, 0.95)}
    found = [
        measurement("net_saving", by, np.array([0.2, 0.05, -0.3])),
        measurement("damage", by, np.array([1.2, 0.3, 0.02]), "nats"),
    ]
    return result("exit_price", found, ("Early exits do not pay.",))


def lens_quality(worst: tuple[float, float] = (-0.5, 0.1)) -> Result:
    by = {"lens": ("logit", "ridge", "tuned"), "state": STATES}
    kl = np.stack([11 * (1 - DEPTH) ** 0.5, 4 * (1 - DEPTH), 3 * (1 - DEPTH)])
    gap = kl - kl[:1]
    gap[2, 7] = worst[0]
    widths = np.full(gap.shape, 0.1)
    widths[2, 7] = worst[1]
    grid = np.stack([0.1 - 0.1 * DEPTH, 0.05 - 0.05 * DEPTH, 0 * DEPTH])[..., None] * np.array(
        [1, 0.5, -0.5, -1]
    )
    judged = gap[1:, :10]
    count = np.full(gap.shape, DOCUMENTS)
    difference = Measurement("kl_difference", {a: np.asarray(v) for a, v in by.items()}, gap, "nats",
                             gap - widths, gap + widths, count, 20 * count)  # fmt: skip
    own = {"missing": "the logit lens is not compared with itself"}
    found = [
        measurement("kl_to_final", by, kl, "nats"),
        measurement("top1_agreement", by, np.stack([DEPTH**3, DEPTH**2, DEPTH]), "probability"),
        difference,
        measurement("marginal_bias", by, kl / 8, "nats"),
        measurement("mass_above_final", {**by, "bucket": BUCKETS}, grid),
        measurement("gate", {"lens": by["lens"]}, [np.nan, *(judged < 0).all(1)], **own),
        measurement(
            "gate_share", {"lens": by["lens"]}, [np.nan, *(judged < 0).mean(1)], "probability", **own
        ),
        measurement(
            "gate_sure_share",
            {"lens": by["lens"]},
            [np.nan, *(judged + 0.1 < 0).mean(1)],
            "probability",
            **own,
        ),
    ]
    return result("lens_quality", found)


def lens_validation() -> Result:
    names = ("logit", "tuned", "reduced")
    by = {"lens": names, "state": STATES}
    share = np.stack([0.3 + 0 * DEPTH, 0.8 - 0.5 * DEPTH, 0.7 - 0.4 * DEPTH])
    buckets = share[..., None] * np.array([1, 0, 0, 0]) + (1 - share[..., None]) / 3 * np.array([0, 1, 1, 1])
    found = [
        measurement("mass", {**by, "bucket": BUCKETS}, buckets, "probability"),
        measurement("mass_above_final", {**by, "bucket": BUCKETS}, buckets - buckets[:, -1:]),
        measurement("token_mass_gap", by, share, "nats"),
        measurement("top1_share", {**by, "bucket": BUCKETS}, buckets, "probability"),
        measurement(
            "set_share", by, share / 3, "probability", note="share of positions whose top-1 is in F = 'the'"
        ),
        measurement("set_share_retained", by, share / share[1:2]),
    ]
    lens, state, place = np.indices((3, L + 1, len(HOSTILE))).reshape(3, -1)
    tokens = {
        "lens": np.array(names)[lens], "state": state, "rank": place + 1, "token": np.array(HOSTILE)[place],
        "mass": 0.01 + 0.01 * lens, "final_mass": 0.02 / (1 + place),
    }  # fmt: skip
    return result("lens_validation", found, tokens=Table(tokens, "mean probabilities"))


def residual_contribution() -> Result:
    falling = 0.15 + 0.9 * np.exp(-LAYERS / 2.5)
    found = [
        measurement(f"{part}_relative_norm", {"layer": LAYERS}, size * falling)
        for part, size in (("attention", 0.6), ("mlp", 0.9), ("block", 1.2))
    ]
    found += [
        measurement(f"{part}_cosine", {"layer": LAYERS}, shift + 0.25 * np.cos(LAYERS / 3))
        for part, shift in (("attention", -0.1), ("mlp", 0.1), ("block", 0.05))
    ]
    parts = ("attention", "mlp", "block")
    by = {"layer": LAYERS, "sublayer": parts, "mode": ("erase", "write", "strengthen")}
    erase = np.repeat((0.5 - 0.4 * LAYERS / L)[:, None], len(parts), 1)
    found.append(measurement("mode_share", by, np.stack([erase, np.full_like(erase, 0.3), 0.7 - erase], -1)))
    found += crossing(7, 6, 8)
    return result("residual_contribution", found)


def residual_width(late: float = 0.2, spread: float = 0.1) -> Result:
    modes = ("k90", "participation_ratio", "intrinsic_dimension", "causal_width")
    share = np.stack([0.3 + 0 * DEPTH, 0.1 + 0 * DEPTH, 0.01 + 0 * DEPTH, 0.4 + late * (DEPTH > 0.6)], -1)
    ends = (np.asarray(late - spread), np.asarray(late + spread))
    return result(
        "residual_width",
        [
            measurement("width_share", {"state": STATES, "mode": modes}, share),
            Measurement(
                "late_minus_middle", {}, np.asarray(late), "1", *ends, np.asarray(8), np.asarray(512)
            ),
        ],
    )


def layer_quality(gains: Mapping[str, tuple[float, float]] | None = None, spread: float = 0.02) -> Result:
    """Two tasks in two modes; a gain for each mode of each task."""
    gains = gains or {"topics": (0.1, 0.08), "alike": (-0.2, -0.1)}
    tasks, scores, modes = tuple(gains), ("few_shot", "spearman"), ("mean", "mean+norm")
    own = [min(t, 1) for t in range(len(tasks))]
    curve = np.full((len(tasks), 2, 2, L + 1), np.nan)
    gain = np.full(curve.shape[:3], np.nan)
    for t, each in enumerate(gains.values()):
        curve[t, own[t]] = 0.5 + 0.3 * np.sin(np.pi * DEPTH)
        gain[t, own[t]] = each
    axes = {"task": np.asarray(tasks), "score": np.asarray(scores), "mode": np.asarray(modes)}
    gone = "another kind of task"
    best = np.where(np.isfinite(gain), L // 2, np.nan)
    return result(
        "layer_quality",
        [
            measurement(
                "main_score",
                {"task": tasks, "mode": modes, "state": STATES},
                np.stack([curve[t, own[t]] for t in range(len(tasks))]),
            ),
            Measurement("score", {**axes, "state": STATES}, curve, "1", missing=gone),
            Measurement("best_share", {**axes, "state": STATES}, curve / 9, "probability", missing=gone),
            Measurement("best_state", axes, best, "1", missing=gone),
            Measurement("gain", axes, gain, "1", gain - spread, gain + spread, np.asarray(200), missing=gone),
        ],
    )


def crossing(layer: float, low: float, high: float, support: float = 1.0) -> list[Measurement]:
    """Where the cosines rise through zero; nowhere for NaN."""
    gone = "" if np.isfinite(layer) else "none found"
    ends = (np.asarray(low), np.asarray(high))
    return [
        Measurement(
            "cosine_crossing", {}, np.asarray(layer), "1", *ends, np.asarray(DOCUMENTS), missing=gone
        ),
        Measurement("cosine_crossing_support", {}, np.asarray(support), "probability"),
    ]


def maps(column: str, depth: str, tokens: tuple[str, ...] = (*WORDS[:3], *HOSTILE), **more: Any) -> Table:
    """Whole maps of two prompts of hostile tokens."""
    labels = STATES if depth == "state" else LAYERS
    rows = [(w, p, token, d) for w in (0, 1) for p, token in enumerate(tokens) for d in labels.tolist()]
    window, position, token, place = zip(*rows, strict=True)
    columns = {
        "window": window, "position": position, "token": token, depth: place, "task": ["a"] * len(rows),
        "asked": [f"prompt {w} {HOSTILE[0]}" for w in window], "part": ["question"] * len(rows),
        column: np.linspace(-0.2, 0.9, len(rows)), **{k: [v] * len(rows) for k, v in more.items()},
    }  # fmt: skip
    return Table({name: np.asarray(values) for name, values in columns.items()})


PARTS = ("question", "last", "answer", "sink")


def residual_erasure(until: float = 9.0, spread: float = 0.1, n: int = DOCUMENTS) -> Result:
    """The question's effect falls with depth, that of its last position rises."""
    falls = np.stack([1 - DEPTH, DEPTH, DEPTH / 2, np.ones(L + 1)], -1)
    found = [
        measurement("effect", {"state": STATES, "bucket": PARTS}, falls, "probability"),
        measurement("point_of_no_return", {"task": ("all",)}, [until], "1", spread, n, missing="none"),
        measurement("accuracy", {"task": ("all",)}, [0.5], "probability"),
    ]
    return result("residual_erasure", found, maps=maps("effect", "state"))


def integrated_gradients() -> Result:
    """Shares of the question fall with depth; there is nothing of the MLPs."""
    falls = np.stack([1 - DEPTH[1:], DEPTH[1:], 0 * DEPTH[1:], 0 * DEPTH[1:]], -1)
    by = {"layer": LAYERS, "sublayer": ("attention", "block", "mlp"), "bucket": PARTS}
    shares = np.stack([falls, falls, np.full(falls.shape, np.nan)], 1)
    found = [
        measurement(name, by, shares, "probability", missing="not asked for")
        for name in ("attribution", "attribution_share")
    ]
    table = maps("attribution", "layer", sublayer="block", incomplete=False)
    return result("integrated_gradients", found, maps=table)


def layer_skip(
    spread: float = 0.05,
    n: int = DOCUMENTS,
    halves: tuple[float, float] = (1.0, 0.3),
    sure: float = 0.1,
) -> Result:
    """`halves`: half ratios of the shift at all and at future tokens, `sure`: their relative half intervals."""
    loss = 0.05 + 0.02 * np.abs(LAYERS - 6.0)
    loss[[0, 1, L - 1]] = (6.5, 0.0, 2.2)
    parts, size = ("attention", "block", "mlp"), np.array([0.4, 1.0, 0.7])
    by = {"layer": LAYERS, "sublayer": parts}
    apart = LAYERS[None] - LAYERS[:, None]
    later = np.where(apart > 0, loss[:, None] / np.maximum(apart, 1), np.nan)
    found = [
        measurement("output_kl", by, 0.8 * loss[:, None] * size, "nats", spread, n),
        measurement("loss_increase", by, loss[:, None] * size, "nats", spread, n),
        measurement(
            "effect_on_later",
            {"layer": LAYERS, "later_layer": LAYERS},
            later,
            missing="only later layers can change",
        ),
        measurement("noise_floor", {}, 0.0004, "nats"),
    ]
    pair = {"layer": LAYERS, "later_layer": LAYERS}
    found.append(measurement("local_effect", pair, 0.6 * later, missing="only later layers can change"))
    gap = {"missing": "no future token"} if np.isnan(halves).any() else {}
    late = np.clip(1 - LAYERS / (L - 1), 0, 1)
    profiles = ("shift", "future_shift", "effect_on_later", "future_effect_on_later")
    found += [
        measurement("shift", by, 0.2 * size + 0 * LAYERS[:, None], "1", spread, n),
        measurement("future_shift", by, 0.1 * late[:, None] * size, "1", spread, n),
        measurement(
            "future_effect_on_later",
            {"layer": LAYERS, "later_layer": LAYERS},
            later * late[:, None],
            "1",
            spread,
            n,
            missing="earlier layers cannot be affected",
        ),
        measurement("half_ratio", {"variant": profiles}, np.array([*halves, *halves]), "1", sure, n, **gap),
    ]
    return result("layer_skip", found)


def linear_maps(difference: tuple[float, float, float] = (0.2, 0.15, 0.25), sharp: float = 0.1) -> Result:
    """Twelve layers onto 24: the error grows with the distance of relative depths, from 0.2 on the diagonal."""
    targets = np.arange(2 * L + 1)
    by, inner = {"source": STATES, "state": targets}, {"state": targets[1:]}
    best, (value, low, high) = np.ceil(targets[1:] / 2), (np.array(v) for v in difference)
    expected = np.stack([targets[1:] / 2, np.minimum(targets[1:], L)])
    found = [
        measurement("relative_error", by, 0.2 + np.abs(STATES[:, None] / L - targets / (2 * L))),
        measurement("mean_error", {"state": targets}, 0.6 + 0.1 * targets / (2 * L)),
        measurement("embedding_error", {"state": targets}, 0.2 + 0.4 * targets / (2 * L)),
        measurement("shuffled_error", {"state": targets}, 0.61 + 0.1 * targets / (2 * L)),
        measurement("best_source", inner, best),
        measurement("expected_source", {"definition": ("relative", "absolute"), **inner}, expected),
        Measurement("hypothesis_difference", {}, value, "1", low, high, np.array(DOCUMENTS), np.array(2048)),
        measurement("relative_distance", {}, 0.02),
        measurement("absolute_distance", {}, 0.22),
        measurement("sharpness", {}, sharp),
    ]
    return result("linear_maps", found)


def representation_profile(spread: float = 0.01, peak: float = 4.0) -> Result:
    hill = 0.55 + 0.3 * np.exp(-0.5 * ((STATES - peak) / 2.5) ** 2)
    grid = hill[:, None] - np.array([0.12, 0.05, 0.0, 0.2])
    by = {"state": STATES, "mode": MODES}
    found = [
        measurement("prompt_entropy", by, grid, "1", spread),
        measurement("effective_rank", by, 90 * grid**2, "1", spread),
        measurement("curvature", by, 2.2 - 0.6 * grid, "radians", spread),
        measurement("anisotropy", by, 1 - grid, "1", spread),
        measurement(
            "sublayer_effective_rank",
            {"layer": np.arange(L), "sublayer": ("attn_in", "attn_out", "resid_mid"), "mode": ("wei",)},
            np.broadcast_to(40 + np.arange(L)[:, None, None], (L, 3, 1)),
        ),
    ]
    return result("representation_profile", found)


def dataset_geometry() -> Result:
    hill = 0.4 + 0.3 * np.exp(-0.5 * ((STATES - 4) / 2.5) ** 2)
    alone = ("cosine_anisotropy", "spectral_anisotropy", "self_cluster", "outlier_share")
    counts = {"state": STATES, "kept": (16, 32, 50)}
    both = {"state": STATES, "definition": ("fit", "ml")}
    return result(
        "dataset_geometry",
        [
            measurement(
                "dataset_entropy", {"state": STATES, "mode": MODES}, np.stack([hill] * len(MODES), -1)
            ),
            *(measurement(name, {"state": STATES}, 1 - hill) for name in alone),
            measurement("intrinsic_dimension", both, np.stack([20 * hill, 21 * hill], -1)),
            measurement("entropy_by_count", counts, np.stack([hill, hill - 0.05, hill - 0.1], -1)),
        ],
    )


def augmentation_invariance(best: int = 8, gain: float = 0.3, spread: float = 0.1) -> Result:
    """A loss with its smallest value at one state, `gain` nats below the last; twice the chance where shuffled."""
    valley = 1.0 + 0.02 * np.abs(STATES - best)
    valley[best], valley[-1] = 1.0, 1.0 + gain
    both = {"state": STATES, "variant": ("views", "shuffled")}
    losses = {**both, "mode": ("symmetric", "one_way", "nt_xent")}
    shuffled = np.stack([valley, 0 * valley + 5], -1)
    above, ends = valley - valley[-1], (valley - valley[-1] - spread, valley - valley[-1] + spread)
    n = np.full(len(STATES), DOCUMENTS)
    return result(
        "augmentation_invariance",
        [
            measurement("infonce_loss", losses, np.stack([shuffled] * 3, -1), "nats"),
            measurement("infonce_normalised", losses, 1 - np.stack([shuffled] * 3, -1) / 4),
            measurement("partner_top1", both, 1 / (1 + shuffled), "probability"),
            measurement("lidar", both, 30 - shuffled),
            measurement("lidar_corrected", both, 6 - shuffled),
            measurement("dime", both, 1 / shuffled, "nats"),
            Measurement("loss_above_last", {"state": STATES}, above, "nats", *ends, n, n),
        ],
    )


def layer_similarity(largest: int = 5, change: float = 0.4, spread: float = 0.05) -> Result:
    """States that are alike up to one layer and from it on."""
    side = largest < STATES
    alike = np.where(side[:, None] == side, 0.9, 0.5)
    np.fill_diagonal(alike, 1.0)
    changes = np.full(L, 0.1)
    changes[largest] = change
    modes = ("mean", "mean_no_massive")
    by = {"state": STATES, "other_state": STATES, "mode": modes}
    return result(
        "layer_similarity",
        [
            measurement("debiased_cka", by, np.stack([alike] * 2, -1)),
            measurement("change", {"layer": LAYERS, "mode": modes}, np.stack([changes] * 2, -1), "1", spread),
        ],
    )


def model_similarity() -> Result:
    """Two models that part with depth."""
    by = {"state": STATES, "other_state": STATES, "mode": ("mean",)}
    alike = 1 - 0.5 * np.maximum(DEPTH[:, None], DEPTH)
    same = measurement("same_depth", {"state": STATES, "mode": ("mean",)}, 1 - 0.5 * DEPTH[:, None])
    late = measurement("late_minus_early", {"mode": ("mean",)}, np.array([-0.3]), "1", 0.1)
    return result("model_similarity", [measurement("debiased_cka", by, alike[..., None]), same, late])


def head_patterns(layers: int = L, heads: int = H) -> Result:
    chance = np.random.default_rng(0)
    by = {"layer": np.arange(layers), "head": np.arange(heads)}
    found: list[Measurement] = []
    for name in ("entropy", "entropy_norm", "distance", "previous", "first", "self", "local_8", "local_32"):
        value = chance.beta(1.2, 4, (layers, heads)) * (40 if name == "distance" else 1)
        value[3] = np.nan
        unit = {"entropy": "nats", "distance": "tokens", "entropy_norm": "1"}.get(name, "probability")
        found.append(measurement(name, by, value, unit, missing="layer 3 has no attention heads"))
    return result("head_patterns", found, ("Layer 3 is a state-space layer.",))


def corpus_statistics(writer: int | None = 1) -> Result:
    norm = 50 + 100 * DEPTH
    sink = np.array([float(layer == writer) for layer in LAYERS])
    found = [
        measurement("norm_median", {"state": STATES}, norm),
        measurement("norm_max", {"state": STATES}, norm * np.where(STATES > 1, 160, 2)),
        measurement("sink_writer", {"layer": LAYERS}, sink),
    ]
    return result("corpus_statistics", found)


def adaptive_compute(early: float = 0.3, deep: float = 0.2, spread: float = 0.1) -> Result:
    shares = np.stack([np.exp(-((STATES - centre) ** 2) / 8) for centre in (7.0, 6.0)])
    cosines = np.where(np.triu(np.ones((L, L)), 1) > 0, 0.4 - np.abs(LAYERS[:, None] - LAYERS) / L, np.nan)
    both = {"definition": ("bits", "nats")}
    found = [
        measurement("early_share", both, np.array([1.0, 1.2]) * early, "probability", spread),
        measurement("deep_share", both, np.array([1.0, 0.8]) * deep, "probability", spread),
        measurement("settled", both, [7.2, 6.1]),
        measurement(
            "settled_histogram",
            {**both, "state": STATES},
            shares / shares.sum(1, keepdims=True),
            "probability",
        ),
        measurement("jsd", {"state": STATES}, 0.6 * (1 - DEPTH), "nats"),
        measurement(
            "write_cosine", {"layer": LAYERS, "later_layer": LAYERS}, cosines, missing="with later ones only"
        ),
    ]
    return result("adaptive_compute", found)


def prune(facts: tuple[float, float] = (-0.02, 0.02), sums: tuple[float, float] = (-0.5, -0.3)) -> Result:
    """A removal of two layers whose tasks have these intervals; the margin is 5 points of 100."""
    candidates = {"variant": np.asarray(["2 influence", "2 greedy+loss"])}
    tasks = {"task": np.asarray(["facts by generation", "sums by generation"])}
    low, high = (np.array([facts[end], sums[end]]) for end in (0, 1))
    counts = np.array([40, 40])
    found = [
        measurement("loss_increase", candidates, [0.3, 0.2], "nats"),
        Measurement("layers_removed", candidates, np.array([2.0, 2.0]), "1"),
        Measurement("chosen", candidates, np.array([0.0, 1.0]), "1"),
        Measurement("difference", tasks, (low + high) / 2, "probability", low, high, counts, counts),
        Measurement("margin", tasks, np.array([0.05, 0.05]), "probability"),
    ]
    return result("prune", found)


def surgery() -> Result:
    cost = np.outer([1.0, 2.5, 4.0], [0.7, 0.7, 0.6, 5.0, 0.2, 0.3, 0.5, 0.6])
    plans = (
        "skip",
        "reverse",
        "shuffle",
        "repeat_centre",
        "loop",
        "loop_parallel",
        "parallel_mean",
        "parallel_sum",
    )
    single = np.repeat((0.9 - 0.8 * (LAYERS == 0))[:, None], 4, 1)
    axes = {"kept": (9, 7, 5), "variant": plans}
    by = {"layer": LAYERS, "variant": ("drop", "swap", "attention", "mlp")}
    return result(
        "surgery",
        [
            measurement("loss_increase", axes, cost, "nats"),
            measurement("single_agreement", by, single, "probability", 0.02),
        ],
    )


def surgery_options() -> Result:
    axes = {"kept": (9, 7), "variant": ("skip", "reverse", "loop"), "task": ("sentiment", "sums")}
    left = np.array([[[0.6, 0.1], [0.5, 0.0], [0.9, 0.3]], [[0.2, 0.0], [0.1, -0.1], [0.7, 0.2]]])
    return result("surgery_options", [measurement("normalised", axes, left, "1", 0.1)])


def extreme_inputs() -> Result:
    """Repetition compresses the middle, randomness spreads early states, length adds less than its logarithm."""
    modes, levels = ("exact", "first_kept"), np.arange(9) * 0.1125
    falls = 0.9 - 0.4 * np.outer(np.sin(np.pi * DEPTH), levels)
    rises = 0.8 + 0.1 * np.outer(1 - DEPTH, levels)
    grows = np.stack([0.8 - 0.05 * k * DEPTH for k in range(4)], 1)
    slope = np.stack([-0.4 * np.sin(np.pi * DEPTH), 0.1 * (1 - DEPTH), -0.05 * DEPTH])
    kinds, depths = ("repetition", "randomness", "length"), ("early", "middle", "late", "all")
    thirds = np.array([[-0.3, -0.4, -0.3, -0.33], [0.1, 0.05, 0.02, 0.06], [-0.02, -0.03, -0.04, -0.03]])
    curves = {
        "repetition": (falls, levels),
        "randomness": (rises, levels),
        "length": (grows, [64, 128, 256, 512]),
    }
    found = [
        measurement(
            f"{kind}_entropy", {"state": STATES, "level": by, "mode": modes}, np.stack([value] * 2, -1)
        )
        for kind, (value, by) in curves.items()
    ]
    both = {"variant": kinds, "state": STATES, "mode": modes}
    by_depth = {"variant": kinds, "depth": depths, "mode": modes}
    found.append(measurement("slope", both, np.stack([slope] * 2, -1)))
    found.append(measurement("slope_by_depth", by_depth, np.stack([thirds] * 2, -1)))
    found.append(measurement("raw_slope_by_depth", by_depth, np.full((3, 4, 2), 0.7), "nats"))
    found.append(measurement("early_minus_late", {"variant": kinds, "mode": modes}, np.full((3, 2), 0.08)))
    return result("extreme_inputs", found)


def entropy_modes(at: tuple[int, ...] = (4, 5, 6)) -> Result:
    """Two modes at some states, one of them gone where massive tokens are left out."""
    cells = {"state": STATES, "mode": MODES[:3], "variant": ("plain", "length_removed")}
    judged = np.zeros((L + 1, 3, 2))
    judged[list(at), :2] = 1
    none = {"missing": "the entropies of this state are not called bimodal"}
    bins = np.arange(10) / 10
    share = np.stack([np.exp(-(((bins - 0.3 - 0.05 * k) / 0.2) ** 2)) for k in STATES])
    flips = np.full((L + 1, 3, 2), np.nan)
    flips[list(at)] = [[0.1, 0.9], [0.8, 0.1], [0.2, 0.3]]
    by = {"state": STATES, "variant": ("newline", "drop_first", "equal_length"), "bucket": ("low", "high")}
    spread = {"state": STATES, "mode": MODES[:3], "bucket": bins}
    shares = np.stack([share / share.sum(1, keepdims=True)] * 3, 1)
    return result(
        "entropy_modes",
        [
            measurement("histogram", spread, shares, "probability"),
            measurement("dip_p", cells, 0.5 - 0.495 * judged, "probability"),
            measurement("bic_gain", cells, 100 * judged),
            measurement("ashman_d", cells, 4 * judged),
            measurement("minor_weight", cells, 0.3 * judged, "probability"),
            measurement("bimodal", cells, judged),
            measurement("flip_share", by, flips, "probability", **none),
            measurement(
                "high_share", {"state": STATES}, np.where(judged[:, 0, 0], 0.6, np.nan), "probability", **none
            ),
        ],
    )


def pruning_criteria() -> Result:
    names = ("influence", "loss", "future", "taylor", "deepest", "attention", "mlp")
    rank = np.stack([np.roll(LAYERS, k) + 1.0 for k in range(len(names))])
    return result(
        "pruning_criteria",
        [
            Measurement("rank", {"criterion": np.array(names), "layer": LAYERS}, rank, "1"),
            Measurement("protected", {"layer": LAYERS}, (LAYERS % (L - 1) == 0).astype(float), "1"),
        ],
    )


def pruning_damage(deepest: float = 4.0, influence: float = 0.2, spread: float = 0.05) -> Result:
    slopes = {"influence": influence, "angular": 0.3, "loss": 0.15, "deepest": deepest, "random": 1.0}
    removed = np.array([1, 2, 3])
    cost = np.stack([np.outer([1.5, 1.0], removed) * slope for slope in slopes.values()], 1)
    axes = {"mode": ("ranked", "protected"), "criterion": tuple(slopes), "kept": L - removed}
    return result("pruning_damage", [measurement("loss_increase", axes, cost, "nats", spread)])


def checkpoints(steps: tuple[int, ...] = (0, 1, 8, 64)) -> Result:
    """A valley that deepens with training."""
    valley = np.sin(np.pi * DEPTH)[:, None] * np.array([1.0, 0.5, 0.2, 0.9])
    entropy = np.stack([0.9 - 0.7 * k / (len(steps) - 1) * valley for k in range(len(steps))])
    total = np.abs(np.diff(entropy, axis=0)).sum(0)
    axes = {"step": steps, "state": STATES, "mode": MODES}
    kl = np.outer(np.arange(1, len(steps) + 1), 1 - DEPTH)
    return result("checkpoints", [
        measurement("prompt_entropy", axes, entropy),
        measurement("kl_to_final", {"step": steps, "state": STATES}, kl, "nats"),
        measurement("prompt_entropy_total_change", {"state": STATES, "mode": MODES}, total),
    ])  # fmt: skip


def results() -> dict[str, Result]:
    import synthetic_heads as heads

    made = (
        logit_lens,
        settle_depth,
        frequency_onset,
        decision_flips,
        pos_depth,
        fact_depth,
        option_depth,
        option_patch,
        residual_erasure,
        integrated_gradients,
        depth_by_difficulty,
        early_exit,
        exit_price,
        lens_quality,
        lens_validation,
        residual_contribution,
        residual_width,
        layer_skip,
        linear_maps,
        checkpoints,
        surgery,
        surgery_options,
        pruning_criteria,
        pruning_damage,
        adaptive_compute,
        prune,
        representation_profile,
        dataset_geometry,
        augmentation_invariance,
        layer_similarity,
        model_similarity,
        layer_quality,
        extreme_inputs,
        entropy_modes,
        head_patterns,
        corpus_statistics,
        heads.induction_heads,
        heads.induction_ablation,
        heads.head_composition,
        heads.retrieval_heads,
        heads.retrieval_ablation,
    )
    import component_results
    import function_results
    import grammar_results
    import predictor_results
    import sink_results

    found = {one.analysis: one for one in (make() for make in made)}
    import fact_memory_results
    import steering_results
    import trained_results

    found |= component_results.results() | sink_results.results() | trained_results.results()
    found["fact_memory"] = fact_memory_results.fact_memory()
    found |= {"predictor": predictor_results.predictor()}
    return found | grammar_results.results() | function_results.results() | steering_results.results()


def manifest() -> dict[str, Any]:
    return {
        "schema": 1,
        "depthscope": "0.1.0",
        "model": {
            "name": "synthetic-12x8",
            "revision": "1f3c2d9",
            "weights_hash": "b3c5a8f04d1e92775566aabbccddeeff",
            "family": "llama",
            "dtype": "float32",
            "device": "cpu",
            "attention": "sdpa",
            "n_layers": L,
            "n_heads": H,
            "n_kv_heads": 4,
            "d_model": 512,
            "d_vocab": 32_000,
            "parameters": 85_123_456,
        },
        "verification": [
            {
                "law": "writes add up to the stream",
                "status": "holds",
                "worst": 3.1e-6,
                "tolerance": 5e-5,
                "reason": "",
            },
            {
                "law": "the head gives the model's own logits",
                "status": "holds",
                "worst": 0.0,
                "tolerance": 5e-5,
                "reason": "",
            },
            {
                "law": "left padding changes nothing",
                "status": "refused",
                "worst": None,
                "tolerance": None,
                "reason": "the family does not declare left padding",
            },
            {
                "law": "heads add up to the write",
                "status": "not applicable",
                "worst": None,
                "tolerance": None,
                "reason": "layer 3 has no heads",
            },
        ],
        "analyses": {name: {"k": 5} for name in TEXTS if name != "corpus_statistics"},
        "command": "depthscope run synthetic-12x8 --dtype float32 --seed 0 --out runs/demo",
        "seed": 0,
        "data": {
            "source": "packaged sample",
            "hash": "5a5a5a5a5a5a5a5a",
            "documents": DOCUMENTS,
            "windows": 64,
            "tokens": 8_192,
            "bos": "auto: none added",
            "sample": {
                "lens_positions": 2048,
                "skip_tokens": 1024,
                "skip_documents": 8,
                "sublayer_tokens": 256,
            },
        },
        "versions": {"torch": "2.13.0", "transformers": "5.23.0", "numpy": "2.4.6"},
        "threads": 2,
        "kernel": "cpu",
        "timings": {"load": 3.2, "capture": 61.0, "sweep": 140.5},
        "non_finite": {"count": 0},
        "complete": True,
    }


def first() -> dict[str, Result]:
    """The results of the first analyses: a short page."""
    return {name: one for name, one in results().items() if name in FIRST}


def write_run(path: Path, found: Mapping[str, Result] | None = None, **changed: Any) -> Run:
    """Write the run at `path` and open it; `changed` replaces keys of the manifest."""
    with RunFolder.create(path, manifest() | changed) as folder:
        for one in (results() if found is None else found).values():
            folder.write_result(one)
        folder.write_inputs("text", [0, 1], ["prose/sea.txt", "code/a.py"], [[1, 2, 3], [4, 5]])
    return open_run(path)
