"Methods that learn from images: a killed run goes on bit by bit, target labels are never read, no step waits."

import numpy as np
import pytest
import torch
from fixtures_learn import Killed, KillAt, fit_quietly
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.pairs import pose_dls
from geomrecon.learn.checkpoint import Checkpoint
from geomrecon.learn.learner import adapt_learner, build_pose
from geomrecon.learn.presets import get_preset
from geomrecon.methods.catalogue import BASELINES, METHODS, TODAY
from geomrecon.methods.oracle import oracle_learner
from geomrecon.methods.temporal import TemporalConsistency
from geomrecon.models.style import ConvEncoder, StyleNet
from geomrecon.models.stylise import Stylise, style_stats
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from test_no_sync import LAPACK, WAITING_OPERATORS, Leave, Watch, device, differing, operators_of
from test_target_labels import Guarded

PRESET = get_preset('tiny', size=32, width=0.125, deconv_width=16, adapt_epochs=2, decay=0.9)
NAMES = sorted([*BASELINES, *TODAY])
# labels of the first epoch serve in the second: they must have been saved; so must an optimiser's momenta
OPTIONS_OF_KILLED = dict(ccssl=dict(rounds=1), hamipose=dict(hamiltonian=True), maps=dict(rounds=1))
# every branch is taken: style both ways, an occlusion in each image that has a joint at all
EVERY_BRANCH = dict(
    uniframe=dict(style_prob=1.0, occlude=1.0, sure=-9.0),
    hamipose=dict(hamiltonian=True),
)
each = pytest.mark.parametrize('name', NAMES)


def two_videos():
    return PuppetVideos(MOUSE4, 2, 12, 32, 'real', seed=0)


class Data:
    "Images of both domains, a style and a net"

    def __init__(self):
        torch.manual_seed(0)
        style_net = StyleNet(ConvEncoder((4, 8)), 2).eval()
        self.videos = two_videos()
        self.source = PuppetImages(MOUSE4, 500, 32, 'synthetic', seed=0)
        self.valid = PuppetImages(MOUSE4, 4, 32, 'synthetic', seed=1)
        self.style = Stylise(style_net, style_stats(style_net, self.videos.frames()))
        self.pose = build_pose(MOUSE4, PRESET)

    def loaders(self, frames=None, steps=2, bs=4, bs_target=3, **options):
        return pose_dls(
            self.source,
            self.valid,
            frames or self.videos.frames(),
            steps=steps,
            bs=bs,
            bs_target=bs_target,
            device=device,
            depth=True,
            **options,
        )


@pytest.fixture(scope='module')
def data():
    return Data()


def learner(name, data, frames=None, bs=4, bs_target=3, cbs=(), **options):
    np.random.seed(7)
    torch.manual_seed(7)
    method = METHODS[name]
    dls = data.loaders(frames, bs=bs, bs_target=bs_target, aug=PRESET.aug, **method.loaders)
    style = Stylise(data.style.net, data.style.stats)
    return method.build(dls, data.pose, PRESET, style, cbs=cbs, **options)


def fit(learn, epochs=2, cbs=()):
    return fit_quietly(learn, epochs, cbs=cbs)


def weights_of(learn):
    return learn.model.state_dict()


def different(state, other):
    "Names of the tensors that differ"
    assert state.keys() == other.keys()
    return [name for name in state if not torch.equal(state[name], other[name])]


def is_same(value, other):
    return torch.equal(value, other) if torch.is_tensor(value) else value == other


def assert_same_terms(learn, other):
    for cb, other_cb in zip(learn.cbs, other.cbs):
        if not hasattr(cb, 'term'):
            continue
        state, other_state = cb.state_dict(), other_cb.state_dict()
        assert state.keys() == other_state.keys()
        for name in state:
            assert is_same(state[name], other_state[name]), name


@each
def test_killed_run_goes_on_bit_by_bit(name, data, tmp_path):
    "Killed in the second epoch, after a checkpoint of the first"
    options = OPTIONS_OF_KILLED.get(name, {})
    whole = fit(learner(name, data, **options), cbs=[Checkpoint(tmp_path / 'whole.ckpt')])
    first = learner(name, data, **options)
    with pytest.raises(Killed):
        fit(first, cbs=[Checkpoint(tmp_path / 'killed.ckpt'), KillAt(epoch=1, iteration=0)])
    torch.manual_seed(99)
    again = learner(name, data, **options)
    assert again.resume(tmp_path / 'killed.ckpt') == 1
    fit(again)
    assert different(weights_of(whole), weights_of(again)) == []
    assert whole.loss_history.steps == again.loss_history.steps
    assert_same_terms(whole, again)


@each
def test_target_labels_change_nothing(name, data, monkeypatch):
    "With every label of the target destroyed, and its dataset forbidden, the same weights"
    with_labels = fit(learner(name, data))
    videos = two_videos()
    frames = Guarded(videos.frames())
    for label, nothing in (('keypoints', torch.nan), ('visible', 0), ('joints3d', torch.nan)):
        videos._data[label] = torch.full_like(videos._data[label], nothing)

    def forbidden(self, idxs):
        raise AssertionError('a label of the target was asked for')

    monkeypatch.setattr(PuppetVideos, 'batch', forbidden)
    without = fit(learner(name, data, frames))
    assert different(weights_of(with_labels), weights_of(without)) == []


class WrongLabels:
    "The target's videos with mirrored joints"

    def __init__(self, videos):
        self.videos = videos

    def __len__(self):
        return len(self.videos)

    def batch(self, idxs):
        labelled = self.videos.batch(idxs)
        return dict(labelled, keypoints=-labelled['keypoints'])


def test_oracle_does_read_them(data):
    "The upper bound depends on the labels: the test above can tell"
    states = []
    for labelled in (data.videos, WrongLabels(data.videos)):
        torch.manual_seed(0)
        np.random.seed(0)
        learn = oracle_learner(data.loaders(steps=1), data.pose, PRESET, labelled)
        states.append(weights_of(fit(learn, 1)))
    assert different(*states)


def watch(learn):
    "What a step of a fit does"
    watching, leave = Watch(), Leave()
    leave.watch = watching
    fit(learn, 1, cbs=[watching, leave])
    return watching


def calls_lapack(operator):
    "Does an operator belong to those that wait inside?"
    return any(word in operator for word in LAPACK)


def any_learner(name, data, **sizes):
    "Learner of a method, of the oracle, or with temporal consistency"
    if name in METHODS:
        return learner(name, data, **sizes, **EVERY_BRANCH.get(name, {}))
    torch.manual_seed(7)
    dls = data.loaders(stride=(1, 1), **sizes)
    if name == 'oracle':
        return oracle_learner(dls, data.pose, PRESET, data.videos)
    term = TemporalConsistency(sigma=PRESET.sigma)
    return adapt_learner(dls, data.pose, PRESET, (), cbs=[term])


@pytest.mark.parametrize('name', [*NAMES, 'oracle', 'temporal'])
def test_no_wait_and_no_loop_in_a_step(name, data):
    "From the second step on, between batch and optimiser; CC-SSL makes its labels between epochs"
    small = watch(any_learner(name, data))
    large = watch(any_learner(name, data, bs=8, bs_target=6))
    # the host asks for nothing
    assert small.inside.calls == []
    assert small.after.calls == ['cpu']
    seen = small.events[-1]
    assert [name for name in WAITING_OPERATORS if seen[name]] == []
    # and nothing runs that waits inside
    assert [name for name in seen if calls_lapack(name)] == []
    # larger batches are the same operators
    assert differing(operators_of(small), operators_of(large)) == {}
