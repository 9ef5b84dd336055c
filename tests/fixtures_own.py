"""Own data in the layouts that the tools themselves write: images and clips drawn here with known joints, label files written by pandas and json, not by geomrecon."""

import json
from pathlib import Path
import cv2, numpy as np, pandas as pd
from PIL import Image
from geomrecon.data.video import write_video

JOINTS = ['snout', 'leftear', 'rightear', 'tailbase']
BONES = [[4, 1], [1, 2], [1, 3]]


def figure(img, c, angle, k=1.0):
    "Draw one animal, a soft bright dot on its snout; the image and its joints, pixel-index coordinates"
    u = np.array([np.cos(angle), np.sin(angle)])
    v = np.array([-u[1], u[0]])
    c = np.asarray(c, float)
    kp = np.stack(
        [c + 16 * k * u, c + 7 * k * u - 9 * k * v, c + 7 * k * u + 9 * k * v, c - 16 * k * u]
    )
    img = img.copy()
    for p in kp[1:]:
        cv2.line(
            img,
            *[tuple(int(round(t * 16)) for t in q) for q in (c, p)],
            (140, 150, 130),
            2,
            cv2.LINE_AA,
            4,
        )
    y, x = np.mgrid[: img.shape[0], : img.shape[1]]
    return (
        img + 150 * np.exp(-((x - kp[0, 0]) ** 2 + (y - kp[0, 1]) ** 2) / 2 / 2.0**2)[..., None]
    ).clip(0, 255).astype(np.uint8), kp


def write_images(folder, n=6, hw=(96, 128), seed=0, several=(2,)):
    "Images img0.png (every other one a JPEG) with one animal, two in `several`; dict of names, keypoints (N,4,2), boxes (N,4) with a row per animal"
    r = np.random.default_rng(seed)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names, kps = [], []
    for i in range(n):
        x = (90 + r.normal(0, 2, (*hw, 3))).astype(np.uint8)
        f = f'img{i:03d}.{"jpg" if i % 2 else "png"}'
        for k in range(1 + (i in several)):
            x, kp = figure(
                x, np.array([36 + 54 * k, 46]) + r.uniform(-8, 8, 2), r.uniform(0, 2 * np.pi)
            )
            names.append(f)
            kps.append(kp)
        Image.fromarray(x).save(
            folder / f, **({'quality': 97, 'subsampling': 0} if f.endswith('jpg') else {})
        )
    kps = np.array(kps)
    lo, hi = kps.min(1), kps.max(1)
    return dict(names=names, keypoints=kps, boxes=np.concatenate([lo - 4, hi - lo + 9], 1), hw=hw)


def coco_dict(t, state=None, category='mouse'):
    "COCO's dictionary for a truth"
    files = list(dict.fromkeys(t['names']))
    state = np.full(t['keypoints'].shape[:2], 2) if state is None else state
    anns = [
        dict(
            id=100 + i,
            image_id=7 + files.index(n),
            category_id=3,
            iscrowd=0,
            num_keypoints=int((s > 0).sum()),
            bbox=[round(float(v), 2) for v in b],
            area=float(b[2] * b[3]),
            keypoints=[
                v
                for (x, y), k in zip(kp, s)
                for v in ((round(float(x), 3), round(float(y), 3), int(k)) if k else (0, 0, 0))
            ],
        )
        for i, (n, kp, b, s) in enumerate(zip(t['names'], t['keypoints'], t['boxes'], state))
    ]
    return dict(
        info={},
        licenses=[],
        images=[
            dict(id=7 + i, file_name=f, height=t['hw'][0], width=t['hw'][1])
            for i, f in enumerate(files)
        ],
        annotations=anns,
        categories=[
            dict(id=1, name='nothing'),
            dict(id=3, name=category, keypoints=JOINTS, skeleton=BONES),
        ],
    )


def write_coco_tree(root, n=6, seed=0, state=None):
    "root/images and root/train.json"
    t = write_images(Path(root) / 'images', n, seed=seed)
    if state is not None:
        state = np.full(t['keypoints'].shape[:2], 2)
        state[1, 2], state[4, 1] = 1, 0
        t['state'] = state
    (Path(root) / 'train.json').write_text(json.dumps(coco_dict(t, state)))
    return t


def table(kp, index, likelihood=None, individuals=None, scorer='lab', joints=JOINTS):
    "A DeepLabCut table; kp (N,4,2), or (N,A,4,2) with individuals"
    x = kp if likelihood is None else np.concatenate([kp, likelihood[..., None]], -1)
    levels = [[scorer], list(joints), ['x', 'y', 'likelihood'][: x.shape[-1]]]
    names = ['scorer', 'bodyparts', 'coords']
    if individuals:
        levels.insert(1, list(individuals))
        names.insert(1, 'individuals')
    return pd.DataFrame(
        x.reshape(len(x), -1), columns=pd.MultiIndex.from_product(levels, names=names), index=index
    )


def three(names, folder='clip'):
    return pd.MultiIndex.from_tuples([('labeled-data', folder, n) for n in names])


def plain(names, folder='clip'):
    return [f'labeled-data/{folder}/{n}' for n in names]


def write_dlc_tree(root, n=6, seed=0, h5=True, csv=True):
    "root/labeled-data/clip/*, root/CollectedData_lab.csv and .h5 as DeepLabCut writes them; one joint is not labelled"
    root = Path(root)
    t = write_images(root / 'labeled-data' / 'clip', n, seed=seed, several=())
    t['keypoints'][1, 2] = np.nan
    df = table(t['keypoints'], three(t['names']))
    if csv:
        df.to_csv(root / 'CollectedData_lab.csv')
    if h5:
        df.to_hdf(root / 'CollectedData_lab.h5', key='df_with_missing', mode='w')
    return t


def write_lightning_tree(root, n=6, seed=0):
    "root/labeled-data/clip/*, root/CollectedData.csv, and root/predictions.csv with likelihood and the column set"
    root = Path(root)
    t = write_images(root / 'labeled-data' / 'clip', n, seed=seed, several=())
    table(t['keypoints'], plain(t['names'])).to_csv(root / 'CollectedData.csv')
    p = table(
        t['keypoints'],
        plain(t['names']),
        np.full(t['keypoints'].shape[:2], 0.9),
        scorer='heatmap_tracker',
    )
    p.loc[:, ('set', '', '')] = ['train'] * (n - 2) + ['validation', 'test']
    p.to_csv(root / 'predictions.csv')
    return t


def clip_frames(n=24, hw=(64, 96), seed=0):
    "Frames with one animal walking a circle, and its joints"
    r = np.random.default_rng(seed)
    bg = cv2.GaussianBlur(r.uniform(120, 220, (*hw, 3)), (0, 0), 6).astype(np.uint8)
    out, kps = [], []
    for i in range(n):
        a = 2 * np.pi * i / n
        c = np.array([hw[1] / 2 + 24 * np.cos(a), hw[0] / 2 + 14 * np.sin(a)])
        x = bg.copy()
        cv2.ellipse(
            x,
            tuple(int(v * 16) for v in c),
            (9 * 16, 5 * 16),
            np.degrees(a) + 90,
            0,
            360,
            (30, 28, 26),
            -1,
            cv2.LINE_AA,
            4,
        )
        out.append(x)
        kps.append(c)
    return out, np.array(kps)


def write_clips(root, n=24, names=('clip2.mp4', 'clip10.mp4')):
    "A folder of videos"
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    for k, f in enumerate(names):
        write_video(root / f, clip_frames(n, seed=k)[0], fps=25)
    return root
