"""Train rows that hold what an evaluation asks: found on the source fields, dropped or listed.

In: split rows and the texts of evaluations (files, releases, lm-eval tasks, this release's own held-out rows). Out:
the rows that stay, and a list for a person to read with both texts side by side. A train row is contaminated where it
shares a run of `ngram` characters (words where they are spaced) with an evaluation's text; a text shorter than that
counts where both are equal and no text of its row is longer: many rows share a short answer, an option or the name of a
type. Letters and digits are compared, width and case folded; a template's words are never among them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from zhiling.builders.engines import Piece, Reject, RowGroup, row_groups
from zhiling.builders.shingles import Shingles, shingle
from zhiling.errors import UserError, did_you_mean, one_line
from zhiling.rows import RESERVED, Columns, is_unspaced, strings_in
from zhiling.settings import Settings
from zhiling.store import PARQUET, atomic, file_digest, read_manifest

FOUND_SCHEMA = pa.schema(
    [("row", pa.int64()), ("id", pa.string()), ("source", pa.string()), ("text", pa.string()),
     ("against", pa.string()), ("their_text", pa.string()), ("shared", pa.string())]
)


class EvaluationTexts(Settings):
    """Texts that an evaluation asks: of a file, another release's test side, an lm-eval task, or this very release."""

    file: str | None = Field(None, description="JSONL, Parquet, .txt or .tsv, beside the recipe; all texts count")
    columns: list[str] = Field([], description="only these columns of the file or task")
    release: str | None = Field(None, description="folder of a release: the test side of its corpora")
    task: str | None = Field(None, description="an lm-eval task, by name: its test documents")
    held_out: str | None = Field(None, description="a corpus of this recipe: its validation and test rows")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(place is not None for place in (self.file, self.release, self.task, self.held_out)) != 1:
            raise ValueError("give one of `file`, `release`, `task` and `held_out`")
        return self

    @property
    def shown(self) -> str:
        """How it is named in lists."""
        if self.held_out:
            return f"held-out rows of {self.held_out}"
        return self.file or self.release or f"task {self.task}"


class DecontaminateSettings(Settings):
    """Against which evaluations train rows are held, and what becomes of those that share something."""

    against: list[EvaluationTexts] = Field(min_length=1)
    corpora: list[str] | None = Field(None, description="whose train rows are compared; all where absent")
    ngram: int = Field(13, ge=5, le=100, description="characters (words where they are spaced) that make a match")
    action: Literal["drop", "flag"] = "drop"


@dataclass(frozen=True)
class Checked:
    """Split rows to hold against an index."""

    rows: RowGroup
    columns: Columns
    language: str
    index: Path
    ngram: int


@dataclass(frozen=True)
class Dropped:
    """Split rows, and the list of those that share something with an evaluation."""

    rows: RowGroup
    found: Path


def inputs(settings: DecontaminateSettings, base: Path) -> list[tuple[str, str]]:
    """(name, digest) of every evaluation, for the digest of what a release is made from. Raises UserError."""
    found = []
    for each in settings.against:
        if each.held_out:
            continue  # of rows that are inputs anyway
        path = base / (each.file or each.release or "")
        if each.file and not path.is_file():
            raise UserError(each.file, "no such file", "check the path (it is relative to the recipe)")
        if each.release:
            read_manifest(path, "release")
            path = path / "manifest.json"
        found.append((each.shown, "by name" if each.task else file_digest(path)))
    return found


