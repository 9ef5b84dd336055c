"Small learners that the notebooks of the room `learn` and the tests train within a second or two."

import torch
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.optimizer import Adam

from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.pairs import pose_dls
from geomrecon.learn.terms import LossHistory
from geomrecon.losses.supervised import SupervisedLoss
from geomrecon.models.adapter import PoseAdapter
from geomrecon.models.generator import Generator
from geomrecon.models.pose import PoseNet
from geomrecon.models.warp import WarpEstimator
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos


class OneWeight(torch.nn.Module):
    "A model of a single weight, 1 at first"

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.weight * x


def squared_error(predicted, truth):
    return (predicted - truth).square().mean()


def one_weight_learner(cbs=(), items=None, bs=2):
    "A learner of `OneWeight` on eight pairs (1, 0), or on `items`, with the log of its terms"
    items = items or [(torch.ones(1), torch.zeros(1))] * 8
    dls = DataLoaders(DataLoader(items, bs=bs), DataLoader(items, bs=bs))
    cbs = [LossHistory(), *cbs]
    return Learner(dls, OneWeight(), squared_error, cbs=cbs, opt_func=Adam)


def mouse_net(**options):
    "A pose net for the mouse with 4 joints, of some ten thousand weights"
    return PoseNet(
        4,
        'resnet18',
        width=0.25,
        stem_pool=False,
        stages=3,
        n_deconv=2,
        deconv_width=32,
        **options,
    )


def mouse_model():
    "A pose net with W and G"
    warp = WarpEstimator(MOUSE4.bones, width=16, stride=2)
    return PoseAdapter(mouse_net(), warp, Generator(width=8, n_res=1))


def mouse_videos():
    "Two rendered videos of 30 frames"
    return PuppetVideos(MOUSE4, 2, 30, 48, 'real', seed=0, split='train')


def mouse_dls(steps=8, seed=0, **options):
    "Loaders of two domains: rendered mice of two styles"
    source = PuppetImages(MOUSE4, 1000, 48, 'synthetic', seed=0)
    valid = PuppetImages(MOUSE4, 8, 48, 'synthetic', seed=1)
    return pose_dls(
        source,
        valid,
        mouse_videos().frames(),
        steps=steps,
        bs=6,
        bs_target=4,
        seed=seed,
        device='cpu',
        **options,
    )


def mouse_learner(terms=(), model=None, steps=8, seed=0, lr=1e-3, learner=Learner, **options):
    "A learner of the mouse with loss terms; `options` are those of the loaders"
    torch.manual_seed(seed)
    model = model or mouse_model()
    return learner(
        mouse_dls(steps, seed, **options),
        model,
        SupervisedLoss(),
        opt_func=Adam,
        lr=lr,
        cbs=[LossHistory(), *terms],
    )


def fit_quietly(learn, epochs=1, seed=None, **options):
    "`fit` without bar and table; returns the learner"
    if seed is not None:
        torch.manual_seed(seed)
    with learn.no_bar(), learn.no_logging():
        learn.fit(epochs, **options)
    return learn


class Killed(Exception):
    "Stands for a kill"


class KillAt(Callback):
    "Raises `Killed` after one step"

    def __init__(self, epoch, iteration):
        self.at = (epoch, iteration)

    def after_step(self):
        if (self.epoch, self.iter) == self.at:
            raise Killed('now')
