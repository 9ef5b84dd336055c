"A run that is killed at a random moment and started again ends with the same weights."

import random
import signal
import subprocess
import sys
import time
import pytest
import torch
from geomrecon.learn.checkpoint import load_checkpoint
from fixtures_interrupted import assert_same_content

#: A run in a process of its own: `python -c SCRIPT folder`
SCRIPT = '''
import sys
report, sys.stdout = sys.stdout, sys.stderr  # bars are shown, but not on the pipe
import torch
from geomrecon.core.skeleton import MOUSE4
from geomrecon.learn.presets import get_preset
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.use.task import Task

torch.set_num_threads(1)
preset = get_preset(
    'tiny', size=48, width=.25, deconv_width=32, bs=4, adapt_bs=4, adapt_bs_target=3,
    warp_width=8, gen_width=8, gen_res=1, steps=6, rec_start=1., rec_attach=2., decay=.9,
    {preset})
task = Task(
    sys.argv[1],
    PuppetImages(MOUSE4, 500, 48, 'synthetic', seed=0),
    PuppetImages(MOUSE4, 8, 48, 'synthetic', seed=1),
    PuppetVideos(MOUSE4, 2, 24, 48, 'real', seed=0).frames(),
    preset, seed=5, device='cpu', quality=None)
print('ready', flush=True, file=report)
learn, _ = task.pretrain(bar=True)
{align}
task.adapt(learn.model.pose, bar=True)
print('done', flush=True, file=report)
'''
ADAPTED = SCRIPT.format(preset='epochs=3, adapt_epochs=6', align='')
WHOLE = SCRIPT.format(
    preset='epochs=1, adapt_epochs=2, style_widths=(4, 8), style_encoder_epochs=4, '
    'style_epochs=4, style_bs=4, align_epochs=4, integrate=3.',
    align='learn, _ = task.align(learn.model.pose, bar=True)',
)


def start(out, script):
    "A run that is ready to train"
    command = [sys.executable, '-W', 'ignore', '-c', script, str(out)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout.readline().strip() == 'ready'
    return process


def finish(out, script):
    "Let a run come to its end; returns its seconds"
    process = start(out, script)
    started = time.time()
    assert process.communicate(timeout=600)[0].strip() == 'done'
    assert process.returncode == 0
    return time.time() - started


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "Folder and seconds of each run without a kill"
    folder = tmp_path_factory.mktemp('whole')
    runs = {}
    for name, script in (('adapted', ADAPTED), ('whole', WHOLE)):
        runs[script] = (folder / name, finish(folder / name, script))
    return runs


@pytest.mark.parametrize('seed', [0, 1])
def test_killed_and_resumed(whole, tmp_path, seed):
    expected, seconds = whole[ADAPTED]
    rng = random.Random(seed)
    n_killed = 0
    for _ in range(2):
        process = start(tmp_path / 'killed', ADAPTED)
        try:
            # early enough on a machine that has become faster meanwhile
            process.wait(timeout=seconds * rng.uniform(0.1, 0.4))
        except subprocess.TimeoutExpired:
            kill(process)
            n_killed += 1
    assert n_killed, 'nothing was killed: the test shows nothing'
    finish(tmp_path / 'killed', ADAPTED)
    assert_same_checkpoints(expected, tmp_path / 'killed', ('source.ckpt', 'pseudo_rec.ckpt'))


def assert_same_checkpoints(expected, out, names):
    "Both runs ended with the same weights, moving averages and losses"
    for name in names:
        whole = load_checkpoint(expected / name)
        killed = load_checkpoint(out / name)
        assert whole['epoch'] == whole['n_epoch']
        assert killed['epoch'] == whole['epoch']
        for key, weight in whole['model'].items():
            assert torch.equal(weight, killed['model'][key]), key
        for key, average in (whole['terms'].get('pseudo') or {}).items():
            assert torch.equal(average, killed['terms']['pseudo'][key]), key
        assert whole['history'] == killed['history']


def kill_after_first_checkpoint(path):
    "Kill the run as soon as the file exists; returns whether its phase was not finished then"
    process = start(path.parent, WHOLE)
    started = time.time()
    while not path.exists() and process.poll() is None and time.time() - started < 300:
        time.sleep(0.01)
    kill(process)
    state = load_checkpoint(path)
    return state['epoch'] < state['n_epoch']


@pytest.mark.parametrize(
    'killed_in', [('style_encoder.ckpt', 'aligned.ckpt'), ('style.ckpt', 'pseudo_rec.ckpt')]
)
def test_style_and_alignment_killed_and_resumed(whole, tmp_path, killed_in):
    "Each run is killed inside a phase, after that phase's first checkpoint"
    expected, _ = whole[WHOLE]
    out = tmp_path / 'killed'
    inside = [kill_after_first_checkpoint(out / name) for name in killed_in]
    assert any(inside), 'nothing was killed inside a phase: the test shows nothing'
    finish(out, WHOLE)
    phases = ('source', 'style_encoder', 'style', 'aligned', 'pseudo_rec')
    assert_same_checkpoints(expected, out, [f'{phase}.ckpt' for phase in phases])
    for name in ('style_net.pth', 'style_stats.pth'):
        kept = torch.load(expected / name, weights_only=True)
        killed = torch.load(out / name, weights_only=True)
        assert_same_content(kept, killed)
