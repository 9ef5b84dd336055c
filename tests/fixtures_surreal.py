"Small SURREAL, SURREAL-crops and LSP folders in the documented layout, with known ground truth: the puppet's joints before each set's own camera, drawn with OpenCV."

import json
from pathlib import Path
from types import SimpleNamespace
import av, cv2, numpy as np, scipy.io
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.core.skeleton import BODY16

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
# the 24 joints of SMPL in file order; the camera of SURREAL mirrors, so what the file calls left is drawn as the person's right
SMPL = 'pelvis LHip RHip spine1 LKnee RKnee spine2 LAnkle RAnkle spine3 LFoot RFoot neck LCollar RCollar head LShoulder RShoulder LElbow RElbow LWrist RWrist LHand RHand'.split()


def on_image(smpl):
    "The person's own joint at which a joint of SMPL is seen in SURREAL"
    return ('r_' if smpl[0] == 'L' else 'l_') + smpl[1:].lower() if smpl[0] in 'LR' else smpl


def person(xyz):
    "More joints of puppets (n,16,3) mm, by interpolation, as a dictionary of names: collars, spine, feet and hands"
    p = dict(zip(BODY16.joints, np.moveaxis(np.asarray(xyz, np.float64), 1, 0)))
    mix = lambda a, b, w: p[a] + w * (p[b] - p[a])
    p['spine1'], p['spine2'], p['spine3'] = (
        mix('pelvis', 'thorax', 0.3),
        mix('pelvis', 'thorax', 0.65),
        p['thorax'],
    )
    for s in 'rl':
        p[s + '_collar'] = mix('neck', s + '_shoulder', 0.35)
        p[s + '_hand'] = mix(s + '_elbow', s + '_wrist', 1.3)
        p[s + '_foot'] = mix(s + '_knee', s + '_ankle', 1.12) + np.array([0, 0, -90.0])
    return p


def movers(n_videos, n_frames, seed):
    "Puppets that move: per video a dictionary of joints (n_frames,3), mm, pelvis of the first frame at the origin"
    v = (
        PuppetVideos('body', n_videos, n_frames, size=16, seed=seed)
        ._data['joints3d']
        .numpy()
        .reshape(n_videos, n_frames, 16, 3)
    )
    return [person(x - x[:1, 6:7]) for x in v]


def stills(n, seed):
    "Single puppets, each a dictionary of joints (3,), mm, pelvis at the origin"
    x = PuppetImages('body', n, size=16, seed=seed).batch(range(n))['joints3d'].numpy()
    return [{k: v[0] for k, v in person(j[None] - j[None, 6:7]).items()} for j in x]


def project(p, K):
    "Pinhole projection of a dictionary of joints (n,3) mm"
    return {k: v[:, :2] / v[:, 2:] * [K[0, 0], K[1, 1]] + [K[0, 2], K[1, 2]] for k, v in p.items()}


def disc(img, at, sigma=3.2):
    "Draw a white Gaussian dot at pixel-index coordinates; what is under it becomes black"
    h, w = img.shape[:2]
    y, x = np.mgrid[:h, :w]
    d = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 2 / sigma**2)[..., None]
    near = np.clip(4 * d, 0, 1)
    return (img * (1 - near) + 255 * d * near).round().clip(0, 255).astype(np.uint8)


def draw(p, px, size, f, rng, dot=None):
    "A figure before a soft background; all darker than the dot"
    h, w = size
    img = (
        cv2.resize(
            rng.uniform(105, 160, (4, 5, 3)).astype(np.float32),
            (w, h),
            interpolation=cv2.INTER_CUBIC,
        )
        .clip(90, 165)
        .astype(np.uint8)
    )
    shirt = rng.integers(25, 110, 3)
    trousers = rng.integers(15, 80, 3)
    skin = np.array([150, 112, 90])
    for i, (a, b, r) in sorted(enumerate(LIMBS), key=lambda t: -p[t[1][0]][2]):
        t = max(2, int(round(2 * r * f / p[a][2])))
        c = (
            skin
            if b[2:] in ('wrist', 'hand', 'foot') or b == 'head'
            else trousers
            if b[2:] in ('hip', 'knee', 'ankle')
            else shirt
        ) * (1 - 0.25 * (i % 2))
        cv2.line(
            img,
            *(tuple(int(round(v * 16)) for v in px[j]) for j in (a, b)),
            c.tolist(),
            t,
            cv2.LINE_AA,
            4,
        )
    cv2.circle(
        img,
        tuple(int(round(v * 16)) for v in px['head']),
        int(90 * f / p['head'][2] * 16),
        (160, 120, 98),
        -1,
        cv2.LINE_AA,
        4,
    )
    return img if dot is None else disc(img, px[dot])


