"""A release or a model into a folder of versions: `TARGET/<name>/<version>`, there whole by one rename."""

import shutil
from pathlib import Path

from zhiling.builders.publish_artifact import Artifact
from zhiling.builders.publish_plan import Options
from zhiling.console import note
from zhiling.errors import UserError
from zhiling.store import MANIFEST, atomic_folder, differences, file_digest, locked


def push_to_folder(artifact: Artifact, target: Path, options: Options) -> str:
    """Copy the artifact to its place. Raises UserError where the version is there with other bytes."""
    place = target / artifact.name / artifact.version
    if place.exists():
        _refuse_other(artifact, place)
        note(f"{place} is there already, with the same bytes")
    elif options.dry_run:
        size = sum(f.bytes for f in artifact.files.values())
        print(f"{place}: would add {len(artifact.files)} files, {size:,} bytes")
    else:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(str(place), f"cannot be made ({error.strerror})", "give another folder") from None
        with locked(place.parent):
            if not place.exists():
                with atomic_folder(place) as part:
                    for name, file in artifact.files.items():  # one by one: a full disk is an OSError of its own
                        (part / name).parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(file.path, part / name)
            _refuse_other(artifact, place)
        note(f"published: {place}")
    return str(place)


def _refuse_other(artifact: Artifact, place: Path) -> None:
    same = (place / MANIFEST).is_file() and file_digest(place / MANIFEST) == artifact.digest
    if not same or differences(place, artifact.kind):
        saw = "this version is published with other bytes"
        raise UserError(str(place), saw, "raise `version` in the recipe and build again")
