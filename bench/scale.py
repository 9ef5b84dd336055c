"""How long it takes until a training can start on many videos, and how much memory: this code beside earlier code.

Made on the spot, of 160 x 128 pixels: a folder of 2,000 clips of 50 frames, one video of 100,000 frames, a folder of
100,000 images, and a hundred hours (108 videos of 100,000 frames, all links to one file). Each is opened in a process
of its own (Linux), by this checkout and by another commit: seconds until the frame source is there (of the clock, and of one
core), until the first batch of pairs is there, batches a second after that, and the most memory held. Then the same
again with the cache that the first left.

usage: python bench/scale.py [--before COMMIT] [--out results/scale.json] [--small]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from io import BytesIO
from pathlib import Path

import av
import cv2
import numpy as np

HERE = Path(__file__).resolve().parents[1]
HEIGHT, WIDTH = 128, 160
#: name -> (crop, store, with a cache, by which code)
BOTH = ('before', 'now')
CASES = {
    'clips': [
        ('whole', 'memory', True, BOTH),
        ('whole', 'none', False, BOTH),
        ('whole', 'stream', True, ('now',)),
        ('motion', 'memory', True, ('before',)),
        ('motion', 'stream', True, ('now',)),
    ],
    'video': [
        ('whole', 'memory', True, ('before',)),
        ('whole', 'none', False, ('before',)),
        ('whole', 'stream', True, ('now',)),
        ('motion', 'stream', True, ('now',)),
    ],
    'images': [
        ('whole', 'none', False, ('before',)),
        ('whole', 'stream', True, ('now',)),
    ],
    'hours': [
        ('whole', 'stream', True, ('now',)),
        ('motion', 'stream', True, ('now',)),
    ],
}


# What is opened


def draw(number, seed):
    "A dark ellipse that walks round on an uneven floor"
    random = np.random.default_rng(seed)
    coarse = random.integers(120, 200, (8, 10, 3), dtype=np.uint8)
    frame = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    angle = number / 25 + seed
    middle = int(80 + 45 * np.cos(angle)), int(64 + 35 * np.sin(angle))
    turn = np.degrees(angle) + 90
    cv2.ellipse(
        frame, middle, (16, 8), turn, startAngle=0, endAngle=360, color=(30, 30, 30), thickness=-1
    )
    return frame


def encode(path, n_frames, seed=0):
    "An H.264 video with a key frame in a hundred"
    with av.open(str(path), 'w') as container:
        options = dict(crf='23', preset='veryfast', g='100', bf='2')
        stream = container.add_stream('libx264', rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
        for number in range(n_frames):
            frame = av.VideoFrame.from_ndarray(draw(number, seed), format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def repeat(source, path, times):
    "The packets of a video, again and again"
    with av.open(str(source)) as one, av.open(str(path), 'w') as many:
        stream = one.streams.video[0]
        target = many.add_stream_from_template(stream)
        packets = [packet for packet in one.demux(stream) if packet.size]
        length = max(packet.pts for packet in packets) + packets[0].duration
        stamps = [(packet.pts, packet.dts) for packet in packets]
        for number in range(times):
            for packet, (pts, dts) in zip(packets, stamps):
                packet.pts, packet.dts = pts + number * length, dts + number * length
                packet.stream = target
                many.mux(packet)


def make(folder, name, small):
    "One of the inputs"
    factor = 20 if small else 1
    place = folder / name
    place.mkdir()
    if name == 'clips':
        for seed in range(20):
            encode(place / f'clip{seed}.mp4', 50, seed)
        for number in range(20, 2000 // factor):
            (place / f'clip{number}.mp4').write_bytes(
                (place / f'clip{number % 20}.mp4').read_bytes()
            )
    elif name == 'images':
        pictures = [cv2.imencode('.png', draw(number, 0))[1].tobytes() for number in range(200)]
        for number in range(100_000 // factor):
            (place / f'{number:06d}.png').write_bytes(pictures[number % 200])
    else:
        encode(folder / 'part.mp4', 1000)
        repeat(folder / 'part.mp4', place / 'long.mp4', 100 // factor)
        if name == 'hours':
            for number in range(1, 108):
                os.link(place / 'long.mp4', place / f'long{number}.mp4')


# What is measured, in a process of its own


def spent():
    "Seconds of one core so far"
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident(field='VmRSS'):
    "Megabytes that this process holds"
    for line in Path('/proc/self/status').read_text(encoding='utf-8').splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024


def highest():
    "Megabytes that this process has held at most"
    return resident('VmHWM')


def open_and_draw(place, crop, store, cache):
    "Seconds and memory of a start, and of batches of pairs"
    from geomrecon.data.frames import VideoFrames
    from geomrecon.data.pairs import FramePairs

    before = resident()
    begin, begin_core = time.time(), spent()
    frames = VideoFrames(place, 64, crop, cache=cache, store=store, progress=False)
    pairs = FramePairs(frames, (5, 15))
    told = dict(start=time.time() - begin, start_core=spent() - begin_core, frames=len(frames))
    random = np.random.default_rng(0)

    def batch():
        base, driving = pairs.sample(random.integers(0, len(pairs), 8), random)
        return frames.images(base), frames.images(driving)

    begin, begin_core = time.time(), spent()
    batch()
    told.update(first_batch=time.time() - begin, first_batch_core=spent() - begin_core)
    begin, begin_core = time.time(), spent()
    for _ in range(20):
        batch()
    told['batch'] = (time.time() - begin) / 20
    told['batch_core'] = (spent() - begin_core) / 20
    # beyond what the imports take
    told['more_mb'] = max(0.0, highest() - before)
    return told


def in_a_child(work):
    "What a forked process gives: the packages are imported once, memory and seconds are its own"
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        told = work()
        with os.fdopen(writing, 'w') as pipe:
            json.dump(told, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit(f'a measurement ended with status {status}')
    return json.loads(told)


def measure_all(jobs):
    "Rows of these jobs, each in a child of this process, printed as they come"
    import geomrecon.data.frames
    import geomrecon.data.pairs

    for job in jobs:
        arguments = [job[name] for name in ('place', 'crop', 'store', 'cache')]
        told = in_a_child(lambda: open_and_draw(*arguments))
        told = {name: round(value, 4) for name, value in told.items()}
        print(json.dumps(dict(job['row'], **told)), flush=True)


def measured_by(code, jobs):
    "The rows of these jobs, by a process that imports the package from `code`"
    command = [sys.executable, '-W', 'ignore', __file__, '--measure', json.dumps(jobs)]
    environment = dict(os.environ, PYTHONPATH=str(code), OMP_NUM_THREADS='1')
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    for line in process.stdout:
        print(line, end='', flush=True)
        yield json.loads(line)
    if process.wait():
        raise SystemExit(f'{code}: status {process.returncode}')


def code_of(commit, folder):
    "The package of another commit"
    command = ['git', '-C', str(HERE), 'archive', commit, 'geomrecon']
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(folder, filter='data')
    return folder


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--before', help='commit to compare with')
    parser.add_argument('--out', type=Path, default=HERE / 'results' / 'scale.json')
    parser.add_argument('--small', action='store_true', help='a twentieth of everything, to try it')
    parser.add_argument('--only', nargs='+', default=list(CASES), help='inputs')
    parser.add_argument('--stores', nargs='+', default=['memory', 'none', 'stream'])
    parser.add_argument('--measure', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure_all(json.loads(options.measure))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name in options.only:
            make(folder, name, options.small)
        codes = dict(now=HERE)
        if options.before:
            codes['before'] = code_of(options.before, folder / 'before')
        for code, place in codes.items():
            for row in measured_by(place, jobs_of(code, folder, options)):
                rows.append(row)
                keep(rows, options)


def jobs_of(code, folder, options):
    "What is to be measured of one code"
    jobs = []
    for name in options.only:
        for crop, store, with_cache, by_code in CASES[name]:
            if store not in options.stores or code not in by_code:
                continue
            cache = str(folder / f'cache-{name}-{code}-{crop}-{store}') if with_cache else None
            for start in ('first', 'second') if with_cache else ('first',):
                row = dict(input=name, crop=crop, store=store, code=code, start_number=start)
                place = str(folder / name)
                jobs.append(dict(row=row, place=place, crop=crop, store=store, cache=cache))
    return jobs


def keep(rows, options):
    "Write what was measured so far"
    note = 'seconds of the clock (start, first_batch, batch) and of one core (_core); a batch is 8 pairs of 64 px crops'
    text = json.dumps(dict(note=note, before=options.before, rows=rows), indent=1)
    options.out.write_text(text + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
