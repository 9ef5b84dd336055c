"Two processes (Gloo, CPU) compute what one computes with the joint batch: loss, gradients, statistics, log; and go on where the other was stopped."
import os, subprocess, sys
from pathlib import Path
import pytest, torch
from geomrecon.learn.stages import load_checkpoint
import two_processes as two

@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    "Folder with what both processes saved"
    out = tmp_path_factory.mktemp('two')
    p = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2', two.__file__, str(out)],
                       capture_output=True, text=True, timeout=300, env=dict(os.environ, OMP_NUM_THREADS='1'))
    assert p.returncode == 0, p.stderr[-4000:]
    return out

@pytest.fixture(scope='module')
def alone(): return {k: two.one_step(k) for k in ('pretrain', 'adapt')}

def steps(ranks, kind): return [torch.load(ranks/f'steps{r}.pt')[kind] for r in (0, 1)]

@pytest.mark.parametrize('kind', ['pretrain', 'adapt'])
def test_shares_are_the_joint_batch(ranks, alone, kind):
    a, one = steps(ranks, kind), alone[kind]
    for k in ('x', 'y'):
        assert len(a[0][k]) == len(a[1][k]) == len(one[k])
        for i, joint in enumerate(one[k]):
            parts = [s[k][i] for s in a]; assert len(parts[0]) == len(parts[1]) == len(joint)//2
            if kind == 'pretrain': parts = [h for hs in zip(*(p.chunk(2) for p in parts)) for h in hs]  # images, then their other looks
            assert torch.equal(torch.cat(parts), joint)
    seen = [s['y'][1].sum().item() for s in a]
    assert seen[0] != seen[1], 'both processes see as many joints: the test would not notice local means'

@pytest.mark.parametrize('kind', ['pretrain', 'adapt'])
def test_gradients(ranks, alone, kind):
    a, one = steps(ranks, kind), alone[kind]
    assert one['grad'] and all(g is not None for g in one['grad'].values())
    for n, g in one['grad'].items():
        assert g.abs().max() > 0 or n.endswith('bias'), f'{n} gets no gradient'
        for s in a: torch.testing.assert_close(s['grad'][n], g, rtol=1e-5, atol=1e-5, msg=lambda m: f'{n}: {m}')
    assert abs(sum(s['loss'] for s in a)/2-one['loss']) < 1e-5*one['loss']

@pytest.mark.parametrize('kind', ['pretrain', 'adapt'])
def test_statistics_log_and_metrics(ranks, alone, kind):
    a, one = steps(ranks, kind), alone[kind]
    assert a[0]['keys'] == a[1]['keys'] == one['keys']
    for n, b in one['stats'].items():
        assert torch.equal(a[0]['stats'][n], a[1]['stats'][n])
        torch.testing.assert_close(a[0]['stats'][n], b, rtol=1e-5, atol=1e-5)
    want = {'pretrain': {'sup', 'depth', 'align'}, 'adapt': {'sup', 'depth', 'pseudo', 'pseudo_3d', 'labelled', 'M_2D', 'M_3D', 'rec'}}[kind]
    assert set(one['log']) == want and a[0]['log'] == a[1]['log']
    for t in want: assert a[0]['log'][t] == pytest.approx(one['log'][t], rel=1e-5), t
    assert a[0]['values'] == pytest.approx(a[1]['values']) == pytest.approx(one['values'], rel=1e-4)  # train and valid loss, PCK, terms
    if kind == 'adapt': assert 0 < one['log']['M_3D'][0] < 1 and 0 < one['log']['M_2D'][0] < 1

def test_processes_stay_alike_and_resume(ranks):
    a, b = (torch.load(ranks/f'stage{r}.pt') for r in (0, 1))
    assert a['world'] == b['world'] == 2
    for k, v in a['whole'].items():
        assert torch.equal(v, b['whole'][k]), f'{k} differs between the processes'
        assert torch.equal(v, a['again'][k]) and torch.equal(v, b['again'][k]), f'{k} differs after resuming'
    assert not torch.equal(a['draws'], b['draws']), 'both processes draw the same augmentation'
    assert a['values'] == b['values']

def test_one_process_goes_on(ranks, tmp_path):
    st = load_checkpoint(ranks/'left.ckpt'); assert st['epoch'] == 1 and not any(k.startswith('module.') for k in st['model'])
    learn = two.stage(ranks/'left.ckpt', resume=True, aug=two.STILL); done = load_checkpoint(ranks/'left.ckpt')
    assert done['epoch'] == 3 and len(done['history']['sup']) == 6
    whole = two.stage(tmp_path/'whole.ckpt', aug=two.STILL).loss_history.steps
    for t in ('sup', 'depth', 'pseudo', 'rec'): assert done['history'][t][:3] == pytest.approx(whole[t][:3], rel=1e-3), t
