"""What a release says of those before it: its changelog, and on its card which versions it supersedes and why.

In: a release that is not yet published, the one before it, and their `diff`. Out: CHANGELOG.md and README.md written
anew, and the manifest to match; nothing else is touched. A build does so itself where its recipe names the release
before; a publisher who knows why it was done says so afterwards. Said twice it says the same; said again it mends what
a kill left half done.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from zhiling.builders.diff import Diff, changelog, diff
from zhiling.builders.publish_artifact import parse_version, refuse_small_step, step
from zhiling.cards.markdown import escape
from zhiling.console import note
from zhiling.errors import UserError
from zhiling.store import read_manifest, write_manifest, write_text

NOTED = ("CHANGELOG.md", "README.md")
ZH = re.compile(r"^版本 / version \*\*", re.MULTILINE)  # stands on a card that is in Chinese, too
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
    _write(before, after, found, because, NOTED)
    return found


def annotate_built(before: Path, after: Path, recipe: Path) -> None:
    """Write into `after`, which is being built from `recipe`, what changed since `before`; say which bump it calls for.

    A version that rises too little is said and built all the same: what is not published may still change.
    """
    old, new = read_manifest(before, "release"), read_manifest(after, "release")
    if old["name"] != new["name"] or step(old["version"], new["version"]) == "none":
        saw = f"{before} is {old['name']} {old['version']}, no earlier version of {new['name']} {new['version']}"
        note(f"CHANGELOG.md says nothing of the previous release: {saw}")
        return
    found = diff(before, after)
    _write(before, after, found, "", ())
    note(f"since {found.before} ({before}): a {found.bump} change, written into CHANGELOG.md")
    try:
        refuse_small_step(recipe, found.before, found.after, found.bump, "what changed")
    except UserError as error:
        note(f"warning: {error}")


def _write(before: Path, after: Path, found: Diff, because: str, later: Sequence[str]) -> None:
    """Write changelog, card and manifest; `later` are the files that are not as the build of `after` left them."""
    history = _text(before / "CHANGELOG.md").removeprefix("# Changelog\n").lstrip("\n")
    write_text(after / "CHANGELOG.md", f"# Changelog\n\n{changelog(found, because)}\n{history}")
    rows = [*_rows(_text(before / "README.md")), _row(found, because)]
    write_text(after / "README.md", _with_versions(_text(after / "README.md"), rows, found.after))
    about = read_manifest(after, "release")
    known = {name: entry for name, entry in about.pop("files").items() if name not in NOTED}
    notes = {"since": found.before, "bump": found.bump, "files": list(later)}
    write_manifest(after, "release", {**about, "notes": notes}, known)


def _text(path: Path) -> str:
    """A file's text; nothing where there is no such file."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


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
    title = f"{'版本 / ' if ZH.search(card) else ''}Versions"
    bare = re.sub(f"\n*## (版本 / )?Versions\n+{BEGIN}.*?{END}\n", "\n", card, flags=re.DOTALL).rstrip("\n")
    newest = sorted(rows, key=lambda row: parse_version(row.split(" ")[1], "the card"), reverse=True)
    lines = ["| version | |", "|---|---|", f"| **{version}** | this one |", *newest]
    return f"{bare}\n\n## {title}\n\n{BEGIN}\n" + "\n".join(lines) + f"\n{END}\n"
