"""Small SURREAL, SURREAL-crops and LSP folders in the documented layout, with known truth.

The joints of the package's figures stand before each set's own camera and are drawn with OpenCV."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import av
import cv2
import numpy as np
import scipy.io

from geomrecon.core.skeleton import BODY16
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos

LIMBS = (
    ('pelvis', 'spine1', 46),
    ('spine1', 'spine3', 52),
    ('spine3', 'neck', 44),
    ('neck', 'head', 30),
    ('r_collar', 'r_shoulder', 34),
    ('l_collar', 'l_shoulder', 34),
    ('neck', 'r_collar', 38),
    ('neck', 'l_collar', 38),
    ('pelvis', 'r_hip', 44),
    ('pelvis', 'l_hip', 44),
    ('r_hip', 'r_knee', 42),
    ('l_hip', 'l_knee', 42),
    ('r_knee', 'r_ankle', 32),
    ('l_knee', 'l_ankle', 32),
    ('r_ankle', 'r_foot', 24),
    ('l_ankle', 'l_foot', 24),
    ('r_shoulder', 'r_elbow', 30),
    ('l_shoulder', 'l_elbow', 30),
    ('r_elbow', 'r_wrist', 24),
    ('l_elbow', 'l_wrist', 24),
    ('r_wrist', 'r_hand', 20),
    ('l_wrist', 'l_hand', 20),
)  # two joints and the thickness between them, mm

SMPL = (
    'pelvis LHip RHip spine1 LKnee RKnee spine2 LAnkle RAnkle spine3 LFoot RFoot neck LCollar '
    'RCollar head LShoulder RShoulder LElbow RElbow LWrist RWrist LHand RHand'
).split()  # the 24 joints in file order
SURREAL_K = np.array([[600.0, 0, 160], [0, 600, 120], [0, 0, 1]])
SURREAL_SIZE = (240, 320)  # height, width
PELVIS = BODY16.joints.index('pelvis')


# ---- figures ----
def on_image(smpl):
    """The person's own joint at which a joint of SMPL is seen in SURREAL.

    Its camera mirrors: what the file calls left is drawn as the person's right."""
    if smpl[0] not in 'LR':
        return smpl
    side = 'r_' if smpl[0] == 'L' else 'l_'
    return side + smpl[1:].lower()


SMPL_ON_IMAGE = [on_image(name) for name in SMPL]


def person(xyz):
    """Joints (n,16,3) mm as a dictionary of names.

    Collars, spine, feet and hands are added by interpolation."""
    joints = dict(zip(BODY16.joints, np.moveaxis(np.asarray(xyz, np.float64), 1, 0)))

    def between(start, end, share):
        return joints[start] + share * (joints[end] - joints[start])

    joints['spine1'] = between('pelvis', 'thorax', 0.3)
    joints['spine2'] = between('pelvis', 'thorax', 0.65)
    joints['spine3'] = joints['thorax']
    for side in 'rl':
        joints[f'{side}_collar'] = between('neck', f'{side}_shoulder', 0.35)
        joints[f'{side}_hand'] = between(f'{side}_elbow', f'{side}_wrist', 1.3)
        heel = between(f'{side}_knee', f'{side}_ankle', 1.12)
        joints[f'{side}_foot'] = heel + np.array([0, 0, -90.0])
    return joints


def movers(n_videos, n_frames, seed):
    "Per video a dictionary of joints (n_frames,3), mm, pelvis of the first frame at the origin"
    videos = PuppetVideos('body', n_videos, n_frames, size=16, seed=seed)
    xyz = videos._data['joints3d'].numpy().reshape(n_videos, n_frames, 16, 3)
    return [person(moves - moves[:1, PELVIS : PELVIS + 1]) for moves in xyz]


def stills(n, seed):
    "Single figures, each a dictionary of joints (3,), mm, pelvis at the origin"
    images = PuppetImages('body', n, size=16, seed=seed)
    people = []
    for xyz in images.batch(range(n))['joints3d'].numpy():
        joints = person(xyz[None] - xyz[None, PELVIS : PELVIS + 1])
        people.append(at(joints, 0))
    return people


