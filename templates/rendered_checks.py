"""What lint finds in a pack's rendered examples: leaks, unfinished words, punctuation, answers that never change.

In: a pack. Out: findings. Each template renders every example under a few row ids, so that shuffles and draws
show themselves; punctuation and unfinished words count only where the template wrote them, not where a row did.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from zhiling.errors import one_line
from zhiling.templates.batch import make_rows
from zhiling.templates.checks import spoken
from zhiling.templates.compiled import Compiled, compile_template
from zhiling.templates.engines import Refused, render_row
from zhiling.templates.findings import Finding
from zhiling.templates.origin import Span, render_rows, render_spans, template_words
from zhiling.templates.pack import Pack, TemplateSettings
from zhiling.templates.places import Places
from zhiling.templates.render import Rendered
from zhiling.templates.skeletons import group

SEED = 0
VARIANTS = 4  # row ids under which each example is rendered
MANY = 1_000    # rows that show by which engine a template is rendered
LEAST_ROWS = 3  # fewer say nothing about what never changes
ALIKE = 0.7  # share of their words' pieces that two templates may have in common
PIECE = {"zh": 2, "en": 3}  # letters in a piece
SENTINEL = "哨兵qzx"
COPIES = {"extractive_qa", "extraction", "coreference", "cloze", "correction", "code", "dialogue"}
UNFINISHED = re.compile(r"\{\{|\}\}|\{%|%\}|TODO|FIXME|X{3,}|x{3,}|待补充|此处填写|\bundefined\b")
NOTHING = {"None", "null", "nan"}  # what an absent value prints as
DOUBLED = {
    "zh": re.compile(r"[，。、；：][，。、；：？！,;:?!]|[？！][，。、；：,;:]|([？！])\1"),
    "en": re.compile(r"[,;][,;:.?!]|:[,;.?!]|[?!][,;.]|(?<!\.)\.\.(?!\.)"),
}
MIXED_WIDTH = {  # the letters beside it say which width is meant
    "zh": re.compile(r"(?<=[\u4e00-\u9fff])[,;:!?()]|[,;:!?()](?=[\u4e00-\u9fff])"),
    "en": re.compile(r"[，。；：！？（）]"),
}
_WORD = re.compile(r"[^\W_]")
_HAN = re.compile(r"[\u4e00-\u9fff]")


@dataclass(frozen=True)
class View:
    """A template with its examples rendered."""

    compiled: Compiled
    rendered: Rendered
    spans: list[list[Span]]
    shown: list[int]  # examples that it rendered

    @property
    def template(self) -> TemplateSettings:
        """The template itself."""
        return self.compiled.template

    @property
    def name(self) -> str:
        """The template's name."""
        return self.template.name


def check_renderings(pack: Pack) -> Iterator[Finding]:
    """Findings in the rendered examples of all templates of `pack`."""
    if not pack.examples:
        return
    places = Places(pack)
    views = [view_template(pack, template) for template in pack.settings.templates]
    for view in views:
        yield from _refused(pack, view, places)
        if not view.shown:
            yield places.finding("ZT021", view.name, "")
            continue
        for check in CHECKS:
            yield from check(pack, view, places)
    yield from _alike(views, places)


def view_template(pack: Pack, template: TemplateSettings) -> View:
    """`template` with the pack's examples rendered."""
    ids = [f"example-{i}" for i in range(len(pack.examples))]
    compiled = compile_template(pack, template.name)
    rendered, spans = render_spans(compiled, pack.examples, ids, SEED)
    shown = [i for i, prompt in enumerate(rendered.prompts) if prompt]
    return View(compiled, rendered, spans, shown)


def _refused(pack: Pack, view: View, places: Places) -> Iterator[Finding]:
    for i, refusal in enumerate(view.rendered.refusals):
        if refusal:
            yield places.example("ZT020", i, view.name, refusal, pack.examples[i])


def _leaks(pack: Pack, view: View, places: Places) -> Iterator[Finding]:
    """Under another label the answer must change alone: a prompt that changes with it gives it away."""
    for column in () if view.template.inverted else pack.label_columns:
        labels = list(pack.labels_of(column))
        rows = [{**pack.examples[i], column: label} for i in view.shown for label in labels]
        ids = [f"example-{i}" for i in view.shown for _ in labels]
        rendered = render_rows(view.compiled, rows, ids, SEED)
        for start in range(0, len(rows), len(labels)):
            each = range(start, start + len(labels))
            prompts = list(dict.fromkeys(rendered.prompts[k] for k in each if rendered.prompts[k]))
            if len(prompts) > 1 and len({rendered.completions[k] for k in each if rendered.prompts[k]}) > 1:
                found = _difference(*prompts[:2])
                yield places.finding("ZT022", view.name, found, f"by column {column}", part="prompt")
                break


