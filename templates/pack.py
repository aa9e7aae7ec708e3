"""A pack: its columns, verbalizers, templates and examples, read from `pack.yaml` and `examples.jsonl`.

Refused here, with file and line: unknown keys, undeclared or reserved columns, labels without words,
templates that do not parse or that use a name nobody gave them, examples that do not fit the columns, packs
that extend themselves. The files' format is that of `schema.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import nodes

from zhiling.errors import UserError, did_you_mean, one_line
from zhiling.rows import RESERVED
from zhiling.settings import Document, Key, parse, read_yaml
from zhiling.store import digest
from zhiling.templates.examples import misfit, read_examples
from zhiling.templates.language import SourceError, parse_expression, parse_text
from zhiling.templates.schema import (
    NO_CHOICES,
    TASKS,
    KnownCorpus,
    PackSettings,
    Parser,
    TemplateSettings,
    Turn,
)

__all__ = [
    "NAMES", "NO_CHOICES", "PACKS", "TASKS", "KnownCorpus", "Pack", "PackSettings", "Parser",
    "TemplateSettings", "Turn", "choice_column", "load_pack", "pack_names", "read_pack",
]
PACKS = Path(__file__).parent / "packs"
NAMES = frozenset({"choices", "verbalizer", "labels", "draw"})  # what a template is given beside its columns
MAX_CHAIN = 5  # packs that extend one another


@dataclass(frozen=True)
class Pack:
    """A pack that has been read and checked; what it takes from the one that it extends is in `settings`."""

    settings: PackSettings
    document: Document
    examples: tuple[dict[str, Any], ...]
    base: "Pack | None" = None  # the pack that it extends

    @property
    def name(self) -> str:
        """The pack's path below the packs folder, as `zh/sentiment`."""
        return self.settings.pack

    @property
    def folder(self) -> Path:
        """Where the pack was read from."""
        return self.document.path.parent

    @cached_property
    def digest(self) -> str:
        """sha256 of all that the pack's renderings depend on."""
        depends_on = {"pack", "version", "language", "columns", "labels", "templates"}
        unread = {"templates": {"__all__": {"constraints"}}}
        return digest(self.settings.model_dump(mode="json", include=depends_on, exclude=unread))

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Columns of type label, in order."""
        return tuple(name for name, kind in self.settings.columns.items() if kind == "label")

    def labels_of(self, column: str) -> dict[str, str]:
        """The labels that a label column may hold, each with its word."""
        found = self.settings.labels.get(column)
        words = found if isinstance(found, dict) else self.settings.labels
        return {label: word for label, word in words.items() if isinstance(word, str)}

    def template(self, name: str) -> TemplateSettings:
        """The template called `name`. Raises UserError where the pack has none."""
        for template in self.settings.templates:
            if template.name == name:
                return template
        known = [t.name for t in self.settings.templates]
        raise UserError(f"{self.document.path}", f"no template '{one_line(name)}'", did_you_mean(name, known))

    def select(self, names: list[str] | None) -> list[TemplateSettings]:
        """The templates called `names`, or all of them."""
        return list(self.settings.templates) if names is None else [self.template(n) for n in names]


def pack_names(root: Path = PACKS) -> list[str]:
    """Names of all packs below `root`, sorted."""
    return sorted(p.parent.relative_to(root).as_posix() for p in root.glob("*/*/pack.yaml"))


def load_pack(name: str, base: Path | None = None) -> Pack:
    """Read a pack by its shipped name (`zh/sentiment`) or by its folder (relative to `base`).

    Raises UserError where it is absent or wrong.
    """
    folders = [] if "\0" in name else [(base or Path()) / name, PACKS / name]
    for folder in folders:
        if (folder / "pack.yaml").is_file():
            return read_pack(folder)
    raise UserError(f"pack '{one_line(name)}'", "no such pack or folder", did_you_mean(name, pack_names()))


def read_pack(folder: Path) -> Pack:
    """Read and check the pack in `folder`."""
    return _read(folder, ())


def _read(folder: Path, chain: tuple[str, ...]) -> Pack:
    document = read_yaml(folder / "pack.yaml")
    _check_characters(document, document.data, ())
    settings = parse(PackSettings, document)
    base = _base(folder, settings, document, (*chain, settings.pack)) if settings.extends else None
    own = settings
    if base:
        settings = _extended(settings, base, document)
    _check_columns(settings, document)
    pack = Pack(settings, document, (), base)
    for i, template in enumerate(own.templates):
        _check_template(pack, template, ("templates", i))
    for template in base.settings.templates if base else []:
        _check_template(pack, template, ("extends",))
    return replace(pack, examples=_examples(pack))


def _examples(pack: Pack) -> tuple[dict[str, Any], ...]:
    """The pack's own examples; without a file of its own, those of the pack that it extends."""
    labels = {column: pack.labels_of(column).keys() for column in pack.label_columns}
    own = read_examples(pack.folder / "examples.jsonl", pack.settings.columns, labels)
    if own is not None or pack.base is None:
        return own or ()
    for row in pack.base.examples:
        if problem := misfit(row, pack.settings.columns, labels):
            where, do = pack.document.where(("extends",)), "give the pack an examples.jsonl"
            raise UserError(where, f"an example of {pack.base.name} does not fit: {problem}", do)
    return pack.base.examples


