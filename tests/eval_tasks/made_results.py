"""Results folders as `zhiling eval` writes them, of models whose skill is known."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhiling.seeds import pick, uniform
from zhiling.store import digest, write_json, write_jsonl, write_manifest

Rows = list[dict[str, str]]
WORDS = {"question": ("负面", "正面"), "either_or": ("不满意", "满意"), "cloze": ("差", "好")}


@dataclass
class Made:
    """Writes one model's results on some labelled rows; `skill` is its chance of a right answer."""

    root: Path
    rows: Rows
    pack: str = "zh/sentiment"
    labels: tuple[str, ...] = ("negative", "positive")
    words: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(WORDS))
    release: dict[str, str] = field(default_factory=lambda: {"name": "reviews", "version": "1.0.0", "sha256": "a" * 64})
    digest: str = "d" * 64
    contamination: dict[str, int] | None = None

    def run(
        self, model: str, skill: float = 0.7, shots: tuple[int, ...] = (0, 3), run: str = "run1", **about: Any
    ) -> Path:
        """A model that was asked every template at every number of shots."""
        tasks = {(name, n): self._samples(model, name, n, skill) for name in self.words for n in shots}
        return self._write(model, run, tasks, {"kind": "causal", **about})

    def baseline(self, name: str = "linear", skill: float = 0.85, run: str = "run1") -> Path:
        """A baseline, which reads the row itself and answers with labels."""
        rows = self._samples(f"baseline:{name}", "row", 0, skill)
        return self._write(f"baseline:{name}", run, {("row", 0): rows}, {"kind": "baseline"})

    def _samples(self, model: str, template: str, shots: int, skill: float) -> list[dict[str, Any]]:
        words = self.words.get(template, self.labels)
        return [self._sample(model, template, shots, skill, i, row, words) for i, row in enumerate(self.rows)]

    def _sample(
        self, model: str, template: str, shots: int, skill: float, i: int, row: dict[str, str], words: tuple[str, ...]
    ) -> dict[str, Any]:
        key, target = f"{model}\x1f{template}\x1f{shots}\x1f{i}", self.labels.index(row["label"])
        right = uniform(1, "right", key) < skill
        wrong = [j for j in range(len(words)) if j != target]
        said = target if right else pick(wrong, 1, "wrong", key)
        scores = [-1.0 if j == said else -2.0 - uniform(1, "score", f"{key}{j}") for j in range(len(words))]
        prompt = row["text"] if template == "row" else "例：好\n" * shots + f"{row['text']}\n{template}："
        doc = {
            "id": f"id{i}{template}", "prompt": prompt, "completion": words[target], "choices": list(words),
            "answer": target, "pack": self.pack, "template": template, "shots": shots, "source_id": f"s{i:04}",
            "group_id": f"g{i // 2:04}", "language": "zh", "task": "classification",
        }
        answers = [[score, j == said] for j, score in enumerate(scores)]
        by_length = [score / len(word) for score, word in zip(scores, words, strict=True)]
        return {
            "doc": doc, "doc_id": i, "target": target, "filter": "none", "resps": answers, "filtered_resps": answers,
            "metrics": ["acc", "acc_norm"], "acc": float(right),
            "acc_norm": float(by_length.index(max(by_length)) == target),
            "prompt_hash": hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest(),
        }

    def _write(self, model: str, run: str, tasks: dict[tuple[str, int], Any], about: dict[str, Any]) -> Path:
        safe = hashlib.sha256(model.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        folder = self.root / safe / f"{self.pack.replace('/', '_')}_{run}"
        results: dict[str, Any] = {"results": {}, "configs": {}, "n-samples": {}, "model_name": model}
        told = {"pack_version": "1.0.0", "pack_digest": "p" * 64, "release": self.release}
        listed = {}
        for (template, shots), rows in tasks.items():
            name = f"{self.pack.replace('/', '_')}_{template}" + ("" if template == "row" else f"_{shots}shot")
            write_jsonl(folder / f"samples_{name}_{run}.jsonl", rows)
            results["results"][name] = {f"{m},none": sum(r[m] for r in rows) / len(rows) for m in ("acc", "acc_norm")}
            metadata = {"pack": self.pack, "template": template, "shots": shots, **told}
            config = {"task": name, "metadata": metadata | {"held_out_template": template == "cloze"}}
            results["configs"][name] = config
            results["n-samples"][name] = {"original": len(rows), "effective": len(rows)}
            listed[name] = metadata | {
                "documents": len(rows), "task_digest": digest(config),
                "documents_digest": digest([row["doc"] for row in rows]),
            } | ({"contamination": self.contamination} if self.contamination else {})
        write_json(folder / f"results_{run}.json", results)
        write_manifest(folder, "results", {
            "model": {"name": model, "digest": self.digest, **about}, "tasks": listed, "seed": 42,
            "settings": {"limit": None, "shots": None}, "date": "2026-01-02T03:04:05+00:00", "machine": "2 CPU cores",
            "versions": {"zhiling": "0.1.0"},
        })
        return folder


def text_of(folder: Path, pattern: str = "samples_*.jsonl") -> list[dict[str, Any]]:
    """The rows of a folder's first samples file."""
    path = sorted(folder.glob(pattern))[0]
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
