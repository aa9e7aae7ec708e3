"""How fast templates render: this package, compiled Jinja2 row by row, and promptsource's way.

In: every shipped pack; real rows where a pack's columns are one text and labels (THUCNews in Chinese, SST-2
in English, from ../shared/data), else the pack's own examples, repeated. Out: a table, and
benchmarks/results/render.json. All three make the same bytes from the same draws, which is checked for every
row. One process, no threads.
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import jinja2

from zhiling.console import progress, table
from zhiling.seeds import draw, draws
from zhiling.store import write_json
from zhiling.templates.assemble import ROLES
from zhiling.templates.batch import order
from zhiling.templates.filters import letter, to_json
from zhiling.templates.pack import Pack, load_pack, pack_names
from zhiling.templates.render import Compiled, compile_template, render_batch
from zhiling.templates.sandbox import ERRORS

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data"
SEED = 7
PART_OF_PROMPTSOURCE = 100  # its way takes a hundred times as long: it gets every hundredth row


def environment() -> jinja2.Environment:
    made = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    made.filters |= {"json": to_json, "letter": letter}
    return made


class PlainJinja:
    """A template in plain Jinja2, compiled once, called for every row."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled, self.template, made = compiled, compiled.template, environment()
        self.texts = {key: made.from_string(source) for key, source in self.template.texts.items()}
        self.expressions = {
            key[0]: made.compile_expression(source, undefined_to_none=False)
            for key, source in self.template.expressions.items()
        }
        self.language = compiled.pack.settings.language

    def rows(self, columns: dict[str, list[Any]], ids: list[str]) -> Iterator[tuple[Any, ...]]:
        names = list(columns)
        for i, row_id in enumerate(ids):
            yield self.row({name: columns[name][i] for name in names}, row_id)

    def row(self, row: dict[str, Any], row_id: str) -> tuple[Any, ...]:
        compiled, template = self.compiled, self.template
        values = row | compiled.names
        if compiled.draws:
            values["draw"] = draw(SEED, f"draw:{compiled.purpose}", row_id) >> 33
        words = compiled.words
        try:
            if "when" in self.expressions and not self.expressions["when"](**values):
                return ("", "", None, None, None)
            if "choices" in self.expressions:
                words = [str(w).strip() for w in self.expressions["choices"](**values)]
            if words is not None and template.shuffle_choices:
                number = draw(SEED, f"choices:{compiled.purpose}", row_id)
                words = [words[k] for k in order(len(words), number)]
            values["choices"] = words or []
            said = {key: text.render(values).rstrip() for key, text in self.texts.items()}
        except ERRORS:
            return ("", "", None, None, None)
        return self.finish(said, words)

    def finish(self, said: dict[Any, str], words: Any) -> tuple[Any, ...]:
        template, delimiter = self.template, self.compiled.delimiter
        completion = said[("completion",)].lstrip()
        if not all(said.values()) or not completion:
            return ("", "", None, None, None)
        if template.rationale is not None:
            completion = f"{said[('rationale',)].lstrip()}\n{completion}"
        messages = None
        if template.chat:
            turns = [("user", ("prompt",))] if template.turns is None else [
                (turn.role, ("turns", i, "content")) for i, turn in enumerate(template.turns)
            ]
            turns = [("system", ("system",)), *turns] if template.system is not None else turns
            messages = [{"role": role, "content": said[key]} for role, key in turns]
            names = ROLES[self.language]
            prompt = "\n".join([*(names[m["role"]] + m["content"] for m in messages), names["assistant"].rstrip()])
            messages.append({"role": "assistant", "content": completion})
        else:
            prompt = said[("prompt",)]
        if words is None or template.free:
            return (prompt, delimiter + completion, None, None, messages)
        if completion not in words or len(set(words)) != len(words):
            return ("", "", None, None, None)
        return (prompt, delimiter + completion, [delimiter + w for w in words], words.index(completion), messages)


class Promptsource:
    """A template rendered as promptsource's `Template.apply(example, truncate=False)` does it, for every row anew."""

    mark = "3ed2dface8203c4c9dfb1a5dc58e41e0"

    def __init__(self, compiled: Compiled) -> None:
        self.compiled, self.environment = compiled, environment()
        self.source = "|||".join(compiled.template.texts.values())
        by_row = compiled.template.expressions.get(("choices",))
        fixed = None if compiled.words is None else "|||".join(compiled.words)
        self.answer_choices = "{{ (" + by_row + ") | join('|||') }}" if by_row else fixed

    def rows(self, columns: dict[str, list[Any]], ids: list[str]) -> list[list[str]]:
        rendered = []
        for i, row_id in enumerate(ids):
            row = {name: column[i] for name, column in columns.items()} | self.compiled.names
            if self.compiled.draws:
                row["draw"] = draw(SEED, f"draw:{self.compiled.purpose}", row_id) >> 33
            try:
                rendered.append(self.apply(row))
            except ERRORS:
                rendered.append([])
        return rendered

    def apply(self, example: dict[str, Any]) -> list[str]:
        template = self.environment.from_string(self.source)
        protected = self.escape_pipe(example)
        protected["choices"] = self.answer_choices_list(example) or []
        rendered = template.render(**protected)
        return [self.unescape_pipe(part).strip() for part in rendered.split("|||")]

    def answer_choices_list(self, example: dict[str, Any]) -> list[str] | None:
        if self.answer_choices is None:
            return None
        template = self.environment.from_string(self.answer_choices)
        rendered = template.render(**self.escape_pipe(example))
        return [self.unescape_pipe(choice.strip()) for choice in rendered.split("|||")]

    def escape_pipe(self, example: dict[str, Any]) -> dict[str, Any]:
        return {
            key: value.replace("|||", self.mark) if isinstance(value, str) else value for key, value in example.items()
        }

    def unescape_pipe(self, text: str) -> str:
        return text.replace(self.mark, "|||")


