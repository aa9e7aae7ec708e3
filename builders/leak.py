"""What a leak is worth: the score of a linear model under a naive split by rows and under this release's split.

In: the rows of a corpus as read, and as split. Out: macro-F1 of TF-IDF over character 1-3-grams with a LinearSVC,
trained and tested on each split; and the rows whose label such models, trained on the other rows, contradict most.
Nothing is dropped for that: a person decides.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field

from zhiling.builders.clean import fold_key
from zhiling.builders.engines import Piece, RowGroup, read_output
from zhiling.rows import Columns
from zhiling.seeds import draw, uniform
from zhiling.settings import Settings

FOLDS = 3
SHOWN = 500  # characters of a text in a list
SCORE_SCHEMA = pa.schema([("naive", pa.float64()), ("split", pa.float64())])
ERROR_SCHEMA = pa.schema(
    [
        ("corpus", pa.string()), ("id", pa.string()), ("source", pa.string()), ("split", pa.string()),
        ("label", pa.string()), ("suggested", pa.string()), ("margin", pa.float64()), ("text", pa.string()),
    ]
)


class ReviewSettings(Settings):
    """What is worked out for people to look at; it costs a few fits of a linear model on each corpus with labels."""

    leak_scores: bool = Field(False, description="a linear model's score under a naive split and under this one")
    label_errors: int = Field(0, ge=0, description="rows listed whose label a cross-validated model contradicts most")
    rows: int = Field(40_000, ge=100, description="rows that a model is fitted on at most, whole groups by keyed draw")


@dataclass(frozen=True)
class ReviewJob:
    """A corpus as read and as split."""

    read: tuple[RowGroup, ...]
    split: tuple[RowGroup, ...]
    columns: Columns
    settings: ReviewSettings
    seed: int


@dataclass(frozen=True)
class Labelled:
    """Texts with their label, what keeps them together, and where they stand."""

    texts: list[str]
    labels: list[str]
    groups: list[str]
    rows: list[dict[str, Any]]


def score_splits(job: ReviewJob) -> Iterator[Piece]:
    """One row: the model's macro-F1 under a naive random split of the rows as read, and under the release's own."""
    raw = _labelled(job, job.read)
    naive = [r["_naive"] for r in raw.rows]
    own = _labelled(job, job.split)
    test = [r["split"] == "test" for r in own.rows]
    train = [r["split"] == "train" for r in own.rows]
    counts = _counts([*raw.texts, *own.texts])
    scores = [
        _score(counts[: len(raw.texts)], raw, [not t for t in naive], naive),
        _score(counts[len(raw.texts) :], own, train, test),
    ]
    yield Piece(pa.table({name: [s] for name, s in zip(SCORE_SCHEMA.names, scores, strict=True)}, schema=SCORE_SCHEMA))


def find_label_errors(job: ReviewJob) -> Iterator[Piece]:
    """The rows whose label models that never saw their group contradict most, the most certain first."""
    rows = _labelled(job, job.split)
    fold = [draw(job.seed, "review fold", g) % FOLDS for g in rows.groups]
    found: list[dict[str, Any]] = []
    counts = _counts(rows.texts)
    for held in range(FOLDS):
        train = [i for i, f in enumerate(fold) if f != held]
        test = [i for i, f in enumerate(fold) if f == held]
        if not test or len({rows.labels[i] for i in train}) < 2:
            continue
        found += _contradicted(counts, rows, train, test)
    found.sort(key=lambda r: (-r["margin"], r["id"]))
    yield Piece(pa.Table.from_pylist(found[: job.settings.label_errors], schema=ERROR_SCHEMA))


def measure(files: Sequence[Path]) -> dict[str, int]:
    """The leak of the split rows in `files`, measured: test rows, and those of them whose group stands in train."""
    import duckdb

    count = """
        WITH rows AS MATERIALIZED (FROM given)
        SELECT count(*) AS test_rows, count(*) FILTER (group_id IN (SELECT group_id FROM rows WHERE split = 'train'))
        FROM rows WHERE split = 'test'"""
    schema = pa.schema([("group_id", pa.string()), ("split", pa.string())])
    tables = (read_output(path, schema.names) for path in files)
    with duckdb.connect() as db:
        given = (batch for table in tables for batch in table.to_batches())
        db.register("given", pa.RecordBatchReader.from_batches(schema, given))
        found = db.execute(count).fetchone()
    assert found is not None
    return dict(zip(("test_rows", "leaked_rows"), found, strict=True))


def _labelled(job: ReviewJob, parts: Sequence[RowGroup]) -> Labelled:
    """The rows with their texts; where there are more than a model is fitted on, whole groups of them by keyed draw."""
    label = next(c for c, kind in job.columns.items() if kind == "label")
    strings = [c for c, kind in job.columns.items() if kind == "string"]
    found = Labelled([], [], [], [])
    for part in parts:
        for row in part.read().to_pylist():
            text = "\n".join(row[c] for c in strings)
            found.texts.append(text)
            found.labels.append(row[label])
            found.groups.append(row.get("group_id") or fold_key([text]))
            found.rows.append({k: row.get(k) for k in ("id", "corpus", "source", "split", "_naive")})
    keep = job.settings.rows / max(1, len(found.rows))
    if keep >= 1:
        return found
    kept = [i for i, g in enumerate(found.groups) if uniform(job.seed, "review", g) < keep]
    texts, labels, groups = ([column[i] for i in kept] for column in (found.texts, found.labels, found.groups))
    return Labelled(texts, labels, groups, [found.rows[i] for i in kept])


def _counts(texts: Sequence[str]) -> Any:
    """How often each text, a row, holds each character 1-3-gram; equal texts are looked at once."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    places: dict[str, int] = {}
    rows = [places.setdefault(text, len(places)) for text in texts]
    return CountVectorizer(analyzer="char", ngram_range=(1, 3), dtype=np.float32).fit_transform(places)[rows]


