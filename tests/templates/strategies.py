"""Random rows for any pack, and packs made on the spot."""

import json
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from zhiling.templates.pack import Pack, read_pack

NASTY = [
    "", " ", "\n", "{{ text }}", "{% raw %}", "{# x #}", "}}", "|||", '"', '"}', "\\", "%s", "%(text)s", "％",
    "１２３",
    "😊", "👩‍👩‍👧", "\u202e反\u202c", "\u2028", "\u200b", "\x00", "\x1f", "\ufdd0", "\ufeff", "é", "e\u0301",
    "ß", "İ", "None", "正面",
    "a,b、c", "null", "'", "\r\n", "\t", "$1", "<b>&amp;</b>",
]
PIECE = st.sampled_from(NASTY) | st.text(st.characters(codec="utf-8"), max_size=6)
TEXT = st.one_of(
    st.lists(PIECE, max_size=4).map("".join),
    st.sampled_from(["好用", "物流很慢，包装也破了。", "it works .", "a\nb\nc"]),
)
NUMBER = st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6,
)


def span(labels: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    label = st.sampled_from(labels) if labels else TEXT
    return st.fixed_dictionaries({"start": st.integers(0, 99), "text": TEXT, "label": label})


def like(value: Any) -> st.SearchStrategy[Any]:
    """JSON values built as `value` is, with other texts and numbers in it."""
    if isinstance(value, dict):
        return st.fixed_dictionaries({key: like(inner) for key, inner in value.items()})
    if isinstance(value, list):
        return st.lists(like(value[0]), max_size=4) if value else st.just([])
    if isinstance(value, str):
        return TEXT
    return st.just(value) | st.integers(0, 9) if isinstance(value, int) else st.just(value)


def cells(pack: Pack, name: str) -> st.SearchStrategy[Any]:
    """Values of a column: as its examples are, but with nasty texts."""
    kind = pack.settings.columns[name]
    seen = [row[name] for row in pack.examples]
    if kind == "label":
        return st.sampled_from(list(pack.labels_of(name)))
    if kind == "string":
        return TEXT | st.sampled_from(seen) if seen else TEXT
    some = st.sampled_from(seen) if seen else st.nothing()
    if kind == "strings":
        return st.lists(TEXT | st.sampled_from(NASTY), max_size=5) | some
    if kind == "spans":
        labels = sorted({s["label"] for spans in seen for s in spans})
        return st.lists(span(labels), max_size=3) | some
    return st.one_of(some, *map(like, seen[:3])) if seen else JSON.filter(lambda v: not isinstance(v, str))


def columns(pack: Pack, least: int = 1, most: int = 8) -> st.SearchStrategy[dict[str, list[Any]]]:
    """Some rows of a pack, as columns; rows are repeated, so that some are of one shape."""
    row = st.fixed_dictionaries({name: cells(pack, name) for name in pack.settings.columns})
    rows = st.lists(row, min_size=least, max_size=most).map(lambda rows: rows * 3)
    return rows.map(lambda rows: {name: [row[name] for row in rows] for name in pack.settings.columns})


def make_pack(
    folder: Path, *templates: dict[str, Any], examples: list[dict[str, Any]] | None = None, **changes: Any
) -> Pack:
    """A pack of these templates, written to `folder` and read; a text and a label by default."""
    settings: dict[str, Any] = {
        "pack": "zh/trial", "version": "1.0.0", "summary": "试验", "task": "classification", "language": "zh",
        "columns": {"text": "string", "label": "label"}, "labels": {"negative": "负面", "positive": "正面"},
    }
    settings |= changes | {"templates": [{"name": f"t{i}", **t} for i, t in enumerate(templates)]}
    write_pack(folder, settings, examples)
    return read_pack(folder)


def write_pack(folder: Path, settings: dict[str, Any], examples: list[dict[str, Any]] | None = None) -> None:
    """The two files of a pack."""
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(settings, allow_unicode=True, sort_keys=False)
    (folder / "pack.yaml").write_text(text, encoding="utf-8")
    if examples is not None:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in examples]
        (folder / "examples.jsonl").write_text("".join(lines), encoding="utf-8")
