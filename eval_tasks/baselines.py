"""Baselines that every board shows: the majority class, and a linear model of character n-grams.

In: a release and the tasks that are asked for. Out: for each pack one task, "row", whose documents are the corpus
rows behind those tasks (the same texts in the same order), and a log-score for each label. A baseline reads the
row itself, not a prompt, so templates and shots make no difference to it. Packs without exactly one label column
are passed over, with a note.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zhiling.console import note
from zhiling.errors import UserError
from zhiling.eval_tasks.task import COLUMNS, Task
from zhiling.store import read_manifest
from zhiling.templates.pack import Pack, read_pack

ROW = "row"
Scores = dict[str, list[float]]


class NoBaselineError(UserError):
    """Nothing here has the one label column that a baseline is fitted on."""


@dataclass(frozen=True)
class RowTask:
    """A pack's test rows as a task of its own, and the baseline's score for each label of each."""

    task: Task
    documents: pa.Table
    scores: Scores


def baseline_tasks(baseline: str, release: Path, tasks: Sequence[Task], limit: int | None) -> list[RowTask]:
    """What the baseline says of the rows behind `tasks`. Raises NoBaselineError where no pack has one label column."""
    corpora = read_manifest(release, "release")["corpora"]
    found = []
    for pack_name in sorted({t.pack for t in tasks}):
        pack = read_pack(release / "packs" / pack_name)
        if len(pack.label_columns) != 1:
            note(f"{pack_name}: {len(pack.label_columns)} label columns, baseline:{baseline} passes it over")
            continue
        names = [name for name, about in corpora.items() if about["pack"] == pack_name]
        first = next(t for t in tasks if t.pack == pack_name)
        found.append(_row_task(baseline, release, names, pack, first, limit))
    if not found:
        raise NoBaselineError(f"baseline:{baseline}", "no pack here has one label column", "score models only")
    return found


def _row_task(
    baseline: str, release: Path, corpora: list[str], pack: Pack, like: Task, limit: int | None
) -> RowTask:
    train, test = (_rows(release, corpora, pack, split) for split in ("train", "test"))
    by_id = {row["id"]: row for row in test}
    rows = [by_id[i] for i in _source_ids(like, limit)]
    labels = sorted(pack.labels_of(pack.label_columns[0]))
    texts, gold = [_text(r, pack) for r in train], [r[pack.label_columns[0]] for r in train]
    score = {"majority": majority, "linear": linear}[baseline]
    scores = score(texts, gold, [_text(r, pack) for r in rows], labels)
    made_from = {k: v for k, v in like.made_from.items() if k != "held_out_template"}
    task = Task(
        name=f"{pack.name.replace('/', '_')}_{ROW}", pack=pack.name, template=ROW, shots=0, kind=like.kind,
        language=like.language, free=False, files=(), filters=(), made_from=made_from,
    )
    documents = [_document(row, pack, labels) for row in rows]
    table = pa.table({name: [d[name] for d in documents] for name in COLUMNS})
    return RowTask(task, table, {r["id"]: s.tolist() for r, s in zip(rows, scores, strict=True)})


def _rows(release: Path, corpora: list[str], pack: Pack, split: str) -> list[dict[str, Any]]:
    columns = ["id", "group_id", *pack.settings.columns]
    files = [p for name in corpora for p in sorted((release / "corpus" / name).glob(f"{split}-*.parquet"))]
    return [row for path in files for row in pq.read_table(path, columns=columns).to_pylist()]


def _source_ids(task: Task, limit: int | None) -> list[str]:
    found: list[str] = list(dict.fromkeys(task.documents()["source_id"].to_pylist()))
    return found if limit is None else found[:limit]


def _text(row: dict[str, Any], pack: Pack) -> str:
    return "\n".join(str(row[c]) for c, kind in pack.settings.columns.items() if kind != "label")


def _document(row: dict[str, Any], pack: Pack, labels: list[str]) -> dict[str, Any]:
    label = row[pack.label_columns[0]]
    return {
        "id": row["id"], "prompt": _text(row, pack), "completion": label, "choices": labels,
        "answer": labels.index(label), "task": pack.settings.task, "language": pack.settings.language,
        "pack": pack.name, "template": ROW, "source_id": row["id"], "group_id": row["group_id"], "shots": 0,
    }


def majority(train: list[str], gold: list[str], texts: list[str], labels: list[str]) -> np.ndarray[Any, Any]:
    """Log-frequencies of the labels in train, the same for every text."""
    counts = np.array([gold.count(label) + 0.5 for label in labels])
    return np.tile(np.log(counts / counts.sum()), (len(texts), 1))


def linear(train: list[str], gold: list[str], texts: list[str], labels: list[str]) -> np.ndarray[Any, Any]:
    """A linear SVM on TF-IDF of character 1-3-grams; its margins, log-normalised (not calibrated)."""
    from scipy.special import log_softmax
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    if len(set(gold)) < 2:
        return majority(train, gold, texts, labels)
    rare = 2 if len(train) > 1000 else 1
    grams = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=rare, sublinear_tf=True)
    model = LinearSVC(random_state=0).fit(grams.fit_transform(train), gold)
    margins = model.decision_function(grams.transform(texts))
    if margins.ndim == 1:
        margins = np.stack([-margins, margins], axis=1) / 2
    scores = np.full((len(texts), len(labels)), margins.min() - 1.0)  # labels never seen in train
    for column, label in enumerate(model.classes_):
        scores[:, labels.index(label)] = margins[:, column]
    return np.asarray(log_softmax(scores, axis=1))
