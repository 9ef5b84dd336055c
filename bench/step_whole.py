"A whole training step, its hot parts done one sample, joint or bone at a time on the host: for `step.py`."

import numpy as np
import torch

import straightforward as one_by_one
from geomrecon.core.geometry import from_pixels, to_25d, to_pixels
from geomrecon.core.heatmap import decode, decode_depth
from geomrecon.data.augment import cutout, photometric, random_affine
from geomrecon.losses.align import FeatureTap
from geomrecon.losses.pseudo import pose_loss
from geomrecon.losses.supervised import depth_loss
from geomrecon.models.bones import px64
from geomrecon.models.pose import domain_split


class Straightforward:
    """A training step in float32 with the hot parts of `straightforward.py`, on the host and one by one: images moved by
    OpenCV, labels and poses by NumPy, bones by an SVD each. The networks and the losses on the device are the package's."""

    def __init__(self, setting, kind):
        self.setting = setting
        self.preset = setting.preset
        torch.manual_seed(0)
        learn = setting.learner(kind, 1, checkpointing=())
        self.adapts = kind != 'pre-training'
        self.net = learn.model.to(setting.device).train()
        self.optimiser = torch.optim.Adam(self.net.parameters(), self.preset.lr)
        self.terms = {cb.term: cb for cb in learn.cbs if hasattr(cb, 'term')}
        self.side = setting.pose.heatmap_size(self.preset.size)
        if 'align' in self.terms:
            self.tap = FeatureTap(self.net.pose.encoder)
        if self.adapts:
            self.net.warp.transforms = self.transforms
            self.perceptual = self.terms['rec'].perceptual.to(setting.device)

    def transforms(self, base, driving, crop_motion=None):
        "Drop-in for W's: by pixel sums and an SVD per bone"
        bones = self.setting.skeleton.bones
        matrices = one_by_one.bone_transforms(base, driving, bones, self.side, px64)[2]
        identity = torch.eye(2, 3, device=matrices.device).expand(len(matrices), 1, 2, 3)
        return torch.cat([identity, matrices], 1)

    def draw(self, n):
        return random_affine(n, self.preset.rotate, self.preset.scale, self.preset.shift)

    def moved(self, images, matrix, keypoints=None, hide=0.0):
        images, keypoints = one_by_one.augment(images, matrix, keypoints)
        images = photometric(images.to(self.setting.device), self.preset.colour)[0]
        return (cutout(images, hide) if hide else images), keypoints

    def squared(self, heatmaps, target, mask):
        "Squared errors of the heatmaps that count"
        errors = (heatmaps - target).square().sum((2, 3)) * mask
        return errors.sum() / mask.sum().clamp_min(1) / (np.pi * self.preset.sigma**2)

    def __call__(self, batch):
        "One step from a raw batch of the loader"
        source = self.augmented_source(batch)
        if self.adapts:
            loss = self.adaptation_loss(batch, source)
        else:
            loss = self.pre_training_loss(source)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        return loss

    def augmented_source(self, batch):
        "Images, joints, which of them count, and depth"
        matrix = self.draw(len(batch.source))
        images, keypoints = self.moved(batch.source, matrix, batch.keypoints, self.preset.cutout)
        visible = batch.visible.bool() & (keypoints.abs() <= 1).all(-1)
        depth = batch.depth.to(self.setting.device) if self.preset.depth else None
        return images, keypoints, visible, depth

    def supervised(self, out, keypoints, visible, depth):
        "Label maps made on the host, and the depth of their joints"
        device = self.setting.device
        maps = one_by_one.label_maps(keypoints, visible, self.side, self.preset.sigma).to(device)
        visible = visible.to(device)
        loss = self.squared(out['heatmaps'], maps, visible)
        if depth is None:
            return loss
        return loss + self.preset.depth_weight * depth_loss(out['depth'], depth, visible)

    def pre_training_loss(self, source):
        if 'align' not in self.terms:
            return self.supervised(self.net(source[0]), *source[1:])
        images = source[0]
        twice = [None if part is None else torch.cat([part, part]) for part in source[1:]]
        out = self.net(torch.cat([images, self.terms['align'].restyle(images)]))
        aligned = self.terms['align'].loss_of(*self.tap.take().chunk(2))
        return self.supervised(out, *twice) + self.preset.align_weight * aligned

    def adaptation_loss(self, batch, source):
        preset = self.preset
        matrix = self.draw(len(batch.base))
        base = self.moved(batch.base, matrix)[0]
        driving = self.moved(batch.driving, matrix)[0]
        out = self.net(source[0], base, driving, reconstruct='attached')
        clean = torch.cat([batch.base, batch.driving]).to(self.setting.device).float() / 255
        cameras = None
        if preset.depth:
            cameras = torch.cat([batch.cam_base, batch.cam_driving]).float()
        labelled = self.pseudo(out, clean, torch.cat([matrix, matrix]), cameras)
        reconstructed = self.perceptual(out['recon']['image'], driving)
        loss = self.supervised(out, *source[1:])
        return loss + preset.pseudo_weight * labelled + preset.rec_weight * reconstructed

    def label(self, clean):
        "Heatmaps and depth maps of the clean frames"
        self.net.eval()
        with torch.no_grad(), domain_split(self.net.pose, 0):
            if self.preset.depth:
                maps = self.net.pose(clean, depth=True)
            else:
                maps = self.net.pose(clean), None
        self.net.train()
        return maps

    def pseudo(self, out, clean, matrix, cameras):
        "Pseudo-labels of M_2D, and with depth those of M_3D"
        preset, device = self.preset, self.setting.device
        heatmaps, depth_maps = self.label(clean)
        _, mask, maps = one_by_one.pseudo_labels(
            heatmaps, matrix, gamma=preset.gamma, beta=preset.beta, sigma=preset.sigma
        )
        predicted = torch.cat([out['base'], out['driving']])
        loss = self.squared(predicted, maps.to(device), mask.to(device))
        if depth_maps is None:
            return loss
        labels = self.feasible(heatmaps, depth_maps, matrix, cameras, mask)
        depth = torch.cat([out['depth_base'], out['depth_driving']])
        of_poses = pose_loss(decode(predicted, beta=preset.beta), depth, *labels)
        return loss + preset.y_weight * of_poses

    def feasible(self, heatmaps, depth_maps, matrix, cameras, mask):
        "Joints, depth and mask of poses that were lifted, corrected and projected back"
        preset, skeleton = self.preset, self.setting.skeleton
        depth = decode_depth(heatmaps, depth_maps, 'local', preset.beta)
        found = []
        for maps in heatmaps.cpu().numpy():
            found.append(np.stack([one_by_one.peak(joint, preset.beta) for joint in maps]))
        found = torch.from_numpy(np.stack(found)).float()
        pixels = to_pixels(found, preset.size)
        lifted = one_by_one.lift(pixels, depth, cameras, skeleton.root, skeleton.reference)
        corrected = one_by_one.correct(lifted, self.setting.limits)
        pixels, depth, _ = to_25d(corrected, cameras.double(), skeleton.root, skeleton.reference)
        joints = from_pixels(pixels, preset.size).float().nan_to_num()
        depth = depth.float().nan_to_num()
        near = (joints - found).norm(dim=-1) / 2 < preset.gamma_3d
        moved = []
        for affine, pose in zip(matrix.cpu(), joints):
            moved.append((affine[:, :2] @ pose.T).T + affine[:, 2])
        labels = torch.stack(moved), depth, near | mask
        return [part.to(self.setting.device) for part in labels]
