"""`zhiling eval`, `zhiling tasks`: a model's scores, and the tasks that they are measured on."""

from pathlib import Path
from typing import Annotated, Any

import typer

tasks_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="lm-eval tasks made from packs and releases.")
Release = Annotated[Path | None, typer.Option("--release", "-r", help="Folder of a release, as out/zh-reviews/1.0.0.")]
Data = Annotated[str | None, typer.Option(help="Folder with your copies of public data sets, or hf://datasets/ORG/NAME.")]
Tasks = Annotated[str, typer.Option(
    help="Packs, as zh/nli; areas and tasks of a release, as zh_nli; public data sets, as fewclue/tnews; all for all."
)]
Shots = Annotated[str, typer.Option(help="Numbers of shots, as 0,3; all for all that a release holds.")]
Templates = Annotated[str, typer.Option(help="Templates, as cloze,question; all for all.")]
Seeds = Annotated[int, typer.Option(min=1, help="Draws of exemplars for public data sets.")]
Fixed = Annotated[bool, typer.Option("--fixed-shots", help="Public data sets: the same exemplars for every document.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Documents per task, the same for every template.")]
Contamination = Annotated[
    bool, typer.Option("--check-contamination", help="Mark test texts that the model's lineage says it was trained on.")
]
TrainedOn = Annotated[list[Path] | None, typer.Option(help="A release of the lineage that is not beside the model.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add this file's top-level commands to `app`."""
    app.command("eval")(eval_)


def eval_(
    model: Annotated[str, typer.Argument(help="A model's folder or Hub name, or baseline:majority, baseline:linear.")],
    release: Release = None,
    data: Data = None,
    tasks: Tasks = "all",
    shots: Shots = "all",
    templates: Templates = "all",
    seeds: Seeds = 1,
    fixed_shots: Fixed = False,
    limit: Limit = None,
    generation: Annotated[bool, typer.Option("--generation", help="Free-text templates too.")] = False,
    bits_per_byte: Annotated[bool, typer.Option("--bits-per-byte", help="Of the release's test texts too.")] = False,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run code that the model wrote, fenced in.")] = False,
    processes: Annotated[int, typer.Option(min=1, help="That score tasks side by side, each with the model.")] = 1,
    backend: Annotated[str, typer.Option(help="zhiling, or hf for lm-eval's own.")] = "zhiling",
    too_long: Annotated[str, typer.Option(help="Too long a prompt: truncate, fewer_shots, error.")] = "truncate",
    check_contamination: Contamination = False,
    trained_on: TrainedOn = None,
    compress: Annotated[bool, typer.Option("--compress", help="Samples as .jsonl.gz.")] = False,
    without_prompts: Annotated[bool, typer.Option("--without-prompts", help="Samples without the texts.")] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Results go to OUT/<model>/<run>.")] = Path("out/results"),
    as_json: AsJson = False,
) -> None:
    """Score a model on a release, on public data sets or on the packs' examples. A killed run goes on."""
    from zhiling.eval_tasks.run import score

    _either(release, data)
    settings = _settings(
        packs=_words(tasks), templates=_words(templates), shots=_numbers(shots, "--shots"), limit=limit,
        generation=generation, backend=backend, too_long=too_long, seeds=seeds, fixed_shots=fixed_shots, data=data,
        check_contamination=check_contamination, compress=compress, prompts=not without_prompts, allow_code=allow_code,
        bits_per_byte=bits_per_byte, processes=processes,
    )
    _show(score(model, settings, out, release, trained_on or ()), as_json)


@tasks_app.command("list")
def list_(release: Release = None, as_json: AsJson = False) -> None:
    """List the tasks of a release, or the public data sets and shipped packs."""
    import json

    from zhiling.console import table

    names, rows = _tasks_of(release) if release else _tasks_without()
    if as_json:
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], ensure_ascii=False, indent=2))
    else:
        table(f"{len(rows)} tasks", names, rows)


def _tasks_of(release: Path) -> tuple[list[str], list[list[Any]]]:
    from zhiling.eval_tasks.release_tasks import release_tasks

    found = release_tasks(release)
    rows = [[t.name, t.pack, t.template, t.shots, t.area, "text" if t.free else "choice"] for t in found]
    return ["task", "pack", "template", "shots", "area", "answer"], rows


def _tasks_without() -> tuple[list[str], list[list[Any]]]:
    from zhiling.eval_tasks.public import PUBLIC
    from zhiling.templates.pack import load_pack, pack_names

    rows = [[p.name, p.pack, p.metric, p.license, p.source] for p in PUBLIC.values()]
    packs = [load_pack(name).settings for name in pack_names()]
    rows += [[p.pack, p.pack, ", ".join(p.metrics), p.license, "the pack's examples"] for p in packs]
    return ["task", "pack", "metric", "licence", "documents"], rows


