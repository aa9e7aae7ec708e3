"""The file and line of what lint found in a pack."""

import json
from collections.abc import Mapping
from typing import Any

from zhiling.errors import one_line
from zhiling.settings import Key
from zhiling.templates.findings import Finding
from zhiling.templates.pack import Pack


class Places:
    """Knows where a pack's templates, columns and examples stand in its files."""

    def __init__(self, pack: Pack) -> None:
        self.pack = pack
        self.file = pack.document.path
        self.index = {t["name"]: i for i, t in enumerate(pack.document.data["templates"])}
        examples = pack.folder / "examples.jsonl"
        lines = examples.read_text(encoding="utf-8-sig").split("\n") if examples.is_file() else []
        self.examples = examples
        self.example_lines = [number for number, line in enumerate(lines, 1) if line.strip()]

    def key(self, code: str, key: Key, found: str = "", detail: str = "") -> Finding:
        """A finding at a key of `pack.yaml`."""
        return Finding(code, str(self.file), self._line(key), found, detail=detail)

    def finding(
        self, code: str, template: str, found: str, detail: str = "", *, part: str = "name", text: str = ""
    ) -> Finding:
        """A finding in a part of a template; `text` says on which of its lines."""
        i = self.index.get(template)
        if i is None:  # a template of the pack that this one extends
            return Finding(code, str(self.file), 1, found, template, detail)
        line = self._line(("templates", i, part))
        source = self.pack.document.data["templates"][i].get(part)
        if text and isinstance(source, str) and "\n" in source:
            line += next((n for n, content in enumerate(source.split("\n"), 1) if text.strip() in content), 0)
        return Finding(code, str(self.file), line, found, template, detail)

    def example(
        self, code: str, i: int, template: str | None, detail: str, row: Mapping[str, Any], found: str | None = None
    ) -> Finding:
        """A finding at the i-th example."""
        line = self.example_lines[i] if i < len(self.example_lines) else 1
        shown = one_line(json.dumps(row, ensure_ascii=False), 60) if found is None else found
        return Finding(code, str(self.examples), line, shown, template, detail)

    def _line(self, key: Key) -> int:
        while key and key not in self.pack.document.lines:
            key = key[:-1]
        return self.pack.document.lines.get(key, 1)
