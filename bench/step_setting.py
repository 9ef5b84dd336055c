"Data, networks and one batch of a preset, and callbacks that stop, repeat and measure a training: for `step.py`."

import copy
import os
import tempfile
from pathlib import Path

import torch
from fastai.callback.core import Callback, CancelValidException
from torchvision.models import vgg

from geomrecon.core.skeleton import get_skeleton
from geomrecon.data.augment import TensorPoses
from geomrecon.data.pairs import pose_dls
from geomrecon.learn.learner import adapt_learner, build_pose, pose_learner, source_limits
from geomrecon.learn.presets import get_preset
from geomrecon.learn.speed import cpu_bf16
from geomrecon.losses.align import jitter
from geomrecon.models.memory import LiveBytes
from geomrecon.models.style import ConvEncoder, StyleNet, VGGEncoder
from geomrecon.models.stylise import Stylise, style_stats
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from step_measuring import Cost

#: A file for VGG-19 weights of the right shape: random ones, for timing alone
RANDOM_VGG = Path(tempfile.gettempdir()) / f'random_vgg19_{os.getpid()}.pth'


class Setting:
    "Data, networks and one batch of a preset"

    def __init__(self, preset, device, skeleton):
        self.preset = preset
        self.device = device
        self.skeleton = get_skeleton(skeleton)
        n_images = max(preset.bs, preset.adapt_bs)
        n_frames = max(32, preset.adapt_bs_target)
        render = PuppetImages(self.skeleton, 4096, preset.size, 'synthetic', seed=0)
        batch = render.batch(range(n_images))
        self.source = TensorPoses(
            batch['image'],
            batch['keypoints'],
            batch['visible'],
            self.skeleton,
            batch['joints3d'],
            batch['intrinsics'],
        )
        videos = PuppetVideos(self.skeleton, 2, n_frames, preset.size, 'real', seed=0)
        self.frames = videos.frames()
        self.limits = source_limits(render, 512, preset.limits_margin)
        if 'vgg19' in (preset.features, preset.style_encoder):
            torch.save(vgg.make_layers(vgg.cfgs['E']).state_dict(), RANDOM_VGG)
        self.pose = build_pose(self.skeleton, preset)

    @property
    def amp(self):
        "Options of autocast"
        native_bf16 = self.device.type == 'cuda' or cpu_bf16()
        enabled = self.preset.amp and native_bf16
        return dict(device_type=self.device.type, dtype=torch.bfloat16, enabled=enabled)

    @property
    def dtype(self):
        "Name of the type in which most is computed"
        return 'bfloat16' if self.amp['enabled'] else 'float32'

    def dls(self, target, steps):
        preset = self.preset
        sizes = dict(preset.sizes(target), steps=steps * preset.accumulate)
        return pose_dls(
            self.source,
            self.source,
            self.frames if target else None,
            stride=preset.stride,
            aug=preset.aug,
            device=self.device,
            depth=preset.depth,
            focal=preset.focal,
            **sizes,
        )

    def second_view(self):
        "The function that gives pre-training its second view of an image"
        return self.styles().stylise if self.preset.restyle == 'stylenet' else jitter

    def styles(self):
        "`Stylise` with a StyleNet of random weights"
        preset = self.preset
        if preset.style_encoder == 'conv':
            net = StyleNet(ConvEncoder(preset.style_widths), len(preset.style_widths))
        else:
            levels = None if preset.style_encoder == 'vgg19' else len(preset.style_widths)
            net = StyleNet(VGGEncoder(torch.load(RANDOM_VGG)), levels)
        net = net.to(self.device)
        stats = style_stats(net, self.frames, n=32)
        return Stylise(net, stats, share=1.0, alpha=preset.style_alpha)

    def learner(self, kind, steps, **changes):
        "A learner of 'pre-training' or 'adaptation', all terms on from the first step"
        features = 'encoder' if self.preset.features == 'encoder' else str(RANDOM_VGG)
        from_the_start = dict(rec_start=0.0, rec_attach=0.0, integrate=0.0)
        preset = get_preset(self.preset, features=features, **from_the_start, **changes)
        if kind == 'pre-training':
            restyle = self.second_view() if preset.restyle else None
            return pose_learner(self.dls(False, steps), preset, copy.deepcopy(self.pose), restyle)
        limits = self.limits if preset.depth else None
        return adapt_learner(self.dls(True, steps), self.pose, preset, limits=limits)


class Repeat:
    "A loader that gives its first batch again and again"

    def __init__(self, loader, n):
        self.loader = loader
        self.batch = loader.one_batch()
        self.n = n

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def __len__(self):
        return self.n

    def __iter__(self):
        return (self.batch for _ in range(self.n))


class NoValidation(Callback):
    def before_validate(self):
        raise CancelValidException


class Timer(Callback):
    "Seconds per step after the first `skip`"

    order = 10000

    def __init__(self, clock, skip=1):
        self.clock = clock
        self.skip = skip

    def wait(self):
        if self.clock.cuda:
            torch.cuda.synchronize()
        return self.clock.now()

    def after_batch(self):
        if self.iter == self.skip - 1:
            self.start = self.wait()

    def after_train(self):
        self.seconds = (self.wait() - self.start) / (self.n_iter - self.skip)


class Held(Callback):
    "Peak of one step: what is made in it, and weights, buffers and the optimiser's state by their sizes"

    order = -1000

    def before_batch(self):
        if self.dls.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats()
        elif self.iter == self.n_iter - 1:
            weights = self.model.parameters()
            self.grads = sum(w.grad.nbytes for w in weights if w.grad is not None)
            self.live = LiveBytes()
            self.live.__enter__()

    def after_batch(self):
        if self.dls.device.type == 'cuda':
            self.peak = torch.cuda.max_memory_allocated()
        elif self.iter == self.n_iter - 1:
            self.live.__exit__(None, None, None)
            self.peak = self.live.peak + self.grads + fixed_bytes(self.learn)


class Counted(Callback):
    "`Cost` of one step"

    order = -1000

    def __init__(self, products, copies):
        self.cost = Cost(products, copies)

    def before_batch(self):
        self.cost.__enter__()

    def after_batch(self):
        self.cost.__exit__(None, None, None)


def fixed_bytes(learn):
    "Bytes of weights, buffers and Adam's two averages, the frozen perceptual net's and a teacher's included"
    nets = [learn.model]
    for cb in learn.cbs:
        for part in (getattr(cb, 'perceptual', None), getattr(cb, 'teacher', None)):
            if isinstance(part, torch.nn.Module):
                nets.append(part)
    total = sum(2 * weight.nbytes for weight in learn.model.parameters())
    for net in nets:
        total += sum(tensor.nbytes for tensor in [*net.parameters(), *net.buffers()])
    return total


def fit(learn, cbs, repeat=None):
    "One epoch of training alone, without output"
    if repeat is not None:
        learn.dls.loaders[0] = repeat
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=[NoValidation(), *cbs])


def step_time(setting, kind, steps, clock, rate):
    "Seconds, peak bytes and `Cost` of a training step, all terms on, of a batch that is at hand"
    learn = setting.learner(kind, steps)
    loader = learn.dls.train
    accumulate = setting.preset.accumulate
    timer = Timer(clock, max(1, steps // 5))
    held = Held()
    counted = Counted(*rate)
    fit(learn, [timer], Repeat(loader, steps * accumulate))
    fit(learn, [held], Repeat(loader, 2 * accumulate))
    if not setting.preset.compile:
        fit(learn, [counted], Repeat(loader, 1))
    return timer.seconds, held.peak, counted.cost