def write_index(
    settings: DecontaminateSettings, languages: Iterable[str], base: Path, splits: Mapping[str, Sequence[Path]],
    out: Path,
) -> None:
    """Write every evaluation text's pieces, sorted, to `out`: hash, text and where it comes from."""
    if out.exists():
        return
    shown, texts = [], []
    for each in settings.against:
        here = [t for t in dict.fromkeys(_texts(each, base, splits)) if t.strip()]
        if not (here or each.held_out):  # compared with nothing, a release would only seem clean
            raise UserError(each.shown, "no text in it", "check that it is the evaluation that you mean")
        texts += here
        shown += [each.shown] * len(here)
    columns: dict[str, list[Any]] = {"spaced": [], "hash": [], "text": []}
    for unspaced in sorted({is_unspaced(language) for language in languages}):
        pieces = _pieces(texts, unspaced, settings.ngram)
        columns["spaced"].append(np.full(len(pieces.hashes), not unspaced))
        columns["hash"].append(pieces.hashes)
        columns["text"].append(np.repeat(np.arange(len(texts)), np.diff(pieces.offsets)))
    table = pa.table({name: np.concatenate(parts) for name, parts in columns.items()}).sort_by(
        [("spaced", "ascending"), ("hash", "ascending"), ("text", "ascending")]
    )
    with atomic(out.with_suffix(".texts.parquet")) as part:
        pq.write_table(pa.table({"against": pa.array(shown, pa.string()), "text": pa.array(texts, pa.string())}), part)
    with atomic(out) as part:
        pq.write_table(table, part, **PARQUET)


def _texts(each: EvaluationTexts, base: Path, splits: Mapping[str, Sequence[Path]]) -> Iterator[str]:
    if each.held_out:
        tables = [part.read() for part in row_groups(splits.get(each.held_out, []))]
        yield from (text for table in tables for text in _source_texts(table, pc.field("split") != "train"))
        return
    if each.release:
        for path in sorted((base / each.release / "corpus").glob("*/test-*.parquet")):
            yield from _source_texts(pq.read_table(path), pc.scalar(True))
        return
    rows = _task_documents(each.task) if each.task else _file_rows(base / (each.file or ""), each.shown)
    for number, row in enumerate(rows):
        absent = [column for column in each.columns if column not in row]
        if number == 0 and absent:
            raise UserError(each.shown, f"no column '{one_line(absent[0])}'", did_you_mean(absent[0], map(str, row)))
        yield from _strings({k: v for k, v in row.items() if k in each.columns} if each.columns else row)


def _source_texts(table: pa.Table, which: pc.Expression) -> Iterator[str]:
    for row in table.filter(which).to_pylist():
        yield from _strings({k: v for k, v in row.items() if k not in RESERVED})


def _strings(value: Any) -> Iterator[str]:
    """Every text in a field, those in JSON text among them: its keys and brackets are no text of anyone's."""
    for text in strings_in(value):
        try:
            inner = json.loads(text) if text.lstrip()[:1] in ("[", "{") else None
        except (ValueError, RecursionError):
            inner = None
        yield from (text,) if inner is None else strings_in(inner)


def _file_rows(path: Path, shown: str) -> Iterator[Mapping[str, Any]]:
    do = "give JSONL, Parquet, .txt or .tsv"
    try:
        if path.suffix == ".parquet":
            yield from pq.read_table(path).to_pylist()
            return
        with path.open(encoding="utf-8-sig") as f:
            if path.suffix in (".txt", ".tsv"):
                yield from ({"line": line.rstrip("\n").split("\t")} for line in f)
                return
            for number, line in enumerate(f, 1):
                if line.strip():
                    row = _parsed(line, f"{shown}:{number}", do)
                    yield row if isinstance(row, dict) else {"text": row}
    except UnicodeDecodeError:
        raise UserError(shown, "not UTF-8 text", do) from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(shown, f"cannot be read ({one_line(str(error), 120)})", do) from None


