"""Metrics that lm-eval lacks, over the samples of one task.

In: `Sample`s. Out: numbers, and scikit-learn's `classification_report`. Classes are the choices as the model saw
them; a task in which each row has choices of its own (reading comprehension) has no classes.
"""

from collections.abc import Sequence
from typing import Any

from zhiling.eval_tasks.results import Sample

MOST_CLASSES = 200


def classes(samples: Sequence[Sample]) -> list[str] | None:
    """The classes of a task; None where rows do not share their choices."""
    if not samples or not samples[0].choices:
        return None
    first = {c.strip() for c in samples[0].choices}
    if len(first) > MOST_CLASSES or any({c.strip() for c in s.choices} != first for s in samples):
        return None
    return sorted(first)


def classification(samples: Sequence[Sample]) -> dict[str, float]:
    """Accuracy, macro, micro and weighted F1 and Matthews' correlation; {} where there are no classes."""
    from sklearn.metrics import f1_score, matthews_corrcoef

    labels = classes(samples)
    if labels is None:
        return {}
    gold, said = [s.target for s in samples], [s.prediction for s in samples]
    found = {
        f"f1_{average}": float(f1_score(gold, said, labels=labels, average=average, zero_division=0.0))
        for average in ("macro", "micro", "weighted")
    }
    return {**found, "mcc": float(matthews_corrcoef(gold, said))}


def classification_report(samples: Sequence[Sample]) -> dict[str, Any]:
    """scikit-learn's report: precision, recall, F1 and support of each class; {} where there are no classes."""
    from sklearn.metrics import classification_report as report

    labels = classes(samples)
    if labels is None:
        return {}
    gold, said = [s.target for s in samples], [s.prediction for s in samples]
    found: dict[str, Any] = report(gold, said, labels=labels, output_dict=True, zero_division=0.0)
    return found
