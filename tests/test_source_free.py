"Methods without a source: not one labelled image is read, a killed run goes on bit by bit, no step waits."

import numpy as np
import pytest
import torch
from fixtures_learn import Killed, KillAt
from geomrecon.learn.checkpoint import Checkpoint
from geomrecon.methods.catalogue import METHODS
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from test_baselines import (
    PRESET,
    assert_same_terms,
    calls_lapack,
    data,  # noqa: F401
    different,
    fit,
    two_videos,
    watch,
    weights_of,
)
from test_no_sync import WAITING_OPERATORS, differing, operators_of
from test_target_labels import Guarded, mouse_videos, task_of

SMALL = PRESET.changed(
    warp_width=8, gen_width=8, gen_res=1, rec_start=0.0, rec_attach=0.0, gamma=None, keep=0.5
)
NAMES = [name for name, method in METHODS.items() if method.source_free]
each = pytest.mark.parametrize('name', NAMES)


def adapting(name, data, dls=None, **options):  # noqa: F811
    "A learner of a method from the usual loaders for both domains"
    dls = dls or data.loaders(aug=PRESET.aug)
    np.random.seed(7)
    torch.manual_seed(7)
    return METHODS[name].build(dls, data.pose, SMALL, **options)


def forbid(monkeypatch, kind):
    "From now on nothing of this kind of data set can be read, with labels or without"

    def forbidden(self, idxs):
        raise AssertionError(f'{kind.__name__} was read')

    monkeypatch.setattr(kind, 'batch', forbidden)
    if hasattr(kind, 'labels'):
        monkeypatch.setattr(kind, 'labels', forbidden)


@each
def test_no_labelled_source_image_is_read(name, data, monkeypatch):  # noqa: F811
    "From the learner on, training and validation alike: whoever touches the source is stopped"
    free = fit(adapting(name, data))
    dls = data.loaders(aug=PRESET.aug)
    forbid(monkeypatch, PuppetImages)
    assert different(weights_of(free), weights_of(fit(adapting(name, data, dls)))) == []


def test_a_method_with_a_source_is_stopped(data, monkeypatch):  # noqa: F811
    "The test above can tell"
    dls = data.loaders(aug=PRESET.aug)
    forbid(monkeypatch, PuppetImages)
    with pytest.raises(AssertionError, match='PuppetImages was read'):
        fit(adapting('ccssl', data, dls))


@each
def test_target_labels_change_nothing(name, data, monkeypatch):  # noqa: F811
    "With every label of the target destroyed, and its dataset forbidden, the same weights"
    with_labels = fit(adapting(name, data))
    videos = two_videos()
    dls = data.loaders(Guarded(videos.frames()), aug=PRESET.aug)
    for label, nothing in (('keypoints', torch.nan), ('visible', 0), ('joints3d', torch.nan)):
        videos._data[label] = torch.full_like(videos._data[label], nothing)
    forbid(monkeypatch, PuppetVideos)
    assert different(weights_of(with_labels), weights_of(fit(adapting(name, data, dls)))) == []


@each
def test_as_many_pairs_and_steps_as_other_methods(name, data):  # noqa: F811
    both = data.loaders(steps=5, bs=4, bs_target=3)
    dls = adapting(name, data, both).dls
    batches = list(dls.train)
    assert len(batches) == 5
    assert {len(batch.base) for batch in batches} == {3}


@pytest.mark.parametrize(
    'name, options', [('maps', {}), ('maps', dict(rounds=1)), ('ours-source-free', {})]
)
def test_killed_run_goes_on_bit_by_bit(name, options, data, tmp_path):  # noqa: F811
    "Killed in the second epoch, before or after which MAPS ranks the frames anew, or not at all"

    def training(file, *cbs):
        return adapting(name, data, cbs=[Checkpoint(tmp_path / file), *cbs], **options)

    whole = fit(training('whole.ckpt'), 3)
    with pytest.raises(Killed):
        fit(training('killed.ckpt', KillAt(epoch=1, iteration=0)), 3)
    again = training('killed.ckpt')
    torch.manual_seed(99)
    np.random.seed(99)
    assert again.resume(tmp_path / 'killed.ckpt') == 1
    fit(again, 3)
    assert different(weights_of(whole), weights_of(again)) == []
    assert whole.loss_history.steps == again.loss_history.steps
    assert_same_terms(whole, again)


def test_no_wait_and_no_loop_in_a_step(data):  # noqa: F811
    "From the second step on, between batch and optimiser; MAPS ranks frames between epochs"

    def watched(**sizes):
        return watch(adapting('maps', data, data.loaders(aug=PRESET.aug, **sizes)))

    small, large = watched(), watched(bs=8, bs_target=6)
    assert small.inside.calls == []
    assert small.after.calls == ['cpu']
    seen = small.events[-1]
    assert [name for name in WAITING_OPERATORS if seen[name]] == []
    assert [name for name in seen if calls_lapack(name)] == []
    assert differing(operators_of(small), operators_of(large)) == {}


@each
def test_a_run_adapts_by_it(name, tmp_path):
    "As `geomrecon adapt --method` does, and a second time it is there already"
    task = task_of(tmp_path, mouse_videos().frames())
    pose, _ = task.pretrain(bar=False)
    learn, _ = task.adapt_by(name, pose.model.pose, bar=False)
    again, seconds = task.adapt_by(name, pose.model.pose, bar=False)
    assert different(weights_of(learn), weights_of(again)) == []
    joints, confidence = learn.model.predict(mouse_videos().frames().images([0, 30]))
    assert joints.isfinite().all()
    assert not torch.equal(learn.model.pose.head.weight, pose.model.pose.head.weight)
