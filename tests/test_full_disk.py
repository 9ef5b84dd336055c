"""A full disk, or a folder that may not be written to, at any write of any command: one line that names the file and what
to do, the last good state whole, and the same command goes on from it."""

import ast
import contextlib
import io
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path
import cv2
import numpy as np
import pytest
import geomrecon
from geomrecon.core import files
from geomrecon.core.errors import WriteError
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data import crop_store, video_crops
from geomrecon.readers import pose_files
from geomrecon.readers.label_h5 import write_dlc_h5
from geomrecon.use import cli
from fixtures_interrupted import assert_same_content, folder_contents, mouse_video, small_runs  # noqa: F401

resource = pytest.importorskip('resource', reason='no limits of file sizes on this system')


class FullDisk:
    "From some write on the system lets no file grow, as on a full disk"

    reason = 'File too large'

    def __init__(self, monkeypatch):
        self.begin(None)
        self.soft, self.hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python has it, whatever ran before
        real_writing = files.writing

        def writing(path):
            self.enter(Path(path))
            return real_writing(path)

        for module in (files, crop_store, video_crops, pose_files):
            monkeypatch.setattr(module, 'writing', writing)

    def begin(self, known):
        "Refuse the first write that is not among these; None: every write is fine"
        self.known = known
        self.refused = None
        self.writes = Counter()

    def enter(self, path):
        if self.known is None or self.refused or not path.suffix:
            return
        self.writes[path.name] += 1
        this = path.name, min(self.writes[path.name], 2)
        if this not in self.known:
            self.refused = this
            self.refuse(path)

    def refuse(self, path):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, self.hard))

    def end(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.soft, self.hard))


class ClosedFolder(FullDisk):
    "From some write on its folder is someone else's"

    reason = 'Permission denied'
    folder = None

    def refuse(self, path):
        self.folder = path.parent
        self.folder.chmod(0o555)
        if os.geteuid() == 0:  # root may write anywhere
            os.seteuid(65534)

    def end(self):
        if self.folder is None:
            return
        if os.getuid() == 0:
            os.seteuid(0)
        self.folder.chmod(0o755)
        self.folder = None


@pytest.fixture
def full_disk(monkeypatch, small_runs):
    disk = FullDisk(monkeypatch)
    yield disk
    disk.end()


@pytest.fixture
def closed_folder(monkeypatch, small_runs, tmp_path):
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)  # so that whoever is not root sees at least what is there
    closed = ClosedFolder(monkeypatch)
    yield closed
    closed.end()


def said(command):
    "Exit status of a command, and what it wrote to stderr; it prints into memory"
    err = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        status = command()
    return status, err.getvalue()


def only_line(text):
    "The one line that a command says of its error"
    said = [line for line in text.splitlines() if line.startswith('geomrecon: ')]
    lines = [line for line in said if not line.startswith('geomrecon: warning: ')]
    assert len(lines) == 1, text
    assert 'Traceback' not in text
    return lines[0]


def contents_of(folder):
    "Bytes of the finished files"
    found = {}
    for path in folder.rglob('*.*'):
        if path.is_file() and path.suffix != '.part':
            found[path] = path.read_bytes()
    return found


def refuse_every_write_once(command, folder, disk):
    "Start again after each write that failed, to the end; returns the writes"
    known = []
    while True:
        before = contents_of(folder)
        disk.begin(known)
        status, text = said(command)
        disk.end()
        if disk.refused is None:
            assert status == 0, text
            return known
        assert status == 2, text
        name, nth = disk.refused
        line = only_line(text)
        assert 'WriteError' in line
        assert name in line
        assert disk.reason in line
        assert 'goes on from it' in line
        after = contents_of(folder)
        assert before.keys() <= after.keys(), 'something that was there is gone'
        assert not [path for path in after if '.tmp' in path.name], 'an unfinished file is left'
        for path in after:
            if path.name == name and nth == 1:
                assert after[path] == before.get(path), 'the last good state has changed'
        known.append(disk.refused)


