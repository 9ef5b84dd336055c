"""Own data in the layouts that the tools themselves write: images and clips drawn here with known joints.

Label files are written by pandas and json, not by geomrecon.
"""

import json
from pathlib import Path
from typing import NamedTuple
import cv2
import numpy as np
import pandas as pd
from PIL import Image
from geomrecon.data.video import read_video, write_video

JOINTS = ['snout', 'leftear', 'rightear', 'tailbase']
BONES = [[4, 1], [1, 2], [1, 3]]


def direction(angle):
    "The unit vector at `angle`"
    return np.array([np.cos(angle), np.sin(angle)])


def in_sixteenths(point):
    "A point as OpenCV wants it with `shift=4`"
    return tuple(int(round(value * 16)) for value in point)


def figure(img, c, angle, k=1.0):
    "Draw one animal, a soft bright dot on its snout; the image, and its joints in pixel-index coordinates"
    ahead = direction(angle)
    aside = np.array([-ahead[1], ahead[0]])
    middle = np.asarray(c, float)
    joints = np.stack(
        [
            middle + 16 * k * ahead,
            middle + 7 * k * ahead - 9 * k * aside,
            middle + 7 * k * ahead + 9 * k * aside,
            middle - 16 * k * ahead,
        ]
    )
    image = img.copy()
    colour = (140, 150, 130)
    for joint in joints[1:]:
        ends = in_sixteenths(middle), in_sixteenths(joint)
        cv2.line(image, *ends, color=colour, thickness=2, lineType=cv2.LINE_AA, shift=4)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    square_distance = (x - joints[0, 0]) ** 2 + (y - joints[0, 1]) ** 2
    image = image + 150 * np.exp(-square_distance / 2 / 2.0**2)[..., None]
    return image.clip(0, 255).astype(np.uint8), joints


def write_images(folder, n=6, hw=(96, 128), seed=0, several=(2,)):
    """Images img0.png (every other one a JPEG) with one animal, two in `several`.

    Dictionary of names, keypoints (N,4,2) and boxes (N,4), with a row per animal.
    """
    random = np.random.default_rng(seed)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    keypoints = []
    for number in range(n):
        image = (90 + random.normal(0, 2, (*hw, 3))).astype(np.uint8)
        name = f'img{number:03d}.{"jpg" if number % 2 else "png"}'
        n_animals = 2 if number in several else 1
        for animal in range(n_animals):
            middle = np.array([36 + 54 * animal, 46]) + random.uniform(-8, 8, 2)
            image, joints = figure(image, middle, random.uniform(0, 2 * np.pi))
            names.append(name)
            keypoints.append(joints)
        options = dict(quality=97, subsampling=0) if name.endswith('jpg') else {}
        Image.fromarray(image).save(folder / name, **options)
    keypoints = np.array(keypoints)
    low = keypoints.min(1)
    high = keypoints.max(1)
    boxes = np.concatenate([low - 4, high - low + 9], 1)
    return dict(names=names, keypoints=keypoints, boxes=boxes, hw=hw)


def all_labelled(truth):
    "COCO's state 2, labelled and visible, for every joint"
    return np.full(truth['keypoints'].shape[:2], 2)


def coco_keypoints(joints, states):
    "COCO's flat list of x, y, state; zeros for a joint that is not labelled"
    values = []
    for (x, y), state in zip(joints, states):
        if state:
            values += [round(float(x), 3), round(float(y), 3), int(state)]
        else:
            values += [0, 0, 0]
    return values


def coco_dict(t, state=None, category='mouse'):
    "COCO's dictionary for a truth"
    files = list(dict.fromkeys(t['names']))
    states = all_labelled(t) if state is None else state
    annotations = []
    for number, name in enumerate(t['names']):
        box = t['boxes'][number]
        annotation = dict(
            id=100 + number,
            image_id=7 + files.index(name),
            category_id=3,
            iscrowd=0,
            num_keypoints=int((states[number] > 0).sum()),
            bbox=[round(float(value), 2) for value in box],
            area=float(box[2] * box[3]),
            keypoints=coco_keypoints(t['keypoints'][number], states[number]),
        )
        annotations.append(annotation)
    height, width = t['hw'][:2]
    images = [
        dict(id=7 + number, file_name=name, height=height, width=width)
        for number, name in enumerate(files)
    ]
    categories = [
        dict(id=1, name='nothing'),
        dict(id=3, name=category, keypoints=JOINTS, skeleton=BONES),
    ]
    return dict(info={}, licenses=[], images=images, annotations=annotations, categories=categories)


