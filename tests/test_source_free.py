"Methods without a source: not one labelled image is read, and runs go on as others do."

import numpy as np
import pytest
import torch
from fixtures_learn import Killed, KillAt
from geomrecon.learn.checkpoint import Checkpoint
from geomrecon.methods.catalogue import METHODS
from geomrecon.puppet.images import PuppetImages
from test_baselines import (
    PRESET,
    assert_same_terms,
    data,  # noqa: F401
    different,
    fit,
    weights_of,
)
from test_target_labels import mouse_videos, task_of

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
def test_as_many_pairs_and_steps_as_other_methods(name, data):  # noqa: F811
    both = data.loaders(steps=5, bs=4, bs_target=3)
    dls = adapting(name, data, both).dls
    batches = list(dls.train)
    assert len(batches) == 5
    assert {len(batch.base) for batch in batches} == {3}


def test_maps_ranks_anew_after_a_kill(data, tmp_path):  # noqa: F811
    "Killed before the second of three rankings, the run goes on bit by bit; `test_baselines` has the rest"

    def training(file, *cbs):
        return adapting('maps', data, cbs=[Checkpoint(tmp_path / file), *cbs])

    whole = fit(training('whole.ckpt'), 3)
    with pytest.raises(Killed):
        fit(training('killed.ckpt', KillAt(epoch=1, iteration=0)), 3)
    again = training('killed.ckpt')
    torch.manual_seed(99)
    np.random.seed(99)
    assert again.resume(tmp_path / 'killed.ckpt') == 1
    assert again.pseudo_label.round == 0
    fit(again, 3)
    assert again.pseudo_label.round == 2
    assert different(weights_of(whole), weights_of(again)) == []
    assert whole.loss_history.steps == again.loss_history.steps
    assert_same_terms(whole, again)


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
