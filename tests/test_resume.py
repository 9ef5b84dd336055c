"A run that is killed at a random moment and started again ends with the weights of an uninterrupted one."

import random, signal, subprocess, sys, time
import pytest, torch
from geomrecon.learn.checkpoint import load_checkpoint

SCRIPT = '''
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.learn.presets import get_preset
from geomrecon.use.task import Task
from geomrecon.core.skeleton import MOUSE4
p = get_preset('tiny', size=48, width=.25, deconv_width=32, bs=4, adapt_bs=4, adapt_bs_target=3, warp_width=8, gen_width=8, gen_res=1, steps=6, epochs=3, adapt_epochs=6, rec_start=1., rec_attach=2., decay=.9)
src, val = PuppetImages(MOUSE4, 500, 48, 'synthetic', seed=0), PuppetImages(MOUSE4, 8, 48, 'synthetic', seed=1)
task = Task(sys.argv[1], src, val, PuppetVideos(MOUSE4, 2, 24, 48, 'real', seed=0).frames(), p, seed=5, device='cpu')
print('ready', flush=True)
l, _ = task.pretrain(bar=False); task.adapt(l.model.pose, bar=False)
print('done', flush=True)
'''

WHOLE = (
    SCRIPT.replace(
        "decay=.9",
        "decay=.9, style_widths=(4, 8), style_encoder_epochs=4, style_epochs=4, style_bs=4, align_epochs=4, integrate=3.",
    )
    .replace('epochs=3, adapt', 'epochs=1, adapt')
    .replace('epochs=6', 'epochs=2')
)
WHOLE = WHOLE.replace("device='cpu'", "device='cpu', quality=None").replace(
    'task.pretrain(bar=False); task',
    'task.align(task.pretrain(bar=False)[0].model.pose, bar=False); task',
)


def start(out, script=SCRIPT):
    return subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', script, str(out)], stdout=subprocess.PIPE, text=True
    )


def finish(out, script=SCRIPT):
    t = time.time()
    p = start(out, script)
    assert p.stdout.readline().strip() == 'ready'
    t0 = time.time()
    assert p.communicate(timeout=600)[0].strip() == 'done' and p.returncode == 0
    return time.time() - t0


@pytest.mark.parametrize('seed', [0, 1])
def test_killed_and_resumed(tmp_path, seed):
    seconds = finish(tmp_path / 'whole')
    rng, kills = random.Random(seed), 0
    for _ in range(2):
        p = start(tmp_path / 'killed')
        p.stdout.readline()
        try:
            p.wait(timeout=seconds * rng.uniform(0.2, 0.8))
        except subprocess.TimeoutExpired:
            p.send_signal(signal.SIGKILL)
            kills += 1
        p.wait()
    assert kills, 'nothing was killed: the test shows nothing'
    finish(tmp_path / 'killed')
    same(tmp_path, ('source.ckpt', 'pseudo_rec.ckpt'))


def same(tmp_path, names):
    "Both runs ended with the same weights, moving averages and losses"
    for name in names:
        a, b = (load_checkpoint(tmp_path / d / name) for d in ('whole', 'killed'))
        assert a['epoch'] == b['epoch'] == a['n_epoch']
        for k in a['model']:
            assert torch.equal(a['model'][k], b['model'][k]), k
        for k, v in (a['terms'].get('pseudo') or {}).items():
            assert torch.equal(v, b['terms']['pseudo'][k]), k
        assert a['history'] == b['history']


@pytest.mark.parametrize(
    'stages', [('style_encoder.ckpt', 'aligned.ckpt'), ('style.ckpt', 'pseudo_rec.ckpt')]
)
def test_style_and_alignment_killed_and_resumed(tmp_path, stages):
    "Each run is killed inside a stage, after that stage's first checkpoint"
    finish(tmp_path / 'whole', WHOLE)
    out = tmp_path / 'killed'
    inside = 0
    for name in stages:
        p = start(out, WHOLE)
        p.stdout.readline()
        t = time.time()
        while not (out / name).exists() and p.poll() is None and time.time() - t < 300:
            time.sleep(0.01)
        p.send_signal(signal.SIGKILL)
        p.wait()
        st = load_checkpoint(out / name)
        inside += st['epoch'] < st['n_epoch']
    assert inside, 'nothing was killed inside a stage: the test shows nothing'
    finish(out, WHOLE)
    same(
        tmp_path,
        ('source.ckpt', 'style_encoder.ckpt', 'style.ckpt', 'aligned.ckpt', 'pseudo_rec.ckpt'),
    )
    for name in ('style_net.pth', 'style_stats.pth'):
        a, b = (torch.load(tmp_path / d / name, weights_only=True) for d in ('whole', 'killed'))
        flat = lambda d: [
            v for k in sorted(d) for v in (flat(d[k]) if isinstance(d[k], dict) else [d[k]])
        ]
        assert all(
            torch.equal(x, y) if torch.is_tensor(x) else x == y
            for x, y in zip(flat(a), flat(b), strict=True)
        )
