"A textured figure of two limbs before a patterned wall, drawn in torch, and rows of small pictures: for the room `models`."

import math

import matplotlib.pyplot as plt
import torch

from geomrecon.core.geometry import pixel_grid

#: The bones of the figure: joint 1 is its elbow
LIMBS = [(0, 1), (1, 2)]


def limb_poses(n, seed=0):
    "Joints (n,3,2) of figures whose elbows are bent at random"
    generator = torch.Generator().manual_seed(seed)
    random = torch.rand(n, 4, generator=generator)
    first = random[:, 0] * 6.28
    second = random[:, 0] * 6.28 + random[:, 1] * 3 - 1.5
    elbow = random[:, 2:] * 0.5 - 0.25
    return torch.stack([elbow - _arm(first), elbow, elbow + _arm(second)], 1)


def _arm(angle):
    return 0.6 * torch.stack([angle.cos(), angle.sin()], -1)


def draw_limbs(keypoints, bones=LIMBS, size=64, thickness=0.11):
    "Images (B,3,size,size) of textured limbs between keypoints (B,K,2), before a patterned wall"
    grid = pixel_grid(size, size)
    images = _wall(grid).expand(len(keypoints), 3, size, size)
    for number, (parent, child) in enumerate(bones):
        along, across, distance = _limb_coordinates(
            grid, keypoints[:, parent], keypoints[:, child], thickness
        )
        texture = [
            0.5 + 0.5 * (along * 14).sin() * (-1) ** number,
            0.5 + 0.4 * across.clamp(-1, 1),
            along.clamp(0, 1),
        ]
        cover = ((thickness - distance) * 25).sigmoid()[:, None]
        images = images * (1 - cover) + torch.stack(texture, 1) * cover
    return images.clamp(0, 1)


def _wall(grid):
    x, y = grid[..., 0], grid[..., 1]
    return torch.stack([0.45 + 0.1 * (x * 9).sin(), 0.4 + 0.1 * (y * 7).cos(), 0.5 + 0 * x])


def _limb_coordinates(grid, parent, child, thickness):
    "Of every pixel: place along the limb (0 to 1), across it (in thicknesses), distance to it"
    edge = (child - parent)[:, None, None]
    length = edge.norm(dim=-1)
    unit = edge / length[..., None]
    offset = grid - parent[:, None, None]
    along = (offset * unit).sum(-1) / length
    turned = offset[..., 1] * unit[..., 0] - offset[..., 0] * unit[..., 1]
    across = turned / thickness
    beyond = (along - along.clamp(0, 1)) * length
    return along, across, ((across * thickness) ** 2 + beyond**2).sqrt()


def draw_bone(ends, size=64, thickness=0.16):
    "Image (1,3,size,size) of one bone with rings and a bright side, drawn in its own coordinates"
    parent, child = ends
    grid = pixel_grid(size, size)
    length = (child - parent).norm()
    unit = (child - parent) / length
    normal = torch.stack([-unit[1], unit[0]])
    along = ((grid - parent) @ unit) / length
    across = ((grid - parent) @ normal) / thickness
    cover = ((1 - across.abs()) * 8).sigmoid()
    cover = cover * ((along + 0.1) * 30).sigmoid() * ((1.1 - along) * 30).sigmoid()
    rings = 0.5 + 0.5 * (along * 18).sin()
    return torch.stack([rings, 0.5 + 0.5 * across, along.clamp(0, 1)])[None] * cover


def bone_at(angle, middle, length):
    "Both ends (2,2) of a bone"
    half = length / 2 * torch.tensor([math.cos(angle), math.sin(angle)])
    middle = torch.tensor(middle)
    return torch.stack([middle - half, middle + half])


def random_bones(n, shortest=10, longest=20, spread=0.3):
    "Both ends (n,2,2) of bones of random direction; lengths in pixels of a 64 grid"
    angle = (torch.rand(n) * 2 - 1) * math.pi
    length = (shortest + torch.rand(n) * (longest - shortest)) * (2 / 64)
    middle = (torch.rand(n, 2) * 2 - 1) * spread
    half = length[:, None] / 2 * torch.stack([angle.cos(), angle.sin()], -1)
    return torch.stack([middle - half, middle + half], 1)


def flat_hand():
    "Joints (1,21,2) of a hand with spread fingers"
    fan = torch.tensor([-0.95, -0.35, -0.03, 0.28, 0.62])
    reach = torch.tensor(
        [
            [0.35, 0.62, 0.87, 1.07],
            [0.72, 1.05, 1.27, 1.45],
            [0.72, 1.09, 1.34, 1.54],
            [0.68, 1.02, 1.25, 1.44],
            [0.64, 0.9, 1.07, 1.23],
        ]
    )
    x = fan.sin()[:, None] * reach
    y = 0.8 - fan.cos()[:, None] * reach
    fingers = torch.stack([x, y], -1).view(20, 2)
    return torch.cat([torch.tensor([[0.0, 0.8]]), fingers])[None]


def show_row(**images):
    "Pictures beside each other under their names: (3,h,w) in colour, (1,h,w) or (h,w) as maps"
    show_rows(1, **{name: image.reshape(1, *image.shape[-3:]) for name, image in images.items()})


def show_rows(n_rows, **images):
    "The first `n_rows` pictures of each batch below its name"
    figure, axes = plt.subplots(
        n_rows,
        len(images),
        figsize=(1.2 * len(images), 1.15 * n_rows + 0.25),
        squeeze=False,
    )
    for column, (name, batch) in zip(axes.T, images.items()):
        column[0].set_title(name.replace('_', ' '), fontsize=7)
        for ax, image in zip(column, batch.detach()):
            image = image.movedim(0, -1).numpy() if len(image) == 3 else image.squeeze().numpy()
            ax.imshow(image.clip(0, 1), vmin=0, vmax=1)
            ax.axis('off')


def soft_bars(n, size, seed=0):
    "Images (n,3,size,size) of soft bars on dark ground, and both ends (n,2,2) of each"
    generator = torch.Generator().manual_seed(seed)
    middle = torch.rand(n, 1, 2, generator=generator) * 0.8 - 0.4
    angle = torch.rand(n, generator=generator) * 6.283
    half = 0.45 * torch.stack([angle.cos(), angle.sin()], -1)[:, None]
    ends = torch.cat([middle - half, middle + half], 1)
    offset = pixel_grid(size, size).view(1, -1, 2) - ends[:, :1]
    along = (offset * (2 * half)).sum(-1) / (4 * half.square().sum(-1))
    along = along.clamp(0, 1)
    distance = (offset - along[..., None] * 2 * half).norm(dim=-1)
    shade = torch.stack([along, 1 - along, 0.5 + 0 * along], 1) * 0.8 + 0.2
    cover = ((0.16 - distance) * 12).sigmoid()[:, None]
    return (shade * cover).view(n, 3, size, size), ends
