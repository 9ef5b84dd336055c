"""Writes the documentation's sidebar and the table in CONTRIBUTING.md from nbs/rooms.yml, the one list of rooms."""

import json
import re
from pathlib import Path

import yaml

root = Path(__file__).resolve().parents[1]
notebooks = root / "nbs"
START = "<!-- rooms -->"
END = "<!-- end of rooms -->"


def rooms():
    "The rooms in their order"
    return yaml.safe_load((notebooks / "rooms.yml").read_text(encoding="utf-8"))


def pages(room):
    "Notebooks of a room in their order"
    return sorted((notebooks / room).glob("*.ipynb"))


def title(page):
    "The title of a notebook"
    first = json.loads(page.read_text(encoding="utf-8"))["cells"][0]
    return re.match(r"# (.+)", "".join(first["source"]))[1]


def sidebar():
    "The sidebar: the front page, then the rooms"
    contents = ["index.ipynb"]
    for room in rooms():
        folder = room["room"]
        inside = [{"text": title(page), "href": f"{folder}/{page.name}"} for page in pages(folder)]
        contents.append({"section": room["title"], "contents": inside})
    return yaml.safe_dump({"website": {"sidebar": {"contents": contents}}}, sort_keys=False)


def table():
    "The rooms as a table"
    lines = ["| room | package | pages | holds |", "|---|---|---|---|"]
    for room in rooms():
        folder = room["room"]
        package = "-" if folder == "tutorials" else f"`geomrecon.{folder}`"
        lines.append(f"| `nbs/{folder}` | {package} | {len(pages(folder))} | {room['holds']} |")
    return "\n".join(lines)


def main():
    (notebooks / "sidebar.yml").write_text(sidebar(), encoding="utf-8")
    path = root / "CONTRIBUTING.md"
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    path.write_text(f"{before}{START}\n{table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
