"Comparison methods: a killed run goes on bit by bit, target labels are never read, and a step does not wait for the device."

import numpy as np, pytest, torch
from torch import nn
from geomrecon.data.pairs import pose_dls
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.methods.method import BASELINES
from geomrecon.methods.oracle import TargetLabels, oracle_learner
from geomrecon.methods.temporal import TemporalConsistency
from geomrecon.learn.learner import adapt_learner, build_pose
from geomrecon.learn.presets import get_preset
from geomrecon.learn.checkpoint import Checkpoint
from geomrecon.learn.terms import LossHistory
from geomrecon.models.style import ConvEncoder, StyleNet
from geomrecon.models.stylise import Stylise, style_stats
from geomrecon.core.skeleton import MOUSE4
from test_no_sync import LAPACK, OPS, HostTalk, Leave, Watch, device
from test_target_labels import Guarded

P = get_preset('tiny', size=32, width=0.125, deconv_width=16, adapt_epochs=2, decay=0.9)
METHODS = sorted(BASELINES)
KEEPS = dict(
    ccssl=dict(rounds=1)
)  # Labels of the first epoch serve in the second: they must have been saved
each = pytest.mark.parametrize('method', METHODS)


@pytest.fixture(scope='module')
def data():
    torch.manual_seed(0)
    net = StyleNet(ConvEncoder((4, 8)), 2).eval()
    vids = PuppetVideos(MOUSE4, 2, 12, 32, 'real', seed=0)
    src = PuppetImages(MOUSE4, 500, 32, 'synthetic', seed=0)
    val = PuppetImages(MOUSE4, 4, 32, 'synthetic', seed=1)
    return src, val, vids, Stylise(net, style_stats(net, vids.frames())), build_pose(MOUSE4, P)


def learner(method, data, frames=None, steps=2, bs=4, n=3, **kw):
    src, val, vids, style, pose = data
    np.random.seed(7)
    torch.manual_seed(7)
    loaders = {**BASELINES[method].loaders, **kw.pop('loaders', {})}
    dls = pose_dls(
        src,
        val,
        vids.frames() if frames is None else frames,
        steps=steps,
        bs=bs,
        bs_target=n,
        aug=P.aug,
        device=device,
        depth=True,
        **loaders,
    )
    return BASELINES[method].build(dls, pose, P, style.__class__(style.net, style.stats), **kw)


def fit(learn, n=2, **kw):
    with learn.no_bar(), learn.no_logging():
        learn.fit(n, **kw)
    return learn


class Killed(Exception):
    pass


@each
def test_killed_run_goes_on_bit_by_bit(method, data, tmp_path, monkeypatch):
    "Killed in the second epoch, after a checkpoint of the first"
    kw = KEEPS.get(method, {})
    whole = fit(learner(method, data, **kw), cbs=[Checkpoint(tmp_path / 'whole.ckpt')])
    first = learner(method, data, **kw)
    ends = LossHistory.after_batch

    def die(self):
        ends(self)
        if self.learn is first and self.epoch == 1 and self.training:
            raise Killed('now')

    monkeypatch.setattr(LossHistory, 'after_batch', die)
    with pytest.raises(Killed):
        fit(first, cbs=[Checkpoint(tmp_path / 'c.ckpt')])
    torch.manual_seed(99)
    again = learner(method, data, **kw)
    assert again.resume(tmp_path / 'c.ckpt') == 1
    fit(again)
    a = whole.model.state_dict()
    b = again.model.state_dict()
    assert a.keys() == b.keys() and [k for k in a if not torch.equal(a[k], b[k])] == []
    assert whole.loss_history.steps == again.loss_history.steps
    for x, y in zip(whole.cbs, again.cbs):
        if hasattr(x, 'term'):
            s, t = x.state_dict(), y.state_dict()
            assert s.keys() == t.keys() and all(
                torch.equal(s[k], t[k]) if torch.is_tensor(s[k]) else s[k] == t[k] for k in s
            )


@each
def test_target_labels_change_nothing(method, data, monkeypatch):
    "With every label of the target destroyed, and its dataset forbidden, the same weights"
    a = fit(learner(method, data)).model.state_dict()
    vids = PuppetVideos(MOUSE4, 2, 12, 32, 'real', seed=0)
    frames = Guarded(vids.frames())
    for k in ('keypoints', 'visible', 'joints3d'):
        vids._data[k] = torch.full_like(vids._data[k], 0 if k == 'visible' else torch.nan)

    def forbidden(self, idxs):
        raise AssertionError('a label of the target was asked for')

    monkeypatch.setattr(PuppetVideos, 'batch', forbidden)
    b = fit(learner(method, data, frames)).model.state_dict()
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


def test_oracle_does_read_them(data):
    "The upper bound depends on the labels: the test above can tell"
    src, val, vids, _, pose = data

    class Wrong:
        def __len__(self):
            return len(vids)

        def batch(self, i):
            b = vids.batch(i)
            return dict(b, keypoints=-b['keypoints'])

    got = []
    for d in (vids, Wrong()):
        torch.manual_seed(0)
        np.random.seed(0)
        dls = pose_dls(
            src, val, vids.frames(), steps=1, bs=4, bs_target=3, device=device, depth=True
        )
        got.append(fit(oracle_learner(dls, pose, P, d), 1).model.state_dict())
    assert any(not torch.equal(x, y) for x, y in zip(got[0].values(), got[1].values()))


def watch(make):
    w, leave = Watch(), Leave()
    leave.watch = w
    fit(make(), 1, cbs=[w, leave])
    return w


OTHERS = {
    'oracle': lambda d, dls: oracle_learner(dls, d[4], P, d[2]),
    'temporal': lambda d, dls: adapt_learner(
        dls, d[4], P, (), cbs=[TemporalConsistency(sigma=P.sigma)]
    ),
}


def make(method, data, **kw):
    "Every branch is taken: style both ways and an occlusion in each image that has a joint at all"
    if method not in OTHERS:
        return learner(
            method,
            data,
            **kw,
            **(dict(style_prob=1.0, occlude=1.0, sure=-9.0) if method == 'uniframe' else {}),
        )
    bs, n = kw.get('bs', 4), kw.get('n', 3)
    torch.manual_seed(7)
    return OTHERS[method](
        data,
        pose_dls(
            *data[:2],
            data[2].frames(),
            steps=2,
            bs=bs,
            bs_target=n,
            device=device,
            depth=True,
            stride=(1, 1),
        ),
    )


@pytest.mark.parametrize('method', [*METHODS, *OTHERS])
def test_no_wait_and_no_loop_in_a_step(method, data):
    "From the second step on, between the batch and the optimiser; CC-SSL makes its labels between epochs"
    small = watch(lambda: make(method, data))
    large = watch(lambda: make(method, data, bs=8, n=6))
    assert small.inside.calls == [] and small.after.calls == ['cpu']
    seen = small.events[-1]
    assert {k: seen[k] for k in OPS if seen[k]} == {} and [
        k for k in seen if any(w in k for w in LAPACK)
    ] == []
    a, b = small.ops[-1].count, large.ops[-1].count
    assert {k: (a[k], b[k]) for k in a | b if a[k] != b[k]} == {}
