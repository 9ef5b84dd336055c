"""The hot parts of a training step as they are usually written: one sample, joint or bone at a time, on the host.

NumPy, OpenCV and LAPACK do the work. All is written from the equations, as something to compare with: `step.py` checks
that each of these gives what the package gives before it times either.
"""

import math

import cv2
import numpy as np
import torch

# Images


def pixel_matrix(matrix, side):
    "A (2,3) matrix over [-1,1] as one over pixel indices of a square image"
    to_pixels = np.array([[side / 2, 0, side / 2 - 0.5], [0, side / 2, side / 2 - 0.5], [0, 0, 1]])
    square = np.vstack([matrix, [0, 0, 1]])
    return (to_pixels @ square @ np.linalg.inv(to_pixels))[:2]


def moved_image(image, matrix):
    "One image (3,S,S) uint8 moved by a matrix (2,3), as float in [0,1]"
    pixels = image.permute(1, 2, 0).numpy()
    moved = cv2.warpAffine(
        pixels,
        pixel_matrix(matrix, pixels.shape[0]),
        pixels.shape[1::-1],
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return torch.from_numpy(moved).permute(2, 0, 1).float() / 255


def augment(images, matrices, keypoints=None):
    "Images (B,3,S,S) uint8 and their joints moved by (B,2,3): a call per image, a product per joint"
    moved_images, moved_joints = [], []
    for i, image in enumerate(images):
        matrix = matrices[i].numpy().astype(np.float64)
        moved_images.append(moved_image(image, matrix))
        if keypoints is not None:
            joints = [matrix[:, :2] @ joint + matrix[:, 2] for joint in keypoints[i].numpy()]
            moved_joints.append(np.stack(joints))
    moved_images = torch.stack(moved_images)
    if keypoints is None:
        return moved_images, None
    return moved_images, torch.from_numpy(np.stack(moved_joints)).float()


# Heatmaps


def label_map(x, y, height, width, sigma):
    "A Gaussian around pixel (x, y), drawn in a patch that reaches three sigma, as pose code usually does it"
    drawn = np.zeros((height, width), np.float32)
    left, right = max(0, math.ceil(x - 3 * sigma)), min(width, math.floor(x + 3 * sigma) + 1)
    top, bottom = max(0, math.ceil(y - 3 * sigma)), min(height, math.floor(y + 3 * sigma) + 1)
    if left < right and top < bottom:
        along_x = np.exp(-((np.arange(left, right) - x) ** 2) / (2 * sigma**2))
        along_y = np.exp(-((np.arange(top, bottom) - y) ** 2) / (2 * sigma**2))
        drawn[top:bottom, left:right] = along_y[:, None] * along_x
    return drawn


def label_maps(keypoints, visible, size, sigma):
    "Target heatmaps (B,K,size,size), joint by joint"
    n_samples, n_joints = keypoints.shape[:2]
    maps = np.zeros((n_samples, n_joints, size, size), np.float32)
    for sample in range(n_samples):
        for joint in range(n_joints):
            if visible[sample, joint]:
                x, y = ((keypoints[sample, joint] + 1) * size / 2 - 0.5).tolist()
                maps[sample, joint] = label_map(x, y, size, size, sigma)
    return torch.from_numpy(maps)


def peak(heatmap, beta, radius=5.0):
    "Position in [-1,1] of one heatmap's highest peak, refined in a window around it"
    height, width = heatmap.shape
    heatmap = np.maximum(heatmap, 0)
    top_row, top_column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    rows, columns = np.mgrid[:height, :width]
    is_near = (np.abs(rows - top_row) <= radius) & (np.abs(columns - top_column) <= radius)
    weight = np.where(is_near, heatmap, 0)
    weight = np.exp(beta * (weight / max(weight.max(), 1e-3) - 1)) - math.exp(-beta)
    xs = (2 * columns + 1) / width - 1
    ys = (2 * rows + 1) / height - 1
    return np.array([xs * weight, ys * weight]).sum((1, 2)) / max(weight.sum(), 1e-6)


def pseudo_labels(heatmaps, matrices, gamma, beta, sigma):
    "Joints (B,K,2), mask and target maps of the augmented view, joint by joint on the host"
    heatmaps = heatmaps.cpu().numpy()
    matrices = matrices.cpu().numpy()
    n_samples, n_joints, height, width = heatmaps.shape
    keypoints = np.zeros((n_samples, n_joints, 2), np.float32)
    mask = np.zeros((n_samples, n_joints), bool)
    maps = np.zeros_like(heatmaps)
    for sample in range(n_samples):
        matrix = matrices[sample]
        for joint in range(n_joints):
            heatmap = heatmaps[sample, joint]
            keypoints[sample, joint] = matrix[:, :2] @ peak(heatmap, beta) + matrix[:, 2]
            is_inside = np.abs(keypoints[sample, joint]).max() <= 1
            mask[sample, joint] = heatmap.max() > gamma and is_inside
            if mask[sample, joint]:
                x, y = (keypoints[sample, joint] + 1) * width / 2 - 0.5
                maps[sample, joint] = label_map(x, y, height, width, sigma)
    return torch.from_numpy(keypoints), torch.from_numpy(mask), torch.from_numpy(maps)


# Bones


def signed_axes(U, along):
    "LAPACK leaves both signs open: the first axis points to the child, the second is its left normal"
    sign = ((U[:, :, 0] * along).sum(-1) >= 0).float() * 2 - 1
    first = U[:, :, 0] * sign[:, None]
    return first, torch.stack([-first[:, 1], first[:, 0]], -1)


def bone_factor(parent, child, size, sigma2):
    "Map (B,size,size) and [U S^(1/2), mu] (B,2,3) of one bone: pixel sums, then an SVD on the host"
    centres = (2 * torch.arange(size, device=parent.device) + 1) / size - 1
    grid = torch.stack(torch.meshgrid(centres, centres, indexing='xy'), -1)
    along = child - parent
    offset = grid - parent[:, None, None]
    length2 = (along**2).sum(-1)[:, None, None].clamp_min(1e-8)
    share = ((offset * along[:, None, None]).sum(-1) / length2).clamp(0, 1)
    distance = (offset - share[..., None] * along[:, None, None]).norm(dim=-1)
    bone_map = torch.exp(-distance / sigma2)
    mu = (parent + child) / 2
    offset = grid - mu[:, None, None]
    products = bone_map[..., None, None] * offset[..., :, None] * offset[..., None, :]
    covariance = products.sum((1, 2)) / bone_map.sum((1, 2))[:, None, None]
    U, S, _ = torch.linalg.svd(covariance.cpu())
    U = U.to(parent.device)
    S = S.to(parent.device)
    first, second = signed_axes(U, along)
    columns = [first * S[:, :1].sqrt(), second * S[:, 1:].sqrt(), mu]
    return bone_map, torch.stack(columns, -1)


def bone_transforms(base, driving, bones, size, sigma2):
    "Maps of both images (B,J,size,size) and matrices driving to base (B,J,2,3), bone by bone"
    base_maps, driving_maps, matrices = [], [], []
    for parent, child in bones:
        base_map, to_base = bone_factor(base[:, parent], base[:, child], size, sigma2)
        driving_map, to_driving = bone_factor(driving[:, parent], driving[:, child], size, sigma2)
        inverse = torch.linalg.inv(to_driving[..., :2].cpu()).to(driving.device)
        linear = to_base[..., :2] @ inverse
        shift = to_base[..., 2:] - linear @ to_driving[..., 2:]
        base_maps.append(base_map)
        driving_maps.append(driving_map)
        matrices.append(torch.cat([linear, shift], -1))
    return torch.stack(base_maps, 1), torch.stack(driving_maps, 1), torch.stack(matrices, 1)


# Poses in space


def root_depth(rays, depth, bone):
    "Depth z of the root from |(z+d_m) r_m - (z+d_n) r_n| = 1, a quadratic; `bone` is (n, m)"
    n, m = bone
    linear = rays[m] - rays[n]
    constant = depth[m] * rays[m] - depth[n] * rays[n]
    a = linear @ linear
    b = 2 * linear @ constant
    c = constant @ constant - 1
    z = (-b + math.sqrt(max(b * b - 4 * a * c, 0))) / (2 * a)
    return np.clip(z, 2, 500)


def lift(pixels, depth, K, root, bone):
    "3D joints (B,N,3) in reference-bone lengths of a 2.5D pose, sample by sample"
    poses = []
    pixels, depth, K = (values.cpu().double().numpy() for values in (pixels, depth, K))
    for joints, relative, camera in zip(pixels, depth, K):
        rays = np.stack([np.linalg.solve(camera, [x, y, 1]) for x, y in joints])
        relative = relative - relative[root]
        poses.append(rays * (root_depth(rays, relative, bone) + relative)[:, None])
    return torch.from_numpy(np.stack(poses))


def turn(flexion, abduction):
    "Axes of the next frame after flexion and abduction"
    sf = math.sin(flexion)
    cf = math.cos(flexion)
    sa = math.sin(abduction)
    ca = math.cos(abduction)
    return np.array([[ca, -sa * sf, -sa * cf], [0, cf, -sf], [sa, ca * sf, ca * cf]])


def unit(vector):
    return vector / max(np.linalg.norm(vector), 1e-9)


def root_frame(pose, limits):
    "Axes of the root: the second of the limits' two bones in the plane, the first straight ahead"
    tree = limits.tree
    ahead, aside = limits.frame
    z = unit(pose[tree.child[ahead]])
    y = pose[tree.child[aside]] - pose[tree.parent[aside]]
    y = unit(y - (y @ z) * z)
    return np.stack([np.cross(y, z), y, z])


def pose_scale(pose, limits):
    "Length of the reference bone; no less than a tenth of what the other bones suggest"
    tree = limits.tree
    lengths = [np.linalg.norm(pose[c] - pose[p]) for p, c in zip(tree.parent, tree.child)]
    ratio = np.array(lengths) / limits.length.numpy().mean(1)
    median = np.sort(ratio)[(len(ratio) - 1) // 2]
    return max(lengths[limits.reference], 0.1 * median)


def clipped_angles(direction, flexion, abduction):
    "Flexion and abduction of a direction, clipped to their ranges"
    half = min((flexion[1] - flexion[0]) / 2, math.pi)
    bend = np.clip(math.atan2(direction[1], direction[2]), -half, half)
    across = math.atan2(direction[0], math.hypot(direction[1], direction[2]))
    return bend, np.clip(across, *abduction)


def corrected_pose(pose, limits):
    "One pose (K,3) about its root with lengths and angles clipped, bone by bone from the root"
    tree = limits.tree
    flexion = np.radians(limits.flexion.numpy())
    abduction = np.radians(limits.abduction.numpy())
    length = limits.length.numpy()
    rest = limits.rest.numpy()
    scale = pose_scale(pose, limits)
    frames = {-1: root_frame(pose, limits)}
    moved = pose.copy()
    for level in tree.levels:
        for bone in level:
            start = moved[tree.parent[bone]]
            vector = pose[tree.child[bone]] - start
            middle = turn(flexion[bone].mean(), 0) @ rest[bone] @ frames[tree.up[bone]]
            direction = middle @ unit(vector)
            bend, across = clipped_angles(direction, flexion[bone], abduction[bone])
            frames[bone] = turn(bend, across) @ middle
            new_length = np.clip(np.linalg.norm(vector), *(scale * length[bone]))
            moved[tree.child[bone]] = start + new_length * frames[bone][2]
    return moved


def correct(xyz, limits):
    "Poses (B,K,3) with lengths and angles clipped to their ranges, sample by sample"
    root = limits.skeleton.root
    poses = []
    for pose in xyz.cpu().double().numpy():
        poses.append(corrected_pose(pose - pose[root], limits) + pose[root])
    return torch.from_numpy(np.stack(poses))
