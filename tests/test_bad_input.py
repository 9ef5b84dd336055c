"Bad input ends in one typed error that names what is wrong, and work done before it is kept."

import cv2
import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from geomrecon.core.errors import (
    DataError,
    GeomReconError,
    LabelError,
    MediaError,
    NonFiniteLossError,
)
from geomrecon.core.skeleton import HAND21, MOUSE4
from geomrecon.data.augment import TensorPoses
from geomrecon.data.frames import VideoFrames
from geomrecon.data.pairs import FramePairs, pose_dls
from geomrecon.data.video import write_video
from geomrecon.learn.checkpoint import Checkpoint, load_checkpoint
from geomrecon.learn.learner import pose_learner
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.readers.label_csv import read_dlc_csv, write_dlc_csv
from geomrecon.use.cli import main
from test_one_step import MINI


@pytest.fixture
def clip(tmp_path):
    "A video of twelve frames"
    puppets = PuppetVideos(MOUSE4, 1, 12, 64, style='real', seed=0)
    images = puppets.batch(np.arange(12))['image']
    frames = [image.permute(1, 2, 0).numpy() for image in images]
    return write_video(tmp_path / 'clip.mp4', frames, 10)


# Videos and images


@pytest.mark.parametrize('content', [None, b'', b'not a video', b'\x00' * 4096])
def test_missing_or_unreadable_video(tmp_path, content):
    path = tmp_path / 'v.mp4'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match='v.mp4'):
        VideoFrames(path, crop='whole', progress=False)


def test_zero_frames(tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(GeomReconError, match='empty'):
        VideoFrames(tmp_path / 'empty', crop='whole', progress=False)


def test_corrupt_image_is_counted(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f'{i}.png'), np.full((32, 32, 3), 40 * i, np.uint8))
    whole = (tmp_path / '1.png').read_bytes()
    (tmp_path / '1.png').write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match='1'):
        frames = VideoFrames(tmp_path, size=32, crop='whole', progress=False)
    assert len(frames) == 2


def test_no_motion(tmp_path):
    grey = np.full((64, 64, 3), 128, np.uint8)
    write_video(tmp_path / 'still.mp4', [grey] * 8, 10)
    with pytest.raises(DataError, match='motion'):
        VideoFrames(tmp_path / 'still.mp4', crop='motion', progress=False)


def test_fewer_frames_than_the_stride(clip):
    frames = VideoFrames(clip, size=32, crop='whole', progress=False)
    with pytest.raises(DataError, match='12 frames'):
        FramePairs(frames, (20, 30))


# Labels


def test_csv_of_another_skeleton(tmp_path):
    write_dlc_csv(tmp_path / 'l.csv', np.zeros((2, 21, 2)), None, skeleton=HAND21)
    with pytest.raises(LabelError, match='snout'):
        read_dlc_csv(tmp_path / 'l.csv', MOUSE4)


def test_absurd_coordinates(tmp_path):
    keypoints = np.zeros((2, 4, 2))
    keypoints[1, 2, 0] = 1e9
    write_dlc_csv(tmp_path / 'l.csv', keypoints, None, skeleton=MOUSE4)
    with pytest.raises(LabelError, match='rightear'):
        read_dlc_csv(tmp_path / 'l.csv', MOUSE4)


def test_nan_coordinates_are_not_labels(tmp_path):
    keypoints = np.zeros((2, 4, 2))
    keypoints[1, 2] = np.nan
    write_dlc_csv(tmp_path / 'l.csv', keypoints, None, skeleton=MOUSE4)
    visible = read_dlc_csv(tmp_path / 'l.csv', MOUSE4).visible
    assert visible.tolist() == [[True] * 4, [True, True, False, True]]


def test_nan_in_labelled_source():
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    keypoints = torch.full((1, 4, 2), float('nan'))
    with pytest.raises(DataError, match='sample 0'):
        TensorPoses(images, keypoints, torch.ones(1, 4), MOUSE4)


# Training


class Poison(Callback):
    "Makes all images of the second epoch NaN"

    def before_batch(self):
        if self.training and self.epoch == 1:
            self.learn.xb = (self.xb[0] * float('nan'),)


def test_non_finite_loss_names_the_term_and_keeps_the_checkpoint(tmp_path):
    source = PuppetImages(MOUSE4, 100, 48, 'synthetic', seed=0)
    valid = PuppetImages(MOUSE4, 4, 48, 'synthetic', seed=1)
    dls = pose_dls(source, valid, steps=2, bs=4, device='cpu')
    file = tmp_path / 'c.ckpt'
    learn = pose_learner(dls, MINI, cbs=[Checkpoint(file), Poison()])
    with learn.no_bar(), learn.no_logging():
        with pytest.raises(NonFiniteLossError, match="'sup'.*epoch 1"):
            learn.fit(3)

    state = load_checkpoint(file)
    assert state['epoch'] == 1
    for values in state['model'].values():
        assert not values.is_floating_point() or values.isfinite().all()


# Commands


def adapt(skeleton='mouse', target='clip.mp4', **options):
    "Arguments of `geomrecon adapt` in the folder {d}"
    arguments = ['adapt', '--skeleton', skeleton, '--target', f'{{d}}/{target}', '--out', '{d}/o']
    for option, value in options.items():
        arguments += [f'--{option}', value]
    return arguments


def demo(*options):
    "Arguments of `geomrecon demo` in the folder {d}"
    return ['demo', *options, '--out', '{d}/o', '--no-bar']


PREDICT = ['predict', '--model', '{d}/nothing', '--input', '{d}/clip.mp4', '--out', '{d}/o']


@pytest.mark.parametrize(
    'arguments,error',
    [
        (PREDICT, 'CheckpointError'),
        (adapt(skeleton='cat'), 'SkeletonError'),
        (adapt(target='gone.mp4', preset='tiny'), 'MediaError'),
        (adapt(eval='{d}/gone.csv'), 'LabelError'),
        (adapt(preset='giant'), 'ConfigError'),
        (demo('--control', 'perhaps'), 'ConfigError'),
        (demo('--preset', 'giant'), 'ConfigError'),
    ],
)
def test_commands_end_with_one_line(tmp_path, clip, capsys, arguments, error):
    assert main([argument.format(d=tmp_path) for argument in arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert error in lines[0]
