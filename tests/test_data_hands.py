"""The hand readers against trees with known truth.

Labels, crops, cameras, mirror images, splits, pairs, bad input and damage at random."""

import json
import os
import pickle
import random
import shutil
import warnings
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import matplotlib
import numpy as np
import pytest

from fixtures_hands import (
    FREIHAND_VERSIONS,
    MVHAND_SEQS,
    write_freihand,
    write_h3d,
    write_mvhand,
    write_rhd,
)
from fuzz import fuzz, read_all
from geomrecon.core.errors import ConfigError, DataError, LabelError, MediaError
from geomrecon.core.geometry import project
from geomrecon.data.pairs import FramePairs
from geomrecon.readers.freihand import FreiHAND
from geomrecon.readers.h3d import H3D
from geomrecon.readers.mvhand import MVHand
from geomrecon.readers.rhd import RHD

DOT = 9  # the middle knuckle


# ---------------------------------------------------------------- trees
class Set(NamedTuple):
    "One set in one form, as the tests read it"

    reader: type
    split: str
    labels: str  # a label file that tests damage


SETS = dict(
    rhd=Set(RHD, 'train', 'training/anno_training.pickle'),
    rhd_mm=Set(RHD, 'train', 'annotations/rhd_train.json'),
    h3d=Set(H3D, 'all', 'annotation.json'),
    mv=Set(MVHand, 'all', '7-14-1-2/mlresults/7-14-1-2-joints.npy'),
    fh=Set(FreiHAND, 'all', 'training_xyz.json'),
    fh_mm=Set(FreiHAND, 'train', 'annotations/freihand_train.json'),
)
each_set = pytest.mark.parametrize('name', SETS)


def make(name, root, **options):
    "The reader of a set"
    return SETS[name].reader(root, SETS[name].split, **options)


def labels_of(name, root):
    return root / SETS[name].labels


@pytest.fixture(scope='module')
def trees(tmp_path_factory):
    "Every set once, with a dot on the middle knuckle: name -> (root, truth)"
    folder = tmp_path_factory.mktemp('hands')
    write = dict(
        rhd=write_rhd,
        rhd_mm=partial(write_rhd, form='mmpose'),
        h3d=write_h3d,
        mv=partial(write_mvhand, n_frames=6),
        fh=partial(write_freihand, n_eval=2),
        fh_mm=partial(write_freihand, form='mmpose'),
    )
    return {name: (folder / name, write[name](folder / name, dot=DOT)) for name in SETS}


@pytest.fixture
def copy(trees, tmp_path):
    "A copy of one tree that a test may damage"

    def make_copy(name, **options):
        shutil.copytree(trees[name][0], tmp_path / name, **options)
        return tmp_path / name

    return make_copy


def truth_of(trees, name):
    "Root, and truth over the samples of the set as the tests read it"
    root, truth = trees[name]
    return root, truth['training'] if name.startswith('rhd') else truth


# ---------------------------------------------------------------- what tests share
def quiet(function, *args, **options):
    "Call without warnings"
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return function(*args, **options)


def in_pixels(ds, keypoints):
    "Pixels of the crop"
    return (np.asarray(keypoints) + 1) * ds.size / 2 - 0.5


def names_of(ds, root):
    return [str(ds.file(i).relative_to(root)) for i in range(len(ds))]


def rows_of_truth(ds, truth, root):
    "Row of the truth for each sample, by file (and by place, where a file has two hands)"
    places = {}
    for row, file in enumerate(truth['file' if 'file' in truth else 'name']):
        places.setdefault(file, []).append(row)
    return np.array([places[file].pop(0) for file in names_of(ds, root)])


def relative(xyz):
    "Joints relative to the wrist"
    return xyz - xyz[:, :1]


def largest_difference(a, b):
    return np.abs(np.asarray(a) - np.asarray(b)).max()


def has_number(error):
    "Does the message name sample, frame or annotation?"
    return any(word in str(error.value) for word in ('sample', 'frame', 'annotation'))


# ---------------------------------------------------------------- labels and crops
def is_left(name, truth):
    "Which hands of the truth are left ones"
    if name.startswith('rhd'):
        return np.array([side == 'left' for side in truth['side']])
    return np.full(len(truth['keypoints']), name == 'h3d')


