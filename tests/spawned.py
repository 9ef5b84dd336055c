"""Reads batches in workers that were spawned, as on Windows and macOS, and compares them with those of this process.

usage: spawned.py FOLDER"""

import multiprocessing
import sys
from pathlib import Path
import torch
from geomrecon.core.errors import MediaError
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.frames import VideoFrames
from geomrecon.data.pairs import pose_dls
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.readers.catalogue import open_dataset


def sources(folder):
    "A source and target frames each: rendered, in image files and in a video, packed"
    rendered = PuppetImages(MOUSE4, 100, 48, 'synthetic', seed=0)
    videos = PuppetVideos(MOUSE4, 1, 20, 48, 'real', seed=0)
    yield 'rendered', rendered, videos.frames()
    video = VideoFrames([folder / 'mouse.mp4'], 48, 'whole', progress=False, store='none')
    yield 'video', rendered, video
    kept = dict(cache=folder / 'cache', store='disk')
    yield (
        'crop file',
        rendered,
        VideoFrames([folder / 'mouse.mp4'], 48, 'whole', progress=False, **kept),
    )
    rhd = open_dataset(f'rhd:{folder}/RHD', size=48)
    mvhand = open_dataset(f'mvhand:{folder}/MVHand?split=all', size=48)
    yield 'image files', rhd, mvhand.frames()
    yield 'packed', rhd.pack(folder / 'p', bar=False), mvhand.pack(folder / 'p', bar=False).frames()


def first_batch(source, frames, workers):
    sizes = dict(steps=2, bs=4, bs_target=2, stride=(1, 2), device='cpu', seed=3)
    dls = pose_dls(source, source, frames, num_workers=workers, **sizes)
    torch.manual_seed(0)
    batches = list(dls.train)
    return batches[0]


def same(one, other):
    if torch.is_tensor(one):
        return torch.equal(one, other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other))
    return one is None or one == other


def main(folder):
    multiprocessing.set_start_method('spawn')
    # a process takes seconds to start: what all kinds have to stand, to be sent, is tried in one
    with multiprocessing.Pool(1) as pool:
        for name, source, frames in sources(folder):
            ours = first_batch(source, frames, 0)
            in_worker = name == 'video'
            if in_worker:
                theirs = first_batch(source, frames, 1)
            else:
                theirs = pool.apply(first_batch, (source, frames, 0))
            assert same(list(ours), list(theirs)), name
            print(name, 'is the same', flush=True)
    rhd = open_dataset(f'rhd:{folder}/RHD', size=48)
    for path in Path(folder, 'RHD').rglob('*.png'):
        path.write_bytes(b'no picture')
    try:
        first_batch(rhd, None, 1)
    except MediaError as error:
        print('MediaError:', error)


if __name__ == '__main__':
    main(Path(sys.argv[1]))
