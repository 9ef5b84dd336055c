"""What a few labels say of the annotator's convention, and what it brings to a net that was trained on a rendered source.

    python bench/convention.py --video m3v1.mp4 --labels dev_labels.csv --out runs/matched

The sources are those of `bench/matched.py`: what it left in its folder is used, what is missing is trained. The labels
that a row names are learnt from, all others are for measuring. Each row goes into the JSON as soon as it is there.

- `rendered`: the net as it is. `calibrated`: its predictions moved by the convention, without training.
- `longer`: some epochs more on the rendered source. `moved`: the same on moved labels. `labels`: on the few labels
  alone. `both`: on rendered and labelled images, half and half. `both, moved`: on moved and labelled ones.
"""

import argparse
import copy
import json
import os
import platform
import shlex
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
from geomrecon.learn.presets import get_preset
from geomrecon.puppet.convention import ConventionSource, estimate_convention
from geomrecon.use.predict import predict_frames
from geomrecon.use.task import seed_all

IDENTITY = ('source', 'seed', 'preset', 'labels', 'draw', 'variant')
VARIANTS = ('longer', 'moved', 'labels', 'both', 'both, moved')


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
    "Rows in a file"

    def __init__(self, chosen):
        self.chosen = chosen
        self.path = Path(chosen.merge)
        self.rows = []
        if self.path.exists():
            self.rows = json.loads(self.path.read_text(encoding='utf-8'))['rows']

    def has(self, **identity):
        return any(all(row[name] == identity[name] for name in IDENTITY) for row in self.rows)

    def add(self, **row):
        self.rows.append({name: round_off(value) for name, value in row.items()})
        self.rows.sort(key=lambda row: [row[name] for name in IDENTITY])

    def write(self):
        words = ['python', 'bench/convention.py', '--video', Path(self.chosen.video).name]
        words += ['--labels', Path(self.chosen.labels).name, '--skeleton', self.chosen.skeleton]
        about = dict(
            command=shlex.join(words),
            machine=f'{os.cpu_count()} cores shared with other work, {platform.machine()}, no GPU',
            torch=torch.__version__,
        )
        lines = ',\n'.join('  ' + json.dumps(row) for row in self.rows)
        text = json.dumps(about, indent=1)[:-2] + f',\n "rows": [\n{lines}\n ]\n}}\n'
        write_atomic(self.path, text)


def round_off(value):
    return round(value, 4) if isinstance(value, float) else value


def calibrations(chosen, results, predicted, labelled, same):
    "What moved predictions are worth: no training"
    for n_labels in chosen.counts:
        for draw in range(chosen.draws):
            identity = dict(same, labels=n_labels, draw=draw)
            if results.has(**identity, variant='calibrated'):
                continue
            few, others = parts_of(len(labelled), n_labels, draw)
            convention = estimate_convention(
                predicted[few], labelled.pixels[few], labelled.skeleton
            )
            moved = convention.apply(predicted)
            results.add(**identity, variant='rendered', **figures_of(predicted, labelled, others))
            results.add(**identity, variant='calibrated', **figures_of(moved, labelled, others))
    results.write()


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
            convention = estimate_convention(
                predicted[few], labelled.pixels[few], labelled.skeleton
            )
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
                results.write()
                print(*identity.values(), figures, flush=True)


def main():
    chosen = options()
    torch.set_num_threads(1)
    preset = get_preset(chosen.preset)
    frames, labelled = matched.read_frames(chosen, preset.size)
    results = Results(chosen)
    starts = {}
    for source in chosen.sources:
        task = matched.task_of(chosen, source, chosen.seed, frames=frames, preset=preset)
        start, _ = task.pretrain(bar=False)
        predicted = predict_frames(start.model, labelled.frames, 'source')[0]
        same = dict(source=source, seed=chosen.seed, preset=preset.name)
        calibrations(chosen, results, predicted, labelled=labelled, same=same)
        starts[source] = task, start, predicted, same
    for task, start, predicted, same in starts.values():
        trainings(chosen, results, task, start, predicted=predicted, labelled=labelled, same=same)


if __name__ == '__main__':
    main()
