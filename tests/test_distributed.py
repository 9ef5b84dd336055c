"""Two and four processes (Gloo, CPU) compute what one computes with the joint batch.

Loss, gradients, statistics, log, weights; one goes on where two were stopped, and four where one of them was killed.
"""

import os
import signal
import subprocess
import sys
import pytest
import several_processes
import torch
import two_processes as two
from geomrecon.learn.checkpoint import load_checkpoint


def name_of(case):
    kind, exact = case
    return f"{kind}-{'float64' if exact else 'float32'}"


each_case = pytest.mark.parametrize('case', two.CASES, ids=name_of)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "What the processes saved"
    out = tmp_path_factory.mktemp('two')
    for kinks in (True, False):
        torch.save(two.trained(kinks), out / f'net_{kinks}.pt')
    process = subprocess.run(
        [sys.executable, several_processes.__file__, str(out)],
        capture_output=True,
        text=True,
        timeout=2400,
        env=dict(os.environ, OMP_NUM_THREADS='1'),
    )
    assert process.returncode == 0, process.stderr[-4000:]
    codes = torch.load(out / 'codes.pt')
    # all came to their end, but for the one that was killed and those that waited for it
    killed = codes.pop('killed')
    assert killed[2] == -signal.SIGKILL
    assert all(killed)
    assert not any(sum(codes.values(), [])), (codes, process.stderr[-4000:])
    return out


def of_both(folder, name):
    "What process 0 and process 1 saved by a name"
    return [torch.load(folder / f'{name}{rank}.pt', weights_only=False) for rank in (0, 1)]


@pytest.fixture(scope='module')
def results(folder):
    "By case: of process 0, of process 1, of one process with the joint batch"
    first, second = of_both(folder, 'steps')
    by_case = {}
    for case in two.CASES:
        by_case[case] = (first[case], second[case], two.one_step(folder, *case))
    return by_case


def joined(first, second, with_other_look):
    "The joint batch of two shares; aligned ones hold images, then their other looks"
    if not with_other_look:
        return torch.cat([first, second])
    halves = zip(first.chunk(2), second.chunk(2))
    return torch.cat([torch.cat(pair) for pair in halves])


@each_case
def test_shares_are_the_joint_batch(results, case):
    first, second, one = results[case]
    assert first['batch'].keys() == one['batch'].keys()
    assert second['batch'].keys() == one['batch'].keys()
    for name, joint in one['batch'].items():
        shares = first['batch'][name], second['batch'][name]
        for share in shares:
            assert len(share) == len(joint) // 2
        assert torch.equal(joined(*shares, with_other_look=case[0] == 'pretrain'), joint), name
    # were both to see as many joints, local means would go unnoticed
    assert first['batch']['visible'].sum() != second['batch']['visible'].sum()


def assert_close(value, expected, tolerance, name):
    torch.testing.assert_close(
        value, expected, rtol=tolerance, atol=tolerance, msg=lambda text: f'{name}: {text}'
    )


@each_case
def test_gradients(results, case):
    first, second, one = results[case]
    tolerance = 1e-10 if case[1] else 1e-5
    for name, gradient in one['gradients'].items():
        if 'weight' in name:
            assert gradient is not None, name
            assert gradient.abs().max() > 0, name
        assert_close(first['gradients'][name], gradient, tolerance, name)
        assert_close(second['gradients'][name], gradient, tolerance, name)
    mean_loss = (first['loss'] + second['loss']) / 2
    assert mean_loss == pytest.approx(one['loss'], rel=tolerance)


TERMS = dict(
    pretrain={'sup', 'depth', 'align'},
    adapt={'sup', 'depth', 'pseudo', 'pseudo_3d', 'labelled', 'M_2D', 'M_3D', 'rec'},
)


@each_case
def test_statistics_log_and_metrics(results, case):
    first, second, one = results[case]
    assert first['keys'] == one['keys']
    assert second['keys'] == one['keys']
    for name, value in one['statistics'].items():
        assert torch.equal(first['statistics'][name], second['statistics'][name])
        assert_close(first['statistics'][name], value, 1e-5, name)
    assert set(one['log']) == TERMS[case[0]]
    assert first['log'] == second['log']
    for term, values in one['log'].items():
        assert first['log'][term] == pytest.approx(values, rel=1e-5), term
    # training and validation loss, PCK, terms
    assert first['values'] == second['values']
    assert first['values'] == pytest.approx(one['values'], rel=1e-3)
    if case[0] == 'adapt':
        assert 0 < one['log']['M_3D'][0] < 1
        assert 0 < one['log']['M_2D'][0] < 1


