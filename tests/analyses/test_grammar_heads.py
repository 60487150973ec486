"""Grammar heads on sentences annotated by hand: a head that finds the subject, one that looks one word back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import look
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from depthscope.analyses.grammar_heads import GrammarHeads
from depthscope.engine.grammar_items import Asked, Sentences, head_hits, offset_hits
from depthscope.engine.grammar_trees import GoldTrees
from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.materials.window import Window
from depthscope.measures.dependency import spanning_trees
from depthscope.results.result import Result
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

WORDS = ["<end>", "so", "the", "N", "X", "V", "P", "."]
ID = {word: k for k, word in enumerate(WORDS)}
TEXT = ["so the N V P . " * 4] * 2
WIDTH, D_HEAD, GAPS, EACH = 128, 32, 4, 10
FINDS_SUBJECT, ONE_BACK, EVERYWHERE, RESTS = range(4)


def sentence(gap: int) -> list[tuple[str, int, str]]:
    """`so the N X..X V P .`: the subject is 1 to 4 words before its verb."""
    verb = 4 + gap
    fill = [("X", verb, "advmod")] * gap
    return [
        ("so", verb, "discourse"), ("the", 3, "det"), ("N", verb, "nsubj"), *fill, ("V", 0, "root"),
        ("P", verb, "obj"), (".", verb, "punct"),
    ]  # fmt: skip


def treebank(folder: Path) -> str:
    row = "{}\t{}\t_\t_\t_\t_\t{}\t{}\t_\t_"
    blocks = [
        "\n".join(row.format(k, *word) for k, word in enumerate(sentence(number % GAPS), 1))
        for number in range(GAPS * EACH)
    ]
    path = folder / "planted.conllu"
    path.write_text("\n\n".join(blocks), encoding="utf-8")
    return str(path)


def wired() -> Model:
    """A gpt2 of one layer: token ids in channels 0.., positions in channels 32..; each head looks for one key."""
    model = tiny("gpt2", torch.float64, n_layer=1, n_embd=WIDTH, n_positions=32)
    base = model.net.transformer
    weight = torch.zeros(WIDTH, 3 * WIDTH, dtype=torch.float64)
    tokens, places = slice(0, D_HEAD), slice(D_HEAD, 2 * D_HEAD)
    seen = torch.eye(D_HEAD, dtype=torch.float64)
    for head in (FINDS_SUBJECT, ONE_BACK, RESTS):
        query, key = (slice(k * WIDTH + head * D_HEAD, k * WIDTH + (head + 1) * D_HEAD) for k in (0, 1))
        if head == FINDS_SUBJECT:
            weight[tokens, key] = seen
            weight[ID["V"], query.start + ID["N"]] = 100
        else:
            weight[places, key] = seen
            weight[places, query] = 100 * (
                seen.roll(-1, 1) if head == ONE_BACK else seen[:, :1] @ seen[:1] * 0
            )
            if head == RESTS:
                weight[places, query.start] = 100
    with torch.no_grad():
        base.wte.weight.zero_()  # type: ignore[union-attr, operator]
        base.wte.weight[: len(WORDS), : len(WORDS)] = torch.eye(len(WORDS))  # type: ignore[union-attr, index]
        base.wpe.weight.zero_()  # type: ignore[union-attr, operator]
        base.wpe.weight[:, places] = torch.eye(32)  # type: ignore[union-attr, index]
        block = base.h[0]  # type: ignore[union-attr, index]
        block.ln_1.weight.fill_(1.0)
        block.ln_1.bias.zero_()
        block.attn.c_attn.weight.copy_(weight)
        block.attn.c_attn.bias.zero_()
    tokenizer = Tokenizer(models.WordLevel(ID, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return replace(model, tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>"))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("grammar")
    return look(wired(), GrammarHeads(treebank(folder), fewest=2), folder, TEXT)


def test_each_head_follows_the_relations_that_it_was_wired_for(result: Result):
    accuracy = result["accuracy"]

    def of(relation: str, mode: str, head: int) -> float:
        return accuracy.at(relation=relation, mode=mode, layer=0, head=head)

    assert of("nsubj", "to_dependent", FINDS_SUBJECT) == 1
    np.testing.assert_allclose(of("nsubj", "to_dependent", ONE_BACK), 1 / GAPS)
    assert of("nsubj", "to_dependent", EVERYWHERE) == 0
    assert of("obj", "to_head", ONE_BACK) == 1
    assert of("advmod", "to_dependent", ONE_BACK) == 1
    counted = accuracy.n_items
    assert counted is not None
    places = {name: k for k, name in enumerate(accuracy.axes["relation"].tolist())}
    assert counted[places["nsubj"], 1, 0, 0] == GAPS * EACH
    assert counted[places["advmod"], 1, 0, 0] == (GAPS - 1) * EACH
    assert set(places) == {"nsubj", "obj", "advmod"}, (
        "discourse leads to a sink, det leaves one word to choose"
    )


def test_the_best_head_beats_the_best_offset_where_distances_vary(result: Result):
    at = {"relation": "nsubj", "mode": "to_dependent"}
    assert result["relation_accuracy"].at(**at) == 1
    assert (result["relation_layer"].at(**at), result["relation_head"].at(**at)) == (0, FINDS_SUBJECT)
    rival = result["relation_offset_accuracy"].at(**at)
    assert 0 < rival < 0.6
    np.testing.assert_allclose(result["relation_gain"].at(**at), 1 - rival)
    assert result["relation_gain"].select(**at).low > 0.2
    assert result["relation_gain"].at(relation="obj", mode="to_head") == 0
    assert np.isnan(result["relation_accuracy"].at(relation="nsubj", mode="to_head"))


def test_every_head_is_judged_by_the_relation_in_which_it_gains_most(result: Result):
    assert result["best_accuracy"].value[0, FINDS_SUBJECT] == 1
    assert result["gain"].value[0, FINDS_SUBJECT] > 0.4
    assert abs(result["gain"].value[0, ONE_BACK]) < 0.2
    best = result.findings.examples["heads"].to_dataframe().set_index("head")
    assert best.loc[FINDS_SUBJECT, "relation"] == "nsubj"


def test_the_chosen_heads_together_parse_everything_and_the_offsets_do_not(result: Result):
    assert result["uas"].scalar() == 1
    assert result["uas_offset"].scalar() < 0.95
    assert result["uas_gain"].low > 0
    assert 0.5 < result["single_head_uas"].scalar() < 0.95
    assert f"head {ONE_BACK}" in result["single_head_uas"].note


def test_the_tree_of_a_head_that_looks_one_back_is_the_chain_and_rules_are_counted_by_hand(result: Result):
    rule = result["tree_rival_uas"]
    # the, N, X..X, V, P with 0 to 3 X: all but `the` hang on V, the root; a chain errs at N and all X but the last
    words = sum(3 + k for k in range(GAPS))
    np.testing.assert_allclose(rule.at(variant="all on the root"), sum(2 + k for k in range(GAPS)) / words)
    np.testing.assert_allclose(rule.at(variant="next to next"), 12 / words)
    # right-branching: P on V; the first word hangs on the root, which is wrong
    np.testing.assert_allclose(rule.at(variant="offset -1"), GAPS / words)
    trees = result["tree_uas"].value[0]
    np.testing.assert_allclose(trees[ONE_BACK], 12 / words)
    assert result["tree_best_uas"].scalar() < 1
    assert result["tree_gain"].scalar() <= 0
    assert "over all on the root" in result["tree_gain"].note


def test_heads_that_rest_on_the_first_token_are_seen_to(result: Result):
    shares = result["sink_share"].value[0]
    np.testing.assert_allclose(shares[RESTS], 1)
    # only the second word looks back at the first one
    lengths = np.array([6 + k for k in range(GAPS)])
    np.testing.assert_allclose(shares[ONE_BACK], GAPS / (lengths - 1).sum())
    at = {"relation": "nsubj", "mode": "to_dependent"}
    assert result["relation_sink_with"].at(**at) == 0
    assert result["relation_sink_none"].at(**at) > 0.9


def test_arcs_are_shown_with_what_the_head_picked(result: Result):
    arcs = result.findings.examples["arcs"].to_dataframe()
    subject = arcs[arcs.relation == "nsubj"]
    assert (set(subject.word), set(subject.partner), set(subject.right)) == ({"V"}, {"N"}, {1.0})


# Three sentences by hand, attention planted: "un|seen dogs", "do|n't eat" and "see it" (right-branching).
HAND = [
    {"words": [0, 0, 1, -1, -1], "heads": [1, -1], "labels": [["amod"], ["root"]]},
    {"words": [0, 1, 2, 2, -1], "heads": [2, 2, -1], "labels": [["aux"], ["advmod"], ["root"]]},
    {"words": [-1, 0, 1, 2, -1], "heads": [-1, 0, 0], "labels": [["root"], ["obj"], ["advmod"]]},
]


def by_hand(causal: bool) -> Sentences:
    windows = tuple(Window(k, f"hand-{k}", (1,) * 5, (), about) for k, about in enumerate(HAND))
    sinks = torch.zeros(3, 5, dtype=torch.bool)
    sinks[2, 0] = True  # the special token before the third sentence
    return Sentences.of(windows, sinks, torch.arange(5), causal)


def asked(sentences: Sentences) -> list[tuple[int, int, int, str, tuple[int, ...]]]:
    return [(i.row, i.word, i.mode, i.relation, i.right) for i in sentences.items()]


def test_a_causal_model_is_asked_at_the_later_word_and_only_where_there_is_a_choice():
    assert asked(by_hand(causal=True)) == [
        (1, 2, 1, "aux", (0,)), (1, 2, 1, "advmod", (1,)), (2, 2, 0, "advmod", (0,)),
    ]  # fmt: skip


def test_an_encoder_is_asked_both_ways_for_every_dependent():
    assert asked(by_hand(causal=False)) == [
        (1, 0, 0, "aux", (2,)), (1, 0, 1, "aux", (2,)), (1, 1, 0, "advmod", (2,)), (1, 1, 1, "advmod", (2,)),
        (2, 1, 0, "obj", (0,)), (2, 1, 1, "obj", (0,)), (2, 2, 0, "advmod", (0,)), (2, 2, 1, "advmod", (0,)),
    ]  # fmt: skip


def test_hits_of_a_planted_encoder_head_by_row_and_by_column():
    sentences = by_hand(causal=False)
    items = sentences.items()
    rows = torch.full((3, 1, 5, 5), 0.2)
    rows[1, 0, 0] = torch.tensor([0.0, 0.5, 0.2, 0.3, 0.0])  # do -> n't .5, eat .2 + .3: the first of equals
    rows[1, 0, 1] = torch.tensor([0.6, 0.0, 0.2, 0.2, 0.0])  # n't -> do
    rows[1, 0, 2] = torch.tensor([0.5, 0.3, 0.0, 0.2, 0.0])  # eat -> do .45, n't .4 (mean of both rows)
    rows[1, 0, 3] = torch.tensor([0.4, 0.5, 0.1, 0.0, 0.0])
    rows[2, 0, 2] = torch.tensor([0.9, 0.1, 0.0, 0.0, 0.0])  # it -> the sink .9, see .1
    hits, mass, rests = head_hits(
        sentences, Asked.of(items, 3, causal=False), rows, sentences.attention(rows, False)
    )
    # column of `do`: n't .6 over eat .45; column of n't: do .5 over eat .4; columns of the third: all rows equal .2
    assert hits[:, 0].tolist() == [False, False, False, False, True, True, True, True]
    torch.testing.assert_close(mass[:4, 0], torch.tensor([0.5, 0.45, 0.4, 0.4]))
    assert rests[2, 0].tolist() == [1, 1, 1], "ties go to the first key, which is the sink"
    found = offset_hits(sentences, Asked.of(items, 3, causal=False))
    offsets = (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5)
    share = {o: float(found[:, k].mean()) for k, o in enumerate(offsets)}
    assert share == {-5: 0, -4: 0, -3: 0, -2: 0.25, -1: 0.25, 1: 0.25, 2: 0.25, 3: 0, 4: 0, 5: 0}


def test_a_planted_tree_is_found_whole_and_words_of_a_sink_or_none_stay_outside():
    sentences = by_hand(causal=False)
    trees = GoldTrees.of(sentences)
    assert trees.usable.tolist() == [False, True, True], "two words leave no choice"
    assert trees.gold.tolist() == [[-1, -1, -1], [2, 2, -1], [-1, 0, 0]]
    rows = torch.full((3, 1, 5, 5), 0.01)
    rows[1, 0, 0, 2] = rows[1, 0, 2, 1] = 0.5  # do -> eat; eat -> n't: either direction joins them
    rows[2, 0, 1, 2] = rows[2, 0, 1, 3] = 0.4  # see -> it, see -> up
    found = spanning_trees(sentences.attention(rows, False), trees.there, trees.root)
    assert trees.hits(found)[:, 0].tolist() == [0, 2, 2]
    causal = GoldTrees.of(by_hand(causal=True))
    assert causal.gold[1].tolist() == [2, 2, -1]
    resting = by_hand(causal=True)
    resting.sinks[1, 0] = True
    assert GoldTrees.of(resting).usable.tolist() == [False, False, True]


def test_what_cannot_be_asked_is_refused(tmp_path: Path):
    with pytest.raises(Refused, match=r"no layer has softmax attention heads \(its layers are: ssm\)"):
        look(tiny("mamba"), GrammarHeads(), tmp_path, ["so"])
    with pytest.raises(UnknownName, match="unknown value of query 'first'; known: last, mean"):
        GrammarHeads(query="first")
    with pytest.raises(BadInput, match=r"planted\.conllu has no relation iobj"):
        look(wired(), GrammarHeads(treebank(tmp_path), relations=("iobj",)), tmp_path, TEXT)


def test_random_weights_beat_no_offset(tmp_path: Path):
    result = look(
        tiny("gpt2", torch.float32), GrammarHeads("agreement", sentences=60, fewest=5), tmp_path, TEXT
    )
    assert result["uas_gain"].high < 0
    assert not ((result["best_accuracy"].value >= 0.5) & (result["gain"].low > 0)).any()