def _base(folder: Path, settings: PackSettings, document: Document, chain: tuple[str, ...]) -> Pack:
    """The pack that `settings` extend: beside it in the same tree of packs, or shipped."""
    name, where = settings.extends or "", document.where(("extends",))
    if name in chain:
        circle = " → ".join((*chain, name))
        raise UserError(where, f"packs extend one another in a circle ({circle})", "break it")
    if len(chain) >= MAX_CHAIN:
        raise UserError(where, f"{len(chain)} packs extend one another", f"keep the chain to {MAX_CHAIN}")
    for root in (folder.absolute().parent.parent, PACKS):
        if (root / name / "pack.yaml").is_file():
            return _read(root / name, chain)
    raise UserError(where, f"no pack '{name}'", did_you_mean(name, pack_names()))


def _extended(own: PackSettings, base: Pack, document: Document) -> PackSettings:
    """`own` with what it does not say taken from `base`, and with the templates of both."""
    taken = {t.name for t in base.settings.templates}
    for i, template in enumerate(own.templates):
        if template.name in taken:
            where = document.where(("templates", i, "name"))
            raise UserError(where, f"{base.name} has a template '{template.name}' already", "rename this one")
    if own.language != base.settings.language:
        where = document.where(("language",))
        raise UserError(where, f"{base.name} is in another language", "extend a pack in the same one")
    taken_over = [key for key in ("columns", "labels", "metrics", "constraints", "corpora") if not getattr(own, key)]
    update = {key: getattr(base.settings, key) for key in taken_over}
    return own.model_copy(update={**update, "templates": [*base.settings.templates, *own.templates]})


