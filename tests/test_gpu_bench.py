"""bench/gpu.py: its sections run on a CPU, go on after one that fails or takes too long, and are not run twice; what was
measured on a CPU says so. And the number of operators of a step, which must not creep up."""

import json
import sys
import time

import pytest
import torch
from geomrecon.core.errors import ConfigError
from geomrecon.learn.presets import get_preset

#: Operators of an adaptation step of 'paper-hand' may be so many; `results/operators.json` has them by part
MOST_OPERATORS = 5150
ABOUT = dict(device='a', is_gpu=False, quick=True, torch='1', cuda=None, geomrecon='1')


@pytest.fixture(scope='session')
def bench_folder(repo):
    "The scripts of bench/ as modules"
    folder = str(repo / 'bench')
    sys.path.insert(0, folder)
    yield repo / 'bench'
    sys.path.remove(folder)


@pytest.fixture(scope='session')
def gpu(bench_folder):
    import gpu

    return gpu


@pytest.fixture(scope='session')
def runner(bench_folder):
    import gpu_runner

    return gpu_runner


@pytest.fixture(scope='session')
def report(gpu, tmp_path_factory):
    "A quick run of most sections on the CPU"
    torch.manual_seed(0)
    bench = gpu.Bench(torch.device('cpu'), quick=True)
    path = tmp_path_factory.mktemp('gpu') / 'gpu.json'
    only = ('agreement', 'paper-hand', 'memory, paper-hand', 'kernels', 'uniframe', 'prediction')
    gpu.measure(bench, path, minutes=60, only=only)
    return json.loads(path.read_text(encoding='utf-8'))


def found(report, name):
    "What a section found; what went wrong is shown where it failed"
    section = report['sections'][name]
    assert section['status'] == 'done', section.get('error')
    return section['found']


# Sections


def failing():
    raise RuntimeError('CUDA out of memory\nand much more')


def counted(calls, name):
    def measure():
        calls.append(name)
        return dict(name=name)

    return measure


def test_others_go_on_after_a_section_that_fails(runner, tmp_path):
    calls = []
    sections = [
        runner.Section('first', failing, 10),
        runner.Section('second', counted(calls, 'second'), 10),
    ]
    path = tmp_path / 'out.json'
    runner.run_sections(sections, dict(ABOUT, sections={}), path, minutes=1)
    there = json.loads(path.read_text())['sections']
    assert there['first']['status'] == 'failed'
    assert there['first']['error'] == 'RuntimeError: CUDA out of memory'
    assert 'found' not in there['first']
    assert there['second']['found'] == dict(name='second')


def test_a_rerun_skips_what_is_done_and_tries_again_what_failed(runner, tmp_path):
    calls = []
    path = tmp_path / 'out.json'
    report = runner.begun(path, ABOUT)
    good = runner.Section('good', counted(calls, 'good'), 10)
    runner.run_sections([good, runner.Section('bad', failing, 10)], report, path, minutes=1)
    report = runner.begun(path, ABOUT)
    mended = runner.Section('bad', counted(calls, 'bad'), 10)
    runner.run_sections([good, mended], report, path, minutes=1)
    assert calls == ['good', 'bad']
    there = json.loads(path.read_text())['sections']
    assert {name: came['status'] for name, came in there.items()} == dict(good='done', bad='done')


def test_a_section_that_takes_too_long_is_ended(runner, tmp_path):
    calls = []
    sections = [
        runner.Section('endless', lambda: time.sleep(60), 0.2),
        runner.Section('next', counted(calls, 'next'), 10),
    ]
    started = time.time()
    report = dict(ABOUT, sections={})
    runner.run_sections(sections, report, tmp_path / 'out.json', minutes=1)
    assert time.time() - started < 30
    assert report['sections']['endless']['status'] == 'out of time'
    assert calls == ['next']


def test_no_section_begins_without_time(runner, tmp_path):
    calls = []
    path = tmp_path / 'out.json'
    sections = [runner.Section('one', counted(calls, 'one'), 10)]
    report = runner.run_sections(sections, dict(ABOUT, sections={}), path, minutes=0)
    assert report['sections']['one']['status'] == 'not begun'
    assert calls == []


def test_a_file_of_another_device_is_not_gone_on_with(runner, tmp_path):
    path = tmp_path / 'out.json'
    path.write_text(json.dumps(dict(ABOUT, sections={})))
    with pytest.raises(ConfigError, match="is of device 'a', this is 'b'"):
        runner.begun(path, dict(ABOUT, device='b'))
    assert runner.begun(path, ABOUT)['sections'] == {}


def test_without_a_gpu_only_the_quick_run_is_offered(gpu):
    with pytest.raises(SystemExit, match='--quick'):
        gpu.main(['--device', 'cpu'])


# What a quick run finds


def test_a_cpu_does_not_pass_for_a_gpu(report, repo):
    assert report['is_gpu'] is False
    assert 'says nothing of a GPU' in report['note']
    assert found(report, 'paper-hand')['preset'] == 'paper-hand, made small'
    dry_run = json.loads((repo / 'results' / 'gpu-dry-run.json').read_text(encoding='utf-8'))
    assert dry_run['is_gpu'] is False
    assert 'says nothing of a GPU' in dry_run['note']
    measured = repo / 'results' / 'gpu.json'
    if measured.exists():
        of_gpu = json.loads(measured.read_text(encoding='utf-8'))
        assert of_gpu['is_gpu'] and not of_gpu['quick']


