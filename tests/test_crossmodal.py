"After SemiHand and DualNet: resumed after a kill, without target labels, without waiting, with RGB alone."

import pytest
import torch
from fixtures_learn import Killed, KillAt
from geomrecon.core.errors import DataError
from geomrecon.core.skeleton import HAND21
from geomrecon.data.pairs import pose_dls
from geomrecon.learn.checkpoint import Checkpoint, load_checkpoint
from geomrecon.learn.learner import build_pose, source_limits
from geomrecon.learn.presets import get_preset
from geomrecon.learn.pseudo_label import LabelQuality
from geomrecon.methods.catalogue import CROSSMODAL
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from test_no_sync import LAPACK, OPS, Leave, Watch, fan
from test_target_labels import Guarded

PRESET = get_preset('tiny', size=48, width=0.25, deconv_width=32, decay=0.9, flip=0.5)
OPTIONS = dict(semihand={}, dualnet=dict(start=0.5))
NEW_PART = dict(semihand='mask_head', dualnet='geometry')
LABEL_TERM = dict(semihand='semihand', dualnet='distil')
COLUMNS = dict(
    semihand={'sup', 'depth', 'semihand', 'labelled', 'mask', 'overlap'},
    dualnet={'sup', 'depth', 'fused', 'contrast', 'attention', 'distil', 'labelled'},
)
LABELS = ('keypoints', 'visible', 'inside', 'joints3d')
each = pytest.mark.parametrize('name', CROSSMODAL)
device = 'cuda' if torch.cuda.is_available() else 'cpu'


def one_video():
    return PuppetVideos(HAND21, 1, 20, 48, 'real', seed=0)


@pytest.fixture(scope='module')
def data():
    "Source, images to validate on, target frames, and what is feasible"
    source = PuppetImages(HAND21, 2000, 48, 'synthetic', seed=0)
    valid = PuppetImages(HAND21, 4, 48, 'synthetic', seed=1)
    return source, valid, one_video().frames(), source_limits(source, 256)


def learner(name, data, frames=None, steps=4, bs=4, bs_target=3, cbs=(), workers=0, preset=PRESET):
    source, valid, target_frames, limits = data
    torch.manual_seed(0)
    method = CROSSMODAL[name]
    dls = pose_dls(
        source,
        valid,
        frames or target_frames,
        steps=steps,
        bs=bs,
        bs_target=bs_target,
        seed=4,
        device=device,
        depth=preset.depth,
        aug=preset.aug,
        num_workers=workers,
        **method.loaders,
    )
    pose = build_pose(source.skeleton, preset)
    return method.build(dls, pose, preset, limits=limits, cbs=cbs, **OPTIONS[name])


def fit(learn, epochs, cbs=()):
    with learn.no_bar(), learn.no_logging():
        learn.fit_preset(epochs, cbs=cbs)
    return learn


def assert_same(state, other):
    assert state.keys() == other.keys()
    for name in state:
        assert torch.equal(state[name], other[name]), name


@each
def test_killed_and_resumed(name, data, tmp_path):
    "Weights, the new part, the moving average and all losses are those of an uninterrupted run"

    def with_checkpoint(file):
        return learner(name, data, cbs=[Checkpoint(tmp_path / file)])

    fit(with_checkpoint('whole.ckpt'), 3)
    with pytest.raises(Killed):
        fit(with_checkpoint('killed.ckpt'), 3, [KillAt(epoch=2, iteration=1)])
    resumed = with_checkpoint('killed.ckpt')
    assert resumed.resume(tmp_path / 'killed.ckpt') == 2
    fit(resumed, 3)
    whole = load_checkpoint(tmp_path / 'whole.ckpt')
    other = load_checkpoint(tmp_path / 'killed.ckpt')
    assert any(weight.startswith(NEW_PART[name]) for weight in whole['model'])
    assert_same(whole['model'], other['model'])
    term = LABEL_TERM[name]
    assert whole['terms'][term]
    assert_same(whole['terms'][term], other['terms'][term])
    assert whole['history'] == other['history']
    assert len(whole['history']['sup']) == 12


def destroy_labels(videos):
    for label in LABELS:
        if label not in videos._data:
            continue
        values = videos._data[label]
        is_mask = values.dtype == torch.bool
        videos._data[label] = torch.zeros_like(values) if is_mask else values * torch.nan


@each
def test_target_labels_change_nothing(name, data):
    "Every label destroyed, frames that give away frames alone: the same weights, whatever is measured"
    states = []
    for destroyed in (False, True):
        videos = one_video()
        if destroyed:
            destroy_labels(videos)
        frames, quality = Guarded(videos.frames()), LabelQuality(videos, 8)
        learn = learner(name, data, frames, steps=3, cbs=[quality])
        states.append(fit(learn, 1).model.state_dict())
    assert_same(*states)


def watched(name, data, **options):
    "What a step of a fit does, and the terms that took part"
    watch, leave = Watch(), Leave()
    leave.watch = watch
    learn = learner(name, data, **options)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=[watch, leave])
    return watch, set(learn.loss_history.means)


def operators(name, data, **options):
    "How often each operator runs in a step"
    watch, _ = watched(name, data, steps=2, **options)
    return watch.ops[-1].count


def differences(few, many):
    return {op: (few[op], many[op]) for op in few | many if few[op] != many[op]}


@each
def test_host_does_not_wait(name, data):
    watch, terms = watched(name, data, steps=3)
    seen = watch.events[-1]
    assert terms == COLUMNS[name], 'a term was not on'
    assert watch.inside.calls == []
    assert watch.after.calls == ['cpu']
    assert {op: seen[op] for op in OPS if seen[op]} == {}
    assert [op for op in seen if any(word in op for word in LAPACK)] == []


@each
def test_no_loop_over_samples(name, data):
    small = operators(name, data, bs=4, bs_target=3)
    large = operators(name, data, bs=8, bs_target=6)
    assert differences(small, large) == {}


def fan_data(n_fingers):
    _, source, valid, frames = fan(n_fingers)
    return source, valid, frames, source_limits(source)


def test_no_loop_over_joints():
    "More joints in a tree of the same depth are the same operators"
    few = operators('semihand', fan_data(3))
    many = operators('semihand', fan_data(6))
    assert differences(few, many) == {}


def test_dualnet_predicts_from_rgb_alone(data):
    model = fit(learner('dualnet', data, steps=2), 1).model
    images = data[2].images(range(6))
    predicted = model.predict(images, depth=True)

    def forbidden(*args, **options):
        raise AssertionError('the second branch was asked')

    model.geometry.forward = forbidden
    for part, again in zip(predicted, model.predict(images, depth=True)):
        assert torch.equal(part, again)


def test_sources_without_depth_images_are_refused(data):
    _, flat_source, flat_valid, flat_frames = fan(3)
    with pytest.raises(DataError, match='no depth images'):
        pose_dls(flat_source, flat_valid, flat_frames, steps=1, bs=4, device='cpu', modalities=True)
    source, valid, frames, _ = data
    dls = pose_dls(source, valid, frames, steps=1, bs=4, device='cpu', depth=True)
    with pytest.raises(DataError, match='modalities=True'):
        CROSSMODAL['dualnet'].build(dls, build_pose(HAND21, PRESET), PRESET)


@each
def test_micro_batches_and_workers(name, data):
    "Accumulated gradients and worker processes are no obstacle"
    preset = get_preset(PRESET, accumulate=2)
    fit(learner(name, data, steps=4, preset=preset, workers=1), 1)
