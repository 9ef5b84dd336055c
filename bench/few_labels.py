"""Error against the number of labels, on a real video: what each part of a run with labels is worth.

    python bench/few_labels.py --case openfield --data ../shared/data/openfield --counts 5 10 20 --draws 0 1 2
    python bench/few_labels.py --case mirror-mouse --data ../shared/data/mirror-mouse --counts 10 20 --draws 0 1 2

Of the labelled frames so many are drawn to train on; the errors are those on the others. For openfield they are also
measured on another animal: forty frames of the unlabelled video, `results/own_labels`. Every training of one draw
starts from the same seed and has the same steps. Each figure goes into the JSON as soon as it is there, and what was
trained is not trained again.
"""

import argparse
import json
import os
import platform
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from geomrecon.core.files import make_folder, write_atomic
from geomrecon.core.metrics import axis_flips
from geomrecon.core.shared import joints_alone
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.frames import VideoFrames
from geomrecon.learn.presets import field_name, read_preset
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.matched import matched_source
from geomrecon.puppet.pool import render_pool
from geomrecon.readers.label_coco import read_labels
from geomrecon.readers.labelled_frames import LabelledFrames
from geomrecon.use.labelled_run import (
    LabelledJob,
    task_of_start,
    train_further,
    train_rendered,
    train_starts,
)
from geomrecon.use.own_video import Run, body_axis, labelled_like
from geomrecon.use.predict import predict_frames
from geomrecon.use.target_labels import Split, label_errors, with_bones

from own_labels import extract_frames

OWN_LABELS = Path(__file__).parent.parent / 'results/own_labels/openfield_m3v1.csv'
#: Figures that each row has, of the frames that were not trained on
ORDER = (
    'source',
    'labels-random',
    'labels',
    'labels-longer',
    'mixed',
    'mixed-longer',
    'pseudo',
    'full',
)
#: Those that need none
WITHOUT_LABELS = ('source', 'pseudo', 'full')


