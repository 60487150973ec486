"""Generation: the cache changes nothing, edits act where they say, and nothing stays behind."""

from __future__ import annotations

import pytest
import torch

from depthscope.errors import BadInput, Refused
from depthscope.runtime import edits
from depthscope.runtime.generate import generate
from depthscope.runtime.run import run
from depthscope.runtime.tiny import tiny

PROMPT = list(range(3, 14))
FAMILIES = ["llama", "gemma3_text", "mamba", "jamba", "falcon_h1", "rwkv", "recurrent_gemma", "xlstm", "gpt2"]


@pytest.fixture(scope="module")
def llama():
    return tiny("llama")


def changes():
    return [
        edits.skip(1),
        edits.scale("L2.resid_post", 1.5),
        edits.zero("L0.resid_post", at=torch.arange(len(PROMPT)) == 4),
    ]


@pytest.mark.filterwarnings("ignore::UserWarning")  # the mixers' reference kernels announce themselves
@pytest.mark.parametrize("edited", [False, True], ids=["clean", "edited"])
@pytest.mark.parametrize("family", FAMILIES)
def test_with_the_cache_and_without_it_the_tokens_are_the_same(family: str, edited: bool):
    model = tiny(family)
    for temperature in (0.0, 1.0):
        how = {
            "max_new_tokens": 8,
            "stop": (),
            "temperature": temperature,
            "edit": changes() if edited else (),
        }
        cached = generate(model, PROMPT, **how)
        again = generate(model, PROMPT, use_cache=False, **how)
        assert cached.ids == again.ids
        torch.testing.assert_close(cached.logprobs, again.logprobs, rtol=0, atol=1e-5)


