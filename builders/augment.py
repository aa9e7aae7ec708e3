"""Train rows said otherwise: copies with their parent's label, group and side, and what was done to them.

In: split rows. Out: the same rows with copies of some train rows behind them. Label words, answer spans, strings that
a JSON column holds, numbers and negations are never touched; spans are moved to where they now stand. A copy that
folds to its parent's text, that loses something protected, or whose text stands on another side is rejected.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from zhiling.builders.augment_models import back_translation, contextual
from zhiling.builders.augmenters import Part, keyed_augmenter, must_stay, turned, words
from zhiling.builders.clean import fold
from zhiling.builders.engines import Piece, Reject, RowGroup, read_output
from zhiling.errors import one_line
from zhiling.rows import RESERVED, Columns, conform, split_schema, strings_in
from zhiling.seeds import uniform
from zhiling.settings import Settings
from zhiling.store import digest, files_below
from zhiling.templates.pack import Pack, read_pack

Kind = Literal["synonym", "homophone", "typo", "keyboard", "contextual", "back_translation"]
Row = dict[str, Any]


class Method(Settings):
    """One way of saying rows otherwise, and for how many of them."""

    kind: Kind
    rows: float = Field(0.5, gt=0, le=1, description="share of the train rows that get a copy, by keyed draw")
    words: float = Field(0.15, gt=0, le=1, description="share of the words that can be replaced")
    model: str | None = Field(None, description="contextual: folder of the masked model that guesses words")
    models: tuple[str, str] | None = Field(None, description="back_translation: folders of the models there and back")

    @model_validator(mode="after")
    def _models(self) -> Self:
        if (self.kind == "back_translation") != (self.models is not None):
            raise ValueError("`models: [there, back]` belongs to back_translation, and it needs them")
        if (self.kind == "contextual") != (self.model is not None):
            raise ValueError("`model: FOLDER` belongs to contextual, and it needs one")
        return self

    @property
    def folders(self) -> tuple[str, ...]:
        """The model folders that the method asks."""
        return self.models or ((self.model,) if self.model else ())


class AugmentSettings(Settings):
    """How train rows are said otherwise, after the split."""

    methods: list[Method] = Field(min_length=1)
    corpora: list[str] | None = Field(None, description="only these; all where absent")
    columns: list[str] | None = Field(None, description="only these; all of type string where absent")


@dataclass(frozen=True)
class AugmentJob:
    """Split rows of one corpus to say otherwise."""

    rows: RowGroup
    columns: Columns
    settings: AugmentSettings
    held_out: Path      # one column `text`: folded texts of the other sides
    pack_folder: Path
    language: str
    base: Path
    seed: int


def held_out_texts(tables: Sequence[Path], columns: Columns) -> Iterator[str]:
    """Folded texts of validation and test rows."""
    names = [name for name, kind in columns.items() if kind == "string"]
    for path in tables:
        table = read_output(path, [*names, "split"]).filter(pc.field("split") != "train")
        for name in names:
            yield from (fold(text) for text in table[name].to_pylist())


def augment(job: AugmentJob) -> Iterator[Piece]:
    """The rows of one unit and their copies; the rejected copies with their reason."""
    table = job.rows.read()
    schema = split_schema(job.columns)
    yield Piece(conform(table, schema))
    known = _held_out(job.held_out)
    label_words = _label_words(read_pack(job.pack_folder))
    copies: list[Row] = []
    rejects: list[Reject] = []
    for row in (r for r in table.to_pylist() if r["split"] == "train"):
        for number, method in enumerate(job.settings.methods):
            key = f"{row['id']}\x1f{number}\x1f{method.kind}"
            if uniform(job.seed, "augment", key) >= method.rows:
                continue
            copy, reason, detail = _copy(job, row, method, key, label_words, known)
            if reason is None:
                copies.append(copy)
            else:
                fields = {k: v for k, v in copy.items() if k not in RESERVED}
                detail = f"{method.kind}: {detail}"
                rejects.append(Reject("augment", reason, detail, row["source"], row["corpus"], fields))
    yield Piece(pa.Table.from_pylist(copies, schema=schema), rejects)


@lru_cache(maxsize=8)
def _held_out(path: Path) -> frozenset[str]:
    return frozenset(pq.read_table(path)["text"].to_pylist())


def _label_words(pack: Pack) -> frozenset[str]:
    """Words that stand for labels anywhere in the pack."""
    found = {w for column in pack.label_columns for w in pack.labels_of(column).values()}
    for template in pack.settings.templates:
        if isinstance(template.choices, dict | list):
            found |= set(template.choices.values() if isinstance(template.choices, dict) else template.choices)
    return frozenset(w.strip() for w in found if w.strip())


def _copy(
    job: AugmentJob, row: Row, method: Method, key: str, label_words: frozenset[str], known: frozenset[str]
) -> tuple[Row, str | None, str]:
    """A copy of `row`, with the reason and detail of its refusal where it is refused."""
    kept = sorted({*label_words, *_held_strings(row, job.columns)}, key=lambda word: (-len(word), word))
    texts = [name for name, kind in job.columns.items() if kind == "string"]
    names = [name for name in texts if job.settings.columns is None or name in job.settings.columns]
    copy, changes = dict(row), []
    for name in names:
        parts = _said(job, method, row[name], kept, f"{key}\x1f{name}")
        after = "".join(part.after for part in parts)
        lost = [w for w in kept if row[name].count(w) != after.count(w)]
        if lost:
            return copy, "lost_protected", f"'{one_line(lost[0], 30)}' is gone or said twice"
        if method.models and (why := turned(row[name], after, job.language)):
            return copy, "lost_protected", why
        if after != row[name] and fold(after) in known:  # what its parent says already is no news
            return copy, "on_another_side", f"'{one_line(after, 40)}' stands in validation or test"
        if after != row[name]:
            changes += [f"{p.before}→{p.after}" for p in parts if p.before != p.after]
            _move_spans(copy, job.columns, row[name], after, parts)
        copy[name] = after
    if all(fold(copy[name]) == fold(row[name]) for name in names):
        return copy, "unchanged", "nothing in it could be replaced"
    done = f"{method.kind}: {one_line('、'.join(changes), 120)}"
    identity = blake2b(f"{row['id']}\x1f{key}".encode(), digest_size=12).hexdigest()
    return {**copy, "id": identity, "parent_id": row["id"], "augmentation": done}, None, ""


def _said(job: AugmentJob, method: Method, text: str, kept: Sequence[str], key: str) -> list[Part]:
    if method.models:
        there, back = (job.base / folder for folder in method.models)
        return [Part(text, back_translation(there, back)(text))]
    pieces = _pieces(text, kept, job.language)
    parts: list[Part] = _augmenter(method, job.language, job.base, job.seed).augment_keyed(pieces, key, kept)
    return parts


@lru_cache(maxsize=16)
def _augmenter(method: Method, language: str, base: Path, seed: int) -> Any:
    say = contextual(base / method.model, language, method.words, seed) if method.model else None
    return keyed_augmenter(method.kind, language, method.words, seed, say)


def models_digest(settings: AugmentSettings | None, base: Path) -> dict[str, str]:
    """By folder that a method names: digest of the model in it; and versions of the libraries that ask it."""
    folders = {folder for method in settings.methods for folder in method.folders} if settings else set()
    found = {folder: digest(files_below(base / folder)) for folder in sorted(folders)}
    return {**found, **{name: version(name) for name in ("torch", "transformers") if folders and find_spec(name)}}


def _held_strings(row: Mapping[str, Any], columns: Columns) -> set[str]:
    """Strings of the row's spans, lists and JSON: answers and entities that its texts must go on holding."""
    found: set[str] = set()
    for name, kind in columns.items():
        value = json.loads(row[name]) if kind == "json" and row[name] else row[name]
        if kind == "spans":
            found |= {span["text"] for span in value or ()}
        elif kind in ("strings", "json"):
            found |= set(strings_in(value))
    return {text for text in found if text.strip()}


