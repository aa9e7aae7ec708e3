"""A release to where its readers find it: a folder of versions, each written whole and never changed."""

import shutil
from pathlib import Path

from zhiling.builders.release import verify
from zhiling.console import note
from zhiling.errors import UserError
from zhiling.store import MANIFEST, atomic_folder, file_digest, read_manifest


def push(release: Path, target: str) -> str:
    """Publish a release to `target` (a folder: `TARGET/<name>/<version>`) and return where it went.

    A version that is there already with the same bytes is left alone. Raises UserError where the release
    is damaged, or the version exists with other bytes: a published version never changes.
    """
    if ":" in target.split("/")[0]:
        raise UserError(target, "not a folder", "give a folder; other targets are not there yet")
    manifest = read_manifest(release, "release")
    broken = verify(release)
    if broken:
        raise UserError(str(release), f"does not agree with its manifest ({'; '.join(broken[:3])})", "build it anew")
    place = Path(target) / manifest["name"] / manifest["version"]
    if place.exists():
        _refuse_other(release, place)
        note(f"{place} is there already, with the same bytes")
        return str(place)
    with atomic_folder(place) as part:
        shutil.copytree(release, part, dirs_exist_ok=True)
    note(f"published: {place}")
    return str(place)


def _refuse_other(release: Path, place: Path) -> None:
    same = (place / MANIFEST).is_file() and file_digest(place / MANIFEST) == file_digest(release / MANIFEST)
    if not same or verify(place):
        raise UserError(
            str(place), "this version is published with other bytes", "raise `version` in the recipe and build again"
        )
