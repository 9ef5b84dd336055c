"The whole method as one run: the ladder of stages, what a preset switches on and off, and its figures in 3D."

import json
from dataclasses import replace
import numpy as np, pytest, torch
from geomrecon.use.cli import main
from geomrecon.use.ladder import run_phases, train_phases
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.core.errors import CheckpointError, ConfigError, WeightsError
from geomrecon.core.geometry import to_pixels
from geomrecon.learn.presets import PRESETS, get_preset
from geomrecon.learn.checkpoint import load_checkpoint
from geomrecon.models.style import load_style_net
from geomrecon.models.stylise import load_style_stats
from geomrecon.use.result_table import format_table
from geomrecon.use.seeds import merge_seeds
from geomrecon.use.results_file import read_results
from geomrecon.use.task import Task
from geomrecon.use.measure import figures3d
from geomrecon.learn.presets import read_preset, typed_field
from geomrecon.core.skeleton import HAND21, MOUSE4
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


def task_of(out, preset=FULL, sk=HAND21, **kw):
    src = PuppetImages(sk, 300, 48, 'synthetic', seed=0)
    val = PuppetImages(sk, 8, 48, 'synthetic', seed=1)
    v = PuppetVideos(sk, 2, 24, 48, 'real', seed=0)
    return Task(
        out, src, val, v.frames(), preset, seed=2, device='cpu', quality=v, **kw
    ), PuppetVideos(sk, 2, 6, 48, 'real', seed=0, split='test')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp('run')
    task, test = task_of(out)
    return task, test, run_phases(task, test, 'time', bar=False)


def test_ladder(run):
    task, test, r = run
    assert (
        [x['method'] for x in r.rows]
        == ['source', 'bn', 'aligned', 'pseudo', 'full', 'control']
        == list(r.preds)
        == list(r.learners)
    )
    for x in r.rows:
        assert (
            x['seconds'] >= 0
            and x['epe3d']['all'] > x['pa_epe3d']['all'] > 0
            and 0 <= x['auc3d']['all'] <= 100
            and 0 <= x['unsolved'] <= len(test)
        )
    assert {
        'source: depth',
        'aligned: align',
        'aligned: depth',
        'pseudo: M_3D',
        'full: rec',
        'full: pseudo_3d',
    } <= set(r.curves)
    assert set(r.quality) == {'pseudo', 'full'} and all(
        len(q) == 2 and 'joints' not in q[0] for q in r.quality.values()
    )
    assert (
        r.learners['aligned'].model.pose.has_depth
        and json.dumps(r.rows)
        and '3D error, root-relative, mm' in format_table(r.rows)
    )


def test_adaptation_starts_from_the_aligned_net(run):
    r, key = run[2], 'encoder.conv1.weight'
    w = {m: l.model.pose.state_dict()[key] for m, l in r.learners.items()}
    assert not torch.equal(w['aligned'], w['source']) and torch.equal(w['bn'], w['source'])
    assert (w['pseudo'] - w['aligned']).norm() < (w['pseudo'] - w['source']).norm()


def test_second_time_nothing_is_trained(run):
    task, test, r = run
    before = {f: f.stat().st_mtime_ns for f in task.out.glob('*.ckpt')}
    again = run_phases(task_of(task.out)[0], test, 'time', bar=False)
    assert len(before) == 7 and {f: f.stat().st_mtime_ns for f in task.out.glob('*.ckpt')} == before
    for x, y in zip(again.rows, r.rows):
        assert (
            all(abs(x['epe3d'][g] - v) < 0.01 for g, v in y['epe3d'].items())
            and x['seconds'] == y['seconds']
        )
    assert again.quality == r.quality and again.curves == r.curves


def test_files_of_the_style(run):
    out = run[0].out
    net = load_style_net(out / 'style_net.pth')
    stats = load_style_stats(out / 'style_stats.pth')
    assert (
        stats.key.startswith(net.digest())
        and len(stats) == 48
        and read_preset(out / 'preset.yaml') == FULL
    )


