"Our own labels of the unlabelled video: readable, plausible, and as good as their page says."

import importlib.util
import re

import cv2
import numpy as np
import pytest
from geomrecon.core.errors import DataError, MediaError
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.images import read_image
from geomrecon.data.video import write_video
from geomrecon.data.video_reader import VideoReader
from geomrecon.readers.label_coco import read_labels
from geomrecon.readers.label_csv import write_dlc_csv
from geomrecon.readers.labelled_frames import LabelledFrames

SNOUT, LEFT, RIGHT, TAIL = (
    MOUSE4.joints.index(j) for j in ('snout', 'leftear', 'rightear', 'tailbase')
)
SWAPPED_BY_THE_ANNOTATOR = 34  # Row of dev_labels.csv
ROUNDS = dict(first=slice(0, 10), second=slice(10, 20), third=slice(20, 27))


@pytest.fixture(scope='session')
def script(repo):
    "bench/own_labels.py as a module"
    spec = importlib.util.spec_from_file_location('own_labels', repo / 'bench' / 'own_labels.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def folder(repo):
    return repo / 'results' / 'own_labels'


@pytest.fixture(scope='session')
def labels(folder):
    return read_labels(folder / 'openfield_m3v1.csv', MOUSE4)


@pytest.fixture(scope='session')
def again(folder):
    return read_labels(folder / 'openfield_m3v1_again.csv', MOUSE4)


@pytest.fixture(scope='session')
def practice(folder):
    return read_labels(folder / 'openfield_dev_practice.csv', MOUSE4)


@pytest.fixture(scope='session')
def annotators(openfield):
    return read_labels(openfield / 'dev_labels.csv', MOUSE4)


def ears_apart(keypoints):
    "How far the left ear lies to the left of the right one, seen along the body, pixels"
    ahead = keypoints[:, SNOUT] - keypoints[:, TAIL]
    ahead = ahead / np.linalg.norm(ahead, axis=-1, keepdims=True)
    left = np.stack([ahead[:, 1], -ahead[:, 0]], -1)  # a quarter turn; y points down
    return ((keypoints[:, LEFT] - keypoints[:, RIGHT]) * left).sum(-1)


def lengths(keypoints):
    "Pixels between the ears, from their middle to the snout, and to the tail base"
    middle = (keypoints[:, LEFT] + keypoints[:, RIGHT]) / 2
    ears = keypoints[:, LEFT] - keypoints[:, RIGHT]
    parts = (ears, keypoints[:, SNOUT] - middle, keypoints[:, TAIL] - middle)
    return [np.linalg.norm(part, axis=-1) for part in parts]


def row_of(folder, name):
    "The numbers of the first row of a table in the README that begins with this name"
    text = (folder / 'README.md').read_text(encoding='utf-8')
    cells = re.search(rf'^\| {name} \|(.*)\|$', text, re.MULTILINE)[1]
    return [float(number) for number in re.findall(r'\d+\.\d+', cells)]


# The files


def test_forty_frames_and_ten_again(labels, again):
    assert labels.keypoints.shape == (40, 4, 2)
    assert again.keypoints.shape == (10, 4, 2)
    assert labels.visible.all()
    assert again.visible.all()
    assert len(set(labels.names)) == 40
    assert len(set(again.names)) == 10
    assert set(again.names) <= set(labels.names)


def test_frames_are_those_of_the_rule(labels, script):
    numbers = [script.frame_number(name) for name in labels.names]
    assert numbers == script.chosen_frames().tolist()
    middles = (np.arange(40) + 0.5) * script.N_FRAMES / 40
    assert np.abs(numbers - middles).max() < 30, 'one frame of each part of the video'


def test_labels_lie_in_the_picture(labels, again):
    for keypoints in (labels.keypoints, again.keypoints):
        assert (keypoints >= 0).all()
        assert (keypoints <= [639, 479]).all()


def test_left_ears_are_on_the_left(labels, again):
    assert ears_apart(labels.keypoints).min() > 10
    assert ears_apart(again.keypoints).min() > 10


def test_lengths_are_those_of_a_mouse(labels):
    ears, snout, body = lengths(labels.keypoints)
    assert 12 < ears.min()
    assert ears.max() < 28
    assert 2 < snout.min()
    assert snout.max() < 25
    assert 90 < body.min()
    assert body.max() < 130


def test_no_image_is_kept_here(folder):
    assert {path.suffix for path in folder.iterdir()} == {'.csv', '.md'}


# What the page says


def test_repeat_error_is_as_stated(labels, again, folder, script):
    apart = script.repeat_distances(labels, again)
    for joint, name in enumerate(MOUSE4.joints):
        stated = row_of(folder, name)
        assert (
            np.abs(np.array(stated) - [np.median(apart[:, joint]), apart[:, joint].mean()]).max()
            < 0.06
        )
    assert np.abs(np.array(row_of(folder, 'all')) - [np.median(apart), apart.mean()]).max() < 0.06
    assert apart.max() < 2.55
    assert apart.min() >= 0
    assert (apart > 0).mean() > 0.9, 'labelled again, not copied'


def test_practice_is_as_stated(practice, annotators, folder):
    rows = [annotators.names.index(name) for name in practice.names]
    apart = np.linalg.norm(practice.keypoints - annotators.keypoints[rows], axis=-1)
    for name, part in ROUNDS.items():
        medians = [*np.median(apart[part], 0), np.median(apart[part])]
        means = [*apart[part].mean(0), apart[part].mean()]
        stated = np.array(row_of(folder, name)).reshape(-1, 2)
        assert np.abs(stated - np.stack([medians, means], -1)).max() < 0.06, name


def test_left_ears_moved_out_are_nearer_to_the_annotators(practice, annotators):
    "The one steady difference that practice has shown"
    rows = [annotators.names.index(name) for name in practice.names]
    outwards = practice.keypoints[:, LEFT] - practice.keypoints[:, RIGHT]
    outwards /= np.linalg.norm(outwards, axis=-1, keepdims=True)
    missing = annotators.keypoints[rows, LEFT] - practice.keypoints[:, LEFT]
    along = (missing * outwards).sum(-1)
    assert abs(along.mean() - 1) < 0.3
    after = np.linalg.norm(missing - outwards, axis=-1)
    assert after[10:].mean() < np.linalg.norm(missing, axis=-1)[10:].mean()


def test_annotators_follow_the_same_rule(annotators, labels):
    "Ears are on their sides there too, but for one frame; lengths are alike"
    wrong = np.flatnonzero(ears_apart(annotators.keypoints) < 0)
    assert wrong.tolist() == [SWAPPED_BY_THE_ANNOTATOR]
    pairs = zip(lengths(labels.keypoints), lengths(annotators.keypoints))
    for (ours, theirs), tolerance in zip(pairs, (2, 3, 5)):
        assert abs(np.median(ours) - np.median(theirs)) < tolerance


# The frames of a video


def numbered(number):
    "A picture with as many bright columns as its number says"
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, : number + 1] = 255
    return picture


