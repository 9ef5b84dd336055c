"""What a few labels say of the annotator's convention, and what it brings to a net that was trained on a rendered source.

    python bench/convention.py --video m3v1.mp4 --labels dev_labels.csv --out runs/matched

The sources are those of `bench/matched.py`: what it left in its folder is used, what is missing is trained. The labels
that a row names are learnt from, all others are for measuring. Each row goes into the JSON as soon as it is there.

- `rendered`: the net as it is. `calibrated`: its predictions moved by the convention, without training; also with one
  choice made otherwise: small offsets used too, left and right estimated apart, the middle kept on the line.
- `longer`: some epochs more on the rendered source. `moved`: the same on moved labels. `labels`: on the few labels
  alone. `both`: on rendered and labelled images, half and half. `both, moved`: on moved and labelled ones.
"""

import argparse
import copy
import json
import os
import platform
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import matched
from geomrecon.core.files import write_atomic
from geomrecon.core.metrics import pixel_report
from geomrecon.data.augment import TensorPoses
from geomrecon.data.mixed import MixedSource
from geomrecon.data.pairs import pose_dls
from geomrecon.learn.learner import pose_learner
from geomrecon.learn.presets import read_preset
from geomrecon.puppet.convention import ConventionSource, estimate_convention
from geomrecon.use.predict import predict_frames
from geomrecon.use.task import seed_all

IDENTITY = ('source', 'seed', 'preset', 'labels', 'draw', 'variant')
VARIANTS = ('both, moved', 'both', 'moved', 'longer', 'labels')
CALIBRATIONS = ('calibrated', 'every offset', 'sides apart', 'middle on the line')


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--video', required=True, help='unlabelled target video of a still camera')
    parser.add_argument(
        '--labels', required=True, help='labelled frames, to learn from and to measure'
    )
    parser.add_argument('--skeleton', default='mouse', help='with a rig')
    parser.add_argument('--sources', nargs='+', default=['randomised', 'matched'])
    parser.add_argument('--seed', type=int, default=0, help='of the sources')
    parser.add_argument('--preset', default='compact')
    parser.add_argument('--set', nargs='*', default=[], help='fields of the preset, as arch=lite0')
    parser.add_argument('--pool', type=int, default=6000, help='rendered images')
    parser.add_argument('--counts', nargs='*', type=int, default=[3, 5, 10, 20])
    parser.add_argument('--draws', type=int, default=40, help='of frames, without training')
    parser.add_argument('--train-counts', nargs='*', type=int, default=[5, 10])
    parser.add_argument('--train-draws', type=int, default=3)
    parser.add_argument('--out', default='runs/matched', help='folder of the runs')
    parser.add_argument('--merge', default='results/convention.json', help='where the figures go')
    return parser.parse_args()


def parts_of(n_frames, n_labels, draw):
    "Frames to learn from, and to measure on"
    order = np.random.default_rng(draw).permutation(n_frames)
    return np.sort(order[:n_labels]), np.sort(order[n_labels:])


def figures_of(predicted, labelled, rows):
    "Errors on some of the labelled frames"
    report = pixel_report(predicted[rows], labelled.pixels[rows], labelled.skeleton)
    return dict(
        median=report['median_px']['all'],
        mean=report['mean_px'],
        within_10=report['within_10']['all'],
    )


class Results:
    "What was trained, a row for each net, and what was calibrated, a row for all draws"

    def __init__(self, chosen):
        self.chosen = chosen
        self.path = Path(chosen.merge)
        self.trained = []
        self.calibrated = []
        self.conventions = []
        if self.path.exists():
            found = json.loads(self.path.read_text(encoding='utf-8'))
            self.trained = found['trained']
            self.calibrated = found['calibrated']
            self.conventions = found.get('conventions', [])

    def has(self, **identity):
        return any(all(row[name] == identity[name] for name in IDENTITY) for row in self.trained)

    def add(self, **row):
        self.trained.append(rounded(row))
        self.trained.sort(key=lambda row: [row[name] for name in IDENTITY])
        self.write()

    def replace(self, calibrated, conventions, same):
        "What was calibrated anew for a source, in place of what was there of it"
        for kept, new in ((self.calibrated, calibrated), (self.conventions, conventions)):
            others = [row for row in kept if any(row[key] != same[key] for key in same)]
            kept[:] = [*others, *map(rounded, new)]
        self.write()

    def write(self):
        words = ['python', 'bench/convention.py', '--video', Path(self.chosen.video).name]
        words += ['--labels', Path(self.chosen.labels).name, '--skeleton', self.chosen.skeleton]
        words += ['--set', *self.chosen.set] if self.chosen.set else []
        about = dict(
            command=shlex.join(words),
            machine=f'{os.cpu_count()} cores shared with other work, {platform.machine()}, no GPU',
            torch=torch.__version__,
            conventions=self.conventions,
            calibrated=self.calibrated,
            trained=self.trained,
        )
        write_atomic(self.path, json.dumps(about, indent=1) + '\n')


def rounded(row):
    return {
        key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()
    }


def known_pixels(labelled):
    "Labels, NaN where there is none"
    return labelled.pixels.masked_fill(~labelled.visible[..., None], torch.nan)


