"""Texts with a label each, or with labelled spans, as what a classification head learns: text by text, not row by row.

In: the corpus rows of one pack of a release. Out: token rows whose targets are label numbers. A text too long loses
its middle, marked; its label is never cut. Refuses packs without labels or spans, more than one pack, spans that are
not in their text, labels that training never saw.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zhiling.errors import UserError, did_you_mean
from zhiling.rows import ColumnType
from zhiling.store import read_manifest
from zhiling.templates.pack import Pack, read_pack
from zhiling.trainer.config import FinetuneSettings, Side
from zhiling.trainer.data import CHUNK, Encoded, class_of, columns_of, cut_middle, read_corpora
from zhiling.trainer.select_rows import few, first
from zhiling.trainer.tokenizer import cut_mark_of, frame_of

Head = Literal["sequence", "token"]
Span = tuple[int, int, str]  # start, end, label
OUTSIDE = "O"
KIND: dict[Head, ColumnType] = {"sequence": "label", "token": "spans"}


@dataclass(frozen=True)
class Labelled:
    """A text and its label, or its labelled spans (none overlaps another)."""

    id: str
    text: str
    label: str = ""
    spans: tuple[Span, ...] = ()


def the_pack(release: Path, head: Head, packs: Sequence[str] | None) -> Pack:
    """The one pack whose labels a head learns."""
    packs_there = read_manifest(release, "release", "packs")["packs"]
    known = [read_pack(release / "packs" / name) for name in sorted(packs_there)]
    fit = [pack for pack in known if columns_of(pack, KIND[head]) and columns_of(pack, "string")]
    if head == "token":  # offsets are those of one text
        fit = [pack for pack in fit if len(columns_of(pack, "string")) == len(columns_of(pack, "spans")) == 1]
    found = [pack for pack in fit if packs is None or pack.name in packs]
    names = ", ".join(pack.name for pack in fit) or "none"
    if packs and not found:
        raise UserError(f"{release}: {packs[0]}", f"no pack here whose {KIND[head]} a {head} head can learn",
                        did_you_mean(packs[0], [pack.name for pack in fit]))
    if len(found) != 1:
        saw = f"a {head} head learns one pack with {KIND[head]}, here are {len(found)} ({names})"
        raise UserError(str(release), saw, "name one with finetune.packs or --pack")
    return found[0]


def separator(tokenizer: Any) -> str:
    """What stands between the texts of a row: the tokenizer's separator, or a new line where it has none."""
    return str(tokenizer.sep_token or "\n")


def read_labelled(
    release: Path, side: Side, pack: Pack, head: Head, own: FinetuneSettings, seed: int, between: str
) -> list[Labelled]:
    """The texts of one side: of train a few of each class where asked, of validation a keyed draw."""
    rows = [row for _, row in read_corpora(release, side, ("string", KIND[head]), [pack.name], own.corpora)]
    found = [_labelled(pack, row, head, between) for row in rows]
    if side == "validation":
        return [found[i] for i in first([row.id for row in found], own.validation_rows, seed, "validation rows")]
    if own.shots_per_class != "all":
        parents = {row["id"]: row["parent_id"] for row in rows if row["parent_id"]}
        kept = few({row.id: row.label for row in found}, parents, own.shots_per_class, seed)
        found = [row for row in found if row.id in kept]
    return found


def join(pack: Pack, row: Mapping[str, Any], between: str) -> str:
    """A row's texts as one."""
    return between.join(row[column] for column in columns_of(pack, "string") if row[column])


def _labelled(pack: Pack, row: dict[str, Any], head: Head, between: str) -> Labelled:
    text = join(pack, row, between)
    if head == "sequence":
        return Labelled(row["id"], text, class_of(pack, row))
    (column,) = columns_of(pack, "spans")
    spans: list[Span] = []
    for span in sorted(row[column] or [], key=lambda s: (s["start"], -len(s["text"]))):
        start, end = span["start"], span["start"] + len(span["text"])
        if text[start:end] != span["text"]:
            raise UserError(f"row {row['id']}", f"its span '{span['text'][:40]}' is not at place {start}",
                            "build the release anew")
        if start < end and (not spans or start >= spans[-1][1]):  # of spans that overlap, the first and longest
            spans.append((start, end, span["label"]))
    return Labelled(row["id"], text, spans=tuple(spans))


