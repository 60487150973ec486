"""States as MTEB models: every state of a model behind the `mteb` library, all from one cached pass.

The library (extra `eval`) sees one encoder a state, each under a name of its own so that stored results do not mix. A
text is read once for all states: the first encoder that meets it reads it, the others take it from the shared cache.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from depthscope.engine.pooled import pooled
from depthscope.errors import BadInput, MissingPackage
from depthscope.runtime.model import Model

TASKS: Mapping[str, tuple[str, ...]] = {
    "classification": (
        "AmazonCounterfactualClassification", "AmazonReviewsClassification", "Banking77Classification",
        "EmotionClassification", "MTOPDomainClassification", "MTOPIntentClassification",
        "MassiveIntentClassification", "MassiveScenarioClassification", "ToxicConversationsClassification",
        "TweetSentimentExtractionClassification",
    ),
    "clustering": (
        "ArxivClusteringS2S", "BiorxivClusteringS2S", "MedrxivClusteringS2S", "RedditClustering",
        "StackExchangeClustering", "TwentyNewsgroupsClustering",
    ),
    "pair": ("SprintDuplicateQuestions", "TwitterSemEval2015", "TwitterURLCorpus"),
    "reranking": ("AskUbuntuDupQuestions", "MindSmallReranking", "SciDocsRR", "StackOverflowDupQuestions"),
    "sts": ("BIOSSES", "SICK-R", "STS12", "STS13", "STS14", "STS15", "STS16", "STS17", "STSBenchmark"),
}  # fmt: skip
"""The 32 tasks of Skean et al. 2025 by name: the benchmark's own name now means another list."""


@dataclass
class StateCache:
    """Pooled vectors of every text met so far, at all states up to the deepest that is asked for.

    Args:
        norm: each state after the model's final norm, as a truncated model gives it. upto: the deepest state.
    """

    model: Model
    pooling: str = "mean"
    norm: bool = True
    max_tokens: int = 512
    upto: int | None = None
    kept: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    read: int = 0
    """Texts that the model has read."""

    def vectors(self, texts: Sequence[str], state: int) -> Float[np.ndarray, "text d_model"]:
        """One state's vectors; texts that were not met before are read first, all in one pass."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self.kept]
        if fresh:
            found = pooled(
                self.model, fresh, self.pooling, norm=self.norm, max_tokens=self.max_tokens, upto=self.upto
            )
            self.kept.update(zip(fresh, found.vectors.transpose(1, 0, 2), strict=True))
            self.read += len(fresh)
        return np.stack([self.kept[text][state] for text in texts])


@dataclass(frozen=True)
class StateEncoder:
    """One state as `mteb` (version 2) wants an encoder: `encode` of a loader of batches, cosines, metadata."""

    cache: StateCache
    state: int

    @property
    def name(self) -> str:
        """What results are stored under: model, state, pooling and side of the norm."""
        side = "-norm" if self.cache.norm else ""
        model = self.cache.model.name.replace("/", "__").replace(" ", "-")
        return f"depthscope/{model}-state{self.state:02d}-{self.cache.pooling}{side}"

    @cached_property
    def mteb_model_meta(self) -> Any:  # noqa: ANN401  (a type of the library)
        """The library's description of this encoder."""
        # by name, since types are checked where this extra is not installed
        library: Any = importlib.import_module("mteb.models.model_meta")
        about = {
            "name": self.name,
            "revision": str(self.cache.model.provenance.get("weights_hash", "unknown")),
            "similarity_fn_name": library.ScoringFunction.COSINE,
            "embed_dim": self.cache.model.anatomy.d_model,
            "max_tokens": float(self.cache.max_tokens),
        }
        return library.ModelMeta.create_empty(about)

    def encode(self, inputs: Iterable[Mapping[str, Any]], **about: Any) -> np.ndarray:
        """Vectors [text, d_model] of all texts of the batches, in order; what else the library says changes nothing."""
        del about
        return self.cache.vectors([text for batch in inputs for text in batch["text"]], self.state)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:  # noqa: ANN401
        """Cosines of each with each."""
        return _unit(embeddings1) @ _unit(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:  # noqa: ANN401
        """Cosines of each with its partner."""
        return (_unit(embeddings1) * _unit(embeddings2)).sum(-1)


def encoders(
    model: Model, states: Sequence[int] | None = None, pooling: str = "mean", *, norm: bool = True
) -> tuple[StateEncoder, ...]:
    """One encoder a state (all where none is named), with one cache between them.

    Raises:
        BadInput: for a state that the model does not have.
    """
    every = range(model.anatomy.n_layers + 1)
    chosen = list(every) if states is None else list(states)
    wrong = [state for state in chosen if state not in every]
    if wrong or not chosen:
        raise BadInput(f"states={chosen}; {model.name} has states 0 to {every[-1]}")
    cache = StateCache(model, pooling, norm, upto=max(chosen))
    return tuple(StateEncoder(cache, state) for state in chosen)


def mteb_scores(
    found: Sequence[StateEncoder], tasks: Sequence[Any], **how: Any
) -> dict[str, Float[np.ndarray, " state"]]:
    """Main score of each task at each state, by the library's own evaluators.

    Args:
        tasks: the library's task objects (`mteb.get_tasks(tasks=[...])`, by the names in `TASKS`). how: more for
            `mteb.evaluate`, such as `cache`; without one nothing is stored.

    Raises:
        MissingPackage: where mteb is not installed.
    """
    try:
        mteb: Any = importlib.import_module("mteb")
    except ImportError as error:
        raise MissingPackage("mteb", "pip install 'depthscope[eval]'") from error
    scores: dict[str, list[float]] = {}
    for encoder in found:
        how = {"cache": None, "show_progress_bar": False, "co2_tracker": False, **how}
        # the protocol of the library also wants its constructor, which nothing calls for a made encoder
        made: Any = encoder
        for result in mteb.evaluate(made, tasks, **how).task_results:
            scores.setdefault(result.task_name, []).append(float(result.get_score()))
    return {task: np.asarray(values) for task, values in scores.items()}


def _unit(vectors: Any) -> torch.Tensor:  # noqa: ANN401  (array or tensor)
    flat = torch.as_tensor(vectors, dtype=torch.float32)
    return torch.nn.functional.normalize(flat if flat.dim() > 1 else flat[None], dim=-1)
