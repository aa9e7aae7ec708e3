"""How good packs are, in numbers: how unlike their templates are, how long prompts run, where right choices stand.

In: packs. Out: one `Quality` a pack, and all of them as a Markdown table; `templates/README.md` holds that of the
shipped packs between two marks. Every number comes from the packs' own rendered examples.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path
from statistics import fmean, median

from zhiling.errors import UserError
from zhiling.store import write_text
from zhiling.templates.origin import render_rows
from zhiling.templates.pack import Pack
from zhiling.templates.rendered_checks import SEED, VARIANTS, View, likeness, view_template

BEGIN, END = "<!-- report -->", "<!-- end of report -->"
HEADING = (
    "| pack | task | templates | kinds | examples | unlike: mean | least | prompt: shortest | median | longest "
    "| places |"
)


@dataclass(frozen=True)
class Quality:
    """A pack in numbers."""

    pack: str
    task: str
    templates: int
    kinds: int          # how many different ones its templates name
    examples: int
    unlike_mean: float  # 1 - the share of their words' pieces that two templates have in common, over all pairs
    unlike_least: float
    shortest: int       # characters of a prompt, the median over the examples: of the shortest template,
    median: int         # over all templates,
    longest: int        # of the longest
    places: float | None  # entropy of the right choice's place, 1.0 where all are as frequent; None without choices


def measure(pack: Pack) -> Quality:
    """The numbers of `pack`, from its examples."""
    views = [view_template(pack, template) for template in pack.settings.templates]
    unlike = [1 - likeness(one, other) for one, other in combinations(views, 2)] or [1.0]
    lengths = [[len(view.rendered.prompts[i]) for i in view.shown] or [0] for view in views]
    medians = [int(median(found)) for found in lengths]
    balances = [found for view in views if (found := _balance(pack, view)) is not None]
    return Quality(
        pack.name, pack.settings.task, len(views), len({v.template.kind for v in views}), len(pack.examples),
        fmean(unlike), min(unlike), min(medians), int(median(chain.from_iterable(lengths))), max(medians),
        fmean(balances) if balances else None,
    )


def _balance(pack: Pack, view: View) -> float | None:
    """Entropy of the right choice's place, as a part of what it could be with so many choices and rows."""
    rows = [pack.examples[i] for i in view.shown] * VARIANTS
    rendered = render_rows(view.compiled, rows, [f"variant-{i}" for i in range(len(rows))], SEED)
    placed = [answer for answer in rendered.answers if answer is not None]
    most = max((len(choices) for choices in rendered.choices if choices), default=0)
    if min(most, len(placed)) < 2:
        return None
    shares = [count / len(placed) for count in Counter(placed).values()]
    return abs(sum(share * math.log(share) for share in shares)) / math.log(min(most, len(placed)))


def as_markdown(found: Sequence[Quality]) -> str:
    """The numbers as a Markdown table."""
    lines = [HEADING, "|---|---|" + "---:|" * 9]
    for q in found:
        places = "" if q.places is None else f"{q.places:.2f}"
        lines.append(
            f"| {q.pack} | {q.task} | {q.templates} | {q.kinds} | {q.examples} | {q.unlike_mean:.2f} "
            f"| {q.unlike_least:.2f} | {q.shortest} | {q.median} | {q.longest} | {places} |"
        )
    return "\n".join(lines) + "\n"


def renewed(text: str, table: str, where: str) -> str:
    """`text` with `table` between its marks. Raises UserError where it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(where, "no marks for the report in it", f"write {BEGIN} and {END} where it belongs")
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def write_report(file: Path, found: Sequence[Quality]) -> bool:
    """Write the table into `file`; whether it changed."""
    try:
        stored = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(str(file), "no such file", "check the path") from None
    text = renewed(stored, as_markdown(found), str(file))
    if text != stored:
        write_text(file, text)
    return text != stored
