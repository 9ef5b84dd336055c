"Small trees in the layout of the hand data sets, with known truth: RHD, H3D, MVHand, FreiHAND."

import functools
import json
import pickle
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos

JPEG = [
    cv2.IMWRITE_JPEG_QUALITY,
    96,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]
WRIST_AND_KNUCKLES = [0, 1, 5, 9, 13, 17]


# ---- rendered hands ----
class Hands(NamedTuple):
    "Rendered right hands"

    images: np.ndarray  # (n,S,S,3) RGB
    keypoints: np.ndarray  # (n,21,2) px
    visible: np.ndarray  # (n,21)
    xyz: np.ndarray  # (n,21,3) mm
    intrinsics: np.ndarray  # (n,3,3)


def as_hands(batch, size):
    "A batch of the renderer in pixels"
    return Hands(
        images=batch['image'].permute(0, 2, 3, 1).numpy(),
        keypoints=(batch['keypoints'].double().numpy() + 1) * size / 2 - 0.5,
        visible=batch['visible'].numpy(),
        xyz=batch['joints3d'].double().numpy(),
        intrinsics=batch['intrinsics'].double().numpy(),
    )


@functools.lru_cache(8)
def puppets(n, size, seed, style='synthetic'):
    "Single hands"
    rendered = PuppetImages('hand', n, size=size, style=style, seed=seed)
    return as_hands(rendered.batch(np.arange(n)), size)


@functools.lru_cache(8)
def movies(n_videos, n_frames, size, seed):
    "Moving hands, and the number of the video of each frame"
    rendered = PuppetVideos('hand', n_videos, n_frames, size=size, style='real', seed=seed)
    return as_hands(rendered.batch(np.arange(len(rendered))), size), rendered.video_id


# ---- cameras ----
def pinhole(fx, fy, cx, cy):
    "Intrinsics (3,3)"
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def lift(uv, z, K):
    "Points (...,3) at depth z that K sends to uv"
    x = (uv[..., 0] - K[0, 2]) * z / K[0, 0]
    y = (uv[..., 1] - K[1, 2]) * z / K[1, 1]
    return np.stack([x, y, z], -1)


# ---- pictures and tables ----
def gauss(height, width, at, sigma=3.0):
    "A soft dot of height 1 at a place"
    y, x = np.mgrid[:height, :width]
    return np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * sigma**2))


def with_dots(image, places):
    "The picture with its blue channel emptied but for a soft dot at each place"
    image = image.copy()
    height, width = image.shape[:2]
    dots = np.sum([gauss(height, width, place) for place in places], 0)
    image[..., 2] = np.clip(dots * 255, 0, 255).round()
    return image


def dotted(image, dot, *keypoints):
    "The picture with a dot on joint `dot` of each hand; as it is for None"
    if dot is None:
        return image
    return with_dots(image, [joints[dot] for joints in keypoints])


def save(path, image, params=()):
    "Write an RGB picture, and the folder it is in"
    path.parent.mkdir(parents=True, exist_ok=True)
    written = cv2.imwrite(str(path), image[..., ::-1], list(params))
    assert written


def backdrop(height, width, rng):
    "A soft background between four random colours"
    corners = rng.integers(40, 200, (4, 1, 1, 3))
    y = np.linspace(0, 1, height)[:, None, None]
    x = np.linspace(0, 1, width)[None, :, None]
    top = (1 - x) * corners[0] + x * corners[1]
    bottom = (1 - x) * corners[2] + x * corners[3]
    return ((1 - y) * top + y * bottom).astype(np.uint8)


def digits(numbers, n=4):
    "Rounded to n significant digits, float32, as the published numbers are"
    numbers = np.asarray(numbers, np.float64)
    magnitude = np.floor(np.log10(np.maximum(np.abs(numbers), 1e-12)))
    factor = 10.0 ** (n - 1 - magnitude)
    return (np.round(numbers * factor) / factor).astype(np.float32)


def as_columns(rows, text=('file',)):
    "Arrays over rows; lists for the columns that hold text"
    columns = {}
    for key in rows[0]:
        values = [row[key] for row in rows]
        columns[key] = values if key in text else np.array(values)
    return columns


