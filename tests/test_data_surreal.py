"SURREAL, its crops, and LSP against generated folders of known truth, and against damaged ones."

import json
import random
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import scipy.io

from fixtures_surreal import body16, write_lsp, write_mp4, write_surreal, write_surreal_crops
from fuzz import fuzz, read_all
from geomrecon.core.errors import ConfigError, DataError, GeomReconError, LabelError, MediaError
from geomrecon.core.geometry import project, to_pixels
from geomrecon.core.skeleton import BODY16
from geomrecon.data.pairs import FramePairs
from geomrecon.readers.lsp import LSP
from geomrecon.readers.surreal import SURREAL, read_surreal_info
from geomrecon.readers.surreal_crops import SURREALCrops

PELVIS = slice(6, 7)
pytestmark = pytest.mark.filterwarnings('ignore:.*left out')


# ---------------------------------------------------------------- folders
def written_once(tmp_path_factory, name, write):
    "A folder and its truth"
    root = tmp_path_factory.mktemp(name)
    return root, write(root)


@pytest.fixture(scope='module')
def surreal(tmp_path_factory):
    return written_once(tmp_path_factory, 'surreal', write_surreal)


@pytest.fixture(scope='module')
def crops(tmp_path_factory):
    return written_once(tmp_path_factory, 'crops', write_surreal_crops)


@pytest.fixture(scope='module')
def lsp(tmp_path_factory):
    return written_once(tmp_path_factory, 'lsp', write_lsp)


@pytest.fixture
def copy(tmp_path):
    "A function that gives a private copy of a fixture's folder"

    def make(folder):
        shutil.copytree(folder, tmp_path / 'copy', dirs_exist_ok=True)
        return tmp_path / 'copy'

    return make


# ---------------------------------------------------------------- what tests share
def distance_to_dot(image, place, level=180.0, reach=9):
    "Distance in pixels between the white dot in a crop and the place of its joint"
    u, v = place
    left, top = max(0, int(u) - reach), max(0, int(v) - reach)
    window = image[top : int(v) + reach + 1, left : int(u) + reach + 1]
    weight = (window - level).clamp_min(0).double().numpy()
    y, x = np.mgrid[top : top + weight.shape[0], left : left + weight.shape[1]]
    total = weight.sum()
    if not total > 0:
        return np.inf
    return np.hypot((weight * x).sum() / total - u, (weight * y).sum() / total - v)


def dot_error(ds, batch, joint):
    "Distance between dots and joints, in px of the stored images"
    places = to_pixels(batch['keypoints'][:, BODY16.joints.index(joint)], ds.size).tolist()
    grey = batch['image'].float().mean(1)
    distances = [distance_to_dot(image, place) for image, place in zip(grey, places)]
    return np.array(distances) * ds.pictures.box[batch['index'], 2] / ds.size


def reprojection_of_crops(ds, batch):
    "Difference between projected 3D joints and 2D joints, px of the crop"
    projected = project(batch['joints3d'], batch['intrinsics'])
    return projected - to_pixels(batch['keypoints'], ds.size)


def largest_difference(a, b):
    return np.abs(np.asarray(a) - np.asarray(b)).max()


def everything(ds):
    return ds.batch(range(len(ds)))


def info_file(root, name):
    return next(Path(root).rglob(f'{name}_info.mat'))


def stored_arrays(path):
    "Arrays of a MATLAB file"
    return {key: value for key, value in scipy.io.loadmat(path).items() if key[0] != '_'}


def change(path, **changes):
    "Change arrays of a MATLAB file; None takes one out"
    arrays = stored_arrays(path)
    for key, edited in changes.items():
        arrays[key] = edited(arrays[key])
    scipy.io.savemat(path, {key: value for key, value in arrays.items() if value is not None})


def put(array, place, value):
    "A copy with another value at a place"
    array = np.array(array)
    array[place] = value
    return array


def read(reader, root, **options):
    return everything(reader(root, **options))


