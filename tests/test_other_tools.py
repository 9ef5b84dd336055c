"""Files of other tools, in and out: predictions that movement, DeepLabCut and SLEAP open; exports of CVAT, Label Studio
and SLEAP as these tools write them, made here; and bad files, each one line before anything is written.

The layouts are facts about the tools, written down here by hand: nothing of geomrecon writes what geomrecon reads.
"""

import json
import warnings
import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from geomrecon.core.errors import ConfigError, LabelError
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.frames import VideoFrames
from geomrecon.data.images import read_image
from geomrecon.data.video import write_video
from geomrecon.learn.learner import build_model
from geomrecon.readers.label_coco import read_coco, read_labels, write_coco
from geomrecon.readers.label_csv import read_dlc_csv
from geomrecon.readers.label_pictures import images_folder
from geomrecon.readers.labelled_frames import find_images
from geomrecon.readers.labelled_images import CocoPoses, DlcPoses
from geomrecon.use.cli import main
from geomrecon.use.given_labels import label_files, read_label_files
from geomrecon.use.model_file import save_model
from geomrecon.use.prediction_formats import FORMATS, check_formats, poses_of_input, write_formats
from fixtures_own import JOINTS, write_images
from fixtures_use import SMALL

FPS = 5.5
N_FRAMES = 13


def picture(seed):
    "A smooth picture"
    noise = np.random.default_rng(seed).integers(0, 255, (64, 80, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 4)


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "A folder with a net, a video, images, and files that are none"
    folder = tmp_path_factory.mktemp('lab')
    torch.manual_seed(0)
    preset = SMALL.changed(depth=False)
    model = build_model(MOUSE4, preset)
    # sure of everything, so that nothing is left empty
    model.pose.head.bias.data.fill_(0.6)
    save_model(folder / 'model.pth', model, MOUSE4, preset, crop='whole')
    write_video(folder / 'clip.mp4', [picture(seed) for seed in range(N_FRAMES)], fps=FPS)
    (folder / 'stills').mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f'stills/s{number}.png'), picture(number))
    (folder / 'text.slp').write_text('no HDF5')
    (folder / 'list.json').write_text('[1, 2]')
    (folder / 'empty.json').write_text('[{"id": 1, "data": {"image": "a.png"}, "annotations": []}]')
    return folder


def predict(lab, out, *options, source='clip.mp4'):
    "The exit status of `geomrecon predict`"
    files = ['--model', str(lab / 'model.pth'), '--input', str(lab / source), '--out', str(out)]
    return main(['predict', *files, '--no-bar', '--no-video', '--no-diagnosis', *options])


# Predictions out


def test_predict_writes_every_format(lab, tmp_path):
    pytest.importorskip('sleap_io', reason='sleap-io is not installed')
    assert predict(lab, tmp_path, '--format', 'csv,h5,coco,slp,nwb') == 0
    names = sorted(path.name for path in tmp_path.glob('predictions.*'))
    endings = ('csv', 'h5', 'json', 'nwb', 'slp')
    assert names == [f'predictions.{ending}' for ending in endings]
    expected = read_dlc_csv(tmp_path / 'predictions.csv', MOUSE4)
    for name in ('predictions.h5', 'predictions.slp', 'predictions.json'):
        got = read_labels(tmp_path / name, MOUSE4)
        assert np.allclose(got.keypoints, expected.keypoints, atol=2e-3), name
        assert np.allclose(got.likelihood, expected.likelihood, atol=2e-3), name


def test_without_the_option_predict_writes_what_it_wrote(lab, tmp_path):
    assert predict(lab, tmp_path) == 0
    assert sorted(path.name for path in tmp_path.glob('predictions.*')) == [
        'predictions.csv',
        'predictions.json',
    ]


def test_another_format_is_predicted_again_and_the_old_one_is_gone(lab, tmp_path, capsys):
    assert predict(lab, tmp_path, '--format', 'csv') == 0
    assert predict(lab, tmp_path, '--format', 'csv') == 0
    assert 'done before' in capsys.readouterr().out
    assert predict(lab, tmp_path, '--format', 'h5') == 0
    assert 'done before' not in capsys.readouterr().out
    assert [path.name for path in tmp_path.glob('predictions.*')] == ['predictions.h5']