@tasks_app.command("export")
def export(
    release: Release = None,
    data: Data = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the YAML files.")] = Path("out/tasks"),
    tasks: Tasks = "all",
    shots: Shots = "all",
    templates: Templates = "all",
    seeds: Seeds = 1,
    fixed_shots: Fixed = False,
    limit: Limit = None,
    every: Annotated[bool, typer.Option("--all", help="Every shipped pack on its own examples.")] = False,
) -> None:
    """Write lm-eval tasks: `lm_eval --include_path OUT --tasks zh_sentiment_0shot` runs them without zhiling."""
    from zhiling.eval_tasks.export import export as write
    from zhiling.eval_tasks.export import export_shipped
    from zhiling.eval_tasks.rendered_tasks import named_tasks
    from zhiling.eval_tasks.rolling import rolling_texts
    from zhiling.eval_tasks.run import tasks_of as of_release
    from zhiling.store import write_text

    _either(release, data)
    if every:
        print(f"{out}: {len(export_shipped(out))} files of tasks and groups")
        return
    settings = _settings(
        packs=_words(tasks), templates=_words(templates), shots=_numbers(shots, "--shots"), limit=limit,
        generation=True, seeds=seeds, fixed_shots=fixed_shots, data=data,
    )
    chosen = of_release(release.resolve(), settings) if release else named_tasks(settings, out.resolve())
    write(chosen, out)
    if release:
        for name, text in rolling_texts(release.resolve(), {t.pack for t in chosen}).items():
            write_text(out / name, text)
    print(f"{out}: {len(chosen)} tasks; lm_eval --include_path {out} --tasks {chosen[0].name}")


@tasks_app.command("pass-at-k")
def pass_at_k(
    problems: Annotated[Path, typer.Argument(help="HumanEval's problems: JSONL or JSONL.gz.")],
    samples: Annotated[Path, typer.Argument(help="What a model wrote: JSONL of task_id and completion.")],
    k: Annotated[str, typer.Option("--k", help="As 1,10.")] = "1",
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run the code, fenced in.")] = False,
) -> None:
    """Run code that a model wrote against its tests; print pass@k as JSON."""
    import json

    from zhiling.eval_tasks.code_runner import score

    ks = [n for n in _numbers(k, "--k") or [1] if n]
    print(json.dumps(score(problems, samples, ks or [1], allow_code)))


def _either(release: Path | None, data: str | None) -> None:
    """Raise UserError where both a release and public data are given: only one of them would be asked."""
    if release and data:
        from zhiling.errors import UserError

        raise UserError("--data", "given beside --release", "give one: a release's test rows are asked, or public data")


def _words(text: str) -> list[str] | None:
    return None if text == "all" else [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str, flag: str) -> list[int] | None:
    words = _words(text)
    if words is not None and not all(word.isdigit() for word in words):
        from zhiling.errors import UserError

        raise UserError(flag, f"'{text}' is no list of numbers", "write it as 0,3")
    return None if words is None else [int(word) for word in words]


def _settings(**given: Any) -> Any:
    """Options as settings. Raises UserError for the first that is wrong."""
    from pydantic import ValidationError

    from zhiling.errors import UserError
    from zhiling.eval_tasks.config import EvalSettings

    try:
        return EvalSettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + str(first["loc"][0]).replace("_", "-")
        raise UserError(flag, f"found {first['input']!r}", first["msg"]) from None


def _accuracy(scores: list[float]) -> tuple[float, float | None]:
    """The mean of the samples' scores, which is what the board shows, and its standard error."""
    from statistics import fmean, stdev

    return fmean(scores), stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else None


def _show(folder: Path, as_json: bool) -> None:
    """Print a run's scores and its folder."""
    import json

    from zhiling.console import table
    from zhiling.eval_tasks.results import read_run

    run = read_run(folder)
    seen = {n: t["contamination"] for n, t in run.manifest.get("tasks", {}).items() if "contamination" in t}
    if as_json:
        said = {"folder": str(folder), "results": run.results["results"]} | ({"contamination": seen} if seen else {})
        said |= {"texts": run.results["texts"]} if "texts" in run.results else {}
        print(json.dumps(said, ensure_ascii=False, indent=2))
        return
    heads = ["task", "documents", "accuracy", "stderr", "macro-F1"]
    rows = [
        [name, s["sample_len"], *_accuracy([x.score for x in run.samples if x.task == name]), s.get("f1_macro,none"),
         *([f"{seen[name]['contaminated']}/{seen[name]['documents']}"] if seen else [])]
        for name, s in run.results["results"].items()
    ]
    table(run.model, [*heads, "contaminated"] if seen else heads, rows)
    if texts := run.results.get("texts"):
        names = ["bits_per_byte", "byte_perplexity", "texts", "bytes"]
        table("texts", ["corpus", *names], [[name, *(told[n] for n in names)] for name, told in texts.items()])
    print(folder)