def check_bad(root, match, error, reader, count=None, left=None, **options):
    "The reader raises; with on_error='skip' it leaves out `count` samples"
    with pytest.raises(error, match=match):
        read(reader, root, **options)
    ds = reader(root, on_error='skip', **options)
    read_all(lambda on_error: reader(root, on_error=on_error, **options))
    if left is not None:
        assert len(ds) == left
    if count:
        kind, number = count
        assert ds.report[kind] == number


# ---------------------------------------------------------------- SURREAL
def beyond_the_video(ds):
    "The two frames whose labels have no picture"
    stems = np.array([ds.file(i).stem for i in range(len(ds))])
    return (stems == 'ung_104_05_c0003') & (ds.frame > 6)


@pytest.mark.parametrize('shoulders', ['collar', 'shoulder'])
@pytest.mark.parametrize('chest', ['spine3', 'spine2'])
@pytest.mark.parametrize('names', ['person', 'smpl'])
def test_surreal_labels(surreal, shoulders, chest, names):
    root, truth = surreal
    reading = dict(shoulders=shoulders, chest=chest, names=names)
    true_px = body16(truth.px, **reading)
    exact = SURREAL(root, points='projected', images=False, **reading)
    # without videos the two frames beyond their end are kept
    exact = exact.subset(~beyond_the_video(exact))
    assert largest_difference(exact.keypoints, true_px) < 0.1
    assert largest_difference(exact.joints3d, body16(truth.xyz, **reading)) < 0.1
    assert exact.reprojection().max() < 0.01
    stored = SURREAL(root, **reading)
    # stored 2D joints are whole pixels, at most half a pixel off
    assert largest_difference(stored.keypoints, true_px) <= 0.5 + 1e-4
    assert largest_difference(stored.keypoints, np.rint(stored.keypoints)) == 0
    assert stored.reprojection().max() < 0.72


def test_surreal_where_from(surreal):
    root, truth = surreal
    ds = SURREAL(root)
    clips = truth.base / 'cmu' / 'train'
    stems = [str(ds.file(i).relative_to(clips).with_suffix('')) for i in range(len(ds))]
    assert stems == truth.clip
    assert (ds.frame == truth.frame).all()
    assert (ds.subject == truth.subject).all()
    assert len(np.unique(ds.video_id)) == 5
    # each reason is counted
    assert dict(ds.report) == {
        'frames beyond the end of the video': 2,
        'frames without joints': 1,
        'frames with the person out of the image': 2,
    }
    assert ds.visible.all()
    assert (np.bincount(ds.video_id) == [12, 12, 7, 5, 1]).all()


def test_surreal_crops_and_cameras(surreal):
    root, truth = surreal
    exact = SURREAL(root, size=192, points='projected')
    batch = everything(exact)
    # the crop's camera projects the joints to where they are labelled, and the picture shows them
    assert reprojection_of_crops(exact, batch).norm(dim=-1).max() < 0.02
    in_crop = dot_error(exact, batch, truth.dot) * 192 / exact.pictures.box[:, 2]
    assert in_crop.max() < 0.1, in_crop
    # stored joints are half a pixel off at most
    stored = SURREAL(root, size=192)
    half_a_pixel = 0.5 * 192 / stored.pictures.box[:, 2].min()
    difference = reprojection_of_crops(stored, everything(stored))
    assert difference.abs().max() <= half_a_pixel + 0.01


