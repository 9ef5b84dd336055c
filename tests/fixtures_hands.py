"Small trees in the layout of the hand data sets, with known truth: RHD, Hand-3D-Studio (RegDA's crops), MVHand, FreiHAND."

import functools, json, pickle
from pathlib import Path
import cv2, numpy as np
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos

JPEG = [
    cv2.IMWRITE_JPEG_QUALITY,
    96,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]


@functools.lru_cache(8)
def puppets(n, size, seed, style='synthetic'):
    "Rendered right hands: images (n,S,S,3) RGB, pixel positions (n,21,2), visible, joints mm, intrinsics"
    b = PuppetImages('hand', n, size, style, seed).batch(np.arange(n))
    uv = (b['keypoints'].double().numpy() + 1) * size / 2 - 0.5
    return (
        b['image'].permute(0, 2, 3, 1).numpy(),
        uv,
        b['visible'].numpy(),
        b['joints3d'].double().numpy(),
        b['intrinsics'].double().numpy(),
    )


@functools.lru_cache(8)
def movies(n_videos, n_frames, size, seed):
    "The same for moving hands, plus the number of the video"
    v = PuppetVideos('hand', n_videos, n_frames, size, 'real', seed)
    b = v.batch(np.arange(len(v)))
    uv = (b['keypoints'].double().numpy() + 1) * size / 2 - 0.5
    return (
        b['image'].permute(0, 2, 3, 1).numpy(),
        uv,
        b['visible'].numpy(),
        b['joints3d'].double().numpy(),
        b['intrinsics'].double().numpy(),
        v.video_id,
    )


def lift(uv, z, K):
    "Points (...,3) at depth z that K sends to uv"
    return np.stack(
        [(uv[..., 0] - K[0, 2]) * z / K[0, 0], (uv[..., 1] - K[1, 2]) * z / K[1, 1], z], -1
    )


def gauss(h, w, at, sigma=3.0):
    y, x = np.mgrid[:h, :w]
    return np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * sigma**2))


def with_dots(img, at):
    "The picture with its blue channel emptied but for a soft dot at each place"
    img = img.copy()
    h, w = img.shape[:2]
    img[..., 2] = np.clip(np.sum([gauss(h, w, p) for p in at], 0) * 255, 0, 255).round()
    return img


def save(path, rgb, params=()):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rgb[..., ::-1] if rgb.ndim == 3 else rgb, list(params))


def digits(x, n=4):
    "Rounded to n significant digits, float32, as the published numbers are"
    x = np.asarray(x, np.float64)
    m = 10.0 ** (n - 1 - np.floor(np.log10(np.maximum(np.abs(x), 1e-12))))
    return (np.round(x * m) / m).astype(np.float32)


def backdrop(h, w, rng):
    c = rng.integers(40, 200, (4, 1, 1, 3))
    y = np.linspace(0, 1, h)[:, None, None]
    x = np.linspace(0, 1, w)[None, :, None]
    return ((1 - y) * ((1 - x) * c[0] + x * c[1]) + y * ((1 - x) * c[2] + x * c[3])).astype(
        np.uint8
    )


# ---- RHD ----
RHD_KINDS = ('both', 'left', 'right', 'overlap', 'few', 'far')
RHD_KEPT = dict(
    both=('left', 'right'), left=('left',), right=('right',), overlap=(), few=('left',), far=()
)


def _rhd_stored(common):
    "One hand from base-to-tip to RHD's order: wrist, then each finger from its tip to the palm"
    out = np.empty_like(common)
    out[0] = common[0]
    for f in range(5):
        for m in range(4):
            out[1 + 4 * f + m] = common[4 + 4 * f - m]
    return out


def _rhd_hands(kind, i, rng):
    "Where each hand is pasted: side -> (corner x, corner y, size, number of visible joints or None)"
    j = lambda k=8: int(rng.integers(0, k))
    return dict(
        both=dict(left=(12 + j(), 60 + j(), 140, None), right=(166 + j(), 110 + j(), 140, None)),
        left=dict(left=(30 + j(), 70 + j(), 150, None), right=(330, 100, 100, 0)),
        right=dict(right=(140 + j(), 120 + j(), 150, None), left=(20 + j(), 30 + j(), 44, 21)),
        overlap=dict(left=(90 + j(), 90 + j(), 140, None), right=(100 + j(), 96 + j(), 140, None)),
        few=dict(left=(14 + j(), 120 + j(), 140, 17), right=(168 + j(), 40 + j(), 140, 16)),
        far=dict(left=(40 + j(), 40 + j(), 44, None), right=(200 + j(), 200 + j(), 44, None)),
    )[kind]


