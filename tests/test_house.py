"Rooms, front page, documentation, and where the paper's equations are."

import importlib.util
import os
import re
import shutil
import subprocess
import sys

from fixtures_project import (
    cells,
    default_exp,
    each_notebook,
    modules,
    nbs,
    notebooks,
    read,
    rooms,
    root,
    source,
)

import yaml


# Rooms


def test_rooms_are_the_folders_and_the_packages():
    listed = {room['room'] for room in rooms()}
    assert listed == {nb.parent.name for nb in notebooks if nb.parent != nbs}
    assert listed - {'tutorials'} == {module.parent.name for module in modules}


@each_notebook
def test_a_notebook_exports_to_the_module_of_its_name(nb):
    name = default_exp(nb)
    _, _, rest = nb.stem.partition('_')
    assert name in (None, f'{nb.parent.name}.{rest}', 'paper.__main__')


def test_numbers_do_not_collide():
    for room in rooms():
        pages = sorted((nbs / room['room']).glob('*.ipynb'))
        assert [page.name[:2] for page in pages] == [f'{n:02}' for n in range(len(pages))]


def test_sidebar_and_table_are_made_from_the_list():
    spec = importlib.util.spec_from_file_location('rooms', root / '.ci' / 'rooms.py')
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert read(nbs / 'sidebar.yml') == made.sidebar()
    assert made.table() in read(root / 'CONTRIBUTING.md')


def test_sidebar_begins_with_the_front_page_and_the_tutorials():
    contents = yaml.safe_load(read(nbs / 'sidebar.yml'))['website']['sidebar']['contents']
    assert contents[0] == 'index.ipynb'
    assert contents[1]['section'] == 'Tutorials'


def test_the_wing_is_not_in_the_wheel():
    assert "exclude=['geomrecon.paper', 'geomrecon.paper.*']" in read(root / 'setup.py')
    assert 'prune geomrecon/paper' in read(root / 'MANIFEST.in')


# The front page


def readme():
    "The README without its hidden comments"
    return re.sub(r'<!--.*?-->', '', read(root / 'README.md'))


def test_readme_is_short():
    assert len(readme().split()) <= 900


def test_readme_begins_with_a_picture():
    before_picture = readme().split('![')[0]
    assert len(before_picture.split()) < 40


def test_links_of_the_readme_lead_somewhere():
    for target in re.findall(r'\]\(([^)#]+)\)', readme()):
        assert target.startswith('http') or (root / target).exists(), target


def test_code_of_the_readme_runs_from_the_root(tmp_path):
    blocks = re.findall(r'^```python\n(.*?)^```', readme(), re.M | re.S)
    assert blocks
    script = tmp_path / 'readme.py'
    script.write_text('\n'.join(blocks), encoding='utf-8')
    environment = dict(os.environ, PYTHONPATH=str(root), MPLBACKEND='agg')
    command = [sys.executable, str(script)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


# The documentation


def test_links_between_pages_lead_somewhere():
    for nb in notebooks:
        for cell in cells(nb, 'markdown'):
            for target in re.findall(r'\]\(([^)#\s]+)', source(cell)):
                is_elsewhere = re.match(r'[a-z]+:', target)
                assert is_elsewhere or (nb.parent / target).exists(), f'{nb.name}: {target}'


def test_all_notebooks_become_pages(tmp_path):
    "As nbdev processes them before it calls quarto"
    copy = tmp_path / 'copy'
    ignored = shutil.ignore_patterns('.git', '.venv', 'runs', '_proc', '_docs', 'results')
    shutil.copytree(root, copy, ignore=ignored)
    environment = dict(os.environ, PYTHONPATH=str(copy))
    command = [sys.executable, '.ci/process_docs.py']
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((copy / '_proc').rglob('*.ipynb'))) == len(notebooks)


# The paper


def test_every_equation_has_its_place():
    "The documentation names a notebook for each of the equations 1 to 11, which prints it"
    (table,) = (nbs / 'tutorials').glob('*_where_in_the_paper.ipynb')
    text = '\n'.join(source(cell) for cell in cells(table))
    rows = re.findall(r'^\| Eq\. (\d+) \| `(\w+)/(\w+)`', text, re.M)
    assert [int(number) for number, _, _ in rows] == list(range(1, 12))
    for number, room, name in rows:
        [page] = (nbs / room).glob(f'[0-9][0-9]_{name}.ipynb')
        prose = '\n'.join(source(cell) for cell in cells(page, 'markdown'))
        assert '$$' in prose, page.name
        assert re.search(rf'Eq\.? ?\(?{number}\b|Equation {number}\b|\({number}\)', prose), (
            page.name
        )
