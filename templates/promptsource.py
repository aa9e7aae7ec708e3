"""Read promptsource's `templates.yaml` files and render their prompts as promptsource does, byte for byte.

In: a file, or a folder with such files at any depth. Out: prompts with their names, metadata and answer
choices, and for a row the parts that `Template.apply(example, truncate=False)` gives. What promptsource leaves
to chance (`choice`, `random`) is drawn by the row's id. Refused: anything but promptsource's own YAML tags,
and, row by row, whatever the sandbox refuses.
"""

import copy
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import jinja2
import yaml
from pydantic import Field

from zhiling import seeds
from zhiling.errors import UserError, one_line
from zhiling.settings import Settings, parse, read_yaml
from zhiling.templates.budget import BUDGET
from zhiling.templates.columns import measure
from zhiling.templates.engines import Refused
from zhiling.templates.promptsource_sandbox import Draw, Render, compile_source
from zhiling.templates.promptsource_split import MODULUS, MULTIPLIER, SEPARATOR
from zhiling.templates.sandbox import ERRORS

FILE = "templates.yaml"
PROTECTED = "3ed2dface8203c4c9dfb1a5dc58e41e0"  # promptsource's stand-in for ||| inside a row's texts


class PromptSettings(Settings):
    """A `!Template` of promptsource."""

    id: str
    name: str
    jinja: str
    reference: str | None = None
    answer_choices: str | None = None
    metadata: "MetadataSettings"
    task_template: bool | None = None  # in six public prompts; promptsource itself does not read it


class MetadataSettings(Settings):
    """A `!TemplateMetadata` of promptsource."""

    original_task: bool | None = None
    choices_in_prompt: bool | None = None
    metrics: list[str] | None = None
    languages: list[str] | None = None


class FileSettings(Settings):
    """A `templates.yaml`."""

    dataset: str = Field(min_length=1)
    subset: str | None = None
    templates: dict[str, PromptSettings]


@dataclass(frozen=True)
class ImportedPrompt:
    """A prompt of promptsource and where it came from."""

    dataset: str
    subset: str | None
    slug: str  # its name as zhiling writes names, unique in its file
    settings: PromptSettings
    where: str

    @property
    def pack(self) -> str:
        """The name of the pack that it would be in."""
        language = "zh" if self.settings.metadata.languages == ["zh"] else "en"
        return f"{language}/{slug(f'{self.dataset} {self.subset or str()}')}"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also knows promptsource's two tags: each is a plain mapping."""


def _mapping(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Any, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.constructor.ConstructorError(None, None, "expected a mapping", node.start_mark)
    return loader.construct_mapping(node, deep=True)


for _tag in ("!Template", "!TemplateMetadata"):
    _Loader.add_constructor(_tag, _mapping)


def slug(name: str, longest: int = 60) -> str:
    """`name` in zhiling's alphabet: small letters, digits and underscores, a letter first."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    return (words if words[:1].isalpha() else f"t_{words}")[:longest].strip("_")


def read_promptsource(path: Path) -> list[ImportedPrompt]:
    """All prompts in `path`: one `templates.yaml`, or a folder that holds some at any depth.

    Raises UserError where there are none, or where a file is not what promptsource writes.
    """
    files = sorted(path.rglob(FILE)) if path.is_dir() else [path]
    if not files:
        raise UserError(str(path), f"no {FILE} in it", "give promptsource's folder of templates, or one such file")
    return [prompt for file in files for prompt in _read(file)]


def _read(file: Path) -> list[ImportedPrompt]:
    document = read_yaml(file, _Loader)
    settings = parse(FileSettings, document)
    taken: Counter[str] = Counter()
    prompts = []
    for key, prompt in settings.templates.items():
        name = slug(prompt.name)
        taken[name] += 1
        name = name if taken[name] == 1 else f"{name[:55]}_{taken[name]}"
        where = document.where(("templates", key))
        prompts.append(ImportedPrompt(settings.dataset, settings.subset, name, prompt, where))
    return prompts


@dataclass(frozen=True)
class CompiledPrompt:
    """A prompt ready to render: compiled once, used for every row."""

    prompt: ImportedPrompt
    source: Render
    answer_choices: Render | None


def compile_prompt(prompt: ImportedPrompt, highlight_variables: bool = False) -> CompiledPrompt:
    """Compile `prompt`. Raises UserError where it is not Jinja2 that imported prompts may have."""
    jinja, choices = prompt.settings.jinja, prompt.settings.answer_choices
    if highlight_variables:
        jinja = jinja.replace("}}", " | highlight }}")
    try:
        return CompiledPrompt(prompt, compile_source(jinja), None if choices is None else compile_source(choices))
    except jinja2.TemplateError as error:
        saw = f"cannot be imported ({one_line(error.message or 'syntax', 100)})"
        raise UserError(prompt.where, saw, "mend it, or leave it out") from None


def apply(compiled: CompiledPrompt, example: Mapping[str, Any], row_id: str, seed: int) -> list[str]:
    """What promptsource's `Template.apply(example, truncate=False)` gives: the parts between `|||`.

    Raises Refused where the prompt cannot be rendered for the row; promptsource raises there, too, or it is the
    sandbox that does not let the row through.
    """
    try:
        BUDGET.start(measure(list(example.values())))
        if "answer_choices" in example:
            raise ValueError("the row has a column 'answer_choices'")
        row = {name: _protected(copy.deepcopy(value)) for name, value in example.items()}
        draw = keyed_draws(compiled.prompt, row_id, seed)
        choices = _choices(compiled.answer_choices, row, draw)
        rendered = compiled.source({**row, "answer_choices": choices}, draw)
    except ERRORS as error:
        raise Refused(f"does not render: {one_line(str(error), 100)}") from None
    return [_restored(part).strip() for part in rendered.split(SEPARATOR)]


def _choices(source: Render | None, row: Mapping[str, Any], draw: Draw) -> list[str] | None:
    """The row's answer choices, as promptsource lists them."""
    if source is None:
        return None
    return [_restored(choice.strip()) for choice in source(row, draw).split(SEPARATOR)]


def keyed_draws(prompt: ImportedPrompt, row_id: str, seed: int) -> Draw:
    """The row's draws, one after the other; packs write them as `draw`, `draw * 48271 % 2147483647` and so on."""
    first, made = seeds.draw(seed, f"draw:{prompt.pack}/{prompt.slug}", row_id) >> 33, count()

    def draw(below: int) -> int:
        number = next(made)
        return (first if number == 0 else first * pow(MULTIPLIER, number, MODULUS) % MODULUS) % below

    return draw


def _protected(value: Any) -> Any:
    return value.replace(SEPARATOR, PROTECTED) if isinstance(value, str) else value


def _restored(text: str) -> str:
    return text.replace(PROTECTED, SEPARATOR)