def _difference(one: str, other: str) -> str:
    """The first stretch in which two prompts differ."""
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one_line(one[max(0, start - 6) : start + 14], 40)


def _constant(pack: Pack, view: View, places: Places) -> Iterator[Finding]:
    rows = [pack.examples[i] for i in view.shown]
    labels = {tuple(row[c] for c in pack.label_columns) for row in rows}
    if len(rows) < LEAST_ROWS or (pack.label_columns and len(labels) < 2):
        return
    ids = [f"variant-{v}-{i}" for v in range(VARIANTS) for i in view.shown]
    completions = {c for c in render_rows(view.compiled, rows * VARIANTS, ids, SEED).completions if c}
    if len(completions) == 1:
        yield places.finding("ZT023", view.name, one_line(completions.pop(), 40), part="completion")


def _says_nothing(pack: Pack, view: View, places: Places) -> Iterator[Finding]:
    """One prompt for rows of different answers: nobody could know which. All have one id, so draws change nothing."""
    rows = [pack.examples[i] for i in view.shown]
    rendered = render_rows(view.compiled, rows, ["example-0"] * len(rows), SEED)
    answers = {completion for prompt, completion in zip(rendered.prompts, rendered.completions, strict=True) if prompt}
    told = {json.dumps([row[c] for c in row if c not in pack.label_columns]) for row in rows}
    if len(set(rendered.prompts) - {""}) == 1 < min(len(answers), len(told)) and not view.template.inverted:
        yield places.finding("ZT034", view.name, one_line(rendered.prompts[0], 40), part="prompt")


def _begins(pack: Pack, view: View, places: Places) -> Iterator[Finding]:
    """A choice that another one begins with is never less likely than that: where it is so in all rows, say so."""
    pairs = [
        {(a, b) for a in choices for b in choices if a != b and b.startswith(a)}
        for i in view.shown if (choices := view.rendered.choices[i])
    ]
    if common := sorted(set.intersection(*pairs)) if pairs else []:
        short, long = (one_line(choice.strip(), 20) for choice in common[0])
        yield places.finding("ZT035", view.name, "", f"“{long}” begins with “{short}”", part="choices")


def _unfinished(pack: Pack, view: View, places: Places) -> Iterator[Finding]:
    for i in view.shown:
        words = template_words(view.spans[i])
        if match := UNFINISHED.search(words):
            yield places.finding("ZT024", view.name, match.group(), part="prompt", text=match.group())
            return
        answer = view.rendered.completions[i].strip()
        held = json.dumps(pack.examples[i], ensure_ascii=False)
        brought = [s.text.strip() for s in view.spans[i] if s.origin != "template"]
        empty = [text for text in brought if text in NOTHING and text not in held]
        answers = [m.group() for m in UNFINISHED.finditer(answer) if m.group() not in held]
        if (answer == "None" and answer not in held) or empty or answers:
            found = (answers or empty or [answer])[0]
            yield places.example("ZT024", i, view.name, "", pack.examples[i], found=found)
            return


def _punctuation(pack: Pack, view: View, places: Places) -> Iterator[Finding]:
    language = pack.settings.language
    if spoken(view.template.texts.values()) not in (language, None):
        return  # ZT014, or a template that quotes another language: what width is right there is not known
    seen: set[tuple[str, str]] = set()
    for i in view.shown:
        text = "".join(span.text for span in view.spans[i])
        ours = "".join(("t" if span.origin == "template" else "r") * len(span.text) for span in view.spans[i])
        for match in DOUBLED[language].finditer(text):
            if "t" in ours[match.start() : match.end()]:
                yield from _once(seen, "ZT025", view, places, text, match)
        for match in MIXED_WIDTH[language].finditer(text):
            beside = [j for j in (match.start() - 1, match.end()) if 0 <= j < len(text) and _HAN.match(text[j])]
            if ours[match.start()] == "t" and (language == "en" or any(ours[j] == "t" for j in beside)):
                yield from _once(seen, "ZT026", view, places, text, match)