def write_coco(path, images, annotations, **head):
    "A COCO file of hands"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = dict(
        head,
        licenses='',
        images=images,
        annotations=annotations,
        categories=[dict(id=1, name='hand')],
    )
    path.write_text(json.dumps(content))


# ---- RHD ----
class Hand(NamedTuple):
    "One hand in a picture of RHD"

    keypoints: np.ndarray  # (21,2) px
    visible: np.ndarray  # (21,)
    xyz: np.ndarray  # (21,3) mm


class Place(NamedTuple):
    "Where a hand is pasted"

    x: int  # left edge, px
    y: int  # top edge, px
    size: int  # side, px
    n_visible: int | None = None  # None: as rendered


RHD_SIDE = 320  # px
BESIDE_THE_PICTURE = Place(330, 100, 100, n_visible=0)
RHD_LAYOUTS = dict(
    both=dict(left=Place(12, 60, 140), right=Place(166, 110, 140)),
    left=dict(left=Place(30, 70, 150), right=BESIDE_THE_PICTURE),
    right=dict(right=Place(140, 120, 150), left=Place(20, 30, 44, n_visible=21)),
    overlap=dict(left=Place(90, 90, 140), right=Place(100, 96, 140)),
    few=dict(
        left=Place(14, 120, 140, n_visible=17),
        right=Place(168, 40, 140, n_visible=16),
    ),
    far=dict(left=Place(40, 40, 44), right=Place(200, 200, 44)),
)
RHD_KINDS = tuple(RHD_LAYOUTS)
RHD_KEPT = dict(
    both=('left', 'right'), left=('left',), right=('right',), overlap=(), few=('left',), far=()
)  # the hands that the one-hand rule keeps


def _rhd_stored(joints):
    "One hand from base-to-tip to RHD's order: wrist, then each finger from its tip to the palm"
    stored = np.empty_like(joints)
    stored[0] = joints[0]
    for finger in range(5):
        base, tip = 1 + 4 * finger, 4 + 4 * finger
        stored[base : tip + 1] = joints[base : tip + 1][::-1]
    return stored


def _jittered(place, rng):
    "The place, moved by up to 7 px; what is outside stays there"
    if place is BESIDE_THE_PICTURE:
        return place
    dx = int(rng.integers(0, 8))
    dy = int(rng.integers(0, 8))
    return place._replace(x=place.x + dx, y=place.y + dy)


def _rhd_places(kind, rng):
    "side -> place. Every layout draws, so that the draws of a picture don't depend on its kind"
    places = {}
    for layout, sides in RHD_LAYOUTS.items():
        places[layout] = {side: _jittered(place, rng) for side, place in sides.items()}
    return places[kind]


def _squarest(hands):
    "The hand whose box is nearest to a square"
    extent = np.ptp(hands.keypoints, axis=1)
    return int(np.argmax(extent.min(1) / extent.max(1)))


def _rhd_hand(hands, which, side, place, K):
    "A rendered hand as it is in the picture: image and `Hand`"
    image = hands.images[which]
    uv = hands.keypoints[which]
    visible = hands.visible[which]
    if side == 'left':
        image = image[:, ::-1]
        uv = np.stack([place.size - 1 - uv[:, 0], uv[:, 1]], -1)
    uv = uv + [place.x, place.y]
    z = hands.xyz[which][:, 2] * K[0, 0] / hands.intrinsics[which][0, 0]
    if place.n_visible is not None:
        visible = np.arange(21) < place.n_visible
    elif visible.sum() <= 16:
        visible = np.ones(21, bool)
    return image, Hand(uv, visible, lift(uv, z, K))


def _rhd_picture(kind, count, seed, rng):
    "Picture, intrinsics, and side -> `Hand`"
    focal = round(float(rng.uniform(263, 306)), 1)
    K = pinhole(focal, focal, 160, 160)
    picture = backdrop(RHD_SIDE, RHD_SIDE, rng)
    hands = {}
    for side, place in _rhd_places(kind, rng).items():
        rendered = puppets(8, place.size, seed)
        if kind == 'overlap':  # two square boxes, or they would not cover 30% of the crops
            which = _squarest(rendered)
        else:
            which = (count + 3 * (side == 'left')) % 8
        image, hands[side] = _rhd_hand(rendered, which, side, place, K)
        if place.x < RHD_SIDE:
            picture[place.y : place.y + place.size, place.x : place.x + place.size] = image
    return picture, K, hands


