"Rendered animals on one still floor: a video, some of its frames as images, and their labels in DeepLabCut's format."

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from fixtures_stage import plain_floor
from geomrecon.core.geometry import to_pixels
from geomrecon.core.rigs import rig_node
from geomrecon.core.skeleton import Skeleton, get_skeleton
from geomrecon.data.video import write_video
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.style import get_style
from geomrecon.readers.label_csv import write_dlc_csv


class Filmed(NamedTuple):
    "What was written, and what is true of it"

    folder: Path
    labels: Path  # CSV
    video: Path
    skeleton: Skeleton  # Of the figures
    keypoints: np.ndarray  # (N,K,2) of the labelled frames, pixels
    masks: np.ndarray  # (N,H,W) bool, of the same frames


def lizard(name='lizard', hand=6):
    "Eleven joints: a spine of five from tail to head, and four legs of one or two bones"
    spine = [
        ('hip', 'tailbase', 16),
        ('chest', 'hip', 30),
        ('neck', 'chest', 12),
        ('nose', 'neck', 22),
    ]
    still = ((0, 0), (0, 0))
    nodes = [rig_node('tailbase', None, (0, 0, 0))]
    for joint, parent, length in spine:
        limits = (*still, (-14, 14))
        nodes.append(rig_node(joint, parent, (0, -length, 0), (7, 6), limits, part='fur'))
    for side, sign in (('left', -1), ('right', 1)):
        legs = [('knee', 'hip', 18, 3), ('foot', f'{side}_knee', 4, 14), ('hand', 'chest', 24, hand)]
        for joint, parent, x, y in legs:
            limits = (*still, (-18, 18))
            offset = (sign * x, y, 0)
            nodes.append(rig_node(f'{side}_{joint}', parent, offset, (3, 2), limits, part='skin'))
    names = tuple(node.name for node in nodes)
    bones = tuple((names.index(node.parent), names.index(node.name)) for node in nodes[1:])
    return Skeleton(name, names, bones, rig=tuple(nodes), turn=(180.0, 5.0, 5.0))


def film(folder, skeleton='mouse', n=40, shape=(200, 260), side=112, seed=0, **style):
    "Frames with one figure each, anywhere on the floor, as a video and as labelled images"
    folder = Path(folder)
    (folder / 'frames').mkdir(parents=True, exist_ok=True)
    skeleton = get_skeleton(skeleton)
    style = get_style('synthetic', fill=(0.72, 0.74), palette='natural', **style)
    figures = PuppetImages(skeleton, n, side, style, seed=seed, modalities=True).batch(range(n))
    cover = figures['geometry'][:, 1].numpy()
    pictures = figures['image'].permute(0, 2, 3, 1).numpy()
    inside = to_pixels(figures['keypoints'], side).numpy()
    random = np.random.default_rng(seed)
    floor = plain_floor(shape, seed, level=200)
    corners = np.stack([random.integers(0, limit - side, n) for limit in shape[::-1]], 1)
    frames = np.repeat(floor[None], n, 0)
    masks = np.zeros((n, *shape), bool)
    dark = np.minimum(pictures, 120)
    for i, (x, y) in enumerate(corners):
        place = np.s_[y : y + side, x : x + side]
        share = cover[i][..., None]
        frames[i][place] = frames[i][place] * (1 - share) + dark[i] * share
        masks[i][place] = cover[i] > 0.5
    names = [f'frames/img{i:03d}.png' for i in range(n)]
    for name, frame in zip(names, frames):
        cv2.imwrite(str(folder / name), frame[..., ::-1])
    keypoints = inside + corners[:, None]
    write_dlc_csv(folder / 'labels.csv', keypoints, None, skeleton, index=names)
    write_video(folder / 'video.mp4', frames, 20, crf=12)
    return Filmed(
        folder,
        labels=folder / 'labels.csv',
        video=folder / 'video.mp4',
        skeleton=skeleton,
        keypoints=keypoints,
        masks=masks,
    )
