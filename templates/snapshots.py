"""Snapshots: what every example of a pack renders to, kept beside the pack so that a diff shows changed wording.

In: a pack. Out: `snapshot.txt`, written or compared. The file is for people to read: a heading for each template
and example, the prompt, then the answer behind `⟶`, then the choices.
"""

from difflib import unified_diff

from zhiling.store import write_text
from zhiling.templates.origin import render_rows
from zhiling.templates.pack import Pack
from zhiling.templates.preview import visible
from zhiling.templates.render import compile_template

FILE = "snapshot.txt"
SEED = 0


def snapshot(pack: Pack) -> str:
    """Every example of `pack` in the words of every template."""
    ids = [f"example-{i}" for i in range(len(pack.examples))]
    parts = []
    for template in pack.settings.templates:
        rendered = render_rows(compile_template(pack, template.name), pack.examples, ids, SEED)
        for i, prompt in enumerate(rendered.prompts):
            parts.append(f"════ {template.name} · {i + 1}\n")
            if not prompt:
                parts.append(f"({rendered.refusals[i] or 'not for this row'})\n")
                continue
            parts.append(f"{visible(prompt)}\n⟶{visible(rendered.completions[i])}\n")
            choices = rendered.choices[i]
            parts.append(f"   of: {' / '.join(visible(c.strip()) for c in choices)}\n" if choices else "")
    return "".join(parts)


def compare(pack: Pack) -> list[str]:
    """How the pack's renderings differ from its stored snapshot, as lines of a diff; empty where they agree."""
    path = pack.folder / FILE
    stored = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    found = snapshot(pack)
    if stored == found:
        return []
    lines = unified_diff(stored.splitlines(), found.splitlines(), str(path), "as rendered now", lineterm="", n=1)
    return list(lines)


def update(pack: Pack) -> bool:
    """Write the pack's snapshot anew; whether it changed."""
    path = pack.folder / FILE
    stored = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
    found = snapshot(pack)
    if stored == found:
        return False
    write_text(path, found)
    return True
