"A run at a size that trains in seconds, for the notebooks of the room `use` and the tests."

import cv2
import numpy as np
from geomrecon.core.geometry import to_pixels
from geomrecon.core.skeleton import MOUSE4
from geomrecon.learn.presets import get_preset
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.readers.label_coco import read_labels
from geomrecon.readers.label_csv import write_dlc_csv
from geomrecon.use.task import Task

SMALL = get_preset(
    'tiny',
    style_widths=(8, 16),
    style_encoder_epochs=1,
    style_epochs=2,
    style_bs=6,
    align_epochs=1,
    size=48,
    width=0.25,
    deconv_width=32,
    bs=8,
    adapt_bs=6,
    adapt_bs_target=4,
    warp_width=16,
    gen_width=8,
    gen_res=1,
    steps=5,
    epochs=2,
    adapt_epochs=2,
    rec_start=0.0,
    rec_attach=1.0,
    rotate=180.0,
)


def mouse_videos(split, n_videos=3, n_frames=30):
    "Rendered videos of the target domain"
    return PuppetVideos(MOUSE4, n_videos, n_frames, 48, 'real', seed=0, split=split)


def small_task(folder, preset=SMALL, **options):
    "Rendered mice of two styles as source and target"
    return Task(
        folder,
        PuppetImages(MOUSE4, 100_000, 48, 'synthetic', seed=0),
        PuppetImages(MOUSE4, 16, 48, 'synthetic', seed=1),
        mouse_videos('train').frames(),
        preset,
        device='cpu',
        **options,
    )


MINI = SMALL.changed(style_epochs=1, integrate=1.0, steps=4, rotate=25.0)


def labelled_pictures(folder, n=12, size=96, name='labels.csv'):
    "Pictures of a rendered mouse with a DeepLabCut file of their labels; the labels"
    mouse = PuppetVideos(MOUSE4, 1, n, size, 'real', seed=3, split='test').batch(np.arange(n))
    (folder / 'dev').mkdir(parents=True, exist_ok=True)
    names = [f'dev/{i:02}.png' for i in range(n)]
    for picture_name, image in zip(names, mouse['image']):
        picture = image.permute(1, 2, 0).numpy()
        cv2.imwrite(str(folder / picture_name), picture[..., ::-1])
    pixels = to_pixels(mouse['keypoints'], size).numpy()
    write_dlc_csv(folder / name, pixels, None, MOUSE4, index=names)
    return read_labels(folder / name, MOUSE4)