def read_side(name, root, side):
    "A set with all its hands, mirrored to a side"
    options = dict(without_object='all') if name == 'h3d' else {}
    return make(name, root, size=256, side=side, **options)


def scale_of_crops(ds):
    "Pixels of the crop per stored pixel"
    return ds.size / ds.pictures.box[:, 2]


def check_3d(ds, batch, true_xyz, mirror):
    "3D joints to 0.1 mm, mirrored where the picture is, and their projection to 0.1 stored px"
    assert largest_difference(ds.joints3d, true_xyz) < 0.1
    sign = np.where(mirror, -1, 1)[:, None]
    wanted = true_xyz.copy()
    wanted[..., 0] *= sign
    assert largest_difference(batch['joints3d'], wanted) < 0.1
    projected = project(batch['joints3d'].double(), batch['intrinsics'].double()).numpy()
    error = np.abs(projected - in_pixels(ds, batch['keypoints']))
    assert (error / scale_of_crops(ds)[:, None, None].clip(1)).max() < 0.1
    assert (batch['intrinsics'][:, 0, 0] > 0).all()
    assert np.nanmax(ds.reprojection()) < 0.1


def check_dot(blue, place, scale):
    "The dot in the blue channel is where the joint is"
    y, x = np.mgrid[: len(blue), : len(blue)]
    near = np.hypot(x - place[0], y - place[1]) < 4 * 3 * scale
    weight = np.where(blue > 12, blue, 0) * near
    found = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    assert np.abs(found - place).max() < 0.1 * max(1, scale), (found, place)


def well_inside(ds, places):
    "Which dots lie well inside their crops"
    rim = np.minimum(places.min(1), ds.size - 1 - places.max(1))
    return rim > 4 * 3 * scale_of_crops(ds)


@pytest.mark.parametrize('side', ['left', 'right', 'keep'])
@each_set
def test_labels_and_crops(trees, name, side):
    "Labels to 0.1 px and 0.1 mm; the crop's pixels, its mirror image and its camera agree"
    root, truth = truth_of(trees, name)
    ds = read_side(name, root, side)
    row = rows_of_truth(ds, truth, root)
    assert sorted(row) == list(range(len(truth['keypoints'])))
    assert largest_difference(ds.keypoints, truth['keypoints'][row]) < 0.1
    batch = ds.batch(range(len(ds)))
    inside = (np.abs(np.asarray(batch['keypoints'])) <= 1).all(-1)
    assert (batch['visible'].numpy() == (truth['visible'][row] & inside)).all()
    mirror = is_left(name, truth)[row] != (side == 'left')
    if side == 'keep':
        mirror[:] = False
    if name == 'fh_mm':
        assert batch['joints3d'].isnan().all()
        assert batch['intrinsics'][:, :2].isnan().all()
    else:
        check_3d(ds, batch, truth['xyz'][row], mirror)
    places = in_pixels(ds, batch['keypoints'])[:, DOT]
    blue = batch['image'][:, 2].numpy().astype(float)
    for i in np.flatnonzero(well_inside(ds, places)):
        check_dot(blue[i], places[i], scale_of_crops(ds)[i])


def test_dots_were_seen(trees):
    "The check of the pixels above is not empty: most dots lie well inside their crops"
    for name in SETS:
        ds = read_side(name, truth_of(trees, name)[0], 'left')
        keypoints = ds.labels(np.arange(len(ds)))['keypoints']
        assert well_inside(ds, in_pixels(ds, keypoints)[:, DOT]).mean() > 0.6


# ---------------------------------------------------------------- RHD
def test_rhd_rule(trees):
    "The one-hand rule keeps the hands it should, in the family's order; its thresholds are options"
    root, truth = truth_of(trees, 'rhd')
    ds = RHD(root)
    assert names_of(ds, root) == truth['file']
    assert list(np.where(ds.left, 'left', 'right')) == truth['side']
    assert len(RHD(root, min_side=0, min_visible=0, max_overlap=9.0)) == 24
    assert len(RHD(root, min_visible=16)) == len(ds) + 2
    assert len(RHD(root, max_overlap=0.9)) == len(ds) + 4
    assert len(RHD(root, min_side=40, min_visible=16)) > len(ds) + 2


