"""Each step of a build as shards for the engine: which jobs it makes of what came before, and where they stand.

In: the run and the tables of the steps before. Out: the paths of this step's tables, by corpus.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zhiling.builders.augment import AugmentJob, held_out_texts
from zhiling.builders.augment import augment as say_otherwise
from zhiling.builders.augment_report import report
from zhiling.builders.decontaminate import Checked, Dropped, check, drop, write_index
from zhiling.builders.duplicates import Compared, Leak, judge_rows
from zhiling.builders.engines import (
    Engine,
    RowGroup,
    Shard,
    Work,
    count_rows,
    joined,
    read_output,
    read_rejects,
    row_groups,
)
from zhiling.builders.examples import RenderJob, make_examples
from zhiling.builders.exemplars import PoolJob, make_pool
from zhiling.builders.keys import ReadJob, SketchJob, read_rows, sketch_rows
from zhiling.builders.leak import ReviewJob, find_label_errors, score_splits
from zhiling.builders.mixture import Mixed, cuts
from zhiling.builders.mixture import mix as thin
from zhiling.builders.plan import Plan
from zhiling.builders.release_files import PlaceJob, files_of, place_rows, write_file
from zhiling.builders.retrieve import FillJob, FindJob, asked_for, fill, own_passages, read_passages, write_shelf
from zhiling.builders.retrieve import find as find_passages
from zhiling.builders.sources import CorpusSettings
from zhiling.builders.split import SplitJob, split_rows
from zhiling.console import note
from zhiling.errors import UserError
from zhiling.store import atomic, write_jsonl

Tables = Mapping[str, list[Path]]  # by corpus: the files of one step
FEW = 16  # parts; where there are several times as many, several are rendered together
ROWS = ".arrow"  # ends the names of tables that Arrow reads alone; what DuckDB reads, too, is Parquet


@dataclass(frozen=True)
class Run:
    """A build under way: what is to be built, where its shards stand, what runs them."""

    plan: Plan
    work: Path
    engine: Engine

    def over_rows(
        self, step: str, label: str, work: Work, tables: Tables, job: Callable[[CorpusSettings, RowGroup, int], Any],
        ending: str = ROWS,
    ) -> dict[str, list[Path]]:
        """Run `work` on every row group of `tables`, numbered through all corpora; its outputs by corpus."""
        shards: list[Shard] = []
        outputs = {}
        for corpus in self.plan.recipe.corpora:
            if corpus.name not in tables:
                continue
            folder = self.work / step / corpus.name
            first = len(shards)
            for part in row_groups(tables[corpus.name]):
                shards.append(Shard(folder / f"{len(shards):05d}{ending}", job(corpus, part, len(shards))))
            outputs[corpus.name] = [s.output for s in shards[first:]]
        self.engine.map(work, shards, label)
        return outputs


def read(run: Run) -> Tables:
    """Corpus rows of every source. Raises UserError where a corpus has none."""
    recipe, tables = run.plan.recipe, {}
    shards: list[Shard] = []
    for corpus in recipe.corpora:
        units = [unit for source in run.plan.sources[corpus.name] for unit in source.units]
        jobs = [ReadJob(unit, n, recipe.split, recipe.seed) for n, unit in enumerate(units, len(shards))]
        here = [Shard(run.work / "read" / corpus.name / f"{i:05d}{ROWS}", job) for i, job in enumerate(jobs)]
        tables[corpus.name] = [s.output for s in here]
        shards += here
    run.engine.map(read_rows, shards, "read")
    for corpus in recipe.corpora:
        _say_what_was_not_read(corpus.name, tables[corpus.name])
        if not count_rows(tables[corpus.name]):
            first = next(read_rejects(tables[corpus.name]), {"source": "its sources", "detail": "nothing in them"})
            saw = f"corpus '{corpus.name}' has no usable row ({first['source']}: {first['detail']})"
            raise UserError(run.plan.where(corpus), saw, "see its sources, mapping and encoding")
    return tables


def _say_what_was_not_read(corpus: str, files: Sequence[Path]) -> None:
    reasons: Counter[str] = Counter()
    for reject in read_rejects(files):
        note(f"{reject['source']}: {reject['detail']}; row put in rejects.jsonl", 2)
        reasons[f"{reject['step']}: {reject['reason']}"] += 1
    if reasons:
        counted = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
        note(f"{corpus}: {reasons.total():,} rows put in rejects.jsonl ({counted})")


def judge(run: Run, rows: Tables) -> tuple[Path, Leak]:
    """The verdicts on rows that do not simply stay; and what a naive split would have leaked."""
    recipe, plan, verdicts = run.plan.recipe, run.plan, run.work / "verdicts.parquet"
    near, sketches = recipe.clean.near_duplicates, list[Path]()

    def job(corpus: CorpusSettings, part: RowGroup, _unit: int) -> SketchJob:
        assert near is not None
        return SketchJob(part, plan.columns(corpus), plan.pack(corpus).settings.language, near)

    if near is not None:
        found = run.over_rows("sketches", "compare texts", sketch_rows, rows, job, ".parquet")
        sketches = [path for paths in found.values() for path in paths]
    of = [(path, plan.columns(corpus)) for corpus in recipe.corpora for path in rows[corpus.name]]
    given = Compared([path for path, _ in of], [columns for _, columns in of], sketches)
    return verdicts, judge_rows(given, recipe.clean, recipe.split, recipe.seed, plan.previous, verdicts)


def personal_data(run: Run, rows: Tables) -> dict[str, dict[str, int]]:
    """By corpus: rows that hold each kind of personal data, those left in and masked."""
    found: dict[str, Counter[str]] = {name: Counter() for name in rows}
    for name, path in ((name, path) for name, files in rows.items() for path in files):
        for each in pc.value_counts(pc.list_flatten(read_output(path, ["_found"])["_found"])).to_pylist():
            found[name][each["values"]] += each["counts"]
    return {name: dict(sorted(counts.items())) for name, counts in found.items()}


def split(run: Run, rows: Tables, verdicts: Path) -> Tables:
    """The rows that stay, each with its group and side."""
    recipe, parts = run.plan.recipe, row_groups([verdicts])
    of_unit = {part.read(["unit"])["unit"][0].as_py(): part for part in parts}
    units = {path: n for n, path in enumerate(path for c in recipe.corpora for path in rows[c.name])}

    def job(corpus: CorpusSettings, part: RowGroup, _unit: int) -> SplitJob:
        return SplitJob(part, of_unit.get(units[part.path]), run.plan.columns(corpus), recipe.split, recipe.seed)

    return run.over_rows("split", "clean and split", split_rows, rows, job)


def review(run: Run, rows: Tables, splits: Tables) -> dict[str, dict[str, float]]:
    """By corpus with labels: a linear model's scores; and likely label errors, listed for a person."""
    recipe, scores, errors = run.plan.recipe, {}, {}
    for corpus in recipe.corpora:
        columns = run.plan.columns(corpus)
        if "label" in columns.values() and "string" in columns.values():
            read, split = tuple(row_groups(rows[corpus.name])), tuple(row_groups(splits[corpus.name]))
            job = ReviewJob(read, split, columns, recipe.review, recipe.seed)
            scores[corpus.name] = Shard(run.work / "scores" / f"{corpus.name}.parquet", job)
            errors[corpus.name] = Shard(run.work / "label_errors" / f"{corpus.name}.parquet", job)
    if recipe.review.label_errors:
        run.engine.map(find_label_errors, list(errors.values()), "look for label errors")
        found = [row for shard in errors.values() for row in pq.read_table(shard.output).to_pylist()]
        write_jsonl(run.work / "review" / "label_errors.jsonl", found)
    if not recipe.review.leak_scores:
        return {}
    run.engine.map(score_splits, list(scores.values()), "score a linear model")
    return {name: pq.read_table(shard.output).to_pylist()[0] for name, shard in scores.items()}


