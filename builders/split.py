"""Groups to train, validation and test: a keyed draw on the group's own content, never on order or count.

A side that the source gives, that a row's time gives or that the previous release gave goes before the draw.
Stratified sides (on request) are cut from the draws' order within each label, so they do hang on count.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from zhiling.builders.engines import Piece, Reject, RowGroup
from zhiling.builders.sources import in_utc
from zhiling.rows import SPLIT_FIELDS, SPLITS, Columns, Split, conform, split_schema
from zhiling.seeds import draw, draw_array
from zhiling.settings import Settings

ADDED = [name for name, _ in SPLIT_FIELDS]


class FoldSettings(Settings):
    """One of several releases whose test sides together are the whole corpus, each group in one of them."""

    of: int = Field(ge=2, le=100, description="folds")
    test: int = Field(ge=0, description="the fold that is this release's test side, counted from 0")

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if self.test >= self.of:
            raise ValueError(f"fold {self.test} of {self.of}: folds count from 0 to {self.of - 1}")
        return self


class TimeSettings(Settings):
    """Sides by a row's time (`time:` of its corpus): train before the first of these, test from the last on."""

    validation: date | datetime | None = None
    test: date | datetime

    @field_validator("validation", "test")
    @classmethod
    def _as_rows_have_it(cls, at: date | datetime | None) -> date | datetime | None:
        return in_utc(at) if isinstance(at, datetime) else at

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.validation is not None and self.validation.isoformat() >= self.test.isoformat():
            raise ValueError("`validation` begins before `test` does")
        return self


class SplitSettings(Settings):
    """Which groups stand on which side. Shares are of the groups, together 1."""

    train: float = Field(0.8, gt=0, le=1)
    validation: float = Field(0.1, ge=0, lt=1)
    test: float = Field(0.1, ge=0, lt=1)
    stratify: bool = Field(False, description="equal shares of each label, by count: growing moves rows at the cuts")
    folds: FoldSettings | None = None
    time: TimeSettings | None = None
    previous: str | None = Field(None, description="folder of a release whose rows keep their side")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"shares add up to {total:g}; make them 1")
        for name in ("stratify", "time", "previous"):  # each settles sides that a fold would draw
            if self.folds and getattr(self, name):
                raise ValueError(f"`{name}` and `folds` exclude each other; remove one")
        return self


@dataclass(frozen=True)
class SplitJob:
    """Rows to put on their sides, and the verdicts on the unit that they were read in, if there are any."""

    rows: RowGroup
    verdicts: RowGroup | None
    columns: Columns
    settings: SplitSettings
    seed: int


@dataclass(frozen=True)
class Group:
    """A group as stratifying sees it: what it is a group of, how many rows, and its side where that is settled."""

    id: str
    stratum: str
    rows: int
    side: Split | None = None


def own_side(settings: SplitSettings, own: str | None, time: str | None) -> str | None:
    """The side that a row's source gives it, else its time; None where neither does."""
    if own is not None or settings.time is None or time is None:
        return own
    if time >= settings.time.test.isoformat():
        return "test"
    validation = settings.time.validation
    return "validation" if validation is not None and time >= validation.isoformat() else "train"


def sides(seed: int, groups: Sequence[str], settings: SplitSettings) -> pa.StringArray:
    """The side of each group. Test first, so that changing validation's share leaves test as it is."""
    at = uniforms(seed, "split", groups)
    if settings.folds is not None:
        test = draw_array(seed, "fold", groups) % settings.folds.of == settings.folds.test
        validation = at < settings.validation / (settings.train + settings.validation)
    else:
        test, validation = at < settings.test, at < settings.test + settings.validation
    return pc.if_else(pa.array(test), "test", pc.if_else(pa.array(validation), "validation", "train"))


def uniforms(seed: int, purpose: str, keys: Sequence[str]) -> NDArray[np.float64]:
    """`seeds.uniform` for many keys."""
    return (draw_array(seed, purpose, keys) >> np.uint64(11)) / 2**53


def stratified(groups: Iterable[Group], settings: SplitSettings, seed: int) -> dict[str, Split]:
    """A side for every group without one, so that each stratum's rows have the shares as nearly as groups allow.

    Within a stratum groups go in the order of their draws, each to the side that lacks most of its share.
    """
    strata: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        strata[group.stratum].append(group)
    shares: Mapping[Split, float] = {s: getattr(settings, s) for s in SPLITS}
    found: dict[str, Split] = {}
    for members in strata.values():
        have: Counter[Split] = Counter()
        for group in members:
            if group.side is not None:
                have[group.side] += group.rows
        total = sum(g.rows for g in members)
        for group in sorted(members, key=lambda g: (draw(seed, "split", g.id), g.id)):
            if group.side is None:
                found[group.id] = max(SPLITS[::-1], key=lambda s: shares[s] * total - have[s])
                have[found[group.id]] += group.rows
    return found


def split_rows(job: SplitJob) -> Iterator[Piece]:
    """The kept rows of one unit with group and side; the others rejected with their reason."""
    schema = split_schema(job.columns)
    table, rejects = job.rows.read().combine_chunks(), list[Reject]()
    groups, settled = table["_key"].combine_chunks(), table["_own"].combine_chunks()
    verdicts = _verdicts(job, table["_row"].to_numpy())
    if len(verdicts):
        at = np.isin(table["_row"].to_numpy(), verdicts["row"].to_numpy())
        groups, settled = (
            pc.replace_with_mask(values, pa.array(at), verdicts[name].combine_chunks())
            for name, values in (("group_id", groups), ("side", settled))
        )
        refused = pc.not_equal(verdicts["verdict"], "keep")
        rejects = _rejects(table.filter(pa.array(at)).filter(refused), verdicts.filter(refused), list(job.columns))
        at[at] = refused.to_numpy()
    rows = table.select([name for name in schema.names if name not in ADDED])
    if rejects:
        rows, groups, settled = (each.filter(pa.array(~at)) for each in (rows, groups, settled))
    nulls = pa.nulls(len(rows), pa.string())
    added = (groups, _sides(job, groups, settled), nulls, nulls)
    yield Piece(conform(pa.table([*rows.columns, *added], [*rows.column_names, *ADDED]), schema), rejects)


def _verdicts(job: SplitJob, rows: NDArray[np.int64]) -> pa.Table:
    """The verdicts on some rows of the unit, which stand one after the other."""
    if job.verdicts is None or not len(rows):
        return pa.table({})
    found = job.verdicts.read()
    start, end = np.searchsorted(found["row"].to_numpy(), (rows[0], rows[-1] + 1)).tolist()
    return found.slice(start, end - start)


def _sides(job: SplitJob, groups: pa.Array, settled: pa.Array) -> pa.Array:
    """The side of each row: the one that was settled, else the one drawn for its group."""
    if not settled.null_count:
        return settled
    coded = groups.dictionary_encode()
    return pc.coalesce(settled, sides(job.seed, coded.dictionary.to_pylist(), job.settings).take(coded.indices))


def _rejects(rows: pa.Table, verdicts: pa.Table, columns: Sequence[str]) -> list[Reject]:
    return [
        Reject("clean", found["verdict"], found["detail"], row["source"], row["corpus"], {c: row[c] for c in columns})
        for row, found in zip(rows.to_pylist(), verdicts.to_pylist(), strict=True)
    ]
