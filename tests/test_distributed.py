"Two processes (Gloo, CPU) compute what one computes with the joint batch: loss, gradients, statistics, log; and one goes on where two were stopped."

import os, subprocess, sys
import pytest, torch
from geomrecon.learn.checkpoint import load_checkpoint
import two_processes as two

each = pytest.mark.parametrize(
    'case', two.CASES, ids=lambda c: f"{c[0]}-{'float64' if c[1] else 'float32'}"
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "What both processes saved"
    out = tmp_path_factory.mktemp('two')
    for kinks in (True, False):
        torch.save(two.trained(kinks), out / f'net_{kinks}.pt')
    p = subprocess.run(
        [
            sys.executable,
            '-m',
            'torch.distributed.run',
            '--standalone',
            '--nproc-per-node=2',
            two.__file__,
            str(out),
        ],
        capture_output=True,
        text=True,
        timeout=900,
        env=dict(os.environ, OMP_NUM_THREADS='1'),
    )
    assert p.returncode == 0, p.stderr[-4000:]
    return out


@pytest.fixture(scope='module')
def results(folder):
    "By case: of process 0, of process 1, of one process with the joint batch"
    a = [torch.load(folder / f'steps{r}.pt', weights_only=False) for r in (0, 1)]
    return {c: (a[0][c], a[1][c], two.one_step(folder, *c)) for c in two.CASES}


@each
def test_shares_are_the_joint_batch(results, case):
    a, b, one = results[case]
    for k in ('x', 'y'):
        assert len(a[k]) == len(b[k]) == len(one[k])
        for i, joint in enumerate(one[k]):
            parts = [s[k][i] for s in (a, b)]
            assert len(parts[0]) == len(parts[1]) == len(joint) // 2
            if case[0] == 'pretrain':
                parts = [
                    h for hs in zip(*(p.chunk(2) for p in parts)) for h in hs
                ]  # images, then their other looks
            assert torch.equal(torch.cat(parts), joint)
    assert a['y'][1].sum() != b['y'][1].sum(), (
        'both processes see as many joints: local means would go unnoticed'
    )


@each
def test_gradients(results, case):
    a, b, one = results[case]
    tol = 1e-10 if case[1] else 1e-5
    assert all(g is not None and g.abs().max() > 0 for n, g in one['grad'].items() if 'weight' in n)
    for n, g in one['grad'].items():
        for s in (a, b):
            torch.testing.assert_close(
                s['grad'][n], g, rtol=tol, atol=tol, msg=lambda m: f'{n}: {m}'
            )
    assert (a['loss'] + b['loss']) / 2 == pytest.approx(one['loss'], rel=tol)


@each
def test_statistics_log_and_metrics(results, case):
    a, b, one = results[case]
    assert a['keys'] == b['keys'] == one['keys']
    for n, v in one['stats'].items():
        assert torch.equal(a['stats'][n], b['stats'][n])
        torch.testing.assert_close(a['stats'][n], v, rtol=1e-5, atol=1e-5)
    want = dict(
        pretrain={'sup', 'depth', 'align'},
        adapt={'sup', 'depth', 'pseudo', 'pseudo_3d', 'labelled', 'M_2D', 'M_3D', 'rec'},
    )[case[0]]
    assert set(one['log']) == want and a['log'] == b['log']
    for t in want:
        assert a['log'][t] == pytest.approx(one['log'][t], rel=1e-5), t
    assert a['values'] == b['values'] and a['values'] == pytest.approx(
        one['values'], rel=1e-3
    )  # training and validation loss, PCK, terms
    if case[0] == 'adapt':
        assert 0 < one['log']['M_3D'][0] < 1 and 0 < one['log']['M_2D'][0] < 1


@pytest.mark.parametrize('name', two.METHODS)
def test_comparison_methods(folder, name):
    "Every comparison method: the gradients of the joint batch where its draws are the same, and the same weights in both processes afterwards"
    a, b = (torch.load(folder / f'methods{r}.pt', weights_only=False)[name] for r in (0, 1))
    for k, v in a['state'].items():
        assert torch.equal(v, b['state'][k]), f'{k} differs between the processes'
    assert a['log'] == b['log'] and all(max(map(abs, v)) > 0 for v in a['log'].values()), a['log']
    if name not in two.SAME_DRAWS:
        return
    one = two.method_step(folder, name)
    assert set(one['log']) == set(a['log'])
    assert any(g is not None and g.abs().max() > 0 for g in one['grad'].values())
    for n, g in one['grad'].items():
        for s in (a, b):
            if g is None:
                assert s['grad'][n] is None or not s['grad'][n].any(), n
            else:
                torch.testing.assert_close(
                    s['grad'][n], g, rtol=1e-4, atol=1e-5, msg=lambda m: f'{n}: {m}'
                )
    assert (a['loss'] + b['loss']) / 2 == pytest.approx(one['loss'], rel=1e-5)
    for t, v in one['log'].items():
        assert a['log'][t][0] == pytest.approx(v[0], rel=1e-4), t


def test_processes_stay_alike_and_resume(folder):
    a, b = (torch.load(folder / f'stage{r}.pt', weights_only=False) for r in (0, 1))
    assert a['world'] == b['world'] == 2
    for k, v in a['whole'].items():
        assert torch.equal(v, b['whole'][k]), f'{k} differs between the processes'
        assert torch.equal(v, a['again'][k]) and torch.equal(v, b['again'][k]), (
            f'{k} differs after resuming'
        )
    assert not torch.equal(a['draws'], b['draws']), 'both processes draw the same augmentation'
    assert a['values'] == b['values'] and a['seconds'] == b['seconds']


def test_one_process_goes_on(folder, tmp_path):
    st = load_checkpoint(folder / 'left.ckpt')
    assert st['epoch'] == 1 and not any(k.startswith('module.') for k in st['model'])
    two.stage(folder, 'left.ckpt', still=True)
    done = load_checkpoint(folder / 'left.ckpt')
    whole = two.stage(folder, 'alone.ckpt', still=True).loss_history.steps
    assert done['epoch'] == 3 and {t: len(v) for t, v in done['history'].items()} == {
        t: len(v) for t, v in whole.items()
    }
    for t in ('sup', 'depth', 'pseudo', 'rec'):
        assert done['history'][t][:3] == pytest.approx(whole[t][:3], rel=1e-2), t
