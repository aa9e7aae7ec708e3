"""Labels or answers for rows of a file, by a model and a pack's template.

In: a model folder, a pack, rows without labels (JSONL, CSV, TSV, Parquet, or lines of text). Out: the rows with
an answer and, where the template has choices, the label and its probability. Refuses templates that need the
label to ask.
"""

import csv
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zhiling.errors import UserError, did_you_mean
from zhiling.templates.compiled import compile_template
from zhiling.templates.pack import Pack, load_pack
from zhiling.templates.render import render_batch

CHUNK = 256


def predict(model: Path, pack: str, source: str, template: str | None = None) -> Iterator[dict[str, Any]]:
    """The rows of `source` (a file, or `-` for standard input), each with what the model answers."""
    from zhiling.trainer.model import load_model
    from zhiling.trainer.tokenizer import load_tokenizer

    found = load_pack(pack)
    name = template or next(t.name for t in found.settings.templates if not t.inverted)
    rows = read_rows(source, found)
    loaded, tokenizer = load_model(model).eval(), load_tokenizer(model)
    for i in range(0, len(rows), CHUNK):
        yield from answer(loaded, tokenizer, found, name, rows[i : i + CHUNK])


def answer(
    model: Any, tokenizer: Any, pack: Pack, template: str, rows: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Rows with an answer: the likeliest label where the pack has labels, else free text."""
    from zhiling.trainer.scoring import generate, log_likelihoods

    asked = _ask(pack, template, rows)
    if len(asked) == 1:
        (prompts, _), = asked.values()
        for row, text in zip(rows, generate(model, tokenizer, prompts), strict=True):
            yield {**row, "answer": text}
        return
    labels = list(asked)
    pairs = [(asked[label][0][i], asked[label][1][i]) for i in range(len(rows)) for label in labels]
    scores = log_likelihoods(model, tokenizer, pairs)
    for i, row in enumerate(rows):
        own = scores[i * len(labels) : (i + 1) * len(labels)]
        best = max(range(len(labels)), key=lambda k: own[k])
        share = 1 / sum(math.exp(score - own[best]) for score in own)
        said = asked[labels[best]][1][i].strip()
        yield {**row, "label": labels[best], "probability": round(share, 4), "answer": said}


def _ask(pack: Pack, template: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[str], list[str]]]:
    """Prompts and completions for each label that the rows could have; a prompt that tells the label is refused."""
    labels = pack.label_columns[:1]
    compiled, asked = compile_template(pack, template), {}
    for label in pack.labels_of(labels[0]) if labels else [""]:
        columns = {name: [row.get(name, "") for row in rows] for name in pack.settings.columns}
        columns |= {name: [label] * len(rows) for name in labels}
        rendered = render_batch(compiled, columns, [str(i) for i in range(len(rows))], 0)
        for i, reason in enumerate(rendered.refusals):
            if reason or rendered.skipped[i]:
                raise UserError(f"row {i + 1}", reason or "not for this template", "mend it or use another template")
        asked[label] = (rendered.prompts, rendered.completions)
    if len({tuple(prompts) for prompts, _ in asked.values()}) > 1:
        raise UserError(f"{pack.name}: {template}", "its prompt tells the label", "use another template")
    return asked


def read_rows(source: str, pack: Pack) -> list[dict[str, Any]]:
    """Rows of a file by its ending; text lines fill the pack's only text column."""
    path = Path(source)
    if source != "-" and not path.is_file():
        raise UserError(source, "no such file", "give a file, or - for standard input")
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    else:
        text = sys.stdin.read() if source == "-" else path.read_text(encoding="utf-8-sig")
        rows = _parse(text, path, pack)
    asked = [name for name, kind in pack.settings.columns.items() if kind == "string"]
    for i, row in enumerate(rows):
        for name in asked:
            if name not in row:
                raise UserError(f"{source}: row {i + 1}", f"no column '{name}'", did_you_mean(name, row))
    return rows


def _parse(text: str, path: Path, pack: Pack) -> list[dict[str, Any]]:
    if path.suffix in {".csv", ".tsv"}:
        return list(csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix == ".tsv" else ","))
    lines = [line for line in text.splitlines() if line.strip()]
    if path.suffix != ".jsonl":
        columns = [name for name, kind in pack.settings.columns.items() if kind == "string"]
        if len(columns) != 1:
            raise UserError(pack.name, f"has {len(columns)} text columns", "give JSONL, CSV or Parquet, not lines")
        return [{columns[0]: line} for line in lines]
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}", "not a JSON object", "write one object a line")
        rows.append(row)
    return rows
