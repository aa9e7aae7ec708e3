"""What a metric has to know of a row beside its completion: constraints, tests, further right answers.

In: a pack, a template, rows. Out: for each row a JSON text that its document carries (`fields`), or None where the
template's metrics need nothing. Stock lm-eval passes it by; our metrics and `leaderboard verify` read it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from zhiling.eval_tasks.task import said_by_pack
from zhiling.templates.pack import Pack
from zhiling.templates.render import compile_template, render_batch

ANSWERS = {"f1_span", "exact_match"}  # metrics whose authors take the best over all right answers


def needed(pack: Pack, template: str) -> bool:
    """Whether the template's metrics need something of the row."""
    return bool(_what(pack, template))


def _what(pack: Pack, template: str) -> set[str]:
    columns = pack.settings.columns
    metrics = set(said_by_pack(pack, template).get("metrics", []))
    own = pack.template(template)
    asked = own.constraints or (pack.settings.constraints if own.rationale is None else None)  # not of the reasoning
    found = {"constraints"} if "constraint" in metrics and asked else set()
    found |= {"tests"} if "pass_at_1" in metrics and "tests" in columns else set()
    return found | ({"answers"} if metrics & ANSWERS and columns.get("answers") == "strings" else set())


def fields_of(
    pack: Pack, template: str, rows: Sequence[Mapping[str, Any]], ids: Sequence[str], seed: int
) -> list[str | None]:
    """The fields of each row, as JSON. A row without tests, or with one answer, has none of that kind."""
    what = _what(pack, template)
    if not what:
        return [None] * len(rows)
    found: list[dict[str, Any]] = [{} for _ in rows]
    if "constraints" in what:
        for fields, text in zip(found, _constraints(pack, template, rows, ids, seed), strict=True):
            fields |= {"constraints": json.loads(text)} if text else {}
    for fields, row in zip(found, rows, strict=True):
        if "tests" in what and str(row["tests"]).strip():
            fields["tests"] = row["tests"]
        if "answers" in what and len(row["answers"]) > 1:
            fields["answers"] = list(row["answers"])
    return [json.dumps(fields, ensure_ascii=False, sort_keys=True) if fields else None for fields in found]


def _constraints(
    pack: Pack, template: str, rows: Sequence[Mapping[str, Any]], ids: Sequence[str], seed: int
) -> list[str]:
    """Each row's constraints as the template (or its pack) states them, drawn as its prompt was."""
    own = pack.template(template)
    source = own.constraints or pack.settings.constraints or ""
    stated = own.model_copy(update={
        "system": None, "prompt": "constraints", "turns": None, "rationale": None, "completion": source,
        "choices": "none", "delimiter": "",
    })
    templates = [stated if t.name == template else t for t in pack.settings.templates]
    changed = Pack(pack.settings.model_copy(update={"templates": templates}), pack.document, pack.examples, pack.base)
    columns = {name: [row[name] for row in rows] for name in pack.settings.columns}
    rendered = render_batch(compile_template(changed, template), columns, list(ids), seed)
    return ["" if bad is not None or passed else text for text, bad, passed in zip(
        rendered.completions, rendered.refusals, rendered.skipped, strict=True)]


def right_answers(wanted: str, answers: Sequence[str]) -> list[str]:
    """The completion, and the same with each further right answer in the place of the first."""
    first = next(iter(answers), "")
    others = [wanted.replace(first, other) for other in answers[1:]] if first and first in wanted else []
    return list(dict.fromkeys([wanted, *others]))
