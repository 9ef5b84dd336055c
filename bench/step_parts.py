"""Parts of a training step, one by one, for `step.py`: (name, ours, theirs or None, comparison of the two or None).

What some are compared with does one sample, joint or bone at a time, on the host. Label maps are drawn in patches and images
are moved by OpenCV, as pose code usually does it; bones, peaks and poses in space are loops slower than anyone's careful
code. `COMPARED_WITH` says of each what it is."""

import numpy as np
import torch

import straightforward as one_by_one
from geomrecon.core.geometry import apply_affine, lift, to_25d, warp_image
from geomrecon.core.heatmap import render_heatmaps
from geomrecon.data.augment import random_affine
from geomrecon.losses.kinematics import correct_pose
from geomrecon.losses.pseudo import pseudo_labels
from geomrecon.models.bones import bone_maps, bone_transforms, px64
from geomrecon.models.pose import domain_split
from step_measuring import close

#: What `theirs` of each part is
COMPARED_WITH = {
    'bones': 'pixel sums and an SVD, one bone at a time, LAPACK on the host',
    'target heatmaps': 'a NumPy Gaussian in a patch of six sigma for one joint at a time, as pose code usually draws it',
    '2D pseudo-labels': 'NumPy peaks, and Gaussians in patches, one joint at a time, on the host',
    'lifting': 'NumPy, one pose at a time, on the host',
    'correction': 'NumPy, one bone of one pose at a time, on the host',
    'images and joints moved': 'an OpenCV call for each image, on the host',
}


def compared_with(part):
    "What the other version of a part is, in words"
    return COMPARED_WITH[part.split(',')[0]]


def backward(*outputs, given=()):
    "Gradients with respect to whatever needs them"
    sum(output.float().mean() for output in outputs).backward()
    for tensor in given:
        tensor.grad = None


# Networks


class NetworkParts:
    "The networks of an adaptation step, and inputs for each of them alone"

    def __init__(self, setting):
        preset, device = setting.preset, setting.device
        self.setting = setting
        self.n_source = preset.adapt_bs
        self.n_pairs = preset.adapt_bs_target
        self.learn = setting.learner('adaptation', 1)
        self.model = self.learn.model.to(device, memory_format=torch.channels_last).train()
        perceptual = self.learn.reconstruct.perceptual
        self.perceptual = perceptual.to(device, memory_format=torch.channels_last)
        n_images = self.n_source + 2 * self.n_pairs
        self.images = torch.rand(n_images, 3, preset.size, preset.size, device=device)
        self.target = self.images[self.n_source :]
        self.base, self.driving = self.target.split(self.n_pairs)
        self.kp = [self.random_poses(), self.random_poses()]
        with torch.no_grad(), torch.autocast(**setting.amp):
            warp = self.model.warp(self.base, *self.kp)
        self.flow = warp['flow'].detach().requires_grad_()
        self.inpaint = warp['inpaint'].detach().requires_grad_()
        self.recon = self.driving.clone().requires_grad_()

    def random_poses(self):
        shape = (self.n_pairs, self.setting.skeleton.n_joints, 2)
        return (torch.rand(shape, device=self.setting.device) * 1.6 - 0.8).requires_grad_()

    def step(self, forward):
        "A function that runs a part forward and backward"

        def run():
            with torch.autocast(**self.setting.amp):
                outputs = forward()
            backward(*outputs, given=(*self.kp, self.flow, self.inpaint, self.recon))
            self.model.zero_grad()

        return run

    def predict(self):
        maps = self.model.maps(self.images, self.n_source)
        return [part for part in maps if part is not None]

    def label(self):
        self.model.eval()
        with torch.no_grad(), torch.autocast(**self.setting.amp):
            with domain_split(self.model.pose, 0):
                self.model.pose(self.target)
        self.model.train()

    def estimate(self):
        warp = self.model.warp(self.base, *self.kp)
        return warp['flow'], warp['inpaint']

    def generate(self):
        return [self.model.generator(self.base, self.flow, self.inpaint)]

    def compare(self):
        return [self.perceptual(self.recon, self.driving)]

    def optimise(self):
        "The optimiser's step as a function, with gradients of zero"
        self.learn.create_opt()
        for weight in self.model.parameters():
            if weight.requires_grad:
                weight.grad = torch.zeros_like(weight)
        return self.learn.opt.step

    def second_view(self):
        "The function that restyles a batch of pre-training"
        preset = self.setting.preset
        restyle = self.setting.second_view()
        images = torch.rand(preset.bs, 3, preset.size, preset.size, device=self.setting.device)

        def run():
            with torch.no_grad(), torch.autocast(**self.setting.amp):
                restyle(images)

        return run