# ---- dictionaries of joints ----
def at(joints, frame):
    "One frame"
    return {name: values[frame] for name, values in joints.items()}


def moved(joints, offset):
    "All joints moved by the same way"
    return {name: xyz + offset for name, xyz in joints.items()}


def stack(joints, names):
    "(n,len(names),...)"
    return np.stack([joints[name] for name in names], 1)


def join(dictionaries):
    "One after the other"
    joined = {}
    for name in dictionaries[0]:
        joined[name] = np.concatenate([joints[name] for joints in dictionaries])
    return joined


def project(joints, K):
    "Pinhole projection of joints (n,3) mm"
    focal = [K[0, 0], K[1, 1]]
    centre = [K[0, 2], K[1, 2]]
    return {name: xyz[:, :2] / xyz[:, 2:] * focal + centre for name, xyz in joints.items()}


def body16(joints, shoulders='collar', chest='spine3', names='person'):
    "The 16 joints (n,16,...) that a dictionary of the person's joints means under a reading"
    read = {name: joints[name] for name in BODY16.joints}
    read['thorax'] = joints[chest]
    for side in 'rl':
        read[f'{side}_shoulder'] = joints[f'{side}_{shoulders}']
    if names == 'smpl':
        read = {name: read[other_side(name)] for name in BODY16.joints}
    return stack(read, BODY16.joints)


def other_side(name):
    "r_hip for l_hip and the reverse"
    if name[1] != '_':
        return name
    return {'r': 'l', 'l': 'r'}[name[0]] + name[1:]


# ---- pictures ----
def disc(image, place, sigma=3.2):
    "Draw a white Gaussian dot at pixel-index coordinates; what is under it becomes black"
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width]
    dot = np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / 2 / sigma**2)[..., None]
    near = np.clip(4 * dot, 0, 1)
    return (image * (1 - near) + 255 * dot * near).round().clip(0, 255).astype(np.uint8)


def backdrop(size, rng):
    "A soft grey background"
    height, width = size
    coarse = rng.uniform(105, 160, (4, 5, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return smooth.clip(90, 165).astype(np.uint8)


def limb_colour(joint, shirt, trousers):
    "Colour of the limb that ends in a joint"
    part = joint[2:]
    if joint == 'head' or part in ('wrist', 'hand', 'foot'):
        return np.array([150, 112, 90])
    return trousers if part in ('hip', 'knee', 'ankle') else shirt


def sixteenths(place):
    "Where a point is, for OpenCV's drawing with 4 fractional bits"
    return tuple(int(round(value * 16)) for value in place)


def draw(joints, px, size, focal, rng, dot=None):
    "A figure before a soft background; all darker than the dot"
    image = backdrop(size, rng)
    shirt = rng.integers(25, 110, 3)
    trousers = rng.integers(15, 80, 3)
    far_first = sorted(enumerate(LIMBS), key=lambda numbered: -joints[numbered[1][0]][2])
    for number, (start, end, radius) in far_first:
        thickness = max(2, int(round(2 * radius * focal / joints[start][2])))
        colour = limb_colour(end, shirt, trousers) * (1 - 0.25 * (number % 2))
        ends = sixteenths(px[start]), sixteenths(px[end])
        cv2.line(image, *ends, colour.tolist(), thickness, lineType=cv2.LINE_AA, shift=4)
    skull = int(90 * focal / joints['head'][2] * 16)
    head = sixteenths(px['head'])
    cv2.circle(image, head, skull, (160, 120, 98), thickness=-1, lineType=cv2.LINE_AA, shift=4)
    return image if dot is None else disc(image, px[dot])


def write_jpeg(path, image, quality):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])


def write_mp4(path, frames, crf=6):
    "H.264, 30 frames per second, as the official clips are"
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=30)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = 'yuv420p'
        stream.options = dict(crf=str(crf), preset='veryfast')
        for frame in frames:
            rgb = np.ascontiguousarray(frame)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format='rgb24')))
        container.mux(stream.encode())