def files_and_sides(ds):
    return [(str(ds.file(i)), bool(left)) for i, left in enumerate(ds.left)]


def test_rhd_splits(trees):
    root, truth = trees['rhd']
    train = files_and_sides(RHD(root))
    test = files_and_sides(RHD(root, 'test'))
    assert files_and_sides(RHD(root, 'training')) == train
    assert files_and_sides(RHD(root, 'evaluation')) == test
    assert len(test) == len(truth['evaluation']['file'])
    assert files_and_sides(RHD(root, 'all')) == train + test
    # every fifth training hand validates
    assert files_and_sides(RHD(root, 'val')) == train[::5]
    others = [hand for i, hand in enumerate(train) if i % 5]
    assert files_and_sides(RHD(root, 'train-val')) == others
    # each picture is a video
    both = RHD(root, 'all')
    assert len(np.unique(both.video_id)) == len({file for file, _ in train + test})


def test_rhd_subset_keeps_sides(trees):
    ds = RHD(trees['rhd'][0])
    assert list(ds.subset([3, 1]).left) == list(ds.left[[3, 1]])
    assert list(ds.subset(ds.left).left) == [True] * int(ds.left.sum())


def test_rhd_forms(trees):
    "mmpose's form is found by itself, and has the same hands as the official one"
    root, truth = truth_of(trees, 'rhd_mm')
    ds = RHD(root)
    official = RHD(trees['rhd'][0])
    first_of_file = {}
    for i, file in enumerate(names_of(official, trees['rhd'][0])):
        first_of_file.setdefault(file, i)
    row = [first_of_file[file] for file in truth['file']]
    assert largest_difference(ds.joints3d, official.joints3d[row]) < 0.1
    assert (ds.left == official.left[row]).all()
    with pytest.raises(DataError, match='anno_training.pickle'):
        RHD(root, form='official')


def test_rhd_in_one_folder(tmp_path):
    "mmpose's form with all files in one folder, and label files of another name"
    truth = write_rhd(tmp_path, form='mmpose', bare=True)
    ds = RHD(tmp_path, 'test')
    assert len(ds) > 0
    assert ds.batch([0])['image'].shape == (1, 3, 256, 256)
    (tmp_path / 'rhd_train.json').rename(tmp_path / 'mine.json')
    assert len(RHD(tmp_path, labels='mine.json')) == len(truth['training']['file'])
    with pytest.raises(DataError, match='test_rhd.json'):
        RHD(tmp_path)


def test_few_images(copy):
    "With a few pictures there, those are read and the others counted"
    root = copy('rhd')
    full = RHD(root)
    for path in sorted((root / 'training/color').glob('*.png'))[2:]:
        path.unlink()
    ds = quiet(RHD, root, on_error='skip')
    assert len(ds) == 3
    assert ds.report['missing image'] == len(full) - 3
    with pytest.raises(MediaError, match='00002.png.*missing'):
        RHD(root)
    # labels alone need no pictures
    shutil.rmtree(root / 'training/color')
    assert np.allclose(RHD(root, images=False).keypoints, full.keypoints)
    with pytest.raises(DataError, match='training/color'):
        RHD(root)


@pytest.mark.parametrize('name', ['h3d', 'mv', 'fh', 'fh_mm'])
def test_labels_alone(name, copy):
    "Labels alone need no pictures"
    root = copy(name, ignore=shutil.ignore_patterns('*.jpg'))
    ds = make(name, root, images=False)
    assert len(ds)
    assert np.isfinite(ds.keypoints).all()


# ---------------------------------------------------------------- H3D
every_h3d = partial(H3D, split='all', without_object='all')


def test_h3d_fitted_camera(tmp_path):
    "Stored 3D that is true gives the principal point back"
    truth = write_h3d(tmp_path, 2, 4)
    fit, stored, centre = (every_h3d(tmp_path, camera=c) for c in ('fit', 'stored', 'centre'))
    row = rows_of_truth(fit, truth, tmp_path)
    true_xyz = truth['xyz'][row]
    assert fit.fitted.all()
    assert largest_difference(fit.joints3d, true_xyz) < 0.1
    assert largest_difference(fit.intrinsics, truth['K'][row]) < 0.1
    # RegDA's camera bends the hands and leaves the depth
    assert largest_difference(relative(stored.joints3d), relative(true_xyz)) > 10
    assert np.allclose(stored.joints3d[..., 2], true_xyz[..., 2], atol=1e-3)
    # under each choice joints and camera agree
    assert np.nanmax(stored.reprojection()) < 0.01
    assert np.nanmax(centre.reprojection()) < 0.01


