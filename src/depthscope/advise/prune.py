"""Prune: which layers of a model can go, what that costs, and a smaller checkpoint that loads.

Question: Which layers can be removed, what is lost on text and on tasks, and what is gained in speed and bytes?

Method: The first and the last layer, layers that write or take away a sink, and those that are asked for stay. One
clean pass and the removal of each layer alone score all others; influence, angular runs, single losses and a greedy
search propose sets of layers. Sets are screened by the rise of the loss on one half of the documents; the
best three of a size go to the tasks, answered by generation (choices by likelihood too), on one half of the items. The
winner's numbers come from the other halves: paired differences with 95 % bootstrap intervals and McNemar's exact test.
Speed, bytes and cache are measured on both models. The checkpoint is written, loaded again with plain
AutoModelForCausalLM, and held to the logits of skipping.

How to read: A task holds when the interval of its difference lies above the margin, fails when it lies below, and
is undecided otherwise, with the number of items that would decide it. Speed stands beside the share of layers:
embedding and head do not shrink.

What misleads: A small rise of the loss says little of tasks: arithmetic falls while loss and facts look
fine. Likelihood of options looks healthy where writing has collapsed. Speeds hold for this machine, these batch sizes
and lengths. Nothing was trained after the removal.

Source: Song et al. 2024 (arXiv 2402.09025); Men et al. 2024 (2403.03853); Gromov et al. 2024 (2403.17887); Kim et al.
2024 (2402.02834); layer removal and arithmetic: 2510.02091, 2602.01997.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from depthscope.advise.shorten import exportable
from depthscope.engine.study import Work
from depthscope.errors import BadInput
from depthscope.materials.tasks import NEEDED, Task, load_tasks
from depthscope.results.result import Findings
from depthscope.runtime.model import Model


@dataclass(frozen=True)
class Prune:
    """Which layers can go.

    Args:
        remove: layers to remove, or 0 where `budget` says how many. budget: with tasks the points of 100 items that
            each task may lose, shown by its interval; without tasks the percent by which perplexity may rise.
        tasks: a file of tasks (materials.tasks), "" for none. margin: points that a task may lose where `remove` is
            given; half of it for critical tasks. needed: fewest items of a task. chat: prompts as a user's messages.
        protect: layers that stay. most: the largest removal tried for a budget, 0 for a third of the layers.
        shortlist: sets of a size that go to the tasks. lazy, beam: of the greedy search.
        prompt, new, batches, warmup, repeats: of the measured speeds.
    """

    remove: int = 0
    budget: float = 0.0
    tasks: str = ""
    margin: float = 2.0
    needed: int = NEEDED
    chat: bool = False
    protect: tuple[int, ...] = ()
    most: int = 0
    shortlist: int = 3
    lazy: int = 5
    beam: int = 3
    prompt: int = 128
    new: int = 16
    batches: tuple[int, ...] = (1, 8)
    warmup: int = 3
    repeats: int = 10

    def depends(self) -> Mapping[str, Any]:
        """The items of the tasks."""
        return {"tasks": {task.name: task.hash for task in self.loaded()}}

    def loaded(self) -> tuple[Task, ...]:
        """The tasks; errors as in `load_tasks`."""
        return load_tasks(self.tasks, self.needed) if self.tasks else ()

    def check(self, model: Model) -> None:
        """Nothing, where the study can begin on this model.

        Raises:
            BadInput: for neither or both of remove and budget, or values out of range.
            Refused: for models that cannot be exported.
        """
        depth = model.anatomy.n_layers
        exportable(model)
        if bool(self.remove) == bool(self.budget):
            raise BadInput("give either the number of layers to remove or a budget, not both or neither")
        if not 0 <= self.remove < depth - 1:
            raise BadInput(
                f"{self.remove} layers cannot be removed: {model.name} has {depth}, and the first and the last stay"
            )
        if not 0 <= self.budget < 100 or not 0 < self.margin < 100:
            raise BadInput(
                f"budget {self.budget:g} and margin {self.margin:g} are points of 100: above 0 and below 100 "
                "(that nothing at all is lost cannot be shown)"
            )
        wrong = [k for k in self.protect if not 0 <= k < depth]
        if wrong:
            raise BadInput(f"layers {wrong} cannot be protected; {model.name} has layers 0 to {depth - 1}")
        self.loaded()

    def run(self, work: Work) -> Findings:
        """Propose, screen, verify, measure, export."""
        self.check(work.model)
        from depthscope.advise.pruning import Pruning

        return Pruning(self, work).run()