def decontaminate(run: Run, splits: Tables) -> Tables:
    """The rows that share nothing with the evaluations that the recipe names; the others listed for review."""
    settings, plan = run.plan.recipe.decontaminate, run.plan
    if settings is None:
        return splits
    index = run.work / "evaluations.parquet"
    languages = [plan.pack(c).settings.language for c in plan.recipe.corpora]
    write_index(settings, languages, plan.base, splits, index)
    compared = {name: paths for name, paths in splits.items() if name in (settings.corpora or splits)}

    def checked(corpus: CorpusSettings, part: RowGroup, _unit: int) -> Checked:
        its = corpus.retrieve  # of a file, the gold passages are named by ids, which are no texts
        named = its.into if its and its.passages else None
        columns = {name: kind for name, kind in plan.columns(corpus).items() if name != named}
        return Checked(part, columns, plan.pack(corpus).settings.language, index, settings.ngram)

    found = run.over_rows("contamination", "compare with evaluations", check, compared, checked, ".parquet")
    listed = [row for files in found.values() for path in files for row in pq.read_table(path).to_pylist()]
    write_jsonl(run.work / "review" / "contamination.jsonl", ({**row, "action": settings.action} for row in listed))
    done = {"drop": "dropped", "flag": "kept"}[settings.action]
    for name, count in ((name, count_rows(files)) for name, files in found.items()):
        if count:
            note(f"{name}: {count:,} train rows share text with an evaluation and are {done} (contamination.jsonl)")
    if settings.action == "flag":
        return splits
    verdicts = [path for files in found.values() for path in files]
    clean = run.over_rows("clean", "decontaminate", drop, compared, lambda _, part, unit: Dropped(part, verdicts[unit]))
    return {**splits, **clean}


