"""Component steering: planted predictors whose parts are known, the arithmetic of every effect, resuming, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from depthscope.engine.journal import Journal
from depthscope.engine.study import Work
from depthscope.errors import BadInput
from depthscope.fits import steering_bench
from depthscope.fits.component_steering import ComponentSteering, LabelledReading
from depthscope.fits.steering_bench import paired
from depthscope.fits.steering_judge import Judge, distinct, shared
from depthscope.fits.steering_reference import references, telling_tokens
from depthscope.materials.token_classes import token_classes
from depthscope.materials.window import Window
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings
from depthscope.runtime.model import Model
from depthscope.runtime.predictor import Design, Predictor, Predictors, load_predictors, save_predictors
from depthscope.runtime.tiny import tiny

WORDS = {"sea": "wave ship salt gull ", "law": "party shall deed 1984 ", "code": "def (x): return x+1 "}
WINDOW = 40
SMALL: dict[str, Any] = {
    "window": WINDOW, "prompt": 20, "new": 16, "pairs": 1, "levels": (-1.0, 0.5), "strengths": (0.2,), "telling": 5,
    "first": 2, "reserve": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eight documents of each of three domains."""
    path = tmp_path_factory.mktemp("texts") / "domains.jsonl"
    rows = [
        {"id": f"{label}-{k}", "domain": label, "text": f"{k} {words[k % 5 :]}" * 6}
        for label, words in WORDS.items()
        for k in range(8)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def llama() -> Model:
    return tiny("llama", torch.float32)


def folder(path: Path, model: Model, kind: str) -> str:
    """Predictors of states 1 and L: "mean" expects the mean of everything (0), "copy" the state before, or random."""
    design = Design(norm="none", residual="gain") if kind == "copy" else Design(norm="none", residual="none")
    made = {}
    for state in (1, model.anatomy.n_layers):
        predictor = Predictor(design, model.anatomy.d_model)
        if kind == "copy":
            assert predictor.gain is not None
            predictor.gain.data.fill_(1.0)
        if kind == "random":
            torch.manual_seed(state)
            for each in predictor.parameters():
                each.data.normal_(0, 0.1)
        made[state] = predictor.eval()
    return str(save_predictors(path / kind, Predictors(made)))


def ran(study: ComponentSteering, model: Model, path: Path) -> tuple[Findings, Work]:
    windows = LabelledReading(study.material).windows(model)
    kind, units = windows.units()
    work = Work(model, windows, units, kind, Journal(path / "journal", model.name, windows.hash), path)
    return study.run(work), work


def value(found: Measurement, **labels: Any) -> float:
    return found.select(**labels).scalar()


@pytest.fixture(scope="module")
def planted(
    source: str, llama: Model, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ComponentSteering, Path]:
    """A study whose predictors expect the state before, and where its steps are kept."""
    path = tmp_path_factory.mktemp("copied")
    return ComponentSteering(folder(path, llama, "copy"), source, **SMALL), path


@pytest.fixture(scope="module")
def copied(
    planted: tuple[ComponentSteering, Path], llama: Model, signatures_unchecked: Any
) -> tuple[Findings, Work]:
    with signatures_unchecked():
        return ran(planted[0], llama, planted[1])


def test_predictors_that_know_nothing_leave_everything_in_the_novel_part(
    source: str, llama: Model, tmp_path: Path
) -> None:
    last = llama.anatomy.n_layers - 1
    study = ComponentSteering(folder(tmp_path, llama, "mean"), source, layers=(last,), **{**SMALL, "new": 0})
    found = ran(study, llama, tmp_path)[0].measurements
    at = {"layer": last}
    assert value(found["swap_kl"], variant="predictable", **at) < 1e-6
    assert value(found["swap_same_own"], variant="predictable", **at) == 1
    assert value(found["swap_same_other"], variant="novel", **at) == 1
    assert value(found["scale_kl"], variant="predictable", level=0.5, **at) < 1e-6
    raw, novel = (value(found["scale_kl"], variant=v, level=0.5, **at) for v in ("raw", "novel"))
    assert raw == novel
    assert value(found["ablate_kl"], variant="novel", **at) > 0
    assert value(found["swap_same_own_over"], variant="novel", **at) > 0
    assert not any(name.startswith("written") for name in found)


def last_stream(model: Model, window: Window) -> torch.Tensor:
    """What the last layer puts out, [token d_model], by transformers and one hook."""
    held: list[torch.Tensor] = []
    hook = model.net.model.layers[-1].register_forward_hook(lambda *call: held.append(call[-1]))
    with torch.no_grad():
        model.net(torch.tensor([window.ids]))
    hook.remove()
    return (held[0][0] if isinstance(held[0], tuple) else held[0]).reshape(len(window.ids), -1)


@torch.no_grad()
def test_the_swap_is_the_other_texts_expectation_under_the_own_novelty(
    copied: tuple[Findings, Work], llama: Model
) -> None:
    found, work = copied
    net, last, first = llama.net, llama.anatomy.n_layers, SMALL["first"]
    ((one, two),) = paired([w for w in work.windows.items if w.about["split"] == "test"], 1)
    kls, changes, kept = [], [], []
    for own, other in ((one, two), (two, one)):
        h_b, h_a = last_stream(llama, own), last_stream(llama, other)
        steered = h_b.clone()
        steered[first:] = h_a[first - 1 : -1] + h_b[first:] - h_b[first - 1 : -1]
        clean, new = (net.lm_head(net.model.norm(h))[first:-1].log_softmax(-1) for h in (h_b, steered))
        gold = torch.tensor(own.ids)[first + 1 :, None]
        kls.append((clean.exp() * (clean - new)).sum(-1))
        changes.append(clean.gather(1, gold) - new.gather(1, gold))
        kept.append((clean.argmax(-1) == new.argmax(-1)).float())
    for name, wanted in (("kl", kls), ("loss", changes), ("same_own", kept)):
        got = value(found.measurements[f"swap_{name}"], layer=last - 1, variant="predictable")
        np.testing.assert_allclose(got, float(torch.cat(wanted).mean()), rtol=1e-3, atol=1e-5)


def test_vectors_are_means_of_a_part_by_domain_and_by_class_of_token(
    copied: tuple[Findings, Work], planted: tuple[ComponentSteering, Path], llama: Model
) -> None:
    windows = [w for w in copied[1].windows.items if w.about["split"] == "train"][::5]
    labels = tuple(sorted({str(w.about["label"]) for w in windows}))
    classes, first, last = token_classes(llama.tokenizer), 2, llama.anatomy.n_layers
    predictors = load_predictors(planted[0].predictor, llama)
    found = references(llama, predictors, (last,), windows, labels, classes, first, 0)[last]
    streams = [last_stream(llama, w).numpy() for w in windows]
    parts = {"raw": [h[first:] for h in streams], "predictable": [h[first - 1 : -1] for h in streams]}
    parts["novel"] = [a - b for a, b in zip(parts["raw"], parts["predictable"], strict=True)]
    kinds = np.concatenate([np.asarray(classes.of(w.ids))[first:] for w in windows])
    for name, each in parts.items():
        of = [
            np.concatenate([h for h, w in zip(each, windows, strict=True) if w.about["label"] == x]).mean(0)
            for x in labels
        ]
        np.testing.assert_allclose(found.domains[name], np.stack(of) - np.mean(of, 0), atol=1e-5)
        together = np.concatenate(each)
        kind = int(kinds[0])
        wanted = together[kinds == kind].mean(0) - together.mean(0)
        np.testing.assert_allclose(found.types[name][kind], wanted, atol=1e-5)
    np.testing.assert_allclose(found.novel, np.concatenate(parts["novel"]).mean(0), atol=1e-5)
    np.testing.assert_allclose(
        found.length, np.linalg.norm(np.concatenate(parts["raw"]), axis=1).mean(), rtol=1e-5
    )


def test_a_change_of_nothing_is_no_change_bit_for_bit(copied: tuple[Findings, Work]) -> None:
    found = copied[0].measurements
    np.testing.assert_array_equal(found["unchanged"].value, 0.0)
    assert found["written_exactly"].scalar() == 1.0
    np.testing.assert_allclose(found["floor"].value, 0.0, atol=1e-5)


def test_texts_are_written_in_every_way_and_stand_beside_their_scores(copied: tuple[Findings, Work]) -> None:
    table = copied[0].examples["written"].columns
    variants = [str(v) for v in table["variant"]]
    assert len(set(variants)) == len(variants) == 12
    assert {"plain", "other", "swap_predictable", "swap_random", "vector_novel"} <= set(variants)
    rows = dict(zip(variants, table["text"].tolist(), strict=False))
    assert rows["nothing"] == rows["plain"] != rows["swap_predictable"]
    assert set(table["own"].tolist()) | set(table["other"].tolist()) <= set(WORDS)
    for name in ("other_domain", "own_domain", "shared_own", "distinct_2"):
        values = table[name][np.isfinite(table[name])]
        assert ((values >= 0) & (values <= 1)).all()
    gains = copied[0].measurements["written_towards_other_gain"]
    assert value(gains, variant="nothing") == 0


def test_random_controls_are_no_copy_of_what_they_control(copied: tuple[Findings, Work]) -> None:
    kl = copied[0].measurements["scale_kl"]
    for part in ("predictable", "novel"):
        one, two = (value(kl, layer=0, variant=v, level=0.5) for v in (part, f"random_{part}"))
        assert one != two
        assert min(one, two) > 0


def test_a_finished_step_is_not_made_again(
    copied: tuple[Findings, Work],
    planted: tuple[ComponentSteering, Path],
    llama: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError

    for name in ("effects", "written", "references"):
        monkeypatch.setattr(steering_bench, name, never)
    first, (again, work) = copied[0], ran(planted[0], llama, planted[1])
    for name, m in first.measurements.items():
        np.testing.assert_array_equal(again.measurements[name].value, m.value)
    assert len(work.journal.finished()) == 3  # two states, one pair's texts
    with pytest.raises(AssertionError):
        ran(replace(planted[0], telling=4), llama, planted[1])


def test_what_cannot_be_steered_is_refused(source: str, llama: Model, tmp_path: Path) -> None:
    predictors = folder(tmp_path, llama, "mean")
    with pytest.raises(BadInput, match="depthscope fit predictor"):
        ComponentSteering("", source).depends()
    with pytest.raises(BadInput, match="no predictor of layer 1"):
        ran(ComponentSteering(predictors, source, layers=(1,), **SMALL), llama, tmp_path)
    with pytest.raises(BadInput, match="trained on another model"):
        ran(
            ComponentSteering(predictors, source, **SMALL),
            tiny("llama", torch.float32, hidden_size=64),
            tmp_path,
        )
    for wrong in ({"new": 30}, {"new": 4}, {"levels": ()}, {"strengths": (0.0,)}, {"pairs": 0}, {"first": 0}):
        with pytest.raises(BadInput):
            ComponentSteering(predictors, source, **{**SMALL, **wrong})
    alone = [Window(k, str(k), (1, 2, 3), (), {"label": "sea", "split": "test"}) for k in range(3)]
    with pytest.raises(BadInput, match="two domains"):
        paired(alone, 2)


def test_pairs_are_of_two_domains_and_use_no_text_twice() -> None:
    windows = [Window(k, f"d{k}", (1,), (), {"label": "abcab"[k % 5], "split": "test"}) for k in range(11)]
    found = paired(windows, 9)
    assert len(found) >= 4
    assert all(a.about["label"] != b.about["label"] for a, b in found)
    assert len({w.index for pair in found for w in pair}) == 2 * len(found)
    assert paired(windows[::-1], 2) == found[:2]


def test_telling_tokens_are_those_of_one_domain() -> None:
    windows = [
        Window(k, str(k), tuple([7] * 5 + [9 if k % 2 else 8] * 5), (), {"label": "odd" if k % 2 else "even"})
        for k in range(6)
    ]
    assert telling_tokens(windows, ("even", "odd"), 16, 3) == {"even": (8,), "odd": (9,)}


def test_the_judge_tells_domains_by_their_tokens() -> None:
    rng = np.random.default_rng(0)
    windows = [
        Window(
            k, str(k), tuple(map(int, rng.integers(0, 20, 40) + 100 * (k % 2))), (), {"label": "ab"[k % 2]}
        )
        for k in range(12)
    ]
    judge = Judge.of(windows[:8], windows[8:], 20, 0)
    assert judge.accuracy == 1.0
    assert judge.pieces == 8
    p = judge.probabilities([[105, 101, 117, 103], [1, 2, 3, 4]])
    assert p[0, 1] > 0.6
    assert p[1, 0] > 0.6


def test_distinct_and_shared_by_hand() -> None:
    assert distinct([1, 2, 1, 2], 1) == 0.5
    assert distinct([1, 2, 1, 2], 2) == 2 / 3
    assert np.isnan(distinct([1], 2))
    assert shared([1, 2, 3, 3], [3, 5], frozenset({1})) == 0.5
    assert np.isnan(shared([1], [1], frozenset({1})))