# ---- SURREAL ----
class Clip(NamedTuple):
    "What is in one clip"

    run: int
    sequence: str
    number: int
    n_labels: int  # frames with labels
    n_frames: int  # frames of the video
    empty: tuple  # frames without joints
    away: tuple  # frames with the person out of the image


CLIPS = (
    Clip(0, '01_01', 1, n_labels=12, n_frames=12, empty=(), away=()),
    Clip(0, '01_01', 2, n_labels=12, n_frames=12, empty=(), away=()),
    Clip(1, 'ung_104_05', 3, n_labels=9, n_frames=7, empty=(), away=()),
    Clip(2, '07_03', 10, n_labels=8, n_frames=8, empty=(2,), away=(5, 6)),
    Clip(2, '18_02', 1, n_labels=1, n_frames=1, empty=(), away=()),
)


def _stand(rng):
    "Where the camera stands, m"
    x = rng.uniform(6.5, 7.8)
    y = rng.uniform(-1.2, -0.8)
    z = rng.uniform(-0.2, 0.2)
    return np.array([x, y, z], np.float32)


def _before_camera(joints, clip, stand):
    "The joints of a clip in the camera's frame, mm"
    shift = np.zeros((clip.n_labels, 3))
    shift[list(clip.away), 0] = 3500
    before = [0, -150, stand[0] * 1000]
    return {name: xyz[: clip.n_labels] + before + shift for name, xyz in joints.items()}


def _to_world(joints, stand):
    "The camera's frame, mm, to the world's, m: the camera mirrors"
    world = {}
    for name, xyz in joints.items():
        x = stand[0] - xyz[:, 2] / 1000
        y = xyz[:, 1] / 1000 + stand[1]
        z = stand[2] - xyz[:, 0] / 1000
        world[name] = np.stack([x, y, z], -1)
    return world


def _as_stored(joints, clip):
    "(2 or 3,24,n) as in the file, zeros in empty frames; without the last axis for one frame"
    stored = stack(joints, SMPL_ON_IMAGE).transpose(2, 1, 0)
    stored[..., list(clip.empty)] = 0
    return stored[..., 0] if clip.n_labels == 1 else stored


def _write_info(path, clip, px, world, stand, rng):
    "Labels of one clip, among what else the official file holds"
    n = clip.n_labels
    rounded = {name: np.rint(values) for name, values in px.items()}
    content = dict(
        joints2D=_as_stored(rounded, clip).astype(np.float32),
        joints3D=_as_stored(world, clip).astype(np.float32),
        camLoc=stand[:, None],
        camDist=stand[0],
        pose=rng.normal(size=(72, n)).astype(np.float32),
        shape=rng.normal(size=(10, n)).astype(np.float32),
        zrot=rng.uniform(0, 6, (n, 1)).astype(np.float32),
        gender=np.full((n, 1), rng.integers(2), np.uint8),
        clipNo=clip.number,
        stride=50,
        sequence=clip.sequence,
        source='cmu',
        bg=np.array([['bg.jpg']], object),
        cloth=np.array([['cloth.jpg']], object),
        light=rng.normal(size=(9, n)),
    )
    scipy.io.savemat(path, content, do_compression=True)


def _clip_pictures(clip, joints, px, seed, dot):
    "Frames of the video; a video that is longer than its labels stands still at the end"
    frames = []
    for frame in range(clip.n_frames):
        frame = min(frame, clip.n_labels - 1)
        rng = np.random.default_rng([seed, clip.number, clip.run])
        picture = draw(at(joints, frame), at(px, frame), SURREAL_SIZE, focal=600, rng=rng, dot=dot)
        frames.append(picture)
    return frames


def _write_clip(folder, clip, joints, rng, images, dot, seed):
    "One clip. Returns the joints of all frames, in px and in mm before the camera"
    folder.mkdir(parents=True, exist_ok=True)
    name = f'{clip.sequence}_c{clip.number:04d}'
    stand = _stand(rng)
    joints = _before_camera(joints, clip, stand)
    px = project(joints, SURREAL_K)
    world = _to_world(joints, stand)
    _write_info(folder / f'{name}_info.mat', clip, px, world=world, stand=stand, rng=rng)
    if images:
        write_mp4(folder / f'{name}.mp4', _clip_pictures(clip, joints, px, seed=seed, dot=dot))
    return px, joints