def test_h3d_rederived_joints(tmp_path):
    "Stored 3D that was re-derived by the crop leaves RegDA's camera"
    truth = write_h3d(tmp_path, 2, 4, xyz='crop')
    ds = every_h3d(tmp_path)
    true_depth = truth['xyz'][rows_of_truth(ds, truth, tmp_path)][..., 2]
    assert np.allclose(ds.joints3d[..., 2], true_depth, atol=1e-3)
    assert np.nanmax(ds.reprojection()) < 0.01


def test_h3d_unfit_joints(tmp_path):
    "Stored X and Y without sense leave the stored camera"
    write_h3d(tmp_path, 2, 4)
    stored = every_h3d(tmp_path, camera='stored')
    samples = json.loads((tmp_path / 'annotation.json').read_text())
    rng = np.random.default_rng(0)
    for sample in samples:
        depth = np.array(sample['keypoint3d'])[:, 2]
        sample['keypoint3d'] = np.c_[rng.normal(0, 50, (21, 2)), depth].tolist()
    (tmp_path / 'annotation.json').write_text(json.dumps(samples))
    ds = every_h3d(tmp_path)
    assert not ds.fitted.any()
    assert np.allclose(ds.joints3d, stored.joints3d)


@pytest.mark.parametrize('unit,millimetres', [('mm', 1.0), ('cm', 10.0), ('m', 1000.0)])
def test_h3d_unit(tmp_path, unit, millimetres):
    truth = write_h3d(tmp_path, 1, 4, unit=millimetres)
    for told in ('auto', unit):
        ds = every_h3d(tmp_path, unit=told)
        true_xyz = truth['xyz'][rows_of_truth(ds, truth, tmp_path)]
        assert largest_difference(ds.joints3d, true_xyz) < 0.1
    if unit != 'mm':
        assert np.abs(H3D(tmp_path, 'all', unit='mm').joints3d).max() < 150


def shuffled(items):
    "In the family's order"
    items = list(items)
    random.seed(42)
    random.shuffle(items)
    return items


def test_h3d_splits(trees):
    "The family's shuffle of the bare hands"
    root, truth = trees['h3d']
    is_bare = dict(zip(truth['name'], truth['bare']))
    bare = shuffled(name for name in is_bare if is_bare[name])
    n_test = int(len(bare) * 0.2)
    assert names_of(H3D(root, 'test'), root) == bare[:n_test]
    assert names_of(H3D(root), root) == bare[n_test:]
    assert names_of(H3D(root, 'val'), root) == bare[n_test : 2 * n_test]
    assert names_of(H3D(root, 'train-val'), root) == bare[2 * n_test :]
    # the others hold things
    holding = names_of(H3D(root, 'all', without_object='object'), root)
    assert set(holding) == {name for name in is_bare if not is_bare[name]}
    # another size, share or seed of the split
    assert len(H3D(root, 'test', most=3)) == 3
    assert len(H3D(root, 'test', share=0.5)) == len(bare) // 2
    assert names_of(H3D(root, 'test', seed=1), root) != bare[:n_test]


def folders_of(ds, root):
    return {str(Path(name).parent) for name in names_of(ds, root)}


def test_h3d_split_by_video(trees):
    "Whole videos on one side"
    root, truth = trees['h3d']
    train, test = H3D(root, split_by='video'), H3D(root, 'test', split_by='video')
    assert not folders_of(train, root) & folders_of(test, root)
    assert len(train) + len(test) == truth['bare'].sum()


