"""Rendering a 1 GB JSONL corpus takes little memory: rows are read, rendered and dropped a batch at a time.

In: a JSONL file of real news titles (../shared/data), written for the purpose and removed afterwards. Out: the peak
resident memory and the time, and benchmarks/results/render_memory.json.
"""

import argparse
import json
import resource
import tempfile
from collections.abc import Iterator
from datetime import date
from itertools import cycle, islice
from pathlib import Path
from time import process_time
from typing import Any

from zhiling.store import write_json
from zhiling.templates.pack import load_pack
from zhiling.templates.render import compile_template, render_batch

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data"
PACK, TEMPLATES = "zh/topic", ("question", "json")
BATCH = 4096
TITLES = 12  # in a row


def write_corpus(path: Path, size: int) -> int:
    """A JSONL file of `size` bytes; how many rows."""
    labels = list(load_pack(PACK).labels_of("label"))
    titles = [line.split("\t")[0] for line in (DATA / "thucnews" / "dev.txt").read_text(encoding="utf-8").splitlines()]
    source, count = cycle(titles), 0
    with path.open("w", encoding="utf-8") as f:
        while f.tell() < size:
            for _ in range(1000):
                row = {"text": f"{count} " + "。".join(islice(source, TITLES)), "label": labels[count % len(labels)]}
                f.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
    return count


def batches(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows of a JSONL file, a batch at a time."""
    with path.open(encoding="utf-8") as f:
        while lines := list(islice(f, BATCH)):
            yield [json.loads(line) for line in lines]


def main() -> None:
    """Measure, print, and write the results down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=10**9)
    options = parser.parse_args()
    compiled = [compile_template(load_pack(PACK), name) for name in TEMPLATES]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.jsonl"
        rows, seconds, said, done = write_corpus(path, options.bytes), 0.0, 0, 0
        for batch in batches(path):
            columns = {name: [row[name] for row in batch] for name in ("text", "label")}
            start = process_time()
            for template in compiled:
                rendered = render_batch(template, columns, [str(done + i) for i in range(len(batch))], seed=7)
                assert not any(rendered.refusals)
                said += sum(map(len, rendered.prompts))
            seconds += process_time() - start
            done += len(batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{options.bytes:,} bytes, {rows:,} rows, {len(TEMPLATES)} templates: peak {peak:.0f} MB resident, "
          f"{1e6 * seconds / (rows * len(TEMPLATES)):.2f} µs a rendering, {said:,} characters said")
    write_json(HERE / "results" / "render_memory.json", {
        "machine": "2 CPU cores", "date": date.today().isoformat(), "command": "python benchmarks/render_memory.py",
        "bytes": options.bytes, "rows": rows, "renderings": rows * len(TEMPLATES), "peak_mb": peak, "cpu_s": seconds,
    })


if __name__ == "__main__":
    main()
