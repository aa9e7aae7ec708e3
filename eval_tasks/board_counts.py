"""Counts behind a tally: confusion matrices, macro-F1, calibration.

In: a `Tally`, and the true labels of its texts where a baseline's results tell them. Out: small tables of numbers.
Templates put one label in many words; what they say is led back to labels before it is added up, and a template
whose answers cannot be led back is left out and not guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from zhiling.eval_tasks.board_read import Field, Tally, TaskKey
from zhiling.eval_tasks.statistics import Array

BINS = 10
OTHER = "…"


@dataclass(frozen=True)
class Confusion:
    """Counts of (true label, answer), added up over `templates`."""

    labels: tuple[str, ...]
    counts: Array
    templates: tuple[str, ...]


def labels_of(field: Field, task: TaskKey) -> dict[str, str]:
    """The true label of each text as a baseline's results tell it; without one, in the words of a template."""
    tallies = [(name, t) for (name, key, _), t in sorted(field.tallies.items(), key=lambda x: x[0]) if key == task]
    for name, tally in tallies:
        if field.models[name].baseline and tally.classes[0]:
            return _right_words(tally, 0)
    return words_of(max((tally for _, tally in tallies), key=lambda t: len(t.items)))


def words_of(tally: Tally) -> dict[str, str]:
    """Each text's right word in the template whose words most other templates can be led back to."""
    with_classes = [i for i, names in enumerate(tally.classes) if names]
    if not with_classes:
        return {}
    fits = {i: sum(_one_to_one(tally, j, tally.targets[i]) is not None for j in with_classes) for i in with_classes}
    return _right_words(tally, max(with_classes, key=lambda i: (fits[i], -i)))


def _right_words(tally: Tally, template: int) -> dict[str, str]:
    targets = tally.targets[template].reshape(len(tally.items), -1).max(axis=1)  # the same whatever the exemplars
    told = zip(tally.items, targets.tolist(), strict=True)
    return {item: tally.classes[template][target] for item, target in told if target >= 0}


def confusion(tally: Tally, template: int) -> Array:
    """Counts of (true class, answer) of one template, in its own words."""
    size = len(tally.classes[template])
    asked = (tally.targets[template] >= 0) & (tally.answers[template] >= 0)
    return _count(tally.targets[template][asked], tally.answers[template][asked], size)


def _count(true: Array, said: Array, size: int) -> Array:
    return np.bincount(true * size + said, minlength=size * size).reshape(size, size)


def by_label(tally: Tally, label_of: Mapping[str, str]) -> Confusion | None:
    """All templates' answers by label, added up; texts without a label are left out."""
    with_classes = [i for i, names in enumerate(tally.classes) if names]
    labels = sorted({label_of[item] for item in tally.items if item in label_of})
    place = {label: i for i, label in enumerate(labels)}
    true = np.repeat([place[label_of[i]] if i in label_of else -1 for i in tally.items], tally.seeds)
    size = len(labels) + 1  # the last: answers whose label no text here has
    counts, used = np.zeros((size, size), dtype=np.int64), []
    for i in with_classes:
        said = _as_labels(tally, i, true, len(labels))
        if said is not None:
            asked = (said >= 0) & (true >= 0)
            counts += _count(true[asked], said[asked], size)
            used.append(tally.templates[i])
    if not counts[:, -1].any():
        counts, size = counts[:-1, :-1], size - 1
    return Confusion((*labels, OTHER)[:size], counts, tuple(used)) if used else None


def _one_to_one(tally: Tally, template: int, true: Array) -> Array | None:
    """The label that each word of a template stands for, -1 for none; None where words and labels do not pair off."""
    asked = (tally.targets[template] >= 0) & (true >= 0)
    words, labels = tally.targets[template][asked], true[asked]
    if not len(words):
        return None
    width = int(labels.max()) + 1
    met = np.bincount(words * width + labels, minlength=len(tally.classes[template]) * width).reshape(-1, width) > 0
    if (met.sum(axis=0) > 1).any() or (met.sum(axis=1) > 1).any():
        return None
    return np.where(met.any(axis=1), met.argmax(axis=1), -1)


def _as_labels(tally: Tally, template: int, true: Array, size: int) -> Array | None:
    """A template's answers as labels, -1 where not asked; None where its words do not stand for labels."""
    targets, answers = tally.targets[template], tally.answers[template]
    asked = (targets >= 0) & (answers >= 0)
    label_of = _one_to_one(tally, template, true)
    if label_of is not None and (label_of >= 0).sum() == size:
        return np.where(asked, np.where(label_of < 0, size, label_of)[answers], -1)
    # not this label, so the other: true-or-false and shuffled letters can be told after all
    if size == 2 == len(tally.classes[template]):
        return np.where(asked, np.where(targets == answers, true, 1 - true), -1)
    return None


def report(counts: Array) -> list[tuple[float, float, float, int]]:
    """Precision, recall, F1 and support of each class; nought where nothing was said or true."""
    hits, said, true = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    shares = ((hits, said), (hits, true), (2 * hits, said + true))
    columns = [np.divide(a, b, out=np.zeros(len(hits)), where=b > 0) for a, b in shares]
    return [(float(p), float(r), float(f), int(n)) for p, r, f, n in zip(*columns, true, strict=True)]


def f1_macro(tally: Tally) -> float | None:
    """The mean over templates of macro-F1 over all of a template's classes; None where rows share no classes."""
    if not all(tally.classes):
        return None
    each = [np.mean([f1 for _, _, f1, _ in report(confusion(tally, i))]) for i in range(len(tally.templates))]
    return float(np.mean(each))


def calibration(tally: Tally) -> list[tuple[int, float, float]]:
    """For each tenth of confidence: how many answers, their mean confidence, what share of them was right."""
    place = np.minimum((tally.confidence * BINS).astype(int), BINS - 1)
    found = []
    for b in range(BINS):
        inside = place == b
        n = int(inside.sum())
        confidence, right = (float(x[inside].mean()) if n else 0.0 for x in (tally.confidence, tally.right))
        found.append((n, confidence, right))
    return found


def expected_calibration_error(tally: Tally) -> float | None:
    """The distance of confidence from accuracy, averaged over tenths of confidence; None for free text."""
    total = len(tally.confidence)
    return sum(n * abs(c - a) for n, c, a in calibration(tally)) / total if total else None
