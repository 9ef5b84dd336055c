"Small Human3.6M and 3DPW trees with known ground truth, in the documented layouts; the tables are written from the documents, not from the readers"

import json, pickle, struct
from io import BytesIO
from pathlib import Path
import cv2, numpy as np
from geomrecon.puppet.videos import PuppetVideos

DOT = 10  # joint (right wrist) that carries a bright dot on a black disc
H36M_CAMERAS = {1: '54138969', 2: '55011271', 3: '58860488', 4: '60457274'}  # cam_idx -> serial
H36M_LENS = {  # f, c, k1 k2 k3, p1 p2, width, height
    1: (
        (1145.0494, 1143.7811),
        (512.5415, 515.4515),
        (-0.207099, 0.247775, -0.003075),
        (-0.000976, -0.001424),
        1000,
        1002,
    ),
    2: (
        (1149.6757, 1147.5917),
        (508.8486, 508.0649),
        (-0.194214, 0.240409, 0.006820),
        (-0.001619, -0.002741),
        1000,
        1000,
    ),
    3: (
        (1149.1407, 1148.7990),
        (519.8158, 501.4026),
        (-0.208338, 0.255488, -0.002460),
        (0.001484, -0.000760),
        1000,
        1000,
    ),
    4: (
        (1145.5114, 1144.7739),
        (514.9682, 501.8820),
        (-0.198384, 0.218324, -0.008947),
        (-0.000587, -0.001813),
        1000,
        1002,
    ),
}
# body16: 0 r_ankle 1 r_knee 2 r_hip 3 l_hip 4 l_knee 5 l_ankle 6 pelvis 7 thorax 8 neck 9 head 10 r_wrist 11 r_elbow 12 r_shoulder 13 l_shoulder 14 l_elbow 15 l_wrist
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


def to_h36m(b):
    "(...,16,3) in the common order -> the 17 joints of Human3.6M"
    at = lambda i: b[..., i, :]
    return np.stack(
        [
            at(6),
            at(2),
            at(1),
            at(0),
            at(3),
            at(4),
            at(5),
            0.55 * at(6) + 0.45 * at(8) + np.array([0, 25.0, 0]),
            at(8),
            0.6 * at(8) + 0.4 * at(9) + np.array([15.0, 0, 0]),
            at(9),
            at(13),
            at(14),
            at(15),
            at(12),
            at(11),
            at(10),
        ],
        -2,
    )


def to_smpl(b):
    "(...,16,3) in the common order -> the 24 joints of SMPL"
    at = lambda i: b[..., i, :]
    mix = lambda i, j, w: (1 - w) * at(i) + w * at(j)
    return np.stack(
        [
            at(6),
            at(3),
            at(2),
            mix(6, 7, 0.3),
            at(4),
            at(1),
            mix(6, 7, 0.6),
            at(5),
            at(0),
            at(7),
            mix(5, 4, -0.15),
            mix(0, 1, -0.15),
            at(8),
            mix(8, 13, 0.45),
            mix(8, 12, 0.45),
            at(9),
            at(13),
            at(12),
            at(14),
            at(11),
            at(15),
            at(10),
            mix(15, 14, -0.3),
            mix(10, 11, -0.3),
        ],
        -2,
    )


