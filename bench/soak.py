"""Does anything grow in a long run? Thousands of adaptation steps and of predicted frames, with memory, open files,
threads and child processes sampled on the way.

    python bench/soak.py [--steps 2000] [--frames 20000] [--out results/soak.json]

Adaptation: the command's own learner (pseudo-labels and reconstruction, smallest nets), with its bars and checkpoints.
Prediction: a video that was rendered before, predicted again and again in one process, labelled videos and tables
included; then one video of a quarter of the frames, which is held as crops on the way.
After a warm-up a line is fitted through the samples. Memory is flat where it rises by less than LIMIT_MB for each
1,000 steps or frames, and open files, threads and processes are flat where they do not rise at all.
Linux only: it reads /proc. The exit status is 1 if anything grows."""

import argparse
import contextlib
import gc
import json
import os
import platform
import sys
import tempfile
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
import torch
from fastai.callback.core import Callback

from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.pairs import pose_dls
from geomrecon.data.video import write_video
from geomrecon.learn.checkpoint import Checkpoint
from geomrecon.learn.learner import adapt_learner, build_model, build_pose
from geomrecon.learn.presets import get_preset
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.pool import render_pool
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.use.predict import predict_media

#: Growth of memory in 1,000 steps or frames that is called flat, MB
LIMIT_MB = 1.0
#: Share of a part that is not looked at: caches fill, libraries load
WARM_UP = 0.25

PRESET = get_preset(
    'tiny-2d',
    name='soak',
    size=48,
    width=0.25,
    deconv_width=32,
    warp_width=8,
    gen_width=8,
    gen_res=1,
    adapt_bs=4,
    adapt_bs_target=3,
    steps=100,
    rec_start=0.0,
    rec_attach=0.0,
)


def sample():
    "What this process holds now"
    gc.collect()
    status = {}
    for line in Path('/proc/self/status').read_text(encoding='utf-8').splitlines():
        name, _, value = line.partition(':')
        status[name] = value.split()
    n_children = 0
    for task in Path('/proc/self/task').iterdir():
        with contextlib.suppress(OSError):
            n_children += len((task / 'children').read_text(encoding='utf-8').split())
    return dict(
        rss_mb=int(status['VmRSS'][0]) / 1024,
        files=len(os.listdir('/proc/self/fd')),
        threads=int(status['Threads'][0]),
        processes=n_children,
    )


class Watch:
    "Samples of one part of the soak"

    def __init__(self, part, unit, every):
        self.part = part
        self.unit = unit
        self.every = every
        self.samples = []
        self.started = time.time()

    def note(self, done):
        row = dict(done=done, seconds=round(time.time() - self.started, 1), **sample())
        row['rss_mb'] = round(row['rss_mb'], 1)
        self.samples.append(row)
        held = f'{row["rss_mb"]:9.1f}{row["files"]:7d}{row["threads"]:9d}{row["processes"]:11d}'
        print(f'{self.part:12s}{done:8d}{row["seconds"]:9.0f}{held}', file=sys.stderr, flush=True)

    def growth(self, of):
        "Rise in 1,000 steps or frames after the warm-up"
        last = self.samples[-1]['done']
        late = [row for row in self.samples if row['done'] >= WARM_UP * last]
        slope, _ = np.polyfit([row['done'] for row in late], [row[of] for row in late], 1)
        return float(1000 * slope)

    def verdict(self):
        growth = {
            of: round(self.growth(of), 3) for of in ('rss_mb', 'files', 'threads', 'processes')
        }
        still = all(growth[of] < 0.01 for of in ('files', 'threads', 'processes'))
        flat = bool(growth['rss_mb'] < LIMIT_MB and still)
        per_1000 = f'growth_per_1000_{self.unit}'
        return dict(part=self.part, flat=flat, **{per_1000: growth}, samples=self.samples)


class Sampler(Callback):
    "Take a sample after every so many steps"

    def __init__(self, watch):
        self.watch = watch

    def after_step(self):
        done = self.train_iter + 1  # of all epochs
        if done % self.watch.every == 0:
            self.watch.note(done)


