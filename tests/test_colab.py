"The tutorials in Colab: badges are those of settings.ini, and the first cell brings what a page needs, there alone."

import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from execnb.nbio import read_nb
from execnb.shell import CaptureShell
from fastcore.xtras import working_directory
from fixtures_project import cfg, root

PAGES = sorted((root / 'nbs/tutorials').glob('*.ipynb'))
WITH_CODE = [p for p in PAGES if any(c.cell_type == 'code' for c in read_nb(p).cells)]
EACH_PAGE = pytest.mark.parametrize('page', WITH_CODE, ids=[page.stem for page in WITH_CODE])


@EACH_PAGE
def test_a_page_begins_with_its_badge_and_what_it_installs(page):
    title, badge, install, *rest = read_nb(page).cells
    assert title.source.startswith('# ')
    [address] = re.findall(
        r'\]\((https://colab\.research\.google\.com/github/[^)]+)\)', badge.source
    )
    repository = cfg['git_url'].removeprefix('https://github.com/')
    place = page.relative_to(root).as_posix()
    base = 'https://colab.research.google.com/github'
    assert address == f'{base}/{repository}/blob/{cfg["branch"]}/{place}'
    assert (
        f"git clone --quiet --depth 1 --branch {cfg['branch']} {cfg['git_url']} " in install.source
    )
    # what tells of cells that cannot run there is there where there are such cells
    has_stored = any('eval: false' in c.source for c in rest if c.cell_type == 'code')
    assert ('eval: false' in badge.source) == has_stored
    needs_tools = any('from nbdev' in c.source for c in rest)
    assert ('[dev]' in install.source) == needs_tools


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    "What git gives for the address of the repository, and an empty folder that a page lies in alone"
    bare = tmp_path / 'repository'
    for name in ('settings.ini', 'results', 'nbs/tutorials'):
        if (root / name).is_dir():
            shutil.copytree(root / name, bare / name)
        else:
            bare.mkdir(exist_ok=True)
            shutil.copy(root / name, bare / name)
    git = ['git', '-c', 'user.name=a', '-c', 'user.email=a@b.invalid']
    subprocess.run([*git, 'init', '--quiet', '-b', cfg['branch']], cwd=bare, check=True)
    subprocess.run([*git, 'add', '.'], cwd=bare, check=True)
    subprocess.run([*git, 'commit', '--quiet', '-m', 'all'], cwd=bare, check=True)
    monkeypatch.setenv('GIT_CONFIG_COUNT', '1')
    monkeypatch.setenv('GIT_CONFIG_KEY_0', f'url.file://{bare}.insteadOf')
    monkeypatch.setenv('GIT_CONFIG_VALUE_0', cfg['git_url'])
    # nothing is installed: pip only says what it would do
    monkeypatch.setenv('PIP_DRY_RUN', '1')
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.setenv('PIP_NO_DEPS', '1')
    alone = tmp_path / 'content'
    alone.mkdir()
    return alone


def run_first(page, folder, n=1):
    "Run the cell that installs, and some more code cells; where they end, and what was printed"
    code = [cell for cell in read_nb(page).cells if cell.cell_type == 'code']
    shell = CaptureShell(folder)
    with working_directory(folder):
        for cell in code[:n]:
            shell.run(cell.source)
            assert shell.exc is None, cell.source
        return Path.cwd()


def test_in_colab_a_page_gets_its_checkout(checkout, monkeypatch):
    page = root / 'nbs/tutorials/00_benchmark.ipynb'
    shutil.copy(page, checkout)
    monkeypatch.setitem(sys.modules, 'google.colab', types.ModuleType('google.colab'))
    ended = run_first(checkout / page.name, checkout)
    assert ended == checkout / cfg['repo'] / 'nbs/tutorials'
    assert Path(ended / '../../results/benchmark.json').exists()
    # a second time nothing is cloned into it
    before = sorted(ended.iterdir())
    assert run_first(page, ended) == ended
    assert sorted(ended.iterdir()) == before


def test_elsewhere_nothing_is_done(checkout):
    assert run_first(WITH_CODE[0], checkout) == checkout
    assert list(checkout.iterdir()) == []
