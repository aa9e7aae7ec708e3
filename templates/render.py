"""Rows to prompt, choices and completion: whole batches, sandboxed, every draw keyed by the row's id.

The text of a row is data: nothing in it is ever read as template language. A row that a template does not want
(`when`) is skipped; one that cannot be rendered is refused with a reason. Neither stops the others.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2

from zhiling.errors import did_you_mean, one_line
from zhiling.seeds import draw, shuffled
from zhiling.templates.language import environment
from zhiling.templates.pack import Pack, TemplateSettings, choice_column

DELIMITERS = {"zh": "", "en": " "}  # between prompt and completion: Chinese has no space there
ROLES = {  # how a conversation is written in a prompt: one turn a line, system words first and bare
    "zh": {"user": "用户：", "assistant": "助手："},
    "en": {"user": "User: ", "assistant": "Assistant: "},
}
MAX_CHARACTERS = 1_000_000
Message = dict[str, str]


class Refused(Exception):
    """A row that a template cannot render, and why."""


class Skipped(Exception):
    """A row that a template does not want: its `when` is false."""


@dataclass
class Rendered:
    """A rendered batch: one list per column, all of the batch's length; refused and skipped rows hold empty values.

    The text that a model reads is `prompt + completion`, nothing between: completions and choices
    carry the delimiter (a space in English, nothing in Chinese). `messages` are the same as a conversation,
    answer included, without the delimiter.
    """

    prompts: list[str] = field(default_factory=list)
    completions: list[str] = field(default_factory=list)
    choices: list[list[str] | None] = field(default_factory=list)
    answers: list[int | None] = field(default_factory=list)
    messages: list[list[Message] | None] = field(default_factory=list)
    refusals: list[str | None] = field(default_factory=list)
    skipped: list[bool] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """One rendered row."""

    prompt: str
    completion: str
    choices: list[str] | None
    answer: int | None
    messages: list[Message] | None


@dataclass(frozen=True)
class Compiled:
    """A template ready to render: compiled once, used for every row."""

    pack: Pack
    template: TemplateSettings
    texts: Mapping[str, jinja2.Template]         # system, turns (`0`, `1`, ...), rationale, completion
    expressions: Mapping[str, Callable[..., Any]]  # choices, when
    words: Sequence[str] | None                  # choices that are the same for every row
    names: Mapping[str, Any]                     # `labels` and `verbalizer`

    @property
    def delimiter(self) -> str:
        """What every completion starts with."""
        own = self.template.delimiter
        return DELIMITERS[self.pack.settings.language] if own is None else own


def compile_template(pack: Pack, name: str) -> Compiled:
    """Compile the template `name` of `pack`."""
    template, engine = pack.template(name), environment()
    texts = {_part(key): engine.from_string(source) for key, source in template.texts.items()}
    expressions = {
        _part(key): engine.compile_expression(source, undefined_to_none=False)
        for key, source in template.expressions.items()
    }
    words, verbalizer = _words(pack, template)
    labels: Any = {column: list(pack.labels_of(column)) for column in pack.label_columns}
    if len(pack.label_columns) < 2:
        labels = next(iter(labels.values()), [])
    return Compiled(pack, template, texts, expressions, words, {"labels": labels, "verbalizer": verbalizer})


def _part(key: Sequence[str | int]) -> str:
    return str(key[1]) if len(key) > 1 else str(key[0])


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


def render_batch(
    compiled: Compiled, columns: Mapping[str, Sequence[Any]], ids: Sequence[str], seed: int
) -> Rendered:
    """Render one row per id. `columns` holds the pack's declared columns, each of the same length as `ids`."""
    rendered = Rendered()
    names = list(compiled.pack.settings.columns)
    for i, row_id in enumerate(ids):
        found, refusal, skipped = Row("", "", None, None, None), None, False
        try:
            found = _render_row(compiled, {name: columns[name][i] for name in names}, row_id, seed)
        except Refused as error:
            refusal = str(error)
        except Skipped:
            skipped = True
        rendered.prompts.append(found.prompt)
        rendered.completions.append(found.completion)
        rendered.choices.append(found.choices)
        rendered.answers.append(found.answer)
        rendered.messages.append(found.messages)
        rendered.refusals.append(refusal)
        rendered.skipped.append(skipped)
    return rendered


