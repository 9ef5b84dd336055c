"""A step of UniFrame: ours, and its authors' where a folder with their code is given: for `gpu.py`.

Both learn 2D with 32 labelled images and 32 target frames a step (fewer with --quick), from a batch that is at hand: loaders
and their workers are left out, on both sides. Of theirs the function of one epoch is called as their own program calls it,
with nets of random weights and batches of noise; nothing of it is copied or changed. `np.int`, which NumPy no longer has, is
given back to it. Nothing downloads."""

import contextlib
import importlib
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch

from geomrecon.core.errors import ConfigError
from geomrecon.methods.uniframe import uniframe_learner
from step_setting import Repeat, Timer, fit

#: Options of the authors' program at their defaults, as far as a step looks at them
THEIR_DEFAULTS = dict(
    k=1,
    sigma=2,
    s2t_freq=0.5,
    s2t_alpha=(0, 1),
    t2s_freq=0.5,
    t2s_alpha=(0, 1),
    lambda_c=1.0,
    mask_ratio=0.5,
    occlude_rate=0.5,
    occlude_thresh=0.9,
    occlude_size=10,
    print_freq=10**9,
)


def ours(setting, clock, steps):
    "Milliseconds of our step of a setting without depth, and what it is made of"
    preset = setting.preset
    learn = uniframe_learner(setting.dls(True, steps), setting.pose, preset, setting.styles())
    timer = Timer(clock, skip=max(1, steps // 5))
    fit(learn, [timer], Repeat(learn.dls.train, steps))
    n_frames = 2 * preset.adapt_bs_target
    return dict(
        ms=1e3 * timer.seconds,
        images=preset.adapt_bs,
        frames=n_frames,
        size=preset.size,
        arch=preset.arch,
        dtype=setting.dtype,
    )


@contextlib.contextmanager
def importable(folder):
    "The authors' modules, while the block runs"
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        with mock.patch.object(np, 'int', int, create=True):
            yield importlib.import_module('train_human')
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], '__file__', None) or ''
            if Path(folder).resolve() in Path(file).resolve().parents:
                del sys.modules[name]


def moved_by(n):
    "How n images were moved, as their loader says it: turn, shift, shear and scale"
    zeros = torch.zeros(n, dtype=torch.float64)
    turn = torch.linspace(-60, 60, n, dtype=torch.float64)
    return [turn, [zeros, zeros], [zeros, zeros], zeros + 1]


def their_batches(n_images, n_joints, size, side):
    "A batch of the source and one of the target, for ever"
    images = torch.randn(n_images, 3, size, size)
    maps = torch.rand(n_images, n_joints, side, side)
    weight = torch.ones(n_images, n_joints, 1)
    student = dict(aug_param_stu=moved_by(n_images), target_ori=maps, target_weight_ori=weight)
    teacher = [dict(aug_param_tea=moved_by(n_images))]

    def source():
        while True:
            yield images.clone(), maps, weight, {}

    def target():
        while True:
            views = [images.clone()]
            yield images.clone(), maps, weight, student, views, [maps], [weight], teacher

    return source(), target()


def their_nets(program, n_joints, device, arch):
    "Student, teacher and style net with random weights, made as their program makes them"
    make = program.models.__dict__[arch]
    student = make(num_keypoints=n_joints, pretrained_backbone=False).to(device)
    teacher = make(num_keypoints=n_joints, pretrained_backbone=False).to(device)
    average = program.OldWeightEMA(teacher, student, alpha=0.999)
    style = program.Style_net
    encoder = torch.nn.Sequential(*list(style.vgg.children())[:31])
    return student, teacher, average, style.Net(encoder, style.decoder).to(device)


def theirs(folder, preset, device, n_joints, steps):
    "Milliseconds of their step; raises `ConfigError` for a folder without their program"
    folder = Path(folder)
    if not (folder / 'train_human.py').is_file():
        expected = "a copy of the authors' repository"
        raise ConfigError('--uniframe', f'no train_human.py in {folder.name!r}', expected)
    side = preset.size // 4
    with importable(folder) as program:
        nets = their_nets(program, n_joints, device, f'pose_{preset.arch}')
        student, teacher, average, style_net = nets
        optimiser = torch.optim.Adam(student.parameters(), lr=1e-4)
        batches = their_batches(preset.adapt_bs, n_joints, preset.size, side=side)
        losses = program.JointsMSELoss(), program.ConsLoss()

        def epoch(n_steps):
            options = dict(iters_per_epoch=n_steps, image_size=preset.size, heatmap_size=side)
            args = SimpleNamespace(**THEIR_DEFAULTS, **options)
            start = time.perf_counter()
            # fmt: off
            program.train(
                *batches, student, teacher, style_net, *losses, optimiser, average, 0, None, args
            )
            # fmt: on
            if device.type == 'cuda':
                torch.cuda.synchronize()
            return (time.perf_counter() - start) / n_steps

        epoch(max(1, steps // 5))
        return dict(ms=1e3 * epoch(steps), images=preset.adapt_bs, frames=preset.adapt_bs)
