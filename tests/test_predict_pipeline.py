"""Prediction in one pass: the same files as the straightforward way gives, one decoding, one look of the net at each
frame, few frames in memory, and an end that leaves nothing half done, whatever ends it."""

import os
import shutil
import signal
import threading
import time
import weakref
import numpy as np
import pytest
import torch
import geomrecon.use.predict as prediction
import geomrecon.use.streamed as streamed
from geomrecon.core.errors import MediaError
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data import video as video_module
from geomrecon.data import video_reader
from geomrecon.data.frames import VideoFrames
from geomrecon.data.video import read_video, video_info, write_video
from geomrecon.learn.learner import build_model
from geomrecon.models.adapter import PoseAdapter
from geomrecon.readers.label_csv import read_dlc_csv
from geomrecon.use.cli import main
from geomrecon.use.commands import write_diagnosis
from geomrecon.use.model_file import save_model
from geomrecon.use.predict import labelled_frames, open_media, predict_and_write, predict_frames
from geomrecon.use.predict import predict_frames_3d, write_predictions, write_predictions_3d
from fixtures_own import write_walking_clip
from fixtures_use import SMALL


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "A walking animal as video and as images, a table of boxes, and nets without and with depth"
    folder = tmp_path_factory.mktemp('pipeline')
    clip = write_walking_clip(folder)
    rows = ''.join(f'{number},{20 + number / 4},10,60,60\n' for number in range(60))
    (folder / 'boxes.csv').write_text('frame,x,y,w,h\n' + rows)
    nets = {}
    for depth in (False, True):
        torch.manual_seed(0)
        preset = SMALL.changed(depth=depth)
        model = build_model(MOUSE4, preset)
        # heatmaps of a net that has learned nothing are nearly flat
        model.pose.head.weight.data.normal_(std=0.3)
        name = 'deep' if depth else 'flat'
        save_model(folder / f'{name}.pth', model, MOUSE4, preset, crop='whole')
        nets[name] = model.eval(), preset
    lab = dict(folder=folder, video=clip.video, images=clip.images, nets=nets)
    lab['whole'] = folder / 'whole'
    assert run(lab, lab['whole'], 'deep', ['--no-diagnosis']) == 0
    assert not list(lab['whole'].glob('*_part.*'))
    return lab


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert threads() == []


def threads():
    return [one.name for one in threading.enumerate() if one.name.startswith('geomrecon')]


def straightforward(net, source, out, **options):
    "As before: crops first, then the net for the plane, the net for depth, and a second reading to draw"
    model, preset = net
    frames = VideoFrames([source], preset.size, progress=False, **options)
    px, likelihood, _ = predict_frames(model, frames)
    write_predictions(out, frames, px, likelihood, MOUSE4)
    if model.pose.has_depth:
        xyz, ok = predict_frames_3d(model, frames, MOUSE4, preset.focal)
        write_predictions_3d(out, frames, xyz, ok, MOUSE4)
    return list(labelled_frames(frames, [(px, likelihood)], MOUSE4))


def in_one_pass(net, source, out, monkeypatch=None, draw=True, **options):
    "The new way, and the pictures that went to the encoder or into overlays"
    model, preset = net
    drawn = []
    real = prediction.draw_pose

    def noted(*args, **kwargs):
        drawn.append(real(*args, **kwargs))
        return drawn[-1]

    if monkeypatch is not None:
        monkeypatch.setattr(prediction, 'draw_pose', noted)
    frames = streamed.StreamedFrames([source], preset.size, progress=False, **options)
    predict_and_write(model, MOUSE4, preset, frames, out, video=draw, progress=False)
    if monkeypatch is not None:
        monkeypatch.undo()
    return drawn


def tables_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != '.mp4'}


CASES = [
    ('flat', 'video', dict(crop='whole')),
    ('deep', 'video', dict(crop='motion')),
    ('deep', 'video', dict(crop='{boxes}')),
    ('deep', 'video', dict(crop='whole', step=3)),
    ('flat', 'images', dict(crop='motion', step=2)),
]


