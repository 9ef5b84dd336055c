"How notebooks are made."

import re

from execnb.nbio import read_nb
from fixtures_project import cells, each_notebook, is_exported, source
from nbdev import processors

SHOWS = re.compile(r'^(print|plt\.show|show_\w+)\(', re.M)
MAY_BE_SILENT = re.compile(r'#\s*\|\s*(hide|eval: *false|notest)')


@each_notebook
def test_opens_with_title_and_sentence(nb):
    first = cells(nb)[0]
    assert first['cell_type'] == 'markdown'
    assert re.match(r'# \S.*\n+> \S.*', source(first))


@each_notebook
def test_is_committed_executed(nb):
    code = cells(nb, 'code')
    assert len(code) <= 3 or any(cell['outputs'] for cell in code)


@each_notebook
def test_is_committed_without_errors(nb):
    for cell in cells(nb, 'code'):
        kinds = [output['output_type'] for output in cell['outputs']]
        assert 'error' not in kinds, source(cell)


@each_notebook
def test_what_shows_something_holds_it(nb):
    for cell in cells(nb, 'code'):
        text = source(cell)
        if SHOWS.search(text) and not MAY_BE_SILENT.search(text):
            assert cell['outputs'], text


@each_notebook
def test_definitions_are_used_nearby(nb):
    "Public definitions have an example or a test within four cells"
    every = cells(nb)
    defining, far = [], []
    for place, cell in enumerate(every):
        if is_exported(cell) and re.search(r'^(def|class) [^_]', source(cell), re.M):
            defining.append(place)
            near = every[place + 1 : place + 5]
            if all(other['cell_type'] != 'code' or is_exported(other) for other in near):
                far.append(place)
    assert len(far) <= 0.3 * len(defining), far
