"""`zhiling verify`, `inspect`, `diff`, `explain`, `export`: what one does with a release."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

Release = Annotated[Path, typer.Argument(help="Folder of a release, as out/zh-reviews/1.0.0.")]
LEAK = ("naive_leaked_rows", "naive_test_rows", "naive_near_leaked_rows", "leaked_rows", "test_rows")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("verify")(verify)
    app.command("inspect")(inspect)
    app.command("diff")(diff)
    app.command("explain")(explain)
    app.command("export")(export)


def verify(
    release: Release,
    again: Annotated[bool, typer.Option("--rebuild", help="Also build it again and compare the bytes.")] = False,
    base: Annotated[Path, typer.Option(help="Folder that the recipe's paths start from, for --rebuild.")] = Path(),
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Processes that build.")] = 2,
) -> None:
    """Hash every file of a release again and compare with its manifest."""
    from zhiling.builders.release import verify as find_differences

    if str(release).startswith("hub:"):
        from zhiling.builders.published import verify_published

        found = verify_published(str(release))
    else:
        found = find_differences(release)
    _none_differ(release, found, "get or build the release anew")
    print(f"{release}: every file agrees with the manifest")
    if again:
        from zhiling.builders.rebuild import rebuild

        _none_differ(release, rebuild(release, base, workers), "see whether sources or versions have changed")
        print(f"{release}: built again, every byte is the same")


def _none_differ(release: Path, found: list[str], do: str) -> None:
    """Raise UserError with the first differences where there are any."""
    from zhiling.errors import UserError

    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise UserError(str(release), f"{'; '.join(found[:3])}{more}", do)


def inspect(release: Release, as_json: AsJson = False) -> None:
    """Show a release's size, ledger and leak report."""
    import json

    from zhiling.builders.release import steps
    from zhiling.console import table
    from zhiling.store import read_manifest

    about = read_manifest(release, "release", "name", "version", "splits", "ledger", "leak")
    if as_json:
        print(json.dumps(about, ensure_ascii=False, indent=2))
        return
    sizes = [[split, found["rows"]] for split, found in about["splits"].items()]
    table(f"{about['name']} {about['version']}", ["split", "rows"], sizes)
    for name, ledger in about["ledger"].items():
        rows = [[step.replace("_", " "), count] for step, count in steps(ledger)]
        rows += [[f"rejected, {reason}", count] for reason, count in ledger.get("rejects", {}).items()]
        table(f"ledger of {name}", ["what", "rows"], rows)
    leak = {**dict.fromkeys(LEAK), **about["leak"]}
    naive = _part(leak["naive_leaked_rows"], leak["naive_test_rows"], share=True)
    tied = "a near duplicate or a tied row" if leak.get("tied") else "a near duplicate"
    near = "not counted" if leak["naive_near_leaked_rows"] is None else f"{leak['naive_near_leaked_rows']:,} more"
    rows = [["row, at random", naive, near]]
    rows.append(["group (this release)", _part(leak["leaked_rows"], leak["test_rows"]), ""])
    table("test rows whose text stands in train", ["split by", "the very text", tied], rows)
    if leak.get("scores"):
        scored = [[name, score["naive"], score["split"]] for name, score in leak["scores"].items()]
        table("macro-F1 of a linear model", ["corpus", "split by row, at random", "this release"], scored)


def _part(rows: int | None, of: int | None, share: bool = False) -> str:
    """How many rows of how many, and their share; an earlier zhiling counted less."""
    if rows is None or of is None:
        return "not counted"
    return f"{rows:,} of {of:,}" + (f" ({rows / max(1, of):.1%})" if share else "")