def test_deeplabcut_h5_is_as_deeplabcut_writes_it(lab, tmp_path):
    "Key, levels, order of the columns, and a row for every frame under its number"
    assert predict(lab, tmp_path, '--format', 'h5,csv', '--step', '4') == 0
    frame = pd.read_hdf(tmp_path / 'predictions.h5', key='df_with_missing')
    assert list(frame.columns.names) == ['scorer', 'bodyparts', 'coords']
    expected = [(joint, xy) for joint in MOUSE4.joints for xy in ('x', 'y', 'likelihood')]
    assert [column[1:] for column in frame.columns] == expected
    assert frame.index.dtype.kind == 'i'
    assert frame.index.tolist() == list(range(13))
    given = frame.dropna().index.tolist()
    assert given == [0, 4, 8, 12]
    csv = read_dlc_csv(tmp_path / 'predictions.csv', MOUSE4)
    assert csv.names == [str(number) for number in given]
    at = frame['geomrecon']['tailbase'].loc[given, ['x', 'y']].to_numpy()
    assert np.allclose(at, csv.keypoints[:, 3], atol=1e-3)


def test_images_keep_their_names(lab, tmp_path):
    pytest.importorskip('sleap_io', reason='sleap-io is not installed')
    assert predict(lab, tmp_path, '--format', 'h5,slp', source='stills') == 0
    index = pd.read_hdf(tmp_path / 'predictions.h5').index.tolist()
    assert index == ['s0.png', 's1.png', 's2.png']
    labels = read_labels(tmp_path / 'predictions.slp')
    assert [find_images([name], lab)[0].name for name in labels.names] == index


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    "Predictions of every third frame in every format, and what they are"
    pytest.importorskip('sleap_io', reason='sleap-io is not installed')
    folder = tmp_path_factory.mktemp('written')
    clip = write_video(folder / 'clip.mp4', [picture(0)] * N_FRAMES, fps=FPS)
    frames = VideoFrames(clip, size=32, crop='whole', step=3, progress=False)
    rng = np.random.default_rng(0)
    px = rng.uniform(0, 60, (len(frames), 4, 2))
    likelihood = rng.uniform(0, 1, (len(frames), 4))
    poses = poses_of_input(frames, 0, px, likelihood, skeleton=MOUSE4)
    return folder, poses, write_formats(folder / 'predictions', poses, FORMATS)


#: (file, function of movement, does it give a row to every frame?)
LOADED = [
    ('predictions.csv', 'from_dlc_file', False),
    ('predictions.csv', 'from_lp_file', False),
    ('predictions.h5', 'from_dlc_file', True),
    ('predictions.slp', 'from_sleap_file', True),
    ('predictions.nwb', 'from_nwb_file', False),
]


@pytest.mark.parametrize('name,function,every_frame', LOADED)
def test_movement_opens_it(written, name, function, every_frame):
    "Names, places, confidences and frame numbers are right"
    load_poses = pytest.importorskip('movement.io.load_poses', reason='movement is not installed')
    folder, poses, _ = written
    load = getattr(load_poses, function)
    # NWB holds times itself
    data = load(folder / name) if name.endswith('.nwb') else load(folder / name, fps=None)
    names = [each for each in data.coords if each.startswith('keypoint')]
    assert sorted(data[names[0]].values) == sorted(MOUSE4.joints)
    data = data.sel({names[0]: list(MOUSE4.joints)})
    rows = poses.frames if every_frame else np.arange(len(poses.frames))
    if name.endswith('.nwb'):
        assert np.allclose(data.time.values, poses.frames / FPS, atol=1e-4)
    else:
        assert data.time.values.tolist() == list(range(N_FRAMES if every_frame else len(rows)))
    animals = next(each for each in data.position.dims if each.startswith('individual'))
    position = data.position.isel({animals: 0}).transpose('time', names[0], 'space').values
    confidence = data.confidence.isel({animals: 0}).transpose('time', names[0]).values
    assert np.allclose(position[rows], poses.px, atol=1e-3)
    assert np.allclose(confidence[rows], poses.likelihood, atol=1e-3)
    assert np.isfinite(position).all(-1).sum() == poses.px.shape[0] * 4


def test_nwb_holds_to_the_rules(written):
    pynwb = pytest.importorskip('pynwb', reason='pynwb is not installed')
    folder, _, _ = written
    assert pynwb.validate(path=str(folder / 'predictions.nwb')) == []
    with pynwb.NWBHDF5IO(str(folder / 'predictions.nwb'), 'r') as io:
        file = io.read()
        assert file.session_start_time.tzinfo is not None
        series = file.processing['behavior']['PoseEstimation'].pose_estimation_series
        assert series['snout'].rate == pytest.approx(FPS / 3)


