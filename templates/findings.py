"""The codes of lint, and a finding: what is wrong, how grave it is, where it stands and how to mend it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Code:
    """One thing that lint looks for."""

    severity: Severity
    title: str
    cure: str


def _error(title: str, cure: str) -> Code:
    return Code("error", title, cure)


def _warning(title: str, cure: str) -> Code:
    return Code("warning", title, cure)


CODES: dict[str, Code] = {
    # the pack as it is written
    "ZT001": _error("the pack cannot be read", "mend that first; lint looks no further until then"),
    "ZT002": _error("the folder is not called as the pack", "rename one of them"),
    "ZT003": _warning("fewer than 10 templates", "add templates that differ in kind, not in punctuation"),
    "ZT004": _warning("fewer than 8 examples", "add rows to examples.jsonl, hard ones too"),
    "ZT005": _error("no template uses a column", "use it, or take it out of `columns`"),
    "ZT006": _error("two labels have the same word", "give each label a word of its own"),
    "ZT007": _error("a corpus without a licence", "write what its card states; explain an `unknown` in its note"),
    "ZT008": _warning("nothing says how answers are scored", "name `metrics` of the pack or of the template"),
    "ZT009": _warning("white space at the end of a line", "remove it (--fix does)"),
    "ZT010": _warning("choices are shuffled but never shown", "show `choices`, or drop `shuffle_choices`"),
    "ZT011": _warning("no example has a label", "add an example with that label"),
    "ZT012": _warning("an example stands twice", "change or remove one"),
    "ZT013": _error("a corpus maps to what the pack does not have", "name a column or label that the pack declares"),
    "ZT014": _error("the templates are in another language", "say which under `language`, or translate them"),
    "ZT015": _error("a span is not where it says", "count `start` in characters from 0, in the text it was cut from"),
    # the pack as it renders its examples
    "ZT020": _error("an example cannot be rendered", "mend the template or the row, or say `when` a row fits"),
    "ZT021": _error("a template renders no example", "mend its `when`, or add an example that fits it"),
    "ZT022": _error("the label leaks into the prompt", "take out what follows it, or write `inverted: true`"),
    "ZT023": _error("the answer never changes", "make the completion depend on the row"),
    "ZT024": _error("something is unfinished", "write what was meant to stand there"),
    "ZT025": _warning("doubled punctuation", "keep one (--fix does); put row text in quotes or on its own line"),
    "ZT026": _warning("punctuation of the wrong width", "full-width in Chinese, half-width in English (--fix does)"),
    "ZT027": _warning("two templates say nearly the same", "make them differ in kind, or drop one"),
    "ZT028": _warning("the right choice keeps its place", "write `shuffle_choices: true`, or balance the examples"),
    "ZT029": _error("the prompt ends inside a word", "end it with punctuation, as ： ？ “, lest tokenizers merge"),
    "ZT030": _warning("the answer follows the row's text at once", "let the template's words end the prompt, as 答："),
    "ZT031": _warning("a space before a Chinese answer", "drop `delimiter`: Chinese has no space there"),
    "ZT032": _warning("the prompt shows what makes the answer", "leave that column out, unless copying is the task"),
    "ZT033": Code("note", "rendered by the slower engine", "nothing must be done; plain fields and filters are faster"),
    "ZT034": _error("the prompt says nothing of the row", "show the column that the answer follows from"),
    "ZT035": _warning("one choice begins another", "give words of which none begins another, lest the shorter win"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and where."""

    code: str
    file: str
    line: int
    found: str
    template: str | None = None
    detail: str = ""

    @property
    def severity(self) -> Severity:
        """How grave it is."""
        return CODES[self.code].severity

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints."""
        about = CODES[self.code]
        return {**asdict(self), "severity": about.severity, "title": about.title, "cure": about.cure}

    def __str__(self) -> str:
        about = CODES[self.code]
        name = f" [{self.template}]" if self.template else ""
        parts = [part for part in (self.detail, f"“{self.found}”" if self.found else "") if part]
        said = ": " + ", ".join(parts) if parts else ""
        return f"{self.file}:{self.line}: {self.code} {about.severity}{name}: {about.title}{said}; {about.cure}"
