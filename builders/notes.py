"""What a release says of those before it: its changelog, and on its card which versions it supersedes and why.

In: a release that is built and not yet published, the one before it, and their `diff`. Out: CHANGELOG.md and README.md
written anew, and the manifest to match; nothing else is touched. Said twice it says the same; said again it mends
what a kill left half done.
"""

import re
from pathlib import Path

from zhiling.builders.diff import Diff, changelog, diff
from zhiling.builders.publish_artifact import parse_version, refuse_small_step
from zhiling.cards.markdown import escape
from zhiling.errors import UserError
from zhiling.store import read_manifest, write_manifest, write_text

NOTED = ("CHANGELOG.md", "README.md")
BEGIN, END = "<!-- versions -->", "<!-- end of versions -->"


def annotate(before: Path, after: Path, because: str = "") -> Diff:
    """Write into the release `after` what changed since `before`, and return the diff.

    Raises UserError where the two are not versions of one dataset, in order, or the step is too small.
    """
    found = diff(before, after)
    old, new = read_manifest(before, "release"), read_manifest(after, "release")
    if old["name"] != new["name"]:
        saw = f"is '{new['name']}', and {before} is '{old['name']}'"
        raise UserError(str(after), saw, "give two versions of one dataset")
    refuse_small_step(after, found.before, found.after, found.bump, "what changed")
    history = (before / "CHANGELOG.md").read_text(encoding="utf-8").removeprefix("# Changelog\n").lstrip("\n")
    write_text(after / "CHANGELOG.md", f"# Changelog\n\n{changelog(found, because)}\n{history}")
    card = (after / "README.md").read_text(encoding="utf-8")
    theirs = (before / "README.md").read_text(encoding="utf-8")
    write_text(after / "README.md", _with_versions(card, [*_rows(theirs), _row(found, because)], found.after))
    kept = {key: value for key, value in new.items() if key not in ("kind", "files")}
    kept["notes"] = {"since": found.before, "bump": found.bump, "files": list(NOTED)}
    write_manifest(after, "release", kept)
    return found


def _row(found: Diff, because: str) -> str:
    why = f"; {escape(because)}" if because else ""
    return f"| {found.before} | superseded by {found.after}, a {found.bump} change{why} |"


def _rows(card: str) -> list[str]:
    """What a card says of earlier versions."""
    inside = re.search(f"{BEGIN}(.*?){END}", card, re.DOTALL)
    rows = inside.group(1).splitlines() if inside else []
    return [row for row in rows if re.match(r"\| \d+\.\d+\.\d+ \| superseded", row)]


def _with_versions(card: str, rows: list[str], version: str) -> str:
    """The card with the table of versions at its end, in place of one that stands there."""
    bare = re.sub(f"\n*## 版本 / Versions\n+{BEGIN}.*?{END}\n", "\n", card, flags=re.DOTALL).rstrip("\n")
    newest = sorted(rows, key=lambda row: parse_version(row.split(" ")[1], "the card"), reverse=True)
    lines = ["| version | |", "|---|---|", f"| **{version}** | this one |", *newest]
    return f"{bare}\n\n## 版本 / Versions\n\n{BEGIN}\n" + "\n".join(lines) + f"\n{END}\n"
