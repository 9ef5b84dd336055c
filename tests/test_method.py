"""The whole method as one run.

The ladder of phases, what a preset switches on and off, and its figures in 3D.
"""

import json
from dataclasses import replace
import numpy as np
import pytest
import torch
from geomrecon.core.errors import CheckpointError, ConfigError, WeightsError
from geomrecon.core.geometry import to_pixels
from geomrecon.core.skeleton import HAND21, MOUSE4
from geomrecon.learn.checkpoint import load_checkpoint
from geomrecon.learn.presets import PRESETS, get_preset, read_preset, typed_field
from geomrecon.models.style import load_style_net
from geomrecon.models.stylise import load_style_stats
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.use.cli import main
from geomrecon.use.ladder import run_phases, train_phases
from geomrecon.use.measure import figures3d
from geomrecon.use.result_table import format_table
from geomrecon.use.results_file import read_results
from geomrecon.use.seeds import merge_seeds
from geomrecon.use.task import Task
from test_one_step import MINI

FULL = get_preset(
    MINI,
    depth=True,
    restyle='stylenet',
    style_widths=(4, 8),
    style_encoder_epochs=1,
    style_epochs=1,
    style_bs=4,
    align_epochs=1,
    steps=2,
    epochs=2,
    adapt_epochs=2,
    integrate=1.0,
)


def task_of(out, preset=FULL, skeleton=HAND21):
    "A small task, and its test videos"
    target = PuppetVideos(skeleton, 2, 24, 48, 'real', seed=0)
    task = Task(
        out,
        source=PuppetImages(skeleton, 300, 48, 'synthetic', seed=0),
        valid=PuppetImages(skeleton, 8, 48, 'synthetic', seed=1),
        frames=target.frames(),
        preset=preset,
        seed=2,
        device='cpu',
        quality=target,
    )
    return task, PuppetVideos(skeleton, 2, 6, 48, 'real', seed=0, split='test')


def methods_of(rows):
    return [row['method'] for row in rows]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "Task, test videos and results of the whole ladder"
    task, test = task_of(tmp_path_factory.mktemp('run'))
    return task, test, run_phases(task, test, 'time', bar=False)


def test_ladder(run):
    _, test, result = run
    ladder = ['source', 'bn', 'aligned', 'pseudo', 'full', 'control']
    assert methods_of(result.rows) == ladder
    assert list(result.preds) == ladder
    assert list(result.learners) == ladder
    for row in result.rows:
        assert row['seconds'] >= 0
        assert row['epe3d']['all'] > row['pa_epe3d']['all']
        assert row['pa_epe3d']['all'] > 0
        assert 0 <= row['auc3d']['all'] <= 100
        assert 0 <= row['unsolved'] <= len(test)
    terms = {'source: depth', 'aligned: align', 'aligned: depth', 'pseudo: M_3D'}
    terms |= {'full: rec', 'full: pseudo_3d'}
    assert terms <= set(result.curves)
    assert set(result.quality) == {'pseudo', 'full'}
    for epochs in result.quality.values():
        assert len(epochs) == 2
        assert 'joints' not in epochs[0]
    assert result.learners['aligned'].model.pose.has_depth
    assert json.dumps(result.rows)
    assert '3D error, root-relative, mm' in format_table(result.rows)


def test_adaptation_starts_from_the_aligned_net(run):
    weight = {}
    for method, learn in run[2].learners.items():
        weight[method] = learn.model.pose.state_dict()['encoder.conv1.weight']
    assert not torch.equal(weight['aligned'], weight['source'])
    assert torch.equal(weight['bn'], weight['source'])
    from_aligned = (weight['pseudo'] - weight['aligned']).norm()
    from_source = (weight['pseudo'] - weight['source']).norm()
    assert from_aligned < from_source


def checkpoint_times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob('*.ckpt')}


def test_second_time_nothing_is_trained(run):
    task, test, result = run
    before = checkpoint_times(task.out)
    again = run_phases(task_of(task.out)[0], test, 'time', bar=False)
    assert len(before) == 7
    assert checkpoint_times(task.out) == before
    for new, old in zip(again.rows, result.rows):
        assert new['seconds'] == old['seconds']
        for group, value in old['epe3d'].items():
            assert abs(new['epe3d'][group] - value) < 0.01
    assert again.quality == result.quality
    assert again.curves == result.curves


def test_files_of_the_style(run):
    out = run[0].out
    net = load_style_net(out / 'style_net.pth')
    stats = load_style_stats(out / 'style_stats.pth')
    assert stats.key.startswith(net.digest())
    assert len(stats) == 48
    assert read_preset(out / 'preset.yaml') == FULL


