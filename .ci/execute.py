"""Runs notebooks from top to bottom and stores their outputs in them, as they are committed.

usage: execute.py [--keep] NOTEBOOK ...      --keep: run as a test, write nothing

Cells with `#|notest` or `#|eval: false` are left alone and keep the outputs that they have: they take hours, or need
what is not here. An error stops the notebook, is printed with its cell, and leaves the file as it was.
"""

import argparse
import re
import sys
import time
from pathlib import Path

from execnb.nbio import read_nb, write_nb
from execnb.shell import CaptureShell
from fastcore.xtras import working_directory

LEFT_ALONE = re.compile(r"^\s*#\s*\|\s*(notest|eval:\s*false)\b", re.M)


def is_left_alone(cell):
    "Is this a cell that keeps its stored output?"
    if cell.cell_type != "code":
        return True
    return bool(LEFT_ALONE.search(cell.source)) or "nbdev_export(" in cell.source


def execute(path, keep):
    "Run one notebook; returns whether it came to its end"
    notebook = read_nb(path)
    for cell in notebook.cells:
        if not is_left_alone(cell):
            cell.outputs = []
    shell = CaptureShell(path)
    started = time.time()
    try:
        with working_directory(path.parent):
            shell.run_all(notebook, exc_stop=True, preproc=is_left_alone)
    except Exception:
        sys.stderr.write(shell.prettytb(fname=path) + "\n")
        return False
    print(f"{path}: {time.time() - started:.0f} s")
    if not keep:
        write_nb(notebook, path)
    return True


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--keep", action="store_true", help="run as a test, write nothing")
    options = parser.parse_args()
    done = [execute(path, options.keep) for path in options.notebooks]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
