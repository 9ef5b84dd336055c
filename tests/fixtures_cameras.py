"""Figures in random poses before random cameras, for what geometry promises."""

import math
from types import SimpleNamespace
import torch
from geomrecon.core.geometry import affine, compose, crop_intrinsics, crop_matrix
from geomrecon.core.geometry import project, square_box


def rotation(angles):
    "Rotations (n,3,3) about x, then y, then z"
    c, s = angles.cos(), angles.sin()
    one = torch.ones_like(angles[:, 0])
    zero = torch.zeros_like(angles[:, 0])

    def matrix(*entries):
        return torch.stack(entries, -1).view(-1, 3, 3)

    about_x = matrix(one, zero, zero, zero, c[:, 0], -s[:, 0], zero, s[:, 0], c[:, 0])
    about_y = matrix(c[:, 1], zero, s[:, 1], zero, one, zero, -s[:, 1], zero, c[:, 1])
    about_z = matrix(c[:, 2], -s[:, 2], zero, s[:, 2], c[:, 2], zero, zero, zero, one)
    return about_z @ about_y @ about_x


def random_poses(skeleton, n, turn, generator):
    "Joints (n,K,3), mm about the root: random angles within the rig's limits, random view"

    def uniform():
        return torch.rand(n, 3, generator=generator, dtype=torch.float64)

    largest = torch.deg2rad(torch.tensor(turn).double())
    position = {None: torch.zeros(n, 3).double()}
    rotated = {None: rotation((2 * uniform() - 1) * largest)}
    for node in skeleton.rig:
        low, high = torch.deg2rad(torch.tensor(node.limits).double()).T
        rotated[node.name] = rotated[node.parent] @ rotation(low + (high - low) * uniform())
        offset = torch.tensor(node.offset).double()
        position[node.name] = position[node.parent] + (rotated[node.name] @ offset)
    joints = torch.stack([position[joint] for joint in skeleton.joints], 1)
    return joints - joints[:, [skeleton.root]]


def random_views(skeleton, n, turn=(40.0, 60.0, 180.0), far=(4.0, 9.0), tilt=180.0, seed=0):
    "Figures before cameras of 640 x 480 px; crops of 256 px, turned and mirrored"
    generator = torch.Generator().manual_seed(seed)

    def uniform(low, high):
        return low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)

    pose = random_poses(skeleton, n, turn, generator)
    size = (pose.amax(1) - pose.amin(1)).norm(dim=-1).mean()
    distance = size * uniform(*far)
    focal = uniform(450.0, 700.0)
    half = 0.25 * focal * size / distance
    across = uniform(0, 1) * (640 - 2 * half) + half - 320
    down = uniform(0, 1) * (480 - 2 * half) + half - 240
    middle = torch.stack([across, down], -1)
    K_frame = torch.zeros(n, 3, 3).double()
    K_frame[:, 0, 0] = K_frame[:, 1, 1] = focal
    K_frame[:, 0, 2], K_frame[:, 1, 2], K_frame[:, 2, 2] = 319.5, 239.5, 1
    ray = torch.cat([middle / focal[:, None], torch.ones(n, 1)], -1)
    xyz = pose + (ray * distance[:, None])[:, None]
    crop = random_crop(project(xyz, K_frame), tilt, uniform)
    K_crop = crop_intrinsics(K_frame, crop, 256)
    return SimpleNamespace(
        xyz=xyz, pixels=project(xyz, K_crop), K_crop=K_crop, K_frame=K_frame, crop=crop
    )


def random_crop(pixels, tilt, uniform):
    "Crop-to-frame matrices around the figures, turned by up to `tilt` degrees, half of them mirrored"
    low, high = pixels.amin(1), pixels.amax(1)
    box = square_box(torch.cat([low, high - low], -1), 1.2)
    angle = uniform(-tilt, tilt) * math.pi / 180
    return compose(crop_matrix(box), affine(angle, flip=uniform(0, 1) < 0.5).double())
