"""Rendering speed of the puppets on one core (CPU time), against the target of 500 images of 64 px per second."""

import argparse, time
import torch
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.style import STYLES

TARGET = 500


def speed(skeleton, size, style, n=256, rounds=3):
    ds = PuppetImages(skeleton, 10**6, size, style)
    ds.batch(range(16))
    times = []
    for r in range(rounds):
        t = time.process_time()
        ds.batch(range(r * n, (r + 1) * n))
        times.append(time.process_time() - t)
    return n / min(times)


if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('--styles', nargs='+', default=list(STYLES), choices=list(STYLES))
    ap.add_argument('--sizes', nargs='+', type=int, default=[64, 96])
    a = ap.parse_args()
    torch.set_num_threads(1)
    print(f'{"skeleton":10s}{"style":12s}{"px":>5s}{"images/s":>10s}{"/ target":>10s}')
    for sk in ('hand', 'body', 'mouse'):
        for st in a.styles:
            for px in a.sizes:
                v = speed(sk, px, st)
                print(
                    f'{sk:10s}{st:12s}{px:5d}{v:10.0f}'
                    + (f'{v / TARGET:10.2f}' if px == 64 else f'{"":>10s}')
                )
