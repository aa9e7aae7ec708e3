"""A release's tasks: one for each pack, template and number of shots, whose documents are its test rows.

In: a release folder. Out: `Task`s. The prompt that is scored is the prompt that was released, byte for byte:
nothing is rendered here. Refused: a folder that is no release, a release without test rows.
"""

from pathlib import Path

import pyarrow.parquet as pq

from zhiling.errors import UserError
from zhiling.eval_tasks.task import Task, said_by_pack, task_name
from zhiling.store import MANIFEST, file_digest, read_manifest
from zhiling.templates.pack import read_pack


def release_tasks(release: Path) -> list[Task]:
    """Every task of a release, sorted by pack, template and shots."""
    about = read_manifest(release, "release")
    files = tuple(sorted((release / "data").glob("test-*.parquet")))
    if not files:
        raise UserError(str(release), "no test rows", "build the release with a test split")
    keys = ["pack", "template", "shots", "task", "language"]
    found = pq.read_table(list(files), columns=[*keys, "answer"]).group_by(keys).aggregate([("answer", "count")])
    seen = _trained_templates(release)
    identity = {"name": about["name"], "version": about["version"], "sha256": file_digest(release / MANIFEST)}
    packs = {name: read_pack(release / "packs" / name) for name in about["packs"]}
    tasks = []
    for row in found.to_pylist():
        pack, template, shots = row["pack"], row["template"], row["shots"]
        made_from = {
            "pack_version": about["packs"][pack]["version"], "pack_digest": about["packs"][pack]["digest"],
            "release": identity, "held_out_template": (pack, template) not in seen,
            **said_by_pack(packs[pack], template),
        }
        tasks.append(Task(
            name=task_name(pack, template, shots), pack=pack, template=template, shots=shots, kind=row["task"],
            language=row["language"], free=row["answer_count"] == 0, files=files,
            filters=(("pack", "==", pack), ("template", "==", template), ("shots", "==", shots)), made_from=made_from,
        ))
    return sorted(tasks, key=lambda t: (t.pack, t.template, t.shots))


def _trained_templates(release: Path) -> set[tuple[str, str]]:
    seen: set[tuple[str, str]] = set()
    for path in (release / "data").glob("train-*.parquet"):
        pairs = pq.read_table(path, columns=["pack", "template"]).group_by(["pack", "template"]).aggregate([])
        seen |= {(row["pack"], row["template"]) for row in pairs.to_pylist()}
    return seen
