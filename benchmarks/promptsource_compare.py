"""Every public promptsource prompt, rendered by promptsource's own code and by this package, byte for byte.

In: a copy of promptsource (github.com/bigscience-workshop/promptsource), which is not part of this project. Out:
a table, and benchmarks/results/promptsource_compare.json. Rows are made by promptsource_rows.py in the shape of
each prompt's dataset; hostile texts are among them. Both sides draw the same numbers where a prompt draws.
"""

import argparse
import copy
import importlib.util
import json
import platform
import random
import sys
import types
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

from promptsource_rows import Rows, Usage

from zhiling.errors import UserError
from zhiling.templates import promptsource as ours
from zhiling.templates.engines import Refused

HERE = Path(__file__).parent
SEED = 7


def load_theirs(folder: Path) -> types.ModuleType:
    """Promptsource's `templates.py`, whose way to find its data folder is replaced by the folder given."""
    finder = types.ModuleType("pkg_resources")
    finder.resource_filename = lambda _, name: str(folder / name)  # type: ignore[attr-defined]
    sys.modules.setdefault("pkg_resources", finder)
    spec = importlib.util.spec_from_file_location("promptsource_templates", folder / "templates.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def render_theirs(theirs: Any, prompt: Any, row: Mapping[str, Any], row_id: str, highlight: bool) -> Any:
    """What their `apply` gives, or None where it raises; its draws are keyed as ours."""
    settings = prompt.settings
    template = theirs.Template(settings.name, settings.jinja, settings.reference, None, settings.answer_choices)
    draw = ours.keyed_draws(prompt, row_id, SEED)
    kept, random.choice = random.choice, lambda items: items[draw(len(items))]
    try:
        return template.apply(copy.deepcopy(dict(row)), truncate=False, highlight_variables=highlight)
    except Exception:  # whatever a prompt does to itself
        return None
    finally:
        random.choice = kept


def render_ours(compiled: Any, row: Mapping[str, Any], row_id: str) -> tuple[Any, str]:
    try:
        return ours.apply(compiled, row, row_id, SEED), ""
    except Refused as error:
        return None, str(error)


def compare(prompt: Any, theirs: Any, rows: Rows, count: int, highlight: bool) -> Counter[str]:
    """How often both gave the same, and what else there was."""
    found: Counter[str] = Counter()
    compiled = ours.compile_prompt(prompt, highlight)
    for i in range(count):
        row, row_id = rows.row(i), f"row-{i}"
        expected = render_theirs(theirs, prompt, row, row_id, highlight)
        got, why = render_ours(compiled, row, row_id)
        if expected is None:
            found["both raise" if got is None else "only theirs raises"] += 1
            if got is not None:
                print(prompt.where, "theirs raises", repr(got)[:300], sep="\n  ", file=sys.stderr)
        elif got is None:
            found[f"refused: {why}"] += 1
        else:
            found["equal" if got == expected else "different"] += 1
            if got != expected:
                print(prompt.where, repr(expected)[:300], repr(got)[:300], sep="\n  ", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="promptsource's package: the folder with templates.py and templates/")
    parser.add_argument("--rows", type=int, default=20)
    options = parser.parse_args()
    if not (options.folder / "templates.py").is_file():
        print(f"{options.folder}: no templates.py in it; give the folder of a copy of promptsource", file=sys.stderr)
        sys.exit(0 if options.folder == Path() else 2)
    theirs, start = load_theirs(options.folder), perf_counter()
    prompts = ours.read_promptsource(options.folder / "templates")
    by_dataset = defaultdict(list)
    for prompt in prompts:
        by_dataset[prompt.dataset, prompt.subset].append(prompt)
    rows_found: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for (dataset, subset), group in by_dataset.items():
        rows = Rows(Usage((p.settings.jinja, p.settings.answer_choices) for p in group), f"{dataset}/{subset}")
        for prompt in group:
            try:
                found = compare(prompt, theirs, rows, options.rows, False)
                found += Counter({f"highlighted, {k}": n for k, n in compare(prompt, theirs, rows, 2, True).items()})
            except UserError as error:
                outcomes["not compiled"] += 1
                print(error, file=sys.stderr)
                continue
            rows_found += found
            outcomes[outcome(found)] += 1
    report(len(prompts), outcomes, rows_found, options, perf_counter() - start)


def outcome(found: Counter[str]) -> str:
    """What the rows of one prompt say together."""
    plain = Counter({k: n for k, n in found.items() if not k.startswith("highlighted")})
    if plain["different"] or plain["only theirs raises"]:
        return "different"
    if any(k.startswith("refused") for k in plain):
        return "some rows refused by the sandbox, all others equal" if plain["equal"] else "refused by the sandbox"
    return "equal on every row" if plain["equal"] else "no row that either could render"


def report(
    count: int, outcomes: Counter[str], rows: Counter[str], options: argparse.Namespace, seconds: float
) -> None:
    about = {
        "prompts": count, "outcomes": dict(outcomes.most_common()), "rows": dict(rows.most_common()),
        "rows_per_prompt": options.rows, "seconds": round(seconds, 1), "date": date.today().isoformat(),
        "machine": f"2 CPU cores, Python {platform.python_version()}",
        "command": f"python benchmarks/promptsource_compare.py FOLDER --rows {options.rows}",
    }
    for name in ("outcomes", "rows"):
        print(f"\n{name}")
        for what, number in about[name].items():  # type: ignore[attr-defined]
            print(f"{number:>8,}  {what}")
    text = json.dumps(about, ensure_ascii=False, indent=2)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "promptsource_compare.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
