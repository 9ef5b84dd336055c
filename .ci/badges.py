"""Gives every tutorial that has code a badge which opens it in Colab, and a cell which installs what it needs there.

usage: badges.py      Repository, branch and folders are those of settings.ini; `make prepare` runs it.
"""

from execnb.nbio import mk_cell, read_nb, write_nb
from nbdev.config import get_config

#: Ids of the two cells, by which they are found again
BADGE, INSTALL = 'c01ab001', 'c01ab002'

PICTURE = 'https://colab.research.google.com/assets/colab-badge.svg'
ADDRESS = 'https://colab.research.google.com/github/{repository}/blob/{branch}/{page}'
STORED = (
    ' Cells that begin with `#|eval: false` take hours, or need a video that is not in the '
    'repository: pass over them, their output is stored.'
)
CELL = """#|hide
# In Colab: the package, and a checkout with the files that this page reads
import sys
from pathlib import Path

if 'google.colab' in sys.modules and not Path('../../settings.ini').exists():
    !git clone --quiet --depth 1 --branch {branch} {git_url} {repo}
    %pip install --quiet './{repo}{extra}'
    %cd {repo}/{folder}"""


def tutorials():
    "Notebooks that open in Colab: those of the room that have code"
    for path in sorted((cfg.nbs_path / 'tutorials').glob('*.ipynb')):
        notebook = read_nb(path)
        own = [cell for cell in notebook.cells if cell.get('id') not in (BADGE, INSTALL)]
        if any(cell.cell_type == 'code' for cell in own):
            yield path, notebook, own


def badge_text(path, own):
    "The badge of a page, and what to know of the page where it is opened"
    repository = cfg.git_url.split('github.com/')[1].rstrip('/')
    page = path.relative_to(cfg.config_path).as_posix()
    address = ADDRESS.format(repository=repository, branch=cfg.branch, page=page)
    has_stored = any('eval: false' in cell.source for cell in own if cell.cell_type == 'code')
    return f'[![Open in Colab]({PICTURE})]({address})' + (STORED if has_stored else '')


def install_text(path, own):
    "The cell that installs"
    folder = path.parent.relative_to(cfg.config_path).as_posix()
    needs_tools = any('from nbdev' in cell.source for cell in own)
    extra = '[dev]' if needs_tools else ''
    options = dict(branch=cfg.branch, git_url=cfg.git_url, repo=cfg.repo)
    return CELL.format(folder=folder, extra=extra, **options)


def cell_of(kind, identity, text):
    "A cell with an id of its own"
    cell = mk_cell(text, cell_type=kind)
    cell['id'] = identity
    if kind == 'code':
        cell['execution_count'] = None
    return cell


def main():
    for path, notebook, own in tutorials():
        title, *rest = own
        badge = cell_of('markdown', BADGE, badge_text(path, own))
        install = cell_of('code', INSTALL, install_text(path, own))
        notebook.cells = [title, badge, install, *rest]
        write_nb(notebook, path)


cfg = get_config()

if __name__ == '__main__':
    main()
