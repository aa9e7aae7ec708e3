"""The tables that pass between rooms: their columns, types and meaning.

Corpus rows, split rows and example rows are different schemas, and each step conforms its table to one: rows
that were not split have no `augmentation` to fill, so augmenting before splitting, the classic leak, cannot run.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import pyarrow as pa

ColumnType = Literal["string", "label", "strings", "spans", "json"]
Columns = Mapping[str, ColumnType]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
BETWEEN_SHOTS = "\n\n"  # stands between an exemplar and what follows it

ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "label": pa.string(),
    "strings": pa.list_(pa.string()),
    "spans": pa.list_(pa.struct([("start", pa.int64()), ("text", pa.string()), ("label", pa.string())])),
    "json": pa.string(),  # JSON text, decoded for the template
}

ROW_FIELDS = [
    ("id", pa.string()),        # hash of the corpus's name and the row's content: the same row, the same id
    ("corpus", pa.string()),
    ("revision", pa.string()),
    ("license", pa.string()),
    ("language", pa.string()),
    ("source", pa.string()),    # file and line (or row) that it was read from
]
SPLIT_FIELDS = [
    ("group_id", pa.string()),      # (near-)duplicates share one; groups, never rows, are split
    ("split", pa.string()),
    ("augmentation", pa.string()),  # null, or what was done to the parent
    ("parent_id", pa.string()),
]
RESERVED = frozenset(name for name, _ in ROW_FIELDS + SPLIT_FIELDS)

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
EXAMPLE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),            # hash of source row, pack, template and shots
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("choices", pa.list_(pa.string())),  # null where the answer is free text
        ("answer", pa.int64()),         # index into choices, null without choices
        ("messages", pa.list_(MESSAGE)),     # only where a template has a system prompt or several turns
        ("task", pa.string()),
        ("language", pa.string()),
        ("pack", pa.string()),
        ("template", pa.string()),
        ("corpus", pa.string()),
        ("revision", pa.string()),
        ("license", pa.string()),
        ("source", pa.string()),
        ("source_id", pa.string()),     # the split row's id
        ("group_id", pa.string()),
        ("shots", pa.int64()),
        ("exemplar_ids", pa.list_(pa.string())),
        ("augmentation", pa.string()),
    ]
)


UNSPACED = frozenset({"zh", "ja", "th", "lo", "km", "my", "bo", "yue", "wuu"})  # languages without spaces


def is_unspaced(language: str) -> bool:
    """Whether words are written without spaces, by the language's code."""
    return language.lower().replace("_", "-").split("-")[0] in UNSPACED


def strings_in(value: Any) -> Iterator[str]:
    """Every text inside a field's value, however deep it stands in lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from strings_in(inner)


def corpus_schema(columns: Columns) -> pa.Schema:
    """Schema of corpus rows whose pack declares `columns`."""
    return pa.schema([*ROW_FIELDS, *((name, ARROW_TYPES[kind]) for name, kind in columns.items())])


def split_schema(columns: Columns) -> pa.Schema:
    """Schema of split rows whose pack declares `columns`."""
    return pa.schema([*corpus_schema(columns), *(pa.field(*f) for f in SPLIT_FIELDS)])


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` in `schema`'s order and types. Raises ValueError on a missing or unknown column."""
    missing = [n for n in schema.names if n not in table.column_names]
    unknown = [n for n in table.column_names if n not in schema.names]
    if missing or unknown:
        raise ValueError(f"table does not fit its schema: missing {missing}, unknown {unknown}")
    return table.select(schema.names).cast(schema)
