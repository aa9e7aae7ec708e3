"""Cards from Jinja2 templates of ours; what comes from strangers is escaped for Markdown."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def escape(text: Any) -> str:
    """`text` as plain words on one line of Markdown: no markup, no HTML, no table cells."""
    flat = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>#|~!])", r"\\\1", flat)


def fenced(text: Any) -> str:
    """`text` in a code block whose fence is longer than any run of backticks in it."""
    runs = re.findall(r"`+", str(text))
    fence = "`" * max(3, max(map(len, runs), default=0) + 1)
    return f"{fence}text\n{text}\n{fence}"


def render_card(name: str, context: Mapping[str, Any]) -> str:
    """The card template `name` of this folder, filled in."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )
    environment.filters.update(md=escape, fenced=fenced, percent=lambda x: f"{100 * x:.1f} %", n=lambda x: f"{x:,}")
    return environment.get_template(name).render(context)
