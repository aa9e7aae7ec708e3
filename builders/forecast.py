"""What a build will hold, before there is a release: exact rows, and tokens by estimate or by a tokenizer.

In: a recipe. Out: a row for each corpus, template and number of shots. Every step but the writing runs in the work
folder, which the build then goes on from: nothing is done twice, and the counts are what will be.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiling.builders import stages
from zhiling.builders.engines import LocalEngine
from zhiling.builders.pipeline import is_current, locked, run_steps
from zhiling.builders.plan import make_plan
from zhiling.errors import UserError, one_line

TOKENS_PER_CHARACTER = {"zh": 0.65, "en": 0.25}  # of common byte-level vocabularies, for want of a tokenizer
SAMPLE = 200  # texts a group that a tokenizer counts
QUERY = """
SELECT corpus, task, pack, template, shots, any_value(language),
       count(*) FILTER (side = 'train'), count(*) FILTER (side = 'validation'), count(*) FILTER (side = 'test'),
       sum(length(prompt) + length(completion)) FILTER (side = 'train'),
       list_slice(list(prompt || completion ORDER BY id) FILTER (side = 'train'), 1, {sample})
FROM examples GROUP BY ALL ORDER BY ALL
"""


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
    home = out / plan.recipe.name
    folder = home / plan.recipe.version
    home.mkdir(parents=True, exist_ok=True)
    with locked(home):
        if is_current(folder, plan.made_from):
            return list(_expected(sorted((folder / "data").glob("*.parquet")), _SIDE_BY_FILE, count))
        work = home / f".work-{plan.recipe.version}-{plan.made_from[:16]}"
        built = run_steps(stages.Run(plan, work, LocalEngine(workers)))
        return list(_expected(built.examples, '"split"', count))


_SIDE_BY_FILE = "regexp_extract(filename, '([a-z]+)-[0-9]+-of', 1)"


def _expected(files: list[Path], side: str, count: Callable[[str], int] | None) -> Iterator[Expected]:
    import duckdb

    with duckdb.connect() as db:
        listed = "[" + ", ".join("'" + str(f).replace("'", "''") + "'" for f in files) + "]"
        source = f"read_parquet({listed}, filename = true)"
        db.execute(f"CREATE TEMP VIEW examples AS SELECT *, {side} AS side FROM {source}")
        rows = db.execute(QUERY.format(sample=SAMPLE if count else 0)).fetchall()
    for corpus, task, pack, template, shots, language, train, validation, test, characters, texts in rows:
        rate = TOKENS_PER_CHARACTER.get(language, 0.4)
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
