"""Where a row of a release came from, step by step, and whether it can be rendered again to the byte.

In: a release folder and an example's id. Out: its source, group, augmentation chain, draws, exemplars, template
and text. Nothing but the release folder is read: its rows, its packs and its manifest.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zhiling.builders.diff import readable, require
from zhiling.errors import UserError, one_line
from zhiling.rows import BETWEEN_SHOTS, RESERVED, SPLITS
from zhiling.settings import read_yaml
from zhiling.store import read_manifest
from zhiling.templates.pack import Pack, read_pack
from zhiling.templates.render import compile_template, render_batch


@dataclass(frozen=True)
class Link:
    """A row of the corpus on the way to an example: the source row, or a copy made of it."""

    id: str
    source: str
    augmentation: str | None
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Explained:
    """One example of a release and all that it was made from."""

    example: Mapping[str, Any]
    split: str
    file: str
    chain: Sequence[Link]        # from the source row to the row that was rendered
    group: Sequence[str]         # ids of all corpus rows that share its group
    exemplars: Sequence[Link]
    draws: Mapping[str, str]     # what was drawn for it: purpose -> key
    template: Mapping[str, Any]
    pack_version: str
    passages: Mapping[str, Any] | None  # ranks of the gold ones, where passages were retrieved for its source row
    same_bytes: bool             # whether rendering it again gives the stored prompt and completion

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints."""
        return asdict(self)


def explain(folder: Path, example_id: str) -> Explained:
    """Trace the example `example_id` of the release in `folder`. Raises UserError where there is none."""
    about = read_manifest(folder, "release", "seed", "files")
    example, split, file = _example(folder, example_id, about["files"])
    rows = _CorpusRows(folder, example["corpus"])
    chain = rows.chain(example["source_id"])
    exemplars = [rows.link(rows.row(name)) for name in example["exemplar_ids"] or []]
    pack = read_pack(folder / "packs" / example["pack"])
    template = pack.template(example["template"])
    seed, passages = about["seed"], _passages(folder, chain[0].id)
    recipe = read_yaml(folder / "recipe.yaml").data
    render = recipe.get("render")
    nearest = isinstance(render, dict) and render.get("exemplars") == "nearest"
    mixed = {"mixture": f"blake2b({seed}, 'mixture', {example_id!r})"} if recipe.get("mixture") else {}
    ranks = {"gold rank": f"blake2b({seed}, 'gold rank', {chain[0].id + ' PLACE'!r})"} if passages else {}
    names = [*(e.id for e in exemplars), example["source_id"]]
    prompt, completion = _render(pack, template.name, [rows.row(name) for name in names], names, seed)
    return Explained(
        example=example, split=split, file=file, chain=chain, group=rows.group(example["group_id"]),
        exemplars=exemplars,
        draws=_draws(seed, example, pack, nearest, split == "train") | ranks | (mixed if split == "train" else {}),
        template=template.model_dump(mode="json", exclude_none=True), pack_version=pack.settings.version,
        passages=passages,
        same_bytes=(prompt, completion) == (example["prompt"], example["completion"]),
    )


def _passages(folder: Path, source_id: str) -> dict[str, Any] | None:
    """What is recorded of the passages of a source row; None where none were retrieved."""
    path = folder / "review" / "passages.jsonl"
    if not path.exists():
        return None
    with path.open(encoding="utf-8") as f:
        rows = (json.loads(line) for line in f if source_id in line)
        return next((row for row in rows if row["id"] == source_id), None)


def _example(folder: Path, example_id: str, files: Iterable[str]) -> tuple[dict[str, Any], str, str]:
    """The example, its side and its file."""
    tables = [(split, name) for split in SPLITS for name in sorted(files) if name.startswith(f"data/{split}-")]
    require(folder, [name for _, name in tables])
    for split, name in tables:
        found = _rows(folder / name, "id", example_id)
        if found:
            return found[0], split, name
    do = "take an id from the column `id` of its data files"
    raise UserError(str(folder), f"no row with the id '{one_line(example_id, 40)}'", do)


def _rows(path: Path, column: str, value: str) -> list[dict[str, Any]]:
    """The rows of a file that have this value. Raises UserError where it is damaged."""
    import pyarrow.parquet as pq

    with readable(path):
        found: list[dict[str, Any]] = pq.read_table(path, filters=[(column, "==", value)]).to_pylist()
        return found


class _CorpusRows:
    """Rows of one corpus of a release, by id."""

    def __init__(self, folder: Path, corpus: str) -> None:
        self.files = sorted((folder / "corpus" / corpus).glob("*.parquet"))
        if not self.files:
            raise UserError(str(folder), f"no corpus '{corpus}' in it", "get the release anew")

    def _where(self, column: str, value: str) -> list[dict[str, Any]]:
        return [row for file in self.files for row in _rows(file, column, value)]

    def row(self, name: str) -> dict[str, Any]:
        found = self._where("id", name)
        if not found:
            where = str(self.files[0].parent)
            raise UserError(where, f"no row '{name}', which an example names", "get the release anew")
        return found[0]

    def link(self, row: Mapping[str, Any]) -> Link:
        fields = {name: value for name, value in row.items() if name not in RESERVED}
        return Link(row["id"], row["source"], row["augmentation"], fields)

    def chain(self, name: str) -> list[Link]:
        """From the source row down to the row called `name`."""
        row = self.row(name)
        links = [self.link(row)]
        while row["parent_id"]:
            row = self.row(row["parent_id"])
            links.insert(0, self.link(row))
        return links

    def group(self, group_id: str) -> list[str]:
        return sorted(row["id"] for row in self._where("group_id", group_id))


def _render(
    pack: Pack, name: str, rows: Sequence[Mapping[str, Any]], ids: Sequence[str], seed: int
) -> tuple[str, str]:
    """The last row in the template's words, behind the others as exemplars."""
    columns = {column: [row[column] for row in rows] for column in pack.settings.columns}
    rendered = render_batch(compile_template(pack, name), columns, ids, seed)
    shots = [p + c for p, c in zip(rendered.prompts[:-1], rendered.completions[:-1], strict=True)]
    return BETWEEN_SHOTS.join([*shots, rendered.prompts[-1]]), rendered.completions[-1]


def _draws(seed: int, example: Mapping[str, Any], pack: Pack, nearest: bool, train: bool) -> dict[str, str]:
    """What was drawn on the way, as (seed, purpose, key): anyone can draw it again."""
    drawn = {"exemplar": f"{example['source_id']} LABEL", "exemplar order": example["source_id"]}
    row, template = example["source_id"], example["template"]
    shuffled = pack.template(template).shuffle_choices
    found = {
        "split": example["group_id"],
        **({"templates": f"{row} NUMBER", "shots": f"{row} {template}"} if train else {}),  # held-out rows get all
        **({"exemplar labels": row, **({} if nearest else drawn)} if example["shots"] else {}),
        **({f"choices:{example['pack']}/{template}": row} if shuffled else {}),
        **({} if train else {"order": row}),
    }
    order = f"splitmix64(0x{example['id'][:16]} ^ blake2b({seed}, 'order', ''))"
    return {**{purpose: f"blake2b({seed}, {purpose!r}, {key!r})" for purpose, key in found.items()},
            **({"order": order} if train else {})}
