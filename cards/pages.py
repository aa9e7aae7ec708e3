"""HTML pages that stand alone: styles, scripts and data inside, no network, strangers' words only as text.

In: a template of this folder and what it shows. Out: HTML text. A content policy in the page allows our own script,
by its hash, and nothing else; what a template prints is escaped.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any


def render_page(template: str, scripts: Sequence[str], data: Any = None, **context: Any) -> str:
    """The page `template`, with the files `scripts` as one script and `data` as JSON for it to read."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )
    script = "".join(environment.get_template(name).render() for name in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    style = environment.get_template("board_style.css.j2").render()
    text = environment.get_template(template).render(
        policy=policy, style=Markup(style), script=Markup(script), data=Markup(script_json(data)), **context
    )
    return text.encode("utf-8", "replace").decode()


def script_json(value: Any) -> str:
    """JSON that can stand inside a script element whatever its strings say."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _finite(value: Any) -> Any:
    """`value` with null for the numbers that JSON does not have, as a stranger's manifest may say."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not isfinite(value) else value