def pack_rows(pack: Pack, count: int) -> dict[str, list[Any]]:
    """Real texts where the pack's columns are one text and labels; else its examples, repeated."""
    kinds = pack.settings.columns
    strings = [name for name, kind in kinds.items() if kind == "string"]
    if len(strings) == 1 and set(kinds.values()) <= {"string", "label"} and DATA.is_dir():
        texts = real_texts(pack.settings.language)
        columns: dict[str, list[Any]] = {strings[0]: [texts[i % len(texts)] for i in range(count)]}
        for name in pack.label_columns:
            labels = list(pack.labels_of(name))
            columns[name] = [labels[d % len(labels)] for d in draws(SEED, name, [str(i) for i in range(count)])]
        return columns
    return {name: [pack.examples[i % len(pack.examples)][name] for i in range(count)] for name in kinds}


def real_texts(language: str) -> list[str]:
    if language == "zh":
        lines = (DATA / "thucnews" / "dev.txt").read_text(encoding="utf-8").splitlines()
        return [line.split("\t")[0] for line in lines]
    with (DATA / "sst2" / "train.tsv").open(encoding="utf-8", newline="") as f:
        return [row[0] for row in csv.reader(f, delimiter="\t", quoting=csv.QUOTE_NONE)]


def best(work: Callable[[], Any], repeats: int) -> float:
    """Least seconds of some runs."""
    def once() -> float:
        start = process_time()
        work()
        return process_time() - start

    return min(once() for _ in range(repeats))


def measure(pack: Pack, name: str, count: int, repeats: int) -> dict[str, Any]:
    compiled = compile_template(pack, name)
    columns, ids = pack_rows(pack, count), [f"{i:024x}" for i in range(count)]
    plain = PlainJinja(compiled)
    ours = render_batch(compiled, columns, ids, SEED)
    expected = list(plain.rows(columns, ids))
    found = list(zip(ours.prompts, ours.completions, ours.choices, ours.answers, ours.messages, strict=True))
    if found != expected:
        i = next(i for i, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
        raise SystemExit(f"{pack.name}/{name}, row {i}: {found[i]!r} is not {expected[i]!r}")
    few = slice(0, max(1, count // PART_OF_PROMPTSOURCE))
    fewer = {column: values[few] for column, values in columns.items()}
    rival = Promptsource(compiled)
    return {
        "pack": pack.name,
        "template": name,
        "rows": count - ours.prompts.count(""),
        "zhiling_us": 1e6 * best(lambda: render_batch(compiled, columns, ids, SEED), repeats) / count,
        "jinja2_us": 1e6 * best(lambda: list(plain.rows(columns, ids)), repeats) / count,
        "promptsource_us": 1e6 * best(lambda: rival.rows(fewer, ids[few]), repeats) / len(ids[few]),
    }


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over packs of the medians over each pack's templates, and the templates that are slower than Jinja2."""
    def ratios(name: str, pack: str) -> list[float]:
        return [r[f"{name}_us"] / r["zhiling_us"] for r in results if r["pack"] == pack]

    packs = list(dict.fromkeys(r["pack"] for r in results))
    by_pack = {p: {name: median(ratios(name, p)) for name in ("jinja2", "promptsource")} for p in packs}
    return {
        "templates": len(results),
        "packs": by_pack,
        "times_jinja2": median(found["jinja2"] for found in by_pack.values()),
        "times_promptsource": median(found["promptsource"] for found in by_pack.values()),
        "slower_than_jinja2_by_a_tenth": {
            f"{r['pack']} {r['template']}": round(r["zhiling_us"] / r["jinja2_us"], 2)
            for r in results if r["zhiling_us"] > 1.1 * r["jinja2_us"]
        },
    }


def main() -> None:
    """Measure, print, and write the results down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pack", action="append", help="only this one; may be given again")
    options = parser.parse_args()
    packs = options.pack or pack_names()
    results = []
    with progress("packs", len(packs)) as done:
        for name in packs:
            pack = load_pack(name)
            results += [measure(pack, t.name, options.rows, options.repeats) for t in pack.settings.templates]
            done()
    found = summary(results)
    rows = [(name, pack["jinja2"], pack["promptsource"]) for name, pack in found["packs"].items()]
    table("Times as fast as (median over templates)", ["pack", "compiled Jinja2", "promptsource's apply"], rows)
    slower = found["slower_than_jinja2_by_a_tenth"]
    print(f"median over packs: {found['times_jinja2']:.1f} times compiled Jinja2, "
          f"{found['times_promptsource']:.0f} times promptsource's apply; equal bytes in every row")
    print(f"slower than compiled Jinja2 by more than a tenth: {len(slower)} of {len(results)}", slower or "")
    if not options.pack:
        about = {"machine": "2 CPU cores", "date": date.today().isoformat(), "command": "python benchmarks/render.py",
                 "rows": options.rows, "repeats": options.repeats}
        write_json(HERE / "results" / "render.json", {**about, **found, "results": results})


if __name__ == "__main__":
    main()
