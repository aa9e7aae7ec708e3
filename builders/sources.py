"""A corpus in a recipe: where its rows are and what its columns and labels mean to its pack; units of reading it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from zhiling.builders.retrieve import RetrieveSettings
from zhiling.builders.screen import ScreenSettings
from zhiling.errors import UserError, one_line
from zhiling.rows import ColumnType, Split
from zhiling.settings import Settings

SIDES: dict[str, Split] = {  # what sources call their sides
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test",
}
UNVERSIONED = "unversioned"
Format = Literal["jsonl", "csv", "tsv", "parquet", "arrow", "text", "conll", "people_daily"]
Cast = Literal["json", "whole", "lines", "tabs", "commas", "spaces"]


class SourceFile(Settings):
    """One file of a corpus."""

    path: str = Field(description="a file or a pattern (`data/**/*.jsonl`), relative to the recipe; "
                      "`package:NAME/FILE` inside an installed package; or an address, as `s3://bucket/data/*.jsonl`")
    inside: str = Field("*", description="which files of a .zip are read")
    format: Format | None = Field(None, description="by the file's ending where absent")
    set: dict[str, str | list[str]] = Field({}, description="columns that have one value in the whole file")
    split: Split | None = Field(None, description="the side that the source itself gives the file's rows")


class HubSource(Settings):
    """A dataset that `datasets.load_dataset` can open: a Hub name or a local folder."""

    name: str
    config: str | None = None
    split: str = "train"
    revision: str | None = Field(None, description="branch, tag or commit; the commit that was read is in the manifest")


class SqlSource(Settings):
    """Rows that a query gives: of a SQLite file, or of the PostgreSQL database that an environment variable names."""

    sqlite: str | None = Field(None, description="a SQLite file, relative to the recipe")
    postgres: str | None = Field(
        None, pattern=r"^[A-Z][A-Z0-9_]*_(DSN|DATABASE)$",  # no recipe may have another secret sent somewhere
        description="environment variable that holds the connection string; its name ends in _DSN or _DATABASE",
    )
    query: str = Field(description="a SELECT; end it with ORDER BY, so that rows are numbered alike each time")

    @model_validator(mode="after")
    def _one_database(self) -> Self:
        if (self.sqlite is None) == (self.postgres is None):
            raise ValueError("give either `sqlite` or `postgres`")
        return self


def _written(value: Any) -> Any:
    """Numbers as they are written: YAML takes the 1 of `1: positive` for one."""
    if isinstance(value, bool | float) or value is None:  # how it was written is lost
        raise ValueError("put it in quotes: YAML takes yes, true, 1.0 and null for something else than words")
    return str(value) if type(value) is int else value


Written = Annotated[str, BeforeValidator(_written)]


class CorpusSettings(Settings):
    """A labelled corpus: where its rows are and what its columns mean to its pack."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)
    pack: str
    templates: list[str] | None = Field(None, description="all of the pack's where absent")
    files: list[SourceFile] = Field([])
    hub: HubSource | None = None
    sql: SqlSource | None = None
    columns: dict[str, str] = Field({}, description="pack column -> column of the source")
    labels: dict[Written, Written] = Field({}, description="value in the source -> label of the pack, of spans too")
    casts: dict[str, Cast] = Field({}, description="pack column -> how its text in the source is taken apart")
    where: str | None = Field(None, description="SQL condition on the pack's columns; other rows are left out")
    split_column: str | None = Field(None, description="column of the source that holds its own split; it is kept")
    together: str | list[str] | None = Field(
        None, description="columns (of the source or the pack) whose equal values stay on one side: a user, a document"
    )
    time: str | None = Field(None, description="column with the row's time, for `split: time:`")
    header: list[str] | None = Field(None, description="column names of CSV or TSV files that have no header line")
    retrieve: RetrieveSettings | None = Field(None, description="passages put beside each row, after the split")
    encoding: Literal["utf-8", "gb18030"] = "utf-8"
    unknown_labels: Literal["stop", "reject"] = "stop"
    revision: str = Field(UNVERSIONED, description="which state of the corpus this is; by default a Hub's commit")
    license: str
    url: str | None = Field(None, pattern=r"^https?://[^\s<>]+$", description="where people read of it: https://...")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if [bool(self.files), self.hub is not None, self.sql is not None].count(True) != 1:
            raise ValueError("give one of `files`, `hub` and `sql`")
        return self


@dataclass(frozen=True)
class Unit:
    """What one worker reads at a time: a file, a stretch of its lines, or all that a hub or a database gives."""

    corpus: CorpusSettings
    columns: Mapping[str, ColumnType]
    labels: Mapping[str, tuple[str, ...]]  # label column -> known labels
    language: str
    screen: ScreenSettings
    path: Path | None                       # None: the corpus's hub or database
    shown: str                              # the path as the recipe writes it
    format: Format | None
    fixed: Mapping[str, Any]
    member: str | None = None               # of a .zip
    offset: int = 0
    length: int | None = None               # bytes; None: to the end
    first_line: int = 1
    split: Split | None = None              # the side that the source gives all of it


@dataclass(frozen=True)
class Malformed:
    """A row that could not be read, and why."""

    text: str
    why: str
    reason: str = "malformed"


Row = tuple[str, dict[str, Any] | Malformed]  # where it stands, and what stands there


def check_names(names: Sequence[str], where: str) -> list[str]:
    """The names of a table's columns. Raises UserError where two are one: which is meant nobody can say."""
    twice = next((name for n, name in enumerate(names) if name and name in names[:n]), None)
    if twice is not None:
        raise UserError(where, f"two columns are called '{one_line(twice)}'", "rename one of them")
    return list(names)


def in_utc(moment: datetime) -> datetime:
    """A time without zone, as rows' times are compared: what has a zone in UTC, what has none as it is."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def plain(value: Any) -> Any:
    """A source's value as JSON has it: a number of any precision as a number, a date or a time as text."""
    if isinstance(value, Decimal):
        exponent = value.as_tuple().exponent
        return int(value) if isinstance(exponent, int) and exponent >= 0 else float(value)
    if isinstance(value, date | time | timedelta):  # a datetime is a date
        return str(value)
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value
