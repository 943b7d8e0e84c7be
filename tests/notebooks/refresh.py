"""Executes notebooks and keeps their outputs.

python -m tests.notebooks.refresh [NAME…]
"""

from __future__ import annotations

import sys

import nbformat

from tests.notebooks.execution import execute, notebooks


def main(names: list[str]) -> None:
    for path in notebooks():
        if not names or path.stem in names:
            print(path.name, flush=True)  # noqa: T201
            nbformat.write(execute(path), path)


if __name__ == "__main__":
    main(sys.argv[1:])
