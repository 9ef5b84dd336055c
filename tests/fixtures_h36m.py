"""Small Human3.6M and 3DPW trees with known ground truth, in the documented layouts.

The tables are written from the documents, not from the readers.
"""

import json
import pickle
import struct
from collections import namedtuple
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
import cv2
import numpy as np
from geomrecon.puppet.videos import PuppetVideos

DOT = 10  # joint (right wrist) that carries a bright dot on a black disc
H36M_CAMERAS = {1: '54138969', 2: '55011271', 3: '58860488', 4: '60457274'}  # cam_idx -> serial
Lens = namedtuple('Lens', 'focal centre radial tangential width height')
H36M_LENS = {
    1: Lens(
        (1145.0494, 1143.7811),
        (512.5415, 515.4515),
        (-0.207099, 0.247775, -0.003075),
        (-0.000976, -0.001424),
        1000,
        1002,
    ),
    2: Lens(
        (1149.6757, 1147.5917),
        (508.8486, 508.0649),
        (-0.194214, 0.240409, 0.006820),
        (-0.001619, -0.002741),
        1000,
        1000,
    ),
    3: Lens(
        (1149.1407, 1148.7990),
        (519.8158, 501.4026),
        (-0.208338, 0.255488, -0.002460),
        (0.001484, -0.000760),
        1000,
        1000,
    ),
    4: Lens(
        (1145.5114, 1144.7739),
        (514.9682, 501.8820),
        (-0.198384, 0.218324, -0.008947),
        (-0.000587, -0.001813),
        1000,
        1002,
    ),
}
# joints of body16:
# 0 r_ankle, 1 r_knee, 2 r_hip, 3 l_hip, 4 l_knee, 5 l_ankle, 6 pelvis, 7 thorax, 8 neck, 9 head,
# 10 r_wrist, 11 r_elbow, 12 r_shoulder, 13 l_shoulder, 14 l_elbow, 15 l_wrist
BONES = (
    (6, 2),
    (2, 1),
    (1, 0),
    (6, 3),
    (3, 4),
    (4, 5),
    (6, 8),
    (8, 9),
    (8, 12),
    (12, 11),
    (11, 10),
    (8, 13),
    (13, 14),
    (14, 15),
)


# ---- joints


def to_h36m(b):
    "(...,16,3) in the common order -> the 17 joints of Human3.6M"
    at = lambda i: b[..., i, :]
    spine = 0.55 * at(6) + 0.45 * at(8) + np.array([0, 25.0, 0])
    nose = 0.6 * at(8) + 0.4 * at(9) + np.array([15.0, 0, 0])
    legs = [at(6), at(2), at(1), at(0), at(3), at(4), at(5)]
    arms = [at(13), at(14), at(15), at(12), at(11), at(10)]
    return np.stack([*legs, spine, at(8), nose, at(9), *arms], -2)


def to_smpl(b):
    "(...,16,3) in the common order -> the 24 joints of SMPL"
    at = lambda i: b[..., i, :]
    mix = lambda i, j, w: (1 - w) * at(i) + w * at(j)
    hips = [at(6), at(3), at(2), mix(6, 7, 0.3)]
    legs = [at(4), at(1), mix(6, 7, 0.6), at(5), at(0), at(7)]
    feet = [mix(5, 4, -0.15), mix(0, 1, -0.15)]
    chest = [at(8), mix(8, 13, 0.45), mix(8, 12, 0.45), at(9)]
    arms = [at(13), at(12), at(14), at(11), at(15), at(10)]
    hands = [mix(15, 14, -0.3), mix(10, 11, -0.3)]
    return np.stack(hips + legs + feet + chest + arms + hands, -2)


def figures(n_videos, n_frames, seed):
    "(n_videos,n_frames,16,3) mm around the pelvis, z up; bones are symmetric and rigid as in Human3.6M"
    puppets = PuppetVideos('body', n_videos, n_frames, 32, seed=seed)
    b = puppets.batch(range(n_videos * n_frames))['joints3d'].numpy().astype(np.float64)
    b = b - b[:, 6:7]
    middle = (b[:, 12] + b[:, 13]) / 2  # of the shoulders
    b[:, 7] = middle
    across = b[:, 13] - b[:, 12]
    width = np.linalg.norm(across, axis=1, keepdims=True)
    up = b[:, 8] - middle
    # the neck equally far from both shoulders, always
    up -= (up * across).sum(1, keepdims=True) / width**2 * across
    length = 0.6 * width.reshape(n_videos, -1).max(1).repeat(n_frames)[:, None]
    height = np.sqrt(length**2 - width**2 / 4)
    b[:, 8] = middle + up / np.linalg.norm(up, axis=1, keepdims=True) * height
    z_up = np.stack([b[..., 0], b[..., 2], -b[..., 1]], -1)
    return z_up.reshape(n_videos, n_frames, 16, 3)