def test_h3d_videos(trees):
    "What is a video, and which frame of it"
    root, truth = trees['h3d']
    ds = every_h3d(root)
    row = rows_of_truth(ds, truth, root)
    # a folder is a video, and frames are counted
    assert (ds.frame == truth['frame'][row] // 2).all()
    assert len(set(zip(ds.video_id, truth['video'][row]))) == 5
    # the number in the name is the frame
    by_stem = every_h3d(root, videos='stem')
    assert (by_stem.frame == truth['frame'][row]).all()
    # a pattern tells hand, camera and frame
    pattern = r'(?P<video>hand\d+)_cam(?P<view>\d+)/(?P<frame>\d+)'
    by_pattern = every_h3d(root, videos=pattern)
    assert len(np.unique(by_pattern.video_id)) == 1
    assert set(by_pattern.view) == set(range(5))
    assert (by_pattern.frame == truth['frame'][row]).all()
    # and so does a function
    by_function = every_h3d(root, videos=lambda name: (name.split('/')[1], int(Path(name).stem)))
    assert (by_function.frame == by_pattern.frame).all()
    assert len(np.unique(by_function.video_id)) == 5


def test_h3d_bad_videos(trees):
    root = trees['h3d'][0]
    # stills have no pairs
    with pytest.raises(DataError):
        FramePairs(H3D(root, 'all', videos='still').frames(), (1, 3))
    for rule in ('camera', '(?P<video>['):
        with pytest.raises(ConfigError):
            H3D(root, videos=rule)
    with pytest.raises(DataError, match='part1/hand0_cam00/0002.jpg'):
        H3D(root, videos=r'(?P<video>x+)')


# ---------------------------------------------------------------- MVHand
def test_mvhand_splits(trees):
    root = trees['mv'][0]
    # by subject: two sequences each
    assert set(MVHand(root).subject) == {0, 1}
    assert set(MVHand(root, 'test').subject) == {2, 3}
    assert set(MVHand(root, 'all').subject) == {0, 1, 2, 3}
    # by time: the same subjects, the first and the second half of the frames
    train, test = (MVHand(root, split, split_by='time') for split in ('train', 'test'))
    assert set(train.subject) == {0, 1, 2, 3}
    assert set(test.subject) == {0, 1, 2, 3}
    assert set(train.frame) == {0, 1, 2}
    assert set(test.frame) == {3, 4, 5}
    # fewer views and sequences
    assert set(MVHand(root, views=(1, 3)).view) == {1, 3}
    assert len(MVHand(root, 'all', sequences=MVHAND_SEQS[:1])) == 24
    with pytest.raises(DataError, match='two sequences'):
        MVHand(root, 'test', sequences=MVHAND_SEQS[:1])
    with pytest.raises(ConfigError):
        MVHand(root, views=(0, 4))
    with pytest.raises(ConfigError):
        MVHand(root, sequences='7-14-1-2')


def test_mvhand_where_from(trees):
    root, truth = trees['mv']
    ds = MVHand(root, 'all')
    row = rows_of_truth(ds, truth, root)
    assert (row == np.arange(len(row))).all()
    assert (ds.video_id == truth['video']).all()
    assert (ds.frame == truth['frame']).all()
    assert (ds.view == truth['view']).all()


def first_bone(xyz, knuckle):
    "Length of the bone that begins at a knuckle"
    return np.linalg.norm(xyz[:, knuckle] - xyz[:, knuckle + 1], axis=-1)


def test_mvhand_stretched_knuckles(trees):
    root = trees['mv'][0]
    labelled = MVHand(root, 'all').joints3d
    stretched = MVHand(root, 'all', knuckles='stretched')
    for knuckle, factor in ((1, 1.14), (5, 1.49), (9, 1.36), (13, 1.16), (17, 1.11)):
        ratio = first_bone(stretched.joints3d, knuckle) / first_bone(labelled, knuckle)
        assert np.allclose(ratio, factor, atol=1e-4)
    assert np.nanmax(stretched.reprojection()) < 0.01


def test_pairs_stay_inside_a_video(trees):
    "Frames of a pair are of one sequence and one view, the stride apart"
    frames = MVHand(trees['mv'][0], 'all').frames()
    assert not hasattr(frames, 'keypoints')
    pairs = FramePairs(frames, (2, 4))
    first, second = pairs.sample(np.arange(len(pairs)), np.random.default_rng(0))
    gap = np.abs(frames.frame[first] - frames.frame[second])
    assert (frames.video_id[first] == frames.video_id[second]).all()
    assert gap.min() >= 2
    assert gap.max() <= 4
    assert len(np.unique(frames.video_id)) == 16
    # stills have no pairs
    with pytest.raises(DataError):
        FramePairs(RHD(trees['rhd'][0]).frames(), (1, 5))


# ---------------------------------------------------------------- FreiHAND
def test_freihand_splits(trees):
    "The family's shuffle over all versions"
    root = trees['fh'][0]
    files = []
    for version in ('gs', 'auto', 'sample', 'hom'):
        first = 32560 * FREIHAND_VERSIONS.index(version)
        files += [f'training/rgb/{pose + first:08d}.jpg' for pose in range(6)]
    files = shuffled(files)
    assert names_of(FreiHAND(root, 'test'), root) == files[:4]
    assert names_of(FreiHAND(root), root) == files[4:]
    assert names_of(FreiHAND(root, 'val'), root) == files[4:8]
    # the official evaluation part
    evaluation = [f'evaluation/rgb/{pose:08d}.jpg' for pose in range(2)]
    assert names_of(FreiHAND(root, 'evaluation'), root) == evaluation


def test_freihand_versions_and_poses(trees):
    root = trees['fh'][0]
    green_screen = FreiHAND(root, 'all', versions=('gs',))
    recorded = [f'training/rgb/{pose:08d}.jpg' for pose in range(6)]
    assert sorted(names_of(green_screen, root)) == recorded
    assert set(green_screen.pose) == set(range(6))
    # by pose, no pose is on both sides
    train, test = FreiHAND(root, split_by='pose'), FreiHAND(root, 'test', split_by='pose')
    assert not set(test.pose) & set(train.pose)
    assert len(test) + len(train) == 24
    with pytest.raises(ConfigError):
        FreiHAND(root, versions=('blue',))


def test_freihand_splits_of_mmpose(trees):
    root = trees['fh_mm'][0]
    with pytest.raises(ConfigError):
        FreiHAND(root, 'evaluation', form='mmpose')
    with pytest.raises(DataError, match='freihand_train.json'):
        FreiHAND(root, 'val', form='mmpose')


# ---------------------------------------------------------------- bad input
def edit(path, change):
    "Change what a label file holds, in place or by what `change` returns"
    if path.suffix == '.pickle':
        content = pickle.loads(path.read_bytes())
    elif path.suffix == '.npy':
        content = np.load(path)
    else:
        content = json.loads(path.read_text())
    changed = change(content)
    if changed is None:
        changed = content
    if path.suffix == '.pickle':
        path.write_bytes(pickle.dumps(changed, 2))
    elif path.suffix == '.npy':
        np.save(path, changed)
    else:
        path.write_text(json.dumps(changed))


def first_sample(name, content):
    "Where the first sample is: its container, and the key of numbers that must be good"
    if name == 'rhd':
        return content[0], 'uv_vis'
    if name == 'h3d':
        return content[1], 'keypoint2d'
    if name in ('rhd_mm', 'fh_mm'):
        return content['annotations'][0], 'keypoints'
    return content, 0


def set_number(content, name, value):
    "Give one joint of the first sample another place"
    sample, key = first_sample(name, content)
    if name == 'mv':
        content[0, 3, 0, 0] = value
    elif name == 'fh_mm':
        sample[key][3] = value
    elif name == 'rhd':
        numbers = np.array(sample[key])
        numbers[5, 0] = value
        sample[key] = numbers
    else:
        sample[key][3][0] = value


def take_one_joint(content, name):
    "One joint less in the first sample"
    if name == 'mv':
        return content[:, :20]
    sample, key = first_sample(name, content)
    sample[key] = sample[key][:-1]
    return content


@each_set
def test_missing(name, tmp_path, copy):
    "A missing folder or label file is named together with where the set is to be had"
    with pytest.raises(DataError) as error:
        make(name, tmp_path / 'nowhere')
    assert 'http' in str(error.value)
    root = copy(name)
    labels_of(name, root).unlink()
    if name in ('rhd_mm', 'fh_mm'):
        shutil.rmtree(root / 'annotations')
    with pytest.raises(DataError, match='json|pickle|npy'):
        make(name, root)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), 1e12, -1e30])