def test_sleap_opens_predictions_on_their_video(written):
    sleap_io = pytest.importorskip('sleap_io', reason='sleap-io is not installed')
    folder, poses, _ = written
    project = sleap_io.load_slp(str(folder / 'predictions.slp'))
    assert project.videos[0].shape == (N_FRAMES, 64, 80, 3)
    assert [frame.frame_idx for frame in project.labeled_frames] == poses.frames.tolist()
    assert all(frame.predicted_instances for frame in project.labeled_frames)
    assert project.skeletons[0].node_names == list(MOUSE4.joints)
    edges = [(MOUSE4.joints[parent], MOUSE4.joints[child]) for parent, child in MOUSE4.bones]
    assert project.skeletons[0].edge_names == edges


# SLEAP in


def sleap_project(path, media, animals, n_hidden=0):
    "A file as SLEAP writes it: tracks, labels of a person, hidden points that lie anywhere"
    sleap_io = pytest.importorskip('sleap_io', reason='sleap-io is not installed')
    pairs = [('leftear', 'rightear')]
    skeleton = sleap_io.Skeleton(
        nodes=list(JOINTS), edges=[(0, 1), (0, 2), (0, 3)], symmetries=pairs, name='mouse'
    )
    video = sleap_io.Video(filename=media)
    tracks = [sleap_io.Track(name) for name in animals]
    rng = np.random.default_rng(0)
    frames = []
    for number in (1, 4):
        instances = []
        for track in tracks:
            points = np.concatenate([rng.uniform(5, 60, (4, 2)), np.ones((4, 1))], 1)
            points[:n_hidden] = [0.5, 0.5, 0]
            instances.append(sleap_io.Instance.from_numpy(points, skeleton, track=track))
        frames.append(sleap_io.LabeledFrame(video=video, frame_idx=number, instances=instances))
    labels = sleap_io.Labels(frames, videos=[video], skeletons=[skeleton], tracks=tracks)
    labels.save(str(path), verbose=False)
    return labels


def test_sleap_labels_of_several_animals(lab, tmp_path):
    made = sleap_project(tmp_path / 'two.slp', str(lab / 'clip.mp4'), ['anna', 'bert'])
    with pytest.raises(LabelError, match=r"several animals: \['anna', 'bert'\] .*individual="):
        read_labels(tmp_path / 'two.slp')
    for k, name in enumerate(('anna', 'bert')):
        labels = read_labels(tmp_path / 'two.slp', 'mouse', individual=name)
        expected = [frame.instances[k].numpy() for frame in made.labeled_frames]
        assert np.allclose(labels.keypoints, expected, atol=1e-4)
    everyone = read_labels(tmp_path / 'two.slp', individual='all')
    assert len(everyone.names) == 4
    assert everyone.skeleton.bones == ((0, 1), (0, 2), (0, 3))
    assert everyone.skeleton.flip_pairs == ((1, 2),)
    source = DlcPoses(tmp_path / 'two.slp', individual='anna', size=32, crop='whole')
    assert len(source) == 2


def test_hidden_points_of_sleap_are_not_labels(lab, tmp_path):
    sleap_project(tmp_path / 'hidden.slp', str(lab / 'clip.mp4'), ['anna'], n_hidden=2)
    labels = read_labels(tmp_path / 'hidden.slp')
    assert labels.visible.tolist() == [[False, False, True, True]] * 2
    assert read_labels(tmp_path / 'hidden.slp', hidden=True).visible.all()


@pytest.mark.parametrize('inside', [False, True], ids=['video', 'package'])
def test_frames_of_sleap_become_pictures(lab, tmp_path, inside):
    "Decoded from the video, or taken out of the file, they are the frames with these numbers"
    made = sleap_project(tmp_path / 'labels.slp', str(lab / 'clip.mp4'), ['anna'])
    file = tmp_path / 'labels.slp'
    if inside:
        file = tmp_path / 'labels.pkg.slp'
        made.save(str(file), embed='user', verbose=False)
    labels, root = read_label_files(label_files(file))
    frames = VideoFrames(lab / 'clip.mp4', size=32, crop='whole', progress=False)
    original = dict(frames.originals([1, 4]))
    for name, number in zip(labels.names, (1, 4)):
        got = read_image(root / name).astype(float)
        # a package of SLEAP was decoded by another decoder
        assert np.abs(got - original[number]).mean() < 3, name
        assert name.endswith(f'clip/img{number:05}.png')