@pytest.mark.parametrize('net,source,options', CASES)
def test_the_same_files_and_pictures_as_the_straightforward_way(
    lab, tmp_path, monkeypatch, net, source, options
):
    options = {
        key: str(value).format(boxes=lab['folder'] / 'boxes.csv') for key, value in options.items()
    }
    if 'step' in options:
        options['step'] = int(options['step'])
    before = straightforward(lab['nets'][net], lab[source], tmp_path / 'before', **options)
    now = in_one_pass(lab['nets'][net], lab[source], tmp_path / 'now', monkeypatch, **options)
    assert len(before) == len(now)
    for one, other in zip(before, now):
        assert (one == other).all()
    tables = tables_in(tmp_path / 'before')
    assert tables.items() <= tables_in(tmp_path / 'now').items()
    assert len(tables) == (3 if net == 'deep' else 2)


def test_the_labelled_video_is_what_was_drawn(lab, tmp_path):
    drawn = straightforward(lab['nets']['flat'], lab['video'], tmp_path / 'before', crop='whole')
    write_video(tmp_path / 'before.mp4', drawn, 25)
    in_one_pass(lab['nets']['flat'], lab['video'], tmp_path / 'now', crop='whole')
    now = list(read_video(next((tmp_path / 'now').glob('*_pose.mp4'))))
    before = list(read_video(tmp_path / 'before.mp4'))
    assert len(now) == len(before) == 60
    changes = [np.abs(one.astype(int) - other).mean() for one, other in zip(before, now)]
    assert max(changes) < 2


def run(lab, out, net='flat', options=()):
    "The exit status of the command"
    files = ['--model', str(lab['folder'] / f'{net}.pth'), '--input', str(lab['video'])]
    return main(['predict', *files, '--out', str(out), '--no-bar', *options])


# One decoding, one pass


@pytest.mark.parametrize('crop,expected', [('whole', 1), ('motion', 3)])
def test_a_video_is_decoded_once_after_its_boxes_are_known(
    lab, tmp_path, monkeypatch, crop, expected
):
    "Motion boxes take two readings of their own: the background, the boxes"
    frames_of = []
    real = video_module.decode_frames

    def counted(*args):
        frames_of.append(0)
        for frame in real(*args):
            frames_of[-1] += 1
            yield frame

    for module in (video_module, video_reader):
        monkeypatch.setattr(module, 'decode_frames', counted)
    assert run(lab, tmp_path, 'deep', ['--crop', crop]) == 0
    # the diagnosis looks at frames again, and does not decode them again
    assert (tmp_path / 'moments.png').exists()
    whole = [n for n in frames_of if n > 2]
    assert whole == [60] * expected


@pytest.mark.parametrize('net', ['flat', 'deep'])
def test_the_net_looks_once_at_each_frame(lab, tmp_path, monkeypatch, net):
    looked_at = []
    real = PoseAdapter.predict

    def counted(self, images, *args, **kwargs):
        looked_at.append(len(images))
        return real(self, images, *args, **kwargs)

    monkeypatch.setattr(PoseAdapter, 'predict', counted)
    assert run(lab, tmp_path, net, ['--no-diagnosis']) == 0
    assert sum(looked_at) == 60
    assert (tmp_path / 'predictions_3d.csv').exists() == (net == 'deep')


def test_crops_that_were_not_kept_give_the_same_diagnosis(lab, tmp_path, monkeypatch):
    model, preset = lab['nets']['flat']
    told = []
    for most in (4e9, 100_000):
        monkeypatch.setattr(streamed.KeptCrops.__init__, '__defaults__', (None, 64e6, most))
        frames = open_media(lab['video'], preset, dict(crop='whole'), progress=False, keep=True)
        done = predict_and_write(
            model, MOUSE4, preset, frames, tmp_path, video=False, progress=False
        )
        assert (len(frames.kept[0].place) == 60) == (most > 1e6)
        net = model, MOUSE4, preset, {}
        predicted = done.px, done.likelihood, done.keypoints
        told.append(write_diagnosis(net, frames, predicted, tmp_path, 0.2)[1])
        told.append((tmp_path / 'moments.csv').read_text())
    assert told[:2] == told[2:]