@each_set
def test_bad_numbers(name, value, copy):
    "NaN, infinity and absurd places name file and sample, or are counted"
    root = copy(name)
    n_all = len(make(name, root))
    edit(labels_of(name, root), partial(set_number, name=name, value=value))
    with pytest.raises(LabelError) as error:
        make(name, root)
    assert has_number(error)
    ds = quiet(make, name, root, on_error='skip')
    most_lost = dict(rhd=2, mv=4, fh=4).get(name, 1)
    assert n_all - most_lost <= len(ds) < n_all
    assert sum(ds.report.values()) >= 1
    assert np.isfinite(ds.keypoints).all()
    assert ds.batch([0])['keypoints'].isfinite().all()


@each_set
def test_bad_shapes(name, copy):
    root = copy(name)
    edit(labels_of(name, root), partial(take_one_joint, name=name))
    with pytest.raises(LabelError, match='shape'):
        make(name, root)
    if name != 'mv':
        assert sum(quiet(make, name, root, on_error='skip').report.values()) >= 1


@each_set
def test_bad_images(name, copy):
    "A truncated picture is found when it is read; it can be skipped and is counted"
    root = copy(name)
    path = make(name, root).file(0)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    ds = make(name, root)
    with pytest.raises(MediaError, match=f'{path.name}.*sample 0'):
        ds.batch([0])
    n_all = len(ds)
    ds = make(name, root, on_error='skip')
    assert len(quiet(ds.batch, range(n_all))['index']) < n_all
    assert ds.unread >= 1


