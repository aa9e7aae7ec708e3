"""A release or a model to where its readers find it: the Hub, a folder of versions, or an object store.

In: a folder with a manifest, and a target: `hub:ORG/NAME`, a folder, or an fsspec address such as `s3://bucket/place`.
Out: where it went. A published version is whole, and never changes.
"""

import re
from pathlib import Path

from zhiling.builders.publish_artifact import read_artifact
from zhiling.builders.publish_client import redact
from zhiling.builders.publish_plan import Options
from zhiling.console import note
from zhiling.errors import UserError

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


def push(folder: Path, target: str, options: Options | None = None) -> str:
    """Publish the release or model in `folder` to `target` and return where it went.

    What is there already, byte for byte, is left alone; a push that was cut off goes on. Raises UserError where the
    folder is damaged, or the version exists with other bytes.
    """
    options = options or Options()
    scheme = re.match(r"([a-z][a-z0-9+.-]+):", target)
    artifact = read_artifact(folder, options.version)
    if scheme and scheme.group(1) == "hub":
        from zhiling.builders.publish_hub import push_to_hub

        return push_to_hub(artifact, hub_name(target), options)
    only_hub = {"--pr": options.pr, "--private": options.private, "--collection": options.collection}
    for flag in (flag for flag, given in only_hub.items() if given):
        raise UserError(target, f"{flag} is for the Hub", "drop it, or push to hub:ORG/NAME")
    for obstacle in artifact.obstacles():
        shown = f"corpus '{obstacle.corpus}' ({obstacle.license or 'no licence'}) {obstacle.why}"
        note(f"{shown}: see that {redact(target)} is not open to the public")
    if scheme and target.startswith(f"{scheme.group(1)}://"):
        from zhiling.builders.publish_fsspec import push_to_store

        return push_to_store(artifact, target, options)
    if scheme:
        raise UserError(target, f"no kind of target is called '{scheme.group(1)}'", "give hub:ORG/NAME, a folder, or s3://...")
    from zhiling.builders.publish_folder import push_to_folder

    return push_to_folder(artifact, Path(target), options)


def hub_name(target: str) -> str:
    """`ORG/NAME` of `hub:ORG/NAME`. Raises UserError."""
    name = target.removeprefix("hub:")
    if not HUB_NAME.fullmatch(name) or "--" in name or ".." in name:
        raise UserError(target, "not of the form hub:ORG/NAME", "give the organisation or user, a slash and a name")
    return name
