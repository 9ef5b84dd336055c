"""Prediction on a video: the way before, the way now, the limit, and DeepLabCut's loop, in one run.

    python bench/predict.py --out results/predict.json --dlc-python PATH

One generated clip of 640x480 is predicted on, whole frames as crops, with nets of random weights:

- before: crops first, a pass of the net for the plane, another for depth, tables, a second decoding to draw;
- now: `predict_and_write`, one pass, everything beside each other; also with `fast`, and tables without a video;
- onnx: the same with the net exported, in onnxruntime; `onnx-tables`: without a video;
- limit: a bare loop that decodes, crops and asks the net, and writes nothing;
- dlc: DeepLabCut's `video_inference` with a ResNet-50, in its own environment (`--dlc-python`): whole frames, and
  frames of the size of `small`. It writes nothing and draws nothing either.

Each runs in a process of its own, in turn, several rounds; what counts are the ratios within a round.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
import cv2
import numpy as np
import torch
from geomrecon.core.files import write_atomic
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.frames import VideoFrames
from geomrecon.data.images import crop_frame
from geomrecon.data.media import Media
from geomrecon.data.video import read_video, write_video
from geomrecon.learn.learner import build_model
from geomrecon.learn.presets import get_preset
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.use.export import ExportedAdapter, ExportedPose, describe_export, write_export
from geomrecon.use.predict import BATCH, labelled_frames, open_media, predict_and_write
from geomrecon.use.predict import predict_frames, predict_frames_3d, write_predictions
from geomrecon.use.predict import write_predictions_3d

#: Frames that each preset predicts on; of the slow ones fewer
FRAMES = dict(compact=200, tiny=200, small=48)
WAYS = ('before', 'now', 'tables', 'fast', 'onnx', 'onnx-tables', 'limit')
DLC_FRAMES = dict(whole=4, small=16)


# The clip


def pictures(n):
    "A rendered mouse that walks over a ground of 640x480, to and fro"
    mouse = PuppetVideos(MOUSE4, 1, 48, 96, 'real', seed=0, split='test').frames()
    crops = mouse.images(range(48)).permute(0, 2, 3, 1).numpy()
    random = np.random.default_rng(0)
    coarse = random.integers(60, 190, (6, 8, 3), dtype=np.uint8)
    ground = cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)
    for number in range(n):
        there = number % 94
        crop = crops[there if there < 48 else 94 - there]
        frame = ground.copy()
        left = 40 + 3 * (there if there < 48 else 94 - there)
        frame[60:420, left : left + 360] = cv2.resize(crop, (360, 360))
        noise = random.integers(-4, 5, frame.shape, dtype=np.int16)
        yield np.clip(frame + noise, 0, 255).astype(np.uint8)


def cut_short(clip, path, n, side=None):
    "The first frames of a clip, perhaps smaller"
    frames = read_video(clip, stop=n)
    if side is not None:
        frames = (cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in frames)
    return write_video(path, frames, 25)


# The ways


def before(model, preset, clip, out):
    "As it was: one thing after the other"
    frames = VideoFrames([clip], preset.size, crop='whole', progress=False)
    px, likelihood, _ = predict_frames(model, frames)
    write_predictions(out, frames, px, likelihood, MOUSE4)
    if model.pose.has_depth:
        xyz, ok = predict_frames_3d(model, frames, MOUSE4, preset.focal)
        write_predictions_3d(out, frames, xyz, ok, MOUSE4)
    drawn = labelled_frames(frames, [(px, likelihood)], MOUSE4)
    write_video(Path(out) / 'clip_pose.mp4', drawn, frames.fps[0])


def now(model, preset, clip, out, **options):
    "In one pass"
    frames = open_media(clip, preset, dict(crop='whole'), progress=False)
    predict_and_write(model, MOUSE4, preset, frames, out, progress=False, **options)


def random_net(preset):
    torch.manual_seed(0)
    return build_model(MOUSE4, preset).eval()


def export(name, path):
    "Write an ONNX file of the net of a preset"
    preset = get_preset(name, weights=None)
    net = ExportedPose(random_net(preset), preset.size)
    write_export(Path(path), net, describe_export(net, MOUSE4, preset, dict(crop='whole')))
    return dict(bytes=Path(path).stat().st_size)


def limit(model, preset, clip, out):
    "Decode, crop, ask the net, and nothing else"
    crops = []
    for _, frame in Media(clip).items():
        height, width = frame.shape[:2]
        box = (width - max(frame.shape)) / 2, (height - max(frame.shape)) / 2, width, width
        crops.append(crop_frame(frame, box, preset.size))
        if len(crops) == BATCH:
            ask(model, crops)
            crops = []
    if crops:
        ask(model, crops)


def ask(model, crops):
    images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()
    return model.predict(images, 'target', depth=model.pose.has_depth)


def measure(way, name, clip, n_threads, net):
    "Frames a second and peak memory of this process"
    torch.set_num_threads(n_threads)
    preset = get_preset(name, weights=None)
    model = ExportedAdapter(net) if way.startswith('onnx') else random_net(preset)
    for _ in range(2):
        ask(model, [np.zeros((preset.size, preset.size, 3), np.uint8)] * BATCH)
    ways = dict(
        before=before,
        now=now,
        tables=partial(now, video=False),
        fast=partial(now, fast=True),
        onnx=now,
        limit=limit,
        **{'onnx-tables': partial(now, video=False)},
    )
    n_frames = Media(clip).stated
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        cpu = time.process_time()
        ways[way](model, preset, clip, out)
        seconds = time.perf_counter() - started
        cpu = time.process_time() - cpu
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return dict(frames=n_frames, seconds=seconds, cpu_seconds=cpu, peak_mb=peak_mb)


# One run


def in_own_process(command):
    "The JSON that a process prints last"
    # threads of the net that wait do so asleep: on a machine that is shared, others would else be slowed down
    environment = dict(os.environ, OMP_WAIT_POLICY='PASSIVE')
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f'{command} failed:\n{done.stderr[-2000:]}')
    return json.loads(done.stdout.strip().splitlines()[-1])


def one_round(folder, presets, n_threads, dlc_python):
    "Every way once, in turn"
    rows = []
    for name in presets:
        # exporting takes memory, which a process that is measured would inherit
        net = folder / f'{name}.onnx'
        command = [sys.executable, '-W', 'ignore', __file__, '--export', net, '--preset', name]
        in_own_process(command)
        for way in WAYS:
            command = [sys.executable, '-W', 'ignore', __file__, '--measure', way, '--preset', name]
            clip = folder / f'{name}.mp4'
            options = ['--clip', clip, '--threads', str(n_threads), '--net', net]
            told = in_own_process([*command, *options])
            rows.append(dict(preset=name, way=way, **told))
            print(described(rows[-1]), flush=True)
    if dlc_python is None:
        return rows
    for size in DLC_FRAMES:
        script = Path(__file__).with_name('predict_dlc.py')
        command = [dlc_python, '-W', 'ignore', script, '--clip', folder / f'dlc_{size}.mp4']
        told = in_own_process([*command, '--threads', str(n_threads)])
        rows.append(dict(preset=f'resnet_50, {size}', way='dlc', **told))
        print(described(rows[-1]), flush=True)
    return rows


def described(row):
    speed = row['frames'] / row['seconds']
    return f'{row["preset"]:18} {row["way"]:11} {speed:7.1f} frames/s  {row["peak_mb"]:6.0f} MB'


def summary(rounds):
    "Medians over the rounds: frames a second, memory, and the ratio to the limit of the same round"
    table = []
    for k, first in enumerate(rounds[0]):
        rows = [rows[k] for rows in rounds]
        speeds = [row['frames'] / row['seconds'] for row in rows]
        entry = dict(preset=first['preset'], way=first['way'], frames=first['frames'])
        entry['frames_per_second'] = round(statistics.median(speeds), 2)
        if 'cpu_seconds' in first:
            cpu = [row['cpu_seconds'] / row['frames'] for row in rows]
            entry['cpu_ms_a_frame'] = round(1000 * statistics.median(cpu), 2)
            share = [row['cpu_seconds'] / row['seconds'] for row in rows]
            entry['cores_got'] = round(statistics.median(share), 2)
        entry['peak_mb'] = round(statistics.median(row['peak_mb'] for row in rows))
        ratios = [speed / limit_of(rows_, first['preset']) for speed, rows_ in zip(speeds, rounds)]
        if first['way'] != 'dlc':
            entry['of_limit'] = round(statistics.median(ratios), 3)
        table.append(entry)
    return table


def limit_of(rows, preset):
    "Frames a second of the bare loop in one round"
    for row in rows:
        if row['way'] == 'limit' and row['preset'] == preset:
            return row['frames'] / row['seconds']
    return float('nan')


def dlc_python_or_why(path):
    "The interpreter if it is there, and why DeepLabCut is left out if it is not"
    if path is None:
        return None, 'DeepLabCut is left out: no --dlc-python'
    if not Path(path).is_file():
        return None, f'DeepLabCut is left out: {path} is no file'
    done = subprocess.run([path, '-c', 'import deeplabcut'], capture_output=True)
    if done.returncode:
        return None, f'DeepLabCut is left out: {path} cannot import it'
    return path, None


def run(out, presets, n_rounds, n_threads, dlc_python, seconds, clip=None):
    "Rounds until their number or the time is reached, written after each"
    dlc_python, why_not = dlc_python_or_why(dlc_python)
    if why_not:
        print(why_not)
    started = time.time()
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        longest = max(FRAMES[name] for name in presets)
        clip = clip or write_video(folder / 'clip.mp4', pictures(longest), 25)
        for name in presets:
            cut_short(clip, folder / f'{name}.mp4', FRAMES[name])
        cut_short(clip, folder / 'dlc_whole.mp4', DLC_FRAMES['whole'])
        cut_short(clip, folder / 'dlc_small.mp4', DLC_FRAMES['small'], get_preset('small').size)
        while len(rounds) < n_rounds:
            rounds.append(one_round(folder, presets, n_threads, dlc_python))
            record = dict(
                command='python bench/predict.py',
                machine=f'{os.cpu_count()} cores shared with other work, {platform.machine()}, no GPU',
                load=os.getloadavg(),
                threads=n_threads,
                torch=torch.__version__,
                frame='640x480',
                rounds=len(rounds),
                skipped=why_not,
                table=summary(rounds),
                each=rounds,
            )
            write_atomic(out, json.dumps(record, indent=1) + '\n')
            so_far = time.time() - started
            if so_far * (len(rounds) + 1) / len(rounds) > seconds:
                break
    for row in record['table']:
        print(row)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', default='results/predict.json')
    parser.add_argument('--presets', nargs='+', default=list(FRAMES))
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=420, help='begin no round that ends later')
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--dlc-python', help='interpreter of an environment with DeepLabCut 3')
    parser.add_argument('--measure', choices=WAYS, help='one way, in this process')
    parser.add_argument('--preset')
    parser.add_argument('--export', help='write the net of the preset into this file')
    parser.add_argument('--net', help='exported net of the preset')
    parser.add_argument('--clip', help='one that is there in place of the generated one')
    args = parser.parse_args()
    if args.export:
        print(json.dumps(export(args.preset, args.export)))
        return
    if args.measure:
        told = measure(args.measure, args.preset, args.clip, args.threads, net=args.net)
        print(json.dumps(told))
        return
    options = dict(seconds=args.seconds, clip=args.clip)
    run(args.out, args.presets, args.rounds, args.threads, args.dlc_python, **options)


if __name__ == '__main__':
    main()