def test_another_preset_in_the_same_folder_is_refused_by_field(run):
    changes = dict(style_lr=0.1, align_tau=0.1, integrate=0.0, depth_weight=0.3)
    for field, value in changes.items():
        other = replace(run[0], preset=FULL.changed(**{field: value}))
        with pytest.raises(CheckpointError, match=f'preset.{field}'):
            other.pretrain(bar=False)


@pytest.mark.parametrize(
    'changes,files,rows',
    [
        (dict(restyle='', depth=False), [], ['source', 'pseudo', 'full']),
        (dict(restyle='jitter'), ['aligned'], ['source', 'aligned', 'pseudo', 'full']),
        (dict(restyle='', depth=True), [], ['source', 'pseudo', 'full']),
        (
            dict(align_epochs=None, depth=False, adapt_epochs=4),
            ['aligned', 'style', 'style_encoder'],
            ['source', 'aligned', 'pseudo', 'full'],
        ),
    ],
)
def test_the_preset_says_which_phases_there_are(tmp_path, changes, files, rows):
    preset = FULL.changed(**changes)
    task, test = task_of(tmp_path, preset, MOUSE4)
    result = run_phases(task, test, bar=False)
    assert methods_of(result.rows) == rows
    for row in result.rows:
        assert ('epe3d' in row) == preset.depth
    checkpoints = sorted(path.stem for path in tmp_path.glob('*.ckpt'))
    assert checkpoints == sorted(['source', 'pseudo', 'pseudo_rec', *files])
    assert (tmp_path / 'style_net.pth').exists() == ('style' in files)
    if preset.align_epochs is None:
        assert load_checkpoint(tmp_path / 'aligned.ckpt')['n_epoch'] == preset.epochs


def test_foreign_weights_are_asked_for_before_anything_is_trained(tmp_path):
    for field in ('style_encoder', 'features'):
        task, _ = task_of(tmp_path, FULL.changed(**{field: 'gone.pth'}))
        with pytest.raises(WeightsError, match='gone.pth'):
            next(train_phases(task, bar=False))
    assert not list(tmp_path.glob('*.ckpt'))
    with pytest.raises(ConfigError, match="'stylenet'"):
        task_of(tmp_path, FULL.changed(restyle='paint'))


def test_stylised_source_in_adaptation(tmp_path):
    plain, _ = task_of(tmp_path / 'plain', FULL.changed(style_share=0.0), MOUSE4)
    styled, _ = task_of(tmp_path / 'styled', FULL.changed(style_share=1.0), MOUSE4)
    net = plain.pretrain(bar=False)[0].model.pose
    ends = []
    for task in (plain, styled):
        learn, _ = task.adapt(net, ('pseudo',), bar=False)
        ends.append(learn.model.state_dict().values())
    assert not all(torch.equal(one, other) for one, other in zip(*ends))


def root_depth_by_bisection(rays, depth, length):
    "The depth of the root at which the reference bone (joints 0 and 9) has its length"
    low, high = 2.0, 500.0
    for _ in range(100):
        middle = (low + high) / 2
        joints = rays * (middle + depth)[:, None] * length
        if (joints[9] - joints[0]).norm() < length:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def test_figures3d_against_a_loop():
    "Root depth by bisection on the length of the reference bone, errors joint by joint"
    labels = PuppetVideos(HAND21, 2, 5, 64, 'real', seed=0, split='test').batch(np.arange(10))
    draw = torch.Generator().manual_seed(0)
    keypoints = labels['keypoints']
    keypoints = keypoints + 0.02 * torch.randn(keypoints.shape, generator=draw)
    depth = 0.3 * torch.randn(10, 21, generator=draw)
    depth[:, [0, 9]] = torch.tensor([0.0, 0.2])
    visible = labels['visible'].clone()
    visible[3, 5:9] = False
    visible[:, 0] = True
    cameras, joints3d = labels['intrinsics'], labels['joints3d']
    figures = figures3d(keypoints, depth, cameras, joints3d, visible, HAND21, 64)
    total, count = torch.zeros(21), torch.zeros(21)
    for i in range(10):
        camera = cameras[i].double()
        true = joints3d[i].double()
        length = (true[9] - true[0]).norm()
        pixels = to_pixels(keypoints[i : i + 1], 64)[0].double()
        pixels = torch.cat([pixels, torch.ones(21, 1, dtype=torch.float64)], 1)
        rays = pixels @ torch.linalg.inv(camera).T
        root = root_depth_by_bisection(rays, depth[i].double(), length)
        lifted = rays * (root + depth[i].double())[:, None] * length
        error = ((lifted - lifted[0]) - (true - true[0])).norm(dim=-1).float()
        total += torch.where(visible[i], error, 0.0)
        count += visible[i]
    assert figures['unsolved'] == 0
    by_loop = (total / count).mean().item()
    assert abs(figures['epe3d']['all'] - by_loop) < 0.005 * figures['epe3d']['all']
    assert figures['pa_epe3d']['all'] <= figures['epe3d']['all']


