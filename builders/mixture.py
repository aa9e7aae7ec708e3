"""How many train examples of what: caps, temperature and weights over corpora, caps and shares within one.

In: the example rows of every corpus. Out: the same without the train rows that were not drawn. Which rows go hangs
on a keyed draw for each of them, never on order, so that a larger cap keeps every row of a smaller one. Held-out
rows all stay. Sampling by examples with a cap and by temperature: Raffel et al. 2020 (T5), section 3.5.2.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from zhiling.builders.engines import Piece, batches, schema_of
from zhiling.builders.places import on_side
from zhiling.errors import UserError
from zhiling.seeds import draws
from zhiling.settings import Settings

Drawn = tuple[int, str]        # a row's draw and its id: the smallest stay
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
    """Where a corpus is cut: the last draw that stays, over all of it and within each kind of row."""

    whole: Drawn
    kinds: Mapping[Kind, Drawn]


@dataclass(frozen=True, order=True)
class Candidate:
    """A train row that may stay: the smaller its draw the likelier."""

    drawn: Drawn
    tokens: float


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
    limits = {name: _limits(by, settings) for name, by in found.items()}
    kept = {
        name: sorted(row for kind, rows in by.items() for row in rows if row.drawn <= limits[name][kind])
        for name, by in found.items()
    }
    if settings.tokens is not None:
        kept = {name: rows[: _afforded(rows, settings.tokens)] for name, rows in kept.items()}
    wanted = quotas({name: len(rows) for name, rows in kept.items()}, settings)
    kept = {name: rows[: wanted[name]] for name, rows in kept.items()}
    if settings.total_tokens is not None:
        kept = _thinned(kept, settings.total_tokens)
    count = sum(len(rows) for by in found.values() for rows in by.values())
    if count and not any(kept.values()):
        raise UserError(where, f"leaves not one of {count:,} train examples", "raise its weights, shares or budgets")
    return {name: Cut(rows[-1].drawn if rows else (-1, ""), limits[name]) for name, rows in kept.items()}


def _candidates(files: Sequence[Path], seed: int) -> dict[Kind, list[Candidate]]:
    """The train rows of a corpus, by their kind."""
    found: dict[Kind, list[Candidate]] = {}
    for batch in (each for path in files for each in batches(path)):
        train = batch.filter(on_side(batch, "train"))
        ids, languages = train["id"].to_pylist(), train["language"].to_pylist()
        sizes = pc.add(pc.utf8_length(train["prompt"]), pc.utf8_length(train["completion"])).to_pylist()
        rows = zip(_kinds(train), draws(seed, "mixture", ids), ids, languages, sizes, strict=True)
        for kind, number, name, language, size in rows:
            tokens = size * TOKENS_PER_CHARACTER.get(language, OTHERWISE)
            found.setdefault(kind, []).append(Candidate((number, name), tokens))
    return found


def _kinds(batch: pa.RecordBatch) -> list[Kind]:
    chat, few = pc.is_valid(batch["messages"]), pc.greater(batch["shots"], 0)
    return list(zip(batch["template"].to_pylist(), chat.to_pylist(), few.to_pylist(), strict=True))


def _limits(by_kind: Mapping[Kind, list[Candidate]], settings: MixtureSettings) -> dict[Kind, Drawn]:
    """The last draw that stays of each kind, by the cap on its template and the shares of chat and few-shot."""
    templates: dict[str, list[Candidate]] = {}
    for (template, _, _), rows in by_kind.items():
        templates.setdefault(template, []).extend(rows)
    capped = {template: _last(rows, settings.per_template) for template, rows in templates.items()}
    weights = {"chat": settings.chat or 0.0, "few_shot": settings.few_shot or 0.0}
    weights["rest"] = 1 - sum(weights.values())
    cells: dict[str, list[Candidate]] = {}
    for kind, rows in by_kind.items():
        cells.setdefault(_cell(kind, settings), []).extend(row for row in rows if row.drawn <= capped[kind[0]])
    if len(cells) == 1:
        return {kind: capped[kind[0]] for kind in by_kind}
    whole = min((len(rows) / weights[cell] for cell, rows in cells.items() if rows and weights[cell]), default=0)
    last = {cell: _last(rows, _floor(whole * weights[cell])) for cell, rows in cells.items()}
    return {kind: min(capped[kind[0]], last[_cell(kind, settings)]) for kind in by_kind}


def _cell(kind: Kind, settings: MixtureSettings) -> str:
    """Which of the shares a row counts in."""
    _, chat, few_shot = kind
    if chat and settings.chat is not None:
        return "chat"
    return "few_shot" if few_shot and settings.few_shot is not None else "rest"


def _afforded(rows: Sequence[Candidate], tokens: float) -> int:
    """How many of the first rows fit into so many tokens."""
    for n, row in enumerate(rows):
        tokens -= row.tokens
        if tokens < 0:
            return n
    return len(rows)


def _thinned(kept: Mapping[str, list[Candidate]], tokens: float) -> dict[str, list[Candidate]]:
    """The same share of every corpus, as large as the tokens allow."""
    ranked = sorted(
        (((n + 1) / len(rows), name, row) for name, rows in kept.items() for n, row in enumerate(rows)),
        key=lambda found: found[:2],
    )
    stay = ranked[: _afforded([row for _, _, row in ranked], tokens)]
    return {name: [row for _, own, row in stay if own == name] for name in kept}


def _last(rows: Sequence[Candidate], count: int | None) -> Drawn:
    """The largest draw of the `count` smallest; below all where none is to stay."""
    if count == 0 or not rows:
        return (-1, "")
    drawn = [row.drawn for row in rows]
    return max(drawn) if count is None or count >= len(rows) else sorted(drawn)[count - 1]


def mix(job: Mixed) -> Iterator[Piece]:
    """The example rows of one unit that stay."""
    yield Piece(schema_of(job.rows).empty_table())
    for batch in batches(job.rows):
        yield Piece(pa.Table.from_batches([batch.filter(_stays(batch, job))]))


def _stays(batch: pa.RecordBatch, job: Mixed) -> pa.Array:
    """Whether each row of a batch stays."""
    ids, nothing, train = batch["id"].to_pylist(), (-1, ""), on_side(batch, "train").to_pylist()
    drawn = zip(draws(job.seed, "mixture", ids), ids, strict=True)
    return pa.array([
        not cut or row <= min(job.cut.whole, job.cut.kinds.get(kind, nothing))
        for row, cut, kind in zip(drawn, train, _kinds(batch), strict=True)
    ], pa.bool_())
