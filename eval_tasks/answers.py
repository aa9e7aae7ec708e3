"""What a free text answers: read by a template's parser, compared with what was wanted.

In: a text, the parser's settings. Out: its answer; and how right it is: exact, by span, by facts, as JSON. A text
that holds no answer gives None and is wrong, never an error.
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
PIECE = re.compile(r"[A-Za-z0-9]+|\S")
FENCED = re.compile(r"```[a-zA-Z]*\n(.*?)(?:```|\Z)", re.DOTALL)
JSON_TEXT = re.compile(r"\{.*\}|\[.*\]", re.DOTALL)


def parse(text: str, parser: Mapping[str, Any] | None) -> str | None:
    """The answer in `text`; None where there is none. Without a parser, the text itself.

    `parser` is a template's, with `choices` for `first_choice`, and `line: last` where reasoning comes before.
    """
    kind = (parser or {}).get("kind", "text")
    if parser and parser.get("line") == "last":
        text = text.strip().rpartition("\n")[2]
    if kind == "first_choice":
        choices = [str(c).strip() for c in (parser or {}).get("choices", ())]
        found = [(text.find(c), -len(c), c) for c in choices if c in text]
        return min(found)[2] if found else None
    if kind == "last_number":
        numbers = NUMBER.findall(unicodedata.normalize("NFKC", text))
        return number(numbers[-1]) if numbers else None
    if kind in ("json", "json_field"):
        value = read_json_in(text)
        if value is None or (kind == "json_field" and not isinstance(value, dict)):
            return None
        if kind == "json_field":
            value = value.get((parser or {}).get("field"))
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text.strip()


def read_json_in(text: str) -> Any:
    """The first JSON object or list in `text`; None where there is none."""
    found = JSON_TEXT.search(text)
    try:
        return json.loads(found.group()) if found else None
    except (ValueError, RecursionError):
        return None


def code_in(text: str) -> str:
    """The first fenced block of `text`, else all of it."""
    found = FENCED.search(text)
    return found.group(1) if found else text


def number(text: str) -> str:
    """A number written in one way: no thousands' commas, no idle zeros."""
    plain = text.replace(",", "")
    if "/" in plain or "." not in plain:
        return plain
    return plain.rstrip("0").rstrip(".")


def folded(text: str) -> str:
    """`text` as answers are compared: width and case folded, punctuation and spaces left out."""
    wide = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in wide if not unicodedata.category(c).startswith(("P", "Z", "C", "S")))


def exact(said: str | None, wanted: str) -> float:
    """1 where both are the same but for width, case, punctuation and spaces."""
    return float(said is not None and (said == wanted or (folded(said) == folded(wanted) != "")))


def span_f1(said: str | None, wanted: str) -> float:
    """CMRC 2018's F1: over the longest common run of characters (of Chinese) and words (of English)."""
    a, b = PIECE.findall(folded(said or "")), PIECE.findall(folded(wanted))
    if not a or not b:
        return float(a == b)
    longest = _common_run(a, b)
    return 2 * longest / (len(a) + len(b)) if longest else 0.0


def _common_run(a: list[str], b: list[str]) -> int:
    best, row = 0, [0] * (len(b) + 1)
    for x in a:
        before = 0
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], before + 1 if x == y else 0
            best = max(best, row[j])
    return best


def rouge_l(said: str | None, wanted: str) -> float:
    """ROUGE-L's F1 over the longest common subsequence of characters (of Chinese) and words (of English)."""
    a, b = PIECE.findall(folded(said or "")), PIECE.findall(folded(wanted))
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], diagonal + 1 if x == y else max(row[j], row[j - 1])
    return 2 * row[-1] / (len(a) + len(b)) if row[-1] else float(not a and not b)


def facts(text: str | None) -> frozenset[str]:
    """The facts in an answer: the items of its JSON, else its lines."""
    value = read_json_in(text or "")
    if isinstance(value, dict):
        items = [(k, v) for k, found in value.items() for v in (found if isinstance(found, list) else [found])]
        return frozenset(folded(f"{k}{json.dumps(v, ensure_ascii=False, sort_keys=True)}") for k, v in items)
    if isinstance(value, list):
        return frozenset(folded(json.dumps(v, ensure_ascii=False, sort_keys=True)) for v in value)
    return frozenset(folded(line) for line in (text or "").splitlines() if folded(line))


def facts_f1(said: str | None, wanted: str) -> float:
    """F1 over the facts of both: entities, triples."""
    a, b = facts(said), facts(wanted)
    if not a or not b:
        return float(a == b)
    return 2 * len(a & b) / (len(a) + len(b))