def test_demo_at_every_write(tmp_path, full_disk):
    def demo(name):
        size = ['--skeleton', 'mouse', '--preset', 'mini']
        return cli.main(['demo', '--out', str(tmp_path / name), *size])

    assert said(lambda: demo('whole'))[0] == 0
    refused = refuse_every_write_once(lambda: demo('full'), tmp_path / 'full', full_disk)
    written = {path.name for path in (tmp_path / 'whole').rglob('*') if path.is_file()}
    assert {name for name, _ in refused} == written
    # also the second checkpoint of a phase, when the first one is there
    assert ('source.ckpt', 2) in refused
    assert ('pseudo_rec.ckpt', 2) in refused
    assert_same_content(folder_contents(tmp_path / 'whole'), folder_contents(tmp_path / 'full'))


def adapt_to(video, out):
    size = ['--preset', 'mini-2d', '--pool', '130', '--crop', 'whole', '--no-ladder']
    target = ['--skeleton', 'mouse', '--target', str(video)]
    return cli.main(['adapt', '--out', str(out), *target, *size])


def predict_with(run, source, out):
    return cli.main(['predict', '--model', str(run), '--input', str(source), '--out', str(out)])


@pytest.mark.parametrize('mechanism', ['full_disk', 'closed_folder'])
def test_adapt_and_predict_at_every_write(tmp_path, mechanism, request):
    disk = request.getfixturevalue(mechanism)
    video = mouse_video(tmp_path / 'mouse.mp4')
    whole, full = tmp_path / 'whole', tmp_path / 'full'
    assert said(lambda: adapt_to(video, whole))[0] == 0
    refused = refuse_every_write_once(lambda: adapt_to(video, full), full, disk)
    names = {name for name, _ in refused}
    assert {'preset.yaml', 'source_randomised_0.pt', 'model.pth', 'report.html'} < names
    assert {'predictions.csv', 'predictions.json', 'labelled.mp4', 'before_after.mp4'} < names
    assert_same_content(folder_contents(whole), folder_contents(full))

    pictures = tmp_path / 'pictures'
    pictures.mkdir()
    for i in range(2):
        noise = np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8)
        assert cv2.imwrite(str(pictures / f'{i}.png'), noise)
    for source, drawn in ((video, 'mouse_pose.mp4'), (pictures, '1_pose.png')):
        out = tmp_path / f'of_{source.stem}'
        refused = refuse_every_write_once(lambda: predict_with(whole, source, out), out, disk)
        names = {name for name, _ in refused}
        assert {'predictions.csv', 'predictions.json', drawn} <= names


def test_a_folder_that_cannot_be_made(tmp_path, closed_folder):
    out = tmp_path / 'closed' / 'run'
    out.parent.mkdir()
    closed_folder.refuse(out)
    command = ['demo', '--out', str(out), '--skeleton', 'mouse', '--preset', 'mini']
    status, text = said(lambda: cli.main(command))
    assert status == 2
    line = only_line(text)
    assert f'{out}' in line
    assert 'Permission denied' in line
    assert 'a folder that may be written to' in line


def test_a_disk_without_space(tmp_path, small_runs, monkeypatch):
    "A real one: too small for the checkpoints, then made larger"
    disk = tmp_path / 'disk'
    disk.mkdir()
    mount_or_skip(3, disk)
    try:

        def demo():
            size = ['--skeleton', 'mouse', '--preset', 'mini-2d', '--cache', str(tmp_path / 'c')]
            return cli.main(['demo', '--out', str(disk / 'run'), *size])

        # a disk that is plainly too small is seen before anything is written
        status, text = said(demo)
        assert status == 2
        assert 'GB free on the disk' in only_line(text)
        assert not list(disk.iterdir())
        # one that fills on the way
        monkeypatch.setattr('geomrecon.use.demo.check_room', lambda *args: None)
        status, text = said(demo)
        assert status == 2
        assert 'cannot be written: No space left on device' in only_line(text)
        assert 'free space on that disk' in text
        assert not [path for path in disk.rglob('*') if '.tmp' in path.name]
        subprocess.run(['mount', '-o', 'remount,size=100m', str(disk)], check=True)
        assert said(demo)[0] == 0
    finally:
        subprocess.run(['umount', str(disk)], check=True)


