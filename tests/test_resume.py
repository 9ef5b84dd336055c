"A run that is killed at a random moment and started again ends with the weights of an uninterrupted one."
import random, signal, subprocess, sys, time
import pytest, torch
from geomrecon.learn.stages import load_checkpoint

SCRIPT = '''
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from geomrecon.data.puppet import PuppetImages, PuppetVideos
from geomrecon.learn.learner import get_preset
from geomrecon.runs import Task
from geomrecon.skeleton import MOUSE4
p = get_preset('tiny', size=48, width=.25, deconv_width=32, bs=4, adapt_bs=4, adapt_bs_target=3, warp_width=8, gen_width=8, gen_res=1, steps=6, epochs=3, adapt_epochs=6, rec_start=1., rec_attach=2., decay=.9)
src, val = PuppetImages(MOUSE4, 500, 48, 'synthetic', seed=0), PuppetImages(MOUSE4, 8, 48, 'synthetic', seed=1)
task = Task(sys.argv[1], src, val, PuppetVideos(MOUSE4, 2, 24, 48, 'real', seed=0).frames(), p, seed=5, device='cpu')
print('ready', flush=True)
l, _ = task.pretrain(bar=False); task.adapt(l.model.pose, bar=False)
print('done', flush=True)
'''

def start(out): return subprocess.Popen([sys.executable, '-W', 'ignore', '-c', SCRIPT, str(out)], stdout=subprocess.PIPE, text=True)

def finish(out):
    t = time.time(); p = start(out)
    assert p.stdout.readline().strip() == 'ready'; t0 = time.time()
    assert p.communicate(timeout=600)[0].strip() == 'done' and p.returncode == 0
    return time.time()-t0

@pytest.mark.parametrize('seed', [0, 1])
def test_killed_and_resumed(tmp_path, seed):
    seconds = finish(tmp_path/'whole')
    rng, kills = random.Random(seed), 0
    for _ in range(2):
        p = start(tmp_path/'killed'); p.stdout.readline()
        try: p.wait(timeout=seconds*rng.uniform(.2, .8))
        except subprocess.TimeoutExpired: p.send_signal(signal.SIGKILL); kills += 1
        p.wait()
    assert kills, 'nothing was killed: the test shows nothing'
    finish(tmp_path/'killed')
    for name in ('source.ckpt', 'pseudo_rec.ckpt'):
        a, b = (load_checkpoint(tmp_path/d/name) for d in ('whole', 'killed'))
        assert a['epoch'] == b['epoch'] == a['n_epoch']
        for k in a['model']: assert torch.equal(a['model'][k], b['model'][k]), k
        for k, v in (a['terms'].get('pseudo') or {}).items(): assert torch.equal(v, b['terms']['pseudo'][k]), k
        assert a['history'] == b['history']
