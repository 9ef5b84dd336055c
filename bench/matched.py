"""The video's own stage against random looks: the same net, steps and seeds, measured on labelled frames.

    python bench/matched.py --video m3v1.mp4 --labels dev_labels.csv --skeleton mouse --seeds 0 1 2

Every seed of every source is trained from the start: on the rendered source alone, then adapted to the unlabelled
video. The labels are read for measuring alone. Each figure goes into the JSON as soon as it is there, and a run
that was stopped goes on where it was.
"""

import argparse
import json
import os
import platform
import shlex
from pathlib import Path

import torch

from geomrecon.core.files import write_atomic
from geomrecon.core.metrics import pixel_report
from geomrecon.core.skeleton import get_skeleton
from geomrecon.data.frames import VideoFrames
from geomrecon.learn.presets import get_preset
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.matched import matched_source
from geomrecon.puppet.pool import render_pool
from geomrecon.readers.label_coco import read_labels
from geomrecon.readers.labelled_frames import LabelledFrames
from geomrecon.use.diagnosis import diagnose
from geomrecon.use.ladder import train_phases
from geomrecon.use.predict import predict_frames
from geomrecon.use.task import Task

ORDER = ('source', 'aligned', 'pseudo', 'full')
LABEL_FREE = ('confidence', 'flip', 'affine', 'jitter', 'bones')
FIGURES = ('median_px', 'mean_px', 'within_10', 'offset_removed_px', 'flips', 'frames')


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--video', required=True, help='unlabelled target video of a still camera')
    parser.add_argument('--labels', required=True, help='labelled frames, to measure with')
    parser.add_argument('--skeleton', default='mouse', help='with a rig')
    parser.add_argument('--sources', nargs='+', default=['randomised', 'matched'])
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--preset', default='compact')
    parser.add_argument('--pool', type=int, default=6000, help='rendered images')
    parser.add_argument('--out', default='runs/matched', help='folder of the runs')
    parser.add_argument('--merge', default='results/matched.json', help='where the figures go')
    return parser.parse_args()


def read_frames(chosen, size):
    "The unlabelled crops, and the labelled ones cut out alike"
    cache = Path(chosen.out) / 'cache'
    frames = VideoFrames(chosen.video, size=size, crop='motion', cache=cache, progress=False)
    labelled = LabelledFrames(
        read_labels(chosen.labels, get_skeleton(chosen.skeleton)),
        Path(chosen.labels).parent,
        size=size,
        crop='motion',
        background=frames.backgrounds[0],
        side=frames.sides[0],
        progress=False,
    )
    return frames, labelled


def labelled_source(source, skeleton, seed, frames):
    "Endless rendered images of a source, as large as the frames' crops"
    if source == 'matched':
        return matched_source(frames, skeleton, 10_000_000, seed)
    return PuppetImages(skeleton, 10_000_000, frames.size, source, seed=seed)


def task_of(chosen, source, seed, frames, preset):
    "One adaptation problem"
    folder = Path(chosen.out) / f'{source}-{seed}'
    endless = labelled_source(source, chosen.skeleton, seed, frames=frames)
    pool = render_pool(endless, chosen.pool, folder / 'pool.pt', bar=False)
    valid = labelled_source(source, chosen.skeleton, seed + 10_000, frames=frames)
    valid = render_pool(valid, 96, bar=False)
    return Task(
        folder,
        source=pool,
        valid=valid,
        frames=frames,
        preset=preset,
        seed=seed,
        data=dict(source=f'{source} {chosen.pool}', target=Path(chosen.video).name),
    )


def figures_of(model, domain, labelled):
    "Errors on the labelled frames"
    skeleton = labelled.skeleton
    predicted = predict_frames(model, labelled.frames, domain)[0]
    axis = next(((child, root) for root, child in skeleton.bones if root == skeleton.root), None)
    report = pixel_report(predicted, labelled.pixels, skeleton, axis)
    swaps = {name: value for name, value in report.items() if name.startswith('swaps')}
    return {**{name: report[name] for name in FIGURES if name in report}, **swaps}


def without_labels(model, domain, frames, skeleton):
    "What the unlabelled video itself says"
    figures = diagnose(model, frames, skeleton, domain=domain)
    return {name: round(figures[name], 5) for name in LABEL_FREE}


def read_results(path):
    "Rows that are there already"
    path = Path(path)
    return json.loads(path.read_text(encoding='utf-8'))['rows'] if path.exists() else []


def command_for(chosen, rows):
    "What is typed to make these rows"
    words = ['python', 'bench/matched.py', '--skeleton', str(chosen.skeleton)]
    words += ['--video', Path(chosen.video).name, '--labels', Path(chosen.labels).name]
    words += ['--sources', *dict.fromkeys(row['source'] for row in rows)]
    words += ['--seeds', *(str(seed) for seed in sorted({row['seed'] for row in rows}))]
    words += ['--preset', chosen.preset, '--pool', str(chosen.pool)]
    return shlex.join(words)


def write_results(chosen, rows):
    "All rows so far, with what made them"
    rows = sorted(rows, key=lambda row: (row['source'], row['seed'], ORDER.index(row['method'])))
    about = dict(
        command=command_for(chosen, rows),
        machine=f'{os.cpu_count()} cores shared with other work, {platform.machine()}, no GPU',
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        rows=rows,
    )
    write_atomic(chosen.merge, json.dumps(about, indent=1) + '\n')


def main():
    chosen = options()
    preset = get_preset(chosen.preset)
    torch.set_num_threads(1)
    frames, labelled = read_frames(chosen, preset.size)
    for seed in chosen.seeds:
        for source in chosen.sources:
            task = task_of(chosen, source, seed, frames=frames, preset=preset)
            for method, learn, seconds, domain in train_phases(task, bar=False):
                row = dict(source=source, seed=seed, method=method, preset=preset.name)
                row.update(figures_of(learn.model, domain, labelled), seconds=round(seconds))
                row['label_free'] = without_labels(learn.model, domain, frames, task.skeleton)
                rows = [row] + [old for old in read_results(chosen.merge) if not same(old, row)]
                write_results(chosen, rows)
                print(source, seed, method, row['median_px']['all'], row['mean_px'], flush=True)


def same(one, other):
    return all(one[name] == other[name] for name in ('source', 'seed', 'method', 'preset'))


if __name__ == '__main__':
    main()
