"""How well a model foresees a release's texts: lm-eval tasks for perplexity and bits per byte, no prompt about them.

In: a release. Out: for each corpus the YAML of one `loglikelihood_rolling` task over its test rows, to be run by
`lm_eval`. A row's text is its text columns, one a line; labels, lists and records are left out. Figures are per
byte of UTF-8, which models of different tokenizers can be compared by; words are not counted, Chinese has no spaces.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from zhiling.eval_tasks.export import as_yaml
from zhiling.store import MANIFEST, file_digest, read_manifest
from zhiling.templates.pack import read_pack

METRICS = ("bits_per_byte", "byte_perplexity")


def rolling_texts(release: Path, packs: Collection[str]) -> dict[str, str]:
    """File names and YAML: a task for each corpus of these packs that has texts and test rows."""
    about, found = read_manifest(release, "release"), {}
    for corpus, told in sorted(about["corpora"].items()):
        pack = read_pack(release / "packs" / told["pack"])
        columns = [name for name, kind in pack.settings.columns.items() if kind == "string"]
        files = sorted((release / "corpus" / corpus).glob("test-*.parquet"))
        if told["pack"] in packs and columns and files:
            name = f"{re.sub('[^a-zA-Z0-9]+', '_', corpus)}_bits_per_byte"
            identity = {"name": about["name"], "version": about["version"], "sha256": file_digest(release / MANIFEST)}
            metadata = {"version": pack.settings.version, "corpus": corpus, "release": identity}
            found[f"{told['pack']}/{name}.yaml"] = as_yaml(_config(name, columns, files) | {"metadata": metadata})
    return found


def _config(name: str, columns: list[str], files: list[Path]) -> dict[str, Any]:
    text = columns[0] if len(columns) == 1 else "\n".join(f"{{{{ {c} }}}}" for c in columns)
    return {
        "task": name, "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {"test": [p.as_posix() for p in files]}},
        "test_split": "test", "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": text,
        "metric_list": [{"metric": metric} for metric in METRICS], "num_fewshot": 0,
    }
