"The methods after SemiHand and after DualNet: resumed after a kill, without target labels, without waiting for the device, and with a branch that prediction does not need."

import numpy as np, pytest, torch
from fastai.callback.core import Callback
from geomrecon.data.pairs import pose_dls
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.core.errors import DataError
from geomrecon.methods.dualnet import CROSSMODAL
from geomrecon.learn.learner import build_pose, source_limits
from geomrecon.learn.presets import get_preset
from geomrecon.learn.checkpoint import Checkpoint, load_checkpoint
from geomrecon.learn.pseudo_label import LabelQuality
from geomrecon.core.skeleton import HAND21
from test_no_sync import LAPACK, OPS, Leave, Watch, fan
from test_target_labels import Guarded

MINI = get_preset('tiny', size=48, width=0.25, deconv_width=32, decay=0.9, flip=0.5)
OPTIONS = dict(semihand={}, dualnet=dict(start=0.5))
each = pytest.mark.parametrize('name', CROSSMODAL)
device = 'cuda' if torch.cuda.is_available() else 'cpu'


@pytest.fixture(scope='module')
def data():
    src = PuppetImages(HAND21, 2000, 48, 'synthetic', seed=0)
    return (
        src,
        PuppetImages(HAND21, 4, 48, 'synthetic', seed=1),
        PuppetVideos(HAND21, 1, 20, 48, 'real', seed=0),
        source_limits(src, 256),
    )


def learner(name, data, frames=None, steps=4, bs=4, m=3, cbs=(), workers=0, preset=MINI, **options):
    src, val, vids, limits = data
    torch.manual_seed(0)
    b = CROSSMODAL[name]
    dls = pose_dls(
        src,
        val,
        frames or vids.frames(),
        steps=steps,
        bs=bs,
        bs_target=m,
        seed=4,
        device=device,
        depth=preset.depth,
        aug=preset.aug,
        num_workers=workers,
        **b.loaders,
    )
    return b.build(
        dls,
        build_pose(src.skeleton, preset),
        preset,
        limits=limits,
        cbs=cbs,
        **OPTIONS[name],
        **options,
    )


def fit(learn, n, cbs=()):
    with learn.no_bar(), learn.no_logging():
        learn.fit_preset(n, cbs=cbs)
    return learn


class Killed(Exception):
    'Stands for a kill'


class KillAt(Callback):
    def __init__(self, epoch, it):
        self.at = (epoch, it)

    def after_step(self):
        if (self.epoch, self.iter) == self.at:
            raise Killed('now')


@each
def test_killed_and_resumed(name, data, tmp_path):
    "Weights, the second branch or mask head, the moving average and all losses are those of an uninterrupted run"
    a = fit(learner(name, data, cbs=[Checkpoint(tmp_path / 'a.ckpt')]), 3)
    with pytest.raises(Killed):
        fit(learner(name, data, cbs=[Checkpoint(tmp_path / 'b.ckpt')]), 3, [KillAt(2, 1)])
    b = learner(name, data, cbs=[Checkpoint(tmp_path / 'b.ckpt')])
    assert b.resume(tmp_path / 'b.ckpt') == 2
    fit(b, 3)
    x, y = (load_checkpoint(tmp_path / f'{n}.ckpt') for n in 'ab')
    new = {'semihand': 'mask_head', 'dualnet': 'geometry'}[name]
    assert any(k.startswith(new) for k in x['model'])
    for k in x['model']:
        assert torch.equal(x['model'][k], y['model'][k]), k
    term = {'semihand': 'semihand', 'dualnet': 'distil'}[name]
    assert x['terms'][term]
    for k, v in x['terms'][term].items():
        assert torch.equal(v, y['terms'][term][k]), k
    assert x['history'] == y['history'] and len(x['history']['sup']) == 12


@each
def test_target_labels_change_nothing(name, data):
    "With every label of the target destroyed, and a frame source that gives away frames alone, the weights are the same; so they are whatever labels are measured with"
    got = []
    for gone in (False, True):
        vids = PuppetVideos(HAND21, 1, 20, 48, 'real', seed=0)
        if gone:
            vids._data.update(
                {
                    k: torch.zeros_like(v) if v.dtype == torch.bool else v * torch.nan
                    for k, v in vids._data.items()
                    if k in ('keypoints', 'visible', 'inside', 'joints3d')
                }
            )
        got.append(
            fit(
                learner(name, data, Guarded(vids.frames()), steps=3, cbs=[LabelQuality(vids, 8)]), 1
            ).model.state_dict()
        )
    assert all(torch.equal(x, y) for x, y in zip(got[0].values(), got[1].values()))


TERMS = dict(
    semihand={'sup', 'depth', 'semihand', 'labelled', 'mask', 'overlap'},
    dualnet={'sup', 'depth', 'fused', 'contrast', 'attention', 'distil', 'labelled'},
)


def watched(name, data, **kw):
    watch, leave = Watch(), Leave()
    leave.watch = watch
    learn = learner(name, data, **kw)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=[watch, leave])
    return watch, set(learn.loss_history.means)


@each
def test_host_does_not_wait(name, data):
    watch, terms = watched(name, data, steps=3)
    seen = watch.events[-1]
    assert terms == TERMS[name], 'a term was not on'
    assert watch.inside.calls == [] and watch.after.calls == ['cpu']
    assert {k: seen[k] for k in OPS if seen[k]} == {} and [
        k for k in seen if any(w in k for w in LAPACK)
    ] == []


@each
def test_no_loop_over_samples(name, data):
    small, large = (
        watched(name, data, steps=2, bs=b, m=m)[0].ops[-1].count for b, m in ((4, 3), (8, 6))
    )
    assert {k: (small[k], large[k]) for k in small | large if small[k] != large[k]} == {}


def test_no_loop_over_joints():
    "More joints in a tree of the same depth are the same operators"

    def ops(n):
        sk, src, val, frames = fan(n)
        vids = type('V', (), {'frames': lambda self: frames})()
        return watched('semihand', (src, val, vids, source_limits(src)), steps=2)[0].ops[-1].count

    few, many = ops(3), ops(6)
    assert {k: (few[k], many[k]) for k in few | many if few[k] != many[k]} == {}


def test_dualnet_predicts_from_rgb_alone(data):
    learn = fit(learner('dualnet', data, steps=2), 1)
    x = data[2].frames().images(range(6))
    model = learn.model
    one = model.predict(x, depth=True)

    def forbidden(*a, **k):
        raise AssertionError('the second branch was asked')

    model.geometry.forward = forbidden
    for a, b in zip(one, model.predict(x, depth=True)):
        assert torch.equal(a, b)


def test_sources_without_depth_images_are_refused(data):
    sk, src, val, frames = fan(3)
    with pytest.raises(DataError, match='no depth images'):
        pose_dls(src, val, frames, steps=1, bs=4, device='cpu', modalities=True)
    dls = pose_dls(data[0], data[1], data[2].frames(), steps=1, bs=4, device='cpu', depth=True)
    with pytest.raises(DataError, match='modalities=True'):
        CROSSMODAL['dualnet'].build(dls, build_pose(HAND21, MINI), MINI)


@each
def test_micro_batches_and_workers(name, data):
    "Accumulated gradients and worker processes are no obstacle"
    fit(learner(name, data, steps=4, preset=get_preset(MINI, accumulate=2), workers=1), 1)
