"""A corpus in a recipe: where its rows are and what its columns and labels mean to its pack."""

from typing import Literal, Self

from pydantic import Field, model_validator

from zhiling.rows import Split
from zhiling.settings import Settings

SIDES: dict[str, Split] = {  # what sources call their sides
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test",
}
Format = Literal["jsonl", "csv", "tsv", "parquet", "text"]


class SourceFile(Settings):
    """One file of a corpus."""

    path: str = Field(description="a file, relative to the recipe; `package:NAME/FILE` inside an installed package")
    format: Format | None = Field(None, description="by the file's ending where absent")
    set: dict[str, str] = Field({}, description="columns that have one value in the whole file")
    split: Split | None = Field(None, description="the side that the source itself gives the file's rows")


class HubSource(Settings):
    """A dataset that `datasets.load_dataset` can open: a Hub name or a local folder."""

    name: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None


class CorpusSettings(Settings):
    """A labelled corpus: where its rows are and what its columns mean to its pack."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)
    pack: str
    templates: list[str] | None = Field(None, description="all of the pack's where absent")
    files: list[SourceFile] = Field([])
    hub: HubSource | None = None
    columns: dict[str, str] = Field({}, description="pack column -> column of the source")
    labels: dict[str, str] = Field({}, description="value in the source -> label of the pack")
    split_column: str | None = Field(None, description="column of the source that holds its own split; it is kept")
    together: str | None = Field(None, description="column whose equal values stay on one side: a user, a document")
    time: str | None = Field(None, description="column with the row's time, for `split: time:`")
    header: list[str] | None = Field(None, description="column names of CSV or TSV files that have no header line")
    encoding: Literal["utf-8", "gb18030"] = "utf-8"
    unknown_labels: Literal["stop", "reject"] = "stop"
    revision: str = Field("unversioned", description="which state of the corpus this is")
    license: str
    url: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.files) == (self.hub is not None):
            raise ValueError("give either `files` or `hub`")
        return self
