"""Score a model: its tasks are asked one after another, finished parts are kept, the results folder is written.

In: a model folder, a name or a baseline, a release or tasks, settings. Out: `<out>/<model>/<run>/` as described in
`results.py`. A killed run goes on where it was: each task's results are one file in `.parts/`, named by the digest
of everything that they hang on, so a part of another model, pack, document, setting or version is never taken for it.
"""

import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from zhiling.console import note, progress
from zhiling.errors import UserError
from zhiling.eval_tasks.baselines import Labelled, baseline_tasks, of_public, of_release
from zhiling.eval_tasks.code_runner import check_fence
from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.loading import load_model
from zhiling.eval_tasks.models import Subject, find_subject
from zhiling.eval_tasks.processes import ask_part, side_by_side
from zhiling.eval_tasks.record import Corpus, Part, Results, plain, versions, write_run
from zhiling.eval_tasks.release_tasks import release_tasks
from zhiling.eval_tasks.rendered_tasks import named_tasks
from zhiling.eval_tasks.rolling import Texts, ask_texts, texts_of
from zhiling.eval_tasks.task import Task, choose, documents_digest, task_digest
from zhiling.store import MANIFEST, atomic_folder, digest, read_json, write_json

PARTS = ".parts"
ROW_KINDS = {"baseline", "classifier"}
DOCUMENTS = ".documents"
Ask = Callable[[Part], Results]
AskCorpus = Callable[[Corpus], Any]


def score(
    name_or_folder: str, settings: EvalSettings, out: Path, release: Path | None = None, trained_on: Sequence[Path] = ()
) -> Path:
    """Score on a release, else on what the settings name; mark what the model was trained on where they say so."""
    from zhiling.eval_tasks.contamination import find_lineage, mark

    subject = find_subject(name_or_folder)
    looks = settings.check_contamination and subject.kind != "baseline"
    at_hand = [*trained_on, *([release] if release else [])]
    lineage = find_lineage(subject, at_hand) if looks else None
    if release:
        folder = evaluate(name_or_folder, release, settings, out)
    else:
        folder = evaluate_named(name_or_folder, settings, out)
    if lineage is not None:
        mark(folder, lineage, release, settings.data)
    return folder


def evaluate(name_or_folder: str, release: Path, settings: EvalSettings, out: Path) -> Path:
    """Score a model folder, a Hub name or a baseline on a release's test rows; return the results folder."""
    tasks = tasks_of(release, settings)
    subject = find_subject(name_or_folder)
    if subject.kind in ROW_KINDS:
        return _evaluate_rows(subject, of_release(release, tasks, settings.limit), settings, out)
    texts = texts_of(release, {task.pack for task in tasks}) if settings.bits_per_byte else ()
    return evaluate_tasks(subject, tasks, settings, out, list(texts))


def evaluate_named(name_or_folder: str, settings: EvalSettings, out: Path) -> Path:
    """Score a model on public data sets and on shipped packs' examples; return the results folder."""
    subject = find_subject(name_or_folder)
    tasks = named_tasks(settings, out / DOCUMENTS)
    if subject.kind in ROW_KINDS:
        return _evaluate_rows(subject, of_public(settings.data, tasks, settings.limit), settings, out)
    return evaluate_tasks(subject, tasks, settings, out)


def tasks_of(release: Path, settings: EvalSettings) -> list[Task]:
    """The tasks of a release that the settings ask for."""
    found = release_tasks(release)
    return choose(found, str(release), settings.packs, settings.templates, settings.shots, settings.generation)


def evaluate_tasks(
    subject: Subject, tasks: Sequence[Task], settings: EvalSettings, out: Path, texts: Sequence[Texts] = ()
) -> Path:
    """Score a model on tasks, and by how well it foresees texts; return the results folder."""
    if subject.kind == "masked" and any(task.free for task in tasks):
        note(f"{subject.name}: a masked model writes no texts, free-text templates are passed over")
        tasks = [task for task in tasks if not task.free]
    parts = [_part(subject, task, task.documents(settings.limit), settings) for task in tasks]

    corpora = [_corpus(subject, each, settings) for each in texts]
    missing = [part for part in parts if not _part_file(out / subject.folder_name, part.digest).is_file()]

    @cache
    def model() -> Any:
        return load_model(subject, settings)

    with side_by_side(subject, settings, missing) as asked_ahead:
        ask = asked_ahead or (lambda part: ask_part(model(), part, settings))
        return _run(subject, parts, settings, out, ask, corpora, lambda corpus: ask_texts(model(), corpus.texts))