def adaptation(folder, n_steps):
    "Short steps with everything that a run has"
    source = render_pool(
        PuppetImages(MOUSE4, 512, PRESET.size, 'synthetic', seed=0), 512, bar=False
    )
    valid = PuppetImages(MOUSE4, 16, PRESET.size, 'synthetic', seed=1)
    frames = PuppetVideos(MOUSE4, 4, 30, PRESET.size, 'real', seed=0).frames()
    torch.manual_seed(0)
    dls = pose_dls(source, valid, frames, **PRESET.sizes(True), device='cpu', aug=PRESET.aug)
    watch = Watch('adaptation', 'steps', n_steps // 20)
    learn = adapt_learner(dls, build_pose(MOUSE4, PRESET), PRESET)
    learn.add_cbs([Sampler(watch), Checkpoint(folder / 'soak.ckpt')])
    with open(os.devnull, 'w', encoding='utf-8') as nowhere, contextlib.redirect_stdout(nowhere):
        learn.fit(n_steps // PRESET.steps)
    return watch


def video(path, n_frames):
    "A rendered mouse, again and again"
    labels = PuppetVideos(MOUSE4, 1, 100, 64, 'real', seed=0, split='test').batch(np.arange(100))
    images = labels['image'].permute(0, 2, 3, 1).numpy()
    return write_video(path, (images[i % 100] for i in range(n_frames)), 30)


def predict(path, out):
    model = build_model(MOUSE4, PRESET, split_bn=True).eval()
    predict_media(model, MOUSE4, PRESET, dict(crop='whole'), path, out, progress=False)


def prediction(folder, n_frames):
    "One video after another in one process"
    each = max(1, n_frames // 20)
    path = video(folder / 'short.mp4', each)
    watch = Watch('prediction', 'frames', each)
    for done in range(each, n_frames + 1, each):
        predict(path, folder / 'predicted')
        watch.note(done)
    return watch


def one_long_video(folder, n_frames):
    "What a video takes while it is predicted, for each 1,000 of its frames"
    path = video(folder / 'long.mp4', n_frames)
    before = sample()['rss_mb']
    started = time.time()
    predict(path, folder / 'predicted')
    crops = n_frames * 3 * PRESET.size**2 / 2**20
    return dict(
        part='one video',
        frames=n_frames,
        seconds=round(time.time() - started, 1),
        rss_mb_before=round(before, 1),
        rss_mb_after=round(sample()['rss_mb'], 1),
        crops_mb=round(crops, 1),
    )


def machine():
    "Cores and memory, no names"
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    return f'{len(os.sched_getaffinity(0))} cores, {memory:.0f} GB, {platform.machine()}, no GPU'


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--steps', type=int, default=2000, help='steps of adaptation')
    parser.add_argument('--frames', type=int, default=20000, help='frames to predict')
    parser.add_argument('--out', help='JSON file for the samples')
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    warnings.simplefilter('ignore')
    head = f'{"part":12s}{"done":>8s}{"seconds":>9s}{"RSS MB":>9s}{"files":>7s}{"threads":>9s}'
    print(head + f'{"processes":>11s}', file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        parts = [adaptation(folder, options.steps).verdict()]
        parts.append(prediction(folder, options.frames).verdict())
        parts.append(one_long_video(folder, options.frames // 4))
    flat = all(part.get('flat', True) for part in parts)
    for part in parts[:2]:
        growth = next(value for name, value in part.items() if name.startswith('growth'))
        print(f'{part["part"]}: {"flat" if part["flat"] else "GROWS"}, per 1,000: {growth}')
    print(f'one video of {parts[2]["frames"]} frames: {parts[2]}')
    results = dict(
        command=f'python bench/soak.py --steps {options.steps} --frames {options.frames}',
        machine=machine(),
        torch=torch.__version__,
        limit_mb_per_1000=LIMIT_MB,
        warm_up=WARM_UP,
        flat=flat,
        parts=parts,
    )
    if options.out:
        Path(options.out).write_text(json.dumps(results, indent=1) + '\n', encoding='utf-8')
    return 0 if flat else 1


if __name__ == '__main__':
    sys.exit(main())
