"""Marks for contamination: how many of a run's test texts stand in what its model says it was trained on.

In: a results folder, and the releases that the model's lineage names, known by their manifests' digests. Out: the
results' manifest with `contamination` for each task. A text counts where it shares a run of 13 letters (words where
they are spaced) with a train row, or where it is shorter and the rows are equal; width and case are folded, labels
are no text. Refused: a model without a lineage, a release that is not at hand, not the one named, or changed since.
"""

import json
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from zhiling.errors import UserError, one_line
from zhiling.eval_tasks.models import Subject
from zhiling.eval_tasks.results import KIND, Run, Sample, read_run
from zhiling.rows import BETWEEN_SHOTS, SPLITS, is_unspaced
from zhiling.store import MANIFEST, differences, file_digest, read_manifest, write_manifest
from zhiling.templates.pack import read_pack

NGRAM = 13
Fields = tuple[str, ...]   # what a row says, labels left out
Marks = dict[str, dict[str, int]]


@dataclass(frozen=True)
class TrainedOn:
    """A release of a lineage, found and unchanged, and the splits that the model has seen."""

    folder: Path
    splits: tuple[str, ...]
    about: Mapping[str, str]   # name, version, manifest_sha256


def find_lineage(subject: Subject, given: Sequence[Path] = ()) -> list[TrainedOn]:
    """The releases that the model's manifest names, among `given` folders or beside the model."""
    told = subject.about.get("releases")
    if not isinstance(told, list) or not told:
        do = "score it without --check-contamination; models that zhiling trains say it in their manifest"
        raise UserError(one_line(subject.name), "nothing says what it was trained on", do)
    found = {}
    for release in told:
        if not isinstance(release, dict) or not all(isinstance(release.get(k), str) for k in _NAMED):
            raise UserError(f"{subject.source}/{MANIFEST}", "a release without name, version and digest", "mend it")
        about = {k: str(release[k]) for k in _NAMED}
        splits = tuple(s for s in SPLITS if s in release.get("splits", SPLITS))
        found[about["manifest_sha256"], splits] = TrainedOn(_folder_of(about, subject, given), splits, about)
    return list(found.values())


_NAMED = ("name", "version", "manifest_sha256")


def _folder_of(about: Mapping[str, str], subject: Subject, given: Sequence[Path]) -> Path:
    """Where a release stands, its files as its manifest lists them."""
    name = one_line(f"{about['name']} {about['version']}")
    beside = [p / place for p in list(Path(subject.source).resolve().parents)[:4]
              for place in (about["version"], f"{about['name']}/{about['version']}")]
    for folder in (*given, *beside):
        if (folder / MANIFEST).is_file() and file_digest(folder / MANIFEST) == about["manifest_sha256"]:
            if changed := differences(folder, "release"):
                raise UserError(str(folder), f"changed since it was built ({one_line(changed[0])})", "build it again")
            return folder
    do = "give its folder with --trained-on FOLDER"
    raise UserError(one_line(subject.name), f"was trained on {name}, which is not here with that digest", do)


def mark(
    results: Path, trained: Sequence[TrainedOn], release: Path | None = None, data: str | None = None
) -> Marks:
    """Compare a run's test texts with the train rows; write the marks into its manifest; return them.

    With the `release` or the public `data` that was asked, its rows are compared; else the prompts without their
    exemplars.
    """
    run = read_run(results)
    asked = _asked(run, release, data)
    languages = {task: is_unspaced(str(run.manifest["tasks"][task]["language"])) for task in asked}
    index: dict[tuple[bool, str], set[Fields]] = {}
    for task, rows in asked.items():
        for fields in set(rows.values()):
            for piece in pieces(fields, languages[task]):
                index.setdefault((languages[task], piece), set()).add(fields)
    kinds = set(languages.values())
    seen: set[Fields] = set()
    for fields, language in _train_rows(trained):
        unspaced = is_unspaced(language)
        if unspaced in kinds:
            seen.update(chain.from_iterable(index.get((unspaced, piece), ()) for piece in pieces(fields, unspaced)))
    marks = {
        task: {"contaminated": sum(fields in seen for fields in rows.values()), "documents": len(rows)}
        for task, rows in asked.items()
    }
    about = {k: v for k, v in run.manifest.items() if k not in ("kind", "files")}
    about["tasks"] = {name: {**told, "contamination": marks[name]} for name, told in about["tasks"].items()}
    about["contamination"] = {"ngram": NGRAM, "against": [dict(t.about) | {"splits": t.splits} for t in trained]}
    write_manifest(results, KIND, about)
    return marks


def _asked(run: Run, release: Path | None, data: str | None) -> dict[str, dict[str, Fields]]:
    """What each task's documents say, by source row."""
    own = {row_id: fields for row_id, fields, _ in _rows(release, ("test",))} if release else {}
    if data:
        own |= _public_rows({s.pack for s in run.samples}, data)
    found: dict[str, dict[str, Fields]] = {}
    for sample in run.samples:
        found.setdefault(sample.task, {})[sample.source_id] = own.get(sample.source_id) or (_question(sample),)
    return found


def _public_rows(names: Collection[str], data: str) -> dict[str, Fields]:
    """Id and text of the public data sets' test rows; options that all rows share are no text."""
    from zhiling.eval_tasks.public import PUBLIC, ask_public

    found: dict[str, Fields] = {}
    for public in (PUBLIC[name] for name in names if name in PUBLIC):
        asked = ask_public(public, data)
        columns = [name for name, kind in asked.pack.settings.columns.items()
                   if kind != "label" and not (public.options and name in ("options", "answer"))]
        for row_id, row in zip(asked.test.ids, asked.test.values, strict=True):
            found[row_id] = tuple(_strings([row[c] for c in columns]))
    return found


def _question(sample: Sample) -> str:
    """The prompt behind its exemplars, which come from train rows by intent."""
    return sample.prompt.split(BETWEEN_SHOTS, sample.shown)[-1] if sample.shown else sample.prompt


def _train_rows(trained: Sequence[TrainedOn]) -> Iterator[tuple[Fields, str]]:
    for each in trained:
        for _, fields, language in _rows(each.folder, each.splits):
            yield fields, language


def _rows(release: Path, splits: Collection[str]) -> Iterator[tuple[str, Fields, str]]:
    """Id, text and language of a release's corpus rows."""
    for corpus, about in read_manifest(release, "release")["corpora"].items():
        kinds = read_pack(release / "packs" / about["pack"]).settings.columns
        columns = [name for name, kind in kinds.items() if kind != "label"]
        for path in (p for split in splits for p in sorted((release / "corpus" / corpus).glob(f"{split}-*.parquet"))):
            for row in pq.read_table(path, columns=["id", "language", *columns]).to_pylist():
                values = [json.loads(row[c]) if kinds[c] == "json" and row[c] else row[c] for c in columns]
                yield row["id"], tuple(_strings(values)), row["language"]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def pieces(fields: Fields, unspaced: bool) -> set[str]:
    """What two rows must share: each field's runs of 13, or, where no field is that long, the row as a whole."""
    found: set[str] = set()
    folded = [re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold()) for text in fields]
    for words in folded:
        units: Sequence[str] = "".join(words) if unspaced else words
        found.update("".join(units[i : i + NGRAM]) if unspaced else " ".join(units[i : i + NGRAM])
                     for i in range(len(units) - NGRAM + 1))
    whole = ["".join(words) if unspaced else " ".join(words) for words in folded]
    return found or ({"=" + "\n".join(whole)} if any(whole) else set())