def _render_row(compiled: Compiled, row: dict[str, Any], row_id: str, seed: int) -> Row:
    purpose = f"{compiled.pack.name}/{compiled.template.name}"
    context = {**_decoded(compiled.pack, row), **compiled.names, "choices": []}
    context["draw"] = draw(seed, f"draw:{purpose}", row_id) >> 33
    try:
        if "when" in compiled.expressions and not compiled.expressions["when"](**context):
            raise Skipped
        words = compiled.words
        if "choices" in compiled.expressions:
            words = [str(word).strip() for word in compiled.expressions["choices"](**context)]
        if words is not None and compiled.template.shuffle_choices:
            words = shuffled(words, seed, f"choices:{purpose}", row_id)
        context["choices"] = list(words or [])
        texts = {part: text.render(context) for part, text in compiled.texts.items()}
    except (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError, ArithmeticError) as error:
        raise Refused(f"does not render: {one_line(str(error))}") from None
    return _finish(compiled, texts, words)


def _decoded(pack: Pack, row: dict[str, Any]) -> dict[str, Any]:
    """The row's values as templates see them. Raises Refused for an unknown label and for what is not JSON."""
    for column, kind in pack.settings.columns.items():
        value = row[column]
        if kind == "json" and isinstance(value, str):
            try:
                row[column] = json.loads(value)
            except (ValueError, RecursionError):
                raise Refused(f"column '{column}' is not JSON") from None
        elif kind == "label" and value not in pack.labels_of(column):
            raise Refused(f"'{one_line(str(value), 40)}' is no label; {did_you_mean(str(value), pack.labels_of(column))}")
        elif value is None and kind != "json":
            raise Refused(f"column '{column}' is null")
    return row


def _finish(compiled: Compiled, texts: Mapping[str, str], words: Sequence[str] | None) -> Row:
    """A row from its rendered texts: ends stripped, conversation flattened, the answer found among the choices."""
    said = {part: text.strip() if part == "completion" else text.rstrip() for part, text in texts.items()}
    for part, text in said.items():
        if not text:
            raise Refused(f"empty {f'turn {int(part) + 1}' if part.isdigit() else part}")
    completion = said["completion"]
    if "rationale" in said:
        completion = f"{said['rationale'].lstrip()}\n{completion}"
    messages = _messages(compiled.template, said, completion) if compiled.template.chat else None
    prompt = said["prompt"] if messages is None else _flat(messages, compiled.pack.settings.language)
    if len(prompt) + len(completion) > MAX_CHARACTERS:
        raise Refused(f"longer than {MAX_CHARACTERS:,} characters")
    delimiter = compiled.delimiter
    if words is None or compiled.template.free:
        return Row(prompt, delimiter + completion, None, None, messages)
    if len(set(words)) != len(words):
        raise Refused("choices repeat")
    if completion not in words:
        raise Refused(f"completion '{one_line(completion, 40)}' is not among the choices")
    answer = words.index(completion)
    return Row(prompt, delimiter + completion, [delimiter + word for word in words], answer, messages)


def _messages(template: TemplateSettings, said: Mapping[str, str], completion: str) -> list[Message]:
    """A row as a conversation: system words, turns, answer."""
    messages = [{"role": "system", "content": said["system"]}] if template.system is not None else []
    if template.turns is None:
        messages.append({"role": "user", "content": said["prompt"]})
    for i, turn in enumerate(template.turns or []):
        messages.append({"role": turn.role, "content": said[str(i)]})
    return [*messages, {"role": "assistant", "content": completion}]


def _flat(messages: Sequence[Message], language: str) -> str:
    """A conversation as a prompt: all that stands before the answer, one turn a line, ending in the assistant's name."""
    names = {"system": "", **ROLES[language]}
    lines = [names[m["role"]] + m["content"] for m in messages[:-1]]
    return "\n".join([*lines, names["assistant"].rstrip()])
