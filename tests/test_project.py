"The repository as a project: how notebooks are made, how modules depend on each other, what may not be committed."

import ast, importlib, importlib.util, json, os, pkgutil, re, shutil, subprocess, sys, warnings
from configparser import ConfigParser
from pathlib import Path
import pytest
import yaml

root = Path(__file__).resolve().parents[1]
ini = ConfigParser(delimiters=['='])
ini.read(root / 'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
lib = root / cfg['lib_path']
notebooks = sorted(
    p
    for p in (root / cfg['nbs_path']).rglob('*.ipynb')
    if not any(o[0] in '_.' for o in p.relative_to(root).parts)
)
modules = sorted(p for p in lib.rglob('*.py') if p.name not in ('__init__.py', '_modidx.py'))
each_nb = pytest.mark.parametrize(
    'nb', notebooks, ids=lambda p: p.relative_to(root / cfg['nbs_path']).as_posix()
)
each_mod = pytest.mark.parametrize('mod', modules, ids=lambda p: p.relative_to(lib).as_posix())


def cells(nb, kind=None):
    "The cells of the notebook file `nb`, of one kind if asked"
    return [
        c
        for c in json.loads(nb.read_text(encoding='utf-8'))['cells']
        if kind in (None, c['cell_type'])
    ]


def src(cell):
    return ''.join(cell['source'])


def exported(cell):
    return cell['cell_type'] == 'code' and re.search(r'^#\s*\|\s*exports?\b', src(cell), re.M)


def code_lines(s):
    return [l for l in s.split('\n') if l.strip() and not l.strip().startswith('#')]


def dotted(path):
    return '.'.join(path.relative_to(root).with_suffix('').parts)


def default_exp(nb):
    "The module that the notebook file `nb` exports to, if any"
    found = (re.search(r'^#\s*\|\s*default_exp\s+(\S+)', src(c), re.M) for c in cells(nb, 'code'))
    return next((m[1] for m in found if m), None)


def committed():
    "Files that git holds or would add; without git, all that are neither built nor installed here"
    try:
        out = subprocess.run(
            ['git', 'ls-files', '-co', '--exclude-standard', '-z'],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        skip = {'runs', 'build', 'dist', '_docs', '_proc', '__pycache__'}
        rel = (p.relative_to(root) for p in root.rglob('*') if p.is_file())
        return [
            root / p
            for p in rel
            if not skip & set(p.parts)
            and not re.match(r'\.(venv|git|pytest_cache|ipynb_checkpoints)$', p.parts[0])
        ]
    return [p for p in map(root.joinpath, out.split('\0')[:-1]) if p.is_file()]


def words(path):
    "A file's text; of a notebook, without the bytes of its pictures; empty for what is not text"
    try:
        s = path.read_text(encoding='utf-8')
    except UnicodeDecodeError:
        return ''
    return (
        re.sub(r'"image/(?!svg)[\w.+-]+":\s*(\[[^\]]*\]|"[^"]*")', '', s)
        if path.suffix == '.ipynb'
        else s
    )


# Notebooks


@each_nb
def test_notebook_opens_with_title_and_sentence(nb):
    first = src(cells(nb)[0])
    assert cells(nb)[0]['cell_type'] == 'markdown' and re.match(r'# \S.*\n+> \S.*', first), (
        f'the first cell must be "# Title", blank, "> one sentence"; found:\n{first[:200]}'
    )


@each_nb
def test_notebook_is_committed_executed(nb):
    code = cells(nb, 'code')
    executed = len(code) <= 3 or any(c['outputs'] for c in code)
    assert executed, 'no cell has an output: execute the notebook before committing it'
    bad = [
        o.get('ename')
        for c in code
        for o in c['outputs']
        if o['output_type'] == 'error' and 'raises' not in src(c)
    ]
    assert not bad, f'committed with an error in its outputs: {bad}'
    empty = [
        i
        for i, c in enumerate(cells(nb))
        if c['cell_type'] == 'code'
        and not c['outputs']
        and re.search(r'^(print|plt\.show|show_\w+)\(', src(c), re.M)
        and not re.search(r'#\s*\|\s*(hide|eval: *false|notest)', src(c))
    ]
    assert not empty, f'cells that show something but hold no output: {empty}'


@each_nb
def test_definitions_are_used_nearby(nb):
    cs = cells(nb)
    defs = [
        i for i, c in enumerate(cs) if exported(c) and re.search(r'^(def|class) [^_]', src(c), re.M)
    ]
    far = [
        i
        for i in defs
        if not any(c['cell_type'] == 'code' and not exported(c) for c in cs[i + 1 : i + 5])
    ]
    assert len(far) <= 0.3 * len(defs), (
        f'{len(far)} of {len(defs)} definitions have no example or test within four cells: {far}'
    )


@each_nb
def test_documentation_can_be_built(nb):
    "nbdev runs every cell that imports something, and no other, before it documents a notebook: such a cell must not use what others define"
    processors = pytest.importorskip(
        'nbdev.processors', reason='nbdev comes with the development extra'
    )
    from execnb.nbio import read_nb

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        processors.FilterDefaults()(read_nb(nb))


# Modules


def test_modules_are_those_the_notebooks_export():
    assert {f"{cfg['lib_name']}.{m}" for m in map(default_exp, notebooks) if m} == {
        dotted(p) for p in modules
    }


@each_mod
def test_module_imports(mod):
    assert importlib.import_module(dotted(mod)).__doc__, (
        'no module docstring: the notebook lacks its "> sentence"'
    )


def test_packages_are_importable():
    found = {m.name for m in pkgutil.walk_packages([str(lib)], f"{cfg['lib_name']}.")} - {
        f"{cfg['lib_name']}._modidx"
    }
    missing = {dotted(p) for p in modules} - found
    assert not missing, f'in folders without an __init__.py: {missing}'


@each_mod
def test_module_is_written_for_the_oldest_python(mod):
    ast.parse(
        mod.read_text(encoding='utf-8'),
        feature_version=tuple(map(int, cfg['min_python'].split('.'))),
    )


@each_mod
def test_docstrings_are_one_line(mod):
    nodes = ast.walk(ast.parse(mod.read_text(encoding='utf-8')))
    long = [
        n.name
        for n in nodes
        if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and '\n' in (ast.get_docstring(n) or '')
    ]
    assert not long, f'docstrings of more than one line: {long}'


def imported(mod):
    "Names of the package's own modules that the module file `mod` imports, relative imports resolved"
    here, names = dotted(mod).split('.'), set()
    for n in ast.walk(ast.parse(mod.read_text(encoding='utf-8'))):
        if isinstance(n, ast.Import):
            names |= {a.name for a in n.names}
        elif isinstance(n, ast.ImportFrom):
            base = '.'.join(
                (here[: -n.level] if n.level else []) + ([n.module] if n.module else [])
            )
            names |= {base} | {f'{base}.{a.name}' for a in n.names}
    return names & {dotted(p) for p in modules}


@each_mod
def test_imports_point_to_earlier_notebooks_only(mod):
    exported_modules = [default_exp(nb) for nb in in_order()]
    order = [f"{cfg['lib_name']}.{name}" for name in exported_modules if name]
    place = order.index(dotted(mod))
    later = imported(mod) - set(order[:place])
    assert not later, f'imports from its own or later notebooks: {later}'


# The house


def rooms():
    "The one list of rooms"
    return yaml.safe_load((root / 'nbs' / 'rooms.yml').read_text(encoding='utf-8'))


def in_order():
    "All notebooks of the rooms, in the order in which they may import"
    names = [room['room'] for room in rooms()]
    of_rooms = [nb for nb in notebooks if nb.parent.name in names]
    return sorted(of_rooms, key=lambda nb: (names.index(nb.parent.name), nb.name))


def test_rooms_are_the_folders_and_the_packages():
    listed = [room['room'] for room in rooms()]
    folders = {nb.parent.name for nb in notebooks if nb.parent != root / 'nbs'}
    packages = {module.parent.name for module in modules}
    assert set(listed) == folders
    assert set(listed) - {'tutorials'} == packages


@each_nb
def test_a_notebook_exports_to_the_module_of_its_name(nb):
    name = default_exp(nb)
    if name is not None:
        number, _, rest = nb.stem.partition('_')
        assert name == f'{nb.parent.name}.{rest}' or name == 'paper.__main__'


def test_numbers_do_not_collide():
    for room in rooms():
        numbers = [nb.name[:2] for nb in sorted((root / 'nbs' / room['room']).glob('*.ipynb'))]
        assert numbers == [f'{number:02}' for number in range(len(numbers))]


def test_sidebar_and_table_are_made_from_the_list():
    spec = importlib.util.spec_from_file_location('rooms', root / '.ci' / 'rooms.py')
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert (root / 'nbs' / 'sidebar.yml').read_text(encoding='utf-8') == made.sidebar()
    assert made.table() in (root / 'CONTRIBUTING.md').read_text(encoding='utf-8')


def test_sidebar_begins_with_the_front_page_and_the_tutorials():
    sidebar = yaml.safe_load((root / 'nbs' / 'sidebar.yml').read_text(encoding='utf-8'))
    contents = sidebar['website']['sidebar']['contents']
    assert contents[0] == 'index.ipynb'
    assert contents[1]['section'] == 'Tutorials'


def test_nothing_imports_the_wing_for_the_paper():
    outside = [mod for mod in modules if mod.parent.name != 'paper']
    users = [dotted(mod) for mod in outside if any('.paper.' in name for name in imported(mod))]
    assert not users


def test_the_wing_is_not_in_the_wheel():
    assert "exclude=['geomrecon.paper', 'geomrecon.paper.*']" in (root / 'setup.py').read_text()


# The front page


def readme():
    return (root / 'README.md').read_text(encoding='utf-8')


def test_readme_is_short():
    assert len(re.sub(r'<!--.*?-->', '', readme()).split()) <= 900


def test_readme_begins_with_a_picture():
    before = readme().split('![')[0]
    assert len(re.sub(r'<!--.*?-->', '', before).split()) < 40


def test_links_of_the_readme_lead_somewhere():
    targets = re.findall(r'\]\(([^)#]+)\)', readme())
    missing = [path for path in targets if not path.startswith('http') and not (root / path).exists()]
    assert not missing


def test_code_of_the_readme_runs_from_the_root(tmp_path):
    code = '\n'.join(re.findall(r'^```python\n(.*?)^```', readme(), re.M | re.S))
    script = tmp_path / 'readme.py'
    script.write_text(code, encoding='utf-8')
    environment = dict(os.environ, PYTHONPATH=str(root), MPLBACKEND='agg')
    command = [sys.executable, str(script)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


# The documentation


def test_all_notebooks_become_pages(tmp_path):
    "As nbdev processes them before it calls quarto"
    copy = tmp_path / 'copy'
    ignored = shutil.ignore_patterns('.git', '.venv', 'runs', '_proc', '_docs', 'results')
    shutil.copytree(root, copy, ignore=ignored)
    environment = dict(os.environ, PYTHONPATH=str(copy))
    command = [sys.executable, '.ci/process_docs.py']
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    made = sorted(page.relative_to(copy / '_proc') for page in (copy / '_proc').rglob('*.ipynb'))
    assert len(made) == len(notebooks)


# What is committed


def test_no_paths_of_one_machine():
    places = (
        '|'.join(f'/{d}/' for d in ('work', 'root', 'farm'))
        + r'|(?<![\w.\]}])/(?:home|Users)/'
        + '|/opt/'
        + '(?:pypi|wheels)'
    )
    bad = {
        p.relative_to(root).as_posix(): m[0]
        for p in committed()
        if (m := re.search(places, words(p)))
    }
    assert not bad, f'paths of one machine: {bad}'


def test_no_registry_hosts():
    hosts = '|'.join(
        [
            'pypi\\.' + 'org',
            'pythonhosted\\.' + 'org',
            'download\\.pytorch\\.' + 'org',
            '--(?:extra-)?index-' + 'url',
        ]
    )
    bad = {
        p.relative_to(root).as_posix(): m[0]
        for p in committed()
        if (m := re.search(hosts, words(p)))
    }
    assert not bad, f'package registries are named by pip\'s own settings, not here: {bad}'


def test_version_is_stated_once():
    version = cfg['version']
    assert importlib.import_module(cfg['lib_name']).__version__ == version
    allowed = {root / 'settings.ini', lib / '__init__.py', root / 'CHANGELOG.md'}
    found = {
        p.relative_to(root).as_posix()
        for p in committed()
        if p not in allowed
        and p.suffix in ('.py', '.toml', '.cfg', '.ini', '.yml', '.yaml', '.in', '.md', '.ipynb')
        and re.search(rf'(?<![\d.]){re.escape(version)}(?![\d.]*\d)', words(p))
    }
    assert not found, f'the version belongs in settings.ini only: {found}'
    assert f'## {version}' in (root / 'CHANGELOG.md').read_text(encoding='utf-8'), (
        f'CHANGELOG.md has no section for {version}'
    )


def test_runtime_requirements_do_not_cap_fastai():
    capped = [
        r
        for r in cfg['requirements'].split()
        if re.match(r'(fastai|fastcore)\b', r) and re.search(r'[<~]|==', r)
    ]
    assert not capped, f'the development extra may cap these, a user\'s environment not: {capped}'


def test_files_are_of_a_size_to_clone():
    big = {
        p.relative_to(root).as_posix(): f'{p.stat().st_size / 1e6:.1f} MB'
        for p in committed()
        if p.stat().st_size > 1_500_000
    }
    assert not big, f'large files: {big}'


# The paper


def test_every_equation_has_its_place():
    "The table of the documentation names a notebook for each equation (1) to (11), and that notebook prints it"
    table = root / 'nbs' / 'tutorials' / '07_where_in_the_paper.ipynb'
    text = '\n'.join(src(cell) for cell in cells(table))
    rows = re.findall(r'^\| Eq\. (\d+) \| `(\w+)/(\w+)`', text, re.M)
    assert [int(number) for number, _, _ in rows] == list(range(1, 12))
    for number, room, name in rows:
        [page] = (root / 'nbs' / room).glob(f'[0-9][0-9]_{name}.ipynb')
        prose = '\n'.join(src(cell) for cell in cells(page, 'markdown'))
        assert '$$' in prose, f'{page.name} prints no equation'
        assert re.search(rf'Eq\.? ?\(?{number}\b|Equation {number}\b|\({number}\)', prose), (
            f'{page.name} does not name Eq. {number}'
        )
