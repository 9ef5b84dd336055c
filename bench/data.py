"""Reading speed of data sets on disk, against a plain OpenCV loop; and the memory of a large index.

JPEG and PNG files are decoded, cropped and resized by two worker processes. The plain loop does the least that any
loader must: imread, slice the box, resize. Both go through the same torch DataLoader with as many workers; rounds
alternate, the best of each counts.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from geomrecon.core.skeleton import HAND21, get_skeleton
from geomrecon.puppet.images import PuppetImages
from geomrecon.readers.pose_files import PoseFiles

TARGET = 600  # Images per second
RATIO = 0.8  # Of the plain loop's speed
MEMORY_MB = 1000  # Of an index of 1.5 million samples
FRAMES = (
    ('.jpg', (320, 320)),
    ('.png', (320, 320)),
    ('.jpg', (480, 640)),
    ('.jpg', (1000, 1000)),
)


# Reading speed


class Files(PoseFiles):
    "Rendered hands in image files, as a reader sees them"

    name = 'benchmark'
    skeleton = HAND21
    home = 'made on the spot'

    def __init__(self, root, names, keypoints, frame_size, size):
        self.setup(root, dict(file=names, keypoints=keypoints, frame_size=frame_size), size)


def smooth_ground(random, width, height):
    coarse = random.integers(60, 190, (8, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def write(root, n, ending, frame_size):
    "Rendered hands pasted on a smooth, slightly noisy ground; names and keypoints"
    height, width = frame_size
    side = min(height, width) * 3 // 4
    random = np.random.default_rng(0)
    hands = PuppetImages('hand', n, 128, 'real', seed=0).batch(range(n))
    names, keypoints = [], []
    for i in range(n):
        image = smooth_ground(random, width, height)
        y = int(random.integers(height - side + 1))
        x = int(random.integers(width - side + 1))
        hand = hands['image'][i].permute(1, 2, 0).numpy()
        hand = cv2.resize(hand, (side, side), interpolation=cv2.INTER_CUBIC)
        image[y : y + side, x : x + side] = hand
        image = np.clip(image + random.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
        names.append(f'{i:05d}{ending}')
        cv2.imwrite(str(Path(root) / names[-1]), image)
        keypoints.append((hands['keypoints'][i].numpy() + 1) * side / 2 - 0.5 + [x, y])
    return names, np.stack(keypoints)


class Ours(torch.utils.data.Dataset):
    "Batches as the package reads them, labels included"

    def __init__(self, source, batches):
        self.source = source
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        return self.source.batch(self.batches[i])


class Plain(Ours):
    "What a short script does; the labels come for nothing"

    def __getitem__(self, i):
        pictures = self.source.pictures
        crops = []
        for number in self.batches[i]:
            x, y, width, height = map(int, pictures.box[number])
            image = cv2.imread(str(pictures.path(number)))
            crop = cv2.resize(image[y : y + height, x : x + width], (pictures.size, pictures.size))
            crops.append(cv2.cvtColor(crop, cv2.COLOR_BGR2RGB))
        return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


def one_thread(_):
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def speed(data, workers):
    "Images per second through a DataLoader, without the start of the workers"
    loader = torch.utils.data.DataLoader(
        data,
        batch_size=None,
        num_workers=workers,
        worker_init_fn=one_thread,
        prefetch_factor=4 if workers else None,
    )
    batches = iter(loader)
    for _ in range(4):
        next(batches)
    started = time.perf_counter()
    n_batches = sum(1 for _ in batches)
    return n_batches * len(data.batches[0]) / (time.perf_counter() - started)


def compare(folder, ending, frame_size, options):
    "Images per second of ours and of the plain loop, the best of some rounds"
    names, keypoints = write(folder, options.n, ending, frame_size)
    source = Files(folder, names, keypoints, frame_size=frame_size, size=options.size)
    order = np.tile(np.arange(len(source)), options.repeat)
    batches = np.random.default_rng(0).permutation(order).reshape(-1, 16)
    best = np.zeros(2)
    for _ in range(options.rounds):
        speeds = [speed(kind(source, batches), options.workers) for kind in (Ours, Plain)]
        best = np.maximum(best, speeds)
    return best


def reading(options):
    "Print a row for each kind of file"
    print(
        f'{"files":22s}{"ours":>9s}{"OpenCV":>9s}{"ratio":>7s}   images/s at {options.size} px, '
        f'{options.workers} workers (targets: {TARGET}, ratio {RATIO})'
    )
    for ending, frame_size in FRAMES:
        with tempfile.TemporaryDirectory() as folder:
            ours, plain = compare(folder, ending, frame_size, options=options)
        files = f'{frame_size[1]}x{frame_size[0]} {ending[1:]:14s}'
        print(f'{files}{ours:9.0f}{plain:9.0f}{ours / plain:7.2f}', flush=True)


# Memory of an index


def used_mb():
    "Largest memory that this process has had so far"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def file_name(i):
    folder = f's_{i // 300000:02d}_act_{i // 20000 % 15:02d}_ca_{i % 4:02d}'
    return f'{folder}/{folder}_{i // 4:06d}.jpg'


class Big(PoseFiles):
    "An index of many samples; there are no files"

    name = 'big'

    def __init__(self, skeleton, n):
        self.skeleton = skeleton
        random = np.random.default_rng(0)
        keypoints = random.random((n, skeleton.n_joints, 2), dtype=np.float32)
        keypoints *= 400
        keypoints += 100
        joints3d = random.random((n, skeleton.n_joints, 3), dtype=np.float32)
        joints3d *= 500
        joints3d += 500
        cols = dict(
            files=(file_name(i) for i in range(n)),
            file_id=np.arange(n, dtype=np.int32),
            keypoints=keypoints,
            joints3d=joints3d,
            visible=np.ones((n, skeleton.n_joints), bool),
            intrinsics=np.array([[1145.0, 0, 512], [0, 1145, 512], [0, 0, 1]]),
            frame_size=(1000, 1000),
            video=np.arange(n) // 2000,
            frame=np.arange(n) // 4,
            view=np.arange(n) % 4,
        )
        self.setup('.', cols, 256, images=False)


def index_here(skeleton, n):
    "Build one index and print what it takes"
    skeleton = get_skeleton(skeleton)
    before = used_mb()
    started = time.time()
    Big(skeleton, n)
    seconds = time.time() - started
    above = used_mb() - before
    print(
        f'{n} samples of {skeleton.n_joints} joints: {seconds:.1f} s, peak {above:.0f} MB above the '
        f'imports ({used_mb():.0f} MB in all), {above * 1e6 / n / 1e3:.2f} kB each '
        f'(target: under {MEMORY_MB} MB for 1500000)',
        flush=True,
    )


def index(n):
    "Each index in a process of its own, so that the peak is that of the index"
    for skeleton in ('body', 'hand'):
        command = [sys.executable, '-W', 'ignore', __file__]
        subprocess.run([*command, '--index', str(n), '--only', skeleton], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--n', type=int, default=160, help='files of a kind')
    parser.add_argument('--repeat', type=int, default=6, help='passes over them in a round')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--size', type=int, default=256)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--index', type=int, default=1_500_000, help='samples of the index')
    parser.add_argument('--only', choices=('reading', 'index', 'body', 'hand'))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.only in ('body', 'hand'):
        index_here(options.only, options.index)
        return
    if options.only != 'index':
        reading(options)
    if options.only != 'reading':
        index(options.index)


if __name__ == '__main__':
    main()