def write_mp4(path, frames, crf=6):
    "H.264, 30 frames per second, as the official clips are"
    with av.open(str(path), 'w') as c:
        s = c.add_stream('libx264', rate=30)
        s.height, s.width, s.pix_fmt, s.options = (
            *frames[0].shape[:2],
            'yuv420p',
            dict(crf=str(crf), preset='veryfast'),
        )
        for f in frames:
            c.mux(s.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(f), format='rgb24')))
        c.mux(s.encode())


def at(p, t):
    return {k: v[t] for k, v in p.items()}


def stack(p, names):
    return np.stack([p[n] for n in names], 1)


def body16(p, shoulders='collar', chest='spine3', names='person'):
    "The 16 joints (n,16,...) that a dictionary of the person's joints means under a reading"
    out = {j: p[j] for j in BODY16.joints}
    out['thorax'] = p[chest]
    for s in 'rl':
        out[s + '_shoulder'] = p[f'{s}_{shoulders}']
    if names == 'smpl':
        out = {
            j: out[{'r': 'l', 'l': 'r'}[j[0]] + j[1:]] if j[1] == '_' else v for j, v in out.items()
        }
    return stack(out, BODY16.joints)


# one clip: run, sequence, number, frames of labels, frames of video, empty frames, frames with the person out of the image
CLIPS = (
    (0, '01_01', 1, 12, 12, (), ()),
    (0, '01_01', 2, 12, 12, (), ()),
    (1, 'ung_104_05', 3, 9, 7, (), ()),
    (2, '07_03', 10, 8, 8, (2,), (5, 6)),
    (2, '18_02', 1, 1, 1, (), ()),
)


