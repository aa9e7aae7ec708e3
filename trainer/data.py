"""A release's train and validation rows as tokens on disk: the only file of the trainer that opens a release.

In: a release folder and a tokenizer. Out: memory-mapped token rows. Refuses the test split (no function here
takes it), files that differ from the release's manifest, and empty splits. Rows whose completion is longer
than the context are named with their reason; a prompt too long is cut from its middle, and the cut is marked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zhiling.console import note
from zhiling.errors import UserError, did_you_mean
from zhiling.rows import ColumnType
from zhiling.store import atomic_folder, file_digest, read_json, read_manifest, write_json, write_jsonl
from zhiling.templates.pack import Pack, read_pack
from zhiling.trainer.config import SIDES, Side
from zhiling.trainer.distributed import leader_first
from zhiling.trainer.tokenizer import cut_mark_of, end_of

COLUMNS = [
    "id", "prompt", "completion", "choices", "answer", "messages", "pack", "corpus", "template", "shots", "source_id",
    "exemplar_ids",
]
CHUNK = 2000  # rows tokenized at a time

IntArray = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Rows:
    """Token rows end to end: row i is `tokens[starts[i]:starts[i + 1]]`, learned where `learned` says so."""

    tokens: IntArray
    learned: IntArray
    starts: IntArray
    ids: list[str]
    counts: dict[str, int]
    targets: IntArray | None = None  # what is said at each place, where that is not the next token

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, i: int) -> tuple[IntArray, IntArray]:
        """Tokens of row i, and which of them are learned."""
        place = slice(self.starts[i], self.starts[i + 1])
        return self.tokens[place], self.learned[place]

    def targets_of(self, i: int) -> IntArray | None:
        """What is said at each place of row i, where that is not the next token."""
        return None if self.targets is None else self.targets[self.starts[i] : self.starts[i + 1]]

    @property
    def lengths(self) -> IntArray:
        """Tokens of each row."""
        return np.diff(self.starts)


@dataclass(frozen=True)
class Encoded:
    """One row as tokens; `learned` is the first learned position, or one truth value per token."""

    id: str
    tokens: Sequence[int]
    learned: int | Sequence[bool]
    targets: Sequence[int] | None = None


def read_examples(release: Path, side: Side) -> pa.Table:
    """The rendered rows of one side of a release."""
    return _read(release, "data", side, COLUMNS)


def read_texts(release: Path, side: Side) -> Iterator[tuple[str, str]]:
    """`(id, text)` of every corpus row of one side: its string columns, a line each."""
    for pack, row in read_corpora(release, side, ("string",)):
        yield row["id"], "\n".join(row[column] for column in columns_of(pack, "string") if row[column])


def read_classes(release: Path, side: Side) -> dict[str, str]:
    """`{source_id: class}` of every corpus row that has labels."""
    return {row["id"]: class_of(pack, row) for pack, row in read_corpora(release, side) if columns_of(pack, "label")}


def read_parents(release: Path, side: Side) -> dict[str, str]:
    """`{id: parent's id}` of every corpus row that augmentation made."""
    return {row["id"]: row["parent_id"] for _, row in read_corpora(release, side, ()) if row["parent_id"]}


def class_of(pack: Pack, row: Mapping[str, Any]) -> str:
    """A corpus row's class: its label, or its labels."""
    return "/".join(str(row[column]) for column in columns_of(pack, "label"))


def columns_of(pack: Pack, kind: ColumnType) -> list[str]:
    """The names of a pack's columns of one kind."""
    return [name for name, own in pack.settings.columns.items() if own == kind]


def read_corpora(
    release: Path, side: Side, kinds: Sequence[ColumnType] = ("string", "label"), packs: Sequence[str] | None = None,
    corpora: Sequence[str] | None = None,
) -> Iterator[tuple[Pack, dict[str, Any]]]:
    """Each corpus row of one side, with its id, its parent's and its columns of these kinds; and the pack it is for."""
    about = read_manifest(release, "release", "files", "corpora")
    for name in corpora or ():
        if name not in about["corpora"]:
            raise UserError(str(release), f"no corpus '{name}' in it", did_you_mean(name, about["corpora"]))
    for name in sorted(about["corpora"] if corpora is None else set(corpora)):
        if packs is None or about["corpora"][name]["pack"] in packs:
            pack = read_pack(release / "packs" / about["corpora"][name]["pack"])
            columns = [column for kind in kinds for column in columns_of(pack, kind)]
            for row in _read(release, f"corpus/{name}", side, ["id", "parent_id", *columns]).to_pylist():
                yield pack, row


def _read(release: Path, where: str, side: Side, columns: list[str]) -> pa.Table:
    if side not in SIDES:
        raise ValueError(f"training cannot open the split '{side}', only {' and '.join(SIDES)}")
    listed = read_manifest(release, "release", "files")["files"]
    names = sorted(n for n in listed if n.startswith(f"{where}/{side}-") and n.endswith(".parquet"))
    tables = []
    for name in names:
        path = release / name
        if not path.is_file() or file_digest(path) != listed[name]["sha256"]:
            raise UserError(str(path), "missing or not as the manifest says", "get or build the release anew")
        tables.append(pq.read_table(path, columns=columns))
    if not sum(t.num_rows for t in tables):
        raise UserError(f"{release}: {where}", f"no {side} rows", "build a release of more rows or other shares")
    return pa.concat_tables(tables)


