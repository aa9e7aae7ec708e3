"""croissant.json: a release as MLCommons' Croissant 1.0 describes datasets, so that other tools can load it.

In: what the manifest says and the data files. Out: JSON-LD (http://mlcommons.org/croissant/1.0),
without a date: a release has no clock, so that the same recipe gives the same bytes on any day.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from zhiling.rows import EXAMPLE_SCHEMA, SPLITS

Files = Mapping[str, Mapping[str, Any]]  # by name: digest and size
CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "equivalentProperty": "cr:equivalentProperty", "samplingRate": "cr:samplingRate",
    "dct": "http://purl.org/dc/terms/", "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract",
    "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet",
    "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath",
    "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(files: Files, about: Mapping[str, Any], title: str, summary: str, license_id: str) -> dict[str, Any]:
    """The description of a release: those of its `files` that hold data, its columns by type, split by split."""
    data = [(split, name) for split in SPLITS for name in sorted(files) if name.startswith(f"data/{split}-")]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": about["name"],
        "description": f"{title}. {summary}",
        "version": about["version"],
        "license": license_id,
        "citeAs": f"{title}, version {about['version']}",
        "distribution": [_file(name, files[name]) for _, name in data],
        "recordSet": [_records(Path(name).stem, split) for split, name in data],
    }


def _file(name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": Path(name).stem,
        "name": Path(name).stem,
        "contentUrl": name,
        "contentSize": f"{known['bytes']} B",
        "encodingFormat": "application/x-parquet",
        "sha256": known["sha256"],
    }


def _records(file: str, split: str) -> dict[str, Any]:
    """The rows of one file; nested messages are left to the Parquet schema."""
    columns = [field for field in EXAMPLE_SCHEMA if field.name != "messages"]
    return {
        "@type": "cr:RecordSet",
        "@id": f"rows-{file}",
        "name": f"rows-{file}",
        "description": f"Rows of the split {split}.",
        "field": [_column(field, file) for field in columns],
    }


def _column(field: pa.Field, file: str) -> dict[str, Any]:
    listed = pa.types.is_list(field.type)
    inner = field.type.value_type if listed else field.type
    return {
        "@type": "cr:Field",
        "@id": f"rows-{file}/{field.name}",
        "name": field.name,
        "dataType": "sc:Integer" if pa.types.is_integer(inner) else "sc:Text",
        **({"repeated": True} if listed else {}),
        "source": {"fileObject": {"@id": file}, "extract": {"column": field.name}},
    }
