"""Each row on its own, before rows are compared: personal data reported, masked or dropped; quality thresholds.

In: the fields of a row. Out: the fields, masked where the recipe says so, with the kinds of personal data that
were found; or why the row is refused. Refused rows are masked too: what may not be released may not stand in the
rejects either.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zhiling.builders.personal_data import Found, PersonalSettings, find, mask, moved
from zhiling.builders.quality import QualitySettings, fault
from zhiling.rows import ColumnType, strings_in
from zhiling.settings import Settings
from zhiling.store import canonical_json


class ScreenSettings(Settings):
    """What every row is looked at for."""

    personal_data: PersonalSettings | None = PersonalSettings()
    quality: QualitySettings = QualitySettings()


@dataclass(frozen=True)
class Screened:
    """A row that was looked at: its fields as they may be released, what was found, why it is refused."""

    fields: dict[str, Any]
    kinds: list[str]
    refusal: tuple[str, str] | None = None


def screen(
    fields: dict[str, Any], columns: Mapping[str, ColumnType], language: str, settings: ScreenSettings
) -> Screened:
    """Look at one row."""
    if not settings.quality.checks_nothing:
        text = "\n".join(fields[c] for c, kind in columns.items() if kind == "string")
        if refusal := fault(text, language, settings.quality):
            return Screened(masked(fields, settings), [], refusal)
    personal = settings.personal_data
    if personal is None:
        return Screened(fields, [])
    found = {c: find(fields[c], personal) for c, kind in columns.items() if kind == "string"}
    kinds = {each.kind for each in (f for finds in found.values() for f in finds)}
    for column, kind in columns.items():
        if kind not in ("string", "label"):
            kinds |= {each.kind for text in strings_in(fields[column]) for each in find(text, personal)}
    if not kinds or personal.action == "report":
        return Screened(fields, sorted(kinds))
    kept = masked(fields, settings, found)
    for column, kind in columns.items():
        if kind == "json":
            kept[column] = canonical_json(masked(json.loads(fields[column]), settings))
    if personal.action == "drop":
        return Screened(kept, sorted(kinds), ("personal_data", ", ".join(sorted(kinds))))
    return Screened(kept, sorted(kinds))


def masked(value: Any, settings: ScreenSettings, found: Mapping[str, list[Found]] | None = None) -> Any:
    """`value` with every personal datum in its strings masked, unless the recipe only reports; spans keep their place.

    `found` is what was found in the string columns of a row already.
    """
    personal = settings.personal_data
    if personal is None or personal.action == "report":
        return value
    if isinstance(value, str):
        return mask(value, find(value, personal))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return masked(str(value), settings) if find(str(value), personal) else value
    if isinstance(value, list):
        return [masked(v, settings) for v in value]
    if not isinstance(value, Mapping):
        return value
    done = {k: masked(v, settings) for k, v in value.items()}
    for column, spans in value.items():
        if isinstance(spans, list) and any(map(_is_placed, spans)):
            found = found or {k: find(v, personal) for k, v in value.items() if isinstance(v, str)}
            done[column] = [
                _realigned(span, value, done, found) or kept for span, kept in zip(spans, done[column], strict=True)
            ]
    return {masked(name, settings): inner for name, inner in done.items()}


def _is_placed(span: Any) -> bool:
    """Whether something in a list is a span that says where it stands."""
    return isinstance(span, dict) and isinstance(span.get("text"), str) and type(span.get("start")) is int


def _realigned(
    span: Any, before: Mapping[str, Any], after: Mapping[str, Any], found: Mapping[str, list[Found]]
) -> dict[str, Any] | None:
    """A span where it stands in the masked text of the column that it was cut from; None where it was cut from none."""
    if _is_placed(span) and span["start"] >= 0:
        start, end = span["start"], span["start"] + len(span["text"])
        for column, finds in found.items():
            if before[column][start:end] == span["text"]:
                first, last = moved(start, finds), moved(end, finds, end=True)
                return {**span, "start": first, "text": after[column][first:last]}
    return None