@pytest.fixture(scope='module')
def methods(folder):
    return of_both(folder, 'methods')


@pytest.mark.parametrize('name', two.METHODS)
def test_methods_stay_alike(methods, name):
    "Every comparison method has the same weights and log in both processes"
    first, second = (by_name[name] for by_name in methods)
    for key, value in first['state'].items():
        assert torch.equal(value, second['state'][key]), key
    assert first['log'] == second['log']
    for term, values in first['log'].items():
        assert max(map(abs, values)) > 0, term


@pytest.mark.parametrize('name', two.SAME_DRAWS)
def test_methods_compute_the_joint_batch(folder, methods, name):
    "A comparison method whose draws are the same has the gradients of the joint batch"
    first, second = (by_name[name] for by_name in methods)
    one = two.method_step(folder, name)
    assert set(one['log']) == set(first['log'])
    largest = [
        gradient.abs().max() for gradient in one['gradients'].values() if gradient is not None
    ]
    assert max(largest) > 0
    for key, gradient in one['gradients'].items():
        for share in (first, second):
            assert_same_gradient(share['gradients'][key], gradient, key)
    mean_loss = (first['loss'] + second['loss']) / 2
    assert mean_loss == pytest.approx(one['loss'], rel=1e-5)
    for term, values in one['log'].items():
        assert first['log'][term][0] == pytest.approx(values[0], rel=1e-4), term


def assert_same_gradient(gradient, expected, name):
    "Close; a weight without a gradient has none in the share, or zeros"
    if expected is None:
        assert gradient is None or not gradient.any(), name
    else:
        torch.testing.assert_close(
            gradient, expected, rtol=1e-4, atol=1e-5, msg=lambda text: f'{name}: {text}'
        )


def test_processes_stay_alike_and_resume(folder):
    first, second = of_both(folder, 'phase')
    assert first['world'] == 2
    assert second['world'] == 2
    for name, value in first['whole'].items():
        assert torch.equal(value, second['whole'][name]), f'{name} differs between the processes'
        assert torch.equal(value, first['again'][name]), f'{name} differs after resuming'
        assert torch.equal(value, second['again'][name]), f'{name} differs after resuming'
    assert not torch.equal(first['draws'], second['draws']), 'both draw the same augmentation'
    assert first['values'] == second['values']
    assert first['seconds'] == second['seconds']


def test_one_process_goes_on(folder):
    left = load_checkpoint(folder / 'left.ckpt')
    assert left['epoch'] == 1
    for name in left['model']:
        assert not name.startswith('module.')
    two.phase(folder, 'left.ckpt', still=True)
    done = load_checkpoint(folder / 'left.ckpt')
    whole = two.phase(folder, 'alone.ckpt', still=True).loss_history.steps
    assert done['epoch'] == 3
    assert done['history'].keys() == whole.keys()
    for term, values in whole.items():
        assert len(done['history'][term]) == len(values), term
    for term in ('sup', 'depth', 'pseudo', 'rec'):
        assert done['history'][term][:3] == pytest.approx(whole[term][:3], rel=1e-2), term


def weights_and_steps(folder, name):
    kept = torch.load(folder / f'{name}.pt', weights_only=False)
    return kept['weights'], kept['steps']


def test_four_processes_have_the_weights_of_one(folder):
    "Three steps of the whole method, in double precision: what differs then is a mistake and not rounding"
    one, steps_of_one = weights_and_steps(folder, 'double_1')
    four, steps_of_four = weights_and_steps(folder, 'double_4')
    assert set(steps_of_one) >= {'sup', 'depth', 'pseudo', 'pseudo_3d', 'rec'}
    for term, values in steps_of_one.items():
        assert steps_of_four[term] == pytest.approx(values, rel=1e-5), term
    for name, weight in one.items():
        torch.testing.assert_close(four[name], weight, rtol=1e-7, atol=1e-9, msg=name)


def test_four_processes_go_on_bit_for_bit_after_one_was_killed(folder):
    whole, steps_of_whole = weights_and_steps(folder, 'whole_4')
    resumed, steps_of_resumed = weights_and_steps(folder, 'resumed_4')
    assert not (folder / 'killed_4.pt').exists()
    assert load_checkpoint(folder / 'killed_4.ckpt')['epoch'] == 2
    assert steps_of_resumed == steps_of_whole
    for name, weight in whole.items():
        assert torch.equal(resumed[name], weight), name
