"""One step of pre-training and one of adaptation.

Needs the installed package only, so it also runs beside a built wheel.
"""

import math
import torch
from geomrecon.core.skeleton import HAND21
from geomrecon.data.pairs import pose_dls
from geomrecon.learn.learner import adapt_learner, pose_learner
from geomrecon.learn.presets import get_preset
from geomrecon.losses.align import jitter
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos

MINI = get_preset(
    'tiny',
    depth=False,
    restyle='',
    size=48,
    width=0.25,
    deconv_width=32,
    bs=4,
    adapt_bs=4,
    adapt_bs_target=3,
    warp_width=8,
    gen_width=8,
    gen_res=1,
    rec_start=0.0,
    rec_attach=0.0,
)


def loaders(target, n_source, **options):
    "One step an epoch, of rendered hands"
    source = PuppetImages(HAND21, n_source, 48, 'synthetic', seed=0)
    valid = PuppetImages(HAND21, 4, 48, 'synthetic', seed=1)
    frames = None
    if target:
        frames = PuppetVideos(HAND21, 1, 20, 48, 'real', seed=0).frames()
        options['bs_target'] = 3
    return pose_dls(source, valid, frames, steps=1, bs=4, device='cpu', **options)


def fit_once(learn):
    "Train one step; returns the mean of every term"
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    terms = learn.loss_history.means
    for term, value in terms.items():
        assert not math.isnan(value), term
    return terms


def test_one_step():
    torch.manual_seed(0)
    learn = pose_learner(loaders(False, 100), MINI)
    fit_once(learn)
    before = learn.model.pose.head.weight.detach().clone()
    adapted = adapt_learner(loaders(True, 100), learn.model.pose, MINI)
    assert sorted(fit_once(adapted)) == ['labelled', 'pseudo', 'rec', 'sup']
    # adaptation moves its own copy, and does not touch the pre-trained net
    assert (adapted.model.pose.head.weight - before).abs().max() > 0
    assert torch.equal(learn.model.pose.head.weight, before)


def test_one_step_of_every_term():
    "2.5D with alignment, integrated pseudo-labels and reconstruction"
    torch.manual_seed(0)
    preset = get_preset(MINI, depth=True, integrate=0.0)
    dls = loaders(False, 2000, depth=True)
    learn = pose_learner(dls, preset, restyle=jitter)
    assert sorted(fit_once(learn)) == ['align', 'depth', 'sup']
    dls = loaders(True, 2000, depth=True)
    adapted = adapt_learner(dls, learn.model.pose, preset)
    terms = ['M_2D', 'M_3D', 'depth', 'labelled', 'pseudo', 'pseudo_3d', 'rec', 'sup']
    assert sorted(fit_once(adapted)) == terms
