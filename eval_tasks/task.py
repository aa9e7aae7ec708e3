"""A task: which rendered rows it asks, and how lm-eval is told to ask them.

In: Parquet files of example rows and a filter that picks one pack, template and number of shots. Out: the
documents as a table, and lm-eval's configuration of the task, which holds no code: lm-eval only reads `prompt`,
`choices` and `answer` from rows that were rendered before.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zhiling.errors import UserError, did_you_mean, one_line
from zhiling.store import digest
from zhiling.templates.pack import Pack

COLUMNS = (
    "id", "prompt", "completion", "choices", "answer", "task", "language", "pack", "template", "source_id",
    "group_id", "shots",
)
FIELDS = "fields"   # of a row, as JSON: what a metric has to know beside the completion
Filter = tuple[str, str, Any]
GENERATION: dict[str, Any] = {"until": ["\n\n"], "max_gen_toks": 128, "do_sample": False}
CODE = GENERATION | {"until": ["\n\n\n"], "max_gen_toks": 256}   # functions have blank lines in them
ENDS = r"^\s+|\s+$"  # white space around an answer says nothing


@dataclass(frozen=True)
class Task:
    """One lm-eval task: where its documents are, and what they were made from."""

    name: str
    pack: str
    template: str
    shots: int
    kind: str        # the pack's task, as classification
    language: str
    free: bool       # the answer is free text
    files: tuple[Path, ...]
    filters: tuple[Filter, ...]
    made_from: dict[str, Any] = field(default_factory=dict)  # release, pack version and digest, held out or not

    @property
    def area(self) -> str:
        """The group of packs that it belongs to: language and task, as `zh_classification`."""
        return f"{self.language}_{self.kind}"

    @property
    def metadata(self) -> dict[str, Any]:
        """What its YAML says about it."""
        about = {"pack": self.pack, "template": self.template, "shots": self.shots}
        return {"version": self.made_from.get("pack_version", "0"), **about, **self.made_from}

    def documents(self, limit: int | None = None) -> pa.Table:
        """Its documents, the first `limit` of them."""
        found = self._read(self.filters)
        return found if limit is None else found.slice(0, limit)

    def with_fewer_shots(self) -> pa.Table:
        """The documents of the same rows and template with fewer shots, as far as the files hold them."""
        return self._read(tuple(("shots", "<", f[2]) if f[0] == "shots" else f for f in self.filters))

    @property
    def generation(self) -> dict[str, Any]:
        """How a free text is written."""
        return dict(CODE if "pass_at_1" in self.made_from.get("metrics", []) else GENERATION)

    def _read(self, filters: tuple[Filter, ...]) -> pa.Table:
        known = pq.read_schema(self.files[0]).names
        columns = [name for name in (*COLUMNS, "seed", FIELDS) if name in known]  # a release has neither of the last
        return pq.read_table(list(self.files), columns=columns, filters=list(filters) or None)

    def config(self) -> dict[str, Any]:
        """How lm-eval asks it, but for where the documents are."""
        asked: dict[str, Any] = {"task": self.name, "test_split": "test"}
        asked |= {"doc_to_text": "prompt", "target_delimiter": ""}
        if self.free:
            exact = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True,
                     "regexes_to_ignore": [ENDS]}
            asked |= {"output_type": "generate_until", "doc_to_target": "completion",
                      "generation_kwargs": self.generation, "metric_list": [exact]}
        else:
            metrics = [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in ("acc", "acc_norm")]
            asked |= {"output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": "answer",
                      "metric_list": metrics}
        return {**asked, "num_fewshot": 0, "metadata": self.metadata}


def task_name(pack: str, template: str, shots: int) -> str:
    """lm-eval's name of a task: `zh_sentiment_cloze_3shot`."""
    return f"{pack.replace('/', '_')}_{template}_{shots}shot"


def said_by_pack(pack: Pack, template: str) -> dict[str, Any]:
    """What a pack says of how a template's answers are read and measured."""
    found = next((t for t in pack.settings.templates if t.name == template), None)
    if found is None:
        return {}
    parser = found.parser.model_dump(exclude_none=True) if found.parser else {}
    if parser.get("kind") == "first_choice":
        own = found.choices if isinstance(found.choices, dict | list) else _words(pack)
        parser["choices"] = list(own.values()) if isinstance(own, dict) else own
    if parser and found.rationale is not None:
        parser["line"] = "last"
    metrics = found.metrics if found.metrics is not None else pack.settings.metrics
    return {"metrics": list(metrics)} | ({"parser": parser} if parser else {})


def _words(pack: Pack) -> list[str]:
    return [word for column in pack.label_columns for word in pack.labels_of(column).values()]


def task_digest(task: Task) -> str:
    """sha256 (hex) of how a task asks, wherever its files stand."""
    return digest(task.config())


def documents_digest(documents: pa.Table) -> str:
    """sha256 (hex) of a task's documents."""
    return digest(documents.to_pylist())


def choose(
    tasks: Sequence[Task], where: str, packs: Collection[str] | None = None,
    templates: Collection[str] | None = None, shots: Collection[int] | None = None, generation: bool = False,
) -> list[Task]:
    """The tasks that are asked for; None asks for all. Raises UserError for a name that no task has.

    `packs` may name packs (`zh/sentiment`), areas (`zh_classification`) and tasks (`zh_sentiment_cloze_3shot`).
    """
    _known(where, "task", packs, {name for t in tasks for name in (t.pack, t.area, t.name)})
    _known(where, "template", templates, {t.template for t in tasks})
    _known(where, "shots", shots, {t.shots for t in tasks})
    chosen = [
        t for t in tasks
        if (packs is None or not {t.pack, t.area, t.name}.isdisjoint(packs))
        and (templates is None or t.template in templates)
        and (shots is None or t.shots in shots)
        and (generation or not t.free)
    ]
    if not chosen:
        saw = "no task is left" + ("" if generation else " (free-text templates are passed over)")
        raise UserError(where, saw, "ask for other packs, templates or shots, or for generation too")
    return chosen


def _known(where: str, what: str, wanted: Collection[Any] | None, known: Collection[Any]) -> None:
    for name in wanted or ():
        if name not in known:
            do = did_you_mean(str(name), {str(k) for k in known})
            raise UserError(where, f"no {what} '{one_line(str(name), 60)}' there", do)