def _rhd_annotation(hands, K):
    "What the official pickle holds of a picture"
    uv, visible, xyz = (
        np.concatenate([_rhd_stored(hands['left'][k]), _rhd_stored(hands['right'][k])])
        for k in range(3)
    )
    uv_vis = np.concatenate([digits(uv), visible[:, None]], -1)
    return dict(uv_vis=uv_vis.astype(np.float32), xyz=digits(xyz / 1000), K=K.astype(np.float32))


def _rhd_kept(kind, file, number, hands, K):
    "Rows of truth: the hands that the rule keeps"
    rows = []
    for side in RHD_KEPT[kind]:
        rows.append(dict(file=file, id=number, side=side, **hands[side]._asdict(), K=K))
    return rows


def _write_rhd_part(root, split, numbers, seed, rng, dot, images, bare):
    "Pictures of one part. Returns number -> annotation, and the rows of truth"
    annotations = {}
    rows = []
    for count, number in enumerate(numbers):
        kind = RHD_KINDS[count % len(RHD_KINDS)]
        picture, K, hands = _rhd_picture(kind, count, seed, rng)
        file = f'{split}/color/{number:05d}.png'
        if images:
            picture = dotted(picture, dot, *(hand.keypoints for hand in hands.values()))
            save(root / (Path(file).name if bare else file), picture)
        annotations[number] = _rhd_annotation(hands, K)
        rows += _rhd_kept(kind, file, number, hands, K)
    return annotations, rows


def _first_of_each_picture(rows):
    "mmpose's files have one hand per picture"
    first = {}
    for row in rows:
        first.setdefault(row['id'], row)
    return list(first.values())


def _rhd_coco_image(row, bare):
    focal = float(np.float32(row['K'][0, 0]))
    return dict(
        file_name=Path(row['file']).name if bare else row['file'],
        height=RHD_SIDE,
        width=RHD_SIDE,
        id=int(row['id']),
        cam_param=dict(focal=[focal, focal], princpt=[160.0, 160.0]),
    )


def _rhd_coco_hand(row):
    "21 triples, millimetres, RHD's own joint order"
    uv, visible, xyz = (_rhd_stored(row[key]) for key in ('keypoints', 'visible', 'xyz'))
    low, high = uv.min(0), uv.max(0)
    triples = [[float(x), float(y), int(v)] for (x, y), v in zip(digits(uv), visible)]
    return dict(
        id=int(row['id']),
        image_id=int(row['id']),
        category_id=1,
        iscrowd=0,
        bbox=[*map(float, low), *map(float, high - low)],
        area=float(np.prod(high - low)),
        keypoints=triples,
        joint_cam=[list(map(float, joint)) for joint in digits(xyz)],
        hand_type=row['side'],
    )


def _write_rhd_coco(root, split, rows, bare):
    "mmpose's form"
    name = dict(training='rhd_train.json', evaluation='rhd_test.json')[split]
    path = root / 'annotations' / name
    if bare:
        path = root / name.replace('rhd_test', 'test_rhd')
    images = [_rhd_coco_image(row, bare) for row in rows]
    hands = [_rhd_coco_hand(row) for row in rows]
    write_coco(path, images, hands, info=dict(description='RHD'))


def _write_rhd_pickle(root, split, annotations):
    path = root / split / f'anno_{split}.pickle'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(annotations, protocol=2))


