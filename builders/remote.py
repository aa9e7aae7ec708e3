"""Sources on, and releases to, any store that fsspec opens: `s3://`, `gs://`, `https://`, `memory://` and others.

In: an address or a pattern of addresses. Out: local copies, each made once for a state of the file there; or, for a
release, where it went. Credentials are those of the store's own client and stand in no recipe.
"""

import os
from glob import has_magic
from pathlib import Path
from typing import Any

from zhiling.builders.publish_client import redact
from zhiling.builders.publish_fsspec import open_store
from zhiling.console import note
from zhiling.errors import UserError, one_line
from zhiling.store import atomic, digest


def is_remote(path: str) -> bool:
    """Whether a path is an address: `scheme://...`."""
    return "://" in path


def cache_folder() -> Path:
    """Where copies lie: `$XDG_CACHE_HOME/zhiling`, or `~/.cache/zhiling`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zhiling"


def local_copies(address: str) -> list[tuple[str, Path]]:
    """(as shown, local copy) of the files at an address, sorted. Raises UserError where nothing can be read there."""
    shown = redact(address)
    store, path = open_store(address)
    try:
        web = address.startswith(("http://", "https://"))
        if not has_magic(path.partition("?")[0] if web else path):  # there a question mark begins a query
            return [(shown, _copy(store, path))]
        found = [name for name in sorted(store.glob(path)) if store.isfile(name)]
        if not found:
            raise UserError(shown, "no file fits this pattern", "check the address")
        scheme = shown.partition("://")[0]
        named = [redact(name if "://" in name else f"{scheme}://{name.lstrip('/')}") for name in found]
        return [(name, _copy(store, path)) for name, path in zip(named, found, strict=True)]
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(shown, "no such file", "check the address") from None
    except Exception as error:  # each store's client has its own errors
        saw = f"cannot be read ({type(error).__name__}: {one_line(redact(str(error)), 120)})"
        raise UserError(shown, saw, "check the address and the store's credentials") from None


def _copy(store: Any, path: str) -> Path:
    """The local copy of a file, made where there is none of its present state."""
    state = digest([str(store.protocol), path, str(store.ukey(path))])
    place = cache_folder() / "sources" / state[:24] / path.partition("?")[0].rpartition("/")[2]
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic(place) as part:
            store.get_file(path, str(part))
    return place


def build_there(recipe: Path, target: str, workers: int) -> str:
    """Build a recipe's release here and publish it below the address `target`; where it went."""
    from zhiling.builders.pipeline import build
    from zhiling.builders.publish import push

    release = build(recipe, cache_folder() / "releases" / digest(target)[:16], workers)
    note(f"{release} goes to {redact(target)}")
    return push(release, target)
