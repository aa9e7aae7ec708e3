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
OPENING = re.compile(r"[\[{]")
DECODER = json.JSONDecoder()
DEEPEST = 100
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
PIECES = re.compile(r"(?:(?<![0-9A-Za-z])-)?\d+(?:[./]\d+)*|.", re.DOTALL)   # numbers whole, with their sign


def parse(text: str, parser: Mapping[str, Any] | None) -> str | None:
    """The answer in `text`; None where there is none. Without a parser, the text itself.

    `parser` is a template's, with `choices` for `first_choice`, and `line: last` where reasoning comes before.
    """
    kind = (parser or {}).get("kind", "text")
    if parser and parser.get("line") == "last":
        text = text.strip().rpartition("\n")[2]
    if kind == "first_choice":
        choices = [str(c).strip() for c in (parser or {}).get("choices", ())]
        found = [(place, -len(c), c) for c in choices if (place := _place(c, text)) >= 0]
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


def _place(choice: str, text: str) -> int:
    """Where a choice is named first, a word of Latin letters as a whole word (`no` is not in `know`); else -1."""
    before, after = (r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])") if choice.isascii() else ("", "")
    found = re.search(before + re.escape(choice) + after, text)
    return found.start() if found else -1


def read_json_in(text: str) -> Any:
    """The first JSON object or list in `text`, whatever stands around it; None where there is none."""
    start = 0
    while opening := OPENING.search(text, start):
        try:
            return DECODER.raw_decode(text, opening.start())[0]
        except json.JSONDecodeError as error:  # go on behind what was read: parts of a broken value are no value
            start = max(error.pos, opening.end())
        except (ValueError, RecursionError):  # a number of thousands of digits; nested without end
            return None
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


def pieces(text: str) -> tuple[str, ...]:
    """What of an answer counts: its letters, its numbers as wholes (-5 is not 5, 3.5 not 35), its symbols (+, √)."""
    wide = unicodedata.normalize("NFKC", text).casefold().replace("\N{MINUS SIGN}", "-")
    found = PIECES.findall(THOUSANDS.sub("", wide))
    return tuple(p for p in found if len(p) > 1 or not _says_nothing(unicodedata.category(p)))


def _says_nothing(category: str) -> bool:
    return category.startswith(("P", "Z", "C")) or category == "Sk"


def exact(said: str | None, wanted: str) -> float:
    """1 where both are the same but for width, case, punctuation and spaces."""
    return float(said is not None and (said == wanted or (pieces(said) == pieces(wanted) != ())))


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


def facts(text: str | None) -> frozenset[Any]:
    """The facts in an answer: the items of its JSON, else its lines."""
    value = read_json_in(text or "")
    if isinstance(value, dict):
        items = [(k, v) for k, found in value.items() for v in (found if isinstance(found, list) else [found])]
        return frozenset((pieces(k), _fact(v)) for k, v in items)
    if isinstance(value, list):
        return frozenset(_fact(v) for v in value)
    return frozenset(pieces(line) for line in (text or "").splitlines() if pieces(line))


def _fact(value: Any, left: int = DEEPEST) -> Any:
    """A value of JSON as facts are compared: part by part, each text by its pieces; what lies deeper is not read."""
    if left and isinstance(value, dict):
        return frozenset((pieces(k), _fact(v, left - 1)) for k, v in value.items())
    if left and isinstance(value, list):
        return tuple(_fact(v, left - 1) for v in value)
    return pieces(value if isinstance(value, str) else json.dumps(value)) if left else ()


def facts_f1(said: str | None, wanted: str) -> float:
    """F1 over the facts of both: entities, triples."""
    a, b = facts(said), facts(wanted)
    if not a or not b:
        return float(a == b)
    return 2 * len(a & b) / (len(a) + len(b))

