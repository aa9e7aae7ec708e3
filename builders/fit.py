"""One source row as a corpus row, or why it cannot be one: columns mapped, cast and checked, labels mapped, screened.

In: a row with its source's own column names. Out: a row of `read_schema`, or a reject with file and line. A label
that nobody mapped stops the build, unless the recipe rejects such rows.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from types import NoneType
from typing import Any

import pyarrow as pa

from zhiling.builders.engines import Piece, Reject
from zhiling.builders.screen import masked, screen
from zhiling.builders.sources import SIDES, Cast, Malformed, Row, Unit, in_utc
from zhiling.errors import UserError, did_you_mean, one_line
from zhiling.rows import ColumnType, corpus_schema
from zhiling.store import canonical_json

ASIDE = [  # what a row brings along for the steps before the release, by name (as no column of a pack's) and type
    ("_own", pa.string()),   # the side that its source gives it
    ("_ties", pa.list_(pa.string())),   # digests that rows which stay together share
    ("_time", pa.string()),  # ISO 8601
    ("_found", pa.list_(pa.string())),  # kinds of personal data in it
]
CASTS: dict[Cast, Callable[[str], Any]] = {
    "json": json.loads, "whole": lambda text: str(int(float(text))), "lines": str.splitlines,
    "tabs": lambda text: text.split("\t"), "commas": lambda text: [part.strip() for part in text.split(",")],
    "spaces": str.split,
}
SECONDS = re.compile(r"\d{9,10}(\.\d+)?")  # since 1970; fewer digits are a year or a date (20240131)


def read_schema(columns: Mapping[str, ColumnType]) -> pa.Schema:
    """Schema of rows as read: corpus rows, and what each brings along."""
    return pa.schema([*corpus_schema(columns), *ASIDE])


def fit_rows(unit: Unit, rows: Iterable[Row]) -> Piece:
    """Source rows as corpus rows, and rejects for those that cannot be."""
    fitted = [corpus_row(unit, source, raw) for source, raw in rows]
    good = [row for row in fitted if not isinstance(row, Reject)]
    return Piece(
        pa.Table.from_pylist(good, schema=read_schema(unit.columns)), [r for r in fitted if isinstance(r, Reject)]
    )


def corpus_row(unit: Unit, source: str, raw: dict[str, Any] | Malformed) -> dict[str, Any] | Reject:
    """One source row as a corpus row, or why it cannot be one."""
    def reject(reason: str, detail: str) -> Reject:
        try:
            shown = json.loads(json.dumps(raw if isinstance(raw, dict) else {"raw": raw.text}, default=str))
            kept = masked(shown, unit.screen)
        except RecursionError:
            kept = {"raw": "nested too deep"}
        return Reject("read", reason, masked(detail, unit.screen), source, unit.corpus.name, kept)

    if isinstance(raw, Malformed):
        return reject(raw.reason, raw.why)
    fields: dict[str, Any] = {}
    for column, kind in unit.columns.items():
        name = unit.corpus.columns.get(column, column)
        value = unit.fixed[column] if column in unit.fixed else lookup(raw, name)
        if unit.corpus.retrieve is not None:
            value = unit.corpus.retrieve.given(column, value)
        if value is None or value != value:  # as tables without null write it: not a number
            return reject("missing_column", f"no '{name}'")
        try:
            fitted = _fit(_cast(value, unit.corpus.casts.get(column)), kind)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            return reject("cannot_cast", f"'{name}': {one_line(str(error))}")
        if fitted is None:
            return reject("wrong_type", f"'{name}' is a {type(value).__name__}, not a {kind}")
        if kind == "label":
            fitted = named(fitted, unit.corpus.labels)
            known = unit.labels.get(column, ())
            if known and fitted not in known:
                if unit.corpus.unknown_labels == "stop":
                    do = f"{did_you_mean(fitted, known)} (map it under `labels:`, or set `unknown_labels: reject`)"
                    raise UserError(source, f"unknown label '{one_line(fitted, 40)}' in '{name}'", do)
                return reject("unknown_label", f"'{name}' is '{one_line(fitted, 40)}'")
        elif kind == "spans":
            fitted = [{**span, "label": unit.corpus.labels.get(span["label"], span["label"])} for span in fitted]
        fields[column] = fitted
    if all(not fields[c].strip() for c, k in unit.columns.items() if k == "string"):
        return reject("empty", "no text in any column")
    try:
        aside = _aside(unit, raw, fields)
    except (TypeError, ValueError) as error:
        return reject("unusable_value", str(error))
    try:
        seen = screen(fields, unit.columns, unit.language, unit.screen)
    except RecursionError:
        return reject("malformed", "nested too deep")
    if seen.refusal is not None:
        return Reject("screen", *seen.refusal, source, unit.corpus.name, seen.fields)
    try:
        identity = row_id(unit.corpus.name, seen.fields)
    except ValueError as error:  # half a surrogate pair, or a number that JSON does not have
        return reject("malformed", one_line(str(error)))
    return {
        "id": identity, "corpus": unit.corpus.name, "revision": unit.corpus.revision,
        "license": unit.corpus.license, "language": unit.language, "source": source,
        **seen.fields, **aside, "_found": seen.kinds,
    }


def named(label: str, names: Mapping[str, str]) -> str:
    """A source's label as the pack calls it; white space around it is the file's, not the label's."""
    return names.get(label, names.get(label.strip(), label.strip()))