def _once(
    seen: set[tuple[str, str]], code: str, view: View, places: Places, text: str, match: re.Match[str]
) -> Iterator[Finding]:
    """What was matched, with its surroundings, where a template has not been blamed for it yet."""
    if (code, match.group()) not in seen:
        seen.add((code, match.group()))
        around = one_line(text[max(0, match.start() - 5) : match.end() + 5], 30)
        yield places.finding(code, view.name, around, part="prompt", text=match.group())


def _position(pack: Pack, view: View, places: Places) -> Iterator[Finding]:
    """Where choices come with the row, or in an order of the template's, their right one should move."""
    if isinstance(view.template.choices, dict | None) or view.template.shuffle_choices:
        return
    placed = [(view.rendered.answers[i], len(view.rendered.choices[i] or [])) for i in view.shown]
    counted = Counter(answer for answer, count in placed if answer is not None and count > 1)
    total = sum(counted.values())
    if total < 2 * LEAST_ROWS:
        return
    place, most = counted.most_common(1)[0]
    fair = sum(1 / count for answer, count in placed if answer is not None and count > 1) / total
    if most / total > max(0.6, fair + 2 * (fair * (1 - fair) / total) ** 0.5):
        assert place is not None
        detail = f"in {most} of {total} examples it is choice {place + 1}"
        yield places.finding("ZT028", view.name, "", detail, part="choices")


def _ending(pack: Pack, view: View, places: Places) -> Iterator[Finding]:
    for i in view.shown:
        prompt, completion = view.rendered.prompts[i], view.rendered.completions[i]
        answer = completion.lstrip()
        if pack.settings.language == "zh" and completion != answer and completion[0] == " " and _HAN.match(answer):
            yield places.finding("ZT031", view.name, one_line(prompt[-8:] + completion[:8]), part="delimiter")
            return
        if _WORD.match(prompt[-1]) and _WORD.match(completion[0]):
            code = "ZT029" if view.spans[i][-1].origin == "template" else "ZT030"
            yield places.finding(code, view.name, one_line(prompt[-8:]), part="prompt", text=prompt[-8:])
            return


def _copies(pack: Pack, view: View, places: Places) -> Iterator[Finding]:
    """A text column that stands in the prompt and makes the free-text answer gives it away."""
    if view.template.inverted or pack.settings.task in COPIES:
        return
    for column in (name for name, kind in pack.settings.columns.items() if kind == "string"):
        i = view.shown[0]
        rendered = render_rows(view.compiled, [{**pack.examples[i], column: SENTINEL}], [f"example-{i}"], SEED)
        free = rendered.choices[0] is None
        if free and SENTINEL in rendered.prompts[0] and SENTINEL in rendered.completions[0]:
            yield places.finding("ZT032", view.name, column, part="prompt")


def _slow(pack: Pack, view: View, places: Places) -> Iterator[Finding]:
    """Neither filled in by columns nor by minijinja: many rows of one example show whether they share a skeleton."""
    row = pack.examples[view.shown[0]]
    columns = {column: [row[column]] * MANY for column in pack.settings.columns}
    rows, _ = make_rows(view.compiled, columns, [str(i) for i in range(MANY)], SEED)
    alone = [i for members, skeleton, _ in group(view.compiled, rows) if skeleton is None for i in members]
    if len(alone) > MANY / 2:
        with suppress(Refused):
            render_row(view.compiled, rows, alone[0])
        if view.compiled.learnt.minijinja == [None]:
            yield places.finding("ZT033", view.name, "")


CHECKS = (
    _leaks, _constant, _says_nothing, _begins, _unfinished, _punctuation, _position, _ending, _copies, _slow,
)


def _alike(views: Sequence[View], places: Places) -> Iterator[Finding]:
    for i, view in enumerate(views):
        for other in views[:i]:
            share = likeness(view, other)
            if share > ALIKE and view.template.inverted == other.template.inverted:
                yield places.finding("ZT027", view.name, "", f"{share:.0%} of it stands in {other.name} too")


def likeness(one: View, other: View) -> float:
    """Share of the pieces, of two or three letters, that two templates' own words have in common; 1.0 without any."""
    pieces = [_pieces(view) for view in (one, other)]
    either = pieces[0] | pieces[1]
    return len(pieces[0] & pieces[1]) / len(either) if either else 1.0


def _pieces(view: View) -> set[str]:
    words = " ".join(template_words(view.spans[i]) for i in view.shown[:1])
    plain = "".join(re.findall(r"[^\W_]+|\ufffc", words)).lower()
    size = PIECE[view.compiled.pack.settings.language]
    return {plain[i : i + size] for i in range(max(1, len(plain) - size + 1))} if plain.strip("\ufffc") else set()
