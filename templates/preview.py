"""What people and models will read: rendered rows with the origin of every character, and their tokens counted.

In: a pack, templates, rows, perhaps a tokenizer. Out: previews to print on a terminal or as Markdown.
A row's text is shown as it is, never as markup.
"""

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhiling.errors import UserError, one_line
from zhiling.rows import BETWEEN_SHOTS
from zhiling.templates.origin import Span, render_spans
from zhiling.templates.pack import Pack
from zhiling.templates.render import compile_template

if TYPE_CHECKING:
    from rich.text import Text

SEED = 0
STYLES = {"template": "", "row": "cyan", "mixed": "magenta", "answer": "bold green"}
MARKDOWN_TAGS = {"template": "", "row": "i", "mixed": "u", "answer": "b"}
LONGEST = 2000  # characters of a span in Markdown
NOT_FOR_IT = "the template is not for this row"


@dataclass(frozen=True)
class Preview:
    """One row in one template's words, or why it cannot be shown."""

    pack: str
    template: str
    example: int
    spans: tuple[Span, ...]
    choices: tuple[str, ...] | None
    refusal: str | None
    tokens: tuple[int, int] | None  # of the prompt and of the completion


def preview(
    pack: Pack, names: list[str] | None, rows: Sequence[Mapping[str, Any]], shots: int = 0,
    tokenizer: Path | None = None, most: int | None = None,
) -> list[Preview]:
    """Render the first `most` rows with the templates called `names` (all where None), each after `shots` others."""
    count = _counter(tokenizer) if tokenizer else None
    ids = [f"preview-{i}" for i in range(len(rows))]
    previews = []
    for template in pack.select(names):
        rendered, spans = render_spans(compile_template(pack, template.name), rows, ids, SEED)
        wholes = [(*prompt, Span(c, "answer")) for prompt, c in zip(spans, rendered.completions, strict=True)]
        shown = [i for i, prompt in enumerate(rendered.prompts) if prompt]
        for i in range(len(rows))[:most]:
            at = shown.index(i) if i in shown else 0
            others = (shown[at + 1 :] + shown[:at])[:shots] if i in shown else []
            before = [span for j in others for span in (*wholes[j], Span(BETWEEN_SHOTS, "template"))]
            whole = (*before, *wholes[i]) if i in shown else ()
            choices = rendered.choices[i]
            previews.append(Preview(
                pack.name, template.name, i, whole, tuple(choices) if choices else None, rendered.refusals[i],
                _tokens(whole, count) if count and whole else None,
            ))
    return previews


def _counter(folder: Path) -> Callable[[str], int]:
    """Counts a text's tokens with the tokenizer in `folder`."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UserError(str(folder), "no tokenizer.json in it", "give the folder of a tokenizer or of a model")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise UserError(str(file), f"not a tokenizer ({one_line(str(error))})", "make it anew") from None
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _tokens(spans: Sequence[Span], count: Callable[[str], int]) -> tuple[int, int]:
    """Tokens of the prompt, and how many more there are with the answer behind it."""
    prompt = "".join(span.text for span in spans[:-1])
    return (before := count(prompt)), count(prompt + spans[-1].text) - before


def heading(shown: Preview) -> str:
    """One line over a preview: which template and row, how long."""
    characters = sum(len(span.text) for span in shown.spans)
    size = f"{characters:,} characters" if shown.spans else "skipped"
    if shown.tokens:
        size += f", {shown.tokens[0]:,} + {shown.tokens[1]:,} tokens"
    return f"{shown.pack} · {shown.template} · row {shown.example + 1} · {size}"


def as_text(shown: Preview) -> "Text":
    """A preview for the terminal: each origin in its own colour, the choices below."""
    from rich.text import Text

    if not shown.spans:
        return Text(shown.refusal or NOT_FOR_IT, style="yellow")
    text = Text()
    for span in shown.spans:
        text.append(visible(span.text), STYLES[span.origin])
    if shown.choices:
        text.append("\n" + " / ".join(visible(choice.strip()) for choice in shown.choices), "dim")
    return text


def legend() -> "Text":
    """What the colours mean."""
    from rich.text import Text

    words = {"template": "template's words", "row": "row's", "mixed": "made of both", "answer": "answer"}
    return Text("  ").join(Text(word, STYLES[origin]) for origin, word in words.items())


def as_markdown(previews: Sequence[Preview]) -> str:
    """Previews for a comment on a pull request, one to open per template: *row's words*, **answer**."""
    parts = ["Rendered by zhiling: <i>row's words</i>, <u>made of both</u>, <b>answer</b>."]
    for shown in previews:
        text = "".join(_tagged(span) for span in shown.spans) or html.escape(shown.refusal or NOT_FOR_IT)
        parts.append(f"<details><summary>{html.escape(heading(shown))}</summary><pre>{text}</pre></details>")
    return "\n\n".join(parts) + "\n"


def _tagged(span: Span) -> str:
    """A span as HTML; line breaks are written as entities, for an empty line would end the block in Markdown."""
    text = html.escape(visible(_cut(span.text))).replace("\n", "&#10;").replace("@", "&#64;")
    tag = MARKDOWN_TAGS[span.origin]
    return f"<{tag}>{text}</{tag}>" if tag else text


def _cut(text: str) -> str:
    """`text`, cut to a length that a comment can hold."""
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def visible(text: str) -> str:
    """`text` without characters that steer a terminal or turn the reading direction: each shows its number."""
    return "".join(c if c == "\n" or c.isprintable() or c == "\u3000" else f"⟨{ord(c):02x}⟩" for c in text)
