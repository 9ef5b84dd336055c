"""Rendering speed of the puppets on one core (CPU time), against the target of 500 images of 64 px per second."""

import argparse
import time

import torch
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.style import STYLES

TARGET = 500


def speed(skeleton, size, style, n_images=256, rounds=3):
    "Images per second of CPU time, the best of some rounds"
    source = PuppetImages(skeleton, 10**6, size, style)
    source.batch(range(16))  # the first batch makes the patterns
    times = []
    for number in range(rounds):
        started = time.process_time()
        source.batch(range(number * n_images, (number + 1) * n_images))
        times.append(time.process_time() - started)
    return n_images / min(times)


def row(skeleton, style, size):
    "One line of the table"
    per_second = speed(skeleton, size, style)
    of_target = f'{per_second / TARGET:10.2f}' if size == 64 else f'{"":>10s}'
    return f'{skeleton:10s}{style:12s}{size:5d}{per_second:10.0f}{of_target}'


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--styles', nargs='+', default=list(STYLES), choices=list(STYLES))
    parser.add_argument('--sizes', nargs='+', type=int, default=[64, 96])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f'{"skeleton":10s}{"style":12s}{"px":>5s}{"images/s":>10s}{"/ target":>10s}')
    for skeleton in ('hand', 'body', 'mouse'):
        for style in options.styles:
            for size in options.sizes:
                print(row(skeleton, style, size))


if __name__ == '__main__':
    main()
