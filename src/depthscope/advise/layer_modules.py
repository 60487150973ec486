"""The modules of sentence-transformers that give one state of a model: written by the library's own save."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from depthscope.advise.layer_affine import Affine
from depthscope.advise.layer_recipe import MODES, Recipe
from depthscope.advise.shorten import truncated
from depthscope.engine.pooled import final_normed
from depthscope.errors import MissingPackage, Refused
from depthscope.runtime.checkpoint import quiet
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run

INSTALL = "pip install 'depthscope[eval]'"
SOURCE = "source"
"""Where in the growing folder the network lies from which the library makes its own files."""
TEXT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
TOGETHER = 4096


def library() -> Any:  # noqa: ANN401
    """The package sentence-transformers.

    Raises:
        MissingPackage: when it is not installed.
    """
    try:
        import sentence_transformers
    except ImportError as error:
        raise MissingPackage(
            "sentence-transformers, which writes and reads such encoders,", INSTALL
        ) from error
    return sentence_transformers


def exports(model: Model) -> None:
    """Nothing, where encoders of the model can be written, so that nobody searches in vain.

    Raises:
        MissingPackage: without the library. Refused: for models that cannot be cut, or whose tokenizer cannot be saved.
    """
    library()
    _padded(model)
    truncated(model, 1)


def written(model: Model, recipe: Recipe, affine: Affine | None, folder: Path) -> None:
    """Write an encoder into a folder as sentence-transformers writes it.

    Raises:
        MissingPackage: without the library. Refused: for models that it cannot hold, with the reason.
    """
    with quiet():
        first = _static(model, recipe) if recipe.state == 0 else _transformer(model, recipe, folder / SOURCE)
        made = library().SentenceTransformer(modules=[*first, *_behind(model, recipe, affine)], device="cpu")
        made.save(str(folder), create_model_card=False)
    shutil.rmtree(folder / SOURCE, ignore_errors=True)


def loaded(folder: Path, device: str) -> Any:  # noqa: ANN401  (a SentenceTransformer)
    """The encoder in a folder, as anybody would load it."""
    with quiet():
        return library().SentenceTransformer(str(folder), device=device, local_files_only=True)


def _transformer(model: Model, recipe: Recipe, source: Path) -> Iterable[nn.Module]:
    """The network that ends with the state, and the pooling of its tokens."""
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling, WeightedLayerPooling

    net = cast(Any, truncated(model, recipe.blocks(model)).net)
    net.config.output_hidden_states = recipe.raw(model)
    net.save_pretrained(source)
    _padded(model).save_pretrained(source)
    yield Transformer(
        str(source), model_kwargs={"dtype": model.dtype}, modality_config=TEXT, module_output_name="token_embeddings",  # pyright: ignore[reportArgumentType]
        max_seq_length=recipe.max_tokens,
    )  # fmt: skip
    width = model.anatomy.d_model
    if recipe.raw(model):
        place, states = _place(model, net, recipe.state)
        yield WeightedLayerPooling(
            width, states - 1, place, nn.Parameter(torch.eye(states - place)[0].clone())
        )
    yield Pooling(width, cast(Any, MODES[recipe.pooling]))


def _behind(model: Model, recipe: Recipe, affine: Affine | None) -> Iterable[nn.Module]:
    from sentence_transformers.base.modules import Dense, Normalize

    if affine is not None:
        if model.dtype != torch.float32:
            raise Refused(
                f"{recipe.post} is a map in float32, and {model.name} runs in {model.dtype}, which the library does "
                "not join: load the model with dtype float32"
            )
        out, width = affine.weight.shape
        yield Dense(
            width, out, activation_function=nn.Identity(), init_weight=torch.from_numpy(affine.weight),
            init_bias=torch.from_numpy(affine.bias),
        )  # fmt: skip
    if recipe.unit:
        yield Normalize()


@torch.no_grad()
def _place(model: Model, net: nn.Module, state: int) -> tuple[int, int]:
    """Where the library lists a state (Mamba's list begins behind block 0), and how many it lists."""
    ids = _some_ids(model)
    wanted = run(model, ids, read=[model.anatomy.states()[state]])[model.anatomy.states()[state]]
    cached = {"use_cache": False} if model.anatomy.family.causal else {}
    listed = net(input_ids=ids.to(model.device), output_hidden_states=True, **cached).hidden_states
    misses = [float((found - wanted).abs().max()) for found in listed]
    place = misses.index(min(misses))
    if min(misses) > 1e-3 * max(1.0, float(wanted.abs().max())):
        raise Refused(
            f"the network of {model.name} lists no state that is state {state} before the final norm; export it with "
            "the norm"
        )
    return place, len(listed)


def _some_ids(model: Model) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    embedding = cast(Any, model.net).get_input_embeddings()
    return torch.randint(3, embedding.weight.shape[0], (1, 12), generator=generator)


def _static(model: Model, recipe: Recipe) -> Iterable[nn.Module]:
    """A table of one vector an id, for state 0: where that depends on the id alone, so that no block is needed.

    Raises:
        Refused: for other poolings than the mean, tokenizers that add ids of their own, and states 0 with positions.
    """
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    tokenizer = _padded(model)
    why = _not_static(model, recipe, tokenizer)
    if why:
        raise Refused(
            f"state 0 of {model.name} cannot be exported without a block: {why}. Choose state 1 or more"
        )
    return [StaticEmbedding(tokenizer, embedding_weights=_table(model, recipe))]


def _not_static(model: Model, recipe: Recipe, tokenizer: Any) -> str:  # noqa: ANN401
    if recipe.pooling != "mean":
        return f"a table of words is averaged, not pooled by {recipe.pooling!r}"
    if not getattr(tokenizer, "is_fast", False):
        return "its tokenizer is not one of the tokenizers library"
    if len(tokenizer.encode("a")) != len(tokenizer.encode("a", add_special_tokens=False)):
        return "its tokenizer adds ids of its own, which such a table leaves out"
    same = torch.full((1, 2), int(_some_ids(model)[0, 0]))
    state = run(model, same, read=["L0.resid_pre"])["L0.resid_pre"][0]
    if float((state[0] - state[1]).abs().max()) > 1e-5 * float(state.abs().max()):
        return "its state 0 depends on the position too"
    return ""


def _table(model: Model, recipe: Recipe) -> Tensor:
    """State 0 of every id, [id, d_model], in float32."""
    ids = torch.arange(cast(Any, model.net).get_input_embeddings().weight.shape[0])
    parts: list[Tensor] = []
    for chunk in ids.split(TOGETHER):
        state = run(model, Batch.of_ids(chunk[:, None]), read=["L0.resid_pre"])["L0.resid_pre"][:, 0]
        parts.append((final_normed(model, state) if recipe.norm else state).float().cpu())
    return torch.cat(parts).detach().contiguous()


def _padded(model: Model) -> Any:  # noqa: ANN401  (a tokenizer of transformers)
    """The tokenizer with a pad token, padding on the right: behind a text, pads reach no token of a causal model."""
    if not hasattr(model.tokenizer, "save_pretrained"):
        raise Refused(
            f"the tokenizer of {model.name} is no tokenizer of transformers; it cannot be saved with an encoder"
        )
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.bos_token
    if tokenizer.pad_token is None:
        raise Refused(
            f"the tokenizer of {model.name} has no token that could pad: no pad, end, unknown or begin token"
        )
    return tokenizer