def retrieve(run: Run, splits: Tables) -> Tables:
    """The rows with their passages, where a corpus asks for some; ranks of the gold ones listed for review."""
    plan = run.plan
    wanted = {c.name: c.retrieve for c in plan.recipe.corpora if c.retrieve}
    shelves = {name: run.work / "passages" / f"{name}.parquet" for name in wanted}
    for name, settings in wanted.items():
        shown = settings.passages
        given = read_passages(plan.base / shown, shown) if shown else own_passages(splits[name], settings.into)
        sharing = [other for other, its in wanted.items() if other == name or (shown and its.passages == shown)]
        held_out = {each for other in sharing for each in asked_for(splits[other], wanted[other].into)}
        write_shelf(given, held_out, shown or name, shelves[name])
    if not wanted:
        return splits

    def searched(corpus: CorpusSettings, part: RowGroup, _unit: int) -> FindJob:
        language = plan.pack(corpus).settings.language
        return FindJob(part, language, shelves[corpus.name], wanted[corpus.name], plan.recipe.seed)

    asking = {name: splits[name] for name in wanted}
    found = run.over_rows("passages_found", "find passages", find_passages, asking, searched, ".parquet")
    write_jsonl(run.work / "review" / "passages.jsonl", (
        {"corpus": name, **{key: row[key] for key in ("id", "gold", "left_out")}}
        for name, files in found.items() for path in files for row in pq.read_table(path).to_pylist()
        if row["refused"] is None
    ))
    of_unit = [path for files in found.values() for path in files]
    filled = run.over_rows(
        "filled", "add passages", fill, asking,
        lambda corpus, part, unit: FillJob(part, plan.columns(corpus), of_unit[unit], wanted[corpus.name]),
    )
    return {**splits, **filled}


def augment(run: Run, splits: Tables) -> tuple[Tables, dict[str, dict[str, Any]]]:
    """The rows with copies of some train rows said otherwise, and what that did to each corpus."""
    plan, settings = run.plan, run.plan.recipe.augment
    if settings is None:
        return splits, {}
    held_out = run.work / "held_out.parquet"
    texts = sorted({t for c in plan.recipe.corpora for t in held_out_texts(splits[c.name], plan.columns(c))})
    with atomic(held_out) as part:
        pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), part)

    def job(corpus: CorpusSettings, part: RowGroup, _unit: int) -> AugmentJob:
        pack, wanted = plan.pack(corpus), settings
        if settings.corpora is not None and corpus.name not in settings.corpora:
            wanted = settings.model_copy(update={"methods": []})
        return AugmentJob(
            part, plan.columns(corpus), wanted, held_out, pack.folder, pack.settings.language,
            plan.base, plan.recipe.seed,
        )

    found = run.over_rows("augment", "augment", say_otherwise, splits, job)
    languages = {c.name: plan.pack(c).settings.language for c in plan.recipe.corpora}
    return found, {
        c.name: report(found[c.name], plan.columns(c), languages[c.name]) for c in plan.recipe.corpora
    }


