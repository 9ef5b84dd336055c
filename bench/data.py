"""Reading speed of data sets on disk: JPEG and PNG files decoded, cropped and resized by two worker processes, against a plain OpenCV loop; and the memory of a large index.

The plain loop does the least that any loader must: imread, slice the box, resize. Both go through the same torch DataLoader with as many workers; rounds alternate, the best of each counts."""

import argparse, os, subprocess, sys, tempfile, time
from pathlib import Path
import cv2, numpy as np, torch
from geomrecon.puppet.images import PuppetImages
from geomrecon.readers.pose_files import PoseFiles
from geomrecon.core.skeleton import HAND21

TARGET, RATIO, MEMORY_MB = 600, 0.8, 1000


class Files(PoseFiles):
    "Rendered hands in image files, as a reader sees them"

    name = 'benchmark'
    skeleton = HAND21
    home = 'made on the spot'

    def __init__(self, root, names, kp, frame_size, size):
        self.setup(root, dict(file=names, keypoints=kp, frame_size=frame_size), size)


def write(root, n, ext, frame_size):
    "Rendered hands pasted on a smooth, slightly noisy ground; names and keypoints"
    h, w = frame_size
    s = min(h, w) * 3 // 4
    rng = np.random.default_rng(0)
    names, kps = [], []
    b = PuppetImages('hand', n, 128, 'real', seed=0).batch(range(n))
    for i in range(n):
        img = cv2.resize(
            rng.integers(60, 190, (8, 8, 3), dtype=np.uint8), (w, h), interpolation=cv2.INTER_CUBIC
        )
        y = int(rng.integers(h - s + 1))
        x = int(rng.integers(w - s + 1))
        img[y : y + s, x : x + s] = cv2.resize(
            b['image'][i].permute(1, 2, 0).numpy(), (s, s), interpolation=cv2.INTER_CUBIC
        )
        img = np.clip(img + rng.normal(0, 3, img.shape), 0, 255).astype(np.uint8)
        names.append(f'{i:05d}{ext}')
        cv2.imwrite(str(Path(root) / names[-1]), img)
        kps.append((b['keypoints'][i].numpy() + 1) * s / 2 - 0.5 + [x, y])
    return names, np.stack(kps)


class Ours(torch.utils.data.Dataset):
    def __init__(self, ds, batches):
        self.ds = ds
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        return self.ds.batch(self.batches[i])


class Plain(Ours):
    "What a short script does; the labels come for nothing"

    def __getitem__(self, i):
        p, out = self.ds.pictures, []
        for j in self.batches[i]:
            x, y, w, h = map(int, p.box[j])
            img = cv2.imread(str(p.path(j)))
            out.append(
                cv2.cvtColor(
                    cv2.resize(img[y : y + h, x : x + w], (p.size, p.size)), cv2.COLOR_BGR2RGB
                )
            )
        return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).contiguous()


def one_thread(_):
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def speed(data, n, workers):
    "Images per second through a DataLoader, without the start of the workers"
    dl = torch.utils.data.DataLoader(
        data,
        batch_size=None,
        num_workers=workers,
        worker_init_fn=one_thread,
        prefetch_factor=4 if workers else None,
    )
    it = iter(dl)
    [next(it) for _ in range(4)]
    t = time.perf_counter()
    k = sum(1 for _ in it)
    return k * len(data.batches[0]) / (time.perf_counter() - t)


def reading(a):
    print(
        f'{"files":22s}{"ours":>9s}{"OpenCV":>9s}{"ratio":>7s}   images/s at {a.size} px, {a.workers} workers (targets: {TARGET}, ratio {RATIO})'
    )
    for ext, frame in (
        ('.jpg', (320, 320)),
        ('.png', (320, 320)),
        ('.jpg', (480, 640)),
        ('.jpg', (1000, 1000)),
    ):
        with tempfile.TemporaryDirectory() as d:
            ds = Files(d, *write(d, a.n, ext, frame), frame, a.size)
            batches = (
                np.random.default_rng(0)
                .permutation(np.tile(np.arange(len(ds)), a.repeat))
                .reshape(-1, 16)
            )
            best = np.zeros(2)
            for _ in range(a.rounds):
                best = np.maximum(
                    best, [speed(k(ds, batches), a.n, a.workers) for k in (Ours, Plain)]
                )
        print(
            f'{frame[1]}x{frame[0]} {ext[1:]:14s}{best[0]:9.0f}{best[1]:9.0f}{best[0] / best[1]:7.2f}',
            flush=True,
        )


INDEX = '''
import resource, numpy as np, time
from geomrecon.readers.pose_files import PoseFiles
from geomrecon.core.skeleton import get_skeleton
from geomrecon.core.geometry import crop_matrix
rss = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**10
n, sk, before, t = {n}, get_skeleton({skeleton!r}), rss(), time.time()
class Big(PoseFiles):
    name, skeleton, home = 'big', sk, ''
    def __init__(self):
        r = np.random.default_rng(0); K = sk.n_joints
        kp = r.random((n, K, 2), dtype=np.float32); kp *= 400; kp += 100; xyz = r.random((n, K, 3), dtype=np.float32); xyz *= 500; xyz += 500
        files = (f's_{{i//300000:02d}}_act_{{i//20000%15:02d}}_ca_{{i%4:02d}}/s_{{i//300000:02d}}_act_{{i//20000%15:02d}}_ca_{{i%4:02d}}_{{i//4:06d}}.jpg' for i in range(n))
        self.setup('.', dict(files=files, file_id=np.arange(n, dtype=np.int32), keypoints=kp, joints3d=xyz, visible=np.ones((n, K), bool), intrinsics=np.array([[1145., 0, 512], [0, 1145, 512], [0, 0, 1]]),
            frame_size=(1000, 1000), video=np.arange(n)//2000, frame=np.arange(n)//4, view=np.arange(n)%4), 256, images=False)
ds = Big()
print(f'{{n}} samples of {{sk.n_joints}} joints: {{time.time()-t:.1f}} s, peak {{rss()-before:.0f}} MB above the imports ({{rss():.0f}} MB in all), {{(rss()-before)*1e6/n/1e3:.2f}} kB each')
'''


def index(a):
    "In a process of its own, so that the peak is that of the index"
    for sk in ('body', 'hand'):
        print(
            subprocess.run(
                [sys.executable, '-W', 'ignore', '-c', INDEX.format(n=a.index, skeleton=sk)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip(),
            f'(target: under {MEMORY_MB} MB for 1500000)',
            flush=True,
        )


if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('--n', type=int, default=160, help='files of a kind')
    ap.add_argument('--repeat', type=int, default=6, help='passes over them in a round')
    ap.add_argument('--rounds', type=int, default=3)
    ap.add_argument('--size', type=int, default=256)
    ap.add_argument('--workers', type=int, default=2)
    ap.add_argument('--index', type=int, default=1_500_000)
    ap.add_argument('--only', choices=('reading', 'index'))
    a = ap.parse_args()
    torch.set_num_threads(1)
    if a.only != 'index':
        reading(a)
    if a.only != 'reading':
        index(a)
