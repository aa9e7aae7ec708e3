"""Token-labelled corpora as extraction rows: CoNLL columns with BIO or BIOES tags, and People's Daily `word/tag`.

In: lines. Out: rows with `text`, `spans` (start, text, label) and `types` (the labels that the format can hold,
as found in the row). Tokens are joined as the language writes them: without spaces or with.
"""

import re
from collections.abc import Iterator, Sequence
from typing import IO, Any

from zhiling.builders.sources import Malformed, Row, Unit
from zhiling.errors import one_line
from zhiling.rows import is_unspaced

NAMED = {"nr": "nr", "ns": "ns", "nt": "nt", "nz": "nz"}  # People's Daily: person, place, organisation, other name
DATED = re.compile(r"^\d{8}-\d\d-\d{3}-\d{3}/m\s*")
WORD = re.compile(r"(\[?)([^\s/]+|/)/([A-Za-z]+)(?:\](\w+))?")


def read_conll(file: IO[bytes], unit: Unit) -> Iterator[Row]:
    """Blocks of `token ... tag` lines, parted by blank lines; a block with a broken line is malformed as a whole."""
    tokens: list[str] = []
    tags: list[str] = []
    broken, start = "", 1
    for number, raw in enumerate([*file, b""], 1):
        try:
            line = raw.decode(unit.corpus.encoding).removeprefix("\ufeff").rstrip("\r\n")
        except UnicodeDecodeError as error:
            line, broken = "?", broken or f"line {number} is not {unit.corpus.encoding.upper()} (byte {error.start})"
        cells = line.split()
        if cells and cells[0] != "-DOCSTART-":
            if not tokens:
                start = number
            if len(cells) < 2 and not broken:
                broken = f"line {number} has a token and no tag"
            tokens.append(cells[0])
            tags.append(cells[-1])
        elif tokens:
            yield f"{unit.shown}:{start}", _block(tokens, tags, unit.language, broken)
            tokens, tags, broken = [], [], ""


def _block(tokens: Sequence[str], tags: Sequence[str], language: str, broken: str) -> dict[str, Any] | Malformed:
    between = "" if is_unspaced(language) else " "
    text = between.join(tokens)
    if broken:
        return Malformed(one_line(text, 200), broken)
    spans: list[dict[str, Any]] = []
    at, previous = 0, "O"
    for token, tag in zip(tokens, tags, strict=True):
        mark, _, label = tag.partition("-")
        if mark not in ("B", "I", "O", "E", "S", "M") or (mark != "O") is not bool(label):
            return Malformed(one_line(text, 200), f"'{one_line(tag, 40)}' is not a BIO or BIOES tag")
        goes_on = mark in ("I", "E", "M") and previous == label
        if goes_on:
            spans[-1]["text"] = text[spans[-1]["start"] : at + len(token)]
        elif mark != "O":  # a span that begins without B, as IOB1 writes it
            spans.append({"start": at, "text": token, "label": label})
        previous = label if mark in ("B", "I", "M") else "O"
        at += len(token) + len(between)
    return _row(text, spans)


def _row(text: str, spans: list[dict[str, Any]]) -> dict[str, Any]:
    return {"text": text, "spans": spans, "types": sorted({s["label"] for s in spans})}


def read_people_daily(file: IO[bytes], unit: Unit) -> Iterator[Row]:
    """One `word/tag word/tag [word/tag word/tag]tag` line a row; persons, places and organisations become spans."""
    file.seek(unit.offset)
    end = None if unit.length is None else unit.offset + unit.length
    at, number = unit.offset, unit.first_line
    while (end is None or at < end) and (raw := file.readline()):
        source, at = f"{unit.shown}:{number}", at + len(raw)
        number += 1
        try:
            line = raw.decode(unit.corpus.encoding).strip()
        except UnicodeDecodeError as error:
            yield source, Malformed("", f"not {unit.corpus.encoding.upper()} (byte {error.start} of the line)")
            continue
        yield source, _sentence(DATED.sub("", line)) if line else Malformed("", "nothing on the line", "blank")


def _sentence(line: str) -> dict[str, Any] | Malformed:
    text, opened, previous = "", -1, ""
    spans: list[dict[str, Any]] = []
    for part in line.split():
        match = WORD.fullmatch(part)
        if match is None:
            return Malformed(one_line(line, 200), f"'{one_line(part, 40)}' is not word/tag")
        opens, word, tag, closes = match.groups()
        if (opens and opened >= 0) or (closes and not opens and opened < 0):
            return Malformed(one_line(line, 200), f"a bracket at '{one_line(part, 40)}' has no other")
        if opens:
            opened = len(text)
        inside = opened >= 0
        if tag in NAMED and not inside:
            if tag == previous == "nr":  # surname and given name stand apart
                spans[-1]["text"] += word
            else:
                spans.append({"start": len(text), "text": word, "label": NAMED[tag]})
        text += word
        if closes:
            if closes in NAMED and inside:
                spans.append({"start": opened, "text": text[opened:], "label": NAMED[closes]})
            opened = -1
        previous = "" if inside else tag  # a name inside brackets is no span that could go on
    if opened >= 0:
        return Malformed(one_line(line, 200), "a bracket that is never closed")
    return _row(text, spans)