@each_set
def test_missing_images(name, copy):
    "A missing picture is found at once, also beside a truncated one"
    root = copy(name)
    ds = make(name, root)
    n_all = len(ds)
    truncated = ds.file(0)
    raw = truncated.read_bytes()
    truncated.write_bytes(raw[: len(raw) // 2])
    missing = next(ds.file(i) for i in range(n_all - 1, -1, -1) if ds.file(i) != truncated)
    missing.unlink()
    with pytest.raises(MediaError, match=f'{missing.name}.*missing'):
        make(name, root)
    ds = quiet(make, name, root, on_error='skip')
    assert len(ds) < n_all
    assert ds.report['missing image'] >= 1


@pytest.mark.parametrize('name', ['rhd', 'mv', 'fh'])
def test_wrong_size_of_picture(name, copy):
    root = copy(name)
    ds = make(name, root)
    cv2.imwrite(str(ds.file(0)), np.zeros((50, 60, 3), np.uint8))
    with pytest.raises(MediaError, match='60x50'):
        ds.batch([0])


def test_empty(copy):
    root = copy('rhd')
    edit(labels_of('rhd', root), lambda content: content.clear())
    with pytest.raises(DataError, match='no samples'):
        RHD(root)
    with pytest.raises(DataError, match='no samples'):
        RHD(root, 'test', min_side=400)
    root = copy('h3d')
    edit(labels_of('h3d', root), lambda content: [])
    with pytest.raises(DataError, match='no samples'):
        H3D(root, 'all')


def test_duplicates(copy):
    root = copy('h3d')
    edit(labels_of('h3d', root), lambda samples: samples + samples[1:2])
    with pytest.raises(LabelError, match='twice'):
        H3D(root, 'all')
    assert quiet(H3D, root, 'all', on_error='skip').report['duplicate'] == 1
    root = copy('fh_mm')

    def repeat_one(content):
        annotations = content['annotations']
        content['annotations'] = annotations[::-1] + annotations[:1]

    edit(labels_of('fh_mm', root), repeat_one)
    with pytest.raises(LabelError, match='twice'):
        FreiHAND(root)


def test_fewer_cameras_than_hands(copy):
    root = copy('fh')
    edit(root / 'training_K.json', lambda cameras: cameras[:-1])
    with pytest.raises(LabelError, match='5 cameras for 6 hands'):
        FreiHAND(root)


def test_unseen_hand_may_be_anything(copy):
    "A hand without visible joints never spoils the other one of its picture"
    root = copy('rhd')
    n_all = len(RHD(root))

    def spoil_right_hand(content):
        joints = np.array(content[1]['uv_vis'])
        assert not joints[21:, 2].any()
        joints[21:, :2] = np.nan
        content[1]['uv_vis'] = joints

    edit(labels_of('rhd', root), spoil_right_hand)
    assert len(RHD(root)) == n_all


@pytest.mark.parametrize('matrix', [None, np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan)])
def test_bad_calibration(copy, matrix):
    "A camera that is missing, or no motion that can be undone"
    root = copy('mv')
    path = root / '9-10-1-2/calib.pkl'
    calibration = pickle.loads(path.read_bytes())
    calibration['840412062037'] = matrix
    if matrix is None:
        del calibration['840412062037']
    path.write_bytes(pickle.dumps(calibration))
    with pytest.raises(LabelError, match='calib.pkl'):
        MVHand(root)


@pytest.mark.parametrize(
    'option',
    [
        dict(split='trian'),
        dict(side='both'),
        dict(on_error='ignore'),
        dict(size=0),
        dict(size='big'),
    ],
)
@each_set
def test_bad_options(trees, name, option):
    with pytest.raises(ConfigError):
        SETS[name].reader(trees[name][0], **option)


@pytest.mark.parametrize(
    'name,option',
    [
        ('rhd', dict(form='coco')),
        ('h3d', dict(without_object='none')),
        ('h3d', dict(unit='inch')),
        ('h3d', dict(camera='guess')),
        ('h3d', dict(split_by='hand')),
        ('mv', dict(split_by='view')),
        ('mv', dict(knuckles='long')),
        ('fh', dict(split_by='view')),
    ],
)
def test_options_of_one_reader(trees, name, option):
    with pytest.raises(ConfigError):
        SETS[name].reader(trees[name][0], **option)


class Evil:
    "Runs a command when it is unpickled"

    def __reduce__(self):
        return os.system, ('touch hacked',)


@pytest.mark.parametrize(
    'name,pickled', [('rhd', 'training/anno_training.pickle'), ('mv', '7-14-1-2/calib.pkl')]
)
def test_malicious_pickle(copy, name, pickled):
    root = copy(name)
    (root / pickled).write_bytes(pickle.dumps({0: Evil()}))
    with pytest.raises(LabelError, match='refused'):
        make(name, root)
    assert not Path('hacked').exists()


# ---------------------------------------------------------------- reports
def test_summary(trees, capsys):
    matplotlib.use('Agg')
    summary = MVHand(trees['mv'][0], 'all').summary()
    assert summary['samples'] == 96
    assert summary['videos'] == 16
    assert summary['reprojection_px'][1] < 0.01
    assert summary['mirrored'] == 96
    assert 'samples' in capsys.readouterr().out
    without_3d = FreiHAND(trees['fh_mm'][0]).summary(show=False)
    assert without_3d['reprojection_px'] is None


def test_check(trees):
    complete = RHD.check(trees['rhd'][0])
    assert complete.ok
    assert 'complete' in repr(complete)
    incomplete = MVHand.check(trees['fh'][0])
    assert not incomplete.ok
    assert '7-14-1-2/calib.pkl' in repr(incomplete)
    assert 'github.com' in repr(incomplete)


# ---------------------------------------------------------------- damage at random
SMALL = dict(
    rhd=partial(write_rhd, n_train=6, n_test=1),
    rhd_mm=partial(write_rhd, n_train=6, n_test=1, form='mmpose'),
    h3d=partial(write_h3d, n_videos=2, n_frames=4, size=64),
    mv=partial(write_mvhand, n_seq=2, n_frames=2),
    fh=partial(write_freihand, n=2, versions=('gs', 'hom')),
    fh_mm=partial(write_freihand, n=3, versions=('gs', 'hom'), form='mmpose'),
)
SMALL_OPTIONS = dict(mv=dict(sequences=MVHAND_SEQS[:2]), fh=dict(versions=('gs', 'hom')))


def is_read(path):
    "Not of the evaluation part, nor of the shape model"
    return 'evaluation' not in path.parts and 'mano' not in path.name


@each_set
def test_fuzz(name, tmp_path):
    "200 blows each: a typed error or sound samples"
    SMALL[name](tmp_path / name)
    read = partial(make, name, size=32, **SMALL_OPTIONS.get(name, {}))

    def build(folder):
        read_all(lambda on_error: read(folder, on_error=on_error))

    told = fuzz(build, tmp_path / name, n=200, seed=1, keep=is_read)
    assert sum(told.values()) == 200
