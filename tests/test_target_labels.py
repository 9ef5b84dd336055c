"Labels of the target domain are never read in training."

import cv2
import numpy as np
import pytest
import torch
from fixtures_hands import write_mvhand
from geomrecon.core.geometry import to_pixels
from geomrecon.core.skeleton import HAND21, MOUSE4
from geomrecon.data.video import write_video
from geomrecon.learn.presets import get_preset
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.readers.label_csv import write_dlc_csv
from geomrecon.readers.mvhand import MVHand
from geomrecon.use.adapt import adapt
from geomrecon.use.task import Task
from test_one_step import MINI

SMALL = get_preset(MINI, steps=3, epochs=1, adapt_epochs=2)
LABELS = ('batch', 'keypoints', 'visible', 'joints3d', 'labels', 'skeleton')


class Guarded:
    "A frame source on which anything but frames is forbidden; a camera's calibration is no label"

    def __init__(self, frames):
        self.__dict__['frames'] = frames

    def __len__(self):
        return len(self.__dict__['frames'])

    def __getattr__(self, name):
        allowed = ('images', 'video_id', 'frame', 'intrinsics', 'crop_motion')
        assert name in allowed, f'training touched {name!r} of the target'
        return getattr(self.__dict__['frames'], name)


def mouse_videos():
    return PuppetVideos(MOUSE4, 2, 24, 48, 'real', seed=0)


def task_of(out, frames, skeleton=MOUSE4, preset=SMALL, quality=None):
    "A small task on these frames"
    source = PuppetImages(skeleton, 500, 48, 'synthetic', seed=0)
    valid = PuppetImages(skeleton, 8, 48, 'synthetic', seed=1)
    options = dict(seed=3, device='cpu', quality=quality)
    return Task(out, source, valid, frames, preset, **options)


def train(task):
    "Weights after pre-training and adaptation"
    learn, _ = task.pretrain(bar=False)
    adapted, _ = task.adapt(learn.model.pose, bar=False)
    return adapted.model.state_dict()


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name, weight in one.items():
        assert torch.equal(weight, other[name]), name


def test_training_touches_only_frames(tmp_path):
    train(task_of(tmp_path, Guarded(mouse_videos().frames())))


def test_training_does_not_depend_on_target_labels(tmp_path, monkeypatch):
    free = train(task_of(tmp_path / 'free', mouse_videos().frames()))
    frames = mouse_videos().frames()

    def forbidden(self, idxs):
        raise AssertionError('a label of the target was asked for')

    monkeypatch.setattr(PuppetVideos, 'batch', forbidden)
    watched = train(task_of(tmp_path / 'watched', frames))
    assert_same_weights(free, watched)


@pytest.mark.parametrize('name', LABELS)
def test_unlabelled_view_gives_no_labels(name):
    frames = PuppetVideos(MOUSE4, 1, 4, 48, 'real', seed=0).frames()
    assert not hasattr(frames, name)


def test_frames_of_a_data_set_carry_no_labels(tmp_path):
    "A reader's target side knows pictures and boxes alone: labels destroyed change no weight"
    write_mvhand(tmp_path / 'MVHand')
    preset = SMALL.changed(stride=(1, 2))
    weights = {}
    for name in ('kept', 'gone'):
        dataset = MVHand(tmp_path / 'MVHand', split='all', size=48)
        frames = Guarded(dataset.frames())
        if name == 'gone':
            dataset.px[:] = np.nan
            dataset.visible[:] = False
            dataset.joints3d[:] = np.nan
        weights[name] = train(task_of(tmp_path / name, frames, HAND21, preset))
    assert_same_weights(weights['kept'], weights['gone'])
    for name in LABELS:
        assert not hasattr(dataset.frames(), name), name


def test_eval_labels_change_no_weight(tmp_path):
    "`adapt --eval` with right, with wrong and without labels arrives at the same weights"
    labels = PuppetVideos(MOUSE4, 1, 30, 64, 'real', seed=0, split='test').batch(np.arange(30))
    pictures = labels['image'].permute(0, 2, 3, 1).numpy()
    write_video(tmp_path / 'm.mp4', pictures, 20)
    names = ['0.png', '1.png', '2.png']
    for name, picture in zip(names, pictures):
        cv2.imwrite(str(tmp_path / name), picture[..., ::-1])
    right = to_pixels(labels['keypoints'][:3], 64).numpy()
    wrong = np.random.default_rng(0).uniform(0, 64, right.shape)
    write_dlc_csv(tmp_path / 'right.csv', right, None, MOUSE4, index=names)
    write_dlc_csv(tmp_path / 'wrong.csv', wrong, None, MOUSE4, index=names)
    weights = {}
    for name in ('right', 'wrong', 'none'):
        adapt(
            tmp_path / 'm.mp4',
            tmp_path / name,
            'mouse',
            crop='whole',
            eval=None if name == 'none' else tmp_path / f'{name}.csv',
            preset=SMALL,
            pool=32,
            video=False,
            bar=False,
        )
        weights[name] = torch.load(tmp_path / name / 'model.pth', weights_only=True)['model']
    assert_same_weights(weights['right'], weights['wrong'])
    assert_same_weights(weights['right'], weights['none'])


FULL = get_preset(
    SMALL,
    depth=True,
    restyle='stylenet',
    style_widths=(4, 8),
    style_encoder_epochs=1,
    style_epochs=1,
    style_bs=4,
    align_epochs=1,
    integrate=1.0,
)


class Wrong:
    "Labels that are wrong throughout, for measuring pseudo-labels with"

    def __init__(self, videos):
        self.videos = videos

    def __len__(self):
        return len(self.videos)

    def batch(self, idxs):
        labels = self.videos.batch(idxs)
        return dict(
            labels,
            keypoints=-labels['keypoints'],
            visible=~labels['visible'],
            joints3d=labels['joints3d'] * torch.nan,
        )


def test_whole_method_does_not_depend_on_target_labels(tmp_path):
    """Style, alignment, depth, integrated labels and reconstruction.

    With labels for measuring, with wrong ones and without any: bit by bit the same weights.
    """
    weights = {}
    quality = {}
    for name in ('right', 'wrong', 'none'):
        videos = mouse_videos()
        measure_with = dict(right=videos, wrong=Wrong(videos), none=None)[name]
        task = task_of(tmp_path / name, Guarded(videos.frames()), preset=FULL, quality=measure_with)
        learn, _ = task.pretrain(bar=False)
        aligned, _ = task.align(learn.model.pose, bar=False)
        adapted, _ = task.adapt(aligned.model.pose, bar=False)
        weights[name] = dict(aligned.model.state_dict())
        for key, weight in adapted.model.state_dict().items():
            weights[name][f'adapted.{key}'] = weight
        if measure_with is not None:
            quality[name] = adapted.label_quality.epochs
    assert_same_weights(weights['right'], weights['wrong'])
    assert_same_weights(weights['right'], weights['none'])
    assert quality['right'] != quality['wrong'], 'nothing was measured: the test shows nothing'
