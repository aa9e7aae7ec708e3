"""A model with a head that labels texts, scored as the baselines are: it reads the row itself, not a prompt.

In: its folder, the labelled rows behind the tasks that are asked for. Out: for each pack whose labels are the head's
one task, "row", and the log-probability of each label. Refused: a head whose labels are those of no pack here.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zhiling.console import note
from zhiling.errors import UserError
from zhiling.eval_tasks.baselines import Array, Labelled, RowTask, row_task
from zhiling.trainer.classify import label_shares, open_classifier, texts_of

LEAST = 1e-12  # a probability below which a logarithm says nothing


def classifier_tasks(folder: Path, rows: Sequence[Labelled]) -> list[RowTask]:
    """What the classifier says of each pack's rows. Raises UserError where no pack has its labels."""
    model, tokenizer = open_classifier(folder)
    names = set(model.config.id2label.values())

    def score(each: Labelled, labels: list[str]) -> Array:
        found = label_shares(model, tokenizer, texts_of(each.pack, each.test, tokenizer))
        return np.log([[max(LEAST, shares[label]) for label in labels] for shares in found])

    fit = [each for each in rows if _labels(each) == names]
    if not fit:
        raise UserError(str(folder), f"no pack here has its labels ({', '.join(sorted(names)[:5])})",
                        "score it on a release of its own task")
    for each in rows:
        if _labels(each) != names:
            note(f"{each.like.pack}: other labels than the head's, {folder.name} passes it over")
    return [row_task(each, score) for each in fit]


def _labels(each: Labelled) -> set[str]:
    columns = each.pack.label_columns
    return set(each.pack.labels_of(columns[0])) if len(columns) == 1 else set()