def _check_characters(document: Document, value: Any, key: Key) -> None:
    """Every text can be written as UTF-8: YAML's `"\\ud800"` cannot."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            saw = "half of a surrogate pair (a \\ud… escape)"
            raise UserError(document.where(key), saw, "write the character itself") from None
    elif isinstance(value, dict | list):
        for inner, text in value.items() if isinstance(value, dict) else enumerate(value):
            _check_characters(document, str(inner), key)
            _check_characters(document, text, (*key, inner))


def _check_columns(settings: PackSettings, document: Document) -> None:
    """Columns have names of their own; each label column has labels, and nothing else has."""
    if not settings.columns:
        do = "declare what a row holds, as `{text: string, label: label}`"
        raise UserError(document.where(("columns",)), "no columns", do)
    taken = sorted((RESERVED | NAMES) & settings.columns.keys())
    if taken:
        where = document.where(("columns", taken[0]))
        raise UserError(where, f"'{taken[0]}' is a name of zhiling's own", "choose another")
    label_columns = [name for name, kind in settings.columns.items() if kind == "label"]
    nested = any(isinstance(words, dict) for words in settings.labels.values())
    where = document.where(("labels",))
    if nested or len(label_columns) > 1:
        flat = [name for name in label_columns if not isinstance(settings.labels.get(name), dict)]
        if flat:
            do = f"write `{flat[0]}: {{label: word}}` under `labels:`"
            raise UserError(where, f"no labels for the column '{flat[0]}'", do)
        for column in sorted(settings.labels.keys() - set(label_columns)):
            do = did_you_mean(column, label_columns)
            raise UserError(document.where(("labels", column)), f"'{column}' is no label column", do)
    elif bool(label_columns) != bool(settings.labels):
        saw = "a label column without labels" if label_columns else "labels without a label column"
        raise UserError(where, saw, "declare both or none")
    for column in label_columns:
        if not (settings.labels[column] if nested else settings.labels):
            raise UserError(document.where(("labels", column)), "no labels", "write `label: word` pairs")


def _check_template(pack: Pack, template: TemplateSettings, place: Key) -> None:
    """Its keys go together, and every piece parses and uses only declared names."""
    def refuse(key: Key, saw: str, do: str, line: int = 0) -> UserError:
        where = pack.document.where((*place, *key) if len(place) > 1 else place)
        return UserError(_later(where, line), f"template '{template.name}' {saw}", do)

    if sum(t.name == template.name for t in pack.settings.templates) > 1:
        raise refuse(("name",), "stands twice", "rename one")
    if (template.prompt is None) == (template.turns is None):
        raise refuse((), "has not just one of prompt and turns", "give either")
    if template.turns is not None:
        roles = [turn.role for turn in template.turns]
        if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
            do = "let user and assistant take turns; user is first and last"
            raise refuse(("turns",), "has turns out of order", do)
    if template.parser and (template.parser.kind == "json_field") != (template.parser.field is not None):
        do = "json_field takes a `field`, the others do not"
        raise refuse(("parser",), "has a parser whose field does not fit", do)
    if template.rationale is not None and template.parser is None:
        do = "say with `parser:` how its answer is found"
        raise refuse(("rationale",), "has a rationale and no parser", do)
    known = pack.settings.columns.keys() | NAMES
    asked = template.constraints or pack.settings.constraints
    texts = template.texts | ({("constraints",): asked} if asked else {})
    for parse_source, sources in ((parse_text, texts), (parse_expression, template.expressions)):
        for key, source in sources.items():
            try:
                _check_lookups(pack, parse_source(source, known))
            except SourceError as problem:
                line = problem.line if "\n" in source.strip("\n") else 0  # a block begins below its key
                raise refuse(key, problem.saw, problem.do, line) from None
    if isinstance(template.choices, dict) and pack.label_columns:
        _check_choices(pack, template.choices, refuse)


def _check_lookups(pack: Pack, tree: nodes.Node) -> None:
    """`choices[label]`: choices are a list as they are shown, a label's word is the verbalizer's."""
    for found in tree.find_all(nodes.Getitem):
        column = found.arg.name if isinstance(found.arg, nodes.Name) else ""
        if isinstance(found.node, nodes.Name) and found.node.name == "choices" and column in pack.label_columns:
            own = f"verbalizer[{column}]" if len(pack.label_columns) == 1 else f"verbalizer.{column}[{column}]"
            raise SourceError("looks a label up in `choices`, which is a list", f"write {own}", found.lineno)


def _check_choices(
    pack: Pack, choices: Mapping[str, str], refuse: Callable[[Key, str, str], UserError]
) -> None:
    """A template's own words are for labels of one column."""
    if choice_column(pack, choices) is None:
        labels = {label for column in pack.label_columns for label in pack.labels_of(column)}
        unknown = sorted(choices.keys() - labels)
        if unknown:
            do = did_you_mean(unknown[0], labels)
            raise refuse(("choices", unknown[0]), f"has the unknown label '{one_line(unknown[0], 40)}'", do)
        raise refuse(("choices",), "has words for labels of several columns", "keep to one column's")


def choice_column(pack: Pack, choices: Mapping[str, str]) -> str | None:
    """The label column that a template's own words are for."""
    return next((c for c in pack.label_columns if choices.keys() <= pack.labels_of(c).keys()), None)


def _later(where: str, lines: int) -> str:
    """`file:line: key`, some lines further down."""
    head, separator, tail = where.partition(": ")
    file, _, line = head.rpartition(":")
    return f"{file}:{int(line) + lines}{separator}{tail}"
