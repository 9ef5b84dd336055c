"A run at a size that trains in seconds, for the notebooks of the room `use` and the tests."

from geomrecon.core.skeleton import MOUSE4
from geomrecon.learn.presets import get_preset
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
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
