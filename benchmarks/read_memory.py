"""Reading a 2 GB JSONL corpus takes little memory: stretches of 8 MB are read, screened and written one by one.

In: a JSONL file of real news titles (../shared/data), written for the purpose and removed afterwards. Out: the peak
resident memory of the process and its two workers together, the time, and benchmarks/results/read_memory.json.
"""

import argparse
import sys
import tempfile
from contextlib import closing
from datetime import date
from pathlib import Path
from threading import Event, Thread
from time import perf_counter
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
WORKERS = 2


def read(folder: Path, path: Path) -> tuple[int, int]:
    """Read a corpus as a build does: its rows, and what they take on the disk."""
    import pyarrow.parquet as pq

    from zhiling.builders.corpus import plan_sources, read_unit
    from zhiling.builders.engines import LocalEngine, Shard
    from zhiling.builders.sources import CorpusSettings
    from zhiling.templates.pack import load_pack

    pack = load_pack("zh/topic")
    corpus = CorpusSettings.model_validate(
        {"name": "titles", "pack": "zh/topic", "license": "MIT", "files": [{"path": path.name}]}
    )
    labels = {column: tuple(pack.labels_of(column)) for column in pack.label_columns}
    [source] = plan_sources(corpus, pack.settings.columns, labels, pack.settings.language, path.parent)
    shards = [Shard(folder / "read" / f"{i:05d}.parquet", unit) for i, unit in enumerate(source.units)]
    with closing(LocalEngine(WORKERS)) as engine:
        engine.map(read_unit, shards, "read")
    files = [shard.output for shard in shards]
    return sum(pq.read_metadata(f).num_rows for f in files), sum(f.stat().st_size for f in files)


def watch(over: Event, peak: list[float]) -> None:
    """Keep the highest resident memory of this process and its children, until it is over."""
    import psutil

    own = psutil.Process()
    while not over.wait(0.1):
        try:
            peak[0] = max(peak[0], sum(p.memory_info().rss for p in [own, *own.children(recursive=True)]) / 1e6)
        except psutil.Error:
            continue


def main() -> None:
    """Measure, print, and write the results down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=2 * 10**9)
    options = parser.parse_args()
    from benchmarks.render_memory import write_corpus
    from zhiling.store import write_json

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "corpus.jsonl"
        rows = write_corpus(path, options.bytes)
        over, peak, start = Event(), [0.0], perf_counter()
        watcher = Thread(target=watch, args=(over, peak))
        watcher.start()
        found, written = read(Path(name), path)
        over.set()
        watcher.join()
        wall = perf_counter() - start
    assert found == rows, f"{found:,} of {rows:,} rows were read"
    print(f"{options.bytes:,} bytes, {rows:,} rows, {written:,} bytes written: peak {peak[0]:.0f} MB, {wall:.0f} s")
    results: dict[str, Any] = {
        "bytes": options.bytes, "rows": rows, "bytes_written": written, "workers": WORKERS, "peak_mb": peak[0],
        "wall_s": wall,
    }
    about = {"machine": "2 CPU cores", "date": date.today().isoformat()}
    command = f"python benchmarks/read_memory.py --bytes {options.bytes}"
    write_json(HERE / "results" / "read_memory.json", {**about, "command": command, **results})


if __name__ == "__main__":
    main()
