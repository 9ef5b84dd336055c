"""The command answers quickly where nothing is computed, and says nothing that is not its own."""

import os
import signal
import subprocess
import sys
import time
import pytest
from geomrecon.core.errors import GeomReconError
from geomrecon.use import cli, commands

# what takes seconds to import
HEAVY = ('torch', 'fastai', 'cv2', 'pandas', 'matplotlib', 'av')

PROGRAM = """
import sys
from geomrecon.use.cli import main
try:
    main({words!r})
except SystemExit as end:
    print('status', end.code)
print('imported', [name for name in {heavy!r} if name in sys.modules])
"""


def run_python(*arguments):
    "A fresh interpreter, as a shell starts one"
    environment = dict(os.environ)
    environment.pop('PYTHONWARNINGS', None)
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize(
    'words, status',
    [
        (['--help'], 0),
        (['--version'], 0),
        (['adapt', '--help'], 0),
        (['predict', '--help'], 0),
        (['adpt'], 2),
        (['adapt', '--taget', 'x'], 2),
        (['adapt'], 2),
        ([], 2),
    ],
)
def test_answers_without_importing_torch(words, status):
    done = run_python('-c', PROGRAM.format(words=words, heavy=HEAVY))
    assert done.returncode == 0, done.stderr
    assert f'status {status}' in done.stdout
    assert 'imported []' in done.stdout
    assert 'Warning' not in done.stderr


@pytest.mark.parametrize(
    'words, meant',
    [
        (['adpt'], 'nearest: adapt'),
        (['adapt', '--taget', 'x.mp4'], 'nearest: --target'),
        (['adapt', '--no-vido'], 'nearest: --no-video'),
        (['data', '--bra'], ''),
    ],
)
def test_a_typo_names_what_is_near(words, meant):
    done = run_python('-m', 'geomrecon.use.cli', *words)
    assert done.returncode == 2
    assert meant in done.stderr
    assert 'Traceback' not in done.stderr


def test_a_reader_that_goes_away_is_no_error_and_nothing_foreign_is_said():
    program = f'{sys.executable} -m geomrecon.use.cli presets tiny | head -1'
    done = subprocess.run(program, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.strip()
    # no traceback, and no warning of a library
    assert done.stderr == ''


def test_ctrl_c_while_modules_load_is_one_line(tmp_path):
    program = (
        'import os, signal, sys\n'
        'from geomrecon.use import cli\n'
        'class StopAt:\n'
        '    def find_spec(self, name, *rest):\n'
        '        if name == "geomrecon.core.canvas":\n'
        '            os.kill(os.getpid(), signal.SIGINT)\n'
        'sys.meta_path.insert(0, StopAt())\n'
        f"sys.exit(cli.main(['demo', '--out', {str(tmp_path / 'run')!r}]))\n"
    )
    done = run_python('-c', program)
    assert done.returncode == 130, done.stderr
    assert 'the same command goes on where it was' in done.stderr
    assert 'Traceback' not in done.stderr
    assert not (tmp_path / 'run').exists()


@pytest.fixture
def keyboard():
    "The handler that Python has for Ctrl-C, whatever runs the tests"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize('error', [ValueError, GeomReconError])
def test_ctrl_c_that_compiled_code_swallowed_is_one_line(error, keyboard, monkeypatch, capsys):
    # matplotlib answers a Ctrl-C inside an array's conversion by 'Invalid affine transformation matrix'
    def presets(name=None):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt:
            pass
        raise error('where', 'found', 'expected')

    monkeypatch.setattr(commands, 'presets', presets)
    assert cli.main(['presets']) == 130
    said = capsys.readouterr().err
    assert said.strip().splitlines() == [
        'geomrecon: stopped; the same command goes on where it was'
    ]


def test_an_error_without_ctrl_c_is_told(keyboard, monkeypatch):
    def presets(name=None):
        raise ValueError('a fault of ours')

    monkeypatch.setattr(commands, 'presets', presets)
    with pytest.raises(ValueError, match='a fault of ours'):
        cli.main(['presets'])
