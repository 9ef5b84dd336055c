"""The frames that our own labels of an unlabelled video name, written out as images.

    python bench/own_labels.py --video m3v1.mp4 --labels results/own_labels/openfield_m3v1.csv --out frames

A name such as `m3v1/img00049.png` is frame 49 of the video, counted from 0 as `VideoReader` counts. Afterwards
`LabelledFrames(read_labels(labels), 'frames')` opens the labelled images.
"""

import argparse
import re
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from geomrecon.core.errors import DataError
from geomrecon.core.files import write_atomic
from geomrecon.data.video_reader import VideoReader
from geomrecon.readers.label_coco import read_labels

N_FRAMES = 2330
N_LABELLED = 40
SEED = 17


def chosen_frames(
    n_frames=N_FRAMES,  # Frames of the video
    n=N_LABELLED,  # Frames wanted
    seed=SEED,
):
    "One frame at a random place of each of `n` parts of equal length"
    edges = np.linspace(0, n_frames, n + 1)
    places = np.random.default_rng(seed).random(n)
    return np.floor(edges[:-1] + places * np.diff(edges)).astype(int)


def frame_number(
    name,  # Image name of a label file, with the number of its frame at the end
):
    "The frame that an image name stands for; raises `DataError`"
    number = re.search(r'(\d+)\.\w+$', name)
    if not number:
        raise DataError(name, 'no number before the ending', 'a name such as m3v1/img00049.png')
    return int(number[1])


def check_inside(name):
    "Raise `DataError` for an image name that leaves the folder it is written to"
    path = PurePosixPath(name)
    if path.is_absolute() or '..' in path.parts:
        raise DataError(name, 'a name that leaves the folder', 'a name such as m3v1/img00049.png')


def extract_frames(
    video,  # Video file
    csv,  # Label file that names frames of it
    folder,  # Where the images go, under the names of the label file
):
    "Write the labelled frames as PNG files; raises `DataError` or `MediaError` before any is written"
    names = read_labels(csv, None).names
    numbers = []
    for name in names:
        check_inside(name)
        numbers.append(frame_number(name))
    with VideoReader(video) as reader:
        frames = reader.read(numbers)
    written = []
    for name, frame in zip(names, frames):
        _, png = cv2.imencode('.png', frame[..., ::-1])
        written.append(write_atomic(Path(folder) / name, png.tobytes()))
    return written


def repeat_distances(
    first,  # `Labels`
    again,  # `Labels` of some of the same images
):
    "(N,K) pixels between the labels of each image of `again` and the first ones"
    rows = [first.names.index(name) for name in again.names]
    return np.linalg.norm(first.keypoints[rows] - again.keypoints, axis=-1)


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--video', required=True, help='the video that was labelled')
    parser.add_argument('--labels', default='results/own_labels/openfield_m3v1.csv')
    parser.add_argument('--out', required=True, help='folder of the images')
    return parser.parse_args()


def main():
    chosen = options()
    written = extract_frames(chosen.video, chosen.labels, chosen.out)
    print(f'{len(written)} frames of {Path(chosen.video).name} in {chosen.out}')


if __name__ == '__main__':
    main()
