"""How many train examples of what: caps, temperature and weights over corpora, caps and shares within one.

In: the example rows of every corpus. Out: the same without the train rows that were not drawn. Which rows go hangs
on a keyed draw for each of them, never on order, so that a larger cap keeps every row of a smaller one. Held-out
rows all stay. Sampling by examples with a cap and by temperature: Raffel et al. 2020 (T5), section 3.5.2.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, model_validator

from zhiling.builders.engines import Piece, batches, schema_of
from zhiling.builders.places import Places, on_side
from zhiling.errors import UserError
from zhiling.seeds import draw_array, draws
from zhiling.settings import Settings

Kind = tuple[str, bool, bool]  # a row's template, whether it is chat, whether it has exemplars
TOKENS_PER_CHARACTER = {"zh": 0.65, "en": 0.25}  # of common byte-level vocabularies, for want of a tokenizer
OTHERWISE = 0.4


class MixtureSettings(Settings):
    """Counts are of train examples; what is left out stays out."""

    cap: int | None = Field(None, ge=1, description="at most so many of a corpus (examples-proportional with a cap)")
    per_template: int | None = Field(None, ge=1, description="at most so many of one template of one corpus")
    temperature: float = Field(1.0, ge=1, description="corpora in proportion to (capped size)^(1/temperature)")
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {}, description="corpus -> factor on its proportion; 1 where absent"
    )
    total: int | None = Field(None, ge=1, description="so many over all corpora, as far as there are")
    chat: float | None = Field(None, ge=0, le=1, description="share of examples with a system prompt or turns")
    few_shot: float | None = Field(None, ge=0, le=1, description="share of examples with exemplars")
    tokens: int | None = Field(None, ge=1, description="at most so many tokens of a corpus, estimated from characters")
    total_tokens: int | None = Field(None, ge=1, description="at most so many over all corpora, cut in proportion")

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if (self.chat or 0) + (self.few_shot or 0) > 1:
            raise ValueError("the shares `chat` and `few_shot` come to more than 1")
        return self


@dataclass(frozen=True)
class Cut:
    """Where a corpus is cut: the last draw that stays, of all of it and of each kind of row; -1 where none does."""

    whole: int
    kinds: Mapping[Kind, int]


@dataclass(frozen=True)
class Candidates:
    """The train rows of a corpus in order of their draws, a few numbers for each: the smaller its draw the likelier."""

    draws: Places
    tokens: NDArray[np.float64]
    kinds: NDArray[np.int64]  # places in `names`
    names: Sequence[Kind]

    def some(self, which: Any) -> "Candidates":
        """Those of them."""
        return Candidates(self.draws[which], self.tokens[which], self.kinds[which], self.names)

    def of(self, kinds: Sequence[Kind]) -> Places:
        """The draws of the rows of these kinds."""
        return self.draws[np.isin(self.kinds, [self.names.index(kind) for kind in kinds])]

    def within(self, limits: Mapping[Kind, int]) -> "Candidates":
        """Those up to the last draw of their kind."""
        last = np.array([max(0, limits[kind]) for kind in self.names], np.uint64)
        none = np.array([limits[kind] < 0 for kind in self.names], bool)
        return self.some((self.draws <= last[self.kinds]) & ~none[self.kinds]) if self.names else self


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
        wanted = min((capped[n] / (s / full) for n, s in share.items() if s > 0), default=0)
        return {n: _floor(wanted * share.get(n, 0) / (full or 1)) for n in capped}
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


def cuts(
    tables: Mapping[str, Sequence[Path]], settings: MixtureSettings, seed: int, where: str = "mixture"
) -> dict[str, Cut]:
    """Where each corpus is cut, by its example files. Raises UserError where no train row at all would stay."""
    found = {name: _candidates(files, seed) for name, files in tables.items()}
    limits = {name: _limits(rows, settings) for name, rows in found.items()}
    kept = {name: rows.within(limits[name]) for name, rows in found.items()}
    if settings.tokens is not None:
        kept = {name: rows.some(slice(_afforded(rows.tokens, settings.tokens))) for name, rows in kept.items()}
    counts = quotas({name: len(rows.draws) for name, rows in kept.items()}, settings)
    if settings.total_tokens is not None:
        counts = _thinned({name: rows.tokens[: counts[name]] for name, rows in kept.items()}, settings.total_tokens)
    there = sum(len(rows.draws) for rows in found.values())
    if there and not any(counts.values()):
        raise UserError(where, f"leaves not one of {there:,} train examples", "raise its weights, shares or budgets")
    return {name: Cut(_last(rows.draws, counts[name]), limits[name]) for name, rows in kept.items()}


def _candidates(files: Sequence[Path], seed: int) -> Candidates:
    """The train rows of a corpus."""
    names: dict[Kind, int] = {}
    parts: list[tuple[Places, NDArray[np.float64], NDArray[np.int64]]] = []
    for batch in (each for path in files for each in batches(path)):
        train = batch.filter(on_side(batch, "train"))
        rates = [TOKENS_PER_CHARACTER.get(language, OTHERWISE) for language in train["language"].to_pylist()]
        sizes = pc.add(pc.utf8_length(train["prompt"]), pc.utf8_length(train["completion"]))
        kinds = [names.setdefault(kind, len(names)) for kind in _kinds(train)]
        numbers = draw_array(seed, "mixture", train["id"].to_pylist())
        parts.append((numbers, np.array(sizes.to_pylist()) * np.array(rates), np.array(kinds, np.int64)))
    if not parts:
        return Candidates(np.zeros(0, np.uint64), np.zeros(0), np.zeros(0, np.int64), ())
    drawn, tokens, of_kind = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    found = Candidates(drawn, tokens, of_kind, tuple(names))
    return found.some(np.argsort(found.draws, kind="stable"))


def _kinds(batch: pa.RecordBatch) -> list[Kind]:
    chat, few = pc.is_valid(batch["messages"]), pc.greater(batch["shots"], 0)
    return list(zip(batch["template"].to_pylist(), chat.to_pylist(), few.to_pylist(), strict=True))


def _limits(rows: Candidates, settings: MixtureSettings) -> dict[Kind, int]:
    """The last draw that stays of each kind, by the cap on its template and the shares of chat and few-shot."""
    templates: dict[str, list[Kind]] = {}
    for kind in rows.names:
        templates.setdefault(kind[0], []).append(kind)
    capped = {
        kind: last for kinds in templates.values() for last in [_last(rows.of(kinds), settings.per_template)]
        for kind in kinds
    }
    weights = {"chat": settings.chat or 0.0, "few_shot": settings.few_shot or 0.0}
    weights["rest"] = 1 - sum(weights.values())
    cells: dict[str, list[Kind]] = {}
    for kind in rows.names:
        cells.setdefault(_cell(kind, settings), []).append(kind)
    if len(cells) == 1:
        return capped
    left = rows.within(capped)
    drawn = {cell: left.of(kinds) for cell, kinds in cells.items()}
    whole = min((len(own) / weights[cell] for cell, own in drawn.items() if len(own) and weights[cell]), default=0)
    last = {cell: _last(own, _floor(whole * weights[cell])) for cell, own in drawn.items()}
    return {kind: min(limit, last[_cell(kind, settings)]) for kind, limit in capped.items()}


def _cell(kind: Kind, settings: MixtureSettings) -> str:
    """Which of the shares a row counts in."""
    _, chat, few_shot = kind
    if chat and settings.chat is not None:
        return "chat"
    return "few_shot" if few_shot and settings.few_shot is not None else "rest"


def _afforded(rows: NDArray[np.float64], tokens: float) -> int:
    """How many of the first rows, by their tokens, fit into so many."""
    return int(np.searchsorted(np.cumsum(rows), tokens, side="right"))


def _thinned(kept: Mapping[str, NDArray[np.float64]], tokens: float) -> dict[str, int]:
    """How many rows of every corpus stay: the same share, as large as the tokens allow."""
    names = sorted(kept)
    share = np.concatenate([np.arange(1, len(kept[name]) + 1) / max(1, len(kept[name])) for name in names])
    owner = np.repeat(np.arange(len(names)), [len(kept[name]) for name in names])
    order = np.lexsort((owner, share))
    stay = _afforded(np.concatenate([kept[name] for name in names])[order], tokens)
    counts = np.bincount(owner[order[:stay]], minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))


def _last(drawn: Places, count: int | None) -> int:
    """The largest of the `count` smallest draws, which come in order; below all where none is to stay."""
    kept = drawn[:count]
    return int(kept[-1]) if len(kept) else -1


def mix(job: Mixed) -> Iterator[Piece]:
    """The example rows of one unit that stay."""
    yield Piece(schema_of(job.rows).empty_table())
    for batch in batches(job.rows):
        yield Piece(pa.Table.from_batches([batch.filter(_stays(batch, job))]))


def _stays(batch: pa.RecordBatch, job: Mixed) -> pa.Array:
    """Whether each row of a batch stays."""
    train = on_side(batch, "train").to_pylist()
    drawn = draws(job.seed, "mixture", batch["id"].to_pylist())
    last = {kind: min(job.cut.whole, limit) for kind, limit in job.cut.kinds.items()}
    return pa.array([
        not cut or row <= last.get(kind, -1) for row, cut, kind in zip(drawn, train, _kinds(batch), strict=True)
    ], pa.bool_())