# ---- cameras


def look_at(eye, target, up=(0, 0, 1)):
    "R, t of a camera (x right, y down, z away): X_cam = R X + t"
    eye = np.asarray(eye, float)
    z = np.asarray(target, float) - eye
    z /= np.linalg.norm(z)
    x = np.cross(z, up)
    x /= np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z])
    return R, -R @ eye


def pinhole(X, f, c):
    return X[..., :2] / X[..., 2:] * np.asarray(f) + np.asarray(c)


def lens(X, f, c, k, p):
    "With distortion, in the form that the set's own code uses (no factor 2 in the tangential part)"
    x = X[..., :2] / X[..., 2:]
    p = np.asarray(p)
    r2 = (x**2).sum(-1, keepdims=True)
    radial = 1 + k[0] * r2 + k[1] * r2**2 + k[2] * r2**3
    distorted = x * (radial + (x * p).sum(-1, keepdims=True)) + p * r2
    return distorted * np.asarray(f) + np.asarray(c)


def matrix(f, c):
    return np.array([[f[0], 0, c[0]], [0, f[1], c[1]], [0, 0, 1.0]])


# ---- pictures


def _is_drawable(points):
    return np.isfinite(points).all() and (np.abs(points) <= 1e4).all()


def _draw_bones(img, kp, is_last):
    "One figure: right side red, left side blue, grey where another stands in front"
    points = [(int(round(float(x) * 16)), int(round(float(y) * 16))) for x, y in kp]
    thick = max(6, int(np.ptp(kp[:, 1]) / 14))
    for a, b in BONES:
        is_right = a in (2, 1, 12, 11) or b in (2, 12)
        color = (60, 90, 200) if is_right else (190, 120, 60)
        if not is_last:
            color = (120, 140, 120)
        cv2.line(img, points[a], points[b], color, thick, cv2.LINE_AA, 4)
    cv2.circle(img, points[9], thick * 16, (150, 180, 220), -1, cv2.LINE_AA, 4)


def _draw_dot(img, at, sigma):
    "A Gaussian on a black disc"
    h, w = img.shape[:2]
    cx, cy = at
    r = int(5 * sigma)
    left, top = int(round(cx)) - r, int(round(cy)) - r
    columns = np.arange(max(left, 0), min(left + 2 * r + 1, w))
    rows = np.arange(max(top, 0), min(top + 2 * r + 1, h))
    if not (len(columns) and len(rows)):
        return
    xs, ys = np.meshgrid(columns, rows)
    d2 = (xs - cx) ** 2 + (ys - cy) ** 2
    patch = img[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    patch[d2 <= r * r] = 0
    bright = np.round(255 * np.exp(-d2 / 2 / sigma**2))[..., None].astype(np.uint8)
    np.maximum(patch, bright, out=patch)


def draw(size, people, sigma=6.0):
    "Capsule figures, each (16,2) px, on a grey ground; a dot marks joint DOT of the last"
    h, w = size
    img = np.empty((h, w, 3), np.uint8)
    img[:] = (96, 104, 112)
    img[h * 3 // 4 :] = (70, 80, 84)
    for n, kp in enumerate(people):
        if _is_drawable(kp):
            _draw_bones(img, kp, is_last=n == len(people) - 1)
    if people and _is_drawable(people[-1][DOT]):
        _draw_dot(img, people[-1][DOT], sigma)
    return img


def save(path, img):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), img, [cv2.IMWRITE_JPEG_QUALITY, 93])