def figures(n_videos, n_frames, seed):
    "(n_videos,n_frames,16,3) mm around the pelvis, z up, joint 7 in the middle of the shoulders; bones are symmetric and rigid as in Human3.6M"
    b = (
        PuppetVideos('body', n_videos, n_frames, 32, seed=seed)
        .batch(range(n_videos * n_frames))['joints3d']
        .numpy()
        .astype(np.float64)
    )
    b = b - b[:, 6:7]
    b[:, 7] = mid = (b[:, 12] + b[:, 13]) / 2
    across = b[:, 13] - b[:, 12]
    d = np.linalg.norm(across, axis=1, keepdims=True)
    up = b[:, 8] - mid
    up -= (
        (up * across).sum(1, keepdims=True) / d**2 * across
    )  # the neck equally far from both shoulders, always
    L = 0.6 * d.reshape(n_videos, -1).max(1).repeat(n_frames)[:, None]
    b[:, 8] = mid + up / np.linalg.norm(up, axis=1, keepdims=True) * np.sqrt(L**2 - d**2 / 4)
    return np.stack([b[..., 0], b[..., 2], -b[..., 1]], -1).reshape(n_videos, n_frames, 16, 3)


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
    "With radial and tangential distortion, in the form that the set's own code uses (no factor 2 in the tangential part)"
    x = X[..., :2] / X[..., 2:]
    r2 = (x**2).sum(-1, keepdims=True)
    return (
        x
        * (1 + k[0] * r2 + k[1] * r2**2 + k[2] * r2**3 + (x * np.asarray(p)).sum(-1, keepdims=True))
        + np.asarray(p) * r2
    ) * np.asarray(f) + np.asarray(c)


def matrix(f, c):
    return np.array([[f[0], 0, c[0]], [0, f[1], c[1]], [0, 0, 1.0]])


def draw(size, people, sigma=6.0):
    "Capsule figures, each (16,2) px, on a grey ground; a Gaussian dot on a black disc marks joint DOT of the last"
    h, w = size
    img = np.empty((h, w, 3), np.uint8)
    img[:] = (96, 104, 112)
    img[h * 3 // 4 :] = (70, 80, 84)
    for n, kp in enumerate(people):
        if not np.isfinite(kp).all() or np.abs(kp).max() > 1e4:
            continue
        pt = [tuple(int(round(float(v) * 16)) for v in p) for p in kp]
        th = max(6, int(np.ptp(kp[:, 1]) / 14))
        for a, b in BONES:
            cv2.line(
                img,
                pt[a],
                pt[b],
                ((60, 90, 200) if a in (2, 1, 12, 11) or b in (2, 12) else (190, 120, 60))
                if n == len(people) - 1
                else (120, 140, 120),
                th,
                cv2.LINE_AA,
                4,
            )
        cv2.circle(img, pt[9], th * 16, (150, 180, 220), -1, cv2.LINE_AA, 4)
    if people and np.isfinite(kp[DOT]).all() and (np.abs(kp[DOT]) < 1e4).all():
        cx, cy = kp[DOT]
        r = int(5 * sigma)
        x0, y0 = int(round(cx)) - r, int(round(cy)) - r
        xs, ys = np.meshgrid(
            np.arange(max(x0, 0), min(x0 + 2 * r + 1, w)),
            np.arange(max(y0, 0), min(y0 + 2 * r + 1, h)),
        )
        if xs.size:
            d2 = (xs - cx) ** 2 + (ys - cy) ** 2
            patch = img[ys[:, 0].min() : ys[:, 0].max() + 1, xs[0].min() : xs[0].max() + 1]
            patch[d2 <= r * r] = 0
            np.maximum(
                patch,
                np.round(255 * np.exp(-d2 / 2 / sigma**2))[..., None].astype(np.uint8),
                out=patch,
            )
    return img


def save(path, img):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), img, [cv2.IMWRITE_JPEG_QUALITY, 93])


def h36m_scene(subjects, acts, cams, frames, seed):
    "Yield (subject, action, subaction, cam, frame, body16 world mm, R, t) in the order of the official lists"
    figs = figures(len(subjects) * len(acts), frames, seed)
    rng = np.random.default_rng(seed + 1)
    i = 0
    for s in subjects:
        ext = {
            c: look_at((4200 * np.cos(a) + s * 10, 4700 * np.sin(a), 1550 + 10 * s), (0, 0, 900))
            for c, a in zip((1, 2, 3, 4), np.deg2rad((70, -70, 110, -110)))
        }
        for act, sub in acts:
            at = np.array([*rng.uniform(-500, 500, 2), 900])
            world = (
                figs[i] + at + np.linspace(0, 1, frames)[:, None, None] * np.array([300, 150, 0])
            )
            i += 1
            for c in cams:
                for n in range(frames):
                    yield s, act, sub, c, n, world[n], *ext[c]