def _evaluate_rows(subject: Subject, rows: Sequence[Labelled], settings: EvalSettings, out: Path) -> Path:
    """Score what reads rows and no prompts: a baseline, or a model with a head that labels texts."""
    if subject.kind == "baseline":
        found = baseline_tasks(subject.name.removeprefix("baseline:"), rows)
    else:
        from zhiling.eval_tasks.classifier import classifier_tasks

        found = classifier_tasks(Path(subject.source), rows)
    scores = {row.task.name: row.scores for row in found}
    parts = [_part(subject, row.task, row.documents, settings, row.scores) for row in found]

    def ask_table(part: Part) -> Results:
        from zhiling.eval_tasks.engine import ScoresLM, ask

        return ask(ScoresLM(scores[part.task.name]), part.task, part.documents)

    return _run(subject, parts, settings, out, ask_table)


def _part(
    subject: Subject, task: Task, documents: pa.Table, settings: EvalSettings, scores: Any = None
) -> Part:
    if not len(documents):
        raise UserError(task.name, "no documents", "give a release or files with test rows")
    hangs_on = {
        "model": subject.digest, "task": task_digest(task), "documents": documents_digest(documents),
        "backend": settings.backend, "too_long": settings.too_long, "versions": versions(), "scores": scores,
    }
    if _runs_code(task):
        hangs_on["allow_code"] = settings.allow_code
    return Part(task, documents, digest(hangs_on))


def _corpus(subject: Subject, texts: Texts, settings: EvalSettings) -> Corpus:
    found = texts.read(settings.limit)
    hangs_on = {"model": subject.digest, "texts": found, "backend": settings.backend, "versions": versions()}
    return Corpus(texts.name, texts.corpus, found, digest(hangs_on))


def _runs_code(task: Task) -> bool:
    return task.free and "pass_at_1" in task.made_from.get("metrics", [])


def _run(
    subject: Subject, parts: list[Part], settings: EvalSettings, out: Path, ask: Ask,
    corpora: Sequence[Corpus] = (), ask_corpus: AskCorpus | None = None,
) -> Path:
    """Ask what is not there yet, and write the results folder."""
    home = out / subject.folder_name
    run_id = digest([part.digest for part in parts] + [corpus.digest for corpus in corpora])[:12]
    folder = home / run_id
    if (folder / MANIFEST).is_file():
        note(f"{subject.name}: scored before, {folder} is kept")
        return folder
    _check(subject, parts, settings)
    quiet_libraries()

    def kept(name: str, make: Callable[[], Any]) -> Any:
        path = _part_file(home, name)
        if not path.is_file():
            write_json(path, make())
        return read_json(path)

    found: list[Results] = []
    sizes = [len(p.documents) for p in parts] + [len(c.texts) for c in corpora]
    with progress(f"scoring {subject.name}", sum(sizes)) as bar:
        for part in parts:
            found.append(kept(part.digest, partial(_asked, part, ask, settings)))
            bar(len(part.documents), part.task.name)
        texts: dict[str, Any] = {}
        for corpus in corpora:
            assert ask_corpus is not None
            texts[corpus.name] = kept(corpus.digest, partial(ask_corpus, corpus))
            bar(len(corpus.texts), corpus.name)
    with atomic_folder(folder) as temporary:
        write_run(temporary, run_id, subject, parts, found, settings, texts)
    return folder


def _part_file(home: Path, name: str) -> Path:
    return home / PARTS / f"{name[:32]}.json"


def _asked(part: Part, ask: Ask, settings: EvalSettings) -> Results:
    return plain(ask(part), part.task, settings.allow_code)


def _check(subject: Subject, parts: Sequence[Part], settings: EvalSettings) -> None:
    """Say or refuse, before anything is asked, what the settings do not allow."""
    if not settings.prompts and any(part.task.free for part in parts):
        do = "leave free-text templates out, or keep the prompts"
        raise UserError(subject.name, "answers that are texts cannot be written without texts", do)
    if any(_runs_code(part.task) for part in parts):
        if settings.allow_code:
            check_fence()
        else:
            note("pass_at_1 is left out: code that a model wrote runs only with --allow-code")


def quiet_libraries() -> None:
    """lm-eval, transformers and datasets say only what is wrong, and draw no bars of their own."""
    import logging

    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("lm_eval", "lm-eval", "transformers", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