def test_greedy_tokens_are_those_of_transformers(llama):
    expected = llama.net.generate(
        torch.tensor([PROMPT]), max_new_tokens=10, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    found = generate(llama, PROMPT, max_new_tokens=10, stop=())
    assert list(found.ids) == expected[0, len(PROMPT) :].tolist()
    assert found.prompt == tuple(PROMPT)
    assert found.ended == "length"


def test_log_probabilities_are_the_models_own(llama):
    found = generate(llama, PROMPT, max_new_tokens=5, stop=(), temperature=0.7, seed=3)
    with torch.no_grad():
        logits = llama.net(torch.tensor([PROMPT + list(found.ids)])).logits[0, len(PROMPT) - 1 : -1]
    expected = torch.log_softmax(logits, -1).gather(-1, torch.tensor(found.ids)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(found.logprobs, dtype=torch.float64), expected)


def test_after_the_prompt_the_cache_reads_one_token_a_step(llama):
    lengths = []
    handle = llama.net.get_input_embeddings().register_forward_hook(
        lambda *called: lengths.append(called[2].shape[1])
    )
    generate(llama, PROMPT, max_new_tokens=4, stop=())
    generate(llama, PROMPT, max_new_tokens=4, stop=(), use_cache=False)
    handle.remove()
    assert lengths == [11, 1, 1, 1, 11, 12, 13, 14]


def test_an_edit_with_positions_acts_on_the_prompt_only(llama):
    """Against a loop of plain forwards in which a hook of torch zeroes one embedded token of the prompt."""

    def blank(module, args, output):
        output = output.clone()
        output[:, 4] = 0
        return output

    ids = list(PROMPT)
    handle = llama.net.get_input_embeddings().register_forward_hook(blank)
    with torch.no_grad():
        for _ in range(6):
            ids.append(int(llama.net(torch.tensor([ids])).logits[0, -1].argmax()))
    handle.remove()
    edit = edits.zero("embed", at=torch.arange(len(PROMPT)) == 4)
    found = generate(llama, PROMPT, max_new_tokens=6, stop=(), edit=[edit])
    assert list(found.ids) == ids[len(PROMPT) :]
    assert found.ids != generate(llama, PROMPT, max_new_tokens=6, stop=()).ids


def test_an_edit_without_positions_acts_on_written_tokens_too(llama):
    vector = torch.full((32,), 3.0, dtype=torch.float64)
    everywhere = edits.add("L1.resid_post", vector)
    ids = list(PROMPT)
    handle = llama.net.model.layers[1].register_forward_hook(lambda *called: called[2] + 3.0)
    with torch.no_grad():
        for _ in range(6):
            ids.append(int(llama.net(torch.tensor([ids])).logits[0, -1].argmax()))
    handle.remove()
    assert (
        list(generate(llama, PROMPT, max_new_tokens=6, stop=(), edit=[everywhere]).ids) == ids[len(PROMPT) :]
    )


def test_positions_of_another_length_are_refused(llama):
    with pytest.raises(BadInput, match="prompt has 11 tokens"):
        generate(
            llama, PROMPT, max_new_tokens=1, edit=[edits.zero("embed", at=torch.ones(5, dtype=torch.bool))]
        )


def test_a_seed_fixes_the_sample_whatever_else_draws(llama):
    first = generate(llama, PROMPT, max_new_tokens=12, temperature=1.5, seed=5, stop=())
    torch.rand(7)
    assert generate(llama, PROMPT, max_new_tokens=12, temperature=1.5, seed=5, stop=()) == first
    others = {
        generate(llama, PROMPT, max_new_tokens=12, temperature=1.5, seed=s, stop=()).ids for s in range(4)
    }
    assert len(others) == 4


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("family", ["llama", "mamba", "recurrent_gemma"])
def test_generation_leaves_no_trace(family: str):
    model = tiny(family)
    last = f"L{model.anatomy.n_layers - 1}.resid_post"
    before = run(model, torch.tensor([PROMPT]), read=[last])[last]
    generate(model, PROMPT, max_new_tokens=3, stop=(), edit=changes())
    after = run(model, torch.tensor([PROMPT]), read=[last])[last]
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_a_stop_id_ends_the_text_and_is_kept_among_the_ids(llama):
    free = generate(llama, PROMPT, max_new_tokens=6, stop=())
    ended = generate(llama, PROMPT, max_new_tokens=6, stop=[free.ids[2]])
    first = free.ids.index(free.ids[2])
    assert ended.ids == free.ids[: first + 1]
    assert ended.ended == "stop"
    assert ended.text == llama.tokenizer.decode(free.ids[:first])


def test_a_stop_text_is_cut_from_the_text(llama):
    free = generate(llama, PROMPT, max_new_tokens=6, stop=())
    assert free.text is not None
    mark = free.text[2:4]
    ended = generate(llama, PROMPT, max_new_tokens=6, stop=[mark])
    assert ended.text == free.text[: free.text.index(mark)]
    assert ended.ended == "stop"


def test_the_models_own_end_stops_by_default():
    model = tiny("llama")
    first = generate(model, PROMPT, max_new_tokens=3, stop=()).ids[0]
    model.net.generation_config.eos_token_id = [first, 95]
    assert generate(model, PROMPT, max_new_tokens=3).ids == (first,)


def test_a_text_prompt_goes_through_the_tokenizer(llama):
    assert generate(llama, "abc", max_new_tokens=1).prompt == tuple(llama.tokenizer.encode("abc"))


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_what_is_no_causal_language_model_is_refused(family: str):
    with pytest.raises(Refused, match="no causal language model"):
        generate(tiny(family), PROMPT, max_new_tokens=1)


def test_unusable_requests_say_why(llama):
    with pytest.raises(BadInput, match="no tokens"):
        generate(llama, [], max_new_tokens=1)
    with pytest.raises(BadInput, match="at most 128"):
        generate(llama, PROMPT, max_new_tokens=118)
    with pytest.raises(BadInput, match="temperature 0 or more"):
        generate(llama, PROMPT, max_new_tokens=1, temperature=-1.0)
    with pytest.raises(Refused, match="no chat template"):
        generate(llama, "hello", max_new_tokens=1, chat=True)
    with pytest.raises(BadInput, match="stop texts"):
        generate(llama, PROMPT, max_new_tokens=1, stop=[""])
