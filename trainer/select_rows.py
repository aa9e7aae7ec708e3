"""Which of a release's rows a stage trains on: packs, corpora, templates, shots, a few texts of each class.

In: a side of a release and the stage's settings. Out: the rows kept. The draw of texts is keyed, so that 16 of a
class are among its 64. Refuses a choice that leaves no rows to validate on.
"""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from zhiling.errors import UserError, did_you_mean
from zhiling.seeds import draws
from zhiling.trainer.config import InstructSettings, Side
from zhiling.trainer.data import read_classes, read_examples, read_parents


def select_rows(release: Path, side: Side, own: InstructSettings, seed: int) -> pa.Table:
    """The rows of one side that the settings ask for; of the validation side a keyed draw of `validation_rows`."""
    table = read_examples(release, side)
    for column, wanted in (
        ("pack", own.packs), ("corpus", own.corpora), ("template", own.templates), ("shots", own.shots),
    ):
        if wanted is not None:
            for value in wanted:
                _require(release, table, column, value)
            table = table.filter(pc.field(column).isin(wanted))
    if not table.num_rows:
        saw = f"no {side} row has these packs, corpora, templates and shots"
        raise UserError(str(release), saw, "ask for fewer at once")
    if side == "validation":
        return table.take(first(table["id"].to_pylist(), own.validation_rows, seed, "validation rows"))
    if own.shots_per_class != "all":
        table = _few(table, read_classes(release, side), read_parents(release, side), own.shots_per_class, seed)
    return table


def _require(release: Path, table: pa.Table, column: str, value: str | int) -> None:
    known = table[column].unique().to_pylist()
    if value not in known:
        raise UserError(str(release), f"no {column} '{value}' in it", did_you_mean(str(value), map(str, known)))


def first(ids: list[str], count: int, seed: int, purpose: str) -> list[int]:
    """The places of `count` ids by keyed draw, in order."""
    keys = draws(seed, purpose, ids)
    return sorted(sorted(range(len(ids)), key=lambda i: (keys[i], ids[i]))[:count])


def _few(
    table: pa.Table, classes: dict[str, str], parents: Mapping[str, str], count: int, seed: int
) -> pa.Table:
    """The rows of `count` texts of each class, whose exemplars are among these texts too."""
    sources: list[str] = table["source_id"].to_pylist()
    kept = few({s: classes[s] for s in sources if s in classes}, parents, count, seed)
    shown = table["exemplar_ids"].to_pylist()
    found = [s in kept and kept.issuperset(e or []) for s, e in zip(sources, shown, strict=True)]
    if not any(found):
        raise UserError("train: shots_per_class", f"{count}, and no row asked for is of a text with a label",
                        "leave it out, or name packs with labels")
    return table.filter(pa.array(found))


def few(classes: dict[str, str], parents: Mapping[str, str], count: int, seed: int) -> set[str]:
    """`count` ids of each class, by keyed draw, and those of their copies: a copy is no text of its own."""
    names = sorted(s for s in classes if s not in parents)
    keys = dict(zip(names, draws(seed, "shots per class", names), strict=True))
    kept: set[str] = set()
    for label in sorted(set(classes.values())):
        members = [s for s in names if classes[s] == label]
        kept.update(sorted(members, key=lambda s: (keys[s], s))[:count])
    return kept | {s for s in classes if parents.get(s) in kept}
