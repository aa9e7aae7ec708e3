"""Prompts beyond a model's context: cut from the left as lm-eval does, asked with fewer shots, or refused.

In: a model, a task and its documents, what the person chose. Out: the documents to ask and how many were too long.
A document with fewer shots is the released one of the same row and template, so its prompt too is a prompt that
was rendered whole.
"""

from typing import Any

import pyarrow as pa

from zhiling.console import note
from zhiling.errors import UserError
from zhiling.eval_tasks.task import Task


def fit(lm: Any, task: Task, documents: pa.Table, choice: str) -> tuple[pa.Table, int]:
    """The documents to ask, and how many did not fit. Raises UserError where the person chose an error."""
    if not hasattr(lm, "max_length"):
        return documents, 0
    rows = documents.to_pylist()
    long = [i for i, row in enumerate(rows) if not _fits(lm, task, row)]
    if not long:
        return documents, 0
    saw = f"{len(long)} of {len(rows)} prompts are longer than the model's {lm.max_length:,} tokens"
    if choice == "error":
        raise UserError(task.name, saw, "ask with fewer shots, or say --too-long fewer_shots or truncate")
    if choice == "truncate":
        note(f"{task.name}: {saw}; they are cut from the left")
        return documents, len(long)
    shorter: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(task.with_fewer_shots().to_pylist(), key=lambda r: -r["shots"]):
        shorter.setdefault(row["source_id"], []).append(row)
    for i in long:
        found = next((row for row in shorter.get(rows[i]["source_id"], []) if _fits(lm, task, row)), None)
        if found is None:
            raise UserError(task.name, f"{saw}, some even without shots", "say --too-long truncate to cut them")
        rows[i] = found
    note(f"{task.name}: {saw}; they are asked with fewer shots")
    return pa.Table.from_pylist(rows, schema=documents.schema), len(long)


def _fits(lm: Any, task: Task, row: dict[str, Any]) -> bool:
    if task.free:
        text, room = row["prompt"], lm.max_length - task.generation["max_gen_toks"]
    else:
        text, room = row["prompt"] + max(row["choices"], key=lambda choice: len(choice.encode())), lm.max_length
    return len(lm.tokenizer.encode(text)) <= int(room)