def write_surreal(
    root, split='train', clips=CLIPS, images=True, dot='r_wrist', nested=True, seed=0
):
    "The official layout; truth holds, for every usable frame, the person's joints: `px` and `xyz` (mm, camera frame), with `clip`, `run`, `frame`"
    rng = np.random.default_rng(seed)
    root = Path(root)
    base = root / 'SURREAL' / 'data' if nested else root
    K = np.array([[600.0, 0, 160], [0, 600, 120], [0, 0, 1]])
    px, xyz, rows = [], [], []
    people = movers(len(clips), max(c[3] for c in clips), seed)
    for (run, seq, no, T, Tv, empty, away), p in zip(clips, people):
        loc = np.array(
            [rng.uniform(6.5, 7.8), rng.uniform(-1.2, -0.8), rng.uniform(-0.2, 0.2)], np.float32
        )  # where the camera stands, m
        shift = np.zeros((T, 3))
        shift[list(away), 0] = 3500
        p = {k: v[:T] + [0, -150, loc[0] * 1000] + shift for k, v in p.items()}
        world = {
            k: np.stack(
                [loc[0] - v[:, 2] / 1000, v[:, 1] / 1000 + loc[1], loc[2] - v[:, 0] / 1000], -1
            )
            for k, v in p.items()
        }
        order = [on_image(n) for n in SMPL]
        uv = project(p, K)
        j2 = np.rint(stack(uv, order)).transpose(2, 1, 0).astype(np.float32)
        j3 = stack(world, order).transpose(2, 1, 0).astype(np.float32)
        j2[..., list(empty)] = 0
        j3[..., list(empty)] = 0
        if T == 1:
            j2, j3 = j2[..., 0], j3[..., 0]
        d = base / 'cmu' / split / f'run{run}' / seq
        d.mkdir(parents=True, exist_ok=True)
        name = f'{seq}_c{no:04d}'
        cell = lambda s: np.array([[s] * 1], object)
        scipy.io.savemat(
            d / f'{name}_info.mat',
            dict(
                joints2D=j2,
                joints3D=j3,
                camLoc=loc[:, None],
                camDist=loc[0],
                pose=rng.normal(size=(72, T)).astype(np.float32),
                shape=rng.normal(size=(10, T)).astype(np.float32),
                zrot=rng.uniform(0, 6, (T, 1)).astype(np.float32),
                gender=np.full((T, 1), rng.integers(2), np.uint8),
                clipNo=no,
                stride=50,
                sequence=seq,
                source='cmu',
                bg=cell('bg.jpg'),
                cloth=cell('cloth.jpg'),
                light=rng.normal(size=(9, T)),
            ),
            do_compression=True,
        )
        if images:
            write_mp4(
                d / f'{name}.mp4',
                [
                    draw(
                        at(p, min(t, T - 1)),
                        at(uv, min(t, T - 1)),
                        (240, 320),
                        600,
                        np.random.default_rng([seed, no, run]),
                        dot,
                    )
                    for t in range(Tv)
                ],
            )
        if no == 1 and run == 0:
            write_maps(d / name, at(uv, 0), at(p, 0))
        keep = [t for t in range(min(T, Tv)) if t not in empty + away]
        px.append({k: v[keep] for k, v in uv.items()})
        xyz.append({k: v[keep] for k, v in p.items()})
        rows += [(f'run{run}/{seq}/{name}', run, t, int(seq.split('_')[-2])) for t in keep]
    join = lambda ds: {k: np.concatenate([d[k] for d in ds]) for k in ds[0]}
    clip, run, frame, subject = zip(*rows)
    return SimpleNamespace(
        px=join(px),
        xyz=join(xyz),
        K=K,
        clip=list(clip),
        run=np.array(run),
        frame=np.array(frame),
        subject=np.array(subject),
        dot=dot,
        base=base,
    )


def write_maps(stem, px, p):
    "Segmentation and depth of the first two frames of a clip: part 1 is a square about the pelvis"
    seg = np.zeros((240, 320), np.uint8)
    x, y = (int(round(v)) for v in px['pelvis'])
    seg[y - 6 : y + 7, x - 6 : x + 7] = 1
    dep = np.where(seg > 0, np.float32(p['pelvis'][2] / 1000), np.float32(1e10))
    scipy.io.savemat(f'{stem}_segm.mat', {'segm_1': seg, 'segm_2': seg * 0}, do_compression=True)
    scipy.io.savemat(
        f'{stem}_depth.mat',
        {'depth_1': dep, 'depth_2': dep * 0 + np.float32(1e10)},
        do_compression=True,
    )


def tll_box(px, size):
    "The family's square about all joints: 1.5 times the longer side, moved into the image"
    h, w = size
    lo, hi = px.min(0), px.max(0)
    side = min(int(round(1.5 * max(hi - lo))), w, h)
    left = [int(np.clip(round(c - side / 2), 0, n - side)) for c, n in zip((lo + hi) / 2, (w, h))]
    return left, side