def _aside(unit: Unit, raw: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The row's own side, ties and time. Raises ValueError where its source says something else there."""
    corpus, own, time = unit.corpus, unit.split, None
    if corpus.split_column is not None:
        value = lookup(raw, corpus.split_column)
        said = "" if value is None else str(value).strip().lower()
        if said and said not in SIDES:
            raise ValueError(f"'{corpus.split_column}' is '{one_line(said, 40)}', not a split")
        own = SIDES[said] if said else own  # a source may give some rows a side and not the others
    ties = []
    for column in [corpus.together] if isinstance(corpus.together, str) else corpus.together or []:
        value = lookup(raw, column)
        value = fields.get(column) if value is None else value
        if value is None:
            raise ValueError(f"no '{column}'")
        if value not in ("", []):  # rows have nothing in common in what is empty
            ties.append(_hashed(["tie", corpus.name, column, _as_set(value)]))
    if corpus.time is not None:
        time = _moment(lookup(raw, corpus.time), corpus.time)
    return {"_own": own, "_ties": ties, "_time": time}


def _as_set(value: Any) -> Any:
    """A list as the set of what it says: neither order, repetition nor the place of a span tells two apart."""
    if not isinstance(value, list):
        return value
    said = ([v["text"], v.get("label")] if isinstance(v, dict) and "text" in v else v for v in value)
    return sorted({canonical_json(v) for v in said})


def _moment(value: Any, column: str) -> str:
    """A time as ISO 8601, from ISO text, a date or seconds since 1970, as number or text. Raises ValueError."""
    said = str(value).strip()
    try:
        if SECONDS.fullmatch(said):
            return in_utc(datetime.fromtimestamp(float(said), UTC)).isoformat()
        return in_utc(datetime.fromisoformat(said)).isoformat()
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"'{column}' is '{one_line(said, 40)}', not a time") from None


def lookup(row: Mapping[str, Any], name: str) -> Any:
    """The value of a source's column; `answers.text` also names `text` inside `answers`. None where it is not there."""
    if name in row or "." not in name:
        return row.get(name)
    outer, _, inner = name.partition(".")
    within = row.get(outer)
    if isinstance(within, list):  # [{text: a}, {text: b}] as {text: [a, b]}
        found = [lookup(each, inner) for each in within if isinstance(each, Mapping)]
        return found if len(found) == len(within) else None
    return lookup(within, inner) if isinstance(within, Mapping) else None


def _cast(value: Any, cast: Cast | None) -> Any:
    """A source's text taken apart as the recipe says. Raises ValueError where it is no such text."""
    if cast is None or not isinstance(value, str | int | float):
        return value
    return CASTS[cast](str(value))


def _fit(value: Any, kind: ColumnType) -> Any:
    """`value` as a column of `kind` holds it; None where it cannot."""
    if kind in ("string", "label"):
        if isinstance(value, bool):
            return str(value).lower() if kind == "label" else None  # as JSON writes it
        return str(value) if isinstance(value, str | int | float) else None
    if kind == "strings":
        good = isinstance(value, list) and all(isinstance(v, str) for v in value)
        return value if good else None
    if kind == "spans":
        return list(map(_span, value)) if isinstance(value, list) else None
    return canonical_json(value)


def _span(value: Any) -> dict[str, Any]:
    """A span as a column holds it. Raises ValueError where it is none."""
    start, text, label = map(value.get, ("start", "text", "label")) if isinstance(value, dict) else (None, None, None)
    if isinstance(start, float) and start.is_integer():  # as tables write whole numbers beside none
        start = int(start)
    if not isinstance(text, str) or type(start) not in (int, NoneType) or type(label) not in (str, int, NoneType):
        raise ValueError("a span has a `text`, a `start` that is a whole number or none, and a `label` or none")
    return {"start": start, "text": text, "label": label if label is None else str(label)}


def row_id(corpus: str, fields: Mapping[str, Any]) -> str:
    """A row's id: a hash of its corpus's name and its content, so the same row has the same id in every release.

    Raises ValueError where the content is not text that UTF-8 can hold.
    """
    return _hashed([corpus, dict(fields)])


def _hashed(value: Any) -> str:
    return hashlib.blake2b(canonical_json(value).encode(), digest_size=12).hexdigest()