def network_parts(setting):
    "Networks, forward and backward"
    nets = NetworkParts(setting)
    n_source, n_pairs = nets.n_source, nets.n_pairs
    millions = sum(weight.numel() for weight in nets.model.parameters()) / 1e6
    yield f'optimiser, {millions:.0f} M weights', nets.optimise(), None, None
    yield f'pose net, {n_source}+2x{n_pairs} images', nets.step(nets.predict), None, None
    yield f'pose net for labels, 2x{n_pairs}', nets.label, None, None
    yield f'warp W, {n_pairs} pairs', nets.step(nets.estimate), None, None
    yield f'generator G, {n_pairs} pairs', nets.step(nets.generate), None, None
    yield f'perceptual loss, {n_pairs} pairs', nets.step(nets.compare), None, None
    if setting.preset.restyle:
        yield f'second view, {setting.preset.bs} images', nets.second_view(), None, None


# Bones


def bone_parts(setting, n_pairs, side):
    "Bone maps, covariances and transforms, forward and backward"
    pairs = setting.skeleton.bones
    bones = torch.tensor(pairs, device=setting.device)
    shape = (n_pairs, setting.skeleton.n_joints, 2)
    kp_base, kp_driving = (
        (torch.rand(shape, device=setting.device) * 1.2 - 0.6).requires_grad_() for _ in range(2)
    )

    def ours():
        maps_base = bone_maps(kp_base, bones, side)
        maps_driving = bone_maps(kp_driving, bones, side)
        transforms = bone_transforms(kp_base, kp_driving, bones, mode='moments', l0=0.0)
        return maps_base, maps_driving, transforms

    def theirs():
        return one_by_one.bone_transforms(kp_base, kp_driving, pairs, side, px64)

    yield (
        f'bones, {n_pairs} x {len(pairs)} on a {side} grid',
        lambda: backward(*ours(), given=(kp_base, kp_driving)),
        lambda: backward(*theirs(), given=(kp_base, kp_driving)),
        lambda: close(ours(), theirs(), 0.02),
    )


# Labels


def heatmap_part(setting):
    "Target heatmaps of the source"
    preset, device = setting.preset, setting.device
    n_images = preset.adapt_bs
    side = setting.pose.heatmap_size(preset.size)
    keypoints = setting.source.keypoints[:n_images]
    visible = setting.source.visible[:n_images]
    keypoints_there, visible_there = keypoints.to(device), visible.to(device)

    def ours():
        return render_heatmaps(keypoints_there, side, preset.sigma, visible_there)

    def theirs():
        return one_by_one.label_maps(keypoints, visible, side, preset.sigma).to(device)

    return (
        f'target heatmaps, {n_images} x {setting.skeleton.n_joints}',
        ours,
        theirs,
        lambda: close([ours()], [theirs()], 0.03),  # tails beyond three sigma are cut off
    )


