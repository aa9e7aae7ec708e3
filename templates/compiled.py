"""A template made ready: its texts and expressions compiled, its fixed words and names worked out.

In: a pack and a template's name. Out: all that rendering needs to know of the two, made once and used for
every row.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jinja2 import nodes

from zhiling.templates.language import parse_expression, parse_text
from zhiling.templates.pack import NAMES, Pack, choice_column
from zhiling.templates.sandbox import Piece, Values, compile_expression, compile_text
from zhiling.templates.schema import NO_CHOICES, TemplateSettings

DELIMITERS = {"zh": "", "en": " "}  # between prompt and completion: Chinese has no space there


@dataclass
class Learnt:
    """What rendering has found out about a template; it makes rendering faster and changes nothing else."""

    shapes: dict[Hashable, Any] = field(default_factory=dict)  # what was tried for a shape, see `skeletons.py`
    trials: int = 0
    failed: int = 0  # trials that found no skeleton; where most do, rows are rendered one by one
    goes_by_labels: bool = False  # of spans: then rows are told apart by them from the start
    minijinja: list[Any] = field(default_factory=list)  # its renderer or None, once that is known


@dataclass(frozen=True)
class Compiled:
    """A template ready to render."""

    pack: Pack
    template: TemplateSettings
    texts: Mapping[str, Callable[[Values], Sequence[Piece]]]  # system, prompt, turns (`0`, ...), ...
    expressions: Mapping[str, Callable[[Values], Any]]        # choices, when
    uses: frozenset[str]         # every name in them
    words: Sequence[str] | None  # choices that are the same for every row
    names: Values                # `labels` and `verbalizer`
    learnt: Learnt = field(default_factory=Learnt)

    @property
    def delimiter(self) -> str:
        """What every completion starts with."""
        own = self.template.delimiter
        return DELIMITERS[self.pack.settings.language] if own is None else own

    @property
    def purpose(self) -> str:
        """What the row's draws are for."""
        return f"{self.pack.name}/{self.template.name}"

    @cached_property
    def columns(self) -> dict[str, Any]:
        """The declared columns that are used, with their types."""
        return {name: kind for name, kind in self.pack.settings.columns.items() if name in self.uses}

    @property
    def shown(self) -> dict[str, Any]:
        """The same, as the template is shown them: bare spans, until it is known to go by labels."""
        bare = {"spans": "spans" if self.learnt.goes_by_labels else "bare spans"}
        return {name: bare.get(kind, kind) for name, kind in self.columns.items()}

    @property
    def draws(self) -> bool:
        """Whether its texts hang on the row's draw."""
        return "draw" in self.uses


def compile_template(pack: Pack, name: str) -> Compiled:
    """Compile the template `name` of `pack`."""
    return _compiled(pack, pack.template(name))


def compile_question(pack: Pack, name: str) -> Compiled:
    """Compile what the template asks, for rows that lack the answer; what stands for the completion means nothing."""
    template = pack.template(name)
    placeholder = "…" if template.choices in (None, NO_CHOICES) else "{{ choices[0] }}"
    return _compiled(pack, template.model_copy(update={"completion": placeholder, "rationale": None, "when": None}))


def _compiled(pack: Pack, template: TemplateSettings) -> Compiled:
    known = pack.settings.columns.keys() | NAMES
    texts = {part_name(key): parse_text(source, known) for key, source in template.texts.items()}
    expressions = {
        part_name(key): parse_expression(source, known) for key, source in template.expressions.items()
    }
    uses = {n.name for tree in [*texts.values(), *expressions.values()] for n in tree.find_all(nodes.Name)}
    words, verbalizer = _words(pack, template)
    return Compiled(
        pack, template,
        {part: compile_text(tree) for part, tree in texts.items()},
        {part: compile_expression(tree) for part, tree in expressions.items()},
        frozenset(uses), words, {"labels": _labels(pack), "verbalizer": verbalizer},
    )


def part_name(key: Sequence[str | int]) -> str:
    """How a text is called here: by its key, a turn by its number."""
    return str(key[1]) if len(key) > 1 else str(key[0])


def _labels(pack: Pack) -> Any:
    labels = {column: list(pack.labels_of(column)) for column in pack.label_columns}
    return labels if len(labels) > 1 else next(iter(labels.values()), [])


def _words(pack: Pack, template: TemplateSettings) -> tuple[list[str] | None, dict[str, Any]]:
    """A template's fixed choices, if any, and the word for each label."""
    columns, own = pack.label_columns, template.choices
    words = {column: dict(pack.labels_of(column)) for column in columns}
    if isinstance(own, dict):
        words.setdefault(choice_column(pack, own) or "", {}).update(own)
    verbalizer: dict[str, Any] = words if len(columns) > 1 else next(iter(words.values()), {})
    if isinstance(own, str):
        return None, verbalizer
    if own is None:
        fixed = list(verbalizer.values()) if len(columns) == 1 and not template.inverted else None
    else:
        fixed = list(own.values()) if isinstance(own, dict) else own
    return None if fixed is None else [word.strip() for word in fixed], verbalizer
