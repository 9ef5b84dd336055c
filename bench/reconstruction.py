"""Cost of one reconstruction step (warp estimator, generator, perceptual loss) beside the pose net's.

    python bench/reconstruction.py [--px 64] [--threads 1] [--batch 8] [--reps 3]

CPU time per pair of frames and part, forward and backward, plain float32 and bfloat16 autocast with channels_last."""

import argparse, statistics, time
import torch
from geomrecon.models.generator import Generator
from geomrecon.models.perceptual import PerceptualLoss
from geomrecon.models.pose import PoseNet
from geomrecon.models.warp import WarpEstimator
from geomrecon.core.skeleton import get_skeleton


def measure(f, reps):
    times = []
    for _ in range(reps + 1):
        t = time.process_time()
        f()
        times.append(time.process_time() - t)
    return statistics.median(times[1:])


if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('--px', type=int, nargs='+', default=[64, 96])
    ap.add_argument('--threads', type=int, default=1)
    ap.add_argument('--batch', type=int, default=8)
    ap.add_argument('--reps', type=int, default=3)
    ap.add_argument('--skeleton', default='hand')
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    sk, B = get_skeleton(args.skeleton), args.batch
    print(f'{"px":>4} {"mode":12s} {"part":44s} ms per pair')
    for px in args.px:
        for bf16 in (False, True):
            torch.manual_seed(0)
            last = lambda m: m.to(memory_format=torch.channels_last) if bf16 else m
            pose = last(
                PoseNet(
                    sk.n_joints, width=0.5, stages=3, stem_pool=False, n_deconv=2, deconv_width=128
                )
            )
            rec = PerceptualLoss(pose)
            a, b = (last(torch.rand(B, 3, px, px)) for _ in range(2))
            ka, kb = (torch.rand(B, sk.n_joints, 2) - 0.5 for _ in range(2))
            parts = {
                'pose net, base and driving': lambda: (
                    pose(last(torch.cat([a, b]))).float().square().mean().backward()
                )
            }
            for w in (16, 32):
                W = last(WarpEstimator(sk, w, stride=2))
                h = px // 2

                def warp(W=W):
                    o = W(a, ka, kb)
                    (o['flow'].mean() + o['inpaint'].mean()).backward()

                parts[f'warp estimator, width {w}, stride 2'] = warp
            for w, n in ((16, 2), (24, 2), (32, 4)):
                G = last(Generator(w, n_res=n))
                flow = torch.rand(B, h, h, 2) * 2 - 1
                C = torch.rand(B, 1, h, h)
                parts[f'generator, width {w}, {n} residual blocks'] = lambda G=G, flow=flow, C=C: (
                    G(a, flow, C).mean().backward()
                )
            for s in ((1, 0.5, 0.25, 0.125), (1, 0.5)):
                L = PerceptualLoss(pose, scales=s)
                parts[f'perceptual loss, pose encoder, {len(s)} scales'] = lambda L=L: L(
                    a.clone().requires_grad_(), b
                ).backward()
            for name, f in parts.items():
                with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
                    t = measure(f, args.reps)
                print(
                    f'{px:4d} {"bf16+last" if bf16 else "float32":12s} {name:44s} {t * 1000 / B / args.threads:8.1f}',
                    flush=True,
                )