def _fit(counts: Any, labels: Sequence[str]) -> tuple[Any, Callable[[Any], Any]]:
    """A model of TF-IDF vectors, and what makes such of counts: grams that it was not trained on do not count."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.svm import LinearSVC

    seen = np.flatnonzero(counts.getnnz(axis=0))
    weights = TfidfTransformer().fit(counts[:, seen])
    model = LinearSVC(random_state=0).fit(weights.transform(counts[:, seen]), labels)
    return model, lambda more: weights.transform(more[:, seen])


def _score(counts: Any, rows: Labelled, train: Sequence[bool], test: Sequence[bool]) -> float | None:
    """Macro-F1 on the test rows; None where there is nothing to train on or to test."""
    from sklearn.metrics import f1_score

    known = [label for label, t in zip(rows.labels, train, strict=True) if t]
    if len(set(known)) < 2 or len(known) < 20 or not any(test):
        return None
    model, vectors = _fit(counts[_places(train)], known)
    guessed = model.predict(vectors(counts[_places(test)]))
    truth = [label for label, t in zip(rows.labels, test, strict=True) if t]
    return round(float(f1_score(truth, guessed, average="macro", zero_division=0)), 4)


def _places(chosen: Sequence[bool]) -> list[int]:
    return [i for i, own in enumerate(chosen) if own]


def _contradicted(counts: Any, rows: Labelled, train: list[int], test: list[int]) -> Iterator[dict[str, Any]]:
    import numpy as np

    model, vectors = _fit(counts[train], [rows.labels[i] for i in train])
    margins = model.decision_function(vectors(counts[test]))
    if margins.ndim == 1:
        margins = np.stack([-margins, margins], axis=1)
    classes = model.classes_.tolist()
    for i, row in zip(test, margins, strict=True):
        best, label = int(row.argmax()), rows.labels[i]
        if classes[best] != label:
            own = row[classes.index(label)] if label in classes else 0.0
            margin = round(float(row[best] - own), 3)
            yield {**rows.rows[i], "label": label, "suggested": classes[best], "margin": margin,
                   "text": rows.texts[i][:SHOWN]}
