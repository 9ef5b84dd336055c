"""Speed of exported nets on this CPU: eager, TorchScript, torch.export and onnxruntime on the same batch, in one run.

    python bench/export.py [--presets tiny compact lite] [--threads 1] [--batch 32] [--reps 9] [--out results/export.json]

A net with random weights is exported in three formats, each is opened as another tool would open it, and all take
turns on one batch of bytes. Speeds are CPU time, medians of the turns; ratios are of the same turn, so that other work
on the machine changes them little. The largest difference of the answers stands beside them."""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import onnxruntime
import torch

from geomrecon.core.skeleton import MOUSE4
from geomrecon.learn.learner import build_model
from geomrecon.learn.presets import get_preset
from geomrecon.use.export import ENDINGS, ExportedPose, clouds, describe_export
from geomrecon.use.export import differences, read_export, write_export


def exported(preset, folder):
    "The net, and functions that answer as the file of each format does"
    torch.manual_seed(0)
    model = build_model(MOUSE4, preset).eval()
    with torch.no_grad():
        heatmaps = model.pose(torch.rand(4, 3, preset.size, preset.size))
        model.pose.head.weight.mul_(0.8 / heatmaps.abs().max())
    net = ExportedPose(model, preset.size)
    about = describe_export(net, MOUSE4, preset, dict(crop='whole'))
    answers = {}
    for format, ending in ENDINGS.items():
        write_export(folder / f'net{ending}', net, about, format)
        answers[format], _ = read_export(folder / f'net{ending}', format)
    return model, answers


def seconds(function, images):
    "CPU time of one pass"
    started = time.process_time()
    function(images)
    return time.process_time() - started


def measured(name, options):
    "Frames a second of each format, and their ratio to eager"
    preset = get_preset(name, weights=None)
    images = clouds(preset.size, n=options.batch)
    with tempfile.TemporaryDirectory() as folder:
        model, answers = exported(preset, Path(folder))
        channels_first = images.permute(0, 3, 1, 2).contiguous()

        def eager(_):
            return model.predict(channels_first, depth=model.pose.has_depth)

        nets = dict(eager=eager, **answers)
        turns = {each: [] for each in nets}
        for turn in range(options.reps + 2):
            for each, function in nets.items():
                took = seconds(function, images)
                # the first passes prepare
                if turn > 1:
                    turns[each].append(took)
        largest = {each: differences(answers[each], model, images)[0] for each in answers}
    rows = []
    for each, times in turns.items():
        of_eager = [first / own for first, own in zip(turns['eager'], times)]
        rows.append(
            dict(
                preset=name,
                size=preset.size,
                depth=model.pose.has_depth,
                net='onnxruntime' if each == 'onnx' else each,
                frames_per_second=round(options.batch / statistics.median(times), 1),
                times_eager=round(statistics.median(of_eager), 2),
                largest_px=largest.get(each, {}).get('keypoints'),
            )
        )
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--presets', nargs='+', default=['tiny', 'compact', 'lite'])
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--reps', type=int, default=9)
    parser.add_argument('--out', help='JSON file for the table')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for name in options.presets:
        for row in measured(name, options):
            rows.append(row)
            speed = f'{row["frames_per_second"]:8.1f} frames/s of CPU'
            print(f'{name:9}{row["net"]:13}{speed}{row["times_eager"]:7.2f} x eager', flush=True)
    cores = len(os.sched_getaffinity(0))
    results = dict(
        command=f'python bench/export.py --batch {options.batch} --threads {options.threads}',
        machine=f'{cores} cores, {platform.machine()}, no GPU',
        torch=torch.__version__,
        onnxruntime=onnxruntime.__version__,
        rows=rows,
    )
    if options.out:
        Path(options.out).write_text(json.dumps(results, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
