"Bad input ends in one typed error that names what is wrong, and work done before it is kept."

import numpy as np, pytest, torch
from geomrecon.use.cli import main
from geomrecon.data.frames import VideoFrames
from geomrecon.readers.labelled_frames import LabelledFrames
from geomrecon.readers.label_csv import read_dlc_csv, write_dlc_csv
from geomrecon.data.video import write_video
from geomrecon.data.pairs import FramePairs, pose_dls
from geomrecon.data.augment import TensorPoses
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.core.errors import (
    CheckpointError,
    DataError,
    GeomReconError,
    LabelError,
    MediaError,
    NonFiniteLossError,
)
from geomrecon.learn.learner import pose_learner
from geomrecon.core.skeleton import HAND21, MOUSE4
from test_one_step import MINI


@pytest.fixture
def clip(tmp_path):
    b = PuppetVideos(MOUSE4, 1, 12, 64, 'real', seed=0).batch(np.arange(12))
    return write_video(tmp_path / 'clip.mp4', (x.permute(1, 2, 0).numpy() for x in b['image']), 10)


@pytest.mark.parametrize('content', [None, b'', b'not a video', b'\x00' * 4096])
def test_missing_or_unreadable_video(tmp_path, content):
    p = tmp_path / 'v.mp4'
    if content is not None:
        p.write_bytes(content)
    with pytest.raises(MediaError, match='v.mp4'):
        VideoFrames(p, crop='whole', progress=False)


def test_zero_frames(tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(GeomReconError, match='empty'):
        VideoFrames(tmp_path / 'empty', crop='whole', progress=False)


def test_corrupt_image_is_counted(tmp_path):
    import cv2

    for i in range(3):
        cv2.imwrite(str(tmp_path / f'{i}.png'), np.full((32, 32, 3), 40 * i, np.uint8))
    raw = (tmp_path / '1.png').read_bytes()
    (tmp_path / '1.png').write_bytes(raw[: len(raw) // 2])
    with pytest.warns(UserWarning, match='1'):
        fs = VideoFrames(tmp_path, size=32, crop='whole', progress=False)
    assert len(fs) == 2


def test_no_motion(tmp_path):
    write_video(tmp_path / 'still.mp4', [np.full((64, 64, 3), 128, np.uint8)] * 8, 10)
    with pytest.raises(DataError, match='motion'):
        VideoFrames(tmp_path / 'still.mp4', crop='motion', progress=False)


def test_csv_of_another_skeleton(tmp_path):
    write_dlc_csv(tmp_path / 'l.csv', np.zeros((2, 21, 2)), None, HAND21)
    with pytest.raises(LabelError, match='snout'):
        read_dlc_csv(tmp_path / 'l.csv', MOUSE4)


def test_absurd_coordinates(tmp_path):
    kp = np.zeros((2, 4, 2))
    kp[1, 2, 0] = 1e9
    write_dlc_csv(tmp_path / 'l.csv', kp, None, MOUSE4)
    with pytest.raises(LabelError, match='rightear'):
        read_dlc_csv(tmp_path / 'l.csv', MOUSE4)


def test_nan_coordinates_are_not_labels(tmp_path):
    kp = np.zeros((2, 4, 2))
    kp[1, 2] = np.nan
    write_dlc_csv(tmp_path / 'l.csv', kp, None, MOUSE4)
    assert read_dlc_csv(tmp_path / 'l.csv', MOUSE4).visible.tolist() == [
        [True] * 4,
        [True, True, False, True],
    ]


def test_nan_in_labelled_source():
    with pytest.raises(DataError, match='sample 0'):
        TensorPoses(
            torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
            torch.full((1, 4, 2), float('nan')),
            torch.ones(1, 4),
            MOUSE4,
        )


def test_fewer_frames_than_the_stride(clip):
    fs = VideoFrames(clip, size=32, crop='whole', progress=False)
    with pytest.raises(DataError, match='12 frames'):
        FramePairs(fs, (20, 30))


def test_non_finite_loss_names_the_term_and_keeps_the_checkpoint(tmp_path):
    from geomrecon.learn.checkpoint import Checkpoint, load_checkpoint
    from fastai.callback.core import Callback

    class Poison(Callback):
        def before_batch(self):
            if self.training and self.epoch == 1:
                self.learn.xb = (self.xb[0] * float('nan'),)

    src = PuppetImages(MOUSE4, 100, 48, 'synthetic', seed=0)
    val = PuppetImages(MOUSE4, 4, 48, 'synthetic', seed=1)
    learn = pose_learner(
        pose_dls(src, val, steps=2, bs=4, device='cpu'),
        MINI,
        cbs=[Checkpoint(tmp_path / 'c.ckpt'), Poison()],
    )
    with (
        learn.no_bar(),
        learn.no_logging(),
        pytest.raises(NonFiniteLossError, match="'sup'.*epoch 1"),
    ):
        learn.fit(3)
    st = load_checkpoint(tmp_path / 'c.ckpt')
    assert st['epoch'] == 1 and all(
        v.isfinite().all() for v in st['model'].values() if v.is_floating_point()
    )


@pytest.mark.parametrize(
    'args,says',
    [
        (
            ['predict', '--model', '{d}/nothing', '--input', '{d}/clip.mp4', '--out', '{d}/o'],
            'CheckpointError',
        ),
        (
            ['adapt', '--skeleton', 'cat', '--target', '{d}/clip.mp4', '--out', '{d}/o'],
            'SkeletonError',
        ),
        (
            [
                'adapt',
                '--skeleton',
                'mouse',
                '--target',
                '{d}/gone.mp4',
                '--out',
                '{d}/o',
                '--preset',
                'tiny',
            ],
            'MediaError',
        ),
        (
            [
                'adapt',
                '--skeleton',
                'mouse',
                '--target',
                '{d}/clip.mp4',
                '--out',
                '{d}/o',
                '--eval',
                '{d}/gone.csv',
            ],
            'LabelError',
        ),
        (
            [
                'adapt',
                '--skeleton',
                'mouse',
                '--target',
                '{d}/clip.mp4',
                '--out',
                '{d}/o',
                '--preset',
                'giant',
            ],
            'ConfigError',
        ),
        (['demo', '--control', 'perhaps', '--out', '{d}/o', '--no-bar'], 'ConfigError'),
        (['demo', '--preset', 'giant', '--out', '{d}/o', '--no-bar'], 'ConfigError'),
    ],
)
def test_commands_end_with_one_line(tmp_path, clip, capsys, args, says):
    assert main([a.format(d=tmp_path) for a in args]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1 and says in err[0], err