def _truth(rows):
    return {k: np.array([r[k] for r in rows]) for k in rows[0]}


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
    "The 3DMPPE packaging: annotations/Human36M_subject{S}_{data,camera,joint_3d}.json and images/<seq>/<seq>_%06d.jpg; `packaging='R(X-T)'`: t holds the camera's position"
    root = Path(root)
    (root / 'annotations').mkdir(parents=True, exist_ok=True)
    rows = []
    files = {s: dict(images=[], annotations=[], cams={}, joints={}) for s in subjects}
    for s, act, sub, c, n, world, R, t in h36m_scene(subjects, acts, cams, frames, seed):
        f, cc, _, _, w, h = H36M_LENS[c]
        cam = world @ R.T + t
        kp = pinhole(cam, f, cc)
        d = files[s]
        w17 = to_h36m(world)
        k17 = pinhole(w17 @ R.T + t, f, cc)
        seq = f's_{s:02d}_act_{act:02d}_subact_{sub:02d}_ca_{c:02d}'
        name = f'{seq}/{seq}_{n + 1:06d}.jpg'
        iid = s * 100000 + len(d['images'])
        d['images'].append(
            dict(
                id=iid,
                file_name=name,
                width=w,
                height=h,
                subject=s,
                action_name=f'Action{act}',
                action_idx=act,
                subaction_idx=sub,
                cam_idx=c,
                frame_idx=n,
            )
        )
        lo, hi = k17.min(0), k17.max(0)
        inside = ((k17 >= 0) & (k17 < [w, h])).all(1)
        d['annotations'].append(
            dict(
                id=iid,
                image_id=iid,
                keypoints_vis=inside.tolist(),
                bbox=[*lo.tolist(), *(hi - lo).tolist()],
            )
        )
        d['cams'][str(c)] = dict(
            R=R.tolist(), t=(t if packaging == 'RX+t' else -R.T @ t).tolist(), f=list(f), c=list(cc)
        )
        d['joints'].setdefault(str(act), {}).setdefault(str(sub), {})[str(n)] = w17.tolist()
        rows.append(
            dict(
                file=f'images/{name}',
                keypoints=kp,
                xyz=cam,
                K=matrix(f, cc),
                subject=s,
                action=act,
                sub=sub,
                view=c,
                frame=n,
                video=seq,
                size=(h, w),
            )
        )
        if images:
            save(root / 'images' / name, draw((h, w), [kp]))
    for s, d in files.items():
        for k, x in dict(
            data=dict(images=d['images'], annotations=d['annotations']),
            camera=d['cams'],
            joint_3d=d['joints'],
        ).items():
            (root / 'annotations' / f'Human36M_subject{s}_{k}.json').write_text(json.dumps(x))
    return _truth(rows)


