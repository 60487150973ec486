"""The atlas: what others found is taken as it is, planted heads get their label and no other, gaps stay gaps."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import combinations
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from wired_heads import planted_heads

from depthscope.analyses.head_atlas import HeadAtlas
from depthscope.analyses.head_patterns import HeadPatterns
from depthscope.analyses.induction_heads import InductionHeads
from depthscope.engine.atlas_findings import Atlas
from depthscope.engine.atlas_runs import joined_scores
from depthscope.engine.atlas_scores import PARTS, SOURCES, STANDS_ON, answerable, imported, scores_of
from depthscope.engine.audit import audit
from depthscope.engine.needs import Analysis, Facts
from depthscope.engine.provenance import hashed
from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.materials.parses import Parses
from depthscope.registry import ANALYSES
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result, Text
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny, untrained
from depthscope.store.run import RunFolder

LAYERS, HEADS, N = 3, 4, 12
WORDS = Text("made up", "?", "", "", "", "")
READ = ("head_patterns", "induction_heads")
REST = tuple(name for name in STANDS_ON if name in ANALYSES and name not in READ)
TEXTS = [f"{k} boats, then {k * k} more: row {chr(97 + k)}!" for k in range(9)]


def measured(name: str, value: np.ndarray, **axes: list) -> Measurement:
    grid = {"layer": np.arange(LAYERS), "head": np.arange(HEADS), **{a: np.array(v) for a, v in axes.items()}}
    counts = {"n": np.full(value.shape, N), "n_items": np.full(value.shape, 5 * N)}
    return Measurement(name, grid, value, "probability", value - 0.02, value + 0.02, missing="none", **counts)


def planted(**cells: tuple[int, int, float]) -> dict[str, Result]:
    """Results in which every score is low everywhere but in the named cells."""
    low = {"first_weighted": 0.05, "far_mass": 0.5, "entropy_norm": 0.4, "best_offset": 1.0, "gate": 0.9}
    found: dict[str, dict[str, Measurement]] = {}
    for score, source in SOURCES.items():
        if source.part != "value":
            continue
        value = np.full((LAYERS, HEADS), low.get(score, 0.05))
        if score in cells:
            layer, head, number = cells[score]
            value[layer, head] = number
        found.setdefault(source.analysis, {})[source.measurement] = measured(source.measurement, value)
    return {name: Result(name, {}, Findings(m), WORDS, {}) for name, m in found.items()}


def facts(model_layers: int = LAYERS, heads: int = HEADS) -> Facts:
    kinds = ("attention",) * model_layers
    return Facts(
        model_layers, heads, 16, kinds, (None,) * model_layers, True, False, False, True, "documents", 0
    )


def labelled(given: dict[str, Result], rank: float = 0.0) -> dict[tuple[int, int], set[str]]:
    atlas = Atlas(scores_of(given), facts(), rank)
    found: dict[tuple[int, int], set[str]] = {}
    for label, value in atlas.labels.items():
        for layer, head in np.argwhere(value == 1):
            found.setdefault((int(layer), int(head)), set()).add(label)
    return found


@pytest.mark.parametrize(
    ("cells", "label"),
    [
        ({"previous": (0, 1, 0.9)}, "previous"),
        ({"self": (1, 0, 0.9)}, "self"),
        ({"best_offset": (1, 1, 3.0), "best_offset_mass": (1, 1, 0.8)}, "offset"),
        ({"sink": (2, 3, 0.9)}, "sink"),
        ({"entropy_norm": (0, 0, 0.99)}, "broad"),
        ({"far_mass": (0, 2, 0.01)}, "streaming"),
        ({"retrieval": (2, 0, 0.4)}, "retrieval"),
        ({"induction": (2, 1, 0.4)}, "induction"),
        ({"duplicate": (1, 2, 0.6)}, "duplicate"),
        ({"grammar": (1, 3, 0.8), "grammar_gain": (1, 3, 0.3)}, "grammar"),
        ({"iteration": (1, 3, 0.9)}, "iteration"),
    ],
)
def test_each_planted_head_gets_its_label_and_no_other(cells: dict[str, tuple[int, int, float]], label: str):
    found = labelled(planted(**cells))
    function_vectors = {"function_vector"} if label != "function_vector" else set()
    (place,) = {cell[:2] for cell in cells.values()}
    assert found[place] - function_vectors == {label}
    assert {k for k, v in found.items() if v - function_vectors} == {place}


def test_scores_are_taken_with_their_intervals_and_counts():
    found = scores_of(planted(previous=(0, 1, 0.9)))
    assert list(found) == list(SOURCES)
    parts = dict(zip(PARTS, found["previous"][:, 0, 1], strict=True))
    assert parts == pytest.approx({"value": 0.9, "low": 0.88, "high": 0.92, "n": N, "n_items": 5 * N})
    np.testing.assert_allclose(found["grammar_gain_low"][0], found["grammar_gain"][1])
    error = 0.04 / (2 * 1.959964)
    np.testing.assert_allclose(found["function_vector_errors"][0, 0, 0], 0.05 / error, rtol=1e-6)


def test_further_axes_are_averaged_over_and_absent_results_leave_gaps():
    value = np.zeros((LAYERS, HEADS, 2))
    value[1, 2] = [0.2, 0.6]
    one = measured("indirect_effect", value, task=["a", "b"])
    found = scores_of(
        {"function_vectors": Result("function_vectors", {}, Findings({one.name: one}), WORDS, {})}
    )
    np.testing.assert_allclose(found["function_vector"][0, 1, 2], 0.4)
    assert np.isnan(found["function_vector"][1]).all(), "the interval of a mean over tasks is not known"
    assert set(found) == {"function_vector", "function_vector_errors"}
    gaps = Atlas(found, facts()).gaps()
    assert any(said.startswith("Not measured, as retrieval_heads gave none: retrieval,") for said in gaps)


def test_every_score_is_one_measurement_and_labels_are_shares_depths_and_overlaps():
    atlas = Atlas(scores_of(planted(induction=(2, 1, 0.4), retrieval=(2, 1, 0.4))), facts())
    found = {m.name: m for m in atlas.measurements()}
    assert set(SOURCES) <= set(found)
    assert found["role"].at(role="induction", layer=2, head=1) == 1
    np.testing.assert_allclose(found["role_share"].at(role="induction"), 1 / 12)
    assert found["role_depth"].at(role="induction") == 1
    assert np.isnan(found["role_depth"].select(role="induction").low), "one head has no interval"
    assert found["overlap"].at(role="induction", other="retrieval") == 1
    np.testing.assert_allclose(found["overlap_p"].at(role="induction", other="retrieval"), 1 / 12)
    assert np.isnan(found["overlap"].at(role="self", other="previous"))
    rows = atlas.label_table().to_dataframe()
    assert set(rows.label) == {"induction", "retrieval"} | (set(rows.label) & {"function_vector"})
    table = atlas.head_table(2).to_dataframe()
    assert table[["layer", "head", "kv_head"]].iloc[-1].tolist() == [2, 3, 1]
    assert "induction" in table.labels.iloc[2 * HEADS + 1]


def test_ranks_label_the_same_share_of_any_model():
    found = labelled(planted(previous=(0, 1, 0.1)), rank=0.05)
    assert "previous" in found[0, 1]


WIRED = {(0, 0): "previous", (0, 2): "self", (0, 3): "first", (1, 0): "induction"}


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Result:
    asked = [HeadPatterns(every_query=4), InductionHeads(20, 10, 3), HeadAtlas(without=REST)]
    return atlas_of(planted_heads(WIRED), asked, tmp_path_factory.mktemp("wired"))


def test_heads_wired_by_hand_get_their_label_and_no_other_content(wired: Result):
    labels = wired.findings.examples["labels"].to_dataframe()
    content = labels[labels.content & ~labels.label.str.startswith("strong")]
    found = {(r.layer, r.head): r.label for r in content.itertuples()}
    assert found == {place: kind for place, kind in WIRED.items() if kind != "first"}
    assert len(found) == len(content)
    broad = labels[labels.label == "broad"]
    assert not set(zip(broad["layer"], broad["head"], strict=True)) & set(WIRED)


def test_what_heads_write_and_link_is_measured_on_the_packaged_sentences(wired: Result):
    share = wired["write_share"].value
    np.testing.assert_allclose(share[0], [1, 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(share[1], [1, 0, 0, 0], atol=1e-9)
    arcs = wired.findings.examples["arcs"].to_dataframe()
    assert arcs.groupby(["layer", "head"]).size().max() <= 4
    assert not (arcs.word == arcs.looks_at).all()
    assert {"layer", "head", "kv_head", "labels", "previous"} <= set(wired.findings.examples["heads"].columns)


def test_lengths_of_writes_are_those_of_the_heads_outputs_through_their_projection(wired: Result):
    lengths, share = wired["mean_write"].value, wired["write_share"].value
    np.testing.assert_allclose(lengths[:, 1:], 0, atol=1e-12)
    assert (lengths[:, 0] > 0).all()
    assert (share[:, 0] > 0).all()
    assert np.isnan(wired["ablation"].value).all()
    assert any("ablate=0" in note for note in wired.findings.notes)


@pytest.fixture(scope="module")
def silent() -> Model:
    """A gpt2 whose last head writes nothing."""
    model = tiny("gpt2", torch.float32)
    with torch.no_grad():
        proj = model.net.transformer.h[-1].attn.c_proj  # type: ignore[union-attr, index]
        proj.weight[-proj.weight.shape[0] // model.anatomy.n_heads :] = 0
    return model


GATE = np.ones((4, 4))
GATE[1, 2] = 0.1


@pytest.fixture(scope="module")
def own(
    silent: Model, tmp_path_factory: pytest.TempPathFactory,
    signatures_unchecked: Callable[[], AbstractContextManager[None]],
) -> Result:  # fmt: skip
    """An atlas that waits for nobody: its own measurements, and the gates of another run."""
    folder = tmp_path_factory.mktemp("own")
    gates = gates_run(folder / "gates", silent, GATE)
    with signatures_unchecked():
        return atlas_of(
            silent, [HeadAtlas(without=STANDS_ON, ablate=3, sentences=4, runs=(str(gates),))], folder
        )


def test_a_head_set_to_zero_raises_the_loss_as_in_the_whole_model(own: Result, silent: Model):
    found, errors = own["ablation"], own["ablation_errors"]
    assert found.n is not None
    assert (found.n == 3).all()
    rises = [
        next_loss(silent, ids, 1) - next_loss(silent, ids)
        for ids in (torch.tensor(w.ids) for w in Parses(sentences=4).windows(silent, 0).items)
    ]
    mine = float(found.value[0, 1])
    assert min(abs(mine - np.mean(three)) for three in combinations(rises, 3)) < 1e-5, (
        "three of the sentences"
    )
    assert abs(mine) > 1e-4
    assert found.low is not None
    assert found.high is not None
    error = (found.high - found.low)[0, 1] / (2 * 1.959964)
    np.testing.assert_allclose(errors.value[0, 1], mine / error, rtol=1e-6)


def test_a_head_that_writes_nothing_and_costs_nothing_is_dead(own: Result):
    assert own["mean_write"].value[-1, -1] < 1e-6
    assert (own["mean_write"].value[:-1] > 1e-3).all()
    assert own["ablation"].value[-1, -1] == 0
    labels = own.findings.examples["labels"].to_dataframe()
    dead = labels[labels.label == "dead"]
    assert (dead["layer"].tolist(), dead["head"].tolist()) == ([3], [3])


def next_loss(model: Model, ids: torch.Tensor, head: int | None = None) -> float:
    """Mean loss of the next token; with one head of the first layer cut out in front of its projection."""
    proj = model.net.transformer.h[0].attn.c_proj  # type: ignore[union-attr, index]
    width = proj.weight.shape[0] // model.anatomy.n_heads

    def zeroed(_: object, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        z = given[0].clone()
        if head is not None:
            z[..., head * width : (head + 1) * width] = 0
        return (z,)

    handle = proj.register_forward_pre_hook(zeroed)
    with torch.no_grad():
        logits = model.net(ids[None]).logits[0, :-1].float()
    handle.remove()
    return float(torch.nn.functional.cross_entropy(logits, ids[1:]))


def gates_run(path: Path, model: Model, value: np.ndarray) -> Path:
    """A finished run of gates, as a study leaves it."""
    grid = {"layer": np.arange(value.shape[0]), "head": np.arange(value.shape[1])}
    gate = Measurement("gate", grid, value, "1")
    with RunFolder.open_or_create(path, {"of": "gates"}) as folder:
        folder.write_result(Result("duo_gates", {}, Findings({"gate": gate}), WORDS, {}))
        weights = hashed(model).provenance["weights_hash"]
        about = {"name": model.name, "weights_hash": weights}
        folder.write_manifest({"schema": 1, "model": about, "analyses": {"duo_gates": {}}, "complete": True})
    return path


def test_gates_of_another_run_join_and_label_heads_that_may_stream(
    own: Result, silent: Model, tmp_path: Path
):
    np.testing.assert_array_equal(own["gate"].value, GATE)
    assert own["gate"].note == "from duo_gates/gate"
    role = own["role"]
    streaming = role.value[role.axes["role"].tolist().index("streaming")]
    assert streaming[1, 2] == 1
    assert streaming[0, 0] == 0, "where no far_mass was measured, the gate decides alone"
    again = gates_run(tmp_path / "again", silent, GATE)
    assert len(str(own.parameters["digest"])) == 12
    assert HeadAtlas(runs=(str(again),)).digest == own.parameters["digest"]
    assert (
        HeadAtlas(runs=(str(gates_run(tmp_path / "other", silent, GATE / 2)),)).digest
        != own.parameters["digest"]
    )


def test_runs_of_other_weights_and_without_scores_are_named(tmp_path: Path):
    model = tiny("gpt2", torch.float32)
    gates = gates_run(tmp_path / "gates", tiny("gpt2", torch.float32, seed=1), GATE)
    with pytest.raises(BadInput, match="scores go by index of heads, so weights must be equal"):
        joined_scores((str(gates),), hashed(model))
    assert joined_scores((str(gates),), untrained(model)) == {}, "the null of a run joins nothing"
    with pytest.raises(BadInput, match="weights must be equal") as refused:
        atlas_of(model, [HeadAtlas(runs=(str(gates),))], tmp_path / "mine")
    assert refused.value.exit_code == 2
    assert not (tmp_path / "mine").exists(), "refused before anything runs"
    with pytest.raises(BadInput, match="holds no run; give folders"):
        HeadAtlas(runs=(str(tmp_path / "nowhere"),))
    empty = tmp_path / "empty"
    with RunFolder.open_or_create(empty, {"of": "nothing"}) as folder:
        folder.write_manifest({"schema": 1, "analyses": {}, "complete": True})
    with pytest.raises(BadInput, match="holds no score by layer and head"):
        HeadAtlas(runs=(str(empty),))


def test_an_unfinished_run_joins_nothing(tmp_path: Path):
    gates = gates_run(tmp_path / "gates", tiny("gpt2", torch.float32), GATE)
    manifest = json.loads((gates / "manifest.json").read_text())
    manifest |= {
        "complete": False,
        "command": "depthscope gates NAME",
        "analyses": {"duo_gates": {}, "more": {}},
    }
    (gates / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        BadInput, match=r"unfinished run \(without more\).*that began it: depthscope gates NAME, or"
    ):
        HeadAtlas(runs=(str(gates),))


def test_random_weights_get_no_content_label(tmp_path: Path):
    asked = [HeadPatterns(every_query=4), InductionHeads(20, 10, 3), HeadAtlas(without=REST)]
    result = atlas_of(tiny("llama", torch.float32), asked, tmp_path)
    labels = result.findings.examples["labels"].to_dataframe()
    assert not labels.content.any()
    assert set(labels.label) <= {"broad", "streaming"}


def atlas_of(model: Model, asked: list[Analysis], out: Path) -> Result:
    with mock.patch("depthscope.engine.audit.verify", return_value=()):
        return audit(model, asked, out=out / "run", text=TEXTS, tokens=240, window=24)["head_atlas"]


def test_what_a_model_refuses_is_a_gap_of_the_atlas_and_not_a_refusal():
    asked = ("head_patterns", "nowhere", "fact_depth")
    assert answerable(asked, tiny("bert").anatomy) == ("head_patterns",), (
        "BERT answers no facts token by token"
    )
    assert answerable(asked, tiny("llama").anatomy) == ("head_patterns", "fact_depth")
    with pytest.raises(Refused, match=r"no layer has softmax attention heads \(its layers are: ssm\)"):
        HeadAtlas().needs(tiny("mamba").anatomy)


def test_a_table_of_another_tool_is_read_and_what_is_wrong_in_it_is_named(tmp_path: Path):
    table = tmp_path / "other.csv"
    table.write_text("layer,head,theirs,previous\n0,1,0.25,0.5\n2,3,,0.75\n", encoding="utf-8")
    found = imported(str(table), LAYERS, HEADS)
    assert found["theirs"][0, 0, 1] == 0.25
    assert np.isnan(found["theirs"][0, 2, 3])
    assert found["previous"][0, 2, 3] == 0.75
    for content, said in (
        ("layer,head\n0,1\n", "needs a heading with layer, head and one column a score"),
        (
            "layer,head,x\n9,1,2\n",
            "layer 9, head 1 is not there or comes twice; the model has 3 layers of 4 heads",
        ),
        ("layer,head,x\n0,1,2\n0,1,3\n", "line 3: layer 0, head 1 is not there or comes twice"),
        ("layer,head,x\n0,1,high\n", "line 2: x is 'high', which is no number"),
    ):
        table.write_text(content, encoding="utf-8")
        with pytest.raises(BadInput, match=said):
            imported(str(table), LAYERS, HEADS)


def test_wrong_parameters_are_named():
    with pytest.raises(UnknownName, match="did you mean 'head_patterns'"):
        HeadAtlas(without=("head_pattern",))
    with pytest.raises(BadInput, match=r"rank=1\.5"):
        HeadAtlas(rank=1.5)