def write_coco_tree(root, n=6, seed=0, state=None):
    "root/images and root/train.json"
    truth = write_images(Path(root) / 'images', n, seed=seed)
    if state is not None:
        state = all_labelled(truth)
        state[1, 2] = 1
        state[4, 1] = 0
        truth['state'] = state
    (Path(root) / 'train.json').write_text(json.dumps(coco_dict(truth, state)))
    return truth


def table(kp, index, likelihood=None, individuals=None, scorer='lab', joints=JOINTS):
    "A DeepLabCut table; kp (N,4,2), or (N,A,4,2) with individuals"
    values = kp
    if likelihood is not None:
        values = np.concatenate([kp, likelihood[..., None]], -1)
    levels = [[scorer], list(joints), ['x', 'y', 'likelihood'][: values.shape[-1]]]
    names = ['scorer', 'bodyparts', 'coords']
    if individuals:
        levels.insert(1, list(individuals))
        names.insert(1, 'individuals')
    columns = pd.MultiIndex.from_product(levels, names=names)
    return pd.DataFrame(values.reshape(len(values), -1), columns=columns, index=index)


def three(names, folder='clip'):
    "Names of images as three levels of an index"
    return pd.MultiIndex.from_tuples([('labeled-data', folder, name) for name in names])


def plain(names, folder='clip'):
    "Names of images as paths"
    return [f'labeled-data/{folder}/{name}' for name in names]


def write_dlc_tree(root, n=6, seed=0, h5=True, csv=True):
    """root/labeled-data/clip/*, root/CollectedData_lab.csv and .h5, as DeepLabCut writes them.

    One joint is not labelled.
    """
    root = Path(root)
    truth = write_images(root / 'labeled-data' / 'clip', n, seed=seed, several=())
    truth['keypoints'][1, 2] = np.nan
    labels = table(truth['keypoints'], three(truth['names']))
    if csv:
        labels.to_csv(root / 'CollectedData_lab.csv')
    if h5:
        labels.to_hdf(root / 'CollectedData_lab.h5', key='df_with_missing', mode='w')
    return truth


def write_lightning_tree(root, n=6, seed=0):
    """root/labeled-data/clip/*, root/CollectedData.csv and root/predictions.csv.

    The predictions have a likelihood and the column `set`.
    """
    root = Path(root)
    truth = write_images(root / 'labeled-data' / 'clip', n, seed=seed, several=())
    keypoints = truth['keypoints']
    table(keypoints, plain(truth['names'])).to_csv(root / 'CollectedData.csv')
    likelihood = np.full(keypoints.shape[:2], 0.9)
    predictions = table(
        keypoints, plain(truth['names']), likelihood=likelihood, scorer='heatmap_tracker'
    )
    predictions.loc[:, ('set', '', '')] = ['train'] * (n - 2) + ['validation', 'test']
    predictions.to_csv(root / 'predictions.csv')
    return truth


def ellipse(image, middle, half_axes, angle, colour):
    "Fill an ellipse; `middle` and `half_axes` in sixteenths of a pixel"
    cv2.ellipse(
        image,
        center=middle,
        axes=half_axes,
        angle=np.degrees(angle),
        startAngle=0,
        endAngle=360,
        color=colour,
        thickness=-1,
        lineType=cv2.LINE_8,
        shift=4,
    )