def scale_box(kp, W, H):
    "Square crop, 1.5 times the longer side of the joints' box, moved inside the image: left, top, side"
    lo, hi = kp.min(0), kp.max(0)
    side = min(round(1.5 * max(hi - lo)), min(W, H))
    out = []
    for c, n in zip((lo + hi) / 2, (W, H)):
        out.append(int(min(max(round(c - side / 2), 0), n - side)))
    return out[0], out[1], int(side)


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
    "The preprocessed crops: annotations/keypoints2d_{S}.json and crop_images/<name>, 512 px; `raw`: the 3DMPPE JSON lies beside them, as after preprocessing"
    root = Path(root)
    (root / 'annotations').mkdir(parents=True, exist_ok=True)
    rows = []
    lists = {s: [] for s in subjects}
    count = {s: 0 for s in subjects}
    if raw:
        write_h36m(root, subjects, acts, cams, frames, images=False, seed=seed)
    for s, act, sub, c, n, world, R, t in h36m_scene(subjects, acts, cams, frames, seed):
        i = count[s]
        count[s] += 1
        if i % every:
            continue
        f, cc, _, _, w, h = H36M_LENS[c]
        cam = world @ R.T + t
        kp = pinhole(cam, f, cc)
        x0, y0, side = scale_box(kp, w, h)
        z = cam[:, 2:]
        zoom = side / 512
        seq = f's_{s:02d}_act_{act:02d}_subact_{sub:02d}_ca_{c:02d}'
        name = f'{seq}/{seq}_{n + 1:06d}.jpg'
        K = matrix(f, cc)
        kc = kp - [x0, y0]
        wrong = (
            np.c_[kc, np.ones(16)] * z @ np.linalg.inv(K).T
        )  # the principal point stayed behind: x and y are off, z is right
        Ks = K.copy()
        Ks[:2] /= zoom
        lists[s].append(
            dict(
                name=name,
                keypoint2d=(kc / zoom).tolist(),
                keypoint3d=wrong.tolist(),
                intrinsic_matrix=Ks.tolist(),
            )
        )
        exact = K.copy()
        exact[:2, 2] -= [x0, y0]
        exact[:2, 2] += 0.5
        exact[:2] /= zoom
        exact[:2, 2] -= 0.5
        rows.append(
            dict(
                file=f'crop_images/{name}',
                keypoints=(kc + 0.5) / zoom - 0.5,
                stored=kc / zoom,
                xyz=cam,
                K=exact,
                wrong=wrong,
                subject=s,
                action=act,
                sub=sub,
                view=c,
                frame=n,
                video=seq,
                size=(512, 512),
            )
        )
        if images:
            save(
                root / 'crop_images' / name,
                cv2.resize(
                    draw((h, w), [kp])[y0 : y0 + side, x0 : x0 + side],
                    (512, 512),
                    interpolation=cv2.INTER_LINEAR,
                ),
            )
    for s, l in lists.items():
        (root / 'annotations' / f'keypoints2d_{s}.json').write_text(json.dumps(l))
    return _truth(rows)


