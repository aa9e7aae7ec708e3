"""A release or a model into an object store or any other place that fsspec opens: `s3://bucket/place`, `gs://`, ...

Such a store has no commit and no rename: `TARGET/<name>/<version>/manifest.json` is written last, after every other
file was read back, and a version without its manifest is not published. A claim, written first and only where there
is none, keeps two pushes of different bytes out of one version. Credentials are those of the store's own client.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

from zhiling.builders.publish_artifact import Artifact, File
from zhiling.builders.publish_client import redact
from zhiling.builders.publish_plan import Options
from zhiling.console import note, progress
from zhiling.errors import UserError, one_line
from zhiling.store import MANIFEST

CLAIM = ".claim.json"
BUCKETS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "cos", "obs"}
CHUNK = 8 * 2**20


def push_to_store(artifact: Artifact, target: str, options: Options) -> str:
    """Publish below `target` and return the version's address. Raises UserError where it is there with other bytes."""
    place = f"{target.rstrip('/')}/{artifact.name}/{artifact.version}"
    shown = redact(place)
    with speaking(shown):
        store, root = open_store(place)
        if store.exists(f"{root}/{MANIFEST}"):
            _refuse_other(store, root, artifact, shown)
            note(f"{shown} is there already, with the same bytes")
            return place
        missing = _missing(store, root, artifact)
        if options.dry_run:
            size = sum(artifact.files[name].bytes for name in missing)
            print(f"{shown}: would add {len(missing)} files, {size:,} bytes, the manifest last")
            return place
        _claim(store, root, artifact, shown)
        with progress("push", len(missing)) as bar:
            for name in missing:
                if name != MANIFEST:
                    _send(store, root, name, artifact.files[name])
                bar(1, name)
        unsent = [name for name in _missing(store, root, artifact) if name != MANIFEST]
        if unsent:
            saw = f"does not hold what was sent ({', '.join(unsent[:3])}); nothing was published"
            raise UserError(shown, saw, "run the same command again")
        _send(store, root, MANIFEST, artifact.files[MANIFEST])
        _refuse_other(store, root, artifact, shown)
        store.rm_file(f"{root}/{CLAIM}")
    note(f"published: {shown}, {len(artifact.files)} files read back")
    return place


def open_store(address: str) -> tuple[Any, str]:
    """The filesystem and the path in it that an address names. Raises UserError where fsspec knows no such one."""
    try:
        import fsspec  # type: ignore[import-untyped]

        store, root = fsspec.core.url_to_fs(address, use_listings_cache=False)
    except (ValueError, ImportError) as error:
        saw = one_line(redact(str(error)), 120)
        raise UserError(redact(address), saw, "for s3:// it takes: pip install 'zhiling[s3]'") from None
    return store, root


@contextmanager
def speaking(where: str) -> Iterator[None]:
    """Turn what a store's client raises into one line."""
    try:
        yield
    except UserError:
        raise
    except PermissionError as error:
        saw = f"no permission ({one_line(redact(str(error)), 120)}); nothing was published"
        raise UserError(where, saw, "check the store's credentials") from None
    except FileNotFoundError as error:
        saw = f"no such place ({one_line(redact(str(error)), 120)}); nothing was published"
        raise UserError(where, saw, "make the bucket, or check the address") from None
    except Exception as error:  # each store's client has its own errors
        saw = f"{type(error).__name__}: {one_line(redact(str(error)), 160)}"
        raise UserError(where, saw, "run the same command again: it goes on where it was") from None


def digest_there(store: Any, path: str) -> str:
    """sha256 of an object's bytes, read back."""
    found = sha256()
    with store.open(path, "rb", block_size=CHUNK) as f:
        while chunk := f.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def _missing(store: Any, root: str, artifact: Artifact) -> list[str]:
    """The artifact's files that are not there, byte for byte; all of them are read back."""
    def same(name: str, file: File) -> bool:
        path = f"{root}/{name}"
        try:
            return bool(store.info(path)["size"] == file.bytes) and digest_there(store, path) == file.sha256
        except FileNotFoundError:
            return False

    return [name for name, file in sorted(artifact.files.items()) if not same(name, file)]


def _refuse_other(store: Any, root: str, artifact: Artifact, shown: str) -> None:
    missing = _missing(store, root, artifact)
    if missing:
        saw = f"this version is published with other bytes ({', '.join(missing[:3])})"
        raise UserError(shown, saw, "raise `version` in the recipe and build again")


def _claim(store: Any, root: str, artifact: Artifact, shown: str) -> None:
    """Take the version for these bytes. Raises UserError where another push holds it for other bytes."""
    path, mine = f"{root}/{CLAIM}", json.dumps({"manifest_sha256": artifact.digest}).encode()
    _make_folder(store, root)
    try:
        store.pipe_file(path, mine, mode="create")
        return
    except (FileExistsError, NotImplementedError, TypeError):
        pass
    except OSError as error:
        if "PreconditionFailed" not in str(error) and "exist" not in str(error):
            raise
    if not store.exists(path):
        store.pipe_file(path, mine)  # a store without exclusive writes
    if store.cat_file(path) != mine:
        saw = f"another push is writing this version, from other bytes ({CLAIM}); nothing was published"
        raise UserError(shown, saw, f"raise `version`, or remove {CLAIM} there if that push is dead")


def _make_folder(store: Any, path: str) -> None:
    """Make a folder where the store has folders. Where it has buckets, making a folder would make a mistyped bucket."""
    protocols = {store.protocol} if isinstance(store.protocol, str) else set(store.protocol)
    if not protocols & BUCKETS:
        store.makedirs(path, exist_ok=True)


def _send(store: Any, root: str, name: str, file: File) -> None:
    _make_folder(store, f"{root}/{name}".rpartition("/")[0])
    store.put_file(str(file.path), f"{root}/{name}")
