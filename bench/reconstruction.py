"""Cost of one reconstruction step (warp estimator, generator, perceptual loss) beside the pose net's.

    python bench/reconstruction.py [--px 64] [--threads 1] [--batch 8] [--reps 3]

CPU time per pair of frames and part, forward and backward, plain float32 and bfloat16 autocast with channels_last."""

import argparse
import statistics
import time

import torch

from geomrecon.core.skeleton import get_skeleton
from geomrecon.models.generator import Generator
from geomrecon.models.perceptual import PerceptualLoss
from geomrecon.models.pose import PoseNet
from geomrecon.models.warp import WarpEstimator


def cpu_seconds(function, reps):
    "Median CPU time of some calls after a first one"
    seconds = []
    for _ in range(reps + 1):
        started = time.process_time()
        function()
        seconds.append(time.process_time() - started)
    return statistics.median(seconds[1:])


class Parts:
    "Networks and random inputs of one image size; each method is a pass of one part and its backward"

    def __init__(self, skeleton, n_pairs, px, channels_last):
        torch.manual_seed(0)
        self.skeleton = skeleton
        self.channels_last = channels_last
        pose = PoseNet(
            skeleton.n_joints, width=0.5, stages=3, stem_pool=False, n_deconv=2, deconv_width=128
        )
        self.pose = self.laid_out(pose)
        self.base = self.laid_out(torch.rand(n_pairs, 3, px, px))
        self.driving = self.laid_out(torch.rand(n_pairs, 3, px, px))
        self.kp_base = torch.rand(n_pairs, skeleton.n_joints, 2) - 0.5
        self.kp_driving = torch.rand(n_pairs, skeleton.n_joints, 2) - 0.5
        self.flow = torch.rand(n_pairs, px // 2, px // 2, 2) * 2 - 1
        self.inpaint = torch.rand(n_pairs, 1, px // 2, px // 2)

    def laid_out(self, x):
        return x.to(memory_format=torch.channels_last) if self.channels_last else x

    def run_pose(self):
        images = self.laid_out(torch.cat([self.base, self.driving]))
        self.pose(images).float().square().mean().backward()

    def warp(self, width):
        net = self.laid_out(WarpEstimator(self.skeleton, width, stride=2))

        def run():
            out = net(self.base, self.kp_base, self.kp_driving)
            (out['flow'].mean() + out['inpaint'].mean()).backward()

        return run

    def generator(self, width, n_res):
        net = self.laid_out(Generator(width, n_res=n_res))

        def run():
            net(self.base, self.flow, self.inpaint).mean().backward()

        return run

    def perceptual(self, scales):
        loss = PerceptualLoss(self.pose, scales=scales)

        def run():
            loss(self.base.clone().requires_grad_(), self.driving).backward()

        return run

    def named(self):
        "Every part by name"
        parts = {'pose net, base and driving': self.run_pose}
        for width in (16, 32):
            parts[f'warp estimator, width {width}, stride 2'] = self.warp(width)
        for width, n_res in ((16, 2), (24, 2), (32, 4)):
            name = f'generator, width {width}, {n_res} residual blocks'
            parts[name] = self.generator(width, n_res)
        for scales in ((1, 0.5, 0.25, 0.125), (1, 0.5)):
            name = f'perceptual loss, pose encoder, {len(scales)} scales'
            parts[name] = self.perceptual(scales)
        return parts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--px', type=int, nargs='+', default=[64, 96])
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--reps', type=int, default=3)
    parser.add_argument('--skeleton', default='hand')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    skeleton = get_skeleton(args.skeleton)
    print(f'{"px":>4} {"mode":12s} {"part":44s} ms per pair')
    for px in args.px:
        for bf16 in (False, True):
            mode = 'bf16+last' if bf16 else 'float32'
            parts = Parts(skeleton, args.batch, px, channels_last=bf16).named()
            for name, run in parts.items():
                with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
                    seconds = cpu_seconds(run, args.reps)
                ms = seconds * 1000 / args.batch / args.threads
                print(f'{px:4d} {mode:12s} {name:44s} {ms:8.1f}', flush=True)


if __name__ == '__main__':
    main()
