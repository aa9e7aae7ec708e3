"""Rows that are no release yet, rendered into a task's documents: public data sets, a pack's own examples.

In: a pack, test rows, train rows, numbers of shots and seeds. Out: example rows, each prompt whole, exemplars
included. Exemplars come from the train rows only, labels in turn, drawn by the document's id (or, fixed, once for
all documents), never by order. Documents are ordered by a draw too: the first N are the same for every template.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from zhiling.eval_tasks.fields import fields_of
from zhiling.eval_tasks.task import COLUMNS, FIELDS
from zhiling.rows import EXAMPLE_SCHEMA
from zhiling.seeds import draw, shuffled
from zhiling.store import canonical_json
from zhiling.templates.pack import Pack
from zhiling.templates.render import Rendered, compile_template, render_batch

BETWEEN_SHOTS = "\n\n"
MOST_CLASSES = 200
RENDER_SEED = 42   # of shuffled choices and drawn statements: the seed of a task moves its exemplars only
SCHEMA = pa.schema([*(EXAMPLE_SCHEMA.field(name) for name in COLUMNS), pa.field("seed", pa.int64())])


@dataclass(frozen=True)
class Rows:
    """Rows of a pack's columns, with what a draw and a cluster hang on."""

    values: tuple[Mapping[str, Any], ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]

    @classmethod
    def of(cls, values: Sequence[Mapping[str, Any]], group: str | None = None) -> "Rows":
        """Distinct rows with ids by content; `group` names the column whose equal values are one cluster."""
        by_id = {_hash(canonical_json(row)): row for row in values}
        ids = sorted(by_id, key=lambda i: draw(RENDER_SEED, "order", i))
        groups = [_hash(str(by_id[i][group])) if group else i for i in ids]
        return cls(tuple(by_id[i] for i in ids), tuple(ids), tuple(groups))

    def first(self, count: int | None) -> "Rows":
        """The first `count` of them."""
        return Rows(self.values[:count], self.ids[:count], self.groups[:count])


@dataclass(frozen=True)
class Asked:
    """What is rendered: test rows and, for shots, train rows, under the name that results give them."""

    name: str
    pack: Pack
    test: Rows
    train: Rows = Rows((), (), ())
    fixed: bool = False   # the same exemplars for every document


def render(asked: Asked, template: str, shots: int, seed: int = 0) -> pa.Table:
    """The documents of one template at one number of shots; rows that the template refuses are left out."""
    shown = _rendered(asked.pack, template, asked.test)
    train = _rendered(asked.pack, template, asked.train) if shots else Rendered()
    pool, settings, documents = _by_label(train), asked.pack.settings, []
    fields = fields_of(asked.pack, template, asked.test.values, asked.test.ids, RENDER_SEED)
    for i, source in enumerate(asked.test.ids):
        if shown.refusals[i] is not None or shown.skipped[i]:
            continue
        chosen = _exemplars(asked, pool, shots, seed, i)
        if len(chosen) < shots:
            continue
        before = [train.prompts[n] + train.completions[n] for n in chosen]
        documents.append({
            "id": _hash(f"{source}\x1f{asked.name}\x1f{template}\x1f{shots}\x1f{seed}"),
            "prompt": BETWEEN_SHOTS.join([*before, shown.prompts[i]]), "completion": shown.completions[i],
            "choices": shown.choices[i], "answer": shown.answers[i], "task": settings.task,
            "language": settings.language, "pack": asked.name, "template": template, "source_id": source,
            "group_id": asked.test.groups[i], "shots": shots, "seed": seed, FIELDS: fields[i],
        })
    schema = SCHEMA.append(pa.field(FIELDS, pa.string())) if any(fields) else SCHEMA
    return pa.Table.from_pylist(documents, schema=schema)


def _rendered(pack: Pack, template: str, rows: Rows) -> Rendered:
    columns = {name: [row[name] for row in rows.values] for name in pack.settings.columns}
    return render_batch(compile_template(pack, template), columns, list(rows.ids), RENDER_SEED)


def _by_label(train: Rendered) -> dict[str, list[int]]:
    """The train rows that the template renders, by completion; all together where completions are no classes."""
    found: dict[str, list[int]] = {}
    for n, completion in enumerate(train.completions):
        if train.refusals[n] is None and not train.skipped[n]:
            found.setdefault(completion, []).append(n)
    return found if len(found) <= MOST_CLASSES else {"": sorted(n for members in found.values() for n in members)}


def _exemplars(asked: Asked, pool: dict[str, list[int]], shots: int, seed: int, i: int) -> list[int]:
    """Places among the train rows: labels in turn, none of the document's own group."""
    source = asked.test.ids[i]
    key = asked.name if asked.fixed else source
    train, chosen = asked.train, list[int]()
    rings = {}
    for label, members in pool.items():
        start = draw(seed, "exemplar", f"{key}\x1f{label}") % len(members)
        rings[label] = iter(members[start:] + members[:start])
    order = shuffled(sorted(rings), seed, "exemplar labels", key)
    while order and len(chosen) < shots:
        for label in list(order):
            near = (n for n in rings[label] if train.groups[n] != asked.test.groups[i] and train.ids[n] != source)
            found = next(near, None)
            if found is None:
                order.remove(label)
            elif len(chosen) < shots:
                chosen.append(found)
    return shuffled(chosen, seed, "exemplar order", key)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