def _parsed(line: str, where: str, do: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise UserError(where, "not valid JSON", f"mend the line, or {do}") from None


def _task_documents(name: str | None) -> Iterable[Mapping[str, Any]]:
    """The test documents of an lm-eval task, which reads them from the Hub or its cache."""
    try:
        from lm_eval.tasks import TaskManager, get_task_dict
    except ImportError:
        raise UserError(f"task {name}", "lm-eval is not installed", "pip install 'zhiling[eval]'") from None
    try:
        task = get_task_dict([name], TaskManager())[name]
        return list(task.test_docs() if task.has_test_docs() else task.validation_docs())
    except Exception as error:  # its own, the Hub client's and plain errors
        raise UserError(f"task {name}", f"cannot be read ({one_line(str(error), 120)})", "check the name") from None


def _pieces(texts: Sequence[str], unspaced: bool, ngram: int, whole: Sequence[bool] | None = None) -> Shingles:
    """Runs of `ngram` characters or words of each text; a shorter text is one piece, whole, where it is to count."""
    runs = shingle(texts, ngram if unspaced else None, ngram)
    parts, short = [], np.diff(runs.offsets) == 0
    for i in np.flatnonzero(short if whole is None else short & np.array(whole, bool)).tolist():
        found = shingle([runs.folded[i]], max(1, len(runs.folded[i]))) if runs.folded[i] else None
        parts.append((i, found.hashes[:1] if found else np.zeros(0, np.uint64)))
    if not parts:
        return runs
    by_text = {i: hashes ^ np.uint64(0x5DEECE66D) for i, hashes in parts}  # a whole text matches only whole texts
    hashes = [by_text.get(i, runs.of(i)) for i in range(len(texts))]
    offsets = np.concatenate([[0], np.cumsum([len(h) for h in hashes])]).astype(np.int64)
    return Shingles(runs.folded, np.concatenate(hashes), offsets)


def check(job: Checked) -> Iterator[Piece]:
    """The train rows of one unit that share something with an evaluation, with both texts."""
    table = job.rows.read()
    train = [i for i, side in enumerate(table["split"].to_pylist()) if side == "train"]
    columns = [name for name, kind in job.columns.items() if kind != "label"]
    values = {name: table[name].to_pylist() for name in columns}
    owners, texts, longest = list[int](), list[str](), list[bool]()
    for i in train:
        own = [text for name in columns for text in _strings(values[name][i])]
        most = max(map(len, own), default=0)
        owners += [i] * len(own)
        texts += own
        longest += [len(text) == most for text in own]
    unspaced = is_unspaced(job.language)
    known = pq.read_table(job.index, filters=[("spaced", "==", not unspaced)])
    hashes = known["hash"].to_numpy()
    pieces = _pieces(texts, unspaced, job.ngram, longest)
    places = np.searchsorted(hashes, pieces.hashes)
    places[places == len(hashes)] = 0
    hit = hashes[places] == pieces.hashes if len(hashes) else np.zeros(len(pieces.hashes), bool)
    of_text = np.repeat(np.arange(len(texts)), np.diff(pieces.offsets))
    theirs = pq.read_table(job.index.with_suffix(".texts.parquet")).to_pylist() if hit.any() else []
    rows: dict[int, dict[str, Any]] = {}
    for at in np.flatnonzero(hit).tolist():
        which = int(of_text[at])
        row = owners[which]
        if row not in rows:
            other = theirs[known["text"][int(places[at])].as_py()]
            start = at - int(pieces.offsets[which])
            shared = pieces.folded[which][start : start + job.ngram] if unspaced else ""
            rows[row] = {
                "row": row, "id": table["id"][row].as_py(), "source": table["source"][row].as_py(),
                "text": texts[which], "against": other["against"], "their_text": other["text"], "shared": shared,
            }
    yield Piece(pa.Table.from_pylist([rows[i] for i in sorted(rows)], schema=FOUND_SCHEMA))


def drop(job: Dropped) -> Iterator[Piece]:
    """The rows of one unit without those that were found; each of them a reject that names what it shares."""
    table, found = job.rows.read(), pq.read_table(job.found).to_pylist()
    gone = {row["row"]: row for row in found}
    rejects = []
    for place, row in gone.items():
        fields = {k: v[0] for k, v in table.slice(place, 1).to_pydict().items() if k not in RESERVED}
        detail = f"shares “{row['shared'] or one_line(row['text'], 40)}” with {row['against']}"
        corpus = table["corpus"][place].as_py()
        rejects.append(Reject("decontaminate", "contaminated", detail, row["source"], corpus, fields))
    kept = pa.array([i not in gone for i in range(len(table))], pa.bool_())
    yield Piece(table.filter(kept), rejects)