def test_a_corrected_suggestion_of_sleap_is_the_only_label(lab, tmp_path):
    sleap_io = pytest.importorskip('sleap_io', reason='sleap-io is not installed')
    options = ['--target', str(lab / 'clip.mp4'), '--n', '2', '--step', '1', '--no-bar']
    out = tmp_path / 'out'
    command = ['suggest', '--model', str(lab / 'model.pth'), '--out', str(out), *options]
    assert main([*command, '--format', 'slp', '--threshold', '0']) == 0
    file = out / 'labeled-data/clip/CollectedData_geomrecon.slp'
    project = sleap_io.load_slp(str(file))
    # SLEAP finds the pictures
    assert project.videos[0][0].shape == (64, 80, 3)
    assert not any(frame.user_instances for frame in project.labeled_frames)
    frame = project.labeled_frames[1]
    guess = frame.predicted_instances[0]
    frame.instances.append(
        sleap_io.Instance.from_numpy(guess.numpy() + 2, project.skeletons[0], from_predicted=guess)
    )
    project.save(str(file), verbose=False)
    labels, root = read_label_files(label_files(out))
    assert len(labels.names) == 1
    assert np.allclose(labels.keypoints[0], guess.numpy() + 2, atol=1e-4)
    assert find_images(labels.names, root)[0].parent == out / 'labeled-data/clip'
    # and what was corrected is not overwritten
    assert main([*command, '--format', 'slp']) == 2


# CVAT and Label Studio in


def cvat_export(folder):
    "CVAT's 'COCO Keypoints 1.0', unpacked; keypoints (N,4,2) and the states of two mice in three frames"
    pixels = write_images(folder / 'images/default', n=3, several=())
    names = [f'frame_{number:06}.PNG' for number in range(3)]
    for old, new in zip(pixels['names'], names):
        (folder / 'images/default' / old).rename(folder / 'images/default' / new)
    images = []
    for number, name in enumerate(names, 1):
        more = dict(license=0, flickr_url='', coco_url='', date_captured=0)
        images.append(dict(id=number, width=128, height=96, file_name=name, **more))
    # of a skeleton's joints each takes a number of its own, so that ids have gaps
    skeleton = dict(
        id=2, name='mouse', supercategory='', keypoints=JOINTS, skeleton=[[4, 1], [1, 2], [1, 3]]
    )
    box = dict(id=1, name='nest', supercategory='', keypoints=[], skeleton=[])
    states = np.array([[2, 2, 1, 0], [2, 2, 2, 2], [1, 2, 2, 2]])
    annotations = []
    for number, (places, state) in enumerate(zip(pixels['keypoints'], states), 1):
        # a point that is marked as outside keeps its place and gets the state 0
        flat = []
        for (x, y), v in zip(places, state):
            flat += [round(float(x), 2), round(float(y), 2), int(v)]
        annotation = dict(
            id=number,
            image_id=number,
            category_id=2,
            segmentation=[],
            area=400.0,
            bbox=[1.0, 2.0, 20.0, 20.0],
            iscrowd=0,
            attributes=dict(occluded=False, keyframe=True),
            keypoints=flat,
            num_keypoints=int((state > 0).sum()),
        )
        annotations.append(annotation)
    content = dict(
        licenses=[dict(name='', id=0, url='')],
        info=dict(contributor='', date_created='', description='', url='', version='', year=''),
        categories=[box, skeleton],
        images=images,
        annotations=annotations,
    )
    (folder / 'annotations').mkdir()
    file = folder / 'annotations/person_keypoints_default.json'
    file.write_text(json.dumps(content))
    return file, np.array(pixels['keypoints']), states


