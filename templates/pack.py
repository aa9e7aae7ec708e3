"""A pack: its columns, verbalizers, templates and examples, read from `pack.yaml` and `examples.jsonl`.

Refused here, with file and line: unknown keys, undeclared or reserved columns, labels without words,
templates that do not parse or that use a name nobody gave them.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jinja2
import jinja2.meta
from pydantic import Field, field_validator

from zhiling.errors import UserError, did_you_mean, one_line
from zhiling.rows import RESERVED, ColumnType
from zhiling.settings import Document, Settings, parse, read_yaml
from zhiling.store import digest

PACKS = Path(__file__).parent / "packs"
TASKS = Literal[
    "classification", "nli", "matching", "extractive_qa", "multiple_choice", "closed_qa", "extraction",
    "generation", "summarization", "translation", "code", "dialogue", "recommendation", "mathematics",
    "correction", "coreference", "cloze", "grading",
]
NAMES = frozenset({"choices", "verbalizer", "labels", "draw"})  # what a template is given beside its columns


class TemplateSettings(Settings):
    """One template: how a row becomes a prompt and its completion."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)
    prompt: str
    completion: str
    system: str | None = None
    choices: dict[str, str] | list[str] | str | None = None  # word per label, fixed, or an expression giving a list
    shuffle_choices: bool = False  # order drawn per row, so that position says nothing
    delimiter: str | None = None   # what stands between prompt and completion; by language where null
    inverted: bool = False
    metrics: list[str] | None = None
    note: str | None = None


class KnownCorpus(Settings):
    """A well-known corpus that fits a pack, and how its columns map."""

    hub: str
    config: str | None = None
    columns: dict[str, str] = {}
    labels: dict[str, str] = {}
    license: str
    note: str | None = None


class PackSettings(Settings):
    """What `pack.yaml` says."""

    pack: str = Field(pattern=r"^(zh|en)/[a-z][a-z0-9_]*$", max_length=80)
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    summary: str
    task: TASKS
    language: Literal["zh", "en"]
    license: str = "Apache-2.0"
    columns: dict[str, ColumnType] = Field(min_length=1)
    labels: dict[str, str] = {}
    corpora: list[KnownCorpus] = []
    metrics: list[str] = []
    templates: list[TemplateSettings] = Field(min_length=1)

    @field_validator("columns")
    @classmethod
    def _free_names(cls, columns: dict[str, str]) -> dict[str, str]:
        taken = sorted((RESERVED | NAMES) & columns.keys())
        if taken:
            raise ValueError(f"column names {', '.join(taken)} are zhiling's own; choose others")
        return columns


@dataclass(frozen=True)
class Pack:
    """A pack that has been read and checked."""

    settings: PackSettings
    document: Document
    examples: tuple[dict[str, Any], ...]

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
        return digest(self.settings.model_dump(mode="json", include=depends_on))

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Columns of type label, in order."""
        return tuple(name for name, kind in self.settings.columns.items() if kind == "label")

    def template(self, name: str) -> TemplateSettings:
        """The template called `name`. Raises UserError where the pack has none."""
        for template in self.settings.templates:
            if template.name == name:
                return template
        known = [t.name for t in self.settings.templates]
        raise UserError(f"{self.document.path}", f"no template '{name}'", did_you_mean(name, known))

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
    folders = [(base or Path()) / name, PACKS / name]
    for folder in folders:
        if (folder / "pack.yaml").is_file():
            return read_pack(folder)
    raise UserError(f"pack '{one_line(name)}'", "no such pack or folder", did_you_mean(name, pack_names()))


def read_pack(folder: Path) -> Pack:
    """Read and check the pack in `folder`."""
    document = read_yaml(folder / "pack.yaml")
    settings = parse(PackSettings, document)
    seen: set[str] = set()
    for i, template in enumerate(settings.templates):
        if template.name in seen:
            raise UserError(document.where(("templates", i, "name")), f"'{template.name}' stands twice", "rename one")
        seen.add(template.name)
        _check_template(settings, template, document, i)
    return Pack(settings, document, tuple(_read_examples(folder / "examples.jsonl", settings)))


def _check_template(settings: PackSettings, template: TemplateSettings, document: Document, i: int) -> None:
    """Every piece parses and uses only declared names."""
    known = settings.columns.keys() | NAMES
    parts = {"prompt": template.prompt, "completion": template.completion, "system": template.system}
    if isinstance(template.choices, str):
        parts["choices"] = "{{ " + template.choices + " }}"
    elif template.choices is not None:
        words = template.choices.values() if isinstance(template.choices, dict) else template.choices
        parts["choices"] = "\n".join(words)
    environment = jinja2.Environment()
    for part, source in parts.items():
        where = document.where(("templates", i, part))
        try:
            used = jinja2.meta.find_undeclared_variables(environment.parse(source or ""))
        except jinja2.TemplateSyntaxError as error:
            problem = one_line(error.message or "syntax", 100)
            raise UserError(where, f"template '{template.name}' does not parse ({problem})", "mend it") from None
        for name in sorted(used - known):
            raise UserError(where, f"template '{template.name}' uses the undefined name '{name}'", did_you_mean(name, known))
    if isinstance(template.choices, dict) and settings.labels:
        for label in template.choices.keys() - settings.labels.keys():
            where = document.where(("templates", i, "choices", label))
            raise UserError(where, f"unknown label '{label}'", did_you_mean(label, settings.labels))


def _read_examples(path: Path, settings: PackSettings) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}:{number}", f"not valid JSON ({error})", "write one JSON object a line") from None
        if not isinstance(row, dict) or row.keys() != settings.columns.keys():
            saw = ", ".join(row) if isinstance(row, dict) else type(row).__name__
            expected = ", ".join(settings.columns)
            raise UserError(f"{path}:{number}", f"columns {saw}", f"give just these: {expected}")
        rows.append(row)
    return rows
