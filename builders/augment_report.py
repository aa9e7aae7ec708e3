"""What augmentation did to a corpus: variety before and after, and whether a model reads copies as their parents.

In: the split rows with their copies. Out: distinct-2 of the train texts without and with the copies (Li et al. 2016:
different pairs of neighbouring characters or words over all of them), and the share of copies that a linear model
fitted on the parents labels as it labels their parents.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zhiling.builders.engines import read_output
from zhiling.builders.exemplars import label_of
from zhiling.builders.shingles import shingle
from zhiling.rows import Columns, is_unspaced

MOST = 20_000  # rows that the linear model is fitted on


def report(files: Sequence[Path], columns: Columns, language: str) -> dict[str, Any]:
    """Copies, distinct-2 before and after, agreement; agreement is null where there is one label or no copy."""
    table = pa.concat_tables([read_output(f).filter(pc.field("split") == "train") for f in files])
    rows = table.to_pylist()
    names = [name for name, kind in columns.items() if kind == "string"]
    texts = ["\n".join(row[name] for name in names) for row in rows]
    own = [i for i, row in enumerate(rows) if row["parent_id"] is None]
    copies = [i for i, row in enumerate(rows) if row["parent_id"] is not None]
    return {
        "copies": len(copies),
        "distinct_2_before": _distinct([texts[i] for i in own], language),
        "distinct_2_after": _distinct(texts, language),
        "agreement": _agreement(rows, texts, own, copies, columns),
    }


def _distinct(texts: Sequence[str], language: str) -> float:
    pairs = shingle(texts, 2 if is_unspaced(language) else None, 2).hashes
    return round(len(np.unique(pairs)) / len(pairs), 4) if len(pairs) else 0.0


def _agreement(
    rows: Sequence[Any], texts: Sequence[str], own: Sequence[int], copies: Sequence[int], columns: Columns
) -> float | None:
    labels = {i: label_of(rows[i], columns) for i in own[:MOST]}
    if len(set(labels.values())) < 2 or not copies:
        return None
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    model = make_pipeline(TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2), LinearSVC(random_state=0))
    try:
        model.fit([texts[i] for i in labels], list(labels.values()))
    except ValueError:  # no two texts share a letter
        return None
    place = {rows[i]["id"]: i for i in own}
    parents = model.predict([texts[place[rows[i]["parent_id"]]] for i in copies])
    return round(float(np.mean(parents == model.predict([texts[i] for i in copies]))), 4)
