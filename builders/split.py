"""Groups to train, validation and test: a keyed draw on the group's own content, never on order or count."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from zhiling.builders.engines import Piece, Reject, RowGroup
from zhiling.rows import ROW_FIELDS, Columns, Split, conform, split_schema
from zhiling.seeds import uniform
from zhiling.settings import Settings


class SplitSettings(Settings):
    """Share of the groups on each side; together 1."""

    train: float = Field(0.8, gt=0, le=1)
    validation: float = Field(0.1, ge=0, lt=1)
    test: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"shares add up to {total:g}; make them 1")
        return self


@dataclass(frozen=True)
class SplitJob:
    """Rows to put on their sides, and where the verdicts on them stand."""

    rows: RowGroup
    unit: int
    verdicts: Path
    columns: Columns
    shares: SplitSettings
    seed: int


def side(seed: int, group_id: str, shares: SplitSettings) -> Split:
    """The side of a group. Test first, so that changing validation's share leaves test as it is."""
    at = uniform(seed, "split", group_id)
    if at < shares.test:
        return "test"
    return "validation" if at < shares.test + shares.validation else "train"


def split_rows(job: SplitJob) -> Iterator[Piece]:
    """The kept rows of one unit with group and side; the others rejected with their reason."""
    table = job.rows.read()
    verdicts = pq.read_table(job.verdicts, filters=[("unit", "==", job.unit)])
    assert len(verdicts) == len(table)
    kept = pc.equal(verdicts["verdict"], "keep")
    groups = verdicts["group_id"].filter(kept)
    rows = table.filter(kept)
    nulls = pa.nulls(len(rows), pa.string())
    for name, values in (
        ("group_id", groups),
        ("split", pa.array([side(job.seed, g, job.shares) for g in groups.to_pylist()], pa.string())),
        ("augmentation", nulls),
        ("parent_id", nulls),
    ):
        rows = rows.append_column(name, values)
    rejected = pc.invert(kept)
    yield Piece(conform(rows, split_schema(job.columns)), _rejects(table.filter(rejected), verdicts.filter(rejected)))


def _rejects(rows: pa.Table, verdicts: pa.Table) -> list[Reject]:
    own = {name for name, _ in ROW_FIELDS}
    found = []
    for row, verdict in zip(rows.to_pylist(), verdicts.to_pylist(), strict=True):
        fields = {k: v for k, v in row.items() if k not in own}
        found.append(
            Reject("clean", verdict["verdict"], verdict["detail"], row["source"], row["corpus"], fields)
        )
    return found
