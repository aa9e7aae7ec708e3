"""lm-eval, held at one place: a model or a table of scores is asked a task's documents.

In: a subject, tasks with their documents. Out: lm-eval's own results and samples for each task. lm-eval builds
the requests, calls the model and computes the metrics; nothing is downloaded and no code of a task is run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate

from zhiling.eval_tasks.task import Task

Results = dict[str, Any]


class RenderedTask(ConfigurableTask):  # type: ignore[misc]
    """An lm-eval task whose documents are at hand as a table."""

    def __init__(self, config: dict[str, Any], documents: pa.Table) -> None:
        self._documents = documents
        super().__init__(config=config)

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Take the documents that were given; nothing is fetched."""
        from datasets import Dataset

        self.dataset = {"test": Dataset(self._documents)}


class ScoresLM(LM):  # type: ignore[misc]
    """A "model" that looks its log-probabilities up by document: how baselines go through lm-eval too."""

    def __init__(self, scores: Mapping[str, Sequence[float]]) -> None:
        super().__init__()
        self._scores = scores

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """The score of each requested choice, and whether it is the best of its document."""
        found = []
        for request in requests:
            row = self._scores[request.doc["id"]]
            found.append((float(row[request.idx]), row[request.idx] == max(row)))
        return found

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Baselines give texts no probability."""
        raise NotImplementedError("a baseline scores choices only")

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Baselines write nothing."""
        raise NotImplementedError("a baseline scores choices only")


def ask(lm: LM, task: Task, documents: pa.Table, bootstrap: int = 1000) -> Results:
    """Ask one task's documents; lm-eval's results, with its samples."""
    asked = RenderedTask(task.config(), documents)
    found = evaluate(lm=lm, task_dict={"tasks": {task.name: asked}}, bootstrap_iters=bootstrap, log_samples=True)
    found["n-shot"][task.name] = task.shots
    return dict(found)