def write_rhd(
    root,
    n_train=12,  # pictures of the training part
    n_test=6,
    seed=0,
    dot=None,  # joint on which a dot is drawn
    form='official',  # or 'mmpose'
    gaps=True,  # the numbers of the pictures have gaps
    bare=False,  # all files in one folder
    images=True,
):
    """RHD in its official form, or in mmpose's.

    Returns split -> arrays over the hands that the one-hand rule keeps, in the family's order:
    file, id, side, keypoints, visible, xyz (mm), K."""
    root = Path(root)
    truth = {}
    for split, n in (('training', n_train), ('evaluation', n_test)):
        is_training = split == 'training'
        rng = np.random.default_rng([seed, n_train if is_training else 991])
        numbers = [i + (i // 4 if gaps else 0) for i in range(n)]
        annotations, rows = _write_rhd_part(
            root, split, numbers, seed + is_training, rng=rng, dot=dot, images=images, bare=bare
        )
        if form == 'official':
            _write_rhd_pickle(root, split, annotations)
        else:
            rows = _first_of_each_picture(rows)
            _write_rhd_coco(root, split, rows, bare)
        truth[split] = as_columns(rows, text=('file', 'side'))
    return truth


# ---- Hand-3D-Studio ----
def _h3d_entry(name, uv, xyz, K, without_object):
    return dict(
        name=name,
        keypoint2d=uv.tolist(),
        keypoint3d=xyz.tolist(),
        intrinsic_matrix=K.tolist(),
        without_object=without_object,
    )


def write_h3d(
    root,
    n_videos=5,
    n_frames=8,
    size=128,
    seed=0,
    dot=None,  # joint on which a dot is drawn
    unit=1.0,  # mm of the stored 3D joints
    xyz='camera',  # true 3D; 'crop': the 3D that the unmoved intrinsics give from the crop
    objects=True,  # some hands hold things
):
    """RegDA's crops; one video is one viewpoint, and its intrinsics are not moved to the crop.

    Returns arrays over the list of annotation.json: name, keypoints, xyz (mm, true), K (true, of
    the crop), video, frame, bare."""
    root = Path(root)
    hands, video = movies(n_videos, n_frames, size, seed)
    shift = np.random.default_rng(seed).uniform(200, 900, (n_videos, 2))
    names, bare, entries = [], [], []
    for i, uv in enumerate(hands.keypoints):
        camera = int(video[i])
        frame = 2 * (i % n_frames)
        name = f'part{camera % 5 + 1}/hand{camera // 5}_cam{camera:02d}/{frame:04d}.jpg'
        save(root / name, dotted(hands.images[i], dot, uv), JPEG)
        K = hands.intrinsics[i].copy()
        K[:2, 2] += shift[camera]
        stored = hands.xyz[i] if xyz == 'camera' else lift(uv, hands.xyz[i, :, 2], K)
        is_bare = 1 if not objects or i % 4 else 0
        flag = str(is_bare) if i % 2 else is_bare
        entries.append(_h3d_entry(name, uv, stored / unit, K, flag))
        names.append(name)
        bare.append(is_bare)
    (root / 'annotation.json').write_text(json.dumps(entries))
    return dict(
        name=names,
        bare=np.array(bare),
        keypoints=hands.keypoints,
        visible=np.ones(hands.keypoints.shape[:2], bool),
        xyz=hands.xyz,
        K=hands.intrinsics,
        video=video,
        frame=2 * (np.arange(len(names)) % n_frames),
    )


# ---- MVHand ----
MVHAND_SEQS = ('7-14-1-2', '9-10-1-2', '9-17-1-2', '9-25-1-2')
MVHAND_CAMS = {
    '840412062035': (619.598, 619.116, 325.345, 245.441),
    '840412062037': (615.85, 615.477, 316.062, 247.156),
    '840412062038': (619.475, 619.189, 313.715, 223.921),
    '840412062076': (615.665, 615.09, 306.514, 240.344),
}
MVHAND_SIZE = (480, 640)  # height, width
MVHAND_STANDS = np.array(
    [[175, -535, 573], [-656, -250, 719], [-102, 571, 827], [0, 0, 0]], float
)  # where the cameras stand, mm; the last one is the root camera
MVHAND_MIDDLE = np.array([0, 0, 650.0])  # where the hands are
SKIN = np.array(
    [[224, 172, 140], [214, 160, 128], [222, 176, 146], [208, 152, 122], [228, 182, 152]]
)
BONES = tuple((0 if joint % 4 == 1 else joint - 1, joint) for joint in range(1, 21))


def _look_at(stand, target):
    "Camera-to-world matrix of a camera at `stand` (x right, y down, z forward)"
    forward = (target - stand) / np.linalg.norm(target - stand)
    right = np.cross(np.array([0, 1.0, 0]), forward)
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    T[:3, 3] = stand
    return T


def _draw_hand(uv, z, K, rng):
    "A hand of capsules over a plain room; colours by finger, far limbs first"
    image = backdrop(*MVHAND_SIZE, rng)
    eighths = np.round(uv * 8).astype(np.int64)
    palm = cv2.convexHull(np.round(uv[WRIST_AND_KNUCKLES] * 8).astype(np.int32))
    cv2.fillConvexPoly(image, palm, (200, 146, 118), cv2.LINE_AA, 3)
    far_first = sorted(BONES, key=lambda bone: -(z[bone[0]] + z[bone[1]]))
    for start, end in far_first:
        radius = 9 if end % 4 != 1 else 11
        thickness = max(2, int(round(2 * radius * K[0, 0] / z[end])))
        colour = SKIN[(end - 1) // 4] * (0.82 + 0.06 * ((end - 1) % 4))
        a, b = eighths[start].tolist(), eighths[end].tolist()
        cv2.line(image, a, b, colour.tolist(), thickness, lineType=cv2.LINE_AA, shift=3)
    return image


def _mvhand_calibration(rng):
    "serial -> camera to root camera"
    calibration = {}
    for serial, stand in zip(MVHAND_CAMS, MVHAND_STANDS):
        if stand.any():
            calibration[serial] = _look_at(stand + rng.normal(0, 8, 3), MVHAND_MIDDLE)
        else:
            calibration[serial] = np.eye(4)
    return calibration


def _write_mvhand_labels(folder, xyz, calibration):
    "Thumb last, a column of ones, and an axis of length 1 at the end, as the authors store them"
    stored = np.concatenate([xyz[:, :1], xyz[:, 5:21], xyz[:, 1:5]], 1)
    homogeneous = np.concatenate([stored, np.ones((len(xyz), 21, 1))], -1)
    (folder / 'mlresults').mkdir(parents=True, exist_ok=True)
    np.save(folder / 'mlresults' / f'{folder.name}-joints.npy', homogeneous[..., None])
    (folder / 'calib.pkl').write_bytes(pickle.dumps(calibration))


def _mvhand_view(folder, sequence, view, xyz, to_root):
    "Rows of truth of one sequence in one view"
    K = pinhole(*list(MVHAND_CAMS.values())[view])
    to_camera = np.linalg.inv(to_root)
    rows = []
    for frame, joints in enumerate(xyz):
        seen = joints @ to_camera[:3, :3].T + to_camera[:3, 3]
        uv = seen @ K.T
        uv = uv[:, :2] / uv[:, 2:]
        rows.append(
            dict(
                file=f'{folder.name}/rgb/{frame:05d}_{view}.jpg',
                keypoints=uv,
                visible=((uv >= -0.5) & (uv <= [639.5, 479.5])).all(-1),
                xyz=seen,
                K=K,
                video=4 * sequence + view,
                frame=frame,
                view=view,
                seq=sequence,
            )
        )
    return rows


def _write_mvhand_pictures(root, rows, seed, dot):
    for row in rows:
        rng = np.random.default_rng([seed, row['seq'], row['view']])
        picture = _draw_hand(row['keypoints'], row['xyz'][:, 2], row['K'], rng)
        save(root / row['file'], dotted(picture, dot, row['keypoints']), JPEG)


def write_mvhand(root, n_seq=4, n_frames=8, seed=0, dot=None, images=True):
    """MVHand: 4 views of moving hands.

    Returns arrays ordered by sequence, view, frame: file, keypoints, visible, xyz (mm, camera of
    the view), K, video, frame, view, seq."""
    root = Path(root)
    hands, video = movies(n_seq, n_frames, 32, seed)
    rng = np.random.default_rng(seed)
    rows = []
    for sequence, name in enumerate(MVHAND_SEQS[:n_seq]):
        calibration = _mvhand_calibration(rng)
        xyz = hands.xyz[video == sequence]
        xyz = xyz - xyz.mean((0, 1)) + MVHAND_MIDDLE + rng.normal(0, 15, 3)
        _write_mvhand_labels(root / name, xyz, calibration)
        for view, to_root in enumerate(calibration.values()):
            rows += _mvhand_view(root / name, sequence, view, xyz, to_root)
    if images:
        _write_mvhand_pictures(root, rows, seed, dot)
    return as_columns(rows)


# ---- FreiHAND ----
FREIHAND_VERSIONS = ('gs', 'hom', 'sample', 'auto')


def _freihand_poses(n, seed):
    "Images of the hands, their corners in the picture, and rows of labels over the poses"
    hands = puppets(n, 150, seed + 5)
    rng = np.random.default_rng(seed)
    corners, poses = [], []
    for pose in range(n):
        focal = rng.uniform(380, 520)
        K = pinhole(focal, focal, 112, 112)
        corner = rng.integers(20, 54, 2)
        uv = hands.keypoints[pose] + corner
        z = hands.xyz[pose, :, 2] * focal / hands.intrinsics[pose, 0, 0]
        corners.append(corner)
        poses.append(
            dict(keypoints=uv, visible=np.ones(21, bool), xyz=lift(uv, z, K), K=K, pose=pose)
        )
    return hands.images, corners, poses


def _freihand_picture(hand, corner, rng):
    picture = backdrop(224, 224, rng)
    x, y = corner
    picture[y : y + 150, x : x + 150] = hand
    return picture


def _freihand_rows(poses, versions, n_unique):
    "Rows of truth over all versions"
    rows = []
    for version in versions:
        first = n_unique * FREIHAND_VERSIONS.index(version)
        for pose in poses:
            file = f'training/rgb/{pose["pose"] + first:08d}.jpg'
            rows.append(dict(file=file, **pose, version=version))
    return rows


def _write_freihand_pictures(root, rows, hands, corners, seed, dot):
    for row in rows:
        pose = row['pose']
        version = FREIHAND_VERSIONS.index(row['version'])
        rng = np.random.default_rng([seed, pose, version])
        picture = _freihand_picture(hands[pose], corners[pose], rng)
        save(root / row['file'], dotted(picture, dot, row['keypoints']), JPEG)


def _write_freihand_part(root, part, poses):
    "The three official files of a part"
    cameras = [pose['K'].tolist() for pose in poses]
    metres = [(pose['xyz'] / 1000).tolist() for pose in poses]
    (root / f'{part}_K.json').write_text(json.dumps(cameras))
    (root / f'{part}_xyz.json').write_text(json.dumps(metres))
    (root / f'{part}_mano.json').write_text(json.dumps([[[0.0] * 61]] * len(poses)))


def _write_freihand_evaluation(root, hands):
    "Pictures of the evaluation part, twice as large and cut"
    for i, hand in enumerate(hands):
        picture = hand.repeat(2, 0).repeat(2, 1)[:224, :224]
        save(root / f'evaluation/rgb/{i:08d}.jpg', picture, JPEG)


def _freihand_coco_hand(row, number):
    low = np.floor(row['keypoints'].min(0) - 15)
    high = np.ceil(row['keypoints'].max(0) + 15)
    triples = np.concatenate([row['keypoints'], np.ones((21, 1))], 1)
    return dict(
        bbox=[int(edge) for edge in (*low, *(high - low))],
        keypoints=triples.ravel().tolist(),
        category_id=1,
        id=number,
        image_id=number,
        iscrowd=0,
        area=int(np.prod(high - low)),
    )


def _write_freihand_coco(root, rows):
    "mmpose's form"
    images, annotations = [], []
    for row in rows:
        number = int(Path(row['file']).stem)
        images.append(dict(file_name=row['file'], height=224, width=224, id=number))
        annotations.append(_freihand_coco_hand(row, number))
    write_coco(root / 'annotations' / 'freihand_train.json', images, annotations, info={})


def write_freihand(
    root,
    n=6,  # poses
    seed=0,
    versions=FREIHAND_VERSIONS,
    dot=None,  # joint on which a dot is drawn
    form='official',  # or 'mmpose'
    n_unique=32560,  # file numbers per version
    images=True,
    n_eval=0,  # poses of the evaluation part, with the same labels
):
    """FreiHAND: n poses in each version.

    Returns arrays ordered by version, then pose: file, keypoints, visible, xyz (mm), K, pose,
    version."""
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    hands, corners, poses = _freihand_poses(n, seed)
    rows = _freihand_rows(poses, versions, n_unique)
    if images:
        _write_freihand_pictures(root, rows, hands, corners, seed=seed, dot=dot)
    if form == 'mmpose':
        _write_freihand_coco(root, rows)
    else:
        _write_freihand_part(root, 'training', poses)
        if n_eval:
            _write_freihand_part(root, 'evaluation', poses[:n_eval])
        if images:
            _write_freihand_evaluation(root, hands[:n_eval])
    return as_columns(rows, text=('file', 'version'))
