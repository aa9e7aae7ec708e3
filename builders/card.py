"""What people read of a release: the card with its statistics and plots, licences, citation, changelog."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from zhiling.builders.plan import Plan
from zhiling.cards.markdown import render_card
from zhiling.cards.plots import bars, histogram
from zhiling.errors import one_line
from zhiling.rows import SPLITS
from zhiling.store import write_text

TASK_CATEGORIES = {
    "classification": "text-classification", "nli": "text-classification", "matching": "text-classification",
    "extractive_qa": "question-answering", "multiple_choice": "multiple-choice",
    "summarization": "summarization", "translation": "translation",
}
CHINESE = ("zh", "yue", "wuu")  # languages whose readers get a card in Chinese, too
SAMPLED = 20_000  # prompts of a side whose lengths are shown
SIZES = [  # as the Hub knows them
    (10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"), (10**11, "10B<n<100B"), (10**12, "100B<n<1T"),
]


def write_card(folder: Path, plan: Plan, about: Mapping[str, Any], notes: Sequence[Path]) -> None:
    """Write README.md with its plots, LICENSES.md, CITATION.cff and CHANGELOG.md into a release folder.

    `notes` say what each of its data files holds.
    """
    figures = _figures(folder, plan, about["leak"], notes)
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
        whole = {name: score for name, score in leak["scores"].items() if None not in score.values()}
        points = {shown: {name: 100 * score[key] for name, score in whole.items()} for shown, key in scored.items()}
        write_text(folder / "plots" / "leak_scores.svg", bars("Macro-F1 of a linear model", points, "%"))
    about_rows = {**figures, "leak": {**leak, "share": _share(leak)}}
    chinese = any(pack.settings.language.lower().startswith(CHINESE) for pack in plan.packs.values())
    context = {"chinese": chinese, "recipe": plan.recipe, "about": about, "figures": about_rows, "splits": SPLITS}
    front = yaml.safe_dump(_front_matter(folder, plan, about), allow_unicode=True, sort_keys=False)
    write_text(folder / "README.md", f"---\n{front}---\n\n{render_card('dataset.md.j2', context)}")
    write_text(folder / "LICENSES.md", render_card("licenses.md.j2", context))
    write_text(folder / "CITATION.cff", _citation(plan))
    said = "Compared with no earlier version; `zhiling diff EARLIER THIS --write` says here what changed."
    write_text(folder / "CHANGELOG.md", f"# Changelog\n\n## {plan.recipe.version}\n\n- {said}\n")


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
        "size_categories": [next((name for limit, name in SIZES if rows < limit), "n>1T")],
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


def _figures(folder: Path, plan: Plan, leak: Mapping[str, Any], notes: Sequence[Path]) -> dict[str, Any]:
    """Counts, lengths and samples of the written rows."""
    kept = _kept(notes)
    by_template: dict[tuple[str, str, int], dict[str, Any]] = {}
    samples: dict[tuple[str, str], tuple[str, str]] = {}
    for row in kept:
        found = by_template.setdefault((row["pack"], row["template"], row["shots"]), {"characters": 0, "rows": 0})
        for name, count in (("rows", row["rows"]), ("characters", row["characters"]), (row["split"], row["rows"])):
            found[name] = found.get(name, 0) + count
        if row["split"] == "train" and not row["shots"]:
            samples.setdefault((row["pack"], row["template"]), (row["prompt"], row["completion"]))
    return {
        "templates": [
            (*key, *(found.get(s, 0) for s in SPLITS), found["characters"] / found["rows"])
            for key, found in sorted(by_template.items())
        ],
        "samples": [(*key, *texts) for key, texts in sorted(samples.items())],
        "lengths": {s: _lengths(folder / "data", s) for s in SPLITS},
        "labels": _labels(folder, plan),
        "leaked_share": leak["leaked_rows"] / leak["test_rows"] if leak["test_rows"] else 0.0,
    }


def _kept(notes: Sequence[Path]) -> list[dict[str, Any]]:
    """What the data files hold, in their order, each line with its side."""
    tables = ((path.name.partition("-")[0], _read(path)) for path in notes)
    return [{**row, "split": split} for split, table in tables for row in table.to_pylist()]


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A file without `pq.read_table`, which imports pandas; words as numbers into a dictionary where some are named."""
    with pq.ParquetFile(path, read_dictionary=columns) as file:
        return file.read(columns)


def _lengths(folder: Path, split: str) -> list[int]:
    """Lengths of the first prompts of a side: rows stand in a drawn order."""
    found: list[int] = []
    for path in sorted(folder.glob(f"{split}-*.parquet"))[:1]:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(SAMPLED, columns=["prompt"]):
                found += pc.utf8_length(batch["prompt"]).to_pylist()
                if len(found) >= SAMPLED:
                    break
    return found[:SAMPLED]


def _labels(folder: Path, plan: Plan) -> dict[str, dict[str, int]]:
    """Corpus rows of each side by label, over all corpora whose pack has labels."""
    counts: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    for corpus in plan.recipe.corpora:
        for column in plan.pack(corpus).label_columns[:1]:
            for path in sorted((folder / "corpus" / corpus.name).glob("*.parquet")):
                found = counts[path.name.partition("-")[0]]
                column_of = _read(path, [column])[column]
                for pair in pc.value_counts(column_of.unify_dictionaries()).to_pylist():
                    found[pair["values"]] = found.get(pair["values"], 0) + pair["counts"]
    return {split: dict(sorted(found.items())) for split, found in counts.items()}


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