def write_surreal_crops(
    root,
    counts=dict(train=(12, 9, 9), val=(3, 2, 2), test=(10, 5, 5)),
    size=128,
    dot='r_wrist',
    images=True,
    seed=0,
):
    "The family's packaging; truth: per (split, run, name) the person's joints in the crop, true camera frame (mm), the crop's true and its stored intrinsics"
    rng = np.random.default_rng(seed + 1)
    root = Path(root)
    out = {}
    for split, ns in counts.items():
        for run, n in enumerate(ns):
            samples = []
            people = stills(n, seed + 17 * run + len(split))
            for i, p in enumerate(people):
                off = np.array([rng.uniform(-600, 600), -150, rng.uniform(6300, 8000)])
                p = {k: v + off for k, v in p.items()}
                K = np.array([[600.0, 0, 160], [0, 600, 120], [0, 0, 1]])
                uv = {k: v[:2] / v[2] * 600 + [160, 120] for k, v in p.items()}
                order = [on_image(m) for m in SMPL]
                (l, t), side = tll_box(np.stack([uv[m] for m in order]), (240, 320))
                s = size / side
                crop = {k: (v - [l, t]) * s for k, v in uv.items()}
                stored = K * np.array([[s], [s], [1]])
                true = stored.copy()
                true[:2, 2] -= [l * s, t * s]
                j2 = np.stack([crop[m] for m in order])
                Z = np.array([p[m][2] / 1000 for m in order])
                j3 = np.concatenate(
                    [(j2 - stored[:2, 2]) / stored[0, 0] * Z[:, None], Z[:, None]], 1
                )  # X, Y by the camera that was not moved along
                name = f'{10 + i % 4:02d}_{i:02d}_c0001/frame_{3 * i:03d}.jpg'
                f = root / split / f'run{run}' / name
                f.parent.mkdir(parents=True, exist_ok=True)
                if images:
                    cv2.imwrite(
                        str(f),
                        draw(
                            p,
                            crop,
                            (size, size),
                            600 * s,
                            np.random.default_rng([seed, i, run]),
                            dot,
                        )[..., ::-1],
                        [cv2.IMWRITE_JPEG_QUALITY, 96],
                    )
                samples.append(
                    dict(
                        name=name,
                        keypoint2d=j2.tolist(),
                        keypoint3d=j3.tolist(),
                        intrinsic_matrix=stored.tolist(),
                    )
                )
                out[split, run, name] = SimpleNamespace(
                    px={k: v[None] for k, v in crop.items()},
                    xyz={k: v[None] for k, v in p.items()},
                    K=true,
                    stored=stored,
                )
            (root / split).mkdir(parents=True, exist_ok=True)
            (root / split / f'run{run}.json').write_text(json.dumps(samples))
    return out


LSP = 'r_ankle r_knee r_hip l_hip l_knee l_ankle r_wrist r_elbow r_shoulder l_shoulder l_elbow l_wrist neck head'.split()


def write_lsp(root, n=10, dot='l_knee', layout='3x14xN', digits=4, images=True, seed=0):
    "Whole photographs of several sizes; truth: joints by name (n,2) px, `occluded` (n,14) in the order of the file, `size` (n,2)"
    rng = np.random.default_rng(seed + 2)
    root = Path(root)
    (root / 'images').mkdir(parents=True, exist_ok=True)
    sizes = np.array([[(150, 110), (110, 160), (128, 128), (172, 96)][i % 4] for i in range(n)])
    px, flags = [], rng.random((n, 14)) < 0.2
    flags[:, LSP.index(dot)] = False
    for i, (p, (h, w)) in enumerate(zip(stills(n, seed + 5), sizes)):
        p = {k: v + [0, 0, 5000] for k, v in p.items()}
        f = 0.62 * min(h, 1.4 * w) * 5000 / 1700
        uv = {k: v[:2] / v[2] * f for k, v in p.items()}
        mid = (np.min(list(uv.values()), 0) + np.max(list(uv.values()), 0)) / 2
        uv = {k: v - mid + [w / 2 - 0.5, h / 2 - 0.5] for k, v in uv.items()}
        px.append(uv)
        if images:
            cv2.imwrite(
                str(root / 'images' / f'im{i + 1:0{digits}d}.jpg'),
                draw(p, uv, (h, w), f, np.random.default_rng([seed, i]), dot)[..., ::-1],
                [cv2.IMWRITE_JPEG_QUALITY, 97],
            )
    px = {k: np.stack([q[k] for q in px]) for k in px[0]}
    j = np.concatenate([stack(px, LSP), flags[..., None]], -1).astype(np.float64)  # (n,14,3)
    scipy.io.savemat(
        root / 'joints.mat',
        dict(
            joints=dict(
                [('3x14xN', j.transpose(2, 1, 0)), ('14x3xN', j.transpose(1, 2, 0)), ('Nx14x3', j)]
            )[layout]
        ),
    )
    return SimpleNamespace(px=px, occluded=flags, size=sizes, dot=dot, j=j)
