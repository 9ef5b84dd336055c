"""Toy hands for the pictures in the notebooks: capsules of one colour on a patch of noise."""

from types import SimpleNamespace
import numpy as np
import torch
import torch.nn.functional as F
from geomrecon.core.geometry import pixel_grid
from geomrecon.core.skeleton import HAND21

FINGER_DIRECTIONS = np.deg2rad([-52, -19, -2, 14, 30])
BONE_LENGTHS = np.array(
    [[46, 36, 32, 27], [90, 43, 27, 22], [88, 48, 30, 24], [82, 44, 28, 23], [76, 34, 21, 20]]
)
SKIN = (0.87, 0.62, 0.5)
SKINS = (SKIN, (0.5, 0.33, 0.25), (0.95, 0.76, 0.66), (0.7, 0.48, 0.36), (0.6, 0.7, 0.85), SKIN)


def toy_pose(turn=0.0, bend=(0, 0, 0, 0, 0), at=(0, 0)):
    "Joints (21,2) in [-1,1] of a hand that is turned and moved, with each finger bent"
    joints = np.zeros((21, 2))
    for finger in range(5):
        for i in range(4):
            joint = 1 + 4 * finger + i
            parent = 0 if i == 0 else joint - 1
            angle = FINGER_DIRECTIONS[finger] + turn + bend[finger] * i
            direction = np.array([np.sin(angle), -np.cos(angle)])
            joints[joint] = joints[parent] + BONE_LENGTHS[finger, i] * direction
    return torch.tensor((joints - [-10, -92]) * 0.0083 + at).float()


def bone_ends(pose):
    "Both ends of each bone, (20,2) and (20,2)"
    parents, children = torch.tensor(HAND21.bones).T
    return pose[parents], pose[children]


def bone_distance(pose, size=96):
    "Distance (20,size,size) of every pixel from every bone"
    start, end = bone_ends(pose)
    along = (end - start)[:, None, None]
    from_start = pixel_grid(size, size)[None] - start[:, None, None]
    share = ((from_start * along).sum(-1) / (along * along).sum(-1)).clamp(0, 1)
    return (from_start - share[..., None] * along).norm(dim=-1)


def soft_noise(channels, cells, size, generator):
    noise = torch.rand(1, channels, cells, cells, generator=generator)
    return F.interpolate(noise, size=(size, size), mode='bicubic')[0]


def toy_hand(pose, seed=0, size=96, radius=0.07, skin=SKIN, background=None):
    "A hand in that pose, (3,size,size) in [0,1], and the background behind it"
    if background is None:
        generator = torch.Generator().manual_seed(seed)
        background = soft_noise(3, 3, size, generator) * 0.4
        background = background + soft_noise(1, 5, size, generator) * 0.25
    distance = bone_distance(pose, size)
    palm = distance[4::4].amin(0) - 0.06
    distance = torch.minimum(distance.amin(0), palm)
    cover = ((radius - distance) / 0.02).clamp(0, 1)
    shade = 1 - 0.45 * (distance.clamp_min(0) / radius) ** 2
    image = cover * torch.tensor(skin)[:, None, None] * shade + (1 - cover) * background
    return image.clamp(0, 1), background


def toy_pair():
    "Two frames of one hand: `base` and `driving`, with their poses"
    kp_base = toy_pose(-0.1, (0.1, -0.03, 0, 0.02, 0.03))
    kp_driving = toy_pose(0.15, (-0.15, -0.12, 0.05, -0.04, 0.12), (0.05, 0.03))
    base, background = toy_hand(kp_base)
    driving, _ = toy_hand(kp_driving, background=background)
    return SimpleNamespace(base=base, driving=driving, kp_base=kp_base, kp_driving=kp_driving)


def toy_hands():
    "Six hands, (6,3,96,96), and their poses, (6,21,2)"
    bends = np.random.default_rng(0).uniform(-0.16, 0.16, (6, 5))
    turns = (-0.4, 0.3, 0, 0.15, -0.2, 0.4)
    poses = [toy_pose(turn, bend) for turn, bend in zip(turns, bends)]
    hands = []
    for seed, (pose, skin) in enumerate(zip(poses, SKINS)):
        hands.append(toy_hand(pose, seed=seed, skin=skin)[0])
    return torch.stack(hands), torch.stack(poses)


def toy_warp(pair, size=96):
    "Masks (21,size,size), background first, and flow (size,size,2) that undo the driving pose"
    distance = bone_distance(pair.kp_driving, size)
    background = torch.full((1, size, size), -0.1 / 0.012)
    masks = torch.cat([background, -distance / 0.012]).softmax(0)
    pixels = pixel_grid(size, size)
    flow = masks[0, ..., None] * pixels
    starts, ends = bone_ends(pair.kp_driving)
    base_starts, base_ends = bone_ends(pair.kp_base)
    for bone in range(HAND21.n_bones):
        turn = bone_angle(base_starts[bone], base_ends[bone])
        turn = turn - bone_angle(starts[bone], ends[bone])
        c, s = turn.cos(), turn.sin()
        rotation = torch.stack([torch.stack([c, -s]), torch.stack([s, c])])
        middle = (starts[bone] + ends[bone]) / 2
        base_middle = (base_starts[bone] + base_ends[bone]) / 2
        moved = (pixels - middle) @ rotation.T + base_middle
        flow = flow + masks[bone + 1, ..., None] * moved
    return masks, flow


def bone_angle(start, end):
    x, y = end - start
    return torch.atan2(y, x)
