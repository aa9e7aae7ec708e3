"""What people read of a release: the card with its statistics and plots, licences, citation, changelog."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from zhiling.builders.croissant import croissant
from zhiling.builders.plan import Plan
from zhiling.cards.markdown import render_card
from zhiling.cards.plots import bars, histogram
from zhiling.errors import one_line
from zhiling.rows import SPLITS
from zhiling.store import write_json, write_text

TASK_CATEGORIES = {
    "classification": "text-classification", "nli": "text-classification", "matching": "text-classification",
    "extractive_qa": "question-answering", "multiple_choice": "multiple-choice",
    "summarization": "summarization", "translation": "translation",
}
SIZES = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M")]


def write_card(folder: Path, plan: Plan, about: Mapping[str, Any]) -> None:
    """Write README.md with its plots, LICENSES.md, CITATION.cff and CHANGELOG.md into a release folder."""
    figures = _figures(folder, plan)
    (folder / "plots").mkdir()
    write_text(folder / "plots" / "labels.svg", bars("Rows by split and label", figures["labels"], "rows"))
    write_text(folder / "plots" / "lengths.svg", histogram("Prompt length", figures["lengths"], "characters"))
    leak = about["leak"]
    shares = {
        "naive random split": {"test texts seen in train, %": 100 * _share(leak)},
        "this release": {"test texts seen in train, %": 100 * figures["leaked_share"]},
    }
    write_text(folder / "plots" / "leak.svg", bars("Leak from test to train", shares, "%"))
    if leak["scores"]:
        scored = {"naive split by rows": "naive", "this release": "split"}
        points = {
            shown: {name: 100 * (s[key] or 0) for name, s in leak["scores"].items()} for shown, key in scored.items()
        }
        write_text(folder / "plots" / "leak_scores.svg", bars("Macro-F1 of a linear model", points, "%"))
    about_rows = {**figures, "leak": {**leak, "share": _share(leak)}}
    context = {"recipe": plan.recipe, "about": about, "figures": about_rows, "splits": SPLITS}
    front = yaml.safe_dump(_front_matter(folder, plan, about), allow_unicode=True, sort_keys=False)
    write_text(folder / "README.md", f"---\n{front}---\n\n{render_card('dataset.md.j2', context)}")
    write_text(folder / "LICENSES.md", render_card("licenses.md.j2", context))
    write_text(folder / "CITATION.cff", _citation(plan))
    recipe = plan.recipe
    write_json(
        folder / "croissant.json",
        croissant(folder, about, recipe.title, recipe.summary, about["license"]["derived"]),
    )
    write_text(folder / "CHANGELOG.md", f"# Changelog\n\n## {plan.recipe.version}\n\n- First release.\n")


def _share(leak: Mapping[str, int]) -> float:
    return leak["naive_leaked_rows"] / leak["naive_test_rows"] if leak["naive_test_rows"] else 0.0


def _front_matter(folder: Path, plan: Plan, about: Mapping[str, Any]) -> dict[str, Any]:
    """Front matter that the Hub and `datasets` read."""
    rows = sum(split["rows"] for split in about["splits"].values())
    configs = [_config("examples", "data", folder, default=True)]
    configs += [_config(f"corpus-{c.name}", f"corpus/{c.name}", folder) for c in plan.recipe.corpora]
    packs = sorted(plan.packs.values(), key=lambda p: p.name)
    return {
        "pretty_name": plan.recipe.title,
        "language": sorted({p.settings.language for p in packs}),
        "license": about["license"]["derived"],
        "task_categories": sorted({TASK_CATEGORIES.get(p.settings.task, "text-generation") for p in packs}),
        "size_categories": [next((name for limit, name in SIZES if rows < limit), "n>10M")],
        "tags": ["instruction-tuning", "zhiling"],
        "configs": configs,
    }


def _config(name: str, place: str, folder: Path, default: bool = False) -> dict[str, Any]:
    files = [
        {"split": split, "path": f"{place}/{split}-*.parquet"}
        for split in SPLITS
        if any((folder / place).glob(f"{split}-*.parquet"))
    ]
    return {"config_name": name, **({"default": True} if default else {}), "data_files": files}


def _figures(folder: Path, plan: Plan) -> dict[str, Any]:
    """Counts, lengths and samples of the written rows, and the leak measured on them."""
    import duckdb

    with duckdb.connect() as db:
        def rows(query: str) -> list[tuple[Any, ...]]:
            return db.execute(query).fetchall()

        data = _quoted(folder / "data" / "*.parquet")
        split = "regexp_extract(filename, '([a-z]+)-[0-9]+-of', 1)"
        db.execute(f"CREATE TEMP VIEW examples AS SELECT *, {split} AS side FROM read_parquet({data}, filename = true)")
        templates = rows(
            "SELECT pack, template, shots, count(*) FILTER (side = 'train'), count(*) FILTER (side = 'validation'), "
            "count(*) FILTER (side = 'test'), avg(length(prompt)) FROM examples GROUP BY ALL ORDER BY ALL"
        )
        samples = rows(
            "SELECT pack, template, arg_min(prompt, id), arg_min(completion, id) FROM examples "
            "WHERE side = 'train' AND shots = 0 GROUP BY ALL ORDER BY ALL"
        )
        lengths = {
            s: [n for (n,) in rows(f"SELECT length(prompt) FROM examples WHERE side = '{s}' ORDER BY id LIMIT 20000")]
            for s in SPLITS
        }
        leaked = rows(
            "SELECT count(*) FILTER (group_id IN (SELECT group_id FROM examples WHERE side = 'train')), count(*) "
            "FROM (SELECT DISTINCT group_id FROM examples WHERE side = 'test')"
        )[0]
        return {
            "templates": templates,
            "samples": samples,
            "lengths": lengths,
            "labels": {s: _labels(rows, folder, plan, s) for s in SPLITS},
            "leaked_share": leaked[0] / leaked[1] if leaked[1] else 0.0,
        }


def _labels(rows: Any, folder: Path, plan: Plan, split: str) -> dict[str, int]:
    """Corpus rows of one side by label, over all corpora whose pack has labels."""
    counts: dict[str, int] = {}
    for corpus in plan.recipe.corpora:
        pack, place = plan.pack(corpus), folder / "corpus" / corpus.name
        if not any(place.glob(f"{split}-*.parquet")):
            continue
        for column in pack.label_columns[:1]:
            files = _quoted(place / f"{split}-*.parquet")
            found = rows(f'SELECT "{column}", count(*) FROM read_parquet({files}) GROUP BY 1')
            for label, count in found:
                counts[label] = counts.get(label, 0) + count
    return dict(sorted(counts.items()))


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _citation(plan: Plan) -> str:
    recipe = plan.recipe
    authors: Sequence[str] = recipe.authors
    fields = {
        "cff-version": "1.2.0",
        "message": "If you use this dataset, please cite it.",
        "type": "dataset",
        "title": one_line(recipe.title, 200),
        "version": recipe.version,
        "authors": [{"name": one_line(name, 100)} for name in authors],
    }
    return "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()) + "\n"
