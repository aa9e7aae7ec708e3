"""What lint finds in a pack as it is written: its folder, columns, labels, corpora, examples and white space.

In: a pack that has been read. Out: findings, each at the key or line that is to be mended. Nothing is rendered
here; what only rendering shows is in `rendered_checks.py`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from jinja2 import nodes

from zhiling.errors import did_you_mean, one_line
from zhiling.settings import Key
from zhiling.store import canonical_json
from zhiling.templates.compiled import compile_template
from zhiling.templates.findings import Finding
from zhiling.templates.language import parse_text
from zhiling.templates.pack import NAMES, Pack
from zhiling.templates.places import Places

FEWEST_TEMPLATES = 10
FEWEST_EXAMPLES = 8
SAYS_NOTHING = {"", "?", "none", "todo", "tbd", "n/a", "na", "null"}  # where a licence should stand
TRAILING = re.compile(r"[ \t\r\f\v\u3000\u00a0]+$")

MARKUP = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_WORDS = {"zh": re.compile(r"[\u4e00-\u9fff]"), "en": re.compile(r"[A-Za-z]+")}


def check_declarations(pack: Pack) -> Iterator[Finding]:
    """Findings in what `pack` declares."""
    places = Places(pack)
    for check in CHECKS:
        yield from check(pack, places)


def _folder(pack: Pack, places: Places) -> Iterator[Finding]:
    folder = "/".join(pack.folder.absolute().parts[-2:])
    if folder != pack.name:
        yield places.key("ZT002", ("pack",), pack.name, f"in the folder {one_line(folder)}")


def _language(pack: Pack, places: Places) -> Iterator[Finding]:
    said = spoken(source for t in pack.settings.templates for source in t.texts.values())
    if said and said != pack.settings.language:
        yield places.key("ZT014", ("language",), pack.settings.language, f"the words look like “{said}”")


def spoken(sources: Iterable[str]) -> str | None:
    """The language of templates' own words: are there more Chinese characters or more Latin words; None for neither."""
    words = " ".join(MARKUP.sub(" ", source) for source in sources)
    zh, en = (len(_WORDS[language].findall(words)) for language in ("zh", "en"))
    return None if zh == en else "zh" if zh > en else "en"


def _counts(pack: Pack, places: Places) -> Iterator[Finding]:
    if (found := len(pack.settings.templates)) < FEWEST_TEMPLATES:
        yield places.key("ZT003", ("templates",), "", f"it has {found}")
    if (found := len(pack.examples)) < FEWEST_EXAMPLES:
        yield places.key("ZT004", ("pack",), "", f"it has {found}")


def _columns(pack: Pack, places: Places) -> Iterator[Finding]:
    used = {name for t in pack.settings.templates for name in compile_template(pack, t.name).uses}
    for column in pack.settings.columns:
        if column not in used:
            yield places.key("ZT005", ("columns", column), column)


def _words(pack: Pack, places: Places) -> Iterator[Finding]:
    nested = len(pack.label_columns) > 1
    for column in pack.label_columns:
        key: Key = ("labels", column) if nested else ("labels",)
        for word in _repeated(pack.labels_of(column)):
            yield places.key("ZT006", key, word)
    for template in pack.settings.templates:
        if isinstance(template.choices, dict):
            for word in _repeated(template.choices):
                yield places.finding("ZT006", template.name, word, part="choices")


def _repeated(words: Mapping[str, str]) -> list[str]:
    said = [word.strip() for word in words.values()]
    return sorted({word for word in said if said.count(word) > 1})


def _corpora(pack: Pack, places: Places) -> Iterator[Finding]:
    labels = {label for column in pack.label_columns for label in pack.labels_of(column)}
    for i, corpus in enumerate(pack.settings.corpora):
        licence = corpus.license.strip().lower()
        if licence in SAYS_NOTHING or (licence == "unknown" and not corpus.note):
            yield places.key("ZT007", ("corpora", i, "license"), corpus.hub, f"its license is “{one_line(licence)}”")
        for column in corpus.columns.keys() - pack.settings.columns.keys():
            near = did_you_mean(column, pack.settings.columns)
            yield places.key("ZT013", ("corpora", i, "columns", column), column, f"no column of the pack, {near}")
        for source, label in corpus.labels.items():
            if label not in labels:
                near = did_you_mean(label, labels)
                yield places.key("ZT013", ("corpora", i, "labels", source), label, f"no label of the pack, {near}")


def _metrics(pack: Pack, places: Places) -> Iterator[Finding]:
    if pack.settings.metrics:
        return
    for template in pack.settings.templates:
        if not template.metrics:
            yield places.finding("ZT008", template.name, "")


def _white_space(pack: Pack, places: Places) -> Iterator[Finding]:
    for number, line in enumerate(places.file.read_text(encoding="utf-8-sig").split("\n"), 1):
        if TRAILING.search(line):
            yield Finding("ZT009", str(places.file), number, one_line(line.strip()[-20:]))


def _choices(pack: Pack, places: Places) -> Iterator[Finding]:
    known = pack.settings.columns.keys() | NAMES
    for template in pack.settings.templates:
        if template.shuffle_choices:
            trees = [parse_text(source, known) for source in template.texts.values()]
            if not any(name.name == "choices" for tree in trees for name in tree.find_all(nodes.Name)):
                yield places.finding("ZT010", template.name, "", part="shuffle_choices")


def _labels(pack: Pack, places: Places) -> Iterator[Finding]:
    if not pack.examples:
        return
    nested = len(pack.label_columns) > 1
    for column in pack.label_columns:
        held = {row[column] for row in pack.examples}
        for label in pack.labels_of(column).keys() - held:
            key: Key = ("labels", column, label) if nested else ("labels", label)
            yield places.key("ZT011", key, label)


def _twice(pack: Pack, places: Places) -> Iterator[Finding]:
    seen: set[str] = set()
    for i, row in enumerate(pack.examples):
        text = canonical_json(row)
        if text in seen:
            yield places.example("ZT012", i, None, "", row)
        seen.add(text)


def _spans(pack: Pack, places: Places) -> Iterator[Finding]:
    """A span's text stands in one of the row's texts, at its place."""
    texts = [name for name, kind in pack.settings.columns.items() if kind == "string"]
    for column in (name for name, kind in pack.settings.columns.items() if kind == "spans" and texts):
        for i, row in enumerate(pack.examples):
            for span in row[column]:
                if not any(row[name].startswith(span["text"], span["start"]) for name in texts):
                    told = f"{span['start']} {one_line(span['text'], 30)}"
                    yield places.example("ZT015", i, None, f"in column {column}", row, found=told)
                    break


CHECKS = (
    _folder, _language, _counts, _columns, _words, _corpora, _metrics, _white_space, _choices, _labels, _twice, _spans,
)
