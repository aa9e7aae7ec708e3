"""Datasets that `datasets.load_dataset` opens: of the Hub, pinned to the commit that is read, or of a local folder."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from zhiling.builders.sources import HubSource, Row, plain
from zhiling.errors import UserError, one_line
from zhiling.store import digest, files_below

COMMIT = "commit "  # before a commit, where others have their files' digest


def pin(hub: HubSource, base: Path) -> tuple[HubSource, str]:
    """The source at one commit, and what it is known by: that commit, or the digest of a local folder's files."""
    local = base / hub.name
    if local.is_dir():
        return hub.model_copy(update={"name": str(local)}), digest(files_below(local))
    try:
        from huggingface_hub import HfApi

        commit = HfApi().dataset_info(hub.name, revision=hub.revision).sha
    except ImportError:
        raise UserError(
            f"hub:{hub.name}", "the `datasets` library is not installed", "pip install 'zhiling[hub]'"
        ) from None
    except Exception as error:  # the Hub client's own errors and the network's
        saw = f"cannot be reached ({one_line(str(error), 120)})"
        raise UserError(f"hub:{hub.name}", saw, "check name, revision and network") from None
    return hub.model_copy(update={"revision": commit}), f"{COMMIT}{commit}"


def read(hub: HubSource, shown: str) -> Iterator[Row]:
    """Rows of a dataset, streamed; class labels by their names."""
    try:
        import datasets
    except ImportError:
        raise UserError(shown, "the `datasets` library is not installed", "pip install 'zhiling[hub]'") from None
    try:
        data = datasets.load_dataset(hub.name, hub.config, split=hub.split, revision=hub.revision, streaming=True)
    except Exception as error:  # the library raises its own, the Hub client's and plain OS errors
        saw = f"cannot be opened ({one_line(str(error), 160)})"
        raise UserError(shown, saw, "check name, config and split") from None
    names = {
        column: feature.names
        for column, feature in (data.features or {}).items()
        if isinstance(feature, datasets.ClassLabel)
    }
    for number, row in enumerate(_read_on(data, shown), 1):
        for column, known in names.items():
            if isinstance(row.get(column), int) and 0 <= row[column] < len(known):
                row[column] = known[row[column]]
        yield f"{shown}:{hub.split}:{number}", plain(row)


def _read_on(data: Iterable[dict[str, Any]], shown: str) -> Iterator[dict[str, Any]]:
    """The rows as they come: the library reads as it goes. Raises UserError where it cannot go on."""
    try:
        yield from data
    except Exception as error:  # as above
        raise UserError(shown, f"cannot be read to its end ({one_line(str(error), 160)})", "see its files") from None
