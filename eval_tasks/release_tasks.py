"""A release's tasks: one for each pack, template and number of shots, whose documents are its test rows.

In: a release folder. Out: `Task`s. The prompt that is scored is the prompt that was released, byte for byte:
nothing is rendered here but what a metric has to know of a row. Refused: a folder that is no release, a release
without test rows.
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zhiling.errors import UserError
from zhiling.eval_tasks.fields import fields_of, needed
from zhiling.eval_tasks.task import FIELDS, Filter, Task, said_by_pack, task_name
from zhiling.store import MANIFEST, file_digest, read_manifest
from zhiling.templates.pack import read_pack


@dataclass(frozen=True)
class ReleaseTask(Task):
    """A release's task, whose documents get what their metrics need from the release's corpora."""

    release: Path = Path()

    def _read(self, filters: tuple[Filter, ...]) -> pa.Table:
        documents = super()._read(filters)
        pack = read_pack(self.release / "packs" / self.pack)
        if not self.free or not needed(pack, self.template):
            return documents
        about = read_manifest(self.release, "release")
        files = [p for name, corpus in about["corpora"].items() if corpus["pack"] == self.pack
                 for p in sorted((self.release / "corpus" / name).glob("test-*.parquet"))]
        rows = {row["id"]: row for path in files
                for row in pq.read_table(path, columns=["id", *pack.settings.columns]).to_pylist()}
        ids = documents["source_id"].to_pylist()
        fields = fields_of(pack, self.template, [rows[i] for i in ids], ids, int(about.get("seed") or 0))
        return documents.append_column(FIELDS, pa.array(fields, pa.string())) if any(fields) else documents


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
    tasks: list[Task] = []
    for row in found.to_pylist():
        pack, template, shots = row["pack"], row["template"], row["shots"]
        made_from = {
            "pack_version": about["packs"][pack]["version"], "pack_digest": about["packs"][pack]["digest"],
            "release": identity, "held_out_template": (pack, template) not in seen,
            **said_by_pack(packs[pack], template),
        }
        tasks.append(ReleaseTask(
            name=task_name(pack, template, shots), pack=pack, template=template, shots=shots, kind=row["task"],
            language=row["language"], free=row["answer_count"] == 0, files=files,
            filters=(("pack", "==", pack), ("template", "==", template), ("shots", "==", shots)),
            made_from=made_from, release=release,
        ))
    return sorted(tasks, key=lambda t: (t.pack, t.template, t.shots))


def _trained_templates(release: Path) -> set[tuple[str, str]]:
    seen: set[tuple[str, str]] = set()
    for path in (release / "data").glob("train-*.parquet"):
        pairs = pq.read_table(path, columns=["pack", "template"]).group_by(["pack", "template"]).aggregate([])
        seen |= {(row["pack"], row["template"]) for row in pairs.to_pylist()}
    return seen
