"""A pack's example rows: `examples.jsonl`, one JSON object a line holding exactly the declared columns.

In: the file. Out: its rows. Refused with file and line: broken JSON, keys that stand twice, missing or
unknown columns, values of another type or an unknown label, characters that no UTF-8 file can hold.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from zhiling.errors import UserError, did_you_mean, one_line
from zhiling.rows import ColumnType
from zhiling.settings import MAX_BYTES

Labels = Mapping[str, Collection[str]]  # label column -> its labels
_SPAN = (("start", int), ("text", str), ("label", str))
SHAPES = {
    "string": "a text", "label": "a label", "strings": "a list of texts",
    "spans": "a list of {start: number, text: text, label: text}", "json": "a JSON value other than a text",
}


def read_examples(
    path: Path, columns: Mapping[str, ColumnType], labels: Labels
) -> tuple[dict[str, Any], ...] | None:
    """The rows of `path`; None where there is no such file. Raises UserError for the first that is wrong."""
    if not path.is_file():
        return None
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UserError(str(path), f"{size:,} bytes of examples", f"keep them under {MAX_BYTES:,}")
    raw = path.read_bytes()
    try:
        lines = raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        broken = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{broken}", f"not UTF-8 (byte {error.start})", "save it as UTF-8") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _parse(line, f"{path}:{number}")
            if problem := misfit(row, columns, labels):
                raise UserError(f"{path}:{number}", problem, f"give just these: {_declared(columns)}")
            rows.append(row)
    return tuple(rows)


def misfit(row: Any, columns: Mapping[str, ColumnType], labels: Labels) -> str | None:
    """How a row does not fit the declared columns; None where it does."""
    if not isinstance(row, dict):
        return f"a {type(row).__name__} where a row should be"
    if missing := [name for name in columns if name not in row]:
        return f"no column '{missing[0]}' in it"
    if unknown := [name for name in row if name not in columns]:
        return f"the unknown column '{one_line(unknown[0], 40)}'"
    for name, kind in columns.items():
        value = row[name]
        if not fits(value, kind):
            return f"'{name}' is {one_line(json.dumps(value, ensure_ascii=False), 40)}, not {SHAPES[kind]}"
        if kind == "label" and value not in labels[name]:
            near = did_you_mean(value, labels[name])
            return f"'{name}' is the unknown label '{one_line(value, 40)}' ({near})"
    return None


def fits(value: Any, kind: ColumnType) -> bool:
    """Whether a value is of a column's type."""
    if kind == "json":
        return not isinstance(value, str)  # tables hold JSON text: a bare text would be read as that
    if kind in ("string", "label"):
        return isinstance(value, str)
    if not isinstance(value, list):
        return False
    if kind == "strings":
        return all(isinstance(v, str) for v in value)
    return all(isinstance(v, dict) and len(v) == 3 and all(type(v.get(k)) is t for k, t in _SPAN) for v in value)


def _declared(columns: Mapping[str, ColumnType]) -> str:
    return ", ".join(f"{name} ({SHAPES[kind]})" for name, kind in columns.items())


def _parse(line: str, where: str) -> Any:
    try:
        row = json.loads(line, object_pairs_hook=_distinct, parse_constant=_not_json)
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        saw = "half of a surrogate pair (a \\ud… escape)"
        raise UserError(where, saw, "write the character itself") from None
    except RecursionError:
        raise UserError(where, "nested too deep", "flatten it") from None
    except ValueError as error:
        raise UserError(where, f"not valid JSON ({error})", "write one JSON object a line") from None
    return row


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in {k for k, _ in pairs[:i]})
        raise ValueError(f"key '{one_line(twice, 40)}' stands twice")
    return found


def _not_json(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
