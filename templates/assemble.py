"""From rendered texts to what a model reads: ends stripped, conversations flattened, answers looked up.

In: the texts and choices of some rows, as columns. Out: their prompts, completions, choices, answers and
messages, with a refusal for each row that lacks a text, repeats a choice or whose completion is not one of
them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from zhiling.errors import one_line
from zhiling.templates.compiled import Compiled
from zhiling.templates.schema import TemplateSettings

ROLES = {  # how a conversation is written in a prompt: one turn a line, system words first and bare
    "zh": {"system": "", "user": "用户：", "assistant": "助手："},
    "en": {"system": "", "user": "User: ", "assistant": "Assistant: "},
}
Message = dict[str, str]
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
    def blank(cls, count: int) -> "Rendered":
        """`count` rows with nothing in them."""
        return cls(
            prompts=[""] * count, completions=[""] * count, choices=[None] * count, answers=[None] * count,
            messages=[None] * count, refusals=[None] * count, skipped=[False] * count,
        )

    def skip(self, places: Iterable[int]) -> None:
        """Note that the rows at `places` are skipped."""
        for place in places:
            self.skipped[place] = True

    def put(self, places: Sequence[int], part: "Rendered") -> None:
        """Put the rows of `part` in their places here."""
        for name in ("prompts", "completions", "choices", "answers", "messages", "refusals"):
            mine, found = getattr(self, name), getattr(part, name)
            if found[0] is not None or any(value is not None for value in found):
                for place, value in zip(places, found, strict=True):
                    mine[place] = value


def assemble(
    compiled: Compiled, texts: Mapping[str, Sequence[str]], words: Sequence[Sequence[str]] | None
) -> Rendered:
    """The rows whose `texts` (a column for each part) and shown `words` these are."""
    said = {part: [text.rstrip() for text in column] for part, column in texts.items()}
    said["completion"] = completions = [text.lstrip() for text in said["completion"]]
    count, delimiter = len(completions), compiled.delimiter
    refusals: list[str | None] = [None] * count
    for part, column in said.items():
        if not all(column):
            name = f"turn {int(part) + 1}" if part.isdigit() else part
            _note(refusals, (not text for text in column), f"empty {name}")
    if "rationale" in said:
        pairs = zip(said["rationale"], completions, strict=True)
        completions = [f"{reason.lstrip()}\n{answer}" for reason, answer in pairs]
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
        _answer(completions, words, delimiter, choices, answers, refusals)
    if delimiter:
        completions = [delimiter + text for text in completions]
    rendered = Rendered(prompts, completions, choices, answers, messages, refusals, [False] * count)
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
    roles = [role for role, _ in turns]
    rows = zip(*(column for _, column in turns), strict=True)
    return [[{"role": r, "content": c} for r, c in zip(roles, row, strict=True)] for row in rows]


def _flat(turns: Sequence[Turns], language: str) -> list[str]:
    """Conversations as prompts: what stands before the answer, one turn a line, and the assistant's name."""
    names = ROLES[language]
    lines = [names[role] + "%s" for role, _ in turns]
    whole = "\n".join([*lines, names["assistant"].rstrip()])
    return list(map(whole.__mod__, zip(*(column for _, column in turns), strict=True)))


def _answer(
    completions: Sequence[str], words: Sequence[Sequence[str]], delimiter: str,
    choices: list[list[str] | None], answers: list[int | None], refusals: list[str | None],
) -> None:
    """Fill in each row's choices, with the delimiter, and the place of its completion among them."""
    known: dict[int, list[str] | None] = {}  # rows with the same words mostly share one list
    for i, (completion, row) in enumerate(zip(completions, words, strict=True)):
        if id(row) not in known:
            listed = [delimiter + word for word in row] if delimiter else list(row)
            known[id(row)] = listed if len(set(row)) == len(row) else None
        choices[i] = known[id(row)]
        if refusals[i] is not None:
            continue
        if choices[i] is None:
            refusals[i] = "choices repeat"
        elif completion in row:
            answers[i] = row.index(completion)
        else:
            refusals[i] = f"completion '{one_line(completion, 40)}' is not among the choices"


def _blanked(rendered: Rendered) -> Rendered:
    """`rendered` with nothing in its refused rows."""
    for i, refusal in enumerate(rendered.refusals):
        if refusal is not None:
            rendered.prompts[i] = rendered.completions[i] = ""
            rendered.choices[i] = rendered.answers[i] = rendered.messages[i] = None
    return rendered