def test_surreal_edge_origin(surreal):
    root, _ = surreal
    centre, edge = SURREAL(root), SURREAL(root, origin='edge')
    assert np.allclose(centre.keypoints - edge.keypoints, 0.5)
    moved = centre.intrinsics[0] - edge.intrinsics[0]
    assert np.allclose(moved, [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    assert np.allclose(centre.reprojection(), edge.reprojection(), atol=1e-3)


def test_surreal_options(surreal):
    root, truth = surreal
    assert (SURREAL(root, every=5).frame % 5 == 0).all()
    assert len(SURREAL(root, every=5, runs=0)) == 6
    assert set(np.unique(SURREAL(root, runs=(0, 2)).video_id))
    assert len(SURREAL(root, runs=[1])) == 7
    # person 18 is one of those with broken bodies
    assert 18 in SURREAL(root).subject
    assert 18 not in SURREAL(root, monsters=False).subject
    # two frames have the person out of the image
    assert len(SURREAL(root, min_inside=0)) == len(truth.frame) + 2
    inside = SURREAL(root, min_inside=0, visibility='inside')
    assert not inside.visible.all()
    assert (inside.visible.sum(1) == 0).sum() == 2


@pytest.mark.parametrize(
    'option',
    [
        dict(split='trian'),
        dict(runs=(0, 3)),
        dict(runs=()),
        dict(runs=(0, 0)),
        dict(shoulders='x'),
        dict(chest='x'),
        dict(names='x'),
        dict(points='x'),
        dict(origin='x'),
        dict(visibility='x'),
        dict(every=0),
        dict(on_error='x'),
        dict(size=0),
    ],
)
def test_surreal_bad_options(surreal, option):
    with pytest.raises(ConfigError):
        SURREAL(surreal[0], **option)


def test_surreal_pairs_stay_inside(surreal):
    ds = SURREAL(surreal[0])
    pairs = FramePairs(ds.frames(), (2, 5))
    wanted = np.tile(np.arange(len(pairs)), 20)
    first, second = pairs.sample(wanted, np.random.default_rng(0))
    gap = np.abs(ds.frame[first] - ds.frame[second])
    assert (ds.video_id[first] == ds.video_id[second]).all()
    assert gap.min() == 2
    assert gap.max() == 5


def test_one_info_file_alone(surreal, tmp_path):
    root, _ = surreal
    folder = tmp_path / 'cmu' / 'test' / 'run0' / '01_01'
    folder.mkdir(parents=True)
    path = folder / '01_01_c0001_info.mat'
    shutil.copy(info_file(root, '01_01_c0001'), path)
    info = read_surreal_info(path, worst=0.5001)
    assert info['joints2D'].shape == (12, 24, 2)
    assert info['error'].max() <= 0.5001
    ds = SURREAL(tmp_path, 'test', runs=(0,), images=False)
    assert len(ds) == 12
    assert ds.reprojection().max() < 0.72
    with pytest.raises(DataError, match=r'run0/\*/\*.mp4'):
        SURREAL(tmp_path, 'test', runs=0)
    # a clip of one frame has arrays without the axis of the frames
    one_frame = read_surreal_info(info_file(root, '18_02_c0001'))
    assert one_frame['joints3D'].shape == (1, 24, 3)


def test_surreal_check(surreal, tmp_path):
    root, truth = surreal
    assert SURREAL.check(root).ok
    assert SURREAL.check(root / 'SURREAL').ok
    assert SURREAL.check(truth.base / 'cmu').ok
    for folder in (tmp_path, tmp_path / 'none', truth.base / 'cmu' / 'train'):
        with pytest.raises(DataError) as error:
            SURREAL(folder)
        for told in ('run0', 'run1', 'run2', 'labels of train', 'videos of train', 'di.ens.fr'):
            assert told in str(error.value)
    with pytest.raises(DataError, match='test, run 1'):
        SURREAL(root, 'test')


BAD_INFO = [
    (
        dict(joints3D=lambda a: put(a, (0, 3, 4), np.nan)),
        'c0001_info.mat: frame 4.*NaN',
        ('unsound labels', 1),
        36,
    ),
    (
        dict(joints3D=lambda a: put(a, (1, 3, 5), 9.0)),
        'c0001_info.mat: frame 5.*px beside',
        ('unsound labels', 1),
        36,
    ),
    (
        dict(joints2D=lambda a: put(a, (0, 9, 7), 1e6)),
        'c0001_info.mat: frame 7.*px beside',
        ('unsound labels', 1),
        36,
    ),
    (
        dict(joints2D=lambda a: a[:, :23]),
        r'c0001_info.mat: joints2D: shape \(2, 23, 12\)',
        ('unusable clip', 1),
        25,
    ),
    (dict(joints3D=lambda a: a[..., :5]), '12 frames of 2D and 5 of 3D', ('unusable clip', 1), 25),
    (dict(camLoc=lambda a: a[:2]), r'camLoc: shape \(2,\)', ('unusable clip', 1), 25),
    (dict(camLoc=lambda a: -a), 'frame 0.*behind', ('unsound labels', 12), 25),
    (
        dict(joints2D=lambda a: a[..., :0], joints3D=lambda a: a[..., :0]),
        '0 frames',
        ('unusable clip', 1),
        25,
    ),
    (dict(joints2D=lambda a: None), "no key 'joints2D'", ('unusable clip', 1), 25),
    (
        dict(joints2D=lambda a: np.array([['a', 'b']], object)),
        'joints2D',
        ('unusable clip', 1),
        25,
    ),
]  # what is changed, the message, what is counted, samples left


@pytest.mark.parametrize('changes,match,count,left', BAD_INFO)
def test_surreal_bad_labels(surreal, copy, changes, match, count, left):
    root = copy(surreal[0])
    change(info_file(root, '01_01_c0001'), **changes)
    check_bad(root, match, LabelError, SURREAL, count=count, left=left)


UNUSABLE_CLIP = dict(reader=SURREAL, count=('unusable clip', 1), left=25)


def test_surreal_bad_info_files(surreal, copy):
    root = copy(surreal[0])
    path = info_file(root, '01_01_c0002')
    raw = path.read_bytes()
    for damaged in (raw[: len(raw) // 9], b'', b'junk' * 99):
        path.write_bytes(damaged)
        check_bad(root, 'c0002_info.mat', LabelError, **UNUSABLE_CLIP)


def test_surreal_bad_videos(surreal, copy):
    root = copy(surreal[0])
    video = info_file(root, '01_01_c0002').with_name('01_01_c0002.mp4')
    video.write_bytes(video.read_bytes()[:200])
    check_bad(root, 'c0002.mp4', MediaError, **UNUSABLE_CLIP)
    write_mp4(video, [np.zeros((120, 160, 3), np.uint8)] * 12)
    check_bad(root, 'c0002.mp4.*160x120', MediaError, **UNUSABLE_CLIP)
    video.unlink()
    missing = ('missing image', 12)
    check_bad(root, 'c0002.mp4.*missing', MediaError, SURREAL, count=missing, left=25)
    video.write_bytes(b'x' * 3000)
    check_bad(root, 'c0002.mp4', MediaError, **UNUSABLE_CLIP)


def test_surreal_nothing_left(surreal, copy):
    root = copy(surreal[0])
    for path in root.rglob('*_info.mat'):
        change(path, joints2D=lambda a: a * 0, joints3D=lambda a: a * 0)
    for on_error in ('raise', 'skip'):
        with pytest.raises(DataError, match='none of 42 samples.*frames without joints'):
            SURREAL(root, on_error=on_error)


@pytest.mark.parametrize('seed', [0, 1])
def test_surreal_fuzz(tmp_path, seed):
    clips = ((0, '01_01', 1, 3, 3, (), ()), (1, 'ung_104_05', 1, 3, 3, (1,), ()))
    write_surreal(tmp_path, clips=clips, nested=False)

    def build(folder):
        read_all(lambda on_error: SURREAL(folder, runs=(0, 1), size=32, on_error=on_error))

    def is_read(path):
        return path.name.endswith(('_info.mat', '.mp4'))

    fuzz(build, tmp_path, n=110, seed=seed, keep=is_read)


# ---------------------------------------------------------------- SURREAL, crops
def family(truth, split):
    "What the family's loader has, in its order: split, run and name of each sample"
    samples = [key for key in truth if key[0] == split]
    random.seed(42)
    random.shuffle(samples)
    n_test = min(int(len(samples) * 0.2), 3200)
    return dict(train=samples[n_test:], test=samples[:n_test], val=samples)[split]


def family_truth(truth, split, **reading):
    "Joints and cameras of the family's samples, in its order"
    samples = [truth[key] for key in family(truth, split)]
    return SimpleNamespace(
        px=np.concatenate([body16(sample.px, **reading) for sample in samples]),
        xyz=np.concatenate([body16(sample.xyz, **reading) for sample in samples]),
        K=np.array([sample.K for sample in samples]),
        stored=np.array([sample.stored for sample in samples]),
    )


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
@pytest.mark.parametrize(
    'reading', [dict(), dict(shoulders='shoulder', chest='spine2'), dict(names='smpl')]
)
def test_crops_labels(crops, split, reading):
    root, truth = crops
    ds = SURREALCrops(root, split, camera='stored', **reading)
    wanted = family_truth(truth, split, **reading)
    files = [f'{part}/run{run}/{name}' for part, run, name in family(truth, split)]
    assert [str(ds.file(i).relative_to(root)) for i in range(len(ds))] == files
    assert largest_difference(ds.keypoints, wanted.px) < 0.01
    assert largest_difference(ds.joints3d[..., 2], wanted.xyz[..., 2]) < 0.1
    assert np.allclose(ds.intrinsics, wanted.stored, atol=1e-3)
    assert ds.reprojection().max() < 0.01
    assert len(np.unique(ds.video_id)) == len(ds)


def relative_xy(xyz):
    "X and Y relative to the pelvis"
    return (xyz - xyz[:, PELVIS])[..., :2]


def test_crops_cameras(crops):
    root, truth = crops
    true_xy = relative_xy(family_truth(truth, 'train').xyz)
    error = {}
    for camera in ('person', 'stored', 'fit'):
        ds = SURREALCrops(root, camera=camera, size=160)
        batch = everything(ds)
        assert ds.reprojection().max() < 0.01
        assert reprojection_of_crops(ds, batch).abs().max() < 0.02
        assert dot_error(ds, batch, 'r_wrist').max() < 0.1
        error[camera] = np.linalg.norm(relative_xy(ds.joints3d) - true_xy, axis=-1).mean()
    # the person's middle is nearer to the truth, and the stored X, Y don't give the camera away
    assert error['person'] < 0.6 * error['stored']
    assert abs(error['fit'] - error['stored']) < 0.1


def test_crops_without_camera(crops):
    batch = SURREALCrops(crops[0], camera='none').batch([0])
    assert batch['joints3d'].isnan().all()
    assert batch['intrinsics'][:, 0, 0].isnan().all()


def edit(root, change_samples, run=0, split='train'):
    "Change the samples of a run in place, or put others in their place"
    path = root / split / f'run{run}.json'
    samples = json.loads(path.read_text())
    samples = change_samples(samples) or samples
    path.write_text(json.dumps(samples))


def test_crops_fit_finds_true_camera(crops, copy):
    root, truth = copy(crops[0]), crops[1]

    def store_true_xyz(samples, run):
        for sample in samples:
            K = truth['train', run, sample['name']].K
            depth = np.array(sample['keypoint3d'])[:, 2:]
            xy = (np.array(sample['keypoint2d']) - K[:2, 2]) / K[0, 0] * depth
            sample['keypoint3d'] = np.concatenate([xy, depth], 1).tolist()

    for run in range(3):
        edit(root, partial(store_true_xyz, run=run), run=run)
    ds = SURREALCrops(root, camera='fit')
    wanted = family_truth(truth, 'train')
    assert largest_difference(ds.joints3d, wanted.xyz) < 0.1
    assert largest_difference(ds.intrinsics, wanted.K) < 0.01


def test_crops_options(crops):
    root, _ = crops
    by_name = r'run\d/(?P<video>\d+_\d+)_c0001/frame_(?P<frame>\d+)'
    whole = SURREALCrops(root, rule='all', group=by_name)
    assert len(whole) == 30
    assert whole.frame.max() == 33
    assert len(np.unique(whole.video_id)) == 30
    assert len(SURREALCrops(root, runs=(0,))) == 10
    assert len(SURREALCrops(root, 'test', runs=1)) == 1
    other_shuffle = SURREALCrops(root, seed=1)
    assert not np.array_equal(other_shuffle.keypoints, SURREALCrops(root).keypoints)
    assert len(SURREALCrops(root, images=False)) == 24
    with pytest.raises(LabelError, match='unit'):
        SURREALCrops(root, unit='mm')


@pytest.mark.parametrize(
    'option',
    [
        dict(split='all'),
        dict(rule='x'),
        dict(camera='x'),
        dict(unit='cm'),
        dict(runs=(5,)),
        dict(group='('),
        dict(group='(.*)'),
        dict(group='(?P<video>z)(?P<frame>.)'),
        dict(visibility='x'),
    ],
)
def test_crops_bad_options(crops, option):
    with pytest.raises(ConfigError):
        SURREALCrops(crops[0], **option)


def set_third(**values):
    "Give sample 3 other values"
    return lambda samples: samples[3].update(values)


def cut_third_xyz(samples):
    samples[3]['keypoint3d'] = samples[3]['keypoint3d'][:23]


def turn_third_round(samples):
    samples[3]['keypoint3d'] = (-np.array(samples[3]['keypoint3d'])).tolist()


def set_third_joint(place):
    "Put one 2D joint of sample 3 elsewhere"

    def change_joint(samples):
        samples[3]['keypoint2d'][7] = place

    return change_joint


def put_third(sample):
    "Another sample 3"
    return lambda samples: samples.__setitem__(3, sample)


NO_FOCAL_LENGTH = [[0, 0, 1], [0, 1, 1], [0, 0, 1]]
UNUSABLE = ('unusable sample', 1)
BAD_SAMPLES = [
    (lambda samples: samples[3].clear(), 'run0.json: sample 3.*keypoint2d', UNUSABLE),
    (cut_third_xyz, r'sample 3: keypoint3d: shape \(23, 3\)', UNUSABLE),
    (set_third(keypoint2d=[[1, 2]] * 23 + [[1]]), 'sample 3: keypoint2d', UNUSABLE),
    (set_third_joint([float('nan'), 3]), 'sample.*NaN', ('NaN keypoint', 1)),
    (set_third_joint([1e7, 3]), 'ten images away', ('absurd keypoint', 1)),
    (
        set_third(intrinsic_matrix=NO_FOCAL_LENGTH),
        'sample 3: intrinsic_matrix: focal',
        UNUSABLE,
    ),
    (set_third(name='../../x.jpg'), 'sample 3.*name', UNUSABLE),
    (set_third(name=7), 'sample 3.*name', UNUSABLE),
    (set_third(name='gone.jpg'), 'gone.jpg.*missing', ('missing image', 1)),
    (put_third('x'), 'sample 3.*str', UNUSABLE),
    (turn_third_round, 'sample 3.*mm away', UNUSABLE),
    (lambda samples: samples.__setitem__(3, samples[2]), 'twice', ('duplicate', 1)),
]  # what is changed, the message, what is counted


@pytest.mark.parametrize('change_samples,match,count', BAD_SAMPLES)
def test_crops_bad_labels(crops, copy, change_samples, match, count):
    root = copy(crops[0])
    edit(root, change_samples)
    check_bad(root, match, GeomReconError, SURREALCrops, count=count, left=29, rule='all')


def test_crops_bad_label_files(crops, copy):
    root = copy(crops[0])
    path = root / 'train' / 'run1.json'
    good = path.read_text()
    for text in (good[:500], '{}', '', '[[[', '"x"'):
        path.write_text(text)
        for on_error in ('raise', 'skip'):
            with pytest.raises(LabelError, match='run1.json'):
                SURREALCrops(root, on_error=on_error)
    # a run without samples is none
    path.write_text('[]')
    assert len(SURREALCrops(root, rule='all')) == 21


def test_crops_bad_images(crops, copy):
    root = copy(crops[0])
    path = next((root / 'train' / 'run0').rglob('*.jpg'))
    raw = path.read_bytes()
    check = partial(check_bad, root, reader=SURREALCrops, error=MediaError, rule='all')
    path.write_bytes(raw[: len(raw) // 2])
    check(match=path.name, left=30)
    path.write_bytes(b'')
    check(match=path.name, left=29)
    cv2.imwrite(str(path), np.zeros((50, 60, 3), np.uint8))
    check(match='60x50', count=('image not square', 1), left=29)


def test_crops_nothing_there(crops, copy):
    root = copy(crops[0])
    for run in range(3):
        (root / 'val' / f'run{run}.json').write_text('[]')
    with pytest.raises(DataError, match='no samples'):
        SURREALCrops(root, 'val')
    (root / 'val' / 'run2.json').unlink()
    with pytest.raises(DataError, match='run2.json.*Transfer'):
        SURREALCrops(root, 'val')


def test_crops_fuzz(tmp_path):
    write_surreal_crops(tmp_path, dict(train=(3, 2)), size=40)

    def build(folder):
        reader = partial(SURREALCrops, folder, runs=(0, 1), rule='all', size=32)
        read_all(lambda on_error: reader(on_error=on_error))

    fuzz(build, tmp_path, n=220)


# ---------------------------------------------------------------- LSP
IN_FILE = [0, 1, 2, 3, 4, 5, 12, 13, 6, 7, 8, 9, 10, 11]  # the 14 joints, in the order of the file
IN_BODY = [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15]  # and where they are in `BODY16`


def true_joints(truth):
    "The 16 joints, pelvis and thorax midway between hips and shoulders"
    px = dict(truth.px)
    px['pelvis'] = (px['r_hip'] + px['l_hip']) / 2
    px['spine3'] = (px['r_shoulder'] + px['l_shoulder']) / 2
    return body16(px, 'shoulder')


def test_lsp_labels(lsp):
    root, truth = lsp
    ds = LSP(root, size=160)
    assert largest_difference(ds.keypoints, true_joints(truth)) < 0.01
    # a flag of 1 means hidden, or visible where the option says so
    assert (ds.visible[:, IN_BODY] == ~truth.occluded[:, IN_FILE]).all()
    assert not ds.visible[:, 6:8].any()
    flag_of_lspet = LSP(root, flag='visible')
    assert (flag_of_lspet.visible[:, IN_BODY] == truth.occluded[:, IN_FILE]).all()
    # a midpoint is labelled where both its ends are
    midpoints = LSP(root, midpoints=True)
    hips = midpoints.visible[:, 2] & midpoints.visible[:, 3]
    assert (midpoints.visible[:, 6] == hips).all()
    assert midpoints.visible[:, 7].any()
    from_one = LSP(root, origin='matlab')
    assert np.allclose(from_one.keypoints, ds.keypoints - 1, atol=1e-4)
    # the halves of the set's authors
    assert len(LSP(root, 'train')) == 5
    assert np.array_equal(LSP(root, 'test').keypoints, ds.keypoints[5:])


def test_lsp_has_no_3d(lsp):
    ds = LSP(lsp[0], size=160)
    batch = ds.batch([0])
    assert ds.joints3d is None
    assert batch['intrinsics'][:, 0, 0].isnan().all()
    assert batch['joints3d'].isnan().all()
    assert np.isnan(ds.reprojection()).all()


def check_padding(image, size):
    "The rims of a padded photograph are black, and what is between them is not"
    height, width = size
    rim = round((1 - min(height, width) / max(height, width)) / 2 * 160)
    if not rim:
        return
    rows = image if height < width else image.transpose(1, 2)
    assert rows[:, : rim - 1].max() == 0
    assert rows[:, rim + 1 : 160 - rim - 1].float().mean() > 60
    assert rows[:, 160 - rim + 1 :].max() == 0


def test_lsp_pictures(lsp):
    root, truth = lsp
    padded = LSP(root, size=160)
    batch = padded.batch(range(10))
    assert dot_error(padded, batch, truth.dot).max() < 0.1
    for image, size in zip(batch['image'], truth.size):
        check_padding(image, size)
    near = LSP(root, size=160, crop='person')
    assert dot_error(near, near.batch(range(10)), truth.dot).max() < 0.1
    assert (near.pictures.box[:, 2] < padded.pictures.box[:, 2]).all()


@pytest.mark.parametrize('layout,digits', [('3x14xN', 4), ('14x3xN', 5), ('Nx14x3', 4)])
def test_lsp_layouts(tmp_path, layout, digits):
    truth = write_lsp(tmp_path, 6, layout=layout, digits=digits)
    assert largest_difference(LSP(tmp_path).keypoints, true_joints(truth)) < 0.01


@pytest.fixture
def lsp_labels(lsp, copy):
    "A copy of the set: its folder, its joints (3,14,N), and a function that stores others"
    root = copy(lsp[0])

    def store(joints, name='joints'):
        scipy.io.savemat(root / 'joints.mat', {name: joints})

    return SimpleNamespace(root=root, joints=lsp[1].j.transpose(2, 1, 0), store=store)


def test_lsp_bad_shapes(lsp_labels):
    root, joints, store = lsp_labels.root, lsp_labels.joints, lsp_labels.store
    ambiguous = joints[..., :3].transpose(1, 0, 2)  # (14,3,3)
    for stored, match in (
        (joints[:2], 'shape'),
        (joints[:, :13], 'shape'),
        (joints[0], 'shape'),
        (ambiguous, 'shape'),
        (np.array([['x']], object), 'joints'),
    ):
        store(stored)
        for on_error in ('raise', 'skip'):
            with pytest.raises(LabelError, match=match):
                LSP(root, on_error=on_error)
    store(joints, 'other')
    with pytest.raises(LabelError, match="no key 'joints'"):
        LSP(root)


def test_lsp_bad_numbers(lsp_labels):
    root, joints, store = lsp_labels.root, lsp_labels.joints, lsp_labels.store
    check = partial(check_bad, root, error=LabelError, reader=LSP, left=9)
    store(put(joints, (2, 5, 3), 0.5))
    check(match='sample 3.*flags', count=('odd flag', 1))
    store(put(joints, (slice(None), 0, 3), [np.nan, 4, 0]))
    check(match='im0004.jpg: sample 3.*NaN', count=('NaN keypoint', 1))
    store(put(joints, (0, 0, 3), -1e8))
    check(match='im0004.jpg', count=('absurd keypoint', 1))


def test_lsp_bad_files(lsp, copy):
    root = copy(lsp[0])
    image = root / 'images' / 'im0002.jpg'
    raw = image.read_bytes()
    image.write_bytes(raw[: len(raw) // 2])
    check_bad(root, 'im0002.jpg', MediaError, LSP, left=10)
    image.unlink()
    missing = ('missing image', 1)
    check_bad(root, 'im0002.jpg.*missing', MediaError, LSP, count=missing, left=9)
    assert len(LSP(root, images=False)) == 10
    labels = root / 'joints.mat'
    labels.write_bytes(labels.read_bytes()[:300])
    with pytest.raises(LabelError, match='joints.mat'):
        LSP(root)
    labels.unlink()
    with pytest.raises(DataError, match='joints.mat.*Leeds'):
        LSP(root)


@pytest.mark.parametrize(
    'option', [dict(split='val'), dict(flag='x'), dict(crop='x'), dict(origin='x')]
)
def test_lsp_bad_options(lsp, option):
    with pytest.raises(ConfigError):
        LSP(lsp[0], **option)


def test_lsp_fuzz(tmp_path):
    write_lsp(tmp_path, 5)

    def build(folder):
        read_all(lambda on_error: LSP(folder, size=32, on_error=on_error))

    fuzz(build, tmp_path, n=220)
