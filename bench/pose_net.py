"""Training speed of the pose net on this CPU or GPU: images per second for forward, backward and an AdamW step.

    python bench/pose_net.py [--px 64 96] [--threads 1] [--batch 16] [--reps 3] [--device cpu]

Columns: plain float32, channels_last, bfloat16 autocast, both; then the ratio of each to plain. On the CPU it counts
CPU time per thread rather than wall time, so that other work on the machine changes it little."""

import argparse
import statistics
import time

import torch

from geomrecon.models.pose import PoseNet

HALF = dict(width=0.5)
NETS = {
    'resnet18, pool, 4 deconv': dict(n_deconv=4),
    'resnet18, no pool, 3 deconv': dict(n_deconv=3, stem_pool=False),
    'resnet18, no pool, 3 stages, 2 deconv': dict(n_deconv=2, stem_pool=False, stages=3),
    'half, no pool, 3 stages, 2 deconv': dict(
        HALF, n_deconv=2, stem_pool=False, stages=3, deconv_width=128
    ),
    'half, no pool, 4 stages, 3 deconv': dict(HALF, n_deconv=3, stem_pool=False, deconv_width=128),
    'half, pool, 4 stages, 4 deconv': dict(HALF, n_deconv=4, deconv_width=128),
    'half, pool, 3 stages, 3 deconv': dict(HALF, n_deconv=3, stages=3, deconv_width=128),
    'half, no pool, 3 st., 2 narrow deconv': dict(
        HALF, n_deconv=2, stem_pool=False, stages=3, deconv_width=64
    ),
    'half, pool, 3 st., 3 narrow deconv': dict(HALF, n_deconv=3, stages=3, deconv_width=64),
}
#: (channels_last, bfloat16) of the four columns
FORMS = ((False, False), (True, False), (False, True), (True, True))


def step(net, optimiser, images, bf16):
    "One step of training on nothing in particular"
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        heatmaps = net(images)
    heatmaps.float().square().mean().backward()
    optimiser.step()
    optimiser.zero_grad()


def images_per_second(options, px, args, channels_last, bf16):
    "Speed of a net in training, median of some steps after a first one"
    device = torch.device(args.device)
    on_cpu = device.type == 'cpu'
    clock = time.process_time if on_cpu else time.perf_counter
    torch.manual_seed(0)
    net = PoseNet(21, **options).to(device)
    images = torch.rand(args.batch, 3, px, px, device=device)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters())
    seconds = []
    for _ in range(args.reps + 1):
        started = clock()
        step(net, optimiser, images, bf16)
        if not on_cpu:
            torch.cuda.synchronize()
        seconds.append(clock() - started)
    of_a_thread = statistics.median(seconds[1:]) / (args.threads if on_cpu else 1)
    return args.batch / of_a_thread


def print_row(name, options, px, args):
    speeds = []
    for channels_last, bf16 in FORMS:
        speeds.append(images_per_second(options, px, args, channels_last, bf16))
    side = PoseNet(21, **options).heatmap_size(px)
    absolute = ' '.join(f'{speed:6.0f}' for speed in speeds)
    relative = ' '.join(f'{speed / speeds[0]:7.2f}' for speed in speeds[1:])
    print(f'{px:4d} {name:40s} {side:3d} {absolute} | {relative}', flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--px', type=int, nargs='+', default=[64, 96])
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--reps', type=int, default=3)
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f'torch {torch.__version__}, {args.device}, {args.threads} threads, batch {args.batch}')
    print(f'{"px":>4} {"net":40s} map  plain   last   bf16   both | last x  bf16 x  both x')
    for px in args.px:
        for name, options in NETS.items():
            print_row(name, options, px, args)


if __name__ == '__main__':
    main()