def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="Folder of the earlier release.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Folder of the later release.")],
    as_json: AsJson = False,
    write: Annotated[bool, typer.Option("--write", help="Write it into B's changelog and card.")] = False,
    because: Annotated[str, typer.Option(help="With --write: why it was done, in a sentence.")] = "",
) -> None:
    """Say which rows were added, removed, changed or moved, and the version bump that it calls for."""
    import json

    from zhiling.builders.diff import diff as compare
    from zhiling.builders.notes import annotate
    from zhiling.console import table

    found = annotate(before, after, because) if write else compare(before, after)
    if as_json:
        print(json.dumps(found.to_json(), ensure_ascii=False, indent=2))
        return
    if found.changes:
        rows = [[c.table, c.kind, c.corpus, c.pack, c.template, c.rows] for c in found.changes]
        table("rows", ["table", "what", "corpus", "pack", "template", "rows"], rows)
    if found.samples:
        samples = [
            [s.table, s.kind, s.id, " -> ".join(filter(None, (s.before, s.after))), _said(s.kind, s.columns)]
            for s in found.samples
        ]
        table("samples", ["table", "what", "id", "split", "what it says"], samples)
    for title, lines in (("columns", found.columns), ("packs", found.packs), ("around the data", found.words)):
        for line in lines:
            print(f"{title}: {line}")
    said = "says the same" if found.bump == "none" else f"is a {found.bump} change"
    print(f"{found.name}: {found.before} -> {found.after} {said}")


def _said(kind: str, columns: Mapping[str, tuple[Any, Any]]) -> str:
    """The columns of a changed row, or how a row begins that came or went."""
    from zhiling.errors import one_line

    if kind == "changed":
        parts = [f"{n}: {one_line(str(was), 24)} -> {one_line(str(now), 24)}" for n, (was, now) in columns.items()]
        return "; ".join(parts)
    was, now = columns.get("prompt") or columns.get("text") or (None, None)
    return one_line(str(now or was or ""), 60)


def explain(
    release: Release,
    row_id: Annotated[str, typer.Argument(metavar="ROW_ID", help="Column `id` of one of its examples.")],
    as_json: AsJson = False,
) -> None:
    """Show where a row came from, step by step, and render it again."""
    import json

    from zhiling.builders.explain import explain as trace
    from zhiling.console import table

    found = trace(release, row_id)
    if as_json:
        print(json.dumps(found.as_dict(), ensure_ascii=False, indent=2, default=str))
        return
    example = found.example
    again = "the same bytes" if found.same_bytes else "OTHER BYTES: packs or versions changed"
    links = enumerate(found.chain)
    steps = [["copy" if n else "source", f"{link.source} {link.augmentation or ''}"] for n, link in links]
    steps += [["row", f"{name}: {value}"] for name, value in found.chain[-1].fields.items()]
    if found.passages is not None:
        otherwise = "left out" if found.passages["left_out"] else "none known"
        steps.append(["gold passage at", ", ".join(map(str, found.passages["gold"])) or otherwise])
    steps += [
        ["corpus", f"{example['corpus']} {example['revision']}, {example['license']}"],
        ["group", f"{example['group_id']}, {len(found.group)} row(s)"],
        ["template", f"{example['pack']} {found.pack_version} / {example['template']}"],
        ["exemplars", ", ".join(link.source for link in found.exemplars) or "none"],
        *[[f"draw {purpose}", how] for purpose, how in found.draws.items()],
        ["stands in", f"{found.file} ({found.split})"],
        ["rendered again", again],
    ]
    table(f"row {example['id']}", ["step", "what"], steps)
    print(f"── prompt\n{example['prompt']}\n── completion\n{example['completion']}")


def export(
    release: Release,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for train.jsonl, validation.jsonl, test.jsonl.")],
    format: Annotated[str, typer.Option("--format", "-f", help="messages, alpaca or sharegpt.")] = "messages",  # noqa: A002
) -> None:
    """Write a release in a shape that other trainers read."""
    from zhiling.builders.export import FORMATS
    from zhiling.builders.export import export as write
    from zhiling.errors import UserError, did_you_mean

    if format not in FORMATS:
        raise UserError("--format", f"unknown format '{format}'", did_you_mean(format, FORMATS))
    counts = write(release, format, out)
    print(f"{out}: " + ", ".join(f"{count:,} {split}" for split, count in counts.items()))
