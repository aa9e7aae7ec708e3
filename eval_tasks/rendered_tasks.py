"""Tasks whose documents are rendered here: written as Parquet beside lm-eval's YAML, or kept for a run.

In: rows to ask (`documents.Asked`), templates, numbers of shots, seeds, a folder; or the names of public data sets
and shipped packs. Out: `Task`s whose documents stand in `<folder>/<name>/documents.parquet`, written only where they
changed.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zhiling.console import note
from zhiling.errors import UserError, did_you_mean, one_line
from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.documents import SCHEMA, Asked, render
from zhiling.eval_tasks.task import Filter, Task, choose, said_by_pack, task_name
from zhiling.store import PARQUET, atomic

DOCUMENTS = "documents.parquet"


def rendered_tasks(
    asked: Asked, folder: Path, shots: Sequence[int] = (0,), seeds: Sequence[int] = (0,),
    templates: Collection[str] | None = None, about: dict[str, Any] | None = None,
) -> list[Task]:
    """Render every template at every number of shots and seed; write the documents; return the tasks."""
    path = folder / asked.name / DOCUMENTS
    tables: list[pa.Table] = []
    tasks: list[Task] = []
    for template in asked.pack.settings.templates:
        if templates is not None and template.name not in templates:
            continue
        for count in shots:
            for seed in seeds if count else seeds[:1]:  # without exemplars all seeds ask the same
                table = render(asked, template.name, count, seed)
                if len(table):
                    tables.append(table)
                    tasks.append(_task(asked, template.name, count, seed, table, path, about or {}))
    whole = pa.concat_tables(tables, promote_options="default") if tables else SCHEMA.empty_table()
    if not path.is_file() or not pq.read_table(path).equals(whole):
        with atomic(path) as part:
            pq.write_table(whole, part, **PARQUET)
    return tasks


def _task(
    asked: Asked, template: str, shots: int, seed: int, table: pa.Table, path: Path, about: dict[str, Any]
) -> Task:
    pack = asked.pack
    name = task_name(asked.name, template, shots) + (f"_seed{seed}" if seed else "")
    filters: list[Filter] = [("template", "==", template), ("shots", "==", shots), ("seed", "==", seed)]
    made_from = {
        "pack_version": pack.settings.version, "pack_digest": pack.digest, "rendered_with": pack.name, "seed": seed,
        "held_out_template": False, **said_by_pack(pack, template), **about,
    }
    return Task(
        name=name, pack=asked.name, template=template, shots=shots, kind=pack.settings.task,
        language=pack.settings.language, free=table["answer"].null_count == len(table), files=(path,),
        filters=tuple(filters), made_from=made_from,
    )


def named_tasks(settings: EvalSettings, folder: Path) -> list[Task]:
    """The public data sets and shipped packs that the settings name, their documents rendered into `folder`."""
    from zhiling.eval_tasks.public import PUBLIC
    from zhiling.templates.pack import pack_names

    packs = pack_names()
    known = {*PUBLIC, *packs, *(name.split("/")[0] for name in PUBLIC if "/" in name)}
    tasks: list[Task] = []
    if settings.data is not None and settings.packs is None:
        raise UserError("--tasks", "data, and no word of which sets to ask", "name some, as fewclue,thucnews")
    for wanted in packs if settings.packs is None else settings.packs:
        if wanted not in known:
            _refuse_file(wanted)
            raise UserError("--tasks", f"no task '{one_line(wanted, 60)}'", did_you_mean(wanted, known))
        if wanted in packs:
            _shots(wanted, settings.shots, False)
            tasks += shipped_tasks(wanted, folder)
            continue
        if settings.data is None:
            raise UserError(f"task '{wanted}'", "no data for it", "give the folder of your copies with --data FOLDER")
        for name in [n for n in PUBLIC if n == wanted or n.startswith(f"{wanted}/")]:
            shots = _shots(name, settings.shots, "train" in PUBLIC[name].files)
            tasks += public_tasks(
                name, settings.data, folder, shots, range(settings.seeds), settings.templates, settings.limit,
                settings.fixed_shots,
            )
    once = {task.name: task for task in tasks}  # `fewclue,fewclue/tnews` names one of them twice
    return choose(list(once.values()), "the tasks", None, settings.templates, None, settings.generation)


def _shots(name: str, wanted: Sequence[int] | None, has_train: bool) -> Sequence[int]:
    """The numbers of shots that a set can be asked at: without train rows, 0. Raises UserError where none is left."""
    if has_train or wanted is None or set(wanted) == {0}:
        return wanted or (0,)
    saw = f"{name} has no train rows to show"
    if 0 not in wanted:
        raise UserError("--shots", saw, "ask it at 0 shots")
    note(f"{saw}, it is asked at 0 shots alone")
    return (0,)


def _refuse_file(name: str) -> None:
    """Raise UserError for an lm-eval task file: none is loaded here, least of all one that names code."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if "!function" in line:
            saw = f"it names Python code ({one_line(line.strip(), 60)}), which would run"
            raise UserError(f"{path}:{number}", saw, "if you trust it, run it with `lm_eval --include_path`")
    do = "give packs, areas or public data sets, or run it with `lm_eval --include_path`"
    raise UserError(str(path), "a task file of lm-eval's, which zhiling does not load", do)


def public_tasks(
    name: str, data: str, folder: Path, shots: Sequence[int] = (0,), seeds: Sequence[int] = (0,),
    templates: Collection[str] | None = None, limit: int | None = None, fixed: bool = False,
) -> list[Task]:
    """A public data set's tasks; see `public.py`."""
    from zhiling.eval_tasks.public import ask_public, find_public

    public = find_public(name)
    about = {"source": public.source, "license": public.license, "metric_as_published": public.metric}
    return rendered_tasks(ask_public(public, data, limit, fixed), folder, shots, seeds, templates, about)


def shipped_tasks(name: str, folder: Path) -> list[Task]:
    """A shipped pack's tasks on its own examples, without shots: small, for trying a model and for `lm_eval`."""
    from zhiling.eval_tasks.documents import Rows
    from zhiling.templates.pack import load_pack

    pack = load_pack(name)
    rows = [{c: row[c] for c in pack.settings.columns} for row in pack.examples]
    return rendered_tasks(Asked(name, pack, Rows.of(rows)), folder, about={"documents": "the pack's examples"})