def _usable(clip):
    "Frames that a reader keeps"
    gone = clip.empty + clip.away
    return [t for t in range(min(clip.n_labels, clip.n_frames)) if t not in gone]


def _clip_rows(clip):
    "Name, run, frame and subject of the usable frames of a clip"
    name = f'run{clip.run}/{clip.sequence}/{clip.sequence}_c{clip.number:04d}'
    subject = int(clip.sequence.split('_')[-2])
    return [(name, clip.run, frame, subject) for frame in _usable(clip)]


def write_surreal(
    root, split='train', clips=CLIPS, images=True, dot='r_wrist', nested=True, seed=0
):
    """The official layout.

    The truth holds, for every usable frame, the person's joints `px` and `xyz` (mm, camera frame),
    with `clip`, `run`, `frame`, `subject`."""
    rng = np.random.default_rng(seed)
    base = Path(root) / 'SURREAL' / 'data' if nested else Path(root)
    clips = [Clip(*clip) for clip in clips]
    people = movers(len(clips), max(clip.n_labels for clip in clips), seed)
    px, xyz, rows = [], [], []
    for clip, joints in zip(clips, people):
        folder = base / 'cmu' / split / f'run{clip.run}' / clip.sequence
        uv, seen = _write_clip(folder, clip, joints, rng=rng, images=images, dot=dot, seed=seed)
        px.append(at(uv, _usable(clip)))
        xyz.append(at(seen, _usable(clip)))
        rows += _clip_rows(clip)
    names, run, frame, subject = zip(*rows)
    return SimpleNamespace(
        px=join(px),
        xyz=join(xyz),
        K=SURREAL_K,
        clip=list(names),
        run=np.array(run),
        frame=np.array(frame),
        subject=np.array(subject),
        dot=dot,
        base=base,
    )


# ---- SURREAL in the crops of the field ----
def tll_box(px, size):
    "The family's square about all joints: 1.5 times the longer side, moved into the image"
    height, width = size
    low, high = px.min(0), px.max(0)
    side = min(int(round(1.5 * max(high - low))), width, height)
    corner = []
    for middle, length in zip((low + high) / 2, (width, height)):
        corner.append(int(np.clip(round(middle - side / 2), 0, length - side)))
    return corner, side


def _crop_truth(joints, size):
    "A person in a crop: joints in px and mm, the true and the stored intrinsics"
    uv = {name: xyz[:2] / xyz[2] * 600 + [160, 120] for name, xyz in joints.items()}
    corner, side = tll_box(np.stack([uv[name] for name in SMPL_ON_IMAGE]), SURREAL_SIZE)
    scale = size / side
    stored = SURREAL_K * np.array([[scale], [scale], [1]])
    true = stored.copy()
    true[:2, 2] -= [corner[0] * scale, corner[1] * scale]
    crop = {name: (place - corner) * scale for name, place in uv.items()}
    return SimpleNamespace(px=crop, xyz=joints, K=true, stored=stored)


def _crop_entry(name, truth):
    "What the file holds: X and Y by the camera that was not moved along"
    px = np.stack([truth.px[joint] for joint in SMPL_ON_IMAGE])
    depth = np.array([truth.xyz[joint][2] / 1000 for joint in SMPL_ON_IMAGE])[:, None]
    stored = truth.stored
    xy = (px - stored[:2, 2]) / stored[0, 0] * depth
    return dict(
        name=name,
        keypoint2d=px.tolist(),
        keypoint3d=np.concatenate([xy, depth], 1).tolist(),
        intrinsic_matrix=stored.tolist(),
    )


def _with_samples(truth):
    "The same with an axis for samples"
    px = {name: place[None] for name, place in truth.px.items()}
    xyz = {name: place[None] for name, place in truth.xyz.items()}
    return SimpleNamespace(px=px, xyz=xyz, K=truth.K, stored=truth.stored)


