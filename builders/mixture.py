"""How many train examples of what: caps, temperature and weights over corpora, caps over templates.

In: the example rows of every corpus. Out: the same without the train rows that were not drawn. Which rows go hangs
on a keyed draw for each of them, never on order, so that a larger cap keeps every row of a smaller one. Held-out
rows all stay. Sampling by examples with a cap and by temperature: Raffel et al. 2020 (T5), section 3.5.2.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pydantic import Field

from zhiling.builders.engines import Piece, batches, schema_of
from zhiling.builders.places import on_side
from zhiling.seeds import draws
from zhiling.settings import Settings

Drawn = tuple[int, str]  # a row's draw and its id: the smallest stay


class MixtureSettings(Settings):
    """Counts are of train examples; what is left out stays out."""

    cap: int | None = Field(None, ge=1, description="at most so many of a corpus (examples-proportional with a cap)")
    per_template: int | None = Field(None, ge=1, description="at most so many of one template of one corpus")
    temperature: float = Field(1.0, ge=1, description="corpora in proportion to (capped size)^(1/temperature)")
    weights: dict[str, float] = Field({}, description="corpus -> factor on its proportion; 1 where absent")
    total: int | None = Field(None, ge=1, description="so many over all corpora, as far as there are")


@dataclass(frozen=True)
class Cut:
    """Where a corpus is cut: the last draw that stays, over all of it and within each template."""

    whole: Drawn
    templates: Mapping[str, Drawn]


@dataclass(frozen=True)
class Mixed:
    """Example rows to thin out, batch by batch: each stays in order."""

    rows: Path
    cut: Cut
    seed: int


def quotas(sizes: Mapping[str, int], settings: MixtureSettings) -> dict[str, int]:
    """How many examples of each corpus stay, of `sizes` that there are."""
    capped = {name: min(size, settings.cap or size) for name, size in sizes.items()}
    if settings.total is None and settings.temperature == 1 and not settings.weights:
        return capped
    share = {n: settings.weights.get(n, 1.0) * c ** (1 / settings.temperature) for n, c in capped.items() if c}
    full = sum(share.values())
    if settings.total is None:  # as many as the proportions allow
        wanted = min(capped[n] / (s / full) for n, s in share.items() if s > 0)
        return {n: _floor(wanted * share.get(n, 0) / full) for n in capped}
    return _filled({n: capped[n] for n in share}, share, settings.total) | {n: 0 for n, c in capped.items() if not c}


def _floor(value: float) -> int:
    return int(value + 1e-9)


def _filled(sizes: Mapping[str, int], share: Mapping[str, float], total: int) -> dict[str, int]:
    """`total` in these proportions; what one corpus lacks goes to the others."""
    found: dict[str, int] = {}
    open_, left = dict(share), min(total, sum(sizes[n] for n, s in share.items() if s > 0))
    while open_ and (whole := sum(open_.values())) > 0:
        spent = [n for n in open_ if left * open_[n] / whole >= sizes[n]]
        if not spent:
            break
        for name in spent:
            found[name] = sizes[name]
            left -= sizes[name]
            del open_[name]
    whole = sum(open_.values()) or 1.0
    exact = {n: left * s / whole for n, s in open_.items()}
    found |= {n: _floor(value) for n, value in exact.items()}
    rest = left - sum(_floor(value) for value in exact.values())
    for name in sorted(exact, key=lambda n: (_floor(exact[n]) - exact[n], n))[: max(0, rest)]:
        found[name] += 1
    return found


def cuts(tables: Mapping[str, Sequence[Path]], settings: MixtureSettings, seed: int) -> dict[str, Cut]:
    """Where each corpus is cut, by its example files."""
    drawn = {name: _drawn(files, seed) for name, files in tables.items()}
    templates = {
        name: {template: _last(rows, settings.per_template) for template, rows in by.items()}
        for name, by in drawn.items()
    }
    kept = {
        name: sorted(row for template, rows in by.items() for row in rows if row <= templates[name][template])
        for name, by in drawn.items()
    }
    wanted = quotas({name: len(rows) for name, rows in kept.items()}, settings)
    return {name: Cut(_last(kept[name], wanted[name]), templates[name]) for name in tables}


def _drawn(files: Sequence[Path], seed: int) -> dict[str, list[Drawn]]:
    """By template: the draws of a corpus's train rows, with their ids."""
    found: dict[str, list[Drawn]] = {}
    for batch in (each for path in files for each in batches(path)):
        train = batch.filter(on_side(batch, "train"))
        ids = train["id"].to_pylist()
        for template, number, name in zip(train["template"].to_pylist(), draws(seed, "mixture", ids), ids, strict=True):
            found.setdefault(template, []).append((number, name))
    return found


def _last(rows: Sequence[Drawn], count: int | None) -> Drawn:
    """The largest of the `count` smallest; below all where none is to stay."""
    if count == 0 or not rows:
        return (-1, "")
    return max(rows) if count is None or count >= len(rows) else sorted(rows)[count - 1]


def mix(job: Mixed) -> Iterator[Piece]:
    """The example rows of one unit that stay."""
    yield Piece(schema_of(job.rows).empty_table())
    for batch in batches(job.rows):
        yield Piece(pa.Table.from_batches([batch.filter(_stays(batch, job))]))


def _stays(batch: pa.RecordBatch, job: Mixed) -> pa.Array:
    """Whether each row of a batch stays."""
    ids, templates = (batch[name].to_pylist() for name in ("id", "template"))
    nothing, train = (-1, ""), on_side(batch, "train").to_pylist()
    drawn = zip(draws(job.seed, "mixture", ids), ids, strict=True)
    return pa.array([
        not cut or row <= min(job.cut.whole, job.cut.templates.get(template, nothing))
        for row, cut, template in zip(drawn, train, templates, strict=True)
    ], pa.bool_())