def test_another_preset_in_the_same_folder_is_refused_by_field(run):
    task = run[0]
    for field, v in dict(style_lr=0.1, align_tau=0.1, integrate=0.0, depth_weight=0.3).items():
        with pytest.raises(CheckpointError, match=f'preset.{field}'):
            replace(task, preset=FULL.changed(**{field: v})).pretrain(bar=False)


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
def test_the_preset_says_which_stages_there_are(tmp_path, changes, files, rows):
    p = FULL.changed(**changes)
    task, test = task_of(tmp_path, p, MOUSE4)
    r = run_phases(task, test, bar=False)
    assert [x['method'] for x in r.rows] == rows and all(('epe3d' in x) == p.depth for x in r.rows)
    assert sorted(f.stem for f in tmp_path.glob('*.ckpt')) == sorted(
        ['source', 'pseudo', 'pseudo_rec', *files]
    ) and (tmp_path / 'style_net.pth').exists() == ('style' in files)
    if p.align_epochs is None:
        assert load_checkpoint(tmp_path / 'aligned.ckpt')['n_epoch'] == p.epochs


def test_foreign_weights_are_asked_for_before_anything_is_trained(tmp_path):
    for field in ('style_encoder', 'features'):
        with pytest.raises(WeightsError, match='gone.pth'):
            next(
                train_phases(task_of(tmp_path, FULL.changed(**{field: 'gone.pth'}))[0], bar=False)
            )
    assert not list(tmp_path.glob('*.ckpt'))
    with pytest.raises(ConfigError, match="'stylenet'"):
        task_of(tmp_path, FULL.changed(restyle='paint'))[0].align(bar=False)


def test_stylised_source_in_adaptation(tmp_path):
    plain, styled = (
        task_of(tmp_path / n, FULL.changed(style_share=s), MOUSE4)[0]
        for n, s in (('a', 0.0), ('b', 1.0))
    )
    net = plain.pretrain(bar=False)[0].model.pose
    a, b = (t.adapt(net, ('pseudo',), bar=False)[0].model.state_dict() for t in (plain, styled))
    assert not all(torch.equal(x, y) for x, y in zip(a.values(), b.values()))


def test_figures3d_against_a_loop():
    "Root depth by bisection on the length of the reference bone, errors joint by joint"
    b = PuppetVideos(HAND21, 2, 5, 64, 'real', seed=0, split='test').batch(np.arange(10))
    g = torch.Generator().manual_seed(0)
    kp = b['keypoints'] + 0.02 * torch.randn(b['keypoints'].shape, generator=g)
    d = 0.3 * torch.randn(10, 21, generator=g)
    d[:, [0, 9]] = torch.tensor([0.0, 0.2])
    vis = b['visible'].clone()
    vis[3, 5:9] = False
    vis[:, 0] = True
    e = figures3d(kp, d, b['intrinsics'], b['joints3d'], vis, HAND21, 64)
    total, n = torch.zeros(21), torch.zeros(21)
    for i in range(10):
        K = b['intrinsics'][i].double()
        t = b['joints3d'][i].double()
        scale = (t[9] - t[0]).norm()
        px = to_pixels(kp[i : i + 1], 64)[0].double()
        rays = torch.cat([px, torch.ones(21, 1, dtype=torch.float64)], 1) @ torch.linalg.inv(K).T
        place = lambda z: rays * (z + d[i].double())[:, None] * scale
        lo, hi = 2.0, 500.0
        for _ in range(100):
            mid = (lo + hi) / 2
            lo, hi = (mid, hi) if (place(mid)[9] - place(mid)[0]).norm() < scale else (lo, mid)
        p = place((lo + hi) / 2)
        err = ((p - p[0]) - (t - t[0])).norm(dim=-1).float()
        total += torch.where(vis[i], err, 0.0)
        n += vis[i]
    assert (
        e['unsolved'] == 0
        and abs(e['epe3d']['all'] - (total / n).mean().item()) < 0.05 * 1e-1 * e['epe3d']['all']
        and e['pa_epe3d']['all'] <= e['epe3d']['all']
    )