def pseudo_label_part(setting, keypoints):
    "2D pseudo-labels of heatmaps around these joints"
    preset, device = setting.preset, setting.device
    n_images, n_joints = keypoints.shape[:2]
    side = setting.pose.heatmap_size(preset.size)
    matrix = random_affine(n_images, preset.rotate, preset.scale, preset.shift, device=device)
    heights = torch.rand(n_images, n_joints, 1, 1, device=device)
    heatmaps = render_heatmaps(keypoints.to(device), side, preset.sigma) * heights
    no_mirror = list(range(n_joints))

    def ours():
        found, mask = pseudo_labels(heatmaps, matrix, no_mirror, preset.gamma, beta=preset.beta)
        return found, mask, render_heatmaps(found, side, preset.sigma, mask)

    def theirs():
        return one_by_one.pseudo_labels(
            heatmaps, matrix, gamma=preset.gamma, beta=preset.beta, sigma=preset.sigma
        )

    name = f'2D pseudo-labels, {n_images} x {n_joints}'

    def check():
        close(ours()[:2], theirs()[:2], 1e-4)
        close(ours()[2:], theirs()[2:], 0.03)  # tails beyond three sigma are cut off

    return name, ours, theirs, check


def pose_parts(setting, joints, intrinsics):
    "Lifting of 2.5D poses, and correction of bent ones"
    device, skeleton, limits = setting.device, setting.skeleton, setting.limits
    joints, intrinsics = joints.to(device), intrinsics.to(device)
    root, bone = skeleton.root, skeleton.reference
    pixels, depth, _ = to_25d(joints, intrinsics, root, bone)
    depth = depth + 0.05 * torch.randn_like(depth)
    bent = joints + 15 * torch.randn_like(joints)

    def lifted():
        return lift(pixels, depth, intrinsics, root, bone)

    def lifted_one_by_one():
        return one_by_one.lift(pixels, depth, intrinsics, root, bone).to(device)

    def corrected():
        return correct_pose(bent, limits, passes=0)

    def corrected_one_by_one():
        return one_by_one.correct(bent, limits).to(device)

    n_poses = len(joints)
    yield (
        f'lifting, {n_poses} poses',
        lifted,
        lifted_one_by_one,
        lambda: close([lifted()[0]], [lifted_one_by_one()], 1e-3),
    )
    yield (
        f'correction, {n_poses} poses, one walk',
        corrected,
        corrected_one_by_one,
        lambda: close([corrected()], [corrected_one_by_one()], 1e-3),
    )
    as_in_a_step = f'correction, {n_poses} poses, as in a step'
    yield as_in_a_step, lambda: correct_pose(bent, limits), None, None


def label_parts(setting):
    "Targets, pseudo-labels, lifting and correction"
    n_frames = 2 * setting.preset.adapt_bs_target
    batch = setting.source.batch(np.arange(n_frames) % len(setting.source))
    yield heatmap_part(setting)
    yield pseudo_label_part(setting, batch['keypoints'])
    yield from pose_parts(setting, batch['joints3d'], batch['intrinsics'])


# Data


def data_parts(setting):
    "A batch from memory, and its augmentation on the device"
    preset, device = setting.preset, setting.device
    loader = setting.dls(True, 1).train
    n_source, n_pairs = preset.adapt_bs, preset.adapt_bs_target
    some_frames = np.arange(n_pairs) % len(setting.frames)
    drawn = (np.arange(n_source) % len(setting.source), some_frames, some_frames)

    def from_memory():
        return next(loader.create_batches([drawn]))

    batch = from_memory()
    there = type(batch)(part if part is None else part.to(device) for part in batch)
    images, keypoints = batch.source, batch.keypoints
    matrix = random_affine(len(images), preset.rotate, preset.scale, preset.shift)
    matrix_there = matrix.to(device)

    def ours():
        moved = warp_image(there.source.float() / 255, matrix_there, pad='reflection')
        return moved, apply_affine(matrix_there, there.keypoints)

    def theirs():
        moved = one_by_one.augment(images, matrix, keypoints)
        return [part.to(device) for part in moved]

    yield (
        f'images and joints moved, {len(images)}',
        ours,
        theirs,
        lambda: close(ours(), theirs(), 0.02),
    )
    whole = f'whole augmentation, {n_source}+2x{n_pairs} images'
    yield whole, lambda: loader.tfm.encodes(there), None, None
    yield 'batch from memory', from_memory, None, None