def test_cvat_export_is_read_as_it_is_unpacked(tmp_path):
    file, keypoints, states = cvat_export(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        labels = read_labels(file, 'mouse')
    assert labels.visible.tolist() == (states > 0).tolist()
    assert np.allclose(labels.keypoints[states > 0], keypoints[states > 0], atol=0.01)
    assert labels.state.tolist() == states.tolist()
    # bones count from 1
    assert read_labels(file).skeleton.bones == ((3, 0), (0, 1), (0, 2))
    assert read_labels(file).skeleton.name == 'mouse'
    # its images are found beside the folder of the file, by labels to train on and by a source
    few, root = read_label_files([file])
    assert [path.name for path in find_images(few.names, root)] == labels.names
    assert len(CocoPoses(file, skeleton='mouse', size=32, crop='whole')) == 3
    hidden = CocoPoses(file, skeleton='mouse', size=32, crop='whole', visibility='visible')
    assert int(hidden.batch([0])['visible'].sum()) == 2


def test_cvat_needs_the_fields_that_are_written(tmp_path):
    "CVAT refuses an annotation without iscrowd, segmentation, bbox or id"
    file = tmp_path / 'a.json'
    write_coco(file, ['a.png'], np.ones((1, 4, 2)), MOUSE4, size=(96, 128))
    content = json.loads(file.read_text())
    for name in ('id', 'image_id', 'category_id', 'iscrowd', 'segmentation', 'bbox', 'keypoints'):
        assert name in content['annotations'][0], name
    assert content['annotations'][0]['segmentation'] == []
    assert {'id', 'file_name', 'height', 'width'} <= set(content['images'][0])
    assert {'id', 'name', 'supercategory', 'keypoints', 'skeleton'} <= set(content['categories'][0])


def studio_coco(folder, n_indexed=4):
    "Label Studio's COCO: ids from 0, whole pixels, boxes with categories of their own, no area"
    pixels = write_images(folder / 'images', n=2, several=())
    names = []
    for number, old in enumerate(pixels['names']):
        names.append(f'images/{number}b2c3d4e-{old}')
        (folder / 'images' / old).rename(folder / names[-1])
    places = np.array(pixels['keypoints']).round().astype(int)
    images, annotations = [], []
    for number, name in enumerate(names):
        images.append(dict(width=128, height=96, id=number, file_name=name))
        box = dict(id=2 * number, image_id=number, category_id=0, segmentation=[])
        box.update(bbox=[1.5, 2.5, 30.0, 20.0], ignore=0, iscrowd=0, area=600.0)
        annotations.append(box)
        flat = []
        for x, y in places[number, :n_indexed]:
            flat += [int(x), int(y), 2]
        points = dict(id=2 * number + 1, image_id=number, category_id=1, keypoints=flat)
        points.update(num_keypoints=n_indexed, bbox=[1, 2, 30, 20], iscrowd=0)
        annotations.append(points)
    joints = dict(id=1, name='default', supercategory='default', keypoints=JOINTS, skeleton=[])
    content = dict(
        images=images,
        categories=[dict(id=0, name='mouse'), joints],
        annotations=annotations,
        info=dict(year=2025, version='1.0', contributor='Label Studio', url='', description=''),
    )
    (folder / 'result.json').write_text(json.dumps(content))
    return folder / 'result.json', places


def test_label_studio_coco(tmp_path):
    file, places = studio_coco(tmp_path)
    with pytest.warns(UserWarning, match='model_index'):
        labels = read_coco(file, 'mouse')
    assert np.allclose(labels.keypoints, places)
    assert labels.skeleton == MOUSE4
    assert find_images(labels.names, images_folder(file, labels.names))[1].is_file()
    # without its download, one's own images are found under their own names
    for path in (tmp_path / 'images').iterdir():
        path.rename(tmp_path / path.name[9:])
    assert [path.name for path in find_images(labels.names, tmp_path)] == [
        'img000.png',
        'img001.jpg',
    ]


@pytest.mark.filterwarnings('ignore:.*model_index')
def test_label_studio_coco_without_all_indices(tmp_path):
    "A label without model_index is missing in every annotation, but not among the names"
    file, _ = studio_coco(tmp_path, n_indexed=3)
    with pytest.raises(LabelError, match=r'9 numbers \(expected 12 for 4 joints'):
        read_coco(file, 'mouse')


def studio_task(name, places):
    "A task of Label Studio's JSON"
    result = []
    for joint, (x, y) in places.items():
        value = dict(x=x, y=y, width=0.3, keypointlabels=[joint])
        region = dict(original_width=128, original_height=96, image_rotation=0, value=value)
        region.update(id='q', from_name='kp', to_name='img', type='keypointlabels', origin='manual')
        result.append(region)
    annotation = dict(id=5, completed_by=1, result=result, was_cancelled=False, ground_truth=False)
    return dict(
        id=7,
        annotations=[annotation],
        file_upload=name,
        drafts=[],
        predictions=[],
        data=dict(img=f'/data/upload/1/{name}'),
    )


def test_label_studio_json(tmp_path):
    "Places in percent, an image that was uploaded under another name, joints in any order"
    write_images(tmp_path, n=2, several=())
    places = dict(tailbase=(50, 50), snout=(25, 12.5), rightear=(0, 0), leftear=(100, 100))
    tasks = [studio_task(f'8d2e1c0f-{name}', places) for name in ('img000.png', 'img001.jpg')]
    (tmp_path / 'project.json').write_text(json.dumps(tasks))
    labels, root = read_label_files([tmp_path / 'project.json'])
    assert labels.skeleton.joints == ('tailbase', 'snout', 'rightear', 'leftear')
    assert [path.name for path in find_images(labels.names, root)] == ['img000.png', 'img001.jpg']
    mouse = read_labels(tmp_path / 'project.json', 'mouse')
    assert mouse.keypoints[0].tolist() == [[31.5, 11.5], [127.5, 95.5], [-0.5, -0.5], [63.5, 47.5]]


# Bad files and options


#: options of `adapt`, a part of the one line
BAD_LABELS = [
    ('text.slp', 'LabelError'),
    ('gone.slp', 'no such file'),
    ('list.json', 'something else than tasks'),
    ('empty.json', 'none of 1 tasks has a keypoint'),
]


@pytest.mark.parametrize('file,told', BAD_LABELS)
def test_bad_label_files_are_one_line(lab, tmp_path, capsys, file, told):
    if file.endswith('.slp'):
        pytest.importorskip('sleap_io', reason='sleap-io is not installed')
    out = tmp_path / 'out'
    command = [
        'adapt',
        '--skeleton',
        'labels',
        '--target',
        str(lab / 'clip.mp4'),
        '--crop',
        'whole',
    ]
    command += ['--labels', str(lab / file), '--out', str(out), '--preset', 'tiny', '--no-bar']
    assert main(command) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert told in lines[0]
    assert not out.exists()


def test_bad_sleap_files(lab, tmp_path):
    sleap_io = pytest.importorskip('sleap_io', reason='sleap-io is not installed')
    made = sleap_project(tmp_path / 'a.slp', str(lab / 'clip.mp4'), ['anna'])
    with pytest.raises(LabelError, match='lacks the joints'):
        read_labels(tmp_path / 'a.slp', 'hand')
    empty = sleap_io.Labels(videos=made.videos, skeletons=made.skeletons)
    empty.save(str(tmp_path / 'empty.slp'), verbose=False)
    with pytest.raises(LabelError, match='no frame is labelled'):
        read_labels(tmp_path / 'empty.slp')
    whole = (tmp_path / 'a.slp').read_bytes()
    (tmp_path / 'cut.slp').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LabelError, match='cannot be read'):
        read_labels(tmp_path / 'cut.slp')