def test_unknown_cameras_do_not_count():
    labels = PuppetVideos(HAND21, 1, 6, 48, 'real', seed=0, split='test').batch(np.arange(6))
    cameras = labels['intrinsics'].clone()
    cameras[2:] = torch.nan

    def figures_of_first(n):
        keypoints, joints3d, visible = (
            labels[name][:n] for name in ('keypoints', 'joints3d', 'visible')
        )
        depth = torch.zeros(n, 21)
        return figures3d(keypoints, depth, cameras[:n], joints3d, visible, HAND21, 48)

    known = figures_of_first(2)
    everything = figures_of_first(6)
    for name in ('epe3d', 'pa_epe3d', 'auc3d'):
        for group, value in known[name].items():
            assert abs(value - everything[name][group]) < 1e-4, (name, group)
    assert everything['unsolved'] <= 2
    assert everything['joints3d'][2:].isnan().all()


def shifted_rows(rows, mm):
    "The same rows with another error in 3D"
    shifted = []
    for row in rows:
        epe3d = {group: value + mm for group, value in row['epe3d'].items()}
        shifted.append(dict(row, epe3d=epe3d))
    return shifted


def test_seeds_are_merged_in_3d(run):
    rows = run[2].rows
    merged = merge_seeds([dict(seed=seed, rows=shifted_rows(rows, seed)) for seed in (0, 1)])
    first = merged['rows'][0]
    assert abs(first['epe3d']['all'] - rows[0]['epe3d']['all'] - 0.5) < 1e-6
    assert abs(first['epe3d_sd']['all'] - 0.5**0.5) < 1e-6
    gains = {(gain['better'], gain['than'], gain['metric']) for gain in merged['gains']}
    assert ('aligned', 'source', 'pck') in gains
    assert ('full', 'pseudo', 'epe3d') in gains
    assert ('pseudo', 'aligned', 'epe3d') in gains


@pytest.fixture
def mini():
    "A preset by the name of mini"
    PRESETS['mini'] = FULL.changed(name='mini', epochs=1, adapt_epochs=1)
    yield
    del PRESETS['mini']


def test_demo_from_the_command_line(mini, tmp_path, capsys):
    out = tmp_path / 'o'
    demo = ['demo', '--skeleton', 'hand', '--preset', 'mini', '--out', str(out), '--no-bar']
    assert main([*demo, '--set', 'align_epochs=2', '--set', 'lr=1e-3', 'bs=3']) == 0
    text = capsys.readouterr().out
    preset = read_preset(out / 'preset.yaml')
    assert preset.align_epochs == 2
    assert preset.lr == 1e-3
    assert preset.bs == 3
    assert '+ style and alignment' in text
    assert '3D error, root-relative, mm' in text
    assert '3D error, Procrustes-aligned, mm' in text
    results = read_results(out)
    assert methods_of(results['rows']) == ['source', 'aligned', 'pseudo', 'full']
    assert set(results['label_quality']) == {'pseudo', 'full'}
    page = (out / 'report.html').read_text()
    for title in ('Style', 'Poses in 3D', 'Pseudo-labels', 'Reconstruction'):
        assert f'<h2>{title}</h2>' in page
    # without the changes it is another run
    assert main(demo) == 2
    assert 'preset.align_epochs' in capsys.readouterr().err


@pytest.mark.parametrize(
    'change,says',
    [
        ('lrr=1', "no field 'lrr'"),
        ('epochs=ten', 'epochs'),
        ('lr', 'field=value'),
        ('depth=maybe', 'depth'),
        ('stride=a,b', 'stride'),
    ],
)
def test_changes_that_make_no_sense(change, says, tmp_path, capsys):
    out = str(tmp_path / 'o')
    demo = ['demo', '--out', out]
    presets = ['presets', 'tiny']
    adapt = ['adapt', '--skeleton', 'mouse', '--target', 'x.mp4', '--out', out]
    for command in (demo, presets, adapt):
        assert main([*command, '--set', change]) == 2
        message = capsys.readouterr().err
        assert says in message
        assert 'ConfigError' in message
        assert 'Traceback' not in message
    assert not (tmp_path / 'o').exists()


def test_every_field_goes_through_text():
    "Whatever a preset holds, its text says it again"
    for preset in PRESETS.values():
        for name in preset.flat():
            if name != 'name':
                value = getattr(preset, name)
                assert typed_field(name, str(value)) == value, name