def clip_frames(n=24, hw=(64, 96), seed=0):
    "Frames with one animal walking a circle, and its joints"
    random = np.random.default_rng(seed)
    floor = cv2.GaussianBlur(random.uniform(120, 220, (*hw, 3)), (0, 0), 6).astype(np.uint8)
    frames = []
    middles = []
    for number in range(n):
        angle = 2 * np.pi * number / n
        middle = np.array([hw[1] / 2 + 24 * np.cos(angle), hw[0] / 2 + 14 * np.sin(angle)])
        frame = floor.copy()
        cv2.ellipse(
            frame,
            center=tuple(int(value * 16) for value in middle),
            axes=(9 * 16, 5 * 16),
            angle=np.degrees(angle) + 90,
            startAngle=0,
            endAngle=360,
            color=(30, 28, 26),
            thickness=-1,
            lineType=cv2.LINE_AA,
            shift=4,
        )
        frames.append(frame)
        middles.append(middle)
    return frames, np.array(middles)


def write_clips(root, n=24, names=('clip2.mp4', 'clip10.mp4')):
    "A folder of videos"
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        write_video(root / name, clip_frames(n, seed=number)[0], fps=25)
    return root


# An animal with a tail and a shadow, that the notebooks of the room `data` look at

WALK_SIZE = (120, 161)  # one side is odd


def empty_floor(seed=0):
    "The floor without the animal: uneven and noisy"
    height, width = WALK_SIZE
    random = np.random.default_rng(seed)
    waves = (
        170 + 30 * np.sin(np.arange(width) / 9)[None] + 20 * np.cos(np.arange(height) / 7)[:, None]
    )
    coloured = waves[..., None] * [1, 0.97, 0.9]
    return cv2.GaussianBlur(coloured + random.normal(0, 40, (height, width, 1)), (0, 0), 4)


def walk(n_frames=60):
    "Middles (n,2) and directions (n,) of an animal on an ellipse"
    angles = np.linspace(0, 2 * np.pi, n_frames, endpoint=False)
    middles = np.stack([80 + 50 * np.cos(angles), 60 + 32 * np.sin(angles)], -1)
    return middles, angles + np.pi / 2


def draw_animal(floor, middle, angle, random):
    "Draw one frame, four times oversampled: shadow, tail and body"
    height, width = WALK_SIZE

    def at(offset):
        point = ((middle + offset + 0.5) * 4 - 0.5) * 16
        return tuple(int(value) for value in np.round(point))

    large = cv2.resize(floor, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
    ahead = direction(angle)
    light = np.ones((height * 4, width * 4), np.float32)
    ellipse(light, at(np.array([3, 3])), (15 * 4 * 16, 8 * 4 * 16), angle=angle, colour=0.75)
    large = large * cv2.GaussianBlur(light, (0, 0), 6)[..., None]
    cv2.line(large, at(-13 * ahead), at(-38 * ahead), color=(60, 50, 50), thickness=8, shift=4)
    ellipse(large, at(0 * ahead), (14 * 4 * 16, 7 * 4 * 16), angle=angle, colour=(40, 36, 34))
    frame = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
    noise = random.normal(0, 1, (height, width, 1))
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


class WalkingClip(NamedTuple):
    "A clip of 60 frames and what is known about it"

    frames: list  # (120,161,3) uint8 as they were drawn
    middles: np.ndarray  # (60,2) middle of the body, pixel-index coordinates
    angles: np.ndarray  # (60,) where it looks
    floor: np.ndarray  # (120,161,3) without the animal
    video: Path  # The frames as an H.264 file
    decoded: list  # (120,162,3) uint8 as they come out of the file
    images: Path  # A folder with every fifth frame: img0.png to img11.png


def write_walking_clip(folder):
    "folder/clip.mp4 and folder/frames, with the truth"
    folder = Path(folder)
    random = np.random.default_rng(0)
    floor = empty_floor()
    middles, angles = walk()
    frames = [draw_animal(floor, middles[k], angles[k], random) for k in range(60)]
    video = write_video(folder / 'clip.mp4', frames, fps=25, crf=10)
    images = folder / 'frames'
    images.mkdir(exist_ok=True)
    for number in range(12):
        Image.fromarray(frames[number * 5]).save(images / f'img{number}.png')
    return WalkingClip(
        frames=frames,
        middles=middles,
        angles=angles,
        floor=floor,
        video=video,
        decoded=list(read_video(video)),
        images=images,
    )