def dot_error(reader, joint=DOT, radius=10):
    "Distance (N,), px of the crop, between the label of a joint and the centroid of its dot"
    batch = reader.batch(np.arange(len(reader)))
    labels = ((batch['keypoints'][:, joint].numpy() + 1) * reader.size - 1) / 2
    errors = []
    for img, label in zip(batch['image'].numpy(), labels):
        left, top = np.round(label).astype(int) - radius
        side = 2 * radius + 1
        patch = img[:, top : top + side, left : left + side].min(0).astype(float)
        ys, xs = np.mgrid[top : top + patch.shape[0], left : left + patch.shape[1]]
        weight = np.where(np.hypot(xs - label[0], ys - label[1]) < radius, patch, 0)
        assert weight.sum() > 500, 'a dot is there'
        centre = np.array([(weight * xs).sum(), (weight * ys).sum()]) / weight.sum()
        errors.append(np.hypot(*(centre - label)))
    return np.array(errors)


# ---- Human3.6M


@dataclass
class Shot:
    "One frame of one camera"

    subject: int
    action: int
    subaction: int
    camera: int
    frame: int
    world: np.ndarray  # (16,3) mm
    R: np.ndarray
    t: np.ndarray

    @property
    def lens(self):
        return H36M_LENS[self.camera]

    @property
    def size(self):
        return self.lens.height, self.lens.width

    @property
    def K(self):
        return matrix(self.lens.focal, self.lens.centre)

    def before_camera(self, world):
        return world @ self.R.T + self.t

    @property
    def xyz(self):
        return self.before_camera(self.world)

    def pinhole(self, xyz):
        return pinhole(xyz, self.lens.focal, self.lens.centre)

    def distorted(self, xyz):
        return lens(xyz, *self.lens[:4])

    @property
    def sequence(self):
        "Name of the take, as 3DMPPE has it"
        take = f's_{self.subject:02d}_act_{self.action:02d}_subact_{self.subaction:02d}'
        return f'{take}_ca_{self.camera:02d}'

    @property
    def name(self):
        return f'{self.sequence}/{self.sequence}_{self.frame + 1:06d}.jpg'


def _cameras_around(subject):
    "R, t of the four cameras"
    cameras = {}
    for camera, angle in zip((1, 2, 3, 4), np.deg2rad((70, -70, 110, -110))):
        eye = (4200 * np.cos(angle) + subject * 10, 4700 * np.sin(angle), 1550 + 10 * subject)
        cameras[camera] = look_at(eye, (0, 0, 900))
    return cameras


def h36m_scene(subjects, acts, cams, frames, seed):
    "Shots in the order of the official lists"
    moving = iter(figures(len(subjects) * len(acts), frames, seed))
    rng = np.random.default_rng(seed + 1)
    for subject in subjects:
        cameras = _cameras_around(subject)
        for action, subaction in acts:
            at = np.array([*rng.uniform(-500, 500, 2), 900])
            walk = np.linspace(0, 1, frames)[:, None, None] * np.array([300, 150, 0])
            world = next(moving) + at + walk
            for camera in cams:
                for n in range(frames):
                    yield Shot(subject, action, subaction, camera, n, world[n], *cameras[camera])


def _truth(rows):
    truth = {}
    for name in rows[0]:
        truth[name] = np.array([row[name] for row in rows])
    return truth


def _row(shot, **more):
    "What is true of a shot in every packaging"
    row = dict(subject=shot.subject, action=shot.action, sub=shot.subaction, view=shot.camera)
    row.update(frame=shot.frame, xyz=shot.xyz, K=shot.K, size=shot.size, video=shot.sequence)
    return dict(row, **more)


class _MppeLists:
    "The three JSON files of one subject"

    def __init__(self):
        self.images, self.annotations, self.cameras, self.joints = [], [], {}, {}

    def add(self, shot, packaging):
        "One shot; `packaging='R(X-T)'`: t holds the camera's position"
        number = shot.subject * 100000 + len(self.images)
        image = dict(id=number, file_name=shot.name)
        image.update(width=shot.lens.width, height=shot.lens.height, subject=shot.subject)
        image.update(action_name=f'Action{shot.action}', action_idx=shot.action)
        image.update(subaction_idx=shot.subaction, cam_idx=shot.camera, frame_idx=shot.frame)
        self.images.append(image)
        joints = to_h36m(shot.world)
        px = shot.pinhole(shot.before_camera(joints))
        low, high = px.min(0), px.max(0)
        inside = ((px >= 0) & (px < [shot.lens.width, shot.lens.height])).all(1)
        box = [*low.tolist(), *(high - low).tolist()]
        note = dict(id=number, image_id=number, keypoints_vis=inside.tolist(), bbox=box)
        self.annotations.append(note)
        t = shot.t if packaging == 'RX+t' else -shot.R.T @ shot.t
        camera = dict(R=shot.R.tolist(), t=t.tolist())
        camera.update(f=list(shot.lens.focal), c=list(shot.lens.centre))
        self.cameras[str(shot.camera)] = camera
        takes = self.joints.setdefault(str(shot.action), {})
        takes.setdefault(str(shot.subaction), {})[str(shot.frame)] = joints.tolist()

    def write(self, folder, subject):
        data = dict(images=self.images, annotations=self.annotations)
        for kind, x in dict(data=data, camera=self.cameras, joint_3d=self.joints).items():
            (folder / f'Human36M_subject{subject}_{kind}.json').write_text(json.dumps(x))