def test_training_agrees_with_the_cpu(report):
    rows = found(report, 'agreement')['rows']
    assert [(row['stage'], row['dtype']) for row in rows] == [
        ('pre-training', 'float32'),
        ('pre-training', 'bfloat16'),
        ('adaptation', 'float32'),
        ('adaptation', 'bfloat16'),
    ]
    for row in rows:
        assert row['passed'], row


def test_half_precision_does_not_pass_for_float32(report, bench_folder):
    from gpu_agreement import TOLERANCES, within

    for row in found(report, 'agreement')['rows']:
        if row['dtype'] == 'bfloat16':
            assert not within(row['differences'], TOLERANCES['float32'])
    assert not within(dict(loss=float('nan')), dict(loss=1.0))


def test_steps_have_times_memory_and_a_share_of_the_peak(report):
    rows = found(report, 'paper-hand')['rows']
    assert [row['stage'] for row in rows] == ['pre-training', 'adaptation']
    counted = found(report, 'memory, paper-hand')['rows']
    for row, count in zip(rows, counted):
        assert row['ms'] > 0
        assert 0 < row['share_of_peak'] < 1
        assert row['gflop'] > 0
        assert count['stage'] == row['stage']
        # the count is that of the memory that the step takes
        assert 0.5 < count['counted_gib'] * 1024 / row['peak_mb'] < 2


def test_kernels_uniframe_and_prediction(report):
    kernels = found(report, 'kernels')
    assert kernels['launches'] > 500
    assert kernels['rows'][0]['ms'] >= kernels['rows'][1]['ms'] > 0
    uniframe = found(report, 'uniframe')
    assert uniframe['ms'] > 0
    assert (uniframe['images'], uniframe['frames']) == (4, 4)
    rows = found(report, 'prediction')['rows']
    assert len(rows) == 6
    assert min(row['frames_per_second'] for row in rows) > 0


# The step of UniFrame's authors


PROGRAM = '''
import numpy as np
import torch
from torch import nn
import helpers_of_theirs as helpers

steps = helpers.steps


class models:
    @staticmethod
    def pose_resnet18(num_keypoints, pretrained_backbone=True):
        assert not pretrained_backbone, 'it would download'
        return nn.Conv2d(3, num_keypoints, 1)


class Style_net:
    vgg = nn.Sequential(*[nn.Identity() for _ in range(40)])
    decoder = nn.Identity()

    class Net(nn.Module):
        def __init__(self, encoder, decoder):
            super().__init__()
            assert len(encoder) == 31


class OldWeightEMA:
    def __init__(self, teacher, student, alpha):
        pass


class JointsMSELoss(nn.Module):
    pass


class ConsLoss(nn.Module):
    pass


def train(source, target, student, teacher, style, criterion, cons, opt, ema, epoch, show, args):
    for _ in range(args.iters_per_epoch):
        images, maps, weight, _ = next(source)
        view, _, _, student_meta, views, _, _, teacher_meta = next(target)
        angle, (x, y), (sx, sy), scale = teacher_meta[0]['aug_param_tea']
        assert len(angle) == len(images) == len(views[0])
        assert student_meta['target_ori'].shape == maps.shape
        assert np.int(args.mask_ratio * 4) == 2
        student(images).mean().backward()
        opt.step()
        steps.append(args.image_size)
'''


def test_their_step_is_called_as_their_program_calls_it(bench_folder, tmp_path):
    from gpu_uniframe import theirs

    (tmp_path / 'train_human.py').write_text(PROGRAM)
    (tmp_path / 'helpers_of_theirs.py').write_text('steps = []')
    sizes = dict(arch='resnet18', size=32, adapt_bs=2)
    preset = get_preset('paper-hand', weights=None, **sizes)
    came = theirs(tmp_path, preset, torch.device('cpu'), n_joints=5, steps=5)
    assert came['ms'] > 0
    assert (came['images'], came['frames']) == (2, 2)
    # nothing of it stays
    assert 'train_human' not in sys.modules
    assert 'helpers_of_theirs' not in sys.modules
    assert str(tmp_path) not in sys.path


def test_a_folder_without_their_program_is_told(bench_folder, tmp_path):
    from gpu_uniframe import theirs

    with pytest.raises(ConfigError, match='train_human.py'):
        theirs(tmp_path, get_preset('tiny'), torch.device('cpu'), n_joints=5, steps=1)


# Operators of a step


def test_operators_of_a_step_do_not_creep_up(bench_folder, repo):
    "A step of the structure of 'paper-hand'; the counts by part are in results/operators.json"
    from step_trace import RANDOM_VGG, by_part, small_preset, traced_step

    try:
        rows = by_part(traced_step(small_preset('paper-hand')))
    finally:
        RANDOM_VGG.unlink(missing_ok=True)
    counts = {row['part']: row['operators'] for row in rows}
    assert sum(counts.values()) <= MOST_OPERATORS, counts
    kept = json.loads((repo / 'results' / 'operators.json').read_text(encoding='utf-8'))
    assert sum(row['operators'] for row in kept['now']) <= MOST_OPERATORS
    # gradients are not added to zeros, and no batch norm counts for itself
    operators = {}
    for row in rows:
        operators[row['part']] = row['most']
    assert operators['fastai'].get('aten.add_', 0) < 10
    assert operators['pose net']['aten.add_'] < 50
    # grids are not made anew, frozen weights are not rounded anew
    assert operators['generator G'].get('aten.arange', 0) == 0
    assert operators['perceptual loss']['aten._to_copy'] < 100