#: options of `predict`, parts of the one line
BAD_FORMATS = [
    (['--format', 'sleap'], 'clip.mp4', "--format: 'sleap' (expected one or several of csv, coco"),
    (['--format', 'csv,,h5'], 'clip.mp4', "--format: ''"),
    (['--format', 'nwb'], 'stills', '--format: nwb for images without a frame rate'),
]


@pytest.mark.parametrize('options,source,told', BAD_FORMATS)
def test_bad_formats_are_one_line(lab, tmp_path, capsys, options, source, told):
    if 'nwb' in options:
        pytest.importorskip('pynwb', reason='pynwb is not installed')
    out = tmp_path / 'out'
    assert predict(lab, out, *options, source=source) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert told in lines[0]
    assert not out.exists()


@pytest.mark.parametrize('name,package', [('slp', 'sleap_io'), ('nwb', 'ndx_pose')])
def test_missing_packages_are_named_with_the_extra(monkeypatch, name, package):
    if name == 'nwb':
        pytest.importorskip('pynwb', reason='pynwb is not installed')
    monkeypatch.setitem(__import__('sys').modules, package, None)
    with pytest.raises(ConfigError, match=r'is not installed .*pip install geomrecon\[formats\]'):
        check_formats(f'csv,{name}')


@pytest.mark.parametrize('value', ['dlc', 'csv,slq', ''])
def test_bad_formats_of_suggest_are_one_line(lab, tmp_path, capsys, value):
    out = tmp_path / 'out'
    command = ['suggest', '--model', str(lab / 'model.pth'), '--target', str(lab / 'clip.mp4')]
    assert main([*command, '--out', str(out), '--format', value, '--no-bar']) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert 'one or several of csv, h5, coco, slp, studio' in lines[0]
    assert not out.exists()
