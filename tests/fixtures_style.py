"Rendered hands of two domains, and a StyleNet trained on them within half a minute, for the pages on style."

import torch
from fastai.callback import schedule  # noqa: F401  gives every learner `fit_one_cycle`

from geomrecon.core.skeleton import HAND21
from geomrecon.data.pairs import pose_dls
from geomrecon.models.style_training import encoder_learner, style_learner
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos


class StyleData:
    "Source images, validation images and target frames of 40 px"

    def __init__(self):
        self.source = PuppetImages(HAND21, 100_000, 40, 'synthetic', seed=0)
        self.valid = PuppetImages(HAND21, 16, 40, 'synthetic', seed=1)
        self.videos = PuppetVideos(HAND21, 8, 24, 40, 'real', seed=0)
        self.frames = self.videos.frames()

    def loaders(self, steps, target=True, **options):
        "`pose_dls` of 8 source images and 4 target pairs a step"
        return pose_dls(
            self.source,
            self.valid,
            self.frames if target else None,
            steps=steps,
            bs=8,
            bs_target=4,
            device='cpu',
            **options,
        )

    def plain_loaders(self, steps):
        "The same without changes of colour and cutout, as a StyleNet is trained"
        return self.loaders(steps, aug=dict(rotate=30, colour=0.0, cutout=0.0))


def fit_once(learn, lr):
    "One cycle of one epoch, without output"
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(1, lr)
    return learn


def trained_style_net(data):
    "An autoencoder of 170 steps, and 100 steps of its decoder as a StyleNet's"
    torch.manual_seed(0)
    autoencoder = fit_once(encoder_learner(data.plain_loaders(170), widths=(16, 32)), 2e-3).model
    torch.manual_seed(0)
    learn = style_learner(data.plain_loaders(100), autoencoder.style_net(), style='moments')
    net = fit_once(learn, 2e-3).model.net.eval()
    net.zero_grad()
    return net


def values_of(module):
    "Copies of all parameters and buffers"
    return [value.clone() for value in module.state_dict().values()]