def _mask_hand(mask, uv, side):
    "Part labels of one hand: per finger tip to palm, then the palm"
    base = 2 if side == 'left' else 18
    cv2.fillConvexPoly(
        mask, cv2.convexHull(np.round(uv[[0, 1, 5, 9, 13, 17]]).astype(np.int32)), base + 15
    )
    for f in range(5):
        for m in range(3):
            a = np.round(uv[4 + 4 * f - m]).astype(int)
            b = np.round(uv[3 + 4 * f - m]).astype(int)
            cv2.line(mask, a.tolist(), b.tolist(), base + 3 * f + m, 7)


def write_rhd(
    root,
    n_train=12,
    n_test=6,
    seed=0,
    dot=None,
    form='official',
    gaps=True,
    bare=False,
    images=True,
    extras=True,
):
    """RHD in its official form, or in mmpose's. Returns split -> dict of arrays over the hands that the one-hand rule keeps, in the family's order:
    file, side, keypoints, visible, xyz (mm), K; and depth, mask (arrays per image id)."""
    root, truth = Path(root), {}
    for split, n in (('training', n_train), ('evaluation', n_test)):
        rng = np.random.default_rng([seed, n_train if split == 'training' else 991])
        anno = {}
        rows = []
        ids = [i + (i // 4 if gaps else 0) for i in range(n)]
        depths, masks = {}, {}
        for c, i in enumerate(ids):
            kind = RHD_KINDS[c % len(RHD_KINDS)]
            f = round(float(rng.uniform(263, 306)), 1)
            K = np.array([[f, 0, 160], [0, f, 160], [0, 0, 1.0]])
            img = backdrop(320, 320, rng)
            mask = np.zeros((320, 320), np.uint8)
            mask[20:300, :] = 1
            depth = np.tile(np.linspace(2500, 4700, 320)[:, None], (1, 320))
            hands = {}
            for side, (x0, y0, s, nvis) in _rhd_hands(kind, i, rng).items():
                all_hands = puppets(8, s, seed + (split == 'training'))
                ext = np.ptp(all_hands[1], axis=1)
                k = (
                    int(np.argmax(ext.min(1) / ext.max(1)))
                    if kind == 'overlap'
                    else (c + 3 * (side == 'left')) % 8
                )  # two square boxes, or they would not cover 30% of the crops
                im, uv, vis, X, Kp = (a[k] for a in all_hands)
                if side == 'left':
                    im = im[:, ::-1]
                    uv = np.stack([s - 1 - uv[:, 0], uv[:, 1]], -1)
                uv = uv + [x0, y0]
                z = X[:, 2] * f / Kp[0, 0]
                if nvis is None:
                    vis = vis if vis.sum() > 16 else np.ones(21, bool)
                else:
                    vis = np.arange(21) < nvis
                if x0 < 320:
                    img[y0 : y0 + s, x0 : x0 + s] = im
                    _mask_hand(mask, uv, side)
                    depth[y0 : y0 + s, x0 : x0 + s] = z.mean()
                hands[side] = uv, vis, lift(uv, z, K)
            if dot is not None:
                img = with_dots(img, [hands[s][0][dot] for s in hands])
            name = f'{split}/color/{i:05d}.png'
            if images:
                save(root / (Path(name).name if bare else name), img)
            if images and extras and not bare:
                q = np.round(depth / 5000 * 65535).astype(np.int64)
                save(
                    root / split / 'depth' / f'{i:05d}.png',
                    np.stack([q >> 8, q & 255, 0 * q], -1).astype(np.uint8),
                )
                save(root / split / 'mask' / f'{i:05d}.png', mask)
            both = [
                np.concatenate([_rhd_stored(hands[s][k]) for s in ('left', 'right')])
                for k in range(3)
            ]
            anno[i] = dict(
                uv_vis=np.concatenate([digits(both[0]), both[1][:, None]], -1).astype(np.float32),
                xyz=digits(both[2] / 1000),
                K=K.astype(np.float32),
            )
            depths[i] = depth
            masks[i] = mask
            rows += [
                dict(
                    file=name,
                    id=i,
                    side=s,
                    keypoints=hands[s][0],
                    visible=hands[s][1],
                    xyz=hands[s][2],
                    K=K,
                )
                for s in RHD_KEPT[kind]
            ]
        if form == 'official':
            (root / split).mkdir(parents=True, exist_ok=True)
            with open(root / split / f'anno_{split}.pickle', 'wb') as fh:
                pickle.dump(anno, fh, protocol=2)
        else:
            one = {}
            for r in rows:
                one.setdefault(r['id'], r)
            rows = list(one.values())
            _rhd_coco(root, split, rows, bare)
        truth[split] = {
            k: (
                np.array([r[k] for r in rows])
                if k not in ('file', 'side')
                else [r[k] for r in rows]
            )
            for k in ('file', 'id', 'side', 'keypoints', 'visible', 'xyz', 'K')
        }
        truth[split].update(depth=depths, mask=masks, ids=ids)
    return truth


def _rhd_coco(root, split, rows, bare):
    "mmpose's form: one hand per image, 63 numbers as 21 triples, millimetres, RHD's own joint order"
    ims, ann = [], []
    for r in rows:
        f, c = float(np.float32(r['K'][0, 0])), 160.0
        ims.append(
            dict(
                file_name=Path(r['file']).name if bare else r['file'],
                height=320,
                width=320,
                id=int(r['id']),
                cam_param=dict(focal=[f, f], princpt=[c, c]),
            )
        )
        uv, v, X = (_rhd_stored(np.asarray(r[k])) for k in ('keypoints', 'visible', 'xyz'))
        lo, hi = uv.min(0), uv.max(0)
        ann.append(
            dict(
                id=int(r['id']),
                image_id=int(r['id']),
                category_id=1,
                iscrowd=0,
                bbox=[*map(float, lo), *map(float, hi - lo)],
                area=float(np.prod(hi - lo)),
                keypoints=[[float(a), float(b), int(k)] for (a, b), k in zip(digits(uv), v)],
                joint_cam=[list(map(float, x)) for x in digits(X)],
                hand_type=r['side'],
            )
        )
    name = dict(training='rhd_train.json', evaluation='rhd_test.json')[split]
    p = (
        root / ('test_rhd.json' if bare and split == 'evaluation' else name)
        if bare
        else root / 'annotations' / name
    )
    p.parent.mkdir(parents=True, exist_ok=True)
    p.write_text(
        json.dumps(
            dict(
                info=dict(description='RHD'),
                licenses='',
                images=ims,
                annotations=ann,
                categories=[dict(id=1, name='hand')],
            )
        )
    )


# ---- Hand-3D-Studio ----
def write_h3d(
    root, n_videos=5, n_frames=8, size=128, seed=0, dot=None, unit=1.0, xyz='camera', objects=True
):
    """RegDA's crops. One video is one viewpoint. `xyz`: 'camera' writes true 3D and an unshifted K, 'crop' the 3D that the unshifted K gives from the crop.
    Returns a dict of arrays over the list of annotation.json: name, keypoints, xyz (mm, true), K (true, of the crop), video, frame, bare."""
    root = Path(root)
    img, uv, vis, X, K, video = movies(n_videos, n_frames, size, seed)
    rows, t = [], dict(name=[], bare=[])
    shift = np.random.default_rng(seed).uniform(200, 900, (n_videos, 2))
    for i in range(len(img)):
        v, f = int(video[i]), i % n_frames
        name = f'part{v % 5 + 1}/hand{v // 5}_cam{v:02d}/{f * 2:04d}.jpg'
        save(root / name, img[i] if dot is None else with_dots(img[i], [uv[i, dot]]), JPEG)
        k = K[i].copy()
        k[:2, 2] += shift[v]
        x = X[i] if xyz == 'camera' else lift(uv[i], X[i, :, 2], k)
        bare = 1 if not objects or i % 4 else 0
        rows.append(
            dict(
                name=name,
                keypoint2d=uv[i].tolist(),
                keypoint3d=(x / unit).tolist(),
                intrinsic_matrix=k.tolist(),
                without_object=str(bare) if i % 2 else bare,
            )
        )
        t['name'].append(name)
        t['bare'].append(bare)
    (root / 'annotation.json').write_text(json.dumps(rows))
    return dict(
        name=t['name'],
        bare=np.array(t['bare']),
        keypoints=uv,
        visible=np.ones(uv.shape[:2], bool),
        xyz=X,
        K=K,
        video=video,
        frame=2 * (np.arange(len(img)) % n_frames),
    )


# ---- MVHand ----
MVHAND_SEQS = ('7-14-1-2', '9-10-1-2', '9-17-1-2', '9-25-1-2')
MVHAND_CAMS = {
    '840412062035': (619.598, 619.116, 325.345, 245.441),
    '840412062037': (615.85, 615.477, 316.062, 247.156),
    '840412062038': (619.475, 619.189, 313.715, 223.921),
    '840412062076': (615.665, 615.09, 306.514, 240.344),
}


def _look_at(pos, at):
    "Camera-to-world matrix of a camera at `pos` that looks at `at` (x right, y down, z forward)"
    z = (at - pos) / np.linalg.norm(at - pos)
    x = np.cross(np.array([0, 1.0, 0]), z)
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, :3] = np.stack([x, np.cross(z, x), z], 1)
    T[:3, 3] = pos
    return T


def _draw_hand(uv, z, K, h=480, w=640, rng=None):
    "A hand of capsules over a plain room; colours by finger, far limbs first"
    img = backdrop(h, w, rng or np.random.default_rng(0))
    mask = np.zeros((h, w), np.uint8)
    r = lambda mm, d: max(2, int(round(2 * mm * K[0, 0] / d)))
    tint = np.array(
        [[224, 172, 140], [214, 160, 128], [222, 176, 146], [208, 152, 122], [228, 182, 152]]
    )
    q = np.round(uv * 8).astype(np.int64)
    palm = cv2.convexHull(np.round(uv[[0, 1, 5, 9, 13, 17]] * 8).astype(np.int32))
    cv2.fillConvexPoly(img, palm, (200, 146, 118), cv2.LINE_AA, 3)
    cv2.fillConvexPoly(mask, palm, 255, cv2.LINE_8, 3)
    bones = sorted(
        ((0 if i % 4 == 1 else i - 1, i) for i in range(1, 21)), key=lambda b: -(z[b[0]] + z[b[1]])
    )
    for a, b in bones:
        t = r(9 if b % 4 != 1 else 11, z[b])
        c = (tint[(b - 1) // 4] * (0.82 + 0.06 * ((b - 1) % 4))).tolist()
        cv2.line(img, q[a].tolist(), q[b].tolist(), c, t, cv2.LINE_AA, 3)
        cv2.line(mask, q[a].tolist(), q[b].tolist(), 255, t, cv2.LINE_8, 3)
    return img, mask


def write_mvhand(root, n_seq=4, n_frames=8, seed=0, dot=None, images=True, extras=True):
    """MVHand: 4 views of moving hands. Returns a dict of arrays ordered by sequence, view, frame: file, keypoints, visible, xyz (mm, camera of the view), K, video, frame, view, seq;
    and depth (mm) by file."""
    root = Path(root)
    _, _, _, X, _, video = movies(n_seq, n_frames, 32, seed)
    at = np.array([0, 0, 650.0])
    pos = [
        np.array(p, float)
        for p in ((175, -535, 573), (-656, -250, 719), (-102, 571, 827), (0, 0, 0))
    ]
    rows = []
    depths = {}
    rng = np.random.default_rng(seed)
    for s, seq in enumerate(MVHAND_SEQS[:n_seq]):
        d = root / seq
        calib = {
            c: (_look_at(p + rng.normal(0, 8, 3) if p.any() else p, at) if p.any() else np.eye(4))
            for c, p in zip(MVHAND_CAMS, pos)
        }
        x = X[video == s]
        x = x - x.mean((0, 1)) + at + rng.normal(0, 15, 3)
        stored = np.concatenate([x[:, :1], x[:, 5:21], x[:, 1:5]], 1)
        (d / 'mlresults').mkdir(parents=True, exist_ok=True)
        np.save(
            d / 'mlresults' / f'{seq}-joints.npy',
            np.concatenate([stored, np.ones((n_frames, 21, 1))], -1)[..., None],
        )
        with open(d / 'calib.pkl', 'wb') as f:
            pickle.dump(calib, f)
        for v, (serial, (fx, fy, cx, cy)) in enumerate(MVHAND_CAMS.items()):
            K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
            W = np.linalg.inv(calib[serial])
            for f in range(n_frames):
                xc = x[f] @ W[:3, :3].T + W[:3, 3]
                uv = xc @ K.T
                uv = uv[:, :2] / uv[:, 2:]
                name = f'{seq}/rgb/{f:05d}_{v}.jpg'
                if images:
                    img, mask = _draw_hand(uv, xc[:, 2], K, rng=np.random.default_rng([seed, s, v]))
                    save(root / name, img if dot is None else with_dots(img, [uv[dot]]), JPEG)
                    if extras and f < 2:
                        depth = np.where(mask > 0, np.round(xc[:, 2].mean()), 1500).astype(np.int64)
                        z = 0 * depth
                        save(
                            d / 'depth' / f'{f:05d}_{v}.png',
                            np.stack([z, depth >> 8, depth & 255], -1).astype(np.uint8),
                        )
                        depths[name] = depth
                        save(d / 'mask' / f'{f:05d}_{v}.jpg', mask)
                rows.append(
                    dict(
                        file=name,
                        keypoints=uv,
                        visible=((uv >= -0.5) & (uv <= [639.5, 479.5])).all(-1),
                        xyz=xc,
                        K=K,
                        video=4 * s + v,
                        frame=f,
                        view=v,
                        seq=s,
                    )
                )
    t = {
        k: ([r[k] for r in rows] if k == 'file' else np.array([r[k] for r in rows]))
        for k in rows[0]
    }
    return dict(t, depth=depths)


# ---- FreiHAND ----
FREIHAND_VERSIONS = ('gs', 'hom', 'sample', 'auto')


def write_freihand(
    root,
    n=6,
    seed=0,
    versions=FREIHAND_VERSIONS,
    dot=None,
    form='official',
    n_unique=32560,
    images=True,
    n_eval=0,
):
    """FreiHAND: n poses in each version. Returns a dict of arrays ordered by version, then pose: file, keypoints, visible, xyz (mm), K, pose, version."""
    root = Path(root)
    im, uv0, _, X, Kp = puppets(n, 150, seed + 5)
    rng = np.random.default_rng(seed)
    Ks, xyz, uvs = [], [], []
    for i in range(n):
        f = rng.uniform(380, 520)
        K = np.array([[f, 0, 112], [0, f, 112], [0, 0, 1.0]])
        p = rng.integers(20, 54, 2)
        uv = uv0[i] + p
        xyz.append(lift(uv, X[i, :, 2] * f / Kp[i, 0, 0], K))
        Ks.append(K)
        uvs.append((uv, p))
    rows = []
    for v in versions:
        for i in range(n):
            k = FREIHAND_VERSIONS.index(v)
            name = f'training/rgb/{i + n_unique * k:08d}.jpg'
            uv, p = uvs[i]
            if images:
                img = backdrop(224, 224, np.random.default_rng([seed, i, k]))
                img[p[1] : p[1] + 150, p[0] : p[0] + 150] = im[i]
                save(root / name, img if dot is None else with_dots(img, [uv[dot]]), JPEG)
            rows.append(
                dict(
                    file=name,
                    keypoints=uv,
                    visible=np.ones(21, bool),
                    xyz=xyz[i],
                    K=Ks[i],
                    pose=i,
                    version=v,
                )
            )
    root.mkdir(parents=True, exist_ok=True)
    if form == 'official':
        for part, m in (('training', n), ('evaluation', n_eval)):
            if not m:
                continue
            (root / f'{part}_K.json').write_text(json.dumps([k.tolist() for k in Ks[:m]]))
            (root / f'{part}_xyz.json').write_text(
                json.dumps([(x / 1000).tolist() for x in xyz[:m]])
            )
            (root / f'{part}_mano.json').write_text(json.dumps([[[0.0] * 61]] * m))
        for i in range(n_eval if images else 0):
            save(
                root / f'evaluation/rgb/{i:08d}.jpg',
                im[i].repeat(2, 0).repeat(2, 1)[:224, :224],
                JPEG,
            )
    else:
        ims, ann = [], []
        for r in rows:
            k = int(Path(r['file']).stem)
            lo = np.floor(r['keypoints'].min(0) - 15)
            hi = np.ceil(r['keypoints'].max(0) + 15)
            ims.append(dict(file_name=r['file'], height=224, width=224, id=k))
            ann.append(
                dict(
                    bbox=[int(a) for a in (*lo, *(hi - lo))],
                    keypoints=np.concatenate([r['keypoints'], np.ones((21, 1))], 1)
                    .ravel()
                    .tolist(),
                    category_id=1,
                    id=k,
                    image_id=k,
                    iscrowd=0,
                    area=int(np.prod(hi - lo)),
                )
            )
        (root / 'annotations').mkdir(exist_ok=True)
        (root / 'annotations' / 'freihand_train.json').write_text(
            json.dumps(
                dict(
                    info={},
                    licenses='',
                    images=ims,
                    annotations=ann,
                    categories=[dict(id=1, name='hand')],
                )
            )
        )
    return {
        k: ([r[k] for r in rows] if k in ('file', 'version') else np.array([r[k] for r in rows]))
        for k in rows[0]
    }