def write_h36m(
    root,
    subjects=(1, 5, 6, 7, 8, 9, 11),
    acts=((2, 1),),
    cams=(1, 3),
    frames=6,
    packaging='RX+t',
    images=True,
    seed=0,
):
    "The 3DMPPE packaging: annotations/Human36M_subject{S}_{data,camera,joint_3d}.json and images/<seq>/<seq>_%06d.jpg"
    root = Path(root)
    (root / 'annotations').mkdir(parents=True, exist_ok=True)
    rows = []
    lists = {s: _MppeLists() for s in subjects}
    for shot in h36m_scene(subjects, acts, cams, frames, seed):
        lists[shot.subject].add(shot, packaging)
        kp = shot.pinhole(shot.xyz)
        rows.append(_row(shot, file=f'images/{shot.name}', keypoints=kp))
        if images:
            save(root / 'images' / shot.name, draw(shot.size, [kp]))
    for subject, of_subject in lists.items():
        of_subject.write(root / 'annotations', subject)
    return _truth(rows)


# ---- Human3.6M, RegDA's crops


def scale_box(kp, W, H):
    "Square crop, 1.5 times the longer side of the joints' box, moved inside the image: left, top, side"
    lo, hi = kp.min(0), kp.max(0)
    side = min(round(1.5 * max(hi - lo)), min(W, H))
    corner = []
    for middle, n in zip((lo + hi) / 2, (W, H)):
        corner.append(int(min(max(round(middle - side / 2), 0), n - side)))
    return corner[0], corner[1], int(side)


def _crop_camera(K, left, top, zoom):
    "Intrinsics of the crop of 512 px, about pixel centres"
    exact = K.copy()
    exact[:2, 2] -= [left, top]
    exact[:2, 2] += 0.5
    exact[:2] /= zoom
    exact[:2, 2] -= 0.5
    return exact


def _crop_of(shot):
    "Entry of the list, what is true, and left, top and side of one crop"
    kp = shot.pinhole(shot.xyz)
    left, top, side = scale_box(kp, shot.lens.width, shot.lens.height)
    zoom = side / 512
    K = shot.K
    in_crop = kp - [left, top]
    # the principal point stayed behind: x and y are off, z is right
    wrong = np.c_[in_crop, np.ones(16)] * shot.xyz[:, 2:] @ np.linalg.inv(K).T
    stored_K = K.copy()
    stored_K[:2] /= zoom
    entry = dict(name=shot.name, keypoint2d=(in_crop / zoom).tolist())
    entry.update(keypoint3d=wrong.tolist(), intrinsic_matrix=stored_K.tolist())
    row = _row(shot, file=f'crop_images/{shot.name}', keypoints=(in_crop + 0.5) / zoom - 0.5)
    row.update(stored=in_crop / zoom, wrong=wrong, size=(512, 512))
    row.update(K=_crop_camera(K, left, top, zoom))
    return entry, row, (left, top, side)


def _save_crop(path, shot, left, top, side):
    img = draw(shot.size, [shot.pinhole(shot.xyz)])[top : top + side, left : left + side]
    save(path, cv2.resize(img, (512, 512), interpolation=cv2.INTER_LINEAR))