class Case(NamedTuple):
    "A video, its labels, and what there is to measure with"

    video: Path
    frames: VideoFrames
    labelled: LabelledFrames  # Some are trained on, the others measured
    rendered: object  # Rendered source; None where there is no rig
    others: LabelledFrames | None  # Another animal, only to measure with


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--case', required=True, choices=['openfield', 'mirror-mouse'])
    parser.add_argument('--data', required=True, help='folder of the video and its labels')
    parser.add_argument(
        '--counts',
        nargs='+',
        type=int,
        default=[5, 10, 20],
        help='labels; 0: rendered figures alone, then adapted',
    )
    parser.add_argument('--draws', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--methods', nargs='+', default=list(ORDER), choices=ORDER)
    parser.add_argument('--preset', default='lite')
    parser.add_argument('--set', nargs='*', default=[], help='fields of the preset, as size=128')
    parser.add_argument('--source', default='matched', help='of the rendered figures')
    parser.add_argument('--pool', type=int, default=2000, help='rendered images')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--out', default='runs/few_labels', help='folder of the runs')
    parser.add_argument('--merge', default='results/few_labels.json', help='where the figures go')
    return parser.parse_args()


def openfield(chosen, preset) -> Case:
    "A mouse from above: with a rig, and with forty frames of another animal"
    folder, out = Path(chosen.data), Path(chosen.out)
    video = folder / 'm3v1.mp4'
    crops = dict(size=preset.size, crop='motion', cache=out / 'cache', progress=False)
    frames = VideoFrames(video, step=2, **crops)
    labels = read_labels(folder / 'dev_labels.csv', MOUSE4)
    labelled = labelled_like(frames, labels, folder, preset.size)
    images = out / 'own_frames'
    extract_frames(video, OWN_LABELS, images)
    own = read_labels(OWN_LABELS, MOUSE4)
    others = labelled_like(frames, own, images, preset.size)
    if chosen.source == 'matched':
        endless = matched_source(frames, MOUSE4, 10_000_000, seed=0)
    else:
        endless = PuppetImages(MOUSE4, 10_000_000, preset.size, chosen.source, seed=0)
    pool_file = out / f'pool_{chosen.source}_{preset.size}.pt'
    rendered = render_pool(endless, chosen.pool, pool_file, bar=False)
    return Case(video, frames, labelled, rendered, others)


def mirror_mouse(chosen, preset) -> Case:
    "A mouse from the side and, in a mirror, from below: without a rig"
    folder = Path(chosen.data)
    video = folder / 'video.mp4'
    cache = Path(chosen.out) / 'cache'
    frames = VideoFrames(video, size=preset.size, crop='whole', cache=cache, progress=False)
    labels = with_bones(read_labels(folder / 'dev_labels.csv'))
    labelled = labelled_like(frames, labels, folder, preset.size)
    return Case(video, frames, labelled, rendered=None, others=None)


def job_of(case, preset, rows, seed, out, free) -> LabelledJob:
    "The trainings of one draw"
    held = np.setdiff1d(np.arange(len(case.labelled)), rows)
    return LabelledJob(
        out,
        case.frames,
        case.labelled,
        skeleton=case.labelled.skeleton,
        preset=preset,
        splits=[Split(np.sort(rows), held, 'frame')],
        rendered=case.rendered,
        free=free,
        seed=seed,
        data=dict(source=f'draw {seed}', target=case.video.name),
    )


def trained(job, start, method, known) -> Run:
    "One net; what it starts from is trained first, once"
    if start in ('source', 'mixed') and 'source' not in known:
        # the labels have no part in it, so that all counts of a draw share it
        shared = replace(job, out=job.out.parent.parent / f'source_{job.seed}')
        known['source'] = train_rendered(shared, bar=False)
    if method == 'source':
        return known['source']
    if start == 'source':
        task = job.task('unlabelled', job.widened(job.rendered), [], job.preset)
        return adapted(task, known['source'], method)
    if start not in known:
        split, rendered = job.splits[0], known.get('source')
        known[start] = train_starts(job, split, 'here', rendered, only=start, bar=False)
    if method in ('labels', 'mixed'):
        return known[start].runs[start]
    if method.endswith('longer'):
        return train_further(job, known[start], start, only='longer', bar=False).runs['longer']
    return adapted(task_of_start(job, known[start], start), known[start].runs[start], method)


def adapted(task, start, method):
    "A net that goes on with the unlabelled video"
    terms = ('pseudo',) if method == 'pseudo' else ('pseudo', 'rec')
    make_folder(task.out)
    learn, seconds = task.adapt(start.model.pose, terms, name=method, bar=False)
    return Run(learn, seconds, 'target')


def runs_of(case, preset, rows, seed, folder, methods, free):
    "Nets of the methods that are wanted, one after the other"
    from_labels = case.rendered is None
    job = job_of(case, preset, rows, seed, folder / 'net', free=free)
    known = {}
    for method in methods:
        if from_labels and method in ('source', 'mixed', 'mixed-longer'):
            continue
        if method == 'labels-random':
            untaught = preset.changed(weights=None)
            of_random = job_of(case, untaught, rows, seed, folder / 'random', free=free)
            yield method, trained(of_random, 'labels', 'labels', {})
            continue
        start = 'labels' if from_labels or method.startswith('labels') else 'mixed'
        if not len(rows):
            start = 'source'
        yield method, trained(job, start, method, known)


def figures_of(run, measured, rows):
    "Errors on some labelled frames, px, and how many animals of a rig are the wrong way round"
    px = predict_frames(run.model, measured.frames, run.domain)[0]
    errors = label_errors(px, measured.skeleton.joints, measured)[rows]
    flips = None
    if measured.skeleton is MOUSE4:
        flips = int(axis_flips(px[rows], measured.pixels[rows], *body_axis(MOUSE4)).sum())
    known = errors[np.isfinite(errors)]
    by_joint = {}
    for joint, of_joint in zip(measured.skeleton.joints, errors.T):
        if np.isfinite(of_joint).any():
            by_joint[joint] = round(float(np.nanmedian(of_joint)), 2)
    return dict(
        median=round(float(np.median(known)), 3),
        mean=round(float(known.mean()), 3),
        within_10=round(100 * float((known <= 10).mean()), 1),
        frames=len(errors),
        flips=flips,
        by_joint=by_joint,
    )


def read_rows(path):
    "Rows that are there already"
    path = Path(path)
    return json.loads(path.read_text(encoding='utf-8')) if path.exists() else dict(rows=[])


def write_row(chosen, row):
    "One more row, with what made it"
    about = read_rows(chosen.merge)
    about.update(
        machine=f'{os.cpu_count()} cores shared with other work, {platform.machine()}, no GPU',
        torch=torch.__version__,
    )
    words = [Path(word).name if os.path.sep in word else word for word in sys.argv[1:]]
    row['command'] = shlex.join(['python', 'bench/few_labels.py', *words])
    about['rows'].append(row)
    write_atomic(chosen.merge, json.dumps(about, indent=1) + '\n')


def is_there(rows, wanted):
    "Whether a figure was measured"
    return any(all(row[name] == value for name, value in wanted.items()) for row in rows)


def main():
    chosen = options()
    torch.set_num_threads(chosen.threads)
    preset = read_preset(chosen.preset, chosen.set)
    given = [field_name(change.partition('=')[0]) for change in chosen.set]
    free = tuple(name for name in ('rotate', 'flip') if name not in given)
    case = (openfield if chosen.case == 'openfield' else mirror_mouse)(chosen, preset)
    for draw in chosen.draws:
        order = np.random.default_rng(draw).permutation(len(case.labelled))
        for count in chosen.counts:
            about = dict(case=chosen.case, preset=preset.name, changes=' '.join(chosen.set))
            source = None if case.rendered is None else chosen.source
            about.update(source=source, labels=count, draw=draw)
            done = read_rows(chosen.merge)['rows']
            methods = chosen.methods
            if not count:
                methods = [method for method in methods if method in WITHOUT_LABELS]
            methods = [m for m in methods if not is_there(done, dict(about, method=m))]
            changes = '_'.join(chosen.set).replace('=', '')
            kind = f'{chosen.case}_{preset.name}_{changes}_{chosen.source}'
            folder = Path(chosen.out) / kind / f'{count}_{draw}'
            for method, run in runs_of(
                case, preset, order[:count], seed=draw, folder=folder, methods=methods, free=free
            ):
                row = dict(about, method=method, seconds=round(run.seconds, 1))
                row['held_out'] = figures_of(run, case.labelled, np.sort(order[count:]))
                if run.model.pose.sharing is not None:
                    with joints_alone(run.model):
                        row['apart'] = figures_of(run, case.labelled, np.sort(order[count:]))
                if case.others is not None:
                    every = np.arange(len(case.others))
                    row['other_animal'] = figures_of(run, case.others, every)
                write_row(chosen, row)
                print(json.dumps({**row, 'command': ''}), flush=True)


if __name__ == '__main__':
    main()
