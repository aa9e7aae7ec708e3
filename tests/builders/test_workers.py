"""The imports of workers begin first: what starts them, and the entry of a build, import nothing heavy."""

import subprocess
import sys


def test_a_build_can_have_workers_started_before_anything_heavy_is_imported() -> None:
    code = (
        "import sys; import zhiling.builders.pipeline, zhiling.builders.workers\n"
        "print(sorted({'numpy', 'pyarrow', 'pydantic', 'jinja2', 'duckdb'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
