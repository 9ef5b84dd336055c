"""Time and memory of a training step, part by part and as a whole, beside what the device could do at best.

    python bench/step.py [--preset tiny] [--device cuda] [--threads 1] [--out results/bench-cpu.json]
    python bench/step.py --memory [--out results/memory.json]

Floor: matrix products at the measured rate of their dtype, everything else at the measured rate of copying what it
reads and writes, operator by operator; a fused or cached operator can beat it.
One by one: the same results from loops over samples, joints or bones on the host (`straightforward.py`), checked
before either is timed. Label maps drawn in patches and OpenCV's images are what pose code usually does; the loops over
bones, peaks and poses in space say what batches are worth, not how fast other packages are: anyone's careful code is faster.
Each row says what its loop is.
With --memory nothing is computed: the step of the paper's presets runs on fake tensors at full batch, and the bytes
alive are counted, with FLOPs and traffic."""

import argparse
import json
import time
import warnings
from pathlib import Path

import cv2
import torch

from geomrecon.data.batch import Batch
from geomrecon.learn.presets import get_preset
from geomrecon.use.measure import peak_rss_mb
from step_measuring import Clock, Cost, close, peak, rates  # noqa: F401  tests use `close`
from step_memory import memory
from step_parts import bone_parts, compared_with, data_parts, label_parts, network_parts
from step_setting import RANDOM_VGG, Setting, step_time
from step_whole import Straightforward

MB = 2**20


def measured_part(part, device, clock, rate, seconds, beside=True):
    "One row of the table: a part's time, memory and cost, and, `beside` it, the time of what it is compared with"
    name, ours, theirs, check = part
    if not beside:
        theirs, check = None, None
    if check is not None:
        check()
    took = clock.best(ours, seconds)
    held = peak(ours, device)
    with Cost(*rate) as cost:
        ours()
    row = dict(
        part=name,
        ms=took * 1e3,
        peak_mb=held / MB,
        gflop=cost.flops / 1e9,
        ops=cost.ops,
        floor_ms=cost.seconds * 1e3,
        share_of_floor=cost.seconds / took,
    )
    if theirs is None:
        return dict(row, one_by_one_ms=None, ratio=None, one_by_one=None)
    other = clock.best(theirs, seconds / 2, 5)
    return dict(row, one_by_one_ms=other * 1e3, ratio=other / took, one_by_one=compared_with(name))


def print_part(row):
    own = (
        f'{row["part"]:40s}{row["ms"]:9.2f}{row["peak_mb"]:9.1f}{row["gflop"]:8.2f}{row["ops"]:6d}'
    )
    floor = f'{row["floor_ms"]:10.2f}{row["share_of_floor"]:9.0%}'
    other = ''
    if row['one_by_one']:
        other = f'{row["one_by_one_ms"]:12.1f}{row["ratio"]:7.1f}  {row["one_by_one"]}'
    print(own + floor + other, flush=True)


def part_rows(setting, clock, rate, seconds, bones=(32, 64), beside=True):
    "Rows of all parts, printed as they come"
    own = f'{"part":40s}{"ms":>9s}{"peak MB":>9s}{"GFLOP":>8s}{"ops":>6s}'
    floor = f'{"floor ms":>10s}{"floor/ms":>9s}'
    print(f'{own}{floor}{"one by one":>12s}{"/ms":>7s}')
    parts = [
        bone_parts(setting, *bones),
        label_parts(setting),
        data_parts(setting),
        network_parts(setting),
    ]
    rows = []
    for group in parts:
        for part in group:
            row = measured_part(part, setting.device, clock, rate, seconds=seconds, beside=beside)
            rows.append(row)
            print_part(row)
    return rows


def table(setting, clock, rate, seconds, bones):
    "Rows of all parts, and what the device can do"
    products, copies = rate
    named = {str(dtype).split('.')[1]: per_second for dtype, per_second in products.items()}
    speeds = ', '.join(f'{name} {speed / 1e9:.0f} GFLOP/s' for name, speed in named.items())
    print(f'matrix products {speeds}; copies {copies / 1e9:.1f} GB/s')
    rows = part_rows(setting, clock, rate, seconds, bones=bones)
    return rows, dict(product_flops=named, copy_bytes=copies, dtype=setting.dtype)


