"""From rendered texts to what a model reads: conversations flattened, answers looked up.

In: the texts and choices of some rows, as columns. Out: their prompts, completions, choices, answers and
messages, with a refusal for each row that lacks a text, repeats a choice or whose completion is not one of
them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain

from zhiling.errors import one_line
from zhiling.templates.compiled import Compiled
from zhiling.templates.lines import joined
from zhiling.templates.reading import taken
from zhiling.templates.schema import TemplateSettings

ROLES = {  # how a conversation is written in a prompt: one turn a line, system words first and bare
    "zh": {"system": "", "user": "用户：", "assistant": "助手："},
    "en": {"system": "", "user": "User: ", "assistant": "Assistant: "},
}
Message = dict[str, str]
Answers = tuple[list[list[str] | None], list[int | None]]  # each row's choices, and the place of its completion
Turns = tuple[str, Sequence[str]]  # a role, and what each row says in it


@dataclass
class Rendered:
    """A rendered batch: one list per column, as long as the batch; refused and skipped rows hold nothing.

    The text that a model reads is `prompt + completion`, nothing between: completions and choices
    carry the delimiter (a space in English, nothing in Chinese). `messages` are the same as a conversation,
    answer included, without the delimiter. A row is skipped where the template's `when` is false.
    """

    prompts: list[str] = field(default_factory=list)
    completions: list[str] = field(default_factory=list)
    choices: list[list[str] | None] = field(default_factory=list)
    answers: list[int | None] = field(default_factory=list)
    messages: list[list[Message] | None] = field(default_factory=list)
    refusals: list[str | None] = field(default_factory=list)
    skipped: list[bool] = field(default_factory=list)

    @classmethod
    def blank(cls, count: int, skipped: bool = False) -> "Rendered":
        """`count` rows with nothing in them."""
        return cls(
            prompts=[""] * count, completions=[""] * count, choices=[None] * count, answers=[None] * count,
            messages=[None] * count, refusals=[None] * count, skipped=[skipped] * count,
        )


def merged(parts: Sequence[tuple[Sequence[int], Rendered]]) -> Rendered:
    """Parts as one batch; each comes with the places of its rows in it."""
    places = list(chain.from_iterable(places for places, _ in parts))
    if len(parts) == 1 and places == list(range(len(places))):
        return parts[0][1]
    back = [0] * len(places)
    for i, place in enumerate(places):
        back[place] = i
    whole = Rendered.blank(0)
    for column in fields(Rendered):
        values = list(chain.from_iterable(getattr(part, column.name) for _, part in parts))
        if values and not (values[0] is None and values.count(None) == len(values)):
            values = list(taken(values, back))
        setattr(whole, column.name, values)
    return whole


def assemble(
    compiled: Compiled, said: Mapping[str, Sequence[str]], words: Sequence[list[str]] | None
) -> Rendered:
    """The rows whose texts (a column for each part, stripped) and shown `words` these are."""
    completions, delimiter = said["completion"], compiled.delimiter
    count = len(completions)
    refusals: list[str | None] = [None] * count
    for part, column in said.items():
        if not all(column):
            name = f"turn {int(part) + 1}" if part.isdigit() else part
            _note(refusals, (not text for text in column), f"empty {name}")
    if "rationale" in said:
        completions = joined([said["rationale"], "\n", completions], count)
    messages: list[list[Message] | None] = [None] * count
    if compiled.template.chat:
        turns = _turns(compiled.template, said)
        messages = _messages([*turns, ("assistant", completions)])
        prompts = _flat(turns, compiled.pack.settings.language)
    else:
        prompts = said["prompt"]
    choices: list[list[str] | None] = [None] * count
    answers: list[int | None] = [None] * count
    if words is not None and not compiled.template.free:
        found = _looked_up(completions, words, delimiter) if refusals.count(None) == count else None
        choices, answers = found or _looked_up_alone(completions, words, delimiter, refusals)
    if delimiter:
        completions = list(map(delimiter.__add__, completions))
    rendered = Rendered([*prompts], [*completions], choices, answers, messages, refusals, [False] * count)
    return rendered if refusals.count(None) == count else _blanked(rendered)


def _note(refusals: list[str | None], wrong: Iterable[bool], why: str) -> None:
    """Refuse the rows that are wrong, where nothing was wrong with them before."""
    for i, is_wrong in enumerate(wrong):
        if is_wrong and refusals[i] is None:
            refusals[i] = why


def _turns(template: TemplateSettings, said: Mapping[str, Sequence[str]]) -> list[Turns]:
    """What stands before the answers, turn by turn."""
    turns = [("system", said["system"])] if template.system is not None else []
    if template.turns is None:
        return [*turns, ("user", said["prompt"])]
    return turns + [(turn.role, said[str(i)]) for i, turn in enumerate(template.turns)]


def _messages(turns: Sequence[Turns]) -> list[list[Message] | None]:
    """Rows as conversations."""
    columns = [[{"role": role, "content": text} for text in column] for role, column in turns]
    return list(map(list, zip(*columns, strict=True)))


def _flat(turns: Sequence[Turns], language: str) -> Sequence[str]:
    """Conversations as prompts: what stands before the answer, one turn a line, and the assistant's name."""
    names = ROLES[language]
    lines = [piece for role, column in turns for piece in (names[role], column, "\n")]
    return joined([*lines, names["assistant"].rstrip()], len(turns[0][1]))


def _looked_up(completions: Sequence[str], words: Sequence[list[str]], delimiter: str) -> Answers | None:
    """Each row's choices, with the delimiter, and the place of its completion; None where one has to be refused."""
    one = words[0]
    if words[-1] is one and words.count(one) == len(words):
        places = {word: i for i, word in enumerate(one)}
        found = list(map(places.get, completions))
        refused = len(places) < len(one) or None in found
        return None if refused else ([[delimiter + word for word in one]] * len(words), found)
    try:
        answers: list[int | None] = [*map(list.index, words, completions)]
    except ValueError:
        return None
    if list(map(len, map(set, words))) != list(map(len, words)):
        return None
    return [[delimiter + word for word in row] for row in words] if delimiter else [*words], answers


def _looked_up_alone(
    completions: Sequence[str], words: Sequence[list[str]], delimiter: str, refusals: list[str | None]
) -> Answers:
    """The same, row by row; those that have to be are refused."""
    choices: list[list[str] | None] = []
    answers: list[int | None] = []
    for i, (completion, row) in enumerate(zip(completions, words, strict=True)):
        choices.append([delimiter + word for word in row])
        answers.append(row.index(completion) if completion in row else None)
        if refusals[i] is None and len(set(row)) < len(row):
            refusals[i] = "choices repeat"
        elif refusals[i] is None and answers[i] is None:
            refusals[i] = f"completion '{one_line(completion, 40)}' is not among the choices"
    return choices, answers


def _blanked(rendered: Rendered) -> Rendered:
    """`rendered` with nothing in its refused rows."""
    for i, refusal in enumerate(rendered.refusals):
        if refusal is not None:
            rendered.prompts[i] = rendered.completions[i] = ""
            rendered.choices[i] = rendered.answers[i] = rendered.messages[i] = None
    return rendered