MMPOSE_ACTS = {2: 'Directions', 9: 'SittingDown', 15: 'WalkDog'}


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
    "The mmpose packaging: annotation_body3d/{cameras.pkl,fps10/*.npz,fps50/*.npz} and images/S1/<seq>/<seq>_%06d.jpg; `form='coco'`: the flat form of its tests, h36m_coco.json + cameras.pkl + bare images"
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    rows, cameras = [], {}
    for s, act, sub, c, n, world, R, t in h36m_scene(subjects, acts, cams, frames, seed):
        f, cc, k, p, w, h = H36M_LENS[c]
        cam = world @ R.T + t
        w17 = to_h36m(world)
        kp = lens(cam, f, cc, k, p)
        seq = f'S{s}_{MMPOSE_ACTS[act]}' + (f'_{sub}' if sub else '') + f'.{H36M_CAMERAS[c]}'
        base = f'{seq}_{n + 1:06d}.jpg'
        name = base if form == 'coco' else f'S{s}/{seq}/{base}'
        cameras[f'S{s}', H36M_CAMERAS[c]] = dict(
            R=R.T.copy(),
            T=(-R.T @ t)[:, None] / 1000,
            c=np.array(cc)[:, None],
            f=np.array(f)[:, None],
            k=np.array(k)[:, None],
            p=np.array(p)[:, None],
            w=w,
            h=h,
            name=f'camera{c}',
            id=H36M_CAMERAS[c],
        )
        k17 = lens(w17 @ R.T + t, f, cc, k, p)
        lo, hi = k17.min(0), k17.max(0)
        rows.append(
            dict(
                file=name if form == 'coco' else f'images/{name}',
                name=name,
                part=np.c_[k17, np.ones(17)],
                S=np.c_[(w17 @ R.T + t) / 1000, np.ones(17)],
                world=np.c_[w17 / 1000, np.ones(17)],
                center=(lo + hi) / 2,
                scale=max(hi - lo) * 1.2 / 200,
                keypoints=kp,
                xyz=cam,
                K=matrix(f, cc),
                subject=s,
                view=c,
                frame=n,
                video=seq,
                size=(h, w),
            )
        )
        if images and n % 5 == 0:
            save(root / (name if form == 'coco' else f'images/{name}'), draw((h, w), [kp]))
    T = _truth(rows)
    if form == 'coco':
        T = {k: v[T['frame'] % 5 == 0] for k, v in T.items()}
        (root / 'cameras.pkl').write_bytes(pickle.dumps(cameras))
        wrong = [
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
        ]
        ims = [
            dict(file_name=n, height=int(hw[0]), width=int(hw[1]), id=i + 1)
            for i, (n, hw) in enumerate(zip(T['name'], T['size']))
        ]  # file_name comes without folders; hips are misnamed in the original too
        anns = [
            dict(
                id=i + 1,
                category_id=1,
                image_id=i + 1,
                iscrowd=0,
                bbox=[0, 0, 9, 9],
                num_keypoints=17,
                keypoints=p.ravel().tolist(),
                keypoints_3d=w.ravel().tolist(),
            )
            for i, (p, w) in enumerate(zip(T['part'], T['world']))
        ]
        (root / 'h36m_coco.json').write_text(
            json.dumps(
                dict(
                    categories=[dict(id=1, name='person', keypoints=wrong)],
                    images=ims,
                    annotations=anns,
                )
            )
        )
        return T
    (root / 'annotation_body3d').mkdir(exist_ok=True)
    (root / 'annotation_body3d/cameras.pkl').write_bytes(pickle.dumps(cameras))
    for fps in (10, 50):
        for part, ss in (('train', (1, 5, 6, 7, 8)), ('test', (9, 11))):
            m = np.isin(T['subject'], ss) & (T['frame'] % (50 // fps) == 0)
            d = root / f'annotation_body3d/fps{fps}'
            d.mkdir(exist_ok=True)
            np.savez(
                d / f'h36m_{part}.npz',
                imgname=T['name'][m],
                center=T['center'][m],
                scale=T['scale'][m],
                part=T['part'][m].astype(np.float32),
                S=T['S'][m].astype(np.float32),
            )
    return T


class _Python2(pickle._Pickler):
    "Writes text and bytes as Python 2 wrote `str`"

    dispatch = dict(pickle._Pickler.dispatch)

    def _text(self, raw, obj):
        self.write(
            b'U' + bytes([len(raw)]) + raw
            if len(raw) < 256
            else b'T' + struct.pack('<i', len(raw)) + raw
        )
        self.memoize(obj)

    def save_bytes(self, obj):
        self._text(obj, obj)

    def save_str(self, obj):
        self._text(obj.encode('latin1'), obj)

    dispatch[bytes], dispatch[str] = save_bytes, save_str


def python2_pickle(x):
    "`x` as a protocol-2 pickle of Python 2 and the NumPy of its days"
    f = BytesIO()
    _Python2(f, protocol=2).dump(x)
    return f.getvalue().replace(b'cnumpy._core.', b'cnumpy.core.')


SEQUENCES = dict(
    train=(('courtyard_walk_00', 1, False), ('downtown_talk_01', 2, True)),
    validation=(('courtyard_sit_00', 1, True),),
    test=(('downtown_cafe_00', 2, False),),
)
COCO18 = {
    1: 8,
    2: 12,
    3: 11,
    4: 10,
    5: 13,
    6: 14,
    7: 15,
    8: 2,
    9: 1,
    10: 0,
    11: 3,
    12: 4,
    13: 5,
}  # OpenPose joint -> common joint; nose, eyes and ears are put at the head


def write_3dpw(
    root,
    frames=6,
    images=True,
    nested=False,
    val='validation',
    sequences=None,
    cut={},
    betas=10,
    invalid=(),
    undetected=(),
    aside=0.0,
    seed=0,
):
    "sequenceFiles/<split>/<seq>.pkl of Python 2 and imageFiles/<seq>/image_%05d.jpg; `cut`: frames missing of images, poses or cameras; `invalid`, `undetected`: frame numbers; `aside`: mm the figures stand off the middle"
    root = Path(root)
    rng = np.random.default_rng(seed)
    rows = []
    for split, seqs in (sequences or SEQUENCES).items():
        folder = (
            root
            / 'sequenceFiles'
            / ('sequenceFiles' if nested else '')
            / (val if split == 'validation' else split)
        )
        folder.mkdir(parents=True, exist_ok=True)
        for seq, P, portrait in seqs:
            W, H = (1080, 1920) if portrait else (1920, 1080)
            f, c = (1961.9, 1969.2), (W / 2, H / 2)
            figs = figures(P, frames, seed + len(rows))
            yup = lambda x: np.stack([x[..., 0], x[..., 2], -x[..., 1]], -1)  # z up -> y up
            world = (
                yup(figs)
                + np.array([1500, 900, -800.0])
                + np.array([(600 * p + aside, 0, 250 * p) for p in range(P)])[:, None, None]
                + np.linspace(0, 1, frames)[None, :, None, None] * np.array([250, 0, 120])
            )
            ext = [
                look_at(
                    (1500 + 40 * i + rng.normal(0, 5), 1500, -6000 + 30 * i),
                    (1800 if P > 1 else 1500, 850, -800),
                    (0, 1, 0),
                )
                for i in range(frames)
            ]
            cam = np.stack(
                [[world[p, i] @ R.T + t for i, (R, t) in enumerate(ext)] for p in range(P)]
            )
            kp = pinhole(cam, f, c)
            poses = np.stack([np.vstack([np.c_[R, t / 1000], [0, 0, 0, 1]]) for R, t in ext])
            jp = to_smpl(world) / 1000
            k24 = to_smpl(cam)
            p2 = np.zeros((P, frames, 3, 18))
            head = kp[:, :, 9]
            for j in range(18):
                p2[:, :, :2, j] = kp[:, :, COCO18[j]] if j in COCO18 else head + [(j - 7) * 2, -8]
            p2[:, :, 2] = 0.8
            p2[:, list(undetected)] = 0
            valid = np.ones((P, frames))
            valid[:, list(invalid)] = 0
            n = {k: frames - cut.get(k, 0) for k in ('images', 'poses', 'cameras')}
            d = dict(
                sequence=seq,
                betas=[np.zeros(betas) for _ in range(P)],
                poses=[np.zeros((n['poses'], 72)) for _ in range(P)],
                trans=[np.zeros((n['poses'], 3)) for _ in range(P)],
                genders=['m', 'f'][:P],
                poses2d=[p2[p, : n['poses']] for p in range(P)],
                jointPositions=[jp[p, : n['poses']].reshape(-1, 72) for p in range(P)],
                cam_poses=poses[: n['cameras']],
                campose_valid=[valid[p, : n['poses']] for p in range(P)],
                cam_intrinsics=matrix(f, c),
                img_frame_ids=np.arange(0, 2 * frames, 2),
            )
            (folder / f'{seq}.pkl').write_bytes(python2_pickle(d))
            for p in range(P):
                for i in range(frames):
                    rows.append(
                        dict(
                            file=f'imageFiles/{seq}/image_{i:05d}.jpg',
                            split=split,
                            sequence=seq,
                            actor=p,
                            frame=i,
                            keypoints=kp[p, i],
                            xyz=cam[p, i],
                            smpl=k24[p, i],
                            detected=p2[p, i],
                            K=matrix(f, c),
                            size=(H, W),
                            valid=valid[p, i],
                        )
                    )
            if images:
                for i in range(n['images']):
                    save(
                        root / f'imageFiles/{seq}/image_{i:05d}.jpg',
                        draw((H, W), [kp[p, i] for p in range(P)], 8.0),
                    )
    return _truth(rows)
