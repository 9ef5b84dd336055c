"Labels of the target domain are never read in training."

import numpy as np, pytest, torch
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.core.errors import GeomReconError
from geomrecon.learn.presets import get_preset
from geomrecon.use.task import Task
from geomrecon.core.skeleton import MOUSE4
from test_one_step import MINI

SMALL = get_preset(MINI, steps=3, epochs=1, adapt_epochs=2)


class Guarded:
    "A frame source on which anything but frames is forbidden"

    def __init__(self, frames):
        self.__dict__['_f'] = frames

    def __len__(self):
        return len(self._f)

    def __getattr__(self, k):
        assert k in ('images', 'video_id', 'frame', 'intrinsics'), (
            f'training touched {k!r} of the target'
        )  # A camera's calibration is no label
        return getattr(self.__dict__['_f'], k)


def train(out, frames):
    src = PuppetImages(MOUSE4, 500, 48, 'synthetic', seed=0)
    val = PuppetImages(MOUSE4, 8, 48, 'synthetic', seed=1)
    task = Task(out, src, val, frames, SMALL, seed=3, device='cpu')
    learn, _ = task.pretrain(bar=False)
    return task.adapt(learn.model.pose, bar=False)[0].model.state_dict()


def test_training_touches_only_frames(tmp_path):
    vids = PuppetVideos(MOUSE4, 2, 24, 48, 'real', seed=0)
    train(tmp_path, Guarded(vids.frames()))


def test_training_does_not_depend_on_target_labels(tmp_path, monkeypatch):
    a = train(tmp_path / 'a', PuppetVideos(MOUSE4, 2, 24, 48, 'real', seed=0).frames())
    vids = PuppetVideos(MOUSE4, 2, 24, 48, 'real', seed=0)

    def forbidden(self, idxs):
        raise AssertionError('a label of the target was asked for')

    monkeypatch.setattr(PuppetVideos, 'batch', forbidden)
    b = train(tmp_path / 'b', vids.frames())
    assert all(torch.equal(x, y) for x, y in zip(a.values(), b.values()))


def test_unlabelled_view_gives_no_labels():
    f = PuppetVideos(MOUSE4, 1, 4, 48, 'real', seed=0).frames()
    for k in ('batch', 'keypoints', 'visible', 'joints3d', 'labels', 'skeleton'):
        assert not hasattr(f, k), k


def test_frames_of_a_data_set_carry_no_labels(tmp_path):
    "The target side of a reader knows pictures and boxes alone: with every label destroyed, training arrives at the same weights"
    from dataclasses import replace
    from fixtures_hands import write_mvhand
    from geomrecon.readers.mvhand import MVHand
    from geomrecon.core.skeleton import HAND21

    write_mvhand(tmp_path / 'MVHand')
    small = SMALL.changed(stride=(1, 2))
    got = []
    src = PuppetImages(HAND21, 500, 48, 'synthetic', seed=0)
    val = PuppetImages(HAND21, 8, 48, 'synthetic', seed=1)
    for name in ('kept', 'gone'):
        ds = MVHand(tmp_path / 'MVHand', split='all', size=48)
        frames = Guarded(ds.frames())
        if name == 'gone':
            ds.px[:] = np.nan
            ds.visible[:] = False
            ds.joints3d[:] = np.nan
        task = Task(tmp_path / name, src, val, frames, small, seed=3, device='cpu')
        learn, _ = task.pretrain(bar=False)
        got.append(task.adapt(learn.model.pose, bar=False)[0].model.state_dict())
    assert all(torch.equal(x, y) for x, y in zip(got[0].values(), got[1].values()))
    for k in ('batch', 'keypoints', 'visible', 'joints3d', 'labels', 'skeleton'):
        assert not hasattr(ds.frames(), k), k


def test_eval_labels_change_no_weight(tmp_path, monkeypatch):
    "`adapt --eval` with right, with wrong and without labels arrives at the same weights"
    import cv2
    from geomrecon.use.adapt import adapt
    from geomrecon.readers.label_csv import write_dlc_csv
    from geomrecon.data.video import write_video
    from geomrecon.core.geometry import to_pixels

    v = PuppetVideos(MOUSE4, 1, 30, 64, 'real', seed=0, split='test')
    b = v.batch(np.arange(30))
    write_video(tmp_path / 'm.mp4', (x.permute(1, 2, 0).numpy() for x in b['image']), 20)
    for i, x in enumerate(b['image'][:3]):
        cv2.imwrite(str(tmp_path / f'{i}.png'), x.permute(1, 2, 0).numpy()[..., ::-1])
    px = to_pixels(b['keypoints'][:3], 64).numpy()
    rng = np.random.default_rng(0)
    got = []
    for name, labels in (('right', px), ('wrong', rng.uniform(0, 64, px.shape)), ('none', None)):
        if labels is not None:
            write_dlc_csv(
                tmp_path / f'{name}.csv', labels, None, MOUSE4, index=[f'{i}.png' for i in range(3)]
            )
        adapt(
            'mouse',
            tmp_path / 'm.mp4',
            tmp_path / name,
            crop='whole',
            eval=labels is not None and tmp_path / f'{name}.csv' or None,
            preset=SMALL,
            pool=32,
            video=False,
            bar=False,
        )
        got.append(torch.load(tmp_path / name / 'model.pth', weights_only=True)['model'])
    for other in got[1:]:
        assert all(torch.equal(x, y) for x, y in zip(got[0].values(), other.values()))


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

    def __init__(self, vids):
        self.vids = vids

    def __len__(self):
        return len(self.vids)

    def batch(self, idxs):
        b = self.vids.batch(idxs)
        return dict(
            b, keypoints=-b['keypoints'], visible=~b['visible'], joints3d=b['joints3d'] * torch.nan
        )


def test_whole_method_does_not_depend_on_target_labels(tmp_path):
    "Style, alignment, depth, integrated labels and reconstruction: with labels for measuring, with wrong ones and without any, bit by bit the same weights"
    got, quality = [], {}
    for name, labels in (('right', lambda v: v), ('wrong', Wrong), ('none', lambda v: None)):
        vids = PuppetVideos(MOUSE4, 2, 24, 48, 'real', seed=0)
        src = PuppetImages(MOUSE4, 500, 48, 'synthetic', seed=0)
        val = PuppetImages(MOUSE4, 8, 48, 'synthetic', seed=1)
        task = Task(
            tmp_path / name,
            src,
            val,
            Guarded(vids.frames()),
            FULL,
            seed=3,
            device='cpu',
            quality=labels(vids),
        )
        base = task.align(task.pretrain(bar=False)[0].model.pose, bar=False)[0]
        learn = task.adapt(base.model.pose, bar=False)[0]
        got.append(
            {
                **base.model.state_dict(),
                **{f'adapted.{k}': v for k, v in learn.model.state_dict().items()},
            }
        )
        if labels(vids) is not None:
            quality[name] = learn.label_quality.epochs
    for other in got[1:]:
        assert got[0].keys() == other.keys() and all(
            torch.equal(x, y) for x, y in zip(got[0].values(), other.values())
        )
    assert quality['right'] != quality['wrong'], (
        'the labels were not looked at: the test shows nothing'
    )
