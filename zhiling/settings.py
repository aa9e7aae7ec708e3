"""YAML that people write: read safely, unknown keys refused, every complaint with its line."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from zhiling.errors import UserError, did_you_mean, one_line

MAX_BYTES = 4 * 2**20
MAX_ALIASES = 50
MAX_DEPTH = 100
_OPENING = (
    yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken, yaml.BlockSequenceStartToken, yaml.BlockMappingStartToken,
)
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)
Key = tuple[str | int, ...]


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys refused, and numbers that are none (`.inf`, `.nan`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True)
class Document:
    """A YAML file as data, with the line of every key: `lines[("corpora", 0, "path")] == 7`."""

    path: Path
    data: Any
    lines: dict[Key, int]

    def where(self, key: Key = ()) -> str:
        """`file:line: dotted.key` of the nearest key that stands in the file."""
        at = key
        while at and at not in self.lines:
            at = at[:-1]
        dotted = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in key).lstrip(".")
        return f"{self.path}:{self.lines.get(at, 1)}" + (f": {dotted}" if dotted else "")


def read_yaml(path: Path, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Document:
    """Read a YAML mapping with a safe loader, or with one that knows a few more tags.

    Raises UserError on absent, oversized or malformed files, duplicate keys and alias bombs.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UserError(str(path), "no such file", "check the path") from None
    except (IsADirectoryError, PermissionError) as error:
        raise UserError(str(path), f"cannot be read ({error.strerror})", "give a YAML file") from None
    if len(raw) > MAX_BYTES:
        raise UserError(str(path), f"{len(raw):,} bytes of YAML", f"keep it under {MAX_BYTES:,}")
    try:
        return _parsed(path, raw.decode("utf-8-sig"), loader)
    except UnicodeDecodeError as error:
        raise UserError(str(path), f"not UTF-8 (byte {error.start})", "save it as UTF-8") from None
    except RecursionError:
        raise UserError(str(path), "nested too deep", "flatten it") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = one_line(getattr(error, "problem", None) or str(error), 120)
        raise UserError(f"{path}{line}", f"not valid YAML ({problem})", "mend the file") from None


def _parsed(path: Path, text: str, loader: type[yaml.SafeLoader]) -> Document:
    """The document, read in C where that is there; what is wrong with it is said in Python's words everywhere."""
    if loader is yaml.SafeLoader and yaml.__with_libyaml__:
        with suppress(yaml.YAMLError, RecursionError):
            return _parse(path, text, yaml.CSafeLoader)
    return _parse(path, text, loader)


def _check_tokens(path: Path, text: str, loader: type[Any]) -> None:
    """Refuse what would make little text into much work: many aliases, deep nesting."""
    aliases = depth = 0
    for token in yaml.scan(text, Loader=loader):
        aliases += isinstance(token, yaml.AliasToken)
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > MAX_DEPTH:  # the scanner's work grows with the square of it
            raise UserError(str(path), "nested too deep", "flatten it")
    if aliases > MAX_ALIASES:
        raise UserError(str(path), f"{aliases} YAML aliases", f"use at most {MAX_ALIASES}")


def _parse(path: Path, text: str, safe: type[Any]) -> Document:
    loader = safe(text)
    try:
        _check_tokens(path, text, safe)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise UserError(str(path), "not a mapping", "write `key: value` lines")
        lines: dict[Key, int] = {}
        for key, line in _key_lines(path, node, ()):
            lines.setdefault(key, line)
        return Document(path, loader.construct_document(node), lines)
    finally:
        loader.dispose()


def _key_lines(path: Path, node: yaml.Node, prefix: Key, depth: int = 0) -> Iterator[tuple[Key, int]]:
    if depth > 40:
        raise RecursionError
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key_node, value in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in seen:
                raise UserError(f"{path}:{line}", f"key '{one_line(key)}' stands twice", "remove one")
            seen.add(key)
            yield (*prefix, key), line
            yield from _key_lines(path, value, (*prefix, key), depth + 1)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            yield (*prefix, i), item.start_mark.line + 1
            yield from _key_lines(path, item, (*prefix, i), depth + 1)


def parse(model: type[S], document: Document, data: Any = None, prefix: Key = ()) -> S:
    """`data` (default: the whole document) as settings. Raises UserError for the first thing that is wrong."""
    try:
        return model.model_validate(document.data if data is None else data)
    except ValidationError as error:
        first = error.errors()[0]
        location = tuple(k for k in first["loc"] if not (isinstance(k, str) and k.startswith("function-")))
        key = (*prefix, *location)
        where = document.where(key)
        if first["type"] == "extra_forbidden":
            known = _known_keys(model, location[:-1])
            raise UserError(where, "unknown key", did_you_mean(str(key[-1]), known)) from None
        if first["type"] == "missing":
            raise UserError(where, "missing", "add it") from None
        found = one_line(repr(first["input"]), 60)
        raise UserError(where, f"found {found}", first["msg"].removeprefix("Value error, ")) from None


def _known_keys(model: type[BaseModel], location: Key) -> list[str]:
    """Keys that settings know at `location`, by walking the models' annotations."""
    current: Any = model
    for step in location:
        if isinstance(step, str) and isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(step)
            current = field.annotation if field else None
        current = _inner_model(current)
    known = current.model_fields if isinstance(current, type) and issubclass(current, BaseModel) else {}
    return [field.alias or name for name, field in known.items()]


def _inner_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _inner_model(inner)
        if found is not None:
            return found
    return None
