"""What one GPU does with geomrecon, unattended and in about ten minutes: one JSON, which `nbs/tutorials/07_one_gpu.ipynb` shows.

    python bench/gpu.py [--uniframe FOLDER] [--minutes 10] [--out results/gpu.json]
    python bench/gpu.py --device cpu --quick        # all of the code, on nets so small that a CPU runs them

Sections run in the order of their worth, each within its own time. One that fails or is not done in time is written down as
such, and the others go on; the file is written after each. The same command again goes on with what is not done, and
--again measures everything anew. What was measured on a CPU says so (`is_gpu`), and goes into another file by default.

With --uniframe the step of UniFrame's authors is timed beside ours, in the same run: give a folder with their repository."""

import argparse
import copy
import platform
import time
import warnings
from pathlib import Path

import cv2
import torch
from fastai.callback.core import Callback

import geomrecon
from geomrecon.core.errors import ConfigError
from geomrecon.learn.learner import build_pose
from geomrecon.learn.presets import get_preset
from gpu_agreement import agreement, without_tf32
from gpu_runner import Section, begun, free_memory, run_sections
from gpu_uniframe import ours, theirs
from step import device_name, part_rows, step_row
from step_measuring import Clock, rates
from step_memory import GB, pretended_step
from step_setting import RANDOM_VGG, Repeat, Setting, fit
from step_trace import by_part, small_preset, traced_step

RESULTS = Path(__file__).parent.parent / 'results'
#: Presets timed at full batch, and the skeletons that they are for
FULL = {'paper-hand': 'hand', 'paper-body': 'body'}
#: Nets whose frames a second are counted
PREDICTING = ('paper-hand', 'small', 'compact')

#: What --quick makes of every preset: all parts, at sizes that a CPU can afford
QUICK = dict(
    arch='resnet18',
    features='encoder',
    style_encoder='conv',
    style_widths=(4, 8),
    size=48,
    bs=4,
    adapt_bs=4,
    adapt_bs_target=3,
    warp_width=8,
    gen_width=8,
    gen_res=1,
    scales=(1.0,),
)


class Profiled(Callback):
    "PyTorch's profile of a step, and its seconds"

    order = -1000

    def __init__(self, on_gpu):
        activities = [torch.profiler.ProfilerActivity.CPU]
        if on_gpu:
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        self.profile = torch.profiler.profile(activities=activities)
        self.wait = torch.cuda.synchronize if on_gpu else (lambda: None)

    def before_batch(self):
        self.wait()
        self.profile.__enter__()
        self.started = time.perf_counter()

    def after_batch(self):
        self.wait()
        self.took = time.perf_counter() - self.started
        self.profile.__exit__(None, None, None)


