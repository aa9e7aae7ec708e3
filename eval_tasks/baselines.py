"""Baselines that every board shows: the majority class, and a linear model of character n-grams.

In: the labelled rows behind the tasks that are asked for, of a release or of public data sets. Out: for each pack one
task, "row", whose documents are the rows behind those tasks (the same texts in the same order), and a log-score for
each label. A baseline learns from the train rows alone and reads the row itself, not a prompt, so templates and shots
make no difference to it. Packs without exactly one label column are passed over, with a note.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
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
Row = dict[str, Any]
Scores = dict[str, list[float]]
Array = np.ndarray[Any, Any]
Baseline = Callable[[list[str], list[str], list[str], list[str]], Array]


class NoBaselineError(UserError):
    """Nothing here has the one label column that a baseline is fitted on."""


@dataclass(frozen=True)
class Labelled:
    """The rows behind some tasks of one pack: what a baseline learns from, and what it is asked."""

    like: Task          # one of the tasks
    pack: Pack
    train: list[Row]    # with `id`, `group_id` and the pack's columns
    test: list[Row]


Score = Callable[[Labelled, list[str]], Array]


@dataclass(frozen=True)
class RowTask:
    """A pack's test rows as a task of its own, and the baseline's score for each label of each."""

    task: Task
    documents: pa.Table
    scores: Scores


def of_release(release: Path, tasks: Sequence[Task], limit: int | None) -> list[Labelled]:
    """The rows behind a release's tasks: it keeps its corpora."""
    corpora = read_manifest(release, "release")["corpora"]
    found = []
    for like in _one_of_each(tasks):
        pack = read_pack(release / "packs" / like.pack)
        names = [name for name, about in corpora.items() if about["pack"] == like.pack]
        train, test = (list(_rows(release, names, pack, split)) for split in ("train", "test"))
        found.append(_labelled(like, pack, train, test, limit))
    return found


def of_public(data: str | None, tasks: Sequence[Task], limit: int | None) -> list[Labelled]:
    """The rows behind public data sets' tasks; shipped packs' examples have nothing to learn from."""
    from zhiling.eval_tasks.documents import Rows
    from zhiling.eval_tasks.public import PUBLIC, ask_public

    def rows(source: Rows) -> list[Row]:
        several = zip(source.values, source.ids, source.groups, strict=True)
        return [{**row, "id": row_id, "group_id": group} for row, row_id, group in several]

    found = []
    for like in _one_of_each(tasks):
        if data is None or like.pack not in PUBLIC:
            note(f"{like.pack}: no train rows, baselines pass it over")
            continue
        asked = ask_public(PUBLIC[like.pack], data)
        found.append(_labelled(like, asked.pack, rows(asked.train), rows(asked.test), limit))
    return found


def baseline_tasks(baseline: str, rows: Sequence[Labelled]) -> list[RowTask]:
    """What the baseline says of each pack's rows. Raises NoBaselineError where no pack has one label column."""
    found = []
    for each in rows:
        if len(each.pack.label_columns) != 1 or not each.train:
            what = f"{len(each.pack.label_columns)} label columns" if each.train else "no train rows"
            note(f"{each.like.pack}: {what}, baseline:{baseline} passes it over")
            continue
        found.append(row_task(each, partial(_fitted, {"majority": majority, "linear": linear}[baseline])))
    if not found:
        raise NoBaselineError(
            f"baseline:{baseline}", "no pack here has train rows and one label column", "score models only"
        )
    return found


def _one_of_each(tasks: Sequence[Task]) -> list[Task]:
    """The first task of each pack, packs sorted."""
    first: dict[str, Task] = {}
    for task in tasks:
        first.setdefault(task.pack, task)
    return [first[name] for name in sorted(first)]


def _labelled(like: Task, pack: Pack, train: list[Row], test: list[Row], limit: int | None) -> Labelled:
    """The test rows are those that `like` asks, in its order."""
    by_id = {row["id"]: row for row in test}
    asked = dict.fromkeys(like.documents()["source_id"].to_pylist())
    return Labelled(like, pack, train, [by_id[i] for i in list(asked)[:limit]])


def row_task(each: Labelled, score: Score) -> RowTask:
    """The test rows as a task of their own, answered by `score`, which gives each label of each row a log-score."""
    like, pack = each.like, each.pack
    labels = sorted(pack.labels_of(pack.label_columns[0]))
    scores = score(each, labels)
    made_from = {k: v for k, v in like.made_from.items() if k != "held_out_template"}
    task = Task(
        name=f"{like.pack.replace('/', '_')}_{ROW}", pack=like.pack, template=ROW, shots=0, kind=like.kind,
        language=like.language, free=False, files=(), filters=(), made_from=made_from,
    )
    documents = [_document(row, each, labels) for row in each.test]
    table = pa.table({name: [d[name] for d in documents] for name in COLUMNS})
    return RowTask(task, table, {r["id"]: s.tolist() for r, s in zip(each.test, scores, strict=True)})


def _fitted(baseline: Baseline, each: Labelled, labels: list[str]) -> Array:
    """What a baseline, fitted on the train rows, says of the test rows."""
    (column,) = each.pack.label_columns
    texts, gold = [_text(r, each.pack) for r in each.train], [r[column] for r in each.train]
    return baseline(texts, gold, [_text(r, each.pack) for r in each.test], labels)


def _rows(release: Path, corpora: list[str], pack: Pack, split: str) -> Iterator[Row]:
    columns = ["id", "group_id", *pack.settings.columns]
    for path in (p for name in corpora for p in sorted((release / "corpus" / name).glob(f"{split}-*.parquet"))):
        yield from pq.read_table(path, columns=columns).to_pylist()


def _text(row: Row, pack: Pack) -> str:
    return "\n".join(str(row[c]) for c, kind in pack.settings.columns.items() if kind != "label")


def _document(row: Row, each: Labelled, labels: list[str]) -> Row:
    label, settings = row[each.pack.label_columns[0]], each.pack.settings
    return {
        "id": row["id"], "prompt": _text(row, each.pack), "completion": label, "choices": labels,
        "answer": labels.index(label), "task": settings.task, "language": settings.language,
        "pack": each.like.pack, "template": ROW, "source_id": row["id"], "group_id": row["group_id"], "shots": 0,
    }


def majority(train: list[str], gold: list[str], texts: list[str], labels: list[str]) -> Array:
    """Log-frequencies of the labels in train, the same for every text."""
    counts = np.array([gold.count(label) + 0.5 for label in labels])
    return np.tile(np.log(counts / counts.sum()), (len(texts), 1))


def linear(train: list[str], gold: list[str], texts: list[str], labels: list[str]) -> Array:
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
