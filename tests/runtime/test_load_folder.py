"""Loading checkpoints from folders and from the hub's cache: what is asked for arrives whole, or the reason does."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from depthscope.errors import BadInput, LoadError, Refused, UnknownName, UnsupportedModel
from depthscope.runtime.fingerprint import weights_hash
from depthscope.runtime.load import Notice, load, recipe_load

SIZES = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
    "num_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip
IDS = torch.tensor([[5, 17, 42, 8, 60, 3]])


def saved(folder: Path, net: transformers.PreTrainedModel) -> Path:
    net.eval().save_pretrained(folder)
    return folder


def llama_net() -> transformers.PreTrainedModel:
    torch.manual_seed(1)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, num_key_value_heads=2))


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return saved(tmp_path / "llama", llama_net())


def logits_of(net: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return net(IDS).logits


def test_a_folder_gives_the_logits_it_was_saved_with(llama: Path):
    model = load(llama)
    torch.testing.assert_close(logits_of(model.net), logits_of(llama_net().eval()), rtol=0, atol=0)
    assert (model.anatomy.name, model.anatomy.n_layers, model.anatomy.guessed) == ("llama", 3, False)
    assert model.tokenizer is None
    assert not model.net.training
    assert model.provenance["name"] == str(llama)


def test_a_type_can_be_asked_for_and_the_checkpoints_own_is_the_default(tmp_path: Path):
    folder = saved(tmp_path / "half", llama_net().to(torch.bfloat16))
    assert load(folder).dtype == torch.bfloat16
    assert load(folder, dtype="auto").dtype == torch.bfloat16
    assert load(folder, dtype="float64").dtype == torch.float64
    assert load(folder, dtype=torch.float32).dtype == torch.float32
    with pytest.raises(UnknownName, match="did you mean 'float32'"):
        load(folder, dtype="float23")


def test_a_float16_checkpoint_runs_in_float32_unless_forced(tmp_path: Path):
    net = llama_net().to(torch.float16)
    folder = saved(tmp_path / "half", net)
    model = load(folder)
    assert model.dtype == torch.float32
    torch.testing.assert_close(model.net.lm_head.weight, net.lm_head.weight.float(), rtol=0, atol=0)
    with pytest.raises(Refused, match="65,504"):
        load(folder, dtype="float16")
    assert load(folder, dtype="float16", force=True).dtype == torch.float16


def test_a_recipe_loads_the_same_weights_again(llama: Path):
    model = load(llama, dtype="bfloat16")
    again = recipe_load(model.provenance["recipe"])
    assert again.provenance == model.provenance
    tiny = load("tiny-gpt2", dtype="float32")
    assert recipe_load(tiny.provenance["recipe"]).dtype == torch.float32
    assert weights_hash(recipe_load(tiny.provenance["recipe"]).net) == tiny.provenance["weights_hash"]
    with pytest.raises(BadInput, match="'load' or 'tiny'"):
        recipe_load({"name": "x"})


def test_the_hash_sees_one_changed_bit_and_nothing_else(llama: Path):
    first, second = llama_net(), llama_net()
    assert weights_hash(first) == weights_hash(second) == load(llama).provenance["weights_hash"]
    with torch.no_grad():
        second.model.layers[1].mlp.up_proj.weight[3, 4].nextafter_(torch.tensor(1.0))
    assert weights_hash(first) != weights_hash(second)
    assert weights_hash(first) != weights_hash(llama_net().to(torch.bfloat16))


def test_missing_weights_are_refused_instead_of_made_up(llama: Path):
    weights = load_file(llama / "model.safetensors")
    del weights["model.layers.2.mlp.up_proj.weight"]
    save_file(weights, llama / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LoadError, match=r"lacks 1 weights .*layers\.2\.mlp\.up_proj"):
        load(llama)


def test_without_a_head_in_the_files_the_model_loads_without_one(tmp_path: Path):
    folder = saved(tmp_path / "base", llama_net().model)
    model = load(folder)
    assert not model.anatomy.has_unembedding()
    config = json.loads((folder / "config.json").read_text())
    del config["architectures"]
    (folder / "config.json").write_text(json.dumps(config))
    assert not load(folder).anatomy.has_unembedding()


def test_an_encoder_loads_with_the_head_its_checkpoint_names(tmp_path: Path):
    config = transformers.BertConfig(**SIZES)
    torch.manual_seed(0)
    masked = load(saved(tmp_path / "masked", transformers.BertForMaskedLM(config)))
    assert masked.anatomy.has_unembedding()
    bare = load(saved(tmp_path / "bare", transformers.BertModel(config, add_pooling_layer=False)))
    assert not bare.anatomy.has_unembedding()


def test_a_vision_model_loads_without_its_classifier(tmp_path: Path):
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=16,
        patch_size=4,
    )
    model = load(saved(tmp_path / "vit", transformers.ViTForImageClassification(config)))
    assert (model.anatomy.name, model.tokenizer) == ("vit", None)


def test_the_tokenizer_of_a_folder_comes_along(tmp_path: Path, llama: Path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    code = Tokenizer(models.WordLevel({"[UNK]": 0, "one": 1, "two": 2}, unk_token="[UNK]"))
    code.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=code, unk_token="[UNK]").save_pretrained(llama)
    assert load(llama).tokenizer.encode("two one two") == [2, 1, 2]
    (llama / "tokenizer.json").write_text("{not json")
    with pytest.raises(LoadError, match="the tokenizer of"):
        load(llama)


def test_a_plain_pickle_of_tensors_is_read(llama: Path):
    weights = load_file(llama / "model.safetensors")
    (llama / "model.safetensors").unlink()
    torch.save(weights, llama / "pytorch_model.bin")
    torch.testing.assert_close(logits_of(load(llama).net), logits_of(llama_net().eval()), rtol=0, atol=0)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(llama: Path, tmp_path: Path):
    mark = tmp_path / "it_ran"

    class Harmful:
        def __reduce__(self):
            return Path.touch, (mark,)

    (llama / "model.safetensors").unlink()
    with (llama / "pytorch_model.bin").open("wb") as file:
        pickle.dump({"model.embed_tokens.weight": Harmful()}, file)
    with pytest.raises(LoadError, match="the weights of"):
        load(llama)
    assert not mark.exists()


def test_code_in_a_checkpoint_does_not_run_unless_asked(llama: Path):
    config = json.loads((llama / "config.json").read_text())
    config |= {"model_type": "home_made", "auto_map": {"AutoConfig": "mine.MineConfig"}}
    (llama / "config.json").write_text(json.dumps(config))
    mark = llama / "it_ran"
    (llama / "mine.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    with pytest.raises(LoadError, match="pass trust_remote_code"):
        load(llama)
    assert not mark.exists()


def test_quantised_weights_are_refused(llama: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transformers.LlamaForCausalLM, "is_quantized", True, raising=False)
    with pytest.raises(Refused, match="quantised"):
        load(llama)


def test_a_model_that_is_not_all_in_memory_is_refused(llama: Path):
    with pytest.raises((Refused, LoadError)) as caught:
        load(llama, device_map={"model": "cpu", "lm_head": "meta"})
    assert "meta" in str(caught.value)


def test_one_device_for_everything_is_taken(llama: Path):
    assert load(llama, device_map={"": "cpu"}).device == torch.device("cpu")
    assert load(llama, device="cpu", attn_implementation="eager").config._attn_implementation == "eager"


def test_an_undeclared_architecture_is_used_with_a_notice_where_its_guess_breaks_no_law(tmp_path: Path):
    config = transformers.Starcoder2Config(**SIZES, num_key_value_heads=2, sliding_window=None)
    torch.manual_seed(0)
    folder = saved(tmp_path / "coder", transformers.Starcoder2ForCausalLM(config))
    with pytest.warns(Notice, match="starcoder2.*breaks no law"):
        model = load(folder)
    assert model.anatomy.guessed


def test_an_undeclared_architecture_whose_guess_breaks_a_law_is_refused_with_the_literal(tmp_path: Path):
    config = transformers.GraniteConfig(**SIZES, num_key_value_heads=2, residual_multiplier=0.3)
    torch.manual_seed(0)
    folder = saved(tmp_path / "granite", transformers.GraniteForCausalLM(config))
    with pytest.raises(UnsupportedModel, match=r"(?s)law 1 .*FAMILY = Family\("):
        load(folder)


def test_what_is_no_model_says_what_it_is(tmp_path: Path):
    with pytest.raises(LoadError, match=r"no config\.json \(it holds nothing"):
        load(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(LoadError, match=r"a file, but no \.gguf"):
        load(tmp_path / "notes.txt")
    with pytest.raises(LoadError, match="there is no model at"):
        load(tmp_path / "absent" / "deep")
    with pytest.raises(LoadError, match="did you mean 'smollm2-135m'"):
        load("smollm2-135")
    with pytest.raises(UnknownName, match="did you mean 'llama'"):
        load("tiny-lama")


def test_a_torn_weights_file_is_a_load_error(llama: Path):
    whole = (llama / "model.safetensors").read_bytes()
    (llama / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LoadError, match="the weights of"):
        load(llama)


def test_offline_a_hub_id_that_was_never_downloaded_says_where_it_was_looked_for():
    with pytest.raises(LoadError, match=r"someone/unknown.*hub cache .*HF_HUB_OFFLINE is set.*give a folder"):
        load("someone/unknown")


def test_offline_a_downloaded_hub_id_loads_with_its_commit(llama: Path, tmp_path: Path):
    """A cache folder laid out as the hub's client lays it out; a fresh process, since the place is read once."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    home = tmp_path / "hub" / "models--someone--little"
    shutil.copytree(llama, home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    code = (
        "from depthscope.runtime.load import load; m = load('someone/little'); "
        "print(m.provenance['revision'], m.anatomy.n_layers)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=120,
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.stdout.split() == [commit, "3"], done.stderr
    assert done.stderr == ""
