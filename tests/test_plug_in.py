"Reconstruction added to other methods: what it moves, and that runs with it go on where they were."

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fixtures_learn import KillAt, Killed, fit_quietly
from fixtures_methods import (
    MOUSE_PRESET,
    mouse_loaders,
    mouse_style,
    mouse_target,
    weights_of,
)
from geomrecon.core.errors import ConfigError
from geomrecon.core.skeleton import MOUSE4
from geomrecon.learn.checkpoint import Checkpoint
from geomrecon.learn.image_terms import FarPairs
from geomrecon.learn.learner import build_pose, reconstructions
from geomrecon.methods.catalogue import METHODS, get_method
from geomrecon.methods.plug_in import PLUS, plus_reconstruction

SMALL = dict(warp_width=8, gen_width=8, gen_res=1, scales=(1.0,))
PRESET = MOUSE_PRESET.changed(**SMALL, integrate=0, rec_start=0, rec_attach=0)
TAKING = [name for name, method in METHODS.items() if not method.no_rec]


def build(name, steps, preset=PRESET, cbs=()):
    "A learner of a method with reconstruction, always from the same random numbers"
    method = get_method(f'{name}{PLUS}')
    torch.manual_seed(0)
    np.random.seed(0)
    pose = build_pose(MOUSE4, preset)
    dls = mouse_loaders(steps, **method.loaders)
    return method.build(dls, pose, preset, style=mouse_style(), cbs=cbs)


class GradientOfPose(Callback):
    "Largest gradient of the pose net in every step"

    order = 99

    def before_fit(self):
        self.largest = []

    def before_step(self):
        gradients = [weight.grad for weight in self.model.pose.parameters()]
        there = [gradient.abs().max() for gradient in gradients if gradient is not None]
        self.largest.append(torch.stack(there).max().item())


def reconstruction_error(learn):
    "Of the same pairs of frames, whatever was drawn in the training"
    base = np.arange(0, 60, 6)
    parts = reconstructions(learn.model, mouse_target().frames(), base, base + 8)
    return learn.reconstruct.perceptual(parts['image'], parts['driving']).item()


@pytest.mark.parametrize('name', TAKING)
def test_a_method_with_reconstruction_learns_to_reconstruct(name):
    preset = PRESET.changed(rec_lr=4e-3)
    learn = build(name, 6, preset, cbs=[GradientOfPose()])
    n_groups = len(learn.lr)
    before = reconstruction_error(learn)
    fit_quietly(learn)
    after = reconstruction_error(learn)
    assert after < before
    assert np.isfinite(learn.gradient_of_pose.largest).all()
    assert min(learn.gradient_of_pose.largest) > 0
    # every weight has one rate, and W and G have theirs
    assert len(learn.opt.param_lists) == n_groups
    in_groups = [id(weight) for group in learn.opt.param_lists for weight in group]
    assert len(in_groups) == len(set(in_groups)) == len(list(learn.model.parameters()))
    assert learn.opt.hypers[-1]['lr'] == preset.rec_lr
    # what the method learns from is still there
    assert len(learn.loss_history.means) >= 4


@pytest.mark.parametrize('name', ['uniframe', 'regda', 'ccssl'])
def test_killed_and_resumed_gives_the_weights_of_the_whole_run(name, tmp_path):
    def run(folder, *cbs):
        return build(name, 1, cbs=[Checkpoint(tmp_path / folder / 'run.ckpt'), *cbs])

    whole = fit_quietly(run('whole'), 2)
    killed = run('killed', KillAt(epoch=1, iteration=0))
    with pytest.raises(Killed):
        fit_quietly(killed, 2)
    resumed = run('killed')
    assert resumed.resume(tmp_path / 'killed' / 'run.ckpt') == 1
    fit_quietly(resumed, 2)
    wanted, found = weights_of(whole), weights_of(resumed)
    assert list(wanted) == list(found)
    assert any(weight.startswith('warp.') for weight in found)
    for weight, value in wanted.items():
        assert torch.equal(value, found[weight]), weight


def test_names_of_methods_with_reconstruction():
    method = get_method('uniframe+rec')
    assert (method.name, method.title) == ('uniframe+rec', 'UniFrame + reconstruction')
    assert method.needs == METHODS['uniframe'].needs
    with pytest.raises(ConfigError, match='reconstructs already'):
        get_method('ours+rec')
    with pytest.raises(ConfigError, match="'magic.rec'"):
        get_method('magic+rec')


@pytest.mark.parametrize('name', [name for name in METHODS if name not in TAKING])
def test_a_method_that_cannot_take_it_says_so_before_anything_is_built(name):
    with pytest.raises(ConfigError, match=METHODS[name].no_rec):
        plus_reconstruction(METHODS[name])


def test_options_of_reconstruction_reach_other_methods():
    learn = build('labels', 2, PRESET.changed(rec_even=True, far_pairs=4, rec_masks='bones'))
    assert learn.model.rec_even
    assert learn.model.warp.mask is None
    assert [cb.n_tries for cb in learn.cbs if isinstance(cb, FarPairs)] == [4]
    plain = build('labels', 2)
    assert not plain.model.rec_even
    assert not any(isinstance(cb, FarPairs) for cb in plain.cbs)
