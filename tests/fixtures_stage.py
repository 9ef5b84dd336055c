"A still camera over a floor on which a drawn animal walks: its tones, sizes, headings, shadow, blur and noise are known."

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image


class Walk(NamedTuple):
    "What is true of a drawn video"

    folder: Path  # PNG files
    floor: np.ndarray  # (H,W,3) uint8, the place without the animal
    middles: np.ndarray  # (N,2) middle of the body, pixels
    headings: np.ndarray  # (N,) direction of the head, radians, y down
    length: float  # Of the body, pixels
    width: float
    tone: tuple  # Of the body
    blur: float  # Of the outlines, pixels
    noise: float  # Grey levels
    shadow: float  # Share of the light that it takes
    shadow_towards: tuple  # Unit vector


def ellipse_cover(shape, middle, half_axes, angle, blur):
    "Share of each pixel that a blurred ellipse covers"
    cover = np.zeros(shape, np.uint8)
    cv2.ellipse(
        cover,
        center=tuple(int(round(16 * value)) for value in middle),
        axes=tuple(int(round(16 * value)) for value in half_axes),
        angle=np.degrees(angle),
        startAngle=0,
        endAngle=360,
        color=255,
        thickness=-1,
        lineType=cv2.LINE_AA,
        shift=4,
    )
    return cv2.GaussianBlur(cover.astype(np.float32) / 255, (0, 0), blur)[..., None]


def plain_floor(shape, seed=0, level=190, grey=False):
    "A floor with broad unevenness, slightly coloured"
    random = np.random.default_rng(seed)
    broad = cv2.GaussianBlur(random.normal(0, 1, shape).astype(np.float32), (0, 0), 20)
    broad = 14 * broad / broad.std()
    colour = np.array([0, 0, 0] if grey else [6, 0, -8], np.float32)
    return (level + broad[..., None] + colour).clip(0, 255).astype(np.uint8)


def walk_of(n, shape, stay=False):
    "Middles and headings of a walk round and round that covers the floor"
    turn = np.linspace(0, 4 * np.pi, n)
    reach = np.array([shape[1], shape[0]]) * (0.22 + 0.1 * np.cos(turn / 2))[:, None]
    middles = np.array([shape[1], shape[0]]) / 2 + reach * np.stack([np.cos(turn), np.sin(turn)], 1)
    step = np.gradient(middles, axis=0)
    headings = np.arctan2(step[:, 1], step[:, 0])
    if stay:
        middles = np.repeat(middles[:1], n, 0)
    return middles, headings


def write_walk(
    folder,
    n=60,
    shape=(240, 320),
    tone=(60, 50, 45),
    floor=None,
    grey=False,
    length=52,
    width=24,
    blur=1.2,
    noise=3.0,
    shadow=0.3,
    jump=0,
    stay=False,
    seed=0,
):
    "Write the frames, with `jump` pixels of camera shake; with `stay` the animal turns on the spot. A `Walk`"
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    floor = plain_floor(shape, seed, grey=grey) if floor is None else floor
    middles, headings = walk_of(n, shape, stay)
    towards = np.array([0.8, 0.6])
    for number, (middle, heading) in enumerate(zip(middles, headings)):
        ahead = np.array([np.cos(heading), np.sin(heading)])
        place = dict(angle=heading, blur=blur)
        dark = ellipse_cover(shape, middle + 9 * towards, (length / 2, width / 2), heading, 2.0)
        body = ellipse_cover(shape, middle, (length / 2, width / 2), **place)
        nose = ellipse_cover(
            shape, middle + 0.3 * length * ahead, (0.08 * length, 0.12 * width), **place
        )
        frame = floor * (1 - shadow * dark)
        frame = frame * (1 - body) + np.array(tone, np.float32) * body
        frame = frame * (1 - 0.4 * nose) + 255 * 0.4 * nose * (0.3 if grey else 0.5)
        grain = random.normal(0, noise, (*shape, 1 if grey else 3))
        frame = (frame + grain).clip(0, 255).round().astype(np.uint8)
        shift = random.integers(-jump, jump + 1, 2) if jump else (0, 0)
        frame = np.roll(frame, shift, (0, 1))
        Image.fromarray(frame).save(folder / f'frame{number:03d}.png')
    return Walk(
        folder,
        floor=floor,
        middles=middles,
        headings=headings,
        length=length,
        width=width,
        tone=tone,
        blur=blur,
        noise=noise,
        shadow=shadow,
        shadow_towards=tuple(towards),
    )
