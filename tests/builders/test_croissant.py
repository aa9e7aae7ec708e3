"""croissant.json is valid for the reference library, and it loads the release's rows."""

import json
import logging
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import RecipeMaker
from zhiling.builders.pipeline import build


@pytest.mark.filterwarnings("ignore")
def test_the_reference_library_reads_the_rows(make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path) -> None:
    logging.getLogger("absl").setLevel(logging.ERROR)
    import mlcroissant

    make.corpus(reviews[:60] + reviews[-60:])
    release = build(make.recipe(), tmp_path / "out")
    described = json.loads((release / "croissant.json").read_text(encoding="utf-8"))
    data = mlcroissant.Dataset(str(release / "croissant.json"))
    assert data.metadata.issues.errors == set()
    file = described["distribution"][0]
    rows = pq.read_table(release / file["contentUrl"]).to_pylist()
    records = list(data.records(f"rows-{file['@id']}"))
    assert [r[f"rows-{file['@id']}/prompt"].decode() for r in records] == [row["prompt"] for row in rows]
