"""Processes all notebooks for the documentation as nbdev does before it calls quarto; fails where one can't be."""

import sys

from nbdev.serve import proc_nbs


def main():
    cache = proc_nbs(force=True)
    print(f"pages for the documentation: {cache}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