def pool(run: Run, splits: Tables) -> Mapping[str, Path]:
    """By corpus: the train rows that exemplars are drawn from; none where no row has exemplars."""
    render, shards = run.plan.recipe.render, {}
    if not any(render.shots):
        return {}

    def job(corpus: CorpusSettings, *parts: RowGroup) -> PoolJob:
        size, longest = render.exemplar_pool, render.exemplar_characters
        return PoolJob(parts, run.plan.columns(corpus), size, longest, run.plan.recipe.seed, render.balances)

    pools = run.over_rows("pools", "pick exemplars", make_pool, splits, lambda corpus, part, _: job(corpus, part))
    for corpus in run.plan.recipe.corpora:
        parts = row_groups(pools[corpus.name])
        shards[corpus.name] = Shard(run.work / "pool" / f"{corpus.name}.parquet", job(corpus, *parts))
    run.engine.map(make_pool, list(shards.values()), "join exemplars")
    return {name: shard.output for name, shard in shards.items()}


def render(run: Run, splits: Tables, pools: Mapping[str, Path]) -> Tables:
    """Example rows: every split row in the words of its templates.

    Each file of the release is gathered from all of these tables, so there are fewer of them where there are many rows.
    """
    recipe = run.plan.recipe
    parts = {c.name: row_groups(splits[c.name]) for c in recipe.corpora}
    several = 1 if any(recipe.render.shots) else min(4, max(1, sum(map(len, parts.values())) // FEW))
    shards: dict[str, list[Shard]] = {}
    for corpus in recipe.corpora:
        pack, pool = run.plan.pack(corpus), pools.get(corpus.name)
        templates = tuple(t.name for t in pack.select(corpus.templates))
        shards[corpus.name] = [
            Shard(
                run.work / "examples" / corpus.name / f"{n:05d}{ROWS}",
                RenderJob(rows, pool, pack.folder, pack.digest, templates, recipe.render, recipe.seed),
            )
            for n, rows in enumerate(joined(parts[corpus.name], several))
        ]
    run.engine.map(make_examples, [shard for each in shards.values() for shard in each], "render")
    return {name: [shard.output for shard in each] for name, each in shards.items()}


def mix(run: Run, examples: Tables) -> Tables:
    """The example rows that the recipe's mixture keeps."""
    settings, seed = run.plan.recipe.mixture, run.plan.recipe.seed
    if settings is None:
        return examples
    at = cuts(examples, settings, seed, run.plan.document.where(("mixture",)))
    shards = {
        name: [Shard(run.work / "mixed" / name / path.name, Mixed(path, at[name], seed)) for path in files]
        for name, files in examples.items()
    }
    run.engine.map(thin, [shard for each in shards.values() for shard in each], "mix")
    return {name: [shard.output for shard in each] for name, each in shards.items()}


def write(run: Run, splits: Tables, examples: Tables) -> dict[str, list[Shard]]:
    """The release's Parquet files, by the folder of the release that they belong in."""
    placed = run.over_rows(
        "placed", "order the corpora", place_rows, splits,
        lambda corpus, part, _: PlaceJob(part, run.plan.columns(corpus)),
    )
    given = {"data": [path for files in examples.values() for path in files]}
    given |= {f"corpus/{name}": files for name, files in placed.items()}
    found = {
        place: files_of(outputs, run.work / "release" / place, run.work / "written" / place)
        for place, outputs in given.items()
    }
    run.engine.map(write_file, [shard for shards in found.values() for shard in shards], "write")
    return found