def write_h36m_crops(
    root,
    subjects=(1, 5, 6, 7, 8, 9, 11),
    acts=((2, 1),),
    cams=(1, 3),
    frames=6,
    images=True,
    raw=True,
    every=5,
    seed=0,
):
    "The preprocessed crops: annotations/keypoints2d_{S}.json, crop_images/<name> of 512 px; `raw`: 3DMPPE's JSON beside them"
    root = Path(root)
    (root / 'annotations').mkdir(parents=True, exist_ok=True)
    if raw:
        write_h36m(root, subjects, acts, cams, frames, images=False, seed=seed)
    rows = []
    lists = {s: [] for s in subjects}
    n_seen = {s: 0 for s in subjects}
    for shot in h36m_scene(subjects, acts, cams, frames, seed):
        n_seen[shot.subject] += 1
        if (n_seen[shot.subject] - 1) % every:
            continue
        entry, row, corner = _crop_of(shot)
        lists[shot.subject].append(entry)
        rows.append(row)
        if images:
            _save_crop(root / 'crop_images' / shot.name, shot, *corner)
    for subject, entries in lists.items():
        (root / 'annotations' / f'keypoints2d_{subject}.json').write_text(json.dumps(entries))
    return _truth(rows)


# ---- Human3.6M, mmpose's arrays

MMPOSE_ACTS = {2: 'Directions', 9: 'SittingDown', 15: 'WalkDog'}
MMPOSE_NAMES = [
    'root (pelvis)',
    'left_hip',
    'left_knee',
    'left_foot',
    'right_hip',
    'right_knee',
    'right_foot',
    'spine',
    'thorax',
    'neck_base',
    'head',
    'left_shoulder',
    'left_elbow',
    'left_wrist',
    'right_shoulder',
    'right_elbow',
    'right_wrist',
]  # hips are misnamed in the original too


def _mmpose_camera(shot):
    f, c, k, p, w, h = shot.lens
    column = lambda v: np.array(v)[:, None]
    extrinsics = dict(R=shot.R.T.copy(), T=(-shot.R.T @ shot.t)[:, None] / 1000)
    intrinsics = dict(c=column(c), f=column(f), k=column(k), p=column(p), w=w, h=h)
    name = dict(name=f'camera{shot.camera}', id=H36M_CAMERAS[shot.camera])
    return dict(extrinsics, **intrinsics, **name)


def _mmpose_row(shot, flat):
    "What is true of a shot, and what the arrays hold of it"
    take = f'S{shot.subject}_{MMPOSE_ACTS[shot.action]}'
    if shot.subaction:
        take += f'_{shot.subaction}'
    sequence = f'{take}.{H36M_CAMERAS[shot.camera]}'
    base = f'{sequence}_{shot.frame + 1:06d}.jpg'
    name = base if flat else f'S{shot.subject}/{sequence}/{base}'
    joints = to_h36m(shot.world)
    xyz = shot.before_camera(joints)
    px = shot.distorted(xyz)
    lo, hi = px.min(0), px.max(0)
    row = _row(shot, file=name if flat else f'images/{name}', name=name)
    row.update(keypoints=shot.distorted(shot.xyz), video=sequence)
    row.update(part=np.c_[px, np.ones(17)], S=np.c_[xyz / 1000, np.ones(17)])
    row.update(world=np.c_[joints / 1000, np.ones(17)])
    row.update(center=(lo + hi) / 2, scale=max(hi - lo) * 1.2 / 200)
    return row


def _write_coco(root, truth, cameras):
    "h36m_coco.json and cameras.pkl; file names come without folders"
    (root / 'cameras.pkl').write_bytes(pickle.dumps(cameras))
    images, annotations = [], []
    for i, (name, size) in enumerate(zip(truth['name'], truth['size'])):
        height, width = (int(v) for v in size)
        images.append(dict(file_name=name, height=height, width=width, id=i + 1))
    for i, (px, world) in enumerate(zip(truth['part'], truth['world'])):
        note = dict(id=i + 1, category_id=1, image_id=i + 1, iscrowd=0, bbox=[0, 0, 9, 9])
        note.update(num_keypoints=17, keypoints=px.ravel().tolist())
        note.update(keypoints_3d=world.ravel().tolist())
        annotations.append(note)
    categories = [dict(id=1, name='person', keypoints=MMPOSE_NAMES)]
    coco = dict(categories=categories, images=images, annotations=annotations)
    (root / 'h36m_coco.json').write_text(json.dumps(coco))