def _write_crop_run(folder, people, size, rng, seeds, images, dot):
    "One run of one split. Returns name -> truth"
    truths, entries = {}, []
    for i, joints in enumerate(people):
        offset = np.array([rng.uniform(-600, 600), -150, rng.uniform(6300, 8000)])
        truth = _crop_truth(moved(joints, offset), size)
        name = f'{10 + i % 4:02d}_{i:02d}_c0001/frame_{3 * i:03d}.jpg'
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if images:
            seed, run = seeds
            picture = draw(
                truth.xyz,
                truth.px,
                (size, size),
                focal=truth.stored[0, 0],
                rng=np.random.default_rng([seed, i, run]),
                dot=dot,
            )
            write_jpeg(folder / name, picture, quality=96)
        entries.append(_crop_entry(name, truth))
        truths[name] = _with_samples(truth)
    folder.with_suffix('.json').write_text(json.dumps(entries))
    return truths


def write_surreal_crops(
    root,
    counts=dict(train=(12, 9, 9), val=(3, 2, 2), test=(10, 5, 5)),
    size=128,
    dot='r_wrist',
    images=True,
    seed=0,
):
    """The family's packaging.

    Truth per (split, run, name): the person's joints in the crop, true camera frame (mm), the
    crop's true and its stored intrinsics."""
    rng = np.random.default_rng(seed + 1)
    truth = {}
    for split, numbers in counts.items():
        for run, n in enumerate(numbers):
            folder = Path(root) / split / f'run{run}'
            people = stills(n, seed + 17 * run + len(split))
            written = _write_crop_run(
                folder, people, size, rng=rng, seeds=(seed, run), images=images, dot=dot
            )
            for name, one in written.items():
                truth[split, run, name] = one
    return truth


# ---- LSP ----
LSP = (
    'r_ankle r_knee r_hip l_hip l_knee l_ankle r_wrist r_elbow r_shoulder l_shoulder l_elbow '
    'l_wrist neck head'
).split()
LSP_SIZES = ((150, 110), (110, 160), (128, 128), (172, 96))  # height, width
LSP_LAYOUTS = {'3x14xN': (2, 1, 0), '14x3xN': (1, 2, 0), 'Nx14x3': (0, 1, 2)}


def _photograph(joints, size):
    "A person 5 m away in the middle of the image: joints in mm and px, and the focal length"
    height, width = size
    joints = moved(joints, [0, 0, 5000])
    focal = 0.62 * min(height, 1.4 * width) * 5000 / 1700
    px = {name: xyz[:2] / xyz[2] * focal for name, xyz in joints.items()}
    places = list(px.values())
    middle = (np.min(places, 0) + np.max(places, 0)) / 2
    centre = [width / 2 - 0.5, height / 2 - 0.5]
    return joints, {name: place - middle + centre for name, place in px.items()}, focal


def write_lsp(root, n=10, dot='l_knee', layout='3x14xN', digits=4, images=True, seed=0):
    """Whole photographs of several sizes.

    Truth: joints by name (n,2) px, `occluded` (n,14) in the order of the file, `size` (n,2)."""
    rng = np.random.default_rng(seed + 2)
    root = Path(root)
    (root / 'images').mkdir(parents=True, exist_ok=True)
    occluded = rng.random((n, 14)) < 0.2
    occluded[:, LSP.index(dot)] = False
    sizes = [LSP_SIZES[i % 4] for i in range(n)]
    px = []
    for i, joints in enumerate(stills(n, seed + 5)):
        joints, uv, focal = _photograph(joints, sizes[i])
        px.append({name: place[None] for name, place in uv.items()})
        if images:
            look = np.random.default_rng([seed, i])
            picture = draw(joints, uv, sizes[i], focal=focal, rng=look, dot=dot)
            write_jpeg(root / 'images' / f'im{i + 1:0{digits}d}.jpg', picture, quality=97)
    px = join(px)
    stored = np.concatenate([stack(px, LSP), occluded[..., None]], -1).astype(np.float64)
    scipy.io.savemat(root / 'joints.mat', dict(joints=stored.transpose(LSP_LAYOUTS[layout])))
    return SimpleNamespace(px=px, occluded=occluded, size=np.array(sizes), dot=dot, j=stored)
