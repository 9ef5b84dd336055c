"Small data, nets and learners that the notebooks of the room `methods` share."

import functools

import torch
from fastai.callback.core import Callback
from torch import nn

from geomrecon.core.skeleton import HAND21, MOUSE4
from geomrecon.data.augment import TensorPoses
from geomrecon.data.pairs import pose_dls
from geomrecon.learn.learner import pose_learner, source_limits
from geomrecon.learn.presets import get_preset
from geomrecon.learn.terms import LossTerm
from geomrecon.models.style import StyleNet
from geomrecon.models.stylise import Stylise, style_stats
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from fixtures_learn import fit_quietly

SMALL = dict(size=48, width=0.25, deconv_width=32, steps=40)
MOUSE_PRESET = get_preset(
    'tiny',
    **SMALL,
    bs=12,
    lr=4e-3,
    adapt_bs=6,
    adapt_bs_target=4,
    adapt_epochs=2,
    decay=0.9,
)
HAND_PRESET = get_preset('tiny', **SMALL, adapt_bs=8, adapt_bs_target=6)


@functools.cache
def mouse_source():
    return PuppetImages(MOUSE4, 100_000, 48, 'synthetic', seed=0)


@functools.cache
def mouse_valid():
    return PuppetImages(MOUSE4, 16, 48, 'synthetic', seed=1)


@functools.cache
def mouse_target():
    "Three rendered videos of 24 frames, in the other style"
    return PuppetVideos(MOUSE4, 3, 24, 48, 'real', seed=0, split='train')


def mouse_loaders(steps=3, **options):
    "Loaders of both domains"
    settings = dict(
        steps=steps,
        bs=MOUSE_PRESET.adapt_bs,
        bs_target=MOUSE_PRESET.adapt_bs_target,
        aug=dict(rotate=30, flip=0.3, cutout=0.3),
        device='cpu',
        depth=True,
    )
    return pose_dls(
        mouse_source(), mouse_valid(), mouse_target().frames(), **{**settings, **options}
    )


@functools.cache
def trained_mouse(epochs=4):
    "A net that stands in for a pre-trained one: it was shown the labels of the few target frames"
    dls = pose_dls(
        mouse_target(),
        mouse_valid(),
        steps=MOUSE_PRESET.steps,
        bs=MOUSE_PRESET.bs,
        aug=dict(rotate=20),
        device='cpu',
        depth=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return fit_quietly(pose_learner(dls, MOUSE_PRESET), epochs).model.pose


class Colours(nn.Module):
    "An encoder that needs no training: style is the mean and the deviation of the colours"

    kind = 'colours'

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def features(self, images):
        return [images]


def mouse_style():
    "Style transfer by colours, with the colours of the target"
    net = StyleNet(Colours(), 1).eval()
    net.decode = lambda features, image, maps: features
    return Stylise(net, style_stats(net, mouse_target().frames()))


@functools.cache
def hand_source():
    return PuppetImages(HAND21, 100_000, 48, 'synthetic', seed=0)


@functools.cache
def hand_valid():
    return PuppetImages(HAND21, 32, 48, 'synthetic', seed=1)


@functools.cache
def hand_target():
    "Four rendered videos of 24 frames, in the other style"
    return PuppetVideos(HAND21, 4, 24, 48, 'real', seed=0)


@functools.cache
def hand_limits():
    return source_limits(hand_source(), 512)


def hand_loaders(steps=3, source=None, **options):
    "Loaders of both domains"
    settings = dict(bs=8, bs_target=6, aug=HAND_PRESET.aug, seed=3, device='cpu', depth=True)
    frames = hand_target().frames()
    return pose_dls(
        source or hand_source(), hand_valid(), frames, steps=steps, **{**settings, **options}
    )


@functools.cache
def trained_hand():
    "A net of 140 steps on a few hundred source images"
    seen = hand_source().batch(range(768))
    pool = TensorPoses(
        seen['image'],
        seen['keypoints'],
        seen['visible'],
        skeleton=HAND21,
        joints3d=seen['joints3d'],
        intrinsics=seen['intrinsics'],
    )
    dls = pose_dls(
        pool, hand_valid(), steps=140, bs=24, aug=HAND_PRESET.aug, device='cpu', depth=True
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return fit_quietly(pose_learner(dls, HAND_PRESET)).model.pose


def weights_of(learn):
    "A copy of all weights and buffers of a model, by name"
    return {name: value.detach().clone() for name, value in learn.model.state_dict().items()}


class LookAtGradients(Callback):
    "Keeps the names of the weights that have a gradient"

    order = 99

    def __init__(self):
        self.names = set()

    def before_step(self):
        for name, weight in self.model.named_parameters():
            if weight.grad is not None and weight.grad.abs().sum() > 0:
                self.names.add(name)


def no_supervision(pred, *labels):
    return 0.0 * pred['heatmaps'].sum()


def parts_reached(learn, term):
    "Parts of the model for which a term, alone, has gradients"
    for cb in learn.cbs:
        if isinstance(cb, LossTerm):
            cb.weight = float(cb.term == term)
    learn.loss_func = no_supervision
    look = LookAtGradients()
    fit_quietly(learn, cbs=[look])
    parts = set()
    for name in look.names:
        n_kept = 2 if name.startswith('pose') else 1
        parts.add('.'.join(name.split('.')[:n_kept]))
    return parts
