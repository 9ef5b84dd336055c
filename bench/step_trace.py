"""Which operators a training step runs, and for which part of it: for `gpu.py` and its test.

    python bench/step_trace.py [--preset paper-hand] [--skeleton hand] [--most 12] [--set decay=0.999]
    python bench/step_trace.py --out results/operators.json --as now

On a GPU that has little to do an operator costs its launch, whatever its size. So operators are counted, not seconds: on the
CPU, in a step of the preset's structure on small images and batches, which is as many operators as a large one. Views and
memory that is only taken are left out: they launch nothing. What runs in the backward pass counts to the part whose forward pass asked for it."""

import argparse
import collections
import json
import sys
import warnings
from pathlib import Path

import torch
from fastai.callback.core import Callback
from torch.utils._python_dispatch import TorchDispatchMode

from geomrecon.core.files import write_atomic
from geomrecon.learn.presets import get_preset, read_preset
from step_measuring import read_and_written
from step_setting import RANDOM_VGG, Repeat, Setting, fit

#: Files on the stack, and the part that they mean; the first line of which all are there counts
PART_OF_FILES = (
    (('learn/speed.py',), 'optimiser'),
    (('learn/pseudo_label.py', 'models/pose.py'), 'labels: net'),
    (('learn/pseudo_label.py', 'losses/kinematics.py'), 'labels: poses corrected'),
    (('learn/pseudo_label.py', 'losses/supervised.py'), 'losses'),
    (('learn/pseudo_label.py',), 'labels: the rest'),
    (('models/perceptual.py',), 'perceptual loss'),
    (('models/generator.py',), 'generator G'),
    (('models/bones.py',), 'bones'),
    (('models/warp.py',), 'warp W'),
    (('models/pose.py',), 'pose net'),
    (('models/adapter.py',), 'joints of heatmaps'),
    (('data/augment.py',), 'augmentation'),
    (('data/pairs.py',), 'batch'),
    (('losses/pseudo.py',), 'moving average'),
    (('losses/supervised.py',), 'losses'),
    (('learn/terms.py',), 'losses'),
    (('core/metrics.py',), 'metrics'),
)
REST = 'fastai'
#: Operators that take memory and do nothing with it
TAKES_MEMORY = {'aten.empty', 'aten.empty_like', 'aten.empty_strided', 'aten.new_empty'}
#: Sizes that two cores trace in seconds; operators don't depend on them
SMALL = dict(
    size=64, bs=4, adapt_bs=4, adapt_bs_target=3, width=0.25, deconv_width=32, weights=None
)


def files_on_the_stack():
    "Files of the package from which the present operator was called, and whether by the backward pass"
    frame = sys._getframe(2)
    files = set()
    while frame is not None:
        name = frame.f_code.co_filename
        if name.endswith('torch/autograd/graph.py'):
            if not files:
                return files, True
            break
        _, inside, path = name.rpartition('geomrecon/')
        if inside:
            files.add(path)
        frame = frame.f_back
    return files, False


def part_of(files):
    "The part of the step that a call from these files belongs to"
    for needed, part in PART_OF_FILES:
        if all(file in files for file in needed):
            return part
    return REST


class Trace(TorchDispatchMode):
    "Counts what is launched inside: by part, by pass ('forward', 'backward') and by operator"

    def __init__(self):
        super().__init__()
        self.count = collections.Counter()
        self.part_of_node = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        files, is_backward = files_on_the_stack()
        if is_backward:
            part, direction = self.part_of_present_node(), 'backward'
        else:
            part, direction = part_of(files), 'forward'
            self.part_of_node[torch._C._autograd._get_sequence_nr() - 1] = part
        out = func(*args, **kwargs)
        name = str(func.overloadpacket)
        if name not in TAKES_MEMORY and read_and_written(func, args, kwargs, out)[1]:
            self.count[part, direction, name] += 1
        return out

    def part_of_present_node(self):
        "Whose forward pass made the node of which this is the gradient"
        node = torch._C._current_autograd_node()
        return self.part_of_node.get(None if node is None else node._sequence_nr(), REST)


class Traced(Callback):
    "`Trace` of one step, from the batch to the end of the optimiser's step"

    order = -1000

    def __init__(self):
        self.trace = Trace()

    def before_batch(self):
        self.trace.__enter__()

    def after_batch(self):
        self.trace.__exit__(None, None, None)


def small_preset(preset, **changes):
    "A preset with all its parts, small enough for a CPU"
    return get_preset(preset, **{**SMALL, **changes})


def traced_step(preset, skeleton='hand', kind='adaptation'):
    "`Trace` of one step of a preset on the CPU, augmentation included"
    torch.manual_seed(0)
    setting = Setting(preset, torch.device('cpu'), skeleton)
    learn = setting.learner(kind, 1)
    loader = learn.dls.train
    traced = Traced()
    # what is made once, tables and averages, is made in a step that does not count
    fit(learn, [], Repeat(loader, 1))
    fit(learn, [traced], Repeat(loader, 1))
    raw = next(loader.create_batches(loader.get_idxs()))
    with traced.trace:
        loader.tfm.encodes(raw)
    return traced.trace


def by_part(trace):
    "Rows (part, forward, backward, the operators that come most), the largest part first"
    parts = collections.defaultdict(collections.Counter)
    directions = collections.Counter()
    for (part, direction, operator), n in trace.count.items():
        parts[part][operator] += n
        directions[part, direction] += n
    rows = []
    for part, operators in sorted(parts.items(), key=lambda item: -item[1].total()):
        rows.append(
            dict(
                part=part,
                forward=directions[part, 'forward'],
                backward=directions[part, 'backward'],
                operators=operators.total(),
                most=dict(operators.most_common()),
            )
        )
    return rows


def print_rows(rows, most):
    for row in rows:
        named = ', '.join(f'{n} {name[5:]}' for name, n in list(row['most'].items())[:most])
        print(
            f'{row["part"]:24s}{row["forward"]:7d}{row["backward"]:7d}{row["operators"]:7d}  {named}'
        )
    print(f'{"all":24s}{sum(row["operators"] for row in rows):21d}')


def add_counts(path, name, preset, rows):
    "Write counts beside those that a file has already"
    path = Path(path)
    counts = json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}
    counts.update({'preset': preset, 'torch': torch.__version__, name: rows})
    write_atomic(path, json.dumps(counts, indent=1) + '\n')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--preset', default='paper-hand')
    add('--skeleton', default='hand')
    add('--kind', default='adaptation')
    add('--most', type=int, default=12)
    add('--set', nargs='*', default=[], dest='changes')
    add('--out', help='file of counts, in which others stay')
    add('--as', default='now', dest='name', help='name of these counts in the file')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    try:
        preset = read_preset(small_preset(args.preset), args.changes)
        trace = traced_step(preset, args.skeleton, args.kind)
    finally:
        RANDOM_VGG.unlink(missing_ok=True)
    rows = by_part(trace)
    print_rows(rows, args.most)
    if args.out:
        add_counts(args.out, args.name, args.preset, rows)


if __name__ == '__main__':
    main()