def test_unknown_cameras_do_not_count():
    b = PuppetVideos(HAND21, 1, 6, 48, 'real', seed=0, split='test').batch(np.arange(6))
    d = torch.zeros(6, 21)
    K = b['intrinsics'].clone()
    K[2:] = torch.nan
    few = figures3d(
        b['keypoints'][:2], d[:2], K[:2], b['joints3d'][:2], b['visible'][:2], HAND21, 48
    )
    all_ = figures3d(b['keypoints'], d, K, b['joints3d'], b['visible'], HAND21, 48)
    for k in ('epe3d', 'pa_epe3d', 'auc3d'):
        for g, v in few[k].items():
            assert abs(v - all_[k][g]) < 1e-4, (k, g)
    assert all_['unsolved'] <= 2 and all_['joints3d'][2:].isnan().all()


def test_seeds_are_merged_in_3d(run):
    rows = run[2].rows
    two = [
        dict(seed=s, rows=[dict(r, epe3d={g: v + s for g, v in r['epe3d'].items()}) for r in rows])
        for s in (0, 1)
    ]
    m = merge_seeds(two)
    assert (
        abs(m['rows'][0]['epe3d']['all'] - rows[0]['epe3d']['all'] - 0.5) < 1e-6
        and abs(m['rows'][0]['epe3d_sd']['all'] - 0.5**0.5) < 1e-6
    )
    assert {(g['better'], g['than'], g['metric']) for g in m['gains']} >= {
        ('aligned', 'source', 'pck'),
        ('full', 'pseudo', 'epe3d'),
        ('pseudo', 'aligned', 'epe3d'),
    }


@pytest.fixture
def mini():
    PRESETS['mini'] = FULL.changed(name='mini', epochs=1, adapt_epochs=1)
    yield
    del PRESETS['mini']


def test_demo_from_the_command_line(mini, tmp_path, capsys):
    d = ['--skeleton', 'hand', '--preset', 'mini', '--out', str(tmp_path / 'o'), '--no-bar']
    assert main(['demo', *d, '--set', 'align_epochs=2', '--set', 'lr=1e-3', 'bs=3']) == 0
    text = capsys.readouterr().out
    p = read_preset(tmp_path / 'o/preset.yaml')
    assert (p.align_epochs, p.lr, p.bs) == (2, 1e-3, 3)
    assert (
        '+ style and alignment' in text
        and '3D error, root-relative, mm' in text
        and '3D error, Procrustes-aligned, mm' in text
    )
    res = read_results(tmp_path / 'o')
    assert [r['method'] for r in res['rows']] == ['source', 'aligned', 'pseudo', 'full'] and set(
        res['label_quality']
    ) == {'pseudo', 'full'}
    page = (tmp_path / 'o/report.html').read_text()
    assert all(
        f'<h2>{t}</h2>' in page for t in ('Style', 'Poses in 3D', 'Pseudo-labels', 'Reconstruction')
    )
    assert main(['demo', *d]) == 2 and 'preset.align_epochs' in capsys.readouterr().err


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
    for cmd in (
        ['demo', '--out', str(tmp_path / 'o')],
        ['presets', 'tiny'],
        ['adapt', '--skeleton', 'mouse', '--target', 'x.mp4', '--out', str(tmp_path / 'o')],
    ):
        assert main([*cmd, '--set', change]) == 2
        err = capsys.readouterr().err
        assert says in err and 'ConfigError' in err and 'Traceback' not in err
    assert not (tmp_path / 'o').exists()


def test_every_field_goes_through_text():
    "Whatever a preset holds, its text says it again"
    for p in PRESETS.values():
        for k, v in p.flat().items():
            if k != 'name':
                assert (
                    typed_field(
                        k,
                        str(v)
                        if isinstance(v, tuple) or v is None or isinstance(v, bool)
                        else f'{v}',
                    )
                    == v
                ), k