class Bench:
    "A device, what it does at best, and the data and nets of a preset on it"

    def __init__(self, device, quick=False, uniframe=None):
        self.device = device
        self.is_gpu = device.type == 'cuda'
        self.quick = quick
        self.uniframe_folder = uniframe
        self.clock = Clock(device, threads=torch.get_num_threads())
        self.steps = 2 if quick else 20
        self.seconds = 0.02 if quick else 0.5
        self.rate = None
        self.made = {}

    def about(self):
        "What is said at the head of the file"
        return dict(
            device=device_name(self.device),
            is_gpu=self.is_gpu,
            quick=self.quick,
            note=self.note(),
            torch=torch.__version__,
            cuda=torch.version.cuda if self.is_gpu else None,
            python=platform.python_version(),
            geomrecon=geomrecon.__version__,
        )

    def note(self):
        "What the figures may be used for"
        if self.is_gpu and not self.quick:
            return 'measured on this GPU, networks and batches of full size'
        where = 'on this GPU' if self.is_gpu else 'on a CPU'
        how = 'with small networks and batches' if self.quick else 'at full size'
        return (
            f'a dry run {where}, {how}: it shows that the script works, and says nothing of a GPU'
        )

    def preset(self, name, **changes):
        "A preset, with --quick one of the same structure that is small"
        preset = get_preset(name, weights=None, **changes)
        if not self.quick:
            return preset
        return small_preset(preset, **{**QUICK, **changes, 'name': f'{name}, made small'})

    def setting(self, name, device=None, **changes):
        "Data and nets of a preset"
        setting = Setting(
            self.preset(name, **changes), device or self.device, FULL.get(name, 'hand')
        )
        setting.pose.to(device or self.device)
        return setting

    # Sections

    def best_rates(self):
        "Products, copies and launches that the device does in a second"
        with without_tf32():
            products, copies = rates(self.device, self.clock)
        one = torch.zeros(1, device=self.device)

        def launch_many():
            for _ in range(1000):
                one.add_(1)

        named = {str(dtype).split('.')[1]: speed for dtype, speed in products.items()}
        launch = self.clock.best(launch_many, self.seconds) / 1000
        return dict(product_flops=named, copy_bytes=copies, launch_us=1e6 * launch)

    def agrees(self):
        "Losses and weights of a few steps beside the CPU's"
        setting = self.setting('tiny', torch.device('cpu'), depth=True)
        steps, before = (3, 3) if self.quick else (4, 30)
        rows = agreement(setting, self.device, steps, before)
        return dict(preset=setting.preset.name, rows=rows)

    def step(self, name, **changes):
        "Time and memory of both stages of a preset, beside the count of memory and the peak"
        setting = self.setting(name, **changes)
        rows = []
        for kind in ('pre-training', 'adaptation'):
            free_memory()
            resident = torch.cuda.memory_allocated() if self.is_gpu else 0
            row, _ = step_row(setting, kind, self.clock, self.rate, self.steps)
            row['peak_mb'] -= resident / 2**20
            rows.append(dict(row, **self.beside_the_peak(row, setting)))
            print(f'  {kind}: {row["ms"]:.0f} ms', flush=True)
        sizes = {field: getattr(setting.preset, field) for field in SIZES}
        return dict(preset=setting.preset.name, dtype=setting.dtype, sizes=sizes, rows=rows)

    def beside_the_peak(self, row, setting):
        "Share of the measured rate of matrix products that a step reaches"
        peak = self.rate[0][getattr(torch, setting.dtype)]
        per_second = row['gflop'] * 1e9 / (row['ms'] / 1e3)
        if not per_second:
            # operators of compiled nets are not counted
            return dict(tflops=None, share_of_peak=None)
        return dict(tflops=per_second / 1e12, share_of_peak=per_second / peak)

    def counted_memory(self, name):
        "Bytes that a step needs by count, on tensors without contents"
        setting = self.setting(name, torch.device('cpu'))
        rows = []
        for kind in ('pre-training', 'adaptation'):
            parts = setting.preset.checkpointing
            parts = [part for part in parts if kind == 'adaptation' or part == 'pose']
            marks, cost = pretended_step(setting, kind, parts)
            total = marks['live'] + marks['fixed']
            rows.append(dict(stage=kind, counted_gib=total / GB, operators=cost.ops))
        return dict(preset=setting.preset.name, rows=rows)

    def kernels(self, name):
        "Where the time of an adaptation step goes: the device's busy share, and what is launched most and longest"
        learn = self.setting(name).learner('adaptation', 1)
        fit(learn, [], Repeat(learn.dls.train, 3))
        profiled = Profiled(self.is_gpu)
        fit(learn, [profiled], Repeat(learn.dls.train, 1))
        events = [event for event in profiled.profile.key_averages() if self.on_device(event)]
        events.sort(key=self.time_of, reverse=True)
        busy = sum(self.time_of(event) for event in events) / 1e6
        rows = []
        for event in events[:20]:
            row = dict(name=event.key[:80], n=event.count, ms=self.time_of(event) / 1e3)
            rows.append(row)
        launches = sum(event.count for event in events)
        return dict(ms=profiled.took * 1e3, busy=busy / profiled.took, launches=launches, rows=rows)

    def on_device(self, event):
        "Is an entry of the profile a kernel? On a CPU: an operator"
        if self.is_gpu:
            return event.device_type == torch.autograd.DeviceType.CUDA
        return event.key.startswith('aten::')

    def time_of(self, event):
        "Microseconds of an entry of the profile, without what it calls"
        return event.self_device_time_total if self.is_gpu else event.self_cpu_time_total

    def operators(self, name):
        "Operators of an adaptation step by part, counted on the CPU"
        trace = traced_step(small_preset(name), FULL.get(name, 'hand'))
        return dict(preset=name, rows=by_part(trace))

    def parts(self, name):
        "Every part of a step alone"
        setting = self.setting(name)
        rows = part_rows(setting, self.clock, self.rate, self.seconds, beside=False)
        return dict(preset=setting.preset.name, dtype=setting.dtype, rows=rows)

    def uniframe(self):
        "UniFrame's step, ours"
        n_pairs = max(1, self.preset('paper-hand').adapt_bs // 2)
        changes = dict(depth=False, adapt_bs_target=n_pairs, restyle='stylenet')
        return ours(self.setting('paper-hand', **changes), self.clock, self.steps)

    def uniframe_of_the_authors(self):
        "UniFrame's step, theirs"
        if not self.is_gpu:
            raise ConfigError('--uniframe', 'no GPU', 'one: their step calls .cuda()')
        preset = self.preset('paper-hand')
        return theirs(self.uniframe_folder, preset, self.device, 21, steps=self.steps)

    def prediction(self):
        "Frames a second from bytes on the host to joints on the host, without decoding of video"
        rows = []
        for name in PREDICTING:
            rows += self.predicted(name)
        return dict(rows=rows)

    def predicted(self, name):
        setting = self.setting(name)
        model = setting.learner('adaptation', 1).model.to(self.device)
        model = model.to(memory_format=torch.channels_last)
        n_frames = 8 if self.quick else 512
        shape = (n_frames, 3, setting.preset.size, setting.preset.size)
        frames = torch.randint(0, 256, shape, dtype=torch.uint8)
        rows = []
        for dtype, on in (('float32', False), ('bfloat16', True)):
            options = dict(setting.amp, enabled=on)

            def predict():
                with torch.autocast(**options):
                    model.predict(frames)

            seconds = self.clock.best(predict, self.seconds)
            row = dict(preset=setting.preset.name, size=setting.preset.size, dtype=dtype)
            rows.append(dict(row, frames_per_second=n_frames / seconds))
        return rows


#: Fields of a preset that say how large a step is
SIZES = ('size', 'arch', 'width', 'bs', 'adapt_bs', 'adapt_bs_target', 'features', 'checkpointing')


def sections_of(bench):
    "What is measured, in the order of its worth"
    sections = [
        Section('rates', bench.best_rates, 30),
        Section('agreement', bench.agrees, 90),
        Section('paper-hand', lambda: bench.step('paper-hand'), 90),
        Section('paper-body', lambda: bench.step('paper-body'), 90),
        Section('kernels', lambda: bench.kernels('paper-hand'), 60),
        Section('uniframe', bench.uniframe, 60),
        Section('prediction', bench.prediction, 60),
        Section('compiled', lambda: bench.step('paper-hand', compile=True), 240),
        Section('parts', lambda: bench.parts('paper-hand'), 90),
        Section('operators', lambda: bench.operators('paper-hand'), 60),
        Section('memory, paper-hand', lambda: bench.counted_memory('paper-hand'), 90),
        Section('memory, paper-body', lambda: bench.counted_memory('paper-body'), 90),
    ]
    if bench.uniframe_folder:
        theirs = Section("uniframe, authors'", bench.uniframe_of_the_authors, 60)
        sections.insert(6, theirs)
    return sections


def use_rates(bench, report):
    "Hand a bench the rates that have been measured, now or before"
    came = report['sections'].get('rates', {})
    if came.get('status') != 'done':
        raise ConfigError('rates', came.get('error', 'not measured'), 'them, before anything else')
    found = came['found']
    products = {getattr(torch, name): speed for name, speed in found['product_flops'].items()}
    bench.rate = products, found['copy_bytes']


def measure(bench, path, again=False, minutes=10.0, only=()):
    "All sections, or some; returns what the file holds"
    path = Path(path)
    if again:
        path.unlink(missing_ok=True)
    report = begun(path, bench.about())
    rate, *sections = sections_of(bench)
    chosen = [section for section in sections if not only or section.name in only]
    run_sections([rate], report, path, minutes)
    use_rates(bench, report)
    return run_sections(chosen, report, path, minutes)


def parsed_arguments(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    add('--quick', action='store_true', help='small nets and batches: a test of the script')
    add('--minutes', type=float, default=10.0, help='sections are begun within this time')
    add('--threads', type=int, default=None, help="torch's; default: as torch has it")
    add('--uniframe', help="folder with the repository of UniFrame's authors")
    add('--only', nargs='+', default=(), help='names of sections')
    add('--again', action='store_true', help='measure what is done, too')
    add('--out', help='default: results/gpu.json, without a GPU results/gpu-dry-run.json')
    return parser.parse_args(arguments)


def main(arguments=None):
    args = parsed_arguments(arguments)
    device = torch.device(args.device)
    if device.type == 'cpu' and not args.quick:
        raise SystemExit('without a GPU only --quick has an end')
    if args.threads:
        torch.set_num_threads(args.threads)
        cv2.setNumThreads(args.threads)
    warnings.simplefilter('ignore')
    torch.manual_seed(0)
    bench = Bench(device, args.quick, args.uniframe)
    is_measurement = bench.is_gpu and not args.quick
    path = args.out or RESULTS / ('gpu.json' if is_measurement else 'gpu-dry-run.json')
    try:
        measure(bench, path, args.again, args.minutes, only=args.only)
    except ConfigError as error:
        raise SystemExit(str(error)) from None
    finally:
        RANDOM_VGG.unlink(missing_ok=True)


if __name__ == '__main__':
    main()