def _write_arrays(root, truth, cameras):
    "annotation_body3d with cameras.pkl, fps10 and fps50"
    top = root / 'annotation_body3d'
    top.mkdir(exist_ok=True)
    (top / 'cameras.pkl').write_bytes(pickle.dumps(cameras))
    for fps in (10, 50):
        folder = top / f'fps{fps}'
        folder.mkdir(exist_ok=True)
        for part, in_part in (('train', (1, 5, 6, 7, 8)), ('test', (9, 11))):
            use = np.isin(truth['subject'], in_part) & (truth['frame'] % (50 // fps) == 0)
            arrays = dict(imgname=truth['name'][use], center=truth['center'][use])
            arrays.update(scale=truth['scale'][use])
            arrays.update(part=truth['part'][use].astype(np.float32))
            arrays.update(S=truth['S'][use].astype(np.float32))
            np.savez(folder / f'h36m_{part}.npz', **arrays)


def write_h36m_mmpose(
    root,
    subjects=(1, 5, 9, 11),
    acts=((2, 1), (9, 0)),
    cams=(1, 3),
    frames=11,
    form='npz',
    images=True,
    seed=0,
):
    "The mmpose packaging: annotation_body3d/ and images/S1/<seq>/<seq>_%06d.jpg; `form='coco'`: the flat form of its tests"
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    flat = form == 'coco'
    rows, cameras = [], {}
    for shot in h36m_scene(subjects, acts, cams, frames, seed):
        row = _mmpose_row(shot, flat)
        rows.append(row)
        cameras[f'S{shot.subject}', H36M_CAMERAS[shot.camera]] = _mmpose_camera(shot)
        if images and shot.frame % 5 == 0:
            save(root / row['file'], draw(shot.size, [row['keypoints']]))
    truth = _truth(rows)
    if flat:
        truth = {k: v[truth['frame'] % 5 == 0] for k, v in truth.items()}
        _write_coco(root, truth, cameras)
    else:
        _write_arrays(root, truth, cameras)
    return truth


# ---- 3DPW


class _Python2(pickle._Pickler):
    "Writes text and bytes as Python 2 wrote `str`"

    dispatch = dict(pickle._Pickler.dispatch)

    def _text(self, raw, obj):
        if len(raw) < 256:
            self.write(b'U' + bytes([len(raw)]) + raw)
        else:
            self.write(b'T' + struct.pack('<i', len(raw)) + raw)
        self.memoize(obj)

    def save_bytes(self, obj):
        self._text(obj, obj)

    def save_str(self, obj):
        self._text(obj.encode('latin1'), obj)

    dispatch[bytes] = save_bytes
    dispatch[str] = save_str


def python2_pickle(x):
    "`x` as a protocol-2 pickle of Python 2 and the NumPy of its days"
    f = BytesIO()
    _Python2(f, protocol=2).dump(x)
    return f.getvalue().replace(b'cnumpy._core.', b'cnumpy.core.')


SEQUENCES = dict(
    train=(('courtyard_walk_00', 1, False), ('downtown_talk_01', 2, True)),
    validation=(('courtyard_sit_00', 1, True),),
    test=(('downtown_cafe_00', 2, False),),
)  # name, actors, whether the pictures stand upright
# OpenPose joint -> common joint; nose, eyes and ears are put at the head
COCO18 = {1: 8, 2: 12, 3: 11, 4: 10, 5: 13, 6: 14, 7: 15, 8: 2, 9: 1, 10: 0, 11: 3, 12: 4, 13: 5}
PHONE_FOCAL = (1961.9, 1969.2)


def _in_the_street(figs, aside):
    "(P,I,16,3) mm, y up, walking; `aside`: mm off the middle"
    n_actors, n_frames = figs.shape[:2]
    y_up = np.stack([figs[..., 0], figs[..., 2], -figs[..., 1]], -1)
    places = np.array([(600 * p + aside, 0, 250 * p) for p in range(n_actors)])
    walk = np.linspace(0, 1, n_frames)[None, :, None, None] * np.array([250, 0, 120])
    return y_up + np.array([1500, 900, -800.0]) + places[:, None, None] + walk


def _walking_phone(n_actors, n_frames, rng):
    "R, t of each frame's camera"
    target = (1800 if n_actors > 1 else 1500, 850, -800)
    cameras = []
    for i in range(n_frames):
        eye = (1500 + 40 * i + rng.normal(0, 5), 1500, -6000 + 30 * i)
        cameras.append(look_at(eye, target, (0, 1, 0)))
    return cameras


def _detected(kp, undetected):
    "(P,I,3,18) joints as OpenPose finds them; none in some frames"
    out = np.zeros((*kp.shape[:2], 3, 18))
    head = kp[:, :, 9]
    for j in range(18):
        out[:, :, :2, j] = kp[:, :, COCO18[j]] if j in COCO18 else head + [(j - 7) * 2, -8]
    out[:, :, 2] = 0.8
    out[:, list(undetected)] = 0
    return out


class _Sequence:
    "A sequence of 3DPW, and what is true of it"

    def __init__(self, name, figs, upright, rng, aside, invalid, undetected):
        n_actors, n_frames = figs.shape[:2]
        self.name = name
        self.size = (1920, 1080) if upright else (1080, 1920)
        height, width = self.size
        centre = (width / 2, height / 2)
        self.K = matrix(PHONE_FOCAL, centre)
        self.world = _in_the_street(figs, aside)
        self.cameras = _walking_phone(n_actors, n_frames, rng)
        self.xyz = np.empty_like(self.world)
        for actor in range(n_actors):
            for i, (R, t) in enumerate(self.cameras):
                self.xyz[actor, i] = self.world[actor, i] @ R.T + t
        self.keypoints = pinhole(self.xyz, PHONE_FOCAL, centre)
        self.smpl = to_smpl(self.xyz)
        self.detected = _detected(self.keypoints, undetected)
        self.valid = np.ones((n_actors, n_frames))
        self.valid[:, list(invalid)] = 0

    def contents(self, n_poses, n_cameras, betas):
        "The dictionary of the file, cut to some frames"
        n_actors, n_frames = self.valid.shape
        actors = range(n_actors)
        joints = to_smpl(self.world) / 1000
        poses = [np.vstack([np.c_[R, t / 1000], [0, 0, 0, 1]]) for R, t in self.cameras]
        d = dict(sequence=self.name, betas=[np.zeros(betas) for _ in actors])
        d.update(poses=[np.zeros((n_poses, 72)) for _ in actors])
        d.update(trans=[np.zeros((n_poses, 3)) for _ in actors], genders=['m', 'f'][:n_actors])
        d.update(poses2d=[self.detected[p, :n_poses] for p in actors])
        d.update(jointPositions=[joints[p, :n_poses].reshape(-1, 72) for p in actors])
        d.update(cam_poses=np.stack(poses)[:n_cameras])
        d.update(campose_valid=[self.valid[p, :n_poses] for p in actors], cam_intrinsics=self.K)
        return dict(d, img_frame_ids=np.arange(0, 2 * n_frames, 2))

    def image(self, i):
        return f'imageFiles/{self.name}/image_{i:05d}.jpg'

    def rows(self, split):
        "What is true, frame by frame of each actor"
        for p in range(len(self.valid)):
            for i in range(len(self.cameras)):
                row = dict(file=self.image(i), split=split, sequence=self.name, actor=p, frame=i)
                row.update(keypoints=self.keypoints[p, i], xyz=self.xyz[p, i])
                row.update(smpl=self.smpl[p, i], detected=self.detected[p, i])
                yield dict(row, K=self.K, size=self.size, valid=self.valid[p, i])

    def save_images(self, root, n):
        for i in range(n):
            save(root / self.image(i), draw(self.size, list(self.keypoints[:, i]), 8.0))


def write_3dpw(
    root,
    frames=6,
    images=True,
    nested=False,  # One folder too deep
    val='validation',  # What the folder of this part is called
    sequences=None,
    cut={},  # Frames missing of images, poses or cameras
    betas=10,
    invalid=(),  # Frames whose camera is not aligned
    undetected=(),  # Frames without detected joints
    aside=0.0,  # mm the figures stand off the middle
    seed=0,
):
    "sequenceFiles/<split>/<seq>.pkl of Python 2 and imageFiles/<seq>/image_%05d.jpg"
    root = Path(root)
    rng = np.random.default_rng(seed)
    top = root / 'sequenceFiles' / ('sequenceFiles' if nested else '')
    left = {kind: frames - cut.get(kind, 0) for kind in ('images', 'poses', 'cameras')}
    rows = []
    for split, of_split in (sequences or SEQUENCES).items():
        folder = top / (val if split == 'validation' else split)
        folder.mkdir(parents=True, exist_ok=True)
        for name, n_actors, upright in of_split:
            figs = figures(n_actors, frames, seed + len(rows))
            sequence = _Sequence(name, figs, upright, rng, aside, invalid, undetected)
            contents = sequence.contents(left['poses'], left['cameras'], betas)
            (folder / f'{name}.pkl').write_bytes(python2_pickle(contents))
            rows += sequence.rows(split)
            if images:
                sequence.save_images(root, left['images'])
    return _truth(rows)