def mount_or_skip(megabytes, folder):
    "A disk of this size in memory"
    command = ['mount', '-t', 'tmpfs', '-o', f'size={megabytes}m', 'tmpfs', str(folder)]
    with contextlib.suppress(OSError):
        if subprocess.run(command, capture_output=True).returncode == 0:
            return
    pytest.skip('a small disk can only be mounted by root')


def test_crops_and_tables_of_labels(tmp_path, full_disk):
    "What the commands above do not write"
    full_disk.begin([])
    keypoints = np.zeros((40, MOUSE4.n_joints, 2))
    with pytest.raises(WriteError, match='labels.h5: cannot be written: File too large'):
        write_dlc_h5(tmp_path / 'labels.h5', keypoints, None, MOUSE4)
    full_disk.end()
    full_disk.begin([])
    with pytest.raises(WriteError, match='crops.bin: cannot be written'):
        with crop_store.write_crops(tmp_path / 'crops.bin', 48) as (file, _):
            file.write(bytes(10**6))
    full_disk.end()
    assert not [path for path in tmp_path.iterdir() if path.suffix in ('.h5', '.bin')]


#: Calls that write
WRITES = {
    'write_text',
    'write_bytes',
    'imwrite',
    'to_csv',
    'to_hdf',
    'savez',
    'savez_compressed',
    'savefig',
    'memmap',
    'mkdir',
    'makedirs',
}
#: The same as part of a module
WRITES_OF = {'torch.save', 'np.save', 'json.dump', 'yaml.dump', 'pickle.dump'}
#: What turns errors of the system into a `WriteError`
GUARDS = {'atomic_path', 'writing', 'write_crops'}


def name_of(call):
    "'name' or 'module.name' of what is called"
    return ast.unparse(call.func)


def is_write(call):
    name = name_of(call)
    if name == 'open' or name.endswith('av.open'):
        return any(letter in mode_of(call) for letter in 'wax+')
    if name.endswith('memmap'):
        return 'r' not in [ast.unparse(each).strip('\'"') for each in call.args]
    in_memory = call.args and ast.unparse(call.args[0]) == 'drawn'
    return (name in WRITES_OF or name.split('.')[-1] in WRITES) and not in_memory


def mode_of(call):
    "Second argument, or mode="
    given = call.args[1:2] + [word.value for word in call.keywords if word.arg == 'mode']
    return ast.unparse(given[0]).strip('\'"') if given else 'r'


def unguarded_writes(tree, guarded=False):
    "Line numbers of writes that are in no block of a guard"
    found = []
    for node in ast.iter_child_nodes(tree):
        inside = guarded
        if isinstance(node, ast.With):
            calls = [each.context_expr for each in node.items]
            names = [name_of(call) for call in calls if isinstance(call, ast.Call)]
            inside = guarded or any(name.split('.')[-1] in GUARDS for name in names)
        is_bad = isinstance(node, ast.Call) and is_write(node) and not inside
        # it returns False, which nobody looks at
        if is_bad or (isinstance(node, ast.Call) and name_of(node).endswith('imwrite')):
            found.append(node.lineno)
        found += unguarded_writes(node, inside)
    return found


def test_every_write_of_the_package_is_guarded():
    root = Path(geomrecon.__file__).parent
    unguarded = []
    for path in sorted(root.rglob('*.py')):
        text = path.read_text(encoding='utf-8')
        lines = text.splitlines()
        for number in unguarded_writes(ast.parse(text)):
            unguarded.append(f'{path.relative_to(root)}: {lines[number - 1].strip()}')
    # the file opened by a function of `write_crops`, what callers of `encode_video` guard, and a
    # place where nothing is kept
    allowed = (
        'core/files.py',
        'data/crop_store.py: file = open',
        'data/crop_store.py: return open',
        "data/video.py: with av.open(str(path), 'w', format='mp4'",
    )
    rest = [line for line in unguarded if not line.startswith(allowed) and 'os.devnull' not in line]
    assert rest == []
