"The repository as a project: its notebooks, its modules, its rooms, and what git holds."

import ast
import json
import re
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

root = Path(__file__).resolve().parents[1]
settings = ConfigParser(delimiters=['='])
settings.read(root / 'settings.ini', encoding='utf-8')
cfg = settings['DEFAULT']
package = cfg['lib_name']
lib = root / cfg['lib_path']
nbs = root / cfg['nbs_path']


def is_source(path):
    "Is it neither hidden nor made by a tool?"
    return not any(part[0] in '_.' for part in path.relative_to(root).parts)


notebooks = sorted(path for path in nbs.rglob('*.ipynb') if is_source(path))
modules = sorted(
    path for path in lib.rglob('*.py') if path.name not in ('__init__.py', '_modidx.py')
)
each_notebook = pytest.mark.parametrize(
    'nb', notebooks, ids=lambda path: path.relative_to(nbs).as_posix()
)
each_module = pytest.mark.parametrize(
    'mod', modules, ids=lambda path: path.relative_to(lib).as_posix()
)


def read(path):
    return path.read_text(encoding='utf-8')


# Notebooks


def source(cell):
    return ''.join(cell['source'])


def cells(nb, kind=None):
    "The cells of a notebook, of one kind if asked"
    every = json.loads(read(nb))['cells']
    return [cell for cell in every if kind is None or cell['cell_type'] == kind]


def is_exported(cell):
    is_code = cell['cell_type'] == 'code'
    return is_code and re.search(r'^#\s*\|\s*exports?\b', source(cell), re.M)


def default_exp(nb):
    "The module that a notebook exports to, if any"
    for cell in cells(nb, 'code'):
        found = re.search(r'^#\s*\|\s*default_exp\s+(\S+)', source(cell), re.M)
        if found:
            return found[1]
    return None


# Modules


def dotted(path):
    "The name of a module by its file"
    return '.'.join(path.relative_to(root).with_suffix('').parts)


module_names = {dotted(path) for path in modules}


def imported(mod):
    "The package's own modules that a module imports"
    names = set()
    for node in ast.walk(ast.parse(read(mod))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, mod)
            names |= {base} | {f'{base}.{alias.name}' for alias in node.names}
    return names & module_names


def absolute(node, mod):
    "What an import statement imports from, relative imports resolved"
    parts = dotted(mod).split('.')[: -node.level] if node.level else []
    if node.module:
        parts = [*parts, node.module]
    return '.'.join(parts)


# Rooms


def rooms():
    "The one list of rooms"
    return yaml.safe_load(read(nbs / 'rooms.yml'))


def in_order():
    "All notebooks of the rooms, in the order in which they may import"
    names = [room['room'] for room in rooms()]
    of_rooms = [nb for nb in notebooks if nb.parent.name in names]
    return sorted(of_rooms, key=lambda nb: (names.index(nb.parent.name), nb.name))


# What is committed


def committed():
    "Files that git holds or would add"
    command = ['git', 'ls-files', '-co', '--exclude-standard', '-z']
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    files = [root / name for name in listed.split('\0') if name]
    return [path for path in files if path.is_file()]


def words(path):
    "A file's text; of a notebook, without the bytes of its pictures; empty for what is not text"
    try:
        text = read(path)
    except UnicodeDecodeError:
        return ''
    if path.suffix == '.ipynb':
        return re.sub(r'"image/(?!svg)[\w.+-]+":\s*(\[[^\]]*\]|"[^"]*")', '', text)
    return text