def label_names(pack: Pack, head: Head, train: Sequence[Labelled]) -> list[str]:
    """The labels in the order of their numbers: as the pack lists them, else those in train, sorted."""
    if head == "token":
        kinds = sorted({label for row in train for _, _, label in row.spans})
        return [OUTSIDE, *(f"{place}-{kind}" for kind in kinds for place in "BI")]
    columns = columns_of(pack, "label")
    declared = list(pack.labels_of(columns[0])) if len(columns) == 1 else []
    return declared or sorted({row.label for row in train})


def encode_labelled(
    rows: Sequence[Labelled], tokenizer: Any, context: int, names: Sequence[str], head: Head
) -> Iterator[Encoded | dict[str, Any]]:
    """Texts as the tokenizer gives them to any pipeline, with the number of each label as the target.

    A text's label is asked for once, at its first token; tokens' labels at every token of the text itself.
    """
    (before, after), mark = frame_of(tokenizer), cut_mark_of(tokenizer)
    numbers, room = {name: i for i, name in enumerate(names)}, context - len(before) - len(after)
    for i in range(0, len(rows), CHUNK):
        texts = [row.text for row in rows[i : i + CHUNK]]
        encoded = tokenizer(texts, add_special_tokens=False, verbose=False, return_offsets_mapping=True)
        for row, tokens, places in zip(rows[i:], encoded["input_ids"], encoded["offset_mapping"], strict=False):
            own = bio(places, row.spans) if head == "token" else [row.label] * len(tokens)
            unknown = next((name for name in own if name not in numbers), None)
            if unknown is not None or not tokens:
                reason = f"label '{unknown}' is not among those learned" if tokens else "no text"
                yield {"id": row.id, "reason": reason}
                continue
            said = cut_middle([numbers[name] for name in own], room, -1)
            flags = [False] * len(before) + [target >= 0 for target in said] + [False] * len(after)
            targets = [0] * len(before) + [max(0, target) for target in said] + [0] * len(after)
            if head == "sequence":
                flags, targets[0] = [place == 0 for place in range(len(flags))], said[0]
            yield Encoded(row.id, [*before, *cut_middle(list(tokens), room, mark), *after], flags, targets)


def bio(places: Sequence[tuple[int, int]], spans: Sequence[Span]) -> list[str]:
    """Each token's label from its place in the text: `B-` where a span begins, `I-` inside, else `O`.

    A token that reaches over a span's edge belongs to the span.
    """
    found, began = [OUTSIDE] * len(places), -1
    for n, (start, end) in enumerate(places):
        hit = next((k for k, (a, b, _) in enumerate(spans) if max(start, a) < min(end, b)), None)
        if hit is not None:
            found[n] = ("I-" if hit == began else "B-") + spans[hit][2]
            began = hit
    return found


def spans_of(places: Sequence[tuple[int, int]], names: Sequence[str]) -> list[Span]:
    """Spans from tokens' labels; one that goes on without having begun begins where it is. None overlaps another, and
    none reaches over the cut in a text too long.
    """
    found: list[Span] = []
    open_as: str | None = None
    reached = 0
    for (start, end), name in zip(places, names, strict=True):
        if end <= reached:  # no text, or further bytes of a character whose label is known
            open_as = open_as if end else None
            continue
        kind = name[2:] if name != OUTSIDE else None
        if kind and kind == open_as and name.startswith("I-"):
            found[-1] = (found[-1][0], end, kind)
        elif kind:
            found.append((max(start, reached), end, kind))
        open_as, reached = kind, end
    return found
