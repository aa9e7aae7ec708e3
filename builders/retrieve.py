"""Passages beside a question, as a retriever would bring them: BM25 over a passage file or over train rows' own.

In: split rows that name their gold passages (by id or as text), and passages. Out: the same rows with `count` passages,
the gold one among them at a drawn rank, the others the nearest to the question; a share of the rows without it, if
asked. Ranks are recorded. No train row is shown the gold passage of a held-out row, unless it is its own too. A row
that names a passage which is not there is rejected.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from zhiling.builders.bm25 import Index, Scores, make_index, ranked, score
from zhiling.builders.clean import fold
from zhiling.builders.engines import Piece, Reject, RowGroup, read_output
from zhiling.errors import UserError, one_line
from zhiling.rows import Columns
from zhiling.seeds import shuffled, uniform
from zhiling.settings import Settings
from zhiling.store import PARQUET, atomic, canonical_json, file_digest

FOUND_SCHEMA = pa.schema(
    [("id", pa.string()), ("passages", pa.list_(pa.string())), ("gold", pa.list_(pa.int64())),
     ("left_out", pa.bool_()), ("refused", pa.string())]
)
PASSAGE_SCHEMA = pa.schema([("text", pa.string()), ("ids", pa.list_(pa.string())), ("held_out", pa.bool_())])


class RetrieveSettings(Settings):
    """Which passages stand beside a row, and where."""

    passages: str | None = Field(
        None, description="JSONL with `text` and maybe `id`, or text with a passage a line, relative to the recipe; "
        "where absent, the passages that train rows bring"
    )
    into: str = Field("passages", description="strings column: its source names the gold passages, by id or as text")
    query: str = Field("question", description="string column that is searched with")
    count: int = Field(3, ge=1, le=100, description="passages beside a row, the gold ones among them")
    sources: str | None = Field(None, description="json column that is to hold the gold passages' ranks, from 1")
    answer: str | None = Field(None, description="string column: a passage that holds its text is gold or left out")
    without_gold: float = Field(0.0, ge=0, le=1, description="share of rows whose gold passage is left out")
    unanswered: str = Field("", description="what `answer` says in rows whose gold passage is left out")

    @model_validator(mode="after")
    def _answerable(self) -> Self:
        if self.without_gold and self.answer is None:
            raise ValueError("`without_gold` needs `answer`, which says something else in such rows")
        return self

    @property
    def named(self) -> dict[str, tuple[str, str]]:
        """Setting -> the column that it names, and the type that the column has to have."""
        named = {"into": (self.into, "strings"), "query": (self.query, "string"), "sources": (self.sources, "json"),
                 "answer": (self.answer, "string")}
        return {setting: (column, kind) for setting, (column, kind) in named.items() if column is not None}

    def given(self, column: str, value: Any) -> Any:
        """What a source gives for `column`: it may leave out what retrieval fills, and name one passage plainly."""
        if column not in (self.into, self.sources):
            return value
        if value is None or value == "":
            return []
        if column != self.into or not isinstance(value, str | int | list):
            return value
        return [str(each) if type(each) is int else each for each in (value if isinstance(value, list) else [value])]


@dataclass(frozen=True)
class FindJob:
    """Split rows to find passages for."""

    rows: RowGroup
    language: str
    passages: Path
    settings: RetrieveSettings
    seed: int


@dataclass(frozen=True)
class FillJob:
    """Split rows, and what was found for each."""

    rows: RowGroup
    columns: Columns
    found: Path
    settings: RetrieveSettings


@dataclass(frozen=True)
class Shelf:
    """All passages of a corpus, in order of their text."""

    texts: Sequence[str]
    folded: Sequence[str]
    by_id: Mapping[str, str]
    known: frozenset[str]  # what a row may name where passages have ids: else any text
    held_out: frozenset[str]  # folded: what validation and test rows are about
    index: Index


def passages_digest(path: Path, shown: str) -> str:
    """Digest of a passage file. Raises UserError where there is none."""
    if not path.is_file():
        raise UserError(shown, "no such file", "check the path (it is relative to the recipe)")
    return file_digest(path)


def read_passages(path: Path, shown: str) -> Iterator[tuple[str | None, str]]:
    """(id, text) of every passage of a file. Raises UserError where there are none, or a line is no passage."""
    found = False
    with path.open(encoding="utf-8-sig") as f:
        try:
            for number, line in enumerate(f, 1):
                if line.strip():
                    found = True
                    plain = path.suffix == ".txt"
                    yield (None, line.strip()) if plain else _passage(line, f"{shown}:{number}")
        except UnicodeDecodeError:
            raise UserError(shown, "not UTF-8", "save it as UTF-8") from None
    if not found:
        raise UserError(shown, "no passage in it", "give one a line")


def _passage(line: str, where: str) -> tuple[str | None, str]:
    do = 'write {"id": "...", "text": "..."}'
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise UserError(where, "not valid JSON", do) from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not row["text"].strip():
        raise UserError(where, "a line without `text`", do)
    return None if row.get("id") is None else str(row["id"]), row["text"]


def asked_for(files: Iterable[Path], column: str) -> Iterator[str]:
    """What validation and test rows name as their gold passages."""
    for path in files:
        rows = read_output(path, [column, "split"]).filter(pc.field("split") != "train")
        yield from pc.list_flatten(rows[column]).to_pylist()


def own_passages(files: Iterable[Path], column: str) -> Iterator[tuple[None, str]]:
    """The passages that train rows bring."""
    for path in files:
        rows = read_output(path, [column, "split"]).filter(pc.field("split") == "train")
        for given in rows[column].to_pylist():
            yield from ((None, text) for text in given)


def write_shelf(passages: Iterable[tuple[str | None, str]], held_out: Set[str], shown: str, out: Path) -> None:
    """Write passages to `out`, each text once, in order; those that held-out rows name, by id or as text, are marked.

    Raises UserError where one id names two texts.
    """
    if out.exists():
        return
    by_text: dict[str, list[str]] = {}
    by_id: dict[str, str] = {}
    for name, text in passages:
        names = by_text.setdefault(text, [])
        if name is not None:
            if by_id.setdefault(name, text) != text:
                raise UserError(shown, f"two passages have the id '{one_line(name, 40)}'", "give each its own")
            names.append(name)
    rows = [
        {"text": text, "ids": sorted(set(by_text[text])), "held_out": not held_out.isdisjoint((text, *by_text[text]))}
        for text in sorted(by_text)
    ]
    with atomic(out) as part:
        pq.write_table(pa.Table.from_pylist(rows, schema=PASSAGE_SCHEMA), part, **PARQUET)


@lru_cache(maxsize=8)
def _shelf(path: Path, language: str) -> Shelf:
    rows = pq.read_table(path).to_pylist()
    texts = [row["text"] for row in rows]
    by_id = {name: row["text"] for row in rows for name in row["ids"]}
    known = frozenset(texts if by_id else ())
    folded = [fold(text) for text in texts]
    held_out = frozenset(text for text, row in zip(folded, rows, strict=True) if row["held_out"])
    return Shelf(texts, folded, by_id, known, held_out, make_index(texts, language))


def find(job: FindJob) -> Iterator[Piece]:
    """For every row of one unit: its passages, and the ranks of the gold ones."""
    wanted, shelf = job.settings, _shelf(job.passages, job.language)
    rows = job.rows.read(sorted({"id", "split", *(column for column, _ in wanted.named.values())})).to_pylist()
    scores = score(shelf.index, [row[wanted.query] for row in rows])
    found = [_find(row, found, shelf, job) for row, found in zip(rows, scores, strict=True)]
    yield Piece(pa.Table.from_pylist(found, schema=FOUND_SCHEMA))


def _find(row: Mapping[str, Any], scores: Scores, shelf: Shelf, job: FindJob) -> dict[str, Any]:
    wanted, name = job.settings, row["id"]
    gold = list(dict.fromkeys(shelf.by_id.get(each, each) for each in row[wanted.into]))
    unknown = next((text for text in gold if shelf.known and text not in shelf.known), None)
    if unknown is not None or len(gold) > wanted.count:
        why = f"{len(gold)} gold passages where {wanted.count} are shown"
        if unknown is not None:
            why = f"no passage '{one_line(unknown, 40)}'"
        return {"id": name, "passages": [], "gold": [], "left_out": False, "refused": why}
    left_out = bool(gold) and uniform(job.seed, "without gold", name) < wanted.without_gold
    shown = [] if left_out else gold
    barred = shelf.held_out if row["split"] == "train" else frozenset[str]()
    answer = fold(row[wanted.answer]) if wanted.answer and gold else ""
    company = _company({*map(fold, gold)}, barred, answer, scores, shelf, wanted.count - len(shown))
    total = len(shown) + len(company)
    places = sorted(shuffled(range(total), job.seed, "gold rank", name)[: len(shown)])
    passages = list(company)
    for place, text in zip(places, shown, strict=True):
        passages.insert(place, text)
    return {"id": name, "passages": passages, "gold": [p + 1 for p in places], "left_out": left_out, "refused": None}


def _company(
    taken: set[str], barred: Set[str], answer: str, scores: Scores, shelf: Shelf, count: int
) -> list[str]:
    """The nearest passages that have something of the question and, where there is a gold one, no answer to it."""
    found: list[str] = []
    for place in ranked(scores) if count else ():
        folded = shelf.folded[place]
        if scores[place] <= 0 or len(found) == count:
            break
        if folded not in taken and folded not in barred and not (answer and answer in folded):
            taken.add(folded)
            found.append(shelf.texts[place])
    return found


def fill(job: FillJob) -> Iterator[Piece]:
    """The rows of one unit with their passages; a reject for each row that names a passage which is not there."""
    table, found, wanted = job.rows.read(), pq.read_table(job.found), job.settings
    values = {wanted.into: found["passages"].to_pylist()}
    if wanted.sources is not None:
        values[wanted.sources] = [canonical_json(gold) for gold in found["gold"].to_pylist()]
    if wanted.answer is not None:
        answers = zip(table[wanted.answer].to_pylist(), found["left_out"].to_pylist(), strict=True)
        values[wanted.answer] = [wanted.unanswered if left_out else answer for answer, left_out in answers]
    filled = table
    for column, cells in values.items():
        at = table.schema.get_field_index(column)
        filled = filled.set_column(at, table.schema.field(at), pa.array(cells, table.schema.field(at).type))
    refused = found["refused"].to_pylist()
    rejects = []
    for place, why in enumerate(refused):
        if why is not None:
            row = table.slice(place, 1).select([*job.columns, "source", "corpus"]).to_pylist()[0]
            source, corpus = row.pop("source"), row.pop("corpus")
            rejects.append(Reject("retrieve", "no_passage", why, source, corpus, row))
    yield Piece(filled.filter(pa.array([why is None for why in refused], pa.bool_())), rejects)