def _pieces(text: str, kept: Sequence[str], language: str) -> list[tuple[str, bool]]:
    """The text as (piece, protected): protected strings whole, the rest in words."""
    pieces: list[tuple[str, bool]] = []
    rest = text
    while rest:
        at, held = min(((rest.find(w), w) for w in kept if w in rest), default=(len(rest), ""), key=lambda f: f[0])
        pieces += [(word, must_stay(word)) for word in words(rest[:at], language)]
        if held:
            pieces.append((held, True))
        rest = rest[at + len(held) :]
    return pieces


def _move_spans(copy: Row, columns: Columns, before: str, after: str, parts: Sequence[Part]) -> None:
    """Move the spans that were cut from this text to where they now stand."""
    for name in (n for n, kind in columns.items() if kind == "spans"):
        copy[name] = [
            {**s, "start": _now_at(s["text"], s["start"], before, after, parts)}
            if s["start"] is not None and before[s["start"] : s["start"] + len(s["text"])] == s["text"] else s
            for s in copy[name] or ()
        ]


def _now_at(word: str, start: int, before: str, after: str, parts: Sequence[Part]) -> int | None:
    """Where a word of a text stands in its copy: where its part moved; in a text said anew, the same one of several."""
    at = _moved(start, parts)
    if after.startswith(word, at):
        return at
    at = before.find(word)
    place = after.find(word)
    while 0 <= at < start:
        at, place = before.find(word, at + 1), after.find(word, place + 1)
    return place if place >= 0 else None


def _moved(start: int, parts: Sequence[Part]) -> int:
    was = now = 0
    for part in parts:
        if was + len(part.before) > start:
            break
        was, now = was + len(part.before), now + len(part.after)
    return now + start - was