def video_and_labels(tmp_path, names):
    write_video(tmp_path / 'v.mp4', [numbered(number) for number in range(20)], 20)
    keypoints = np.full((len(names), 4, 2), 20.0)
    write_dlc_csv(tmp_path / 'labels.csv', keypoints, None, MOUSE4, index=names)
    return tmp_path / 'v.mp4', tmp_path / 'labels.csv'


def test_frames_are_written_under_their_names(tmp_path, script):
    names = ['v/img00003.png', 'v/img00011.png', 'v/img00017.png']
    video, csv = video_and_labels(tmp_path, names)
    written = script.extract_frames(video, csv, tmp_path / 'frames')
    assert [path.relative_to(tmp_path / 'frames').as_posix() for path in written] == names
    reader = VideoReader(video)
    for path, number in zip(written, (3, 11, 17)):
        assert (read_image(path) == reader[number]).all()
        assert (read_image(path)[24].mean(-1) > 128).sum() == number + 1
    labelled = LabelledFrames(
        read_labels(csv, MOUSE4), tmp_path / 'frames', crop='whole', size=48, progress=False
    )
    assert labelled.names == names


@pytest.mark.parametrize(
    'name, error, told',
    [
        ('v/img00020.png', MediaError, 'frame 20'),
        ('v/last.png', DataError, 'no number'),
        ('../img00003.png', DataError, 'leaves the folder'),
    ],
)
def test_nothing_is_written_for_a_bad_name(tmp_path, script, name, error, told):
    video, csv = video_and_labels(tmp_path, ['v/img00003.png', name])
    with pytest.raises(error, match=told):
        script.extract_frames(video, csv, tmp_path / 'frames')
    assert not (tmp_path / 'frames').exists()


def test_frames_of_the_real_video(openfield, labels, folder, script, tmp_path):
    "OpenCV's frame of the same number is the same picture; the labels lie on the dark animal"
    csv = folder / 'openfield_m3v1.csv'
    files = script.extract_frames(openfield / 'm3v1.mp4', csv, tmp_path)
    labelled = LabelledFrames(labels, tmp_path, crop='whole', size=64, progress=False)
    assert len(labelled) == 40
    assert labelled.visible.all()
    capture = cv2.VideoCapture(str(openfield / 'm3v1.mp4'))
    numbers = [script.frame_number(name) for name in labels.names[:4]]
    for number in range(max(numbers) + 1):
        picture = capture.read()[1]
        if number in numbers:
            written = cv2.imread(str(files[numbers.index(number)]))
            assert np.abs(picture.astype(int) - written).mean() < 1
    for file, keypoints in zip(files, labels.keypoints):
        grey = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        middle = keypoints[[SNOUT, TAIL]].mean(0).round().astype(int)
        near = grey[middle[1] - 3 : middle[1] + 4, middle[0] - 3 : middle[0] + 4]
        assert near.mean() < 100, file.name