def estimated(predicted, labelled, rows, **options):
    "The convention by some of the labelled frames"
    known = known_pixels(labelled)
    return estimate_convention(predicted[rows], known[rows], labelled.skeleton, **options)


def on_the_line(convention):
    "Joints in the middle keep no offset across"
    offset = convention.offset.clone()
    for joint, partner in enumerate(convention.skeleton.flip_index):
        if joint == partner:
            offset[joint, 1] = 0.0
    return replace(convention, offset=offset)


def conventions_of(predicted, labelled, rows):
    "The convention as it is used, and with one choice made otherwise"
    used = estimated(predicted, labelled, rows)
    return {
        'calibrated': used,
        'every offset': estimated(predicted, labelled, rows, sure=0.0),
        'sides apart': estimated(predicted, labelled, rows, pool=False),
        'middle on the line': on_the_line(used),
    }


def mean_figures(several):
    "Means over draws"
    return {key: float(np.mean([figures[key] for figures in several])) for key in several[0]}


def calibrations(chosen, predicted, labelled, same):
    "What moved predictions are worth: no training"
    rows = []
    for n_labels in chosen.counts:
        found = {variant: [] for variant in ('rendered', *CALIBRATIONS)}
        for draw in range(chosen.draws):
            few, others = parts_of(len(labelled), n_labels, draw)
            found['rendered'].append(figures_of(predicted, labelled, others))
            for variant, convention in conventions_of(predicted, labelled, few).items():
                moved = convention.apply(predicted)
                found[variant].append(figures_of(moved, labelled, others))
        for variant, several in found.items():
            row = dict(same, labels=n_labels, draws=chosen.draws, variant=variant)
            rows.append(dict(row, **mean_figures(several)))
    return rows


def first_conventions(chosen, predicted, labelled, same):
    "What the first draw of each number of labels says"
    rows = []
    for n_labels in chosen.counts:
        few, _ = parts_of(len(labelled), n_labels, draw=0)
        convention = estimated(predicted, labelled, few)
        rows.append(dict(same, labels=n_labels, draw=0, joints=convention.rows()))
    return rows


def few_images(labelled, rows):
    batch = labelled.batch(rows)
    return TensorPoses(batch['image'], batch['keypoints'], batch['visible'], labelled.skeleton)


def source_of(variant, pool, few, convention):
    "What is trained on"
    moved = ConventionSource(pool, convention)
    sources = {
        'longer': pool,
        'moved': moved,
        'labels': few,
        'both': MixedSource([pool, few], [0.5, 0.5]),
        'both, moved': MixedSource([moved, few], [0.5, 0.5]),
    }
    return sources[variant]


def continued(task, start, source, draw):
    "A net trained further on a source"
    preset = task.preset
    seed_all(draw)
    dls = pose_dls(
        source,
        task.valid,
        steps=preset.steps,
        bs=preset.adapt_bs,
        aug=preset.aug,
        seed=draw,
        device=task.device,
        depth=preset.depth,
    )
    learn = pose_learner(dls, preset, copy.deepcopy(start.model.pose), lr=preset.adapt_lr)
    with learn.no_bar(), learn.no_logging():
        learn.fit_preset(preset.adapt_epochs)
    return learn.model


def trainings(chosen, results, task, start, predicted, labelled, same):
    "What moved labels are worth in training"
    longer = {}
    for n_labels in chosen.train_counts:
        for draw in range(chosen.train_draws):
            few, others = parts_of(len(labelled), n_labels, draw)
            convention = estimated(predicted, labelled, few)
            for variant in VARIANTS:
                identity = dict(same, labels=n_labels, draw=draw, variant=variant)
                if results.has(**identity):
                    continue
                # rendered images alone know of no label
                now = longer.get(draw) if variant == 'longer' else None
                if now is None:
                    source = source_of(variant, task.source, few_images(labelled, few), convention)
                    model = continued(task, start, source, draw)
                    now = predict_frames(model, labelled.frames, 'source')[0]
                if variant == 'longer':
                    longer[draw] = now
                figures = figures_of(now, labelled, others)
                results.add(**identity, **figures)
                print(*identity.values(), figures, flush=True)


def main():
    chosen = options()
    torch.set_num_threads(1)
    preset = read_preset(chosen.preset, chosen.set)
    frames, labelled = matched.read_frames(chosen, preset.size)
    results = Results(chosen)
    starts = {}
    for source in chosen.sources:
        task = matched.task_of(chosen, source, chosen.seed, frames=frames, preset=preset)
        start, _ = task.pretrain(bar=False)
        predicted = predict_frames(start.model, labelled.frames, 'source')[0]
        name = ' '.join([chosen.preset, *chosen.set])
        same = dict(source=source, seed=chosen.seed, preset=name)
        rows = calibrations(chosen, predicted, labelled, same=same)
        results.replace(rows, first_conventions(chosen, predicted, labelled, same=same), same)
        starts[source] = task, start, predicted, same
    for task, start, predicted, same in starts.values():
        trainings(chosen, results, task, start, predicted=predicted, labelled=labelled, same=same)


if __name__ == '__main__':
    main()
