"""Files that are whole or absent: atomic writes, digests, manifests.

A writer fills a `.part` file beside its target and renames it; a reader that sees a file sees all of it.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zhiling.errors import UserError

MANIFEST = "manifest.json"
SHAPES: Mapping[str, type] = {  # of what a release's manifest says
    "name": str, "version": str, "seed": int, "splits": dict, "packs": dict, "corpora": dict, "ledger": dict,
    "leak": dict, "left_out": dict, "files": dict,
}
PARQUET = {"compression": "zstd", "compression_level": 3, "version": "2.6", "write_statistics": True}


@contextmanager
def atomic(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path to fill; rename it to `path` when the block ends well, else remove it.

    What is not `durable` survives its writer's death, not that of the machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        if durable:
            with part.open("rb") as f:
                os.fsync(f.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder to fill; rename it to `path` (which must not exist) at the end."""
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        for file in part.rglob("*"):
            if file.is_file():
                with file.open("rb") as f:
                    os.fsync(f.fileno())
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def locked(folder: Path, other: str = "another build") -> Iterator[None]:
    """Hold `folder` for this process alone. Raises UserError where another one holds it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(str(folder), f"{other} is writing here", "wait for it to end") from None
        except OSError:
            pass  # a file system without such locks, as NFS has none on folders: nothing is held there
        yield
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` with `\\n` line ends to `path`, whole or not at all."""
    write_bytes(path, text.encode("utf-8", "surrogatepass"))


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, sort_keys=True, indent=2) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """Write one JSON value a line; return how many."""
    count = 0
    with atomic(path) as part, part.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_json(path: Path) -> Any:
    """The JSON value in `path`. Raises UserError where it is absent or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(str(path), "no such file", "check the path") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(str(path), f"not valid JSON ({error})", "make the file anew") from None


def digest(value: Any) -> str:
    """sha256 (hex) of a JSON-able value, independent of key order."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def file_facts(path: Path) -> dict[str, Any]:
    """What a manifest says of a file."""
    return {"sha256": file_digest(path), "bytes": path.stat().st_size}


def files_below(folder: Path, known: Mapping[str, dict[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
    """`{relative path: {sha256, bytes}}` of every file below `folder` except its manifest; as `known` where it is."""
    files, known = sorted(p for p in folder.rglob("*") if p.is_file()), known or {}
    names = {p.relative_to(folder).as_posix(): p for p in files}
    return {
        name: known.get(name) or file_facts(p)
        for name, p in names.items()
        if name != MANIFEST
    }


def write_manifest(
    folder: Path, kind: str, about: dict[str, Any], known: Mapping[str, dict[str, Any]] | None = None
) -> None:
    """Write `folder`'s manifest: what kind of artifact it is, `about` it, every file's digest (some are `known`)."""
    write_json(folder / MANIFEST, {"kind": kind, **about, "files": files_below(folder, known)})


def read_manifest(folder: Path, kind: str, *needed: str) -> dict[str, Any]:
    """The manifest of an artifact folder.

    Raises UserError where it is absent, of another kind or damaged, or lacks one of the keys that are `needed`.
    """
    if not (folder / MANIFEST).is_file():
        do = f"give the folder of a {kind} made by zhiling"
        if str(folder).startswith("hub:"):
            raise UserError(str(folder), "not on this machine", f"`zhiling pull` it first, then {do}")
        raise UserError(str(folder), f"no {MANIFEST} in it", do)
    found: dict[str, Any] = read_json(folder / MANIFEST)
    if not isinstance(found, dict) or found.get("kind") != kind:
        saw = found.get("kind") if isinstance(found, dict) else type(found).__name__
        raise UserError(str(folder / MANIFEST), f"kind is {saw!r}", f"give the folder of a {kind}")
    shapes = SHAPES if kind == "release" else {}
    for key in [*needed, *shapes]:
        if not isinstance(found.get(key), shapes.get(key, object)) if key in found else key in needed:
            saw = f"no `{key}` in it, or none that can be used"
            raise UserError(str(folder / MANIFEST), saw, f"get the {kind} anew")
    return found


def differences(folder: Path, kind: str) -> list[str]:
    """How the files in `folder` differ from its manifest, one line each; empty where they agree."""
    listed: dict[str, Any] = read_manifest(folder, kind, "files")["files"]
    found = files_below(folder)
    lines = [f"{name}: missing" for name in sorted(listed.keys() - found.keys())]
    lines += [f"{name}: not in the manifest" for name in sorted(found.keys() - listed.keys())]
    both = sorted(listed.keys() & found.keys())
    return lines + [f"{name}: changed" for name in both if listed[name] != found[name]]