# Memory


def clip_of(path, n):
    "A video of a moving pattern"
    frame = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    return write_video(path, (np.roll(frame, number, 1) for number in range(n)), 30)


class Watch:
    "Counts the frames that were read and are still somewhere"

    def __init__(self, monkeypatch):
        self.alive = self.most = self.read = 0
        real = streamed.StreamedFrames.read

        def watched(frames, video):
            for number, frame in real(frames, video):
                self.begin(frame)
                yield number, frame
                del frame

        monkeypatch.setattr(streamed.StreamedFrames, 'read', watched)

    def begin(self, frame):
        self.read += 1
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(frame, self.end)

    def end(self):
        self.alive -= 1


def slowed(function, seconds):
    def slow(*args, **kwargs):
        time.sleep(seconds)
        return function(*args, **kwargs)

    return slow


@pytest.mark.parametrize('slow', ['nothing', 'net', 'drawing', 'coding'])
def test_few_frames_are_in_memory_whichever_step_is_slow(lab, tmp_path, monkeypatch, slow):
    path = clip_of(tmp_path / 'long.mp4', 160)
    watch = Watch(monkeypatch)
    if slow == 'net':
        monkeypatch.setattr(PoseAdapter, 'predict', slowed(PoseAdapter.predict, 0.05))
    if slow == 'drawing':
        monkeypatch.setattr(prediction, 'draw_pose', slowed(prediction.draw_pose, 0.003))
    if slow == 'coding':
        monkeypatch.setattr(video_module, '_even', slowed(video_module._even, 0.003))
    in_one_pass(lab['nets']['flat'], path, tmp_path / 'out', crop='whole')
    assert watch.read == 160
    # read ahead, cut ahead, in three batches, drawn ahead
    assert watch.most <= 5 + 5 + 4 * prediction.BATCH + 5
    assert watch.alive <= 1


# Ctrl-C


def press_ctrl_c_at(monkeypatch, owner, name, moment):
    "SIGINT at the n-th call of a function, in whichever thread that is"
    calls = []
    real = getattr(owner, name)

    def counted(*args, **kwargs):
        calls.append(name)
        if len(calls) == moment:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)


MOMENTS = [
    (streamed, 'crop_frame', 2),
    (PoseAdapter, 'predict', 2),
    (PoseAdapter, 'predict', 4),
    (prediction, 'draw_pose', 20),
    (video_module, '_even', 40),
]


@pytest.fixture
def python_handler():
    "The handler that Python has for Ctrl-C"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize('owner,name,moment', MOMENTS)
def test_what_was_written_before_ctrl_c_can_be_read(
    lab, tmp_path, monkeypatch, capsys, python_handler, owner, name, moment
):
    # as if it had been predicted before, with other options
    shutil.copytree(lab['whole'], tmp_path, dirs_exist_ok=True)
    whole = tables_in(tmp_path)
    press_ctrl_c_at(monkeypatch, owner, name, moment)
    assert run(lab, tmp_path, 'deep', ['--fresh', '--no-diagnosis']) == 130
    monkeypatch.undo()
    assert 'goes on where it was' in capsys.readouterr().err
    assert threads() == []
    assert not [path for path in tmp_path.iterdir() if '.tmp' in path.name]
    check_parts(tmp_path, whole)
    # the same command makes all of it, and takes the parts away
    assert run(lab, tmp_path, 'deep', ['--no-diagnosis']) == 0
    after = tables_in(tmp_path)
    assert after.keys() == whole.keys()
    for file in whole.keys() - {'predictions_made_by.json'}:
        assert after[file] == whole[file]
    assert video_info(next(tmp_path.glob('*_pose.mp4'))).n_frames == 60
    assert not list(tmp_path.glob('*_part.*'))