def step_row(setting, kind, clock, rate, steps):
    "Time, memory and cost of a whole step of 'pre-training' or 'adaptation', and of its augmentation"
    preset = setting.preset
    took, held, cost = step_time(setting, kind, steps, clock, rate)
    loader = setting.dls(kind != 'pre-training', 1).train
    raw = next(loader.create_batches(loader.get_idxs()))

    def augment():
        there = Batch(part if part is None else part.to(setting.device) for part in raw)
        loader.tfm.encodes(there)

    augmented = clock.best(augment, 0.5)
    epochs = preset.epochs if kind == 'pre-training' else preset.adapt_epochs
    n_steps = epochs * preset.steps * preset.accumulate
    row = dict(
        stage=kind,
        ms=took * 1e3,
        augment_ms=augmented * 1e3,
        peak_mb=held / MB,
        gflop=cost.flops / 1e9,
        ops=cost.ops,
        floor_ms=cost.seconds * 1e3,
        share_of_floor=cost.seconds / took,
        steps=n_steps,
        hours=(took + augmented) * n_steps / 3600,
    )
    return row, raw


def whole_row(setting, kind, clock, rate, steps):
    "`step_row`, beside a step whose hot parts are loops on the host"
    row, raw = step_row(setting, kind, clock, rate, steps)
    loops = Straightforward(setting, kind)
    other = clock.best(lambda: loops(raw), 2.0, 3) * 1e3
    return dict(
        row,
        one_by_one_ms=other,
        ratio=other / (row['ms'] + row['augment_ms']),
        one_by_one='float32; images, labels, poses and bones in loops on the host',
    )


def print_whole(row):
    print(
        f'{row["stage"]:14s} step {row["ms"]:8.1f} ms + augmentation {row["augment_ms"]:6.1f} ms, '
        f'peak {row["peak_mb"]:.0f} MB, {row["gflop"]:.0f} GFLOP, {row["ops"]} operators, '
        f'{row["share_of_floor"]:.0%} of it the floor; {row["steps"]} steps in {row["hours"]:.2f} h'
    )
    loops = f'{row["one_by_one_ms"]:.1f} ms, {row["ratio"]:.1f} x'
    print(f'{"":14s} one by one ({row["one_by_one"]}): {loops}', flush=True)


def whole(setting, clock, rate, steps):
    rows = []
    for kind in ('pre-training', 'adaptation'):
        rows.append(whole_row(setting, kind, clock, rate, steps))
        print_whole(rows[-1])
    return rows


def device_name(device):
    if device.type == 'cuda':
        return torch.cuda.get_device_name()
    cpus = Path('/proc/cpuinfo')
    if cpus.exists():
        for line in cpus.read_text(encoding='utf-8').splitlines():
            if 'model name' in line:
                return line.split(':')[1].strip()
    return 'CPU'


def time_of_step(args):
    "All parts and the whole of a preset's step on a device"
    device = torch.device(args.device)
    on_gpu = device.type == 'cuda'
    clock = Clock(device, args.threads)
    preset = get_preset(args.preset, weights=None, compile=args.compile, amp=not args.fp32)
    setting = Setting(preset, device, args.skeleton)
    setting.pose.to(device)
    name = device_name(device)
    threads = f'{args.threads} threads'
    print(f'{name}, torch {torch.__version__}, {threads}, preset {preset.name}, {setting.dtype}')
    rate = rates(device, clock)
    seconds = args.seconds or (1.0 if on_gpu else 0.6)
    parts, about = table(setting, clock, rate, seconds, args.bones)
    steps = whole(setting, clock, rate, args.steps or (30 if on_gpu else 3))
    return dict(
        device=name,
        torch=torch.__version__,
        cuda=torch.version.cuda if on_gpu else None,
        threads=args.threads,
        preset=preset.name,
        compile=args.compile,
        **about,
        parts=parts,
        whole=steps,
        peak_rss_mb=peak_rss_mb(),
    )


def parsed_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--preset', default='tiny')
    add('--skeleton', default='hand')
    add('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    add('--threads', type=int, default=1)
    add('--steps', type=int, default=None, help='steps of which the whole step is timed')
    add('--seconds', type=float, default=None, help='time for each part')
    add('--bones', type=int, nargs=2, default=(32, 64), help='samples and side of the grid')
    add('--compile', action='store_true')
    add('--fp32', action='store_true')
    add('--memory', action='store_true')
    add('--presets', nargs='+', default=['paper-hand', 'small'])
    add('--out')
    return parser.parse_args()


def main():
    args = parsed_arguments()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    warnings.simplefilter('ignore')
    torch.manual_seed(0)
    started = time.time()
    try:
        out = memory(args.presets, args.skeleton) if args.memory else time_of_step(args)
    finally:
        RANDOM_VGG.unlink(missing_ok=True)
    print(f'{time.time() - started:.0f} s')
    if args.out:
        Path(args.out).write_text(json.dumps(out, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
