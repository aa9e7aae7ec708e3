"""Labels or answers for rows of a file, by a model and a pack's template.

In: a model folder, a pack, rows without labels (JSONL, CSV, TSV, Parquet, or lines of text). Out: the rows with
an answer and, where the template has choices, the label and its probability: with several templates, that of the
mean of what they say. Refuses templates that need the label to ask, rows that lack what is asked about.
"""

import csv
import io
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zhiling.errors import UserError, did_you_mean, one_line
from zhiling.rows import ColumnType
from zhiling.templates.compiled import Compiled, compile_question, compile_template
from zhiling.templates.pack import Pack, load_pack
from zhiling.templates.render import render_batch

CHUNK = 256
EMPTY: dict[ColumnType, Any] = {"string": "", "label": "", "strings": [], "spans": [], "json": "{}"}  # of no question
Asked = dict[str, tuple[list[str], list[str]]]  # label -> prompts and completions of all rows


def predict(model: Path, pack: str, source: str, templates: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of `source` (a file, or `-` for standard input), each with what the model answers.

    Asked with the pack's first template where none is named.
    """
    from zhiling.trainer.classify import label_rows
    from zhiling.trainer.data import columns_of
    from zhiling.trainer.model import is_classifier, load_pair

    found = load_pack(pack)
    if is_classifier(model):
        if templates:
            raise UserError("--template", f"{model} has a head, which reads texts and no templates", "leave it out")
        yield from label_rows(model, found, read_rows(source, found, columns_of(found, "string")))
        return
    names = templates or [next(t.name for t in found.settings.templates if not t.inverted)]
    rows = read_rows(source, found, _needed(found, names))
    loaded, tokenizer = load_pair(model)
    loaded.eval()
    for i in range(0, len(rows), CHUNK):
        yield from answer(loaded, tokenizer, found, names, rows[i : i + CHUNK])


def answer(
    model: Any, tokenizer: Any, pack: Pack, templates: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Rows with the likeliest label, worded as in the first template; free text where the pack has no labels."""
    from zhiling.trainer.scoring import generate

    asked = _ask(pack, templates[0], rows)
    if len(asked) == 1:
        if len(templates) > 1:
            raise UserError(pack.name, f"its {len(templates)} free texts have no mean", "give one template")
        (prompts, _), = asked.values()
        for row, text in zip(rows, generate(model, tokenizer, prompts), strict=True):
            yield {**row, "answer": text}
        return
    each = [label_scores(model, tokenizer, a) for a in (asked, *(_ask(pack, t, rows) for t in templates[1:]))]
    for i, row in enumerate(rows):
        means = {label: sum(scores[i][label] for scores in each) / len(each) for label in asked}
        best = max(means, key=means.__getitem__)
        share = 1 / sum(math.exp(score - means[best]) for score in means.values())
        yield {**row, "label": best, "probability": round(share, 4), "answer": asked[best][1][i].strip()}


def label_scores(model: Any, tokenizer: Any, asked: Asked) -> list[dict[str, float]]:
    """For each row the log-probability of each label, among the labels."""
    from zhiling.trainer.scoring import log_likelihoods

    pairs = [pair for prompts, completions in asked.values() for pair in zip(prompts, completions, strict=True)]
    scores = log_likelihoods(model, tokenizer, pairs)
    count = len(pairs) // len(asked)
    found = []
    for i in range(count):
        own = dict(zip(asked, scores[i::count], strict=True))
        top = max(own.values())
        total = top + math.log(sum(math.exp(score - top) for score in own.values()))
        found.append({label: score - total for label, score in own.items()})
    return found


def _ask(pack: Pack, template: str, rows: Sequence[Mapping[str, Any]]) -> Asked:
    """Prompts and completions for each label that the rows could have; a prompt that tells the label is refused."""
    labels = pack.label_columns[:1]
    compiled, asked = _compiled(pack, template), {}
    for label in pack.labels_of(labels[0]) if labels else [""]:
        columns = {name: [row.get(name, EMPTY[kind]) for row in rows] for name, kind in pack.settings.columns.items()}
        columns |= {name: [label] * len(rows) for name in labels}
        rendered = render_batch(compiled, columns, [str(i) for i in range(len(rows))], 0)
        for i, reason in enumerate(rendered.refusals):
            if reason or rendered.skipped[i]:
                raise UserError(f"row {i + 1}", reason or "not for this template", "mend it or use another template")
        asked[label] = (rendered.prompts, rendered.completions)
    if len({tuple(prompts) for prompts, _ in asked.values()}) > 1:
        raise UserError(f"{pack.name}: {template}", "its prompt tells the label", "use another template")
    return asked


def _compiled(pack: Pack, template: str) -> Compiled:
    """A template; where no label is asked for, only its question: the answer is what rows lack."""
    return compile_template(pack, template) if pack.label_columns else compile_question(pack, template)


def _needed(pack: Pack, templates: Sequence[str]) -> list[str]:
    """The columns that rows must have to be asked with these templates."""
    used = {name for template in templates for name in _compiled(pack, template).columns}
    return [name for name in pack.settings.columns if name in used and name not in pack.label_columns[:1]]


def read_rows(source: str, pack: Pack, needed: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a file by its ending, of standard input by its first line; lines fill the only text that is needed."""
    path = Path(source)
    if source != "-" and not path.is_file():
        raise UserError(source, "no such file", "give a file, or - for standard input: JSONL or lines")
    texts = [name for name in needed if pack.settings.columns[name] == "string"]
    rows = _parquet(path) if path.suffix == ".parquet" else _parse(_text(source), path, texts)
    for i, row in enumerate(rows):
        for name in needed:
            if name not in row:
                raise UserError(f"{source}: row {i + 1}", f"no column '{name}'", did_you_mean(name, row))
            if name in texts and not isinstance(row[name], str | None):
                saw = f"'{name}' is no text but {one_line(repr(row[name]), 40)}"
                raise UserError(f"{source}: row {i + 1}", saw, "write it as a text")
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except pa.ArrowInvalid as error:
        raise UserError(str(path), f"cannot be read ({one_line(str(error))})", "give a whole Parquet file") from None
    return rows


def _text(source: str) -> str:
    try:
        if source == "-":
            return sys.stdin.read()
        with Path(source).open(encoding="utf-8-sig", newline="") as f:
            return f.read()
    except UnicodeDecodeError as error:
        raise UserError(source, f"not UTF-8 (byte {error.start})", "save it as UTF-8") from None


def _table(text: str, path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV or TSV file; a quoted field may hold line ends."""
    found = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix == ".tsv" else ",")
    rows: list[dict[str, Any]] = []
    try:
        for row in found:
            if None in row or None in row.values():
                raise UserError(f"{path}:{found.line_num}", "its fields are not as many as the header's",
                                "quote fields that hold the delimiter or a line end")
            rows.append(row)
    except csv.Error as error:
        raise UserError(f"{path}:{found.line_num}", str(error), "mend the line") from None
    return rows


def _parse(text: str, path: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    if path.suffix in {".csv", ".tsv"}:
        return _table(text, path)
    # not `splitlines`, which parts texts at U+2028 and such
    lines = [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
    is_json = path.suffix in {".jsonl", ".json"} or (path.name == "-" and lines and lines[0].lstrip().startswith("{"))
    if not is_json:
        if len(texts) != 1:
            raise UserError(str(path), f"lines, and {len(texts)} text columns to fill", "give JSONL, CSV or Parquet")
        return [{texts[0]: line} for line in lines]
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
