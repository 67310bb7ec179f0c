"""Notebooks without a notebook server: their cells run in order, and what these print and show is kept.

python -m docs.tools.notebook docs/tutorial.ipynb

Cells share one namespace and an empty folder, as in a fresh session. A cell keeps what it writes to standard output and
the value of its last expression, as text, and as HTML where eqspike makes some.
"""

import ast
import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro

Json = dict[str, Any]


def executed(notebook: Json) -> Json:
    """The notebook with the outputs that its code cells have now."""
    names: Json = {"__name__": "__main__"}
    cells, count = [], 0
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                count += 1
                found = list(outputs("".join(cell["source"]), names, count))
                cell = {**cell, "execution_count": count, "outputs": found}
            cells.append(cell)
    return {**notebook, "cells": cells}


def outputs(source: str, names: Json, count: int) -> Iterator[Json]:
    """What one cell prints, then what it shows. Raises whatever the cell raises."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value, printed = None, io.StringIO()
    with contextlib.redirect_stdout(printed), open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        exec(compile(tree, "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    if text := printed.getvalue():
        yield {"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        if type(value).__module__.startswith("eqspike") and hasattr(value, "_repr_html_"):
            data["text/html"] = value._repr_html_().splitlines(keepends=True)
        yield {"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": data}


def as_markdown(notebook: Json) -> str:
    """The notebook as a page: texts, code, and below it what it printed and showed."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text", [])})
            html = "".join(data.get("text/html", ()))
            parts.append(html or "```text\n" + "".join(data["text/plain"]).rstrip("\n") + "\n```")
    return "\n\n".join(parts) + "\n"


def main(notebook: tyro.conf.Positional[Path]) -> None:
    """Run a notebook's cells and write their outputs into it.

    Args:
        notebook: The file.
    """
    found = executed(json.loads(notebook.read_text()))
    notebook.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
