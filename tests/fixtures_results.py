"Made-up results, drawn toy poses and losses, to show tables and reports with."

import numpy as np
from geomrecon.use.seeds import merge_seeds

GROUPS = ('wrist', 'mcp', 'pip', 'dip', 'fin', 'all')
HAND_RESULTS = dict(
    preset='tiny',
    seed=0,
    peak_rss_mb=1840.0,
    rows=[
        dict(
            method='source',
            pck=dict(wrist=52.1, mcp=45.3, pip=38.2, dip=33.4, fin=29.1, all=37.3),
            seconds=212.0,
        ),
        dict(
            method='pseudo',
            pck=dict(wrist=70.4, mcp=62.0, pip=55.2, dip=52.4, fin=50.3, all=55.7),
            seconds=148.0,
        ),
        dict(
            method='full',
            pck=dict(wrist=69.8, mcp=65.1, pip=60.3, dip=58.2, fin=56.4, all=60.4),
            seconds=231.0,
        ),
    ],
)


def mouse_row(case, method, px, flips, seconds):
    "A row with pixel errors and counts of mistakes in place of PCK"
    median = dict(snout=px, leftear=1.6 * px, rightear=1.5 * px, tailbase=1.3 * px, all=1.35 * px)
    return dict(
        case=case,
        method=method,
        seconds=seconds,
        median_px=median,
        within_32=dict(all=100 - 2.2 * px),
        flips=flips,
        swaps_leftear_rightear=flips // 2,
        offset_ahead_right_px=dict(snout=[1.2, -0.1]),
    )


MOUSE_RESULTS = dict(
    preset='mouse',
    seed=0,
    rows=[
        mouse_row('narrow', 'source', px=9.0, flips=4, seconds=300.0),
        mouse_row('narrow', 'control', px=8.0, flips=4, seconds=610.0),
        mouse_row('narrow', 'full', px=4.8, flips=0, seconds=600.0),
        mouse_row('randomised', 'source', px=4.9, flips=0, seconds=310.0),
        mouse_row('randomised', 'full', px=4.1, flips=0, seconds=605.0),
    ],
)


def of_seed(seed, rng):
    "The results of the hand, as another seed might give them"
    rows = []
    for row in HAND_RESULTS['rows']:
        pck = {}
        for group, value in row['pck'].items():
            pck[group] = round(value + rng.normal(0, 1.5), 1)
        rows.append({**row, 'pck': pck})
    return {**HAND_RESULTS, 'seed': seed, 'peak_rss_mb': 1800.0 + seed, 'rows': rows}


def seeds_results():
    "Results of three seeds, merged"
    rng = np.random.default_rng(0)
    return merge_seeds([of_seed(seed, rng) for seed in range(3)])


FAN = np.deg2rad([-52, -19, -2, 14, 30])
BONES = np.array(
    [[46, 36, 32, 27], [90, 43, 27, 22], [88, 48, 30, 24], [82, 44, 28, 23], [76, 34, 21, 20]]
)


def toy_hand(turn, bend):
    "Joints of a flat hand, turned, with bent fingers"
    joints = np.zeros((21, 2))
    for finger in range(5):
        for bone in range(4):
            angle = FAN[finger] + turn + bend[finger] * bone
            child = 1 + 4 * finger + bone
            parent = 0 if bone == 0 else child - 1
            direction = np.array([np.sin(angle), -np.cos(angle)])
            joints[child] = joints[parent] + BONES[finger, bone] * direction
    return (joints - [-10, -92]) * 0.0083


def toy_hands(rng):
    "Six hands"
    turns = np.linspace(-0.3, 0.3, 6)
    return np.stack([toy_hand(turn, rng.uniform(-0.16, 0.16, 5)) for turn in turns])


def toy_images():
    "Six backgrounds"
    y, x = np.mgrid[:64, :64] / 64
    images = []
    for i in range(6):
        blue = 0.35 + 0.1 * np.sin(6 * x + i)
        images.append(np.stack([0.25 + 0.2 * x, 0.3 + 0.15 * y, blue], -1))
    return np.stack(images)


def toy_curves(rng):
    "Losses that fall; those of later phases begin later"
    step = np.arange(400)
    supervised = 0.02 + 0.3 * np.exp(-step / 60) * rng.lognormal(0, 0.2, 400)
    pseudo = 0.05 * np.exp(-step / 200) * rng.lognormal(0, 0.3, 400)
    reconstruction = 1 + 0.9 * np.exp(-(step - 160) / 80) + 0.08 * rng.normal(size=400)
    return dict(
        supervised=supervised,
        pseudo=np.where(step < 80, np.nan, pseudo),
        reconstruction=np.where(step < 160, np.nan, reconstruction),
    )
