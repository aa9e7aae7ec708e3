"""What is wrong with packs, in plain words.

In: names or folders of packs. Out: findings, each with code, file, line, offending text and cure, errors first.
An error keeps a pack out of the repository; a warning is worth a second look; a note tells what is no fault.
"""

from collections.abc import Sequence
from pathlib import Path

from zhiling.errors import UserError, did_you_mean, one_line
from zhiling.templates.checks import check_declarations
from zhiling.templates.findings import CODES, Finding
from zhiling.templates.pack import PACKS, pack_names, read_pack
from zhiling.templates.rendered_checks import check_renderings

_RANK = {"error": 0, "warning": 1, "note": 2}


def pack_folders(targets: Sequence[str]) -> list[Path]:
    """The folders of the packs named: shipped names, pack folders, or folders with packs below them.

    Without any, all shipped packs. Raises UserError where a target holds none.
    """
    found = [folder for target in targets for folder in _folders(target)]
    if not targets:
        found = [PACKS / name for name in pack_names()]
    return list(dict.fromkeys(_near(folder) for folder in found))


def _near(folder: Path) -> Path:
    """`folder` as seen from where the command was given, where it is below."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _folders(target: str) -> list[Path]:
    for folder in (Path(target), PACKS / target):
        found = sorted(path.parent for path in folder.rglob("pack.yaml")) if folder.is_dir() else []
        if found:
            return found
    where, saw = f"pack '{one_line(target)}'", "no such pack, and no folder with a pack.yaml in it"
    raise UserError(where, saw, did_you_mean(target, pack_names()))


def lint_pack(folder: Path) -> list[Finding]:
    """All findings in the pack in `folder`, errors first."""
    try:
        pack = read_pack(folder)
    except UserError as error:
        file, _, rest = error.where.partition(":")
        line, _, key = rest.partition(":")
        said = f"{key.strip()}: " if key.strip() else ""
        detail = f"{said}{error.saw}; {error.do}"
        return [Finding("ZT001", file, int(line) if line.isdecimal() else 1, "", detail=detail)]
    found = {*check_declarations(pack), *check_renderings(pack)}
    return sorted(found, key=lambda f: (_RANK[f.severity], f.file, f.line, f.code, f.found))


def codes_table() -> str:
    """The codes as a Markdown table, as docs/lint.md holds it."""
    rows = [f"| {code} | {about.severity} | {about.title} | {about.cure} |" for code, about in sorted(CODES.items())]
    return "\n".join(["| code | severity | what | how to mend it |", "|---|---|---|---|", *rows]) + "\n"
