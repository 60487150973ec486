"""Choosing a layer: a planted truth is found, the rules of the choice hold one by one, and wrong inputs are refused."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from letters import lettered
from planted_order import order_model, order_task

from depthscope.advise import layer_choice, layer_task
from depthscope.advise.layer import NAME, ChooseLayer
from depthscope.advise.layer_choice import pick, word_vectors
from depthscope.advise.layer_cost import layer_costs, parameters_of
from depthscope.advise.layer_encoder import export_choice
from depthscope.advise.layer_findings import Report
from depthscope.advise.layer_noise import Noise
from depthscope.advise.layer_sanity import sanity
from depthscope.advise.layer_search import Found, Seen
from depthscope.advise.layer_task import Bank, parts
from depthscope.engine.study import conduct
from depthscope.errors import BadInput, NonFinite, Refused, UnknownName
from depthscope.materials.labelled import labelled
from depthscope.report.layer_page import Story, write_layer_page
from depthscope.report.words import phrases
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny
from depthscope.store.run import Run, open_run

FAST = {"repeats": 1, "rows": 2, "first": 24}


@pytest.fixture(scope="module")
def model() -> Model:
    return order_model()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> ChooseLayer:
    return ChooseLayer(str(order_task(tmp_path_factory.mktemp("task"))), **FAST)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def run(model: Model, study: ChooseLayer, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("choice") / "run"
    return conduct(NAME, study, model, study.reading(), folder, force=True)


def test_the_earliest_state_that_knows_the_order_is_taken(run: Run):
    about = run[NAME].findings.artefacts["choice"]
    assert about["state"] == about["picked"] == 2
    score = run[NAME]["score"]
    assert score.at(state=0) < 0.7 < 0.95 < score.at(state=2)
    assert run[NAME]["looked_share"].scalar() <= 0.6
    assert 0 < run[NAME]["block_share"].scalar() <= 1


def test_the_verdict_is_on_items_that_nothing_was_chosen_by(run: Run, study: ChooseLayer):
    both = parts(study.loaded())
    choosing, reporting = ({p.texts[i.texts[0]] for i in p.items} for p in (both.choosing, both.reporting))
    assert not choosing & reporting
    assert len(choosing) + len(reporting) == 90
    reported = run[NAME]["reported_score"]
    assert reported.n is not None
    assert int(reported.n[0]) == len(reporting) == 30
    assert reported.at(variant="chosen") > 0.9
    assert reported.at(variant="state 0") < 0.75
    about = run[NAME].findings.artefacts["choice"]
    assert about["verdict"] == "alike"
    assert about["difference"][1] <= 0 <= about["difference"][2]


def test_the_run_folder_is_read_like_any_other_and_a_second_call_repeats_nothing(
    run: Run, model: Model, study: ChooseLayer, monkeypatch: pytest.MonkeyPatch
):
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the journal should have known")

    for place, name in ((layer_task, "pooled"), (layer_task, "scored"), (layer_choice, "layer_costs")):
        monkeypatch.setattr(place, name, never)
    before = (run.path / "results" / f"{NAME}.json").read_text()
    again = conduct(NAME, study, model, study.reading(), run.path, force=True)
    assert (run.path / "results" / f"{NAME}.json").read_text() == before
    assert set(again) == {NAME}
    assert list(again[NAME].findings.examples["rounds"].columns["items"]) == ["24", "48", "all"]


def test_the_exported_choice_scores_outside_what_it_scores_inside(run: Run, model: Model, tmp_path: Path):
    pytest.importorskip(
        "sentence_transformers", reason="encoders are written by sentence-transformers (extra: eval)"
    )
    served = export_choice(run, model, tmp_path / "encoder", post="center", unit=True)
    assert served.outside == served.inside > 0.9
    assert served.encoder.recipe.state == 2
    about = json.loads((run.path / "artefacts" / "encoder.json").read_text())
    assert about["outside"] == served.outside


class Tags(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href")]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_page_says_the_choice_with_its_intervals_in_both_languages(run: Run, language: str):
    paths = write_layer_page(run, language)
    page, text = (paths[kind].read_text(encoding="utf-8") for kind in ("html", "markdown"))
    found = Tags(page)
    assert "script" not in found.tags
    assert found.links == []
    assert {"svg", "table", "dl"} <= found.tags
    reported = run[NAME]["reported_score"]
    for who in ("chosen", "last", "state 0", "words"):
        cell = reported.select(variant=who)
        assert f"{float(cell.value):.3f}" in page
        assert f"{float(cell.value):.3f}" in text
    for line in text.splitlines():
        if line.startswith("- **") and re.search(r"\d\.\d{3} ?[(（]", line):
            assert re.search(r"95 ?%", line), line
    assert ("状態" in text) == (language == "ja")


def test_less_time_is_said_only_where_the_whole_range_is_less(run: Run):
    for seconds, said in ((0.01, True), (1.0, False)):
        story = Story(run, "en")
        found = story.found["seconds"]
        first, last = int(story.about["state"]), int(story.about["depth"])
        low = np.where(found.axes["state"] == first, seconds / 2, 0.4)
        high = np.where(found.axes["state"] == first, seconds, 0.5)
        made = {
            **story.found.findings.measurements,
            "seconds": replace(found, value=high, low=low, high=high),
        }
        vars(story)["found"] = made
        assert first < last
        assert ("not shown" in story.saving()) != said


def test_names_in_the_page_are_text_and_never_markup(run: Run, tmp_path: Path):
    shutil.copytree(run.path, tmp_path / "run")
    bad = "<script>alert(1)</script>"
    path = tmp_path / "run" / "results" / f"{NAME}.json"
    path.write_text(path.read_text().replace('"task": "order"', f'"task": "{bad}"'))
    paths = write_layer_page(open_run(tmp_path / "run"), "en")
    page = paths["html"].read_text(encoding="utf-8")
    assert "script" not in Tags(page).tags
    assert "&lt;script&gt;alert(1)" in page
    assert not re.search(r"(?<!\\)<script", paths["markdown"].read_text(encoding="utf-8"))


def test_japanese_sentences_are_japanese_and_an_unknown_language_is_refused(run: Run):
    said = " ".join(phrases("ja")["layer_said"].values())
    bare = re.sub(r"\{[^}]*\}|sentence-transformers|--export", "", said)
    assert not re.search(r"[a-z]{4,}", bare)
    with pytest.raises(UnknownName, match="unknown language 'fr'"):
        write_layer_page(run, "fr")


def seen(score: list[float], spread: float = 0.0, states: tuple[int, ...] = (2, 5, 8)) -> Seen:
    noise = spread * np.random.default_rng(0).standard_normal((400, len(score)))
    return Seen(states, np.asarray(score), np.asarray(score) + noise)


def noise(*rates: float, states: tuple[int, ...] = (2, 5, 8)) -> Noise:
    flips = np.asarray([np.arange(100) < 100 * rate for rate in rates], np.float64)
    empty = np.zeros(len(rates))
    return Noise(states, flips, empty, np.zeros((len(rates), 4)), empty, empty)


def test_a_state_whose_predictions_flip_more_than_the_last_is_passed_over():
    near = Found((), seen([0.80, 0.80, 0.79], 0.02), (2, 5, 8), 2, 2)
    assert pick(near, noise(0.2, 0.2, 0.2), 8).state == 2
    # one flip in a hundred more is no more than chance
    assert pick(near, noise(0.21, 0.2, 0.2), 8).state == 2
    later = pick(near, noise(0.5, 0.2, 0.2), 8)
    assert (later.state, later.why, later.passed_over) == (5, "flips", (2,))
    assert pick(near, noise(0.5, 0.5, 0.2), 8).why == "flips"
    two = Found((), seen([0.80, 0.80, 0.50], 0.02), (2, 5, 8), 2, 2)
    none = pick(two, noise(0.5, 0.5, 0.2), 8)
    assert (none.state, none.why, none.passed_over) == (8, "none", (2, 5))


def test_a_verdict_says_better_worse_or_alike_by_the_paired_interval():
    def report(gap: float, spread: float) -> Report:
        return Report(seen([0.5 + gap, 0.5, 0.1, 0.1], spread, (0, 1, 2, 3)), 100)

    assert report(0.1, 0.01).verdict() == "better"
    assert report(-0.1, 0.01).verdict() == "worse"
    assert report(0.02, 0.05).verdict() == "alike"
    assert report(float("nan"), 0.05).verdict() == "unknown"


def test_a_state_that_is_shown_to_be_worse_gives_way_to_the_last(
    model: Model, study: ChooseLayer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(layer_choice, "pick", lambda *_: layer_choice.Picked(0, "cheapest", ()))
    run = conduct(NAME, study, model, study.reading(), tmp_path / "run", force=True)
    about = run[NAME].findings.artefacts["choice"]
    assert (about["state"], about["picked"], about["why"], about["verdict"]) == (8, 0, "worse", "worse")
    assert any("so the last state stays" in line for line in run[NAME].findings.notes)


def test_labels_keep_two_items_in_both_parts_and_rare_ones_are_left_out():
    rows = [{"text": f"t{k}", "label": "abc"[k % 3]} for k in range(30)]
    rows += [{"text": f"r{k}", "label": "rare"} for k in range(3)] + [
        {"text": f"f{k}", "label": "few"} for k in range(4)
    ]
    both = parts(labelled("made", rows))
    assert both.left_out == ("rare",)
    for part in (both.choosing, both.reporting):
        golds = [str(item.gold) for item in part.items]
        assert min(golds.count(label) for label in ("a", "b", "c", "few")) >= 2
    with pytest.raises(BadInput, match=r"made has 12 items that can be used; .* 24 or more"):
        parts(labelled("made", rows[:12]))


def test_texts_in_both_parts_are_counted_whatever_their_case():
    rows = [{"text_a": f"Text {k // 2}", "text_b": f"other {k}", "score": float(k % 5)} for k in range(60)]
    rows = [row | {"text_a": row["text_a"].upper()} if k % 2 else row for k, row in enumerate(rows)]
    assert parts(labelled("pairs", rows)).shared > 5


def test_every_text_is_read_once_and_only_as_deep_as_asked(model: Model):
    bank = Bank(model, "mean", True, 512)
    first = bank.of(["abc", "bca"], (0, 4))
    assert (bank.blocks, bank.read, first.shape) == (8, 2, (2, 2, 32))
    bank.of(["abc"], (3,))
    assert bank.blocks == 8
    deeper = bank.of(["abc", "cab"], (4, 6))
    assert (bank.blocks, bank.read) == (8 + 12, 3)
    np.testing.assert_allclose(deeper[0, 0], first[1, 0], rtol=0, atol=0)


def test_a_model_whose_vectors_depend_on_the_batch_or_are_not_finite_is_refused(study: ChooseLayer):
    task = study.loaded()
    both = parts(task)
    broken = order_model()
    with torch.no_grad():
        broken.net.get_input_embeddings().weight.fill_(float("nan"))  # pyright: ignore[reportCallIssue]
    with pytest.raises(NonFinite, match="every vector"):
        sanity(task, both, Bank(broken, "mean", True, 512))
    uneven = labelled("uneven", [{"text": "ab" * (1 + k % 7), "label": str(k % 2)} for k in range(40)])
    odd = Bank(lettered("llama"), "mean", True, 512)
    odd.of(uneven.texts, range(5))
    odd.kept = {text: -vectors for text, vectors in odd.kept.items()}
    with pytest.raises(Refused, match="depends on the batch"):
        sanity(uneven, replace(both, choosing=uneven), odd)


def test_costs_count_what_a_state_needs_and_the_last_costs_most(model: Model):
    first, last = layer_costs(model, (2, 8), tokens=8, rows=2, repeats=2, warmup=0)
    block = sum(p.numel() for p in model.anatomy.layers[0].block.parameters())
    assert last.parameters - first.parameters == 6 * block
    assert (first.bytes, first.repeats, first.peak_bytes) == (4 * first.parameters, 2, None)
    shared = tiny("zamba2", torch.float32)
    assert len(parameters_of(shared, 5)) >= len(parameters_of(shared, 4))


def test_words_alone_make_vectors_of_texts():
    found = word_vectors(["red car", "red bus", ""])
    assert found[0] @ found[1] > 0.1
    assert found[0] @ found[2] == 0


def test_texts_without_spaces_share_characters():
    found = word_vectors(["犬が走る。", "犬が歩く。", "山に雪"])
    assert found[0] @ found[1] > 0.1
    assert found[0] @ found[2] == 0


@pytest.mark.parametrize(("state", "told"), [(0, False), (2, True)])
def test_a_block_too_many_is_told_only_where_the_encoder_has_blocks(run: Run, state: int, told: bool):
    story = Story(run, "en")
    vars(story)["about"] = {**story.about, "norm": False, "state": state}
    assert ("one block more" in " ".join(story.cautions())) == told


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"pooling": "men"}, UnknownName, "did you mean 'mean'"),
        ({"norm": "maybe"}, UnknownName, "unknown norm"),
        ({"metric": "ndcg"}, UnknownName, "score of a classification task"),
        ({"share": 0.0}, BadInput, "share 0 of the states"),
        ({"stride": 0}, BadInput, "stride 0"),
        ({"limit": 10}, BadInput, "10 items that can be used"),
        ({"first": 1}, BadInput, "first 2 or more"),
        ({"task": "nowhere.jsonl"}, BadInput, "nowhere.jsonl"),
    ],
)
def test_wrong_inputs_are_refused_before_anything_runs(
    model: Model, study: ChooseLayer, change: dict[str, Any], kind: type[Exception], message: str
):
    with pytest.raises(kind, match=message):
        replace(study, **change).check(model)


def test_a_model_of_images_is_refused(study: ChooseLayer):
    with pytest.raises(Refused, match="vectors of texts need a model of texts"):
        study.check(tiny("vit", torch.float32))


@pytest.mark.parametrize("kind", ["sts", "pair", "retrieval"])
def test_every_kind_of_task_is_chosen_for(kind: str, tmp_path: Path):
    rows: list[dict[str, Any]] = []
    for k in range(36):
        a, b = "abcdef"[k % 6] * 3 + "xyz"[k % 3], "abcdef"[k % 5] * 2 + "uvw"[k % 3]
        if kind == "retrieval":
            rows.append({"query": a + str(k), "positives": [a], "negatives": [b, "none"]})
        else:
            rows.append(
                {
                    "text_a": a + str(k),
                    "text_b": b,
                    **({"score": k % 4} if kind == "sts" else {"label": k % 2}),
                }
            )
    path = tmp_path / f"{kind}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    small = ChooseLayer(str(path), share=1.0, stride=2, **FAST)  # pyright: ignore[reportArgumentType]
    model = lettered("llama")
    run = conduct(NAME, small, model, small.reading(), tmp_path / "run")
    assert 0 <= run[NAME]["flip_rate"].value.max() <= 1
    assert run[NAME].findings.artefacts["choice"]["kind"] == kind
