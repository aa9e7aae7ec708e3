"""Rows to prompt, choices and completion: whole batches, sandboxed, every draw keyed by the row's id.

The text of a row is data: nothing in it is ever read as template language. A row that cannot be rendered
is refused with a reason; it never stops the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from zhiling.errors import one_line
from zhiling.seeds import draw, shuffled
from zhiling.templates.pack import Pack, TemplateSettings

DELIMITERS = {"zh": "", "en": " "}  # between prompt and completion: Chinese has no space there
MAX_CHARACTERS = 1_000_000


class Refused(Exception):
    """A row that a template cannot render, and why."""


@dataclass
class Rendered:
    """A rendered batch: one list per column, all of the batch's length; refused rows hold empty values.

    The text that a model reads is `prompt + completion`, nothing between: completions and choices
    carry the delimiter (a space in English, nothing in Chinese).
    """

    prompts: list[str] = field(default_factory=list)
    completions: list[str] = field(default_factory=list)
    choices: list[list[str] | None] = field(default_factory=list)
    answers: list[int | None] = field(default_factory=list)
    messages: list[list[dict[str, str]] | None] = field(default_factory=list)
    refusals: list[str | None] = field(default_factory=list)


@dataclass(frozen=True)
class Compiled:
    """A template ready to render: compiled once, used for every row."""

    pack: Pack
    template: TemplateSettings
    prompt: jinja2.Template
    completion: jinja2.Template
    choices: Any  # how to make a row's choices: a compiled expression, or a fixed mapping or list, or None

    @property
    def delimiter(self) -> str:
        """What every completion starts with."""
        own = self.template.delimiter
        return DELIMITERS[self.pack.settings.language] if own is None else own


def compile_template(pack: Pack, name: str) -> Compiled:
    """Compile the template `name` of `pack`."""
    template = pack.template(name)
    environment = _environment()
    choices: Any = template.choices
    if isinstance(choices, str):
        choices = environment.compile_expression(choices, undefined_to_none=False)
    elif choices is None and pack.label_columns and not template.inverted:
        choices = dict(pack.settings.labels) or None
    return Compiled(
        pack, template, environment.from_string(template.prompt), environment.from_string(template.completion), choices
    )


def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)


def render_batch(
    compiled: Compiled, columns: Mapping[str, Sequence[Any]], ids: Sequence[str], seed: int
) -> Rendered:
    """Render one row per id. `columns` holds the pack's declared columns, each of the same length as `ids`."""
    rendered = Rendered()
    names = list(compiled.pack.settings.columns)
    for i, row_id in enumerate(ids):
        row = {name: columns[name][i] for name in names}
        try:
            prompt, completion, choices, answer = _render_row(compiled, row, row_id, seed)
            refusal = None
        except Refused as error:
            prompt, completion, choices, answer, refusal = "", "", None, None, str(error)
        rendered.prompts.append(prompt)
        rendered.completions.append(completion)
        rendered.choices.append(choices)
        rendered.answers.append(answer)
        rendered.messages.append(None)
        rendered.refusals.append(refusal)
    return rendered


def _render_row(
    compiled: Compiled, row: dict[str, Any], row_id: str, seed: int
) -> tuple[str, str, list[str] | None, int | None]:
    purpose = f"{compiled.pack.name}/{compiled.template.name}"
    context = {
        **row,
        "labels": list(compiled.pack.settings.labels),
        "draw": draw(seed, f"draw:{purpose}", row_id) >> 33,
    }
    try:
        words, verbalizer = _choices(compiled, context)
        if words is not None and compiled.template.shuffle_choices:
            words = shuffled(words, seed, f"choices:{purpose}", row_id)
        context |= {"choices": words or [], "verbalizer": verbalizer}
        prompt = compiled.prompt.render(context).rstrip()
        completion = compiled.completion.render(context).strip()
    except (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError, ArithmeticError) as error:
        raise Refused(f"does not render: {one_line(str(error))}") from None
    if not prompt or not completion:
        raise Refused("empty prompt" if not prompt else "empty completion")
    if len(prompt) + len(completion) > MAX_CHARACTERS:
        raise Refused(f"longer than {MAX_CHARACTERS:,} characters")
    if words is None:
        return prompt, compiled.delimiter + completion, None, None
    if len(set(words)) != len(words):
        raise Refused("choices repeat")
    if completion not in words:
        raise Refused(f"completion '{one_line(completion, 40)}' is not among the choices")
    return prompt, compiled.delimiter + completion, [compiled.delimiter + w for w in words], words.index(completion)


def _choices(compiled: Compiled, context: dict[str, Any]) -> tuple[list[str] | None, dict[str, str]]:
    """The row's choices, and the word for each label."""
    verbalizer = dict(compiled.pack.settings.labels)
    if compiled.choices is None:
        return None, verbalizer
    if isinstance(compiled.choices, dict):
        verbalizer |= compiled.choices
        return [w.strip() for w in compiled.choices.values()], verbalizer
    found = compiled.choices if isinstance(compiled.choices, list) else compiled.choices(**context)
    return [str(w).strip() for w in found], verbalizer
