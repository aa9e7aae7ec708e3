"""What `pack.yaml` may say: the settings of a pack, its templates and the corpora that fit it.

Unknown keys and wrong types are refused while the file is read; what needs more than one key is checked in
`pack.py`.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from zhiling.rows import ColumnType
from zhiling.settings import Key, Settings

TASKS = Literal[
    "classification", "nli", "matching", "extractive_qa", "multiple_choice", "closed_qa", "extraction",
    "generation", "summarization", "translation", "code", "dialogue", "recommendation", "mathematics",
    "correction", "coreference", "cloze", "grading",
]
METRICS = Literal[
    "accuracy", "f1_macro", "f1_micro", "mcc", "exact_match", "f1_span", "f1_entity", "f1_triple", "bleu",
    "chrf", "rouge_l", "auc", "ndcg", "json_valid", "pass_at_1", "constraint",
]
NAME = r"^[a-z][a-z0-9_]*$"
PACK_NAME = r"^(zh|en)/[a-z][a-z0-9_]*$"
MOST_CHOICES = 1_000  # of a row, and labels of a column
QUOTE = f"at most {MOST_CHOICES:,}; quote words such as yes and 1"
NO_CHOICES = "none"  # `choices: none`: free text although there is a label


def _is_words(value: Any) -> bool:
    if not isinstance(value, dict) or len(value) > MOST_CHOICES:
        return False
    return all(isinstance(w, str) for pair in value.items() for w in pair)


def _choices(value: Any) -> Any:
    words = isinstance(value, list) and len(value) <= MOST_CHOICES and all(isinstance(w, str) for w in value)
    if value is not None and not (words or _is_words(value) or isinstance(value, str)):
        raise ValueError(f"give `label: word` pairs, a list of words, an expression, or none ({QUOTE})")
    return value


def _labels(value: Any) -> Any:
    nested = isinstance(value, dict) and bool(value) and all(_is_words(words) for words in value.values())
    if not (nested or _is_words(value)):
        raise ValueError(f"give `label: word` pairs, or such pairs for each label column ({QUOTE})")
    return value


class Turn(Settings):
    """One turn of a conversation that stands before the answer."""

    role: Literal["user", "assistant"]
    content: str


class Parser(Settings):
    """How the answer is read out of free text."""

    kind: Literal["first_choice", "json_field", "last_number", "spans", "json", "text"]
    field: str | None = None  # which field, for `json_field`


class TemplateSettings(Settings):
    """One template: how a row becomes a prompt and its completion."""

    name: str = Field(pattern=NAME, max_length=60)
    kind: str | None = None
    system: str | None = None
    prompt: str | None = None
    turns: list[Turn] | None = None  # instead of a prompt
    rationale: str | None = None     # reasoning that stands before the completion
    completion: str
    choices: Annotated[dict[str, str] | list[str] | str | None, BeforeValidator(_choices)] = None
    shuffle_choices: bool = False    # order drawn per row, so that position says nothing
    delimiter: Literal["", " ", "\n"] | None = None  # what a completion starts with; by language where null
    inverted: bool = False           # the label asks for the text
    when: str | None = None          # rows for which this is false are passed over
    parser: Parser | None = None
    metrics: list[METRICS] | None = None
    constraints: str | None = None   # a Jinja2 text that gives JSON: what the metric `constraint` holds an answer to
    note: str | None = None

    @property
    def free(self) -> bool:
        """Whether the answer is free text whatever the pack's labels are."""
        return self.inverted or self.rationale is not None or self.choices == NO_CHOICES

    @property
    def chat(self) -> bool:
        """Whether its rows are conversations."""
        return self.system is not None or self.turns is not None

    @property
    def texts(self) -> dict[Key, str]:
        """Its Jinja2 texts by their place in the settings, in the order in which a model reads them."""
        found: dict[Key, str | None] = {("system",): self.system, ("prompt",): self.prompt}
        found |= {("turns", i, "content"): turn.content for i, turn in enumerate(self.turns or [])}
        found |= {("rationale",): self.rationale, ("completion",): self.completion}
        return {key: source for key, source in found.items() if source is not None}

    @property
    def expressions(self) -> dict[Key, str]:
        """Its Jinja2 expressions by their place in the settings."""
        by_row = isinstance(self.choices, str) and self.choices != NO_CHOICES
        found: dict[Key, Any] = {("choices",): self.choices if by_row else None, ("when",): self.when}
        return {key: source for key, source in found.items() if source is not None}


class KnownCorpus(Settings):
    """A well-known corpus that fits a pack, and how its columns map."""

    hub: str
    config: str | None = None
    columns: dict[str, str] = Field({})
    labels: dict[str, str] = Field({})
    license: str
    note: str | None = None


class PackSettings(Settings):
    """What `pack.yaml` says."""

    pack: str = Field(pattern=PACK_NAME, max_length=80)
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    summary: str
    task: TASKS
    language: Literal["zh", "en"]
    license: str = "Apache-2.0"
    extends: str | None = Field(None, pattern=PACK_NAME, max_length=80)
    columns: dict[Annotated[str, Field(pattern=NAME, max_length=60)], ColumnType] = Field({})
    labels: Annotated[dict[str, str] | dict[str, dict[str, str]], BeforeValidator(_labels)] = Field({})
    corpora: list[KnownCorpus] = Field([])
    metrics: list[METRICS] = Field([])
    constraints: str | None = None   # of templates without their own
    templates: list[TemplateSettings] = Field(min_length=1, max_length=300)
