"""Mend what lint can mend without a person: white space at line ends, doubled punctuation, punctuation's width.

In: a pack's folder. Out: its `pack.yaml`, rewritten where something was mended. Only a template's own words are
touched, never what stands in `{{ }}` or `{% %}`. The file is written only if, read again, its templates say just
what they should and everything else in it is what it was; else nothing is done.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from zhiling.settings import read_yaml
from zhiling.store import write_text
from zhiling.templates.checks import MARKUP, TRAILING, spoken
from zhiling.templates.rendered_checks import DOUBLED, MIXED_WIDTH

PARTS = ("system", "prompt", "content", "rationale", "completion")
WIDER = str.maketrans(",;:!?()", "，；：！？（）")
NARROWER = str.maketrans("，。；：！？（）", ",.;:!?()")
_STRONGEST = "？！?!。.：:；;，,、"  # of two marks the earlier in this list stays


def mend_pack(folder: Path) -> int:
    """Mend the pack in `folder`; return how many lines of its file changed."""
    path = folder / "pack.yaml"
    document = read_yaml(path)
    text = path.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
    language = str(document.data.get("language"))
    if spoken(text[start:end] for start, end in _scalars(text)) not in (language, None):
        language = ""  # of another one than the pack says (ZT014): its punctuation may well be right
    mended = _without_trailing(_punctuated(text, language) if language in DOUBLED else text)
    before, after = text.split("\n"), mended.split("\n")
    if mended == path.read_text(encoding="utf-8") or yaml.safe_load(mended) != _expected(document.data, language):
        return 0
    write_text(path, mended)
    return sum(one != other for one, other in zip(before, after, strict=True)) or 1


def _punctuated(text: str, language: str) -> str:
    """The file with the punctuation mended inside its templates' texts."""
    parts, at = [], 0
    for start, end in _scalars(text):
        parts += [text[at:start], mend_words(text[start:end], language)]
        at = end
    return "".join([*parts, text[at:]])


def _scalars(text: str) -> Iterator[tuple[int, int]]:
    """Where the texts of templates stand in the file."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    for key, value in root.value if root else ():
        if key.value == "templates":
            for node, name in _leaves(value, ""):
                if name in PARTS:
                    yield node.start_mark.index, node.end_mark.index


def _leaves(node: yaml.Node, name: str) -> Iterator[tuple[yaml.ScalarNode, str]]:
    if isinstance(node, yaml.ScalarNode):
        yield node, name
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _leaves(value, key.value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _leaves(item, name)


def mend_words(source: str, language: str) -> str:
    """Jinja2 source with the punctuation of its words mended."""
    parts, at = [], 0
    for tag in MARKUP.finditer(source):
        parts += [_words(source[at : tag.start()], language), tag.group()]
        at = tag.end()
    return "".join([*parts, _words(source[at:], language)])


def _words(text: str, language: str) -> str:
    table = WIDER if language == "zh" else NARROWER
    text = MIXED_WIDTH[language].sub(lambda match: match.group().translate(table), text)
    while (single := DOUBLED[language].sub(_stronger, text)) != text:
        text = single
    return text


def _stronger(match: re.Match[str]) -> str:
    return min(match.group(), key=_STRONGEST.index)


def _without_trailing(text: str) -> str:
    return "\n".join(TRAILING.sub("", line) for line in text.split("\n"))


def _expected(data: Any, language: str) -> Any:
    """What the file should hold once it is mended."""
    def mended(value: Any, name: str, inside: bool) -> Any:
        if isinstance(value, dict):
            return {key: mended(v, str(key), inside or key == "templates") for key, v in value.items()}
        if isinstance(value, list):
            return [mended(v, name, inside) for v in value]
        if not isinstance(value, str):
            return value
        words = mend_words(value, language) if inside and name in PARTS and language in DOUBLED else value
        return _without_trailing(words)

    return mended(data, "", False)
