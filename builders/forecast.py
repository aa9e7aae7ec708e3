"""What a build will hold, before there is a release: exact rows, and tokens by estimate or by a tokenizer.

In: a recipe. Out: a row for each corpus, template and number of shots. Every step but the writing runs in the work
folder, which the build then goes on from: nothing is done twice, and the counts are what will be.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zhiling.builders.engines import batches
from zhiling.builders.mixture import OTHERWISE, TOKENS_PER_CHARACTER
from zhiling.builders.pipeline import home_of, is_current, run_steps, under_way
from zhiling.builders.places import SIDE_BITS, places_of
from zhiling.builders.plan import make_plan
from zhiling.errors import UserError, one_line
from zhiling.rows import EXAMPLE_SCHEMA, SPLITS
from zhiling.store import locked

SAMPLE = 200  # texts a group that a tokenizer counts
ASKED = pa.schema([("side", pa.string()), *(EXAMPLE_SCHEMA.field(name) for name in (
    "id", "corpus", "task", "pack", "template", "shots", "language", "prompt", "completion"
))])
QUERY = """
SELECT corpus, task, pack, template, shots, any_value(language),
       count(*) FILTER (side = 'train'), count(*) FILTER (side = 'validation'), count(*) FILTER (side = 'test'),
       sum(length(prompt) + length(completion)) FILTER (side = 'train'),
       {texts}
FROM examples GROUP BY ALL ORDER BY ALL
"""
TEXTS = f"arg_min(prompt || completion, id, {SAMPLE}) FILTER (side = 'train')"  # those with the smallest ids


@dataclass(frozen=True)
class Expected:
    """Rows of one corpus in one template's words with one number of shots, and tokens of its train rows."""

    corpus: str
    task: str
    pack: str
    template: str
    shots: int
    train: int
    validation: int
    test: int
    train_tokens: int


def forecast(recipe: Path, out: Path, workers: int = 1, tokenizer: Path | None = None) -> list[Expected]:
    """What `build(recipe, out)` will hold. Raises UserError where the recipe or its sources are wrong."""
    plan = make_plan(recipe)
    count = _counter(tokenizer) if tokenizer else None
    home = home_of(plan, out)
    folder = home / plan.recipe.version
    with locked(home):
        if is_current(folder, plan.made_from):
            return list(_expected(_released(folder), count))
        with under_way(plan, home, workers) as run:
            built = run_steps(run)
        return list(_expected(_rendered(path for files in built.examples.values() for path in files), count))


def _released(folder: Path) -> Iterator[pa.RecordBatch]:
    """The examples of a release with their side."""
    for path in sorted((folder / "data").glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=ASKED.names[1:]):
                yield _asked(batch, pa.repeat(path.name.partition("-")[0], len(batch)))


def _rendered(paths: Iterable[Path]) -> Iterator[pa.RecordBatch]:
    """The examples of a build under way with their side."""
    for path in paths:
        for batch in batches(path):
            yield _asked(batch, pa.array(SPLITS).take(pa.array(places_of(batch) >> np.uint64(64 - SIDE_BITS))))


def _asked(batch: pa.RecordBatch, sides: pa.Array) -> pa.RecordBatch:
    columns = (batch.column(field.name).cast(field.type) for field in list(ASKED)[1:])
    return pa.record_batch([sides, *columns], schema=ASKED)


def _expected(found: Iterator[pa.RecordBatch], count: Callable[[str], int] | None) -> Iterator[Expected]:
    import duckdb

    with duckdb.connect() as db:
        db.register("examples", pa.RecordBatchReader.from_batches(ASKED, found))
        rows = db.execute(QUERY.format(texts=TEXTS if count else "NULL")).fetchall()
    for corpus, task, pack, template, shots, language, train, validation, test, characters, texts in rows:
        rate = TOKENS_PER_CHARACTER.get(language, OTHERWISE)
        if count and texts:
            rate = sum(map(count, texts)) / max(1, sum(map(len, texts)))
        tokens = round((characters or 0) * rate)
        yield Expected(corpus, task, pack, template, shots, train, validation, test, tokens)


def _counter(folder: Path) -> Callable[[str], int]:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UserError("--tokenizer", "`tokenizers` is not installed", "pip install 'zhiling[train]'") from None
    try:
        tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises nothing narrower
        do = "give a folder with a tokenizer.json"
        raise UserError(str(folder), f"not a tokenizer ({one_line(str(error))})", do) from None
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