def check_parts(folder, whole):
    "The frames so far are in a video and in tables, as many in each; what was whole before is whole"
    for file in ('predictions.csv', 'predictions.json', 'predictions_3d.csv'):
        assert (folder / file).read_bytes() == whole[file]
    assert video_info(next(folder.glob('*_pose.mp4'))).n_frames == 60
    parts = sorted(path.name for path in folder.glob('*_part.*'))
    if not parts:
        # before the net had looked at anything
        return
    video = next(folder.glob('*_pose_part.mp4'))
    table = read_dlc_csv(folder / 'predictions_part.csv', MOUSE4)
    assert 0 < len(table.names) == video_info(video).n_frames <= 60
    lines = whole['predictions.csv'].decode().splitlines()
    assert (folder / 'predictions_part.csv').read_text().splitlines() == lines[
        : 3 + len(table.names)
    ]
    assert len(parts) == 4


def test_some_moments_leave_parts(lab, tmp_path, monkeypatch, python_handler):
    "Otherwise the test above would show nothing"
    press_ctrl_c_at(monkeypatch, PoseAdapter, 'predict', 2)
    assert run(lab, tmp_path, options=['--no-diagnosis']) == 130
    assert video_info(next(tmp_path.glob('*_pose_part.mp4'))).n_frames == 32


def test_two_ctrl_c_end_at_once(lab, tmp_path, monkeypatch, python_handler):
    real = PoseAdapter.predict

    def pressed(self, *args, **kwargs):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(PoseAdapter, 'predict', pressed)
    assert run(lab, tmp_path, options=['--no-diagnosis']) == 130
    assert [path.name for path in tmp_path.iterdir()] == ['predictions_made_by.json']


# Errors


def failing(error, at):
    "A function that fails at its n-th call"
    calls = []

    def wrap(real):
        def function(*args, **kwargs):
            calls.append(1)
            if len(calls) == at:
                raise error
            return real(*args, **kwargs)

        return function

    return wrap


PLACES = [
    (video_module, 'frame_to_rgb'),
    (streamed, 'crop_frame'),
    (PoseAdapter, 'predict'),
    (prediction, 'draw_pose'),
    (video_module, '_even'),
]


@pytest.mark.parametrize('owner,name', PLACES)
@pytest.mark.parametrize('at', [1, 3])
def test_an_error_in_any_step_is_raised_once_and_leaves_nothing(
    lab, tmp_path, monkeypatch, capsys, owner, name, at
):
    error = MediaError('clip.mp4', f'broken in {name}')
    monkeypatch.setattr(owner, name, failing(error, at)(getattr(owner, name)))
    assert run(lab, tmp_path, options=['--no-diagnosis']) == 2
    said = capsys.readouterr().err
    assert said.count(f'broken in {name}') == 1
    assert len(said.strip().splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} <= {'predictions_made_by.json'}


def test_an_error_of_another_kind_keeps_its_place(lab, tmp_path, monkeypatch):
    monkeypatch.setattr(
        prediction, 'draw_pose', failing(ZeroDivisionError('oh'), 5)(prediction.draw_pose)
    )
    with pytest.raises(ZeroDivisionError) as raised:
        in_one_pass(lab['nets']['flat'], lab['video'], tmp_path, crop='whole')
    assert '_drawn' in [entry.name for entry in raised.traceback]


# What is quicker


def test_fast_is_the_same_to_the_last_digit(lab, tmp_path):
    assert run(lab, tmp_path / 'exact', options=['--no-diagnosis']) == 0
    assert run(lab, tmp_path / 'fast', options=['--fast', '--no-diagnosis']) == 0
    exact, fast = (
        read_dlc_csv(tmp_path / name / 'predictions.csv', MOUSE4) for name in ('exact', 'fast')
    )
    change = np.abs(exact.keypoints - fast.keypoints)
    assert np.median(change) <= 0.001
    assert np.abs(exact.likelihood - fast.likelihood).max() <= 0.001