def encode_texts(texts: Sequence[tuple[str, str]], tokenizer: Any) -> Iterator[Encoded]:
    """Documents as tokens, all of them learned, each closed by the end token."""
    end = end_of(tokenizer)
    for i in range(0, len(texts), CHUNK):
        some = texts[i : i + CHUNK]
        encoded = tokenizer([text for _, text in some], add_special_tokens=False, verbose=False)["input_ids"]
        for (key, _), tokens in zip(some, encoded, strict=True):
            yield Encoded(key, [*tokens, end], 0)


def encode_examples(rows: pa.Table, tokenizer: Any, context: int, whole: bool) -> Iterator[Encoded | dict[str, Any]]:
    """Rows as tokens, learned from the completion on (`whole`: from the start); a dict for a row refused.

    Prompt and completion are encoded together and parted at the length of the prompt's own encoding, as
    lm-eval parts them.
    """
    cut, end = cut_mark_of(tokenizer), end_of(tokenizer)
    for chunk in rows.select(["id", "prompt", "completion"]).to_batches(max_chunksize=CHUNK):
        ids, prompts, completions = (column.to_pylist() for column in chunk.columns)
        parts = tokenizer(prompts, add_special_tokens=False, verbose=False)["input_ids"]
        texts = [p + c for p, c in zip(prompts, completions, strict=True)]
        wholes = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        for key, part, tokens in zip(ids, parts, wholes, strict=True):
            prompt, completion = tokens[: len(part)], [*tokens[len(part) :], end]
            room = context - len(completion)
            if len(prompt) > room < 2:
                yield {"id": key, "reason": f"completion of {len(completion)} tokens leaves no room in {context}"}
                continue
            prompt = cut_middle(prompt, room, cut)
            yield Encoded(key, prompt + completion, 0 if whole else len(prompt))


def cut_middle(tokens: list[int], room: int, mark: int) -> list[int]:
    """`tokens`, or their head and tail around `mark` where they are more than `room`."""
    if len(tokens) <= room:
        return tokens
    head = (room - 1) // 2
    return [*tokens[:head], mark, *tokens[len(tokens) - (room - 1 - head) :]]


def write_rows(folder: Path, rows: Iterator[Encoded | dict[str, Any]], vocabulary: int) -> Rows:
    """Write token rows to `folder`, whole or not at all, and open them; keep a folder that is there."""
    with leader_first():
        if not folder.exists():
            with atomic_folder(folder) as part:
                rejects = _write(part, rows, np.uint16 if vocabulary <= 2**16 else np.uint32)
            if rejects:
                note(f"{folder.name}: rows refused: {len(rejects):,}, the first because: {rejects[0]['reason']}")
    return open_rows(folder)


def _write(folder: Path, rows: Iterator[Encoded | dict[str, Any]], kind: type) -> list[dict[str, Any]]:
    """Write token rows; return those refused."""
    starts, ids, rejects = [0], [], []
    targets: list[int] = []
    with (folder / "tokens.bin").open("wb") as tokens, (folder / "learned.bin").open("wb") as learned:
        for row in rows:
            if isinstance(row, dict):
                rejects.append(row)
                continue
            flags = np.asarray(row.learned, bool)
            if isinstance(row.learned, int):
                flags = np.arange(len(row.tokens)) >= row.learned
            if not flags.any():
                raise UserError(f"row {row.id}", "no token of it is learned", "give it a completion")
            tokens.write(np.asarray(row.tokens, kind).tobytes())
            learned.write(flags.tobytes())
            targets.extend(row.targets or ())
            starts.append(starts[-1] + len(row.tokens))
            ids.append(row.id)
    np.save(folder / "starts.npy", np.asarray(starts, np.int64))
    if targets:
        np.save(folder / "targets.npy", np.asarray(targets, kind))
    write_jsonl(folder / "rejects.jsonl", rejects)
    write_json(folder / "rows.json", {"kind": np.dtype(kind).name, "ids": ids, "rejected": len(rejects)})
    return rejects


def open_rows(folder: Path) -> Rows:
    """Token rows that `write_rows` wrote, memory-mapped."""
    about = read_json(folder / "rows.json")
    starts = np.load(folder / "starts.npy")
    if not about["ids"]:
        raise UserError(str(folder), "no rows to train on", "give a longer context or other rows")
    tokens = np.memmap(folder / "tokens.bin", about["kind"], "r")
    learned = np.memmap(folder / "learned.bin", bool, "r")
    targets = np.load(folder / "targets.npy") if (folder / "targets.npy").is_file() else None
    if any(len(part) != starts[-1] for part in (tokens, learned, targets) if part is not None):
        raise UserError(str(folder), "token files are cut short", "remove the folder and run again")
    counts = {"rows": len(about["ids"]), "tokens": int(starts[-1]), "learned": int(learned.sum())}
    counts["rejected"] = about["rejected"]
    return Rows(tokens, learned, starts, about["ids"], counts, targets)
