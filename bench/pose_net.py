"""Training speed of the pose net on this CPU or GPU: images per second for forward, backward and an AdamW step.

    python bench/pose_net.py [--px 64 96] [--threads 1] [--batch 16] [--reps 3] [--device cpu]

Columns: plain float32, channels_last, bfloat16 autocast, both; then the ratio of each to plain. On the CPU it counts
CPU time per thread rather than wall time, so that other work on the machine changes it little."""

import argparse, statistics, time
import torch
from geomrecon.models.pose import PoseNet

nets = {
    'resnet18, pool, 4 deconv': dict(n_deconv=4),
    'resnet18, no pool, 3 deconv': dict(n_deconv=3, stem_pool=False),
    'resnet18, no pool, 3 stages, 2 deconv': dict(n_deconv=2, stem_pool=False, stages=3),
    'half, no pool, 3 stages, 2 deconv': dict(
        n_deconv=2, stem_pool=False, stages=3, width=0.5, deconv_width=128
    ),
    'half, no pool, 4 stages, 3 deconv': dict(
        n_deconv=3, stem_pool=False, width=0.5, deconv_width=128
    ),
    'half, pool, 4 stages, 4 deconv': dict(n_deconv=4, width=0.5, deconv_width=128),
    'half, pool, 3 stages, 3 deconv': dict(n_deconv=3, stages=3, width=0.5, deconv_width=128),
    'half, no pool, 3 st., 2 narrow deconv': dict(
        n_deconv=2, stem_pool=False, stages=3, width=0.5, deconv_width=64
    ),
    'half, pool, 3 st., 3 narrow deconv': dict(n_deconv=3, stages=3, width=0.5, deconv_width=64),
}


def step(net, opt, x, dtype):
    with torch.autocast(x.device.type, torch.bfloat16, enabled=dtype):
        y = net(x)
    y.float().square().mean().backward()
    opt.step()
    opt.zero_grad()


def rate(kw, px, args, last, bf16):
    dev = torch.device(args.device)
    clock = time.process_time if dev.type == 'cpu' else time.perf_counter
    torch.manual_seed(0)
    net = PoseNet(21, **kw).to(dev)
    x = torch.rand(args.batch, 3, px, px, device=dev)
    if last:
        net = net.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    opt = torch.optim.AdamW(net.parameters())
    times = []
    for _ in range(args.reps + 1):
        t = clock()
        step(net, opt, x, bf16)
        if dev.type == 'cuda':
            torch.cuda.synchronize()
        times.append(clock() - t)
    per = statistics.median(times[1:]) / (args.threads if dev.type == 'cpu' else 1)
    return args.batch / per, net.heatmap_size(px)


if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('--px', type=int, nargs='+', default=[64, 96])
    ap.add_argument('--threads', type=int, default=1)
    ap.add_argument('--batch', type=int, default=16)
    ap.add_argument('--reps', type=int, default=3)
    ap.add_argument('--device', default='cpu')
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f'torch {torch.__version__}, {args.device}, {args.threads} threads, batch {args.batch}; img/s'
    )
    print(f'{"px":>4} {"net":40s} map  plain   last   bf16   both | last x  bf16 x  both x')
    for px in args.px:
        for name, kw in nets.items():
            r = [
                rate(kw, px, args, last, bf16)
                for last, bf16 in ((False, False), (True, False), (False, True), (True, True))
            ]
            v = [a for a, _ in r]
            print(
                f'{px:4d} {name:40s} {r[0][1]:3d} '
                + ' '.join(f'{a:6.0f}' for a in v)
                + ' |'
                + ' '.join(f'{a / v[0]:7.2f}' for a in v[1:]),
                flush=True,
            )
