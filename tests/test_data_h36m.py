"""Readers of Human3.6M (three packagings) and 3DPW against trees with known truth.

And against bad input of every kind, and damage at random.
"""

import json
import pickle
import random
import shutil
import cv2
import numpy as np
import pytest
from fixtures_h36m import (
    H36M_LENS,
    dot_error,
    lens,
    pinhole,
    python2_pickle,
    to_h36m,
    write_3dpw,
    write_h36m,
    write_h36m_crops,
    write_h36m_mmpose,
)
from fuzz import fuzz, read_all
from geomrecon.core.errors import ConfigError, DataError, LabelError, MediaError
from geomrecon.data.pairs import FramePairs
from geomrecon.readers.h36m import Human36M
from geomrecon.readers.h36m_cameras import lens_project
from geomrecon.readers.h36m_crops import crop_corner
from geomrecon.readers.threedpw import ThreeDPW


def at(truth, rows):
    return {name: values[rows] for name, values in truth.items()}


def to_px(kp, size=256):
    return ((np.asarray(kp) + 1) * size - 1) / 2


def largest(a, b):
    return np.abs(a - b).max()


def files_of(reader, root):
    return [reader.file(i).relative_to(root).as_posix() for i in range(len(reader))]


def agrees(reader, truth, root):
    "Keypoints, 3D, intrinsics, names, frames and videos are those of the truth, in its order"
    assert files_of(reader, root) == truth['file'].tolist()
    assert largest(reader.keypoints, truth['keypoints']) < 0.1
    assert largest(reader.joints3d, truth['xyz']) < 0.1
    assert largest(reader.intrinsics, truth['K']) < 0.01
    assert (reader.frame == truth['frame']).all()
    assert np.nanmax(reader.reprojection()) < 0.1
    if 'video' in truth:
        a = np.unique(truth['video'], return_inverse=True)[1].reshape(-1)
        b = reader.video_id
        assert ((a[:, None] == a) == (b[:, None] == b)).all()
    if 'view' in truth:
        assert (reader.view == truth['view']).all()
        assert (reader.subject == truth['subject']).all()


def project_crop(batch, lens=True):
    "2D of a batch's 3D joints through its own cameras"
    xyz, K = batch['joints3d'].double().numpy(), batch['intrinsics'].double().numpy()
    has_lens = lens and 'distortion' in batch
    return lens_project(xyz, K, batch['distortion'].double().numpy() if has_lens else None)


def dots(reader):
    "The dot on the right wrist is where the label says; the crop's camera projects 3D onto labels"
    assert dot_error(reader).max() < 0.1
    batch = reader.batch(np.arange(len(reader)))
    assert largest(project_crop(batch), to_px(batch['keypoints'], reader.size)) < 0.02


def edit(path, change):
    "Change a JSON file in place"
    d = json.loads(path.read_text())
    change(d)
    path.write_text(json.dumps(d))


def put(value, *keys):
    "A change: the value at some place of nested containers"

    def change(d):
        for key in keys[:-1]:
            d = d[key]
        d[keys[-1]] = value

    return change


def drop(*keys):
    "A change: without the entry at some place"

    def change(d):
        for key in keys[:-1]:
            d = d[key]
        d.pop(keys[-1])

    return change


@pytest.fixture(scope='module')
def trees(tmp_path_factory):
    r = tmp_path_factory.mktemp('h36m')
    return dict(
        mppe=(r / 'mppe', write_h36m(r / 'mppe', seed=5)),
        mm=(r / 'mm', write_h36m_mmpose(r / 'mm', subjects=(1, 9), seed=6)),
        coco=(r / 'coco', write_h36m_mmpose(r / 'coco', subjects=(1, 8), form='coco', seed=7)),
        crops=(r / 'crops', write_h36m_crops(r / 'crops', frames=21, seed=8)),
        pw=(r / 'pw', write_3dpw(r / 'pw', seed=9)),
    )


def every_nth(truth, subjects, n=5):
    return np.concatenate([np.flatnonzero(truth['subject'] == s)[::n] for s in subjects])


# ---- Human3.6M, 3DMPPE's JSON


def test_mppe_truth(trees):
    root, truth = trees['mppe']
    reader = Human36M(root)
    agrees(reader, at(truth, every_nth(truth, (1, 5, 6, 7, 8))), root)
    dots(reader)
    assert reader.form == '3dmppe'
    assert set(reader.notes) == {'RX+t'}
    agrees(Human36M(root, 'all', every=1), truth, root)
    half = Human36M(root, 'test', draw='all', every=2)
    agrees(half, at(truth, every_nth(truth, (9, 11), 2)), root)
    one = Human36M(root, subjects=(5,), every=1, images=False)
    agrees(one, at(truth, truth['subject'] == 5), root)
    assert len(Human36M(root, test_subjects=(11,))) == 18
    assert len(Human36M(root, 'test', test_subjects=11, draw='all')) == 3


def test_json_folder_given_or_flat(trees, tmp_path):
    root, truth = trees['mppe']
    truth = at(truth, truth['subject'] == 5)
    labels = tmp_path / 'labels'
    shutil.copytree(root / 'annotations', labels)
    options = dict(subjects=(5,), every=1, images=False)
    agrees(Human36M(tmp_path, annotations=labels, **options), truth, tmp_path)
    agrees(Human36M(labels, **options), truth, labels)


def test_mppe_older_packaging(tmp_path):
    truth = write_h36m(tmp_path, subjects=(1,), packaging='R(X-T)', images=False, seed=5)
    options = dict(subjects=(1,), every=1, images=False)
    reader = Human36M(tmp_path, **options)
    agrees(reader, truth, tmp_path)
    assert set(reader.notes) == {'R(X-T)'}
    agrees(Human36M(tmp_path, extrinsics='R(X-T)', **options), truth, tmp_path)
    try:  # told so, it obeys
        obedient = Human36M(tmp_path, extrinsics='RX+t', **options)
        assert largest(obedient.joints3d, truth['xyz']) > 1000
    except LabelError:
        pass
    camera_file = tmp_path / 'annotations/Human36M_subject1_camera.json'
    edit(camera_file, put([0, 0, 0], '3', 't'))
    with pytest.raises(LabelError, match='camera 3'):
        Human36M(tmp_path, **options)


def test_draw_is_the_baselines(trees):
    root, truth = trees['mppe']
    reader = Human36M(root, 'test')
    truth = at(truth, every_nth(truth, (9, 11)))
    random.seed(42)
    assert files_of(reader, root) == random.choices(list(truth['file']), k=3200)
    for draw in ('unique', 'all'):
        once = Human36M(root, 'test', draw=draw)
        assert len(once) == 6
        assert len(set(files_of(once, root))) == 6
    assert len(Human36M(root, 'test', n_test=7)) == 7
    assert len(reader.batch([0, 1, 3199])['image']) == 3
    assert len(reader.frames().images([0, 3199])) == 2


def test_thorax(trees):
    root, truth = trees['mppe']
    xyz = truth['xyz'][truth['subject'] == 1]
    for name in ('spine', 'neck'):
        joints = Human36M(root, subjects=(1,), every=1, thorax=name).joints3d
        assert largest(joints[:, 7], xyz[:, 7]) > 10
        assert np.abs(np.delete(joints - xyz, 7, 1)).max() < 0.1
        if name == 'neck':
            assert largest(joints[:, 7], to_h36m(xyz)[:, 8]) < 0.1


def test_all_are_visible(trees):
    root, _ = trees['mppe']
    assert Human36M(root).visible.all()
    assert Human36M(root, visible='inside').visible.all()


def test_clock(trees):
    root, _ = trees['mppe']
    assert (Human36M(root, clock=10).frame * 5 <= Human36M(root).frame).all()
    with pytest.raises(ConfigError, match='clock'):
        Human36M(root, clock=10, every=1)


def test_visible_inside(tmp_path):
    truth = write_h36m(tmp_path, subjects=(1,), images=False, seed=5)
    x = truth['keypoints'][..., 0]
    width = int(np.median(x))

    def narrow(d):
        for image in d['images']:
            image['width'] = width

    edit(tmp_path / 'annotations/Human36M_subject1_data.json', narrow)
    options = dict(subjects=(1,), every=1, images=False, extrinsics='RX+t')
    reader = Human36M(tmp_path, visible='inside', **options)
    assert (reader.visible == (x <= width - 0.5)).all()
    assert not reader.visible.all()


def test_mppe_pairs_stay_in_their_video(trees):
    root, truth = trees['mppe']
    pairs = FramePairs(Human36M(root, 'all', every=1).frames(), (2, 4))
    i, j = pairs.sample(np.arange(len(pairs)), np.random.default_rng(0))
    assert (truth['video'][i] == truth['video'][j]).all()
    assert np.isin(np.abs(truth['frame'][i] - truth['frame'][j]), (2, 3, 4)).all()


def test_broken_sequence_is_left_out(tmp_path):
    truth = write_h36m(tmp_path, subjects=(11,), acts=((2, 1), (2, 2)), images=False)
    reader = Human36M(tmp_path, 'test', subjects=(11,), every=1, images=False, draw='all')
    whole = truth['video'] != 's_11_act_02_subact_02_ca_01'
    agrees(reader, at(truth, whole), tmp_path)
    assert any('broken' in note for note in reader.notes)


def test_check_names_what_is_missing(trees, tmp_path):
    root, _ = trees['mppe']
    assert Human36M.check(root, 'all').ok
    assert 'complete' in repr(Human36M.check(root))
    write_h36m(tmp_path, subjects=(1, 5), images=False)
    check = Human36M.check(tmp_path)
    assert not check.ok
    assert any('Human36M_subject8_camera.json' in m for m in check.missing)
    assert any('images/s_01' in m for m in check.missing)
    with pytest.raises(DataError, match='vision.imar.ro') as e:
        Human36M(tmp_path)
    assert 'Human36M_subject6' in str(e.value)
    with pytest.raises(DataError, match='packaging'):
        Human36M(tmp_path / 'nothing')
    assert len(Human36M(tmp_path, subjects=(1, 5), images=False)) == 6


BAD_OPTIONS = [
    dict(split='valid'),
    dict(subjects=(2,)),
    dict(every=0),
    dict(every=1.5),
    dict(thorax='x'),
    dict(draw='x'),
    dict(form='x'),
    dict(extrinsics='x'),
    dict(on_error='x'),
    dict(clock=25),
    dict(n_test=0, split='test'),
    dict(size=1),
]


@pytest.mark.parametrize('bad', BAD_OPTIONS, ids=str)
def test_bad_options(trees, bad):
    with pytest.raises(ConfigError):
        Human36M(trees['mppe'][0], **bad)


def test_mppe_bad_images(tmp_path):
    truth = write_h36m(tmp_path, subjects=(1,), seed=5)
    files = [tmp_path / file for file in truth['file']]
    files[5].unlink()
    raw = files[0].read_bytes()
    files[0].write_bytes(raw[: len(raw) // 2])
    with pytest.raises(MediaError, match='000006.jpg: sample 1'):
        Human36M(tmp_path, subjects=(1,))
    with pytest.warns(UserWarning, match='missing image'):
        reader = Human36M(tmp_path, subjects=(1,), on_error='skip')
    assert len(reader) == 2
    assert reader.report['missing image'] == 1
    with pytest.warns(UserWarning, match='000001.jpg'):
        batch = reader.batch([0, 1])
    assert batch['index'].tolist() == [1]
    assert reader.unread == 1
    files[5].write_bytes(raw)
    with pytest.raises(MediaError, match='000001.jpg'):
        Human36M(tmp_path, subjects=(1,)).batch([0])


def stand_twice(d):
    d['images'].insert(0, d['images'][0])


def same_frame_other_file(d):
    first, second = d['images'][:2]
    d['images'].insert(1, dict(first, file_name=second['file_name']))


ONE_FRAME = ('2', '1', '0')  # action, subaction, frame
MPPE_DAMAGE = {
    'NaN': (put(float('nan'), *ONE_FRAME, 3, 0), 'joint_3d'),
    'absurd': (put(1e7, *ONE_FRAME, 3, 0), 'joint_3d'),
    'shape': (drop(*ONE_FRAME, -1), 'joint_3d'),
    'text': (put('x', *ONE_FRAME, 3, 0), 'joint_3d'),
    'gone': (drop(*ONE_FRAME), 'joint_3d'),
    'no name': (drop('images', 0, 'file_name'), 'data'),
    'odd id': (put('one', 'images', 0, 'cam_idx'), 'data'),
    'other subject': (put(5, 'images', 0, 'subject'), 'data'),
    'twice': (stand_twice, 'data'),
    'same frame, another file': (same_frame_other_file, 'data'),
}


@pytest.mark.parametrize('kind', MPPE_DAMAGE)
def test_mppe_bad_labels(tmp_path, kind):
    truth = write_h36m(tmp_path, subjects=(1,), images=False, seed=5)
    change, name = MPPE_DAMAGE[kind]
    edit(tmp_path / f'annotations/Human36M_subject1_{name}.json', change)
    options = dict(subjects=(1,), every=1, images=False)
    with pytest.raises(LabelError) as e:
        Human36M(tmp_path, **options)
    assert 'subject1' in str(e.value) or 's_01_act_02' in str(e.value), str(e.value)
    with pytest.warns(UserWarning, match='left out'):
        reader = Human36M(tmp_path, on_error='skip', **options)
    assert sum(reader.report.values()) in (1, 2)
    assert len(reader) >= len(truth['file']) - 2
    assert np.isfinite(reader.keypoints).all()


CAMERA_DAMAGE = {
    'gone': drop('3'),
    'R': put([[1, 0, 0]] * 3, '3', 'R'),
    'f': put([0, 0], '3', 'f'),
    't': put([1, 2], '3', 't'),
    'c': put([float('nan')] * 2, '3', 'c'),
    'no f': drop('3', 'f'),
}


@pytest.mark.parametrize('kind', CAMERA_DAMAGE)
def test_mppe_bad_cameras(tmp_path, kind):
    write_h36m(tmp_path, subjects=(1,), images=False)
    edit(tmp_path / 'annotations/Human36M_subject1_camera.json', CAMERA_DAMAGE[kind])
    with pytest.raises(LabelError, match='camera'):
        Human36M(tmp_path, subjects=(1,), every=1, images=False)


def test_unsorted_frames_keep_their_numbers(tmp_path):
    truth = write_h36m(tmp_path, subjects=(1,), images=False)
    order = np.random.default_rng(0).permutation(len(truth['file']))

    def shuffle(d):
        d['images'] = [d['images'][i] for i in order]

    edit(tmp_path / 'annotations/Human36M_subject1_data.json', shuffle)
    reader = Human36M(tmp_path, subjects=(1,), every=1, images=False)
    truth = at(truth, order)
    agrees(reader, truth, tmp_path)
    pairs = FramePairs(reader.frames(), (1, 1))
    i, j = pairs.sample(np.arange(len(pairs)), np.random.default_rng(0))
    assert (truth['video'][i] == truth['video'][j]).all()
    assert (np.abs(truth['frame'][i] - truth['frame'][j]) == 1).all()


def test_empty_lists(tmp_path):
    write_h36m(tmp_path, subjects=(1,), images=False)
    edit(tmp_path / 'annotations/Human36M_subject1_data.json', put([], 'images'))
    with pytest.raises(DataError):
        Human36M(tmp_path, subjects=(1,), images=False)


# ---- Human3.6M, mmpose's arrays


def at_ten(truth, subject):
    "Frames of one subject at 10 a second"
    return at(truth, (truth['subject'] == subject) & (truth['frame'] % 5 == 0))


def test_mmpose_truth(trees):
    root, truth = trees['mm']
    slow = Human36M(root, fps=10)
    agrees(slow, at_ten(truth, 1), root)
    dots(slow)
    fast = Human36M(root, fps=50, images=False)
    agrees(fast, at(truth, truth['subject'] == 1), root)
    test = Human36M(root, 'test', draw='all')
    agrees(test, at_ten(truth, 9), root)
    dots(test)
    assert set(truth['size'][:, 0]) == {1000, 1002}
    assert set(test.pictures.frame_size[:, 0]) == {1000, 1002}


def test_mmpose_subjects(trees):
    root, _ = trees['mm']
    assert len(Human36M(root, 'all')) == 24
    assert len(Human36M(root, 'all', every=2)) == 12
    assert len(Human36M(root, subjects=(1, 9))) == 24
    assert len(Human36M(root, test_subjects=(11,))) == 24


def test_mmpose_pinhole(trees):
    root, truth = trees['mm']
    reader = Human36M(root, lens='pinhole')
    truth = at_ten(truth, 1)
    assert reader.distortion is None
    expected = [pinhole(x, *H36M_LENS[v][:2]) for x, v in zip(truth['xyz'], truth['view'])]
    assert largest(reader.keypoints, np.stack(expected)) < 0.01
    assert 0.1 < largest(reader.keypoints, truth['keypoints']) < 3
    assert np.nanmax(reader.reprojection()) < 0.01
    batch = reader.batch([0, 3])
    assert largest(project_crop(batch, lens=False), to_px(batch['keypoints'])) < 0.02


def test_mmpose_small_form(trees, tmp_path):
    root, truth = trees['coco']
    reader = Human36M(root)
    agrees(reader, truth, root)
    dots(reader)
    labels, cameras = tmp_path / 'a/labels.json', tmp_path / 'b/cams.pkl'
    labels.parent.mkdir()
    cameras.parent.mkdir()
    labels.write_bytes((root / 'h36m_coco.json').read_bytes())
    cameras.write_bytes((root / 'cameras.pkl').read_bytes())
    apart = Human36M(tmp_path, annotations=labels, cameras=cameras, images=False)
    assert len(apart) == len(truth['file'])
    assert np.nanmax(apart.reprojection()) < 0.05
    own_labels = root / 'h36m_coco.json'
    one = Human36M(root, annotations=own_labels, cameras=cameras, subjects=(8,))
    agrees(one, at(truth, truth['subject'] == 8), root)
    with pytest.raises(DataError, match='cameras'):
        Human36M(tmp_path / 'a', annotations=labels)


@pytest.mark.parametrize('dtype', ['U', object])
def test_mmpose_flat_npz(trees, tmp_path, dtype):
    "The small arrays of mmpose's tests: bare names, everything in one folder, strings as objects"
    root, truth = trees['mm']
    truth = at(truth, truth['frame'] == 0)
    bare = [name.split('/')[-1] for name in truth['name']]
    arrays = {name: truth[name] for name in ('center', 'scale', 'part', 'S')}
    labels = tmp_path / 'test_h36m_body3d.npz'
    np.savez(labels, imgname=np.array(bare, dtype), **arrays)
    (tmp_path / 'cameras.pkl').write_bytes((root / 'annotation_body3d/cameras.pkl').read_bytes())
    for name, file in zip(bare, truth['file']):
        (tmp_path / name).write_bytes((root / file).read_bytes())
    reader = Human36M(tmp_path, annotations=labels)
    truth['file'] = np.array(bare)
    agrees(reader, truth, tmp_path)
    dots(reader)


def second_as_third(d):
    for values in d.values():
        values[2] = values[1]


MMPOSE_DAMAGE = {
    'NaN': put(np.nan, 'part', (2, 1, 0)),
    'absurd': put(1e7, 'part', (2, 1, 0)),
    'far': put(1e4, 'S', (2, 1, 2)),
    'behind': put(-3, 'S', (2, 1, 2)),
    'name': put('picture.jpg', 'imgname', 2),
    'twice': second_as_third,
}


@pytest.fixture
def mm_labels(trees, tmp_path):
    "A copy of the arrays alone"
    root, _ = trees['mm']
    shutil.copytree(root / 'annotation_body3d', tmp_path / 'annotation_body3d')
    return tmp_path / 'annotation_body3d/fps10/h36m_train.npz'


@pytest.mark.parametrize('kind', MMPOSE_DAMAGE)
def test_mmpose_bad_labels(mm_labels, tmp_path, kind):
    d = {name: values.copy() for name, values in np.load(mm_labels).items()}
    MMPOSE_DAMAGE[kind](d)
    np.savez(mm_labels, **d)
    with pytest.raises(LabelError) as e:
        Human36M(tmp_path, images=False)
    assert 'S1_' in str(e.value) or 'sample 2' in str(e.value)
    with pytest.warns(UserWarning, match='left out'):
        reader = Human36M(tmp_path, images=False, on_error='skip')
    assert len(reader) == 11
    assert sum(reader.report.values()) == 1


def test_mmpose_bad_arrays(mm_labels, tmp_path):
    good = mm_labels.read_bytes()
    d = dict(np.load(mm_labels))
    without_3d = {name: values for name, values in d.items() if name != 'S'}
    too_few_joints = dict(d, part=d['part'][:, :16])
    too_short = dict(d, S=d['S'][:3])
    no_names = dict(d, imgname=np.arange(len(d['part'])))
    for bad in (too_few_joints, too_short, without_3d, no_names):
        np.savez(mm_labels, **bad)
        with pytest.raises(LabelError, match='h36m_train'):
            Human36M(tmp_path, images=False)
    mm_labels.write_bytes(good[:500])
    with pytest.raises(LabelError, match='h36m_train'):
        Human36M(tmp_path, images=False)
    np.savez(mm_labels, **{name: values[:0] for name, values in d.items()})
    with pytest.raises(DataError):
        Human36M(tmp_path, images=False)


class Evil:
    def __reduce__(self):
        return (print, ('run',))


def test_mmpose_bad_cameras(mm_labels, tmp_path):
    path = tmp_path / 'annotation_body3d/cameras.pkl'
    cameras = pickle.loads(path.read_bytes())

    def all_with(**more):
        return {key: dict(camera, **more) for key, camera in cameras.items()}

    one_gone = {key: camera for key, camera in cameras.items() if key[1] != '58860488'}
    no_rotation = all_with(R=np.ones((3, 3)))
    no_focal = all_with(f=np.zeros(2))
    short_lens = all_with(k=np.zeros(2))
    for bad in (one_gone, {'S1': 3}, no_rotation, no_focal, short_lens, [1]):
        path.write_bytes(pickle.dumps(bad))
        with pytest.raises(LabelError, match='cameras.pkl'):
            Human36M(tmp_path, images=False)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(LabelError, match='refused'):
        Human36M(tmp_path, images=False)


def test_mmpose_without_arrays(mm_labels, tmp_path):
    shutil.rmtree(mm_labels.parent)
    with pytest.raises(DataError, match='fps10'):
        Human36M(tmp_path, images=False)


def test_mmpose_bad_images(trees, tmp_path):
    root = tmp_path / 'mm'
    shutil.copytree(trees['mm'][0], root)
    files = sorted((root / 'images/S1').rglob('*.jpg'))
    files[3].unlink()
    files[5].write_bytes(files[5].read_bytes()[:3000])
    with pytest.raises(MediaError, match=files[3].name):
        Human36M(root)
    with pytest.warns(UserWarning):
        reader = Human36M(root, on_error='skip')
        batch = reader.batch(np.arange(len(reader)))
    assert len(reader) == 11
    assert len(batch['image']) == 10
    assert reader.unread == 1
    cv2.imwrite(str(files[5]), np.zeros((500, 500, 3), np.uint8))
    files[3].write_bytes(files[4].read_bytes())
    with pytest.raises(MediaError, match='500x500'):
        Human36M(root).batch(np.arange(12))


def test_lens_model():
    rng = np.random.default_rng(0)
    points = rng.uniform([-1500, -1500, 3000], [1500, 1500, 7000], (4, 30, 3))
    for xyz, (f, c, k, p, _, _) in zip(points, H36M_LENS.values()):
        K = np.array([[[f[0], 0, c[0]], [0, f[1], c[1]], [0, 0, 1]]])
        found = lens_project(xyz[None], K, np.array([k + p]))[0]
        assert largest(found, lens(xyz, f, c, k, p)) < 1e-9
    assert np.isnan(lens_project(-points, np.broadcast_to(K, (4, 3, 3)))).all()


# ---- Human3.6M, RegDA's crops


def in_training(truth):
    return at(truth, ~np.isin(truth['subject'], (9, 11)))


@pytest.mark.parametrize('how', ['annotations', 'bones', 'auto'])
def test_crops_truth(trees, how):
    root, truth = trees['crops']
    reader = Human36M(root, form='regda', crop_camera=how)
    agrees(reader, in_training(truth), root)
    dots(reader)
    assert set(+reader.notes) == {'annotations' if how == 'auto' else how}
    assert (reader.pictures.box == [0, 0, 512, 512]).all()


def test_crops_as_stored(trees):
    root, truth = trees['crops']
    truth = in_training(truth)
    reader = Human36M(root, form='regda', crop_camera='stored', centres='stored')
    assert largest(reader.keypoints, truth['stored']) < 0.01
    assert largest(reader.joints3d, truth['wrong']) < 0.1
    assert np.nanmax(reader.reprojection()) < 0.01
    # right in depth, centimetres off across even relative to the root
    relative = lambda x: x - x[:, 6:7]
    assert largest(relative(reader.joints3d), relative(truth['xyz'])) > 20
    assert largest(reader.joints3d[..., 2], truth['xyz'][..., 2]) < 0.1


def test_crops_alone(tmp_path):
    options = dict(raw=False, images=False, seed=8)
    truth = write_h36m_crops(tmp_path, subjects=(1, 9), frames=21, **options)
    reader = Human36M(tmp_path, subjects=(1, 9), images=False)
    assert reader.form == 'regda'
    assert set(+reader.notes) == {'bones'}
    agrees(reader, truth, tmp_path)
    assert len(Human36M(tmp_path, 'test', subjects=(9,), images=False)) == 3200
    with pytest.raises(ConfigError, match='thorax'):
        Human36M(tmp_path, subjects=(1,), images=False, thorax='spine')
    with pytest.raises(DataError, match='keypoints2d_5.json'):
        Human36M(tmp_path, images=False)


def test_bones_survive_small_asymmetry_and_refuse_large(tmp_path):
    options = dict(raw=False, images=False, seed=8)
    truth = write_h36m_crops(tmp_path, subjects=(1,), frames=101, **options)
    xyz = truth['xyz']
    f = np.array([H36M_LENS[v].focal for v in truth['view']])
    true = (xyz - truth['wrong'])[:, 6, :2] / xyz[:, 6, 2:] * f

    def sheared(x):
        x = x.copy()
        x[..., :2] -= (true / f)[:, None] * x[..., 2:]
        return x

    def longer_forearm(mm):
        x = xyz.copy()
        bone = x[:, 10] - x[:, 11]
        x[:, 10] += mm * bone / np.linalg.norm(bone, axis=1, keepdims=True)
        return sheared(x)

    corner, sure = crop_corner(longer_forearm(0.01), f)
    assert sure.mean() > 0.9
    assert largest(corner[sure], true[sure]) < 0.1
    corner, sure = crop_corner(longer_forearm(40.0), f)
    assert not sure.any() or largest(corner[sure], true[sure]) < 0.1
    noise = np.random.default_rng(0).normal(0, 5, xyz.shape)
    _, sure = crop_corner(sheared(xyz + noise), f)
    assert sure.mean() < 0.1


def test_unknown_crop_camera_is_nan(tmp_path):
    write_h36m_crops(tmp_path, subjects=(1,), raw=False, frames=6, images=False, seed=8)

    def add_noise(entries):
        for i, entry in enumerate(entries):
            noise = np.random.default_rng(i).normal(0, 20, (16, 3))
            entry['keypoint3d'] = (np.array(entry['keypoint3d']) + noise).tolist()

    edit(tmp_path / 'annotations/keypoints2d_1.json', add_noise)
    reader = Human36M(tmp_path, subjects=(1,), images=False)
    assert np.isnan(reader.joints3d).all()
    assert np.isnan(reader.intrinsics).all()
    assert reader.notes['crop camera unknown'] == len(reader)
    assert np.isnan(reader.reprojection()).all()
    assert reader.summary(show=False)['reprojection_px'] is None


def test_crops_of_something_else(tmp_path):
    truth = write_h36m_crops(tmp_path, subjects=(1,), frames=6, images=False, seed=8)
    edit(tmp_path / 'annotations/keypoints2d_1.json', put(400.0, 0, 'keypoint2d', 3, 0))
    options = dict(form='regda', subjects=(1,), images=False)
    with pytest.raises(LabelError, match='does not fit'):
        Human36M(tmp_path, **options)
    with pytest.warns(UserWarning, match='something else'):
        reader = Human36M(tmp_path, on_error='skip', **options)
    assert np.isnan(reader.joints3d[0]).all()
    assert np.isfinite(reader.joints3d[1:]).all()
    assert np.abs(np.delete(reader.keypoints - truth['keypoints'], 3, 1)).max() < 0.1


def test_two_packagings_in_one_folder(trees):
    root, _ = trees['crops']
    with pytest.raises(DataError, match='form='):
        Human36M(root)
    assert Human36M(root, form='3dmppe', images=False).form == '3dmppe'


def of_another_subject(entries):
    entries[1]['name'] = entries[1]['name'].replace('s_01', 's_05')


CROP_DAMAGE = {
    'NaN': put(float('nan'), 1, 'keypoint2d', 3, 0),
    'absurd': put(1e7, 1, 'keypoint2d', 3, 0),
    'shape': drop(1, 'keypoint3d', -1),
    'name': put('x.jpg', 1, 'name'),
    'K': put([[0] * 3] * 3, 1, 'intrinsic_matrix'),
    'no key': drop(1, 'keypoint2d'),
    'other subject': of_another_subject,
    'twice': lambda entries: entries.insert(1, entries[1]),
}


@pytest.mark.parametrize('kind', CROP_DAMAGE)
def test_crops_bad_labels(tmp_path, kind):
    write_h36m_crops(tmp_path, subjects=(1,), raw=False, frames=21, images=False, seed=8)
    edit(tmp_path / 'annotations/keypoints2d_1.json', CROP_DAMAGE[kind])
    with pytest.raises(LabelError) as e:
        Human36M(tmp_path, subjects=(1,), images=False)
    assert 'entry 1' in str(e.value) or 'sample' in str(e.value)
    with pytest.warns(UserWarning, match='left out'):
        reader = Human36M(tmp_path, subjects=(1,), images=False, on_error='skip')
    assert len(reader) == (9 if kind == 'twice' else 8)


# ---- 3DPW

ONE_ACTOR = dict(train=(('a_00', 1, False),))
TWO_ACTORS = dict(train=(('a_00', 2, False),))


@pytest.mark.parametrize('split', ['train', 'validation', 'test'])
def test_3dpw_truth(trees, split):
    root, truth = trees['pw']
    reader = ThreeDPW(root, split)
    truth = at(truth, truth['split'] == split)
    names = [f'{s} {a}' for s, a in zip(truth['sequence'], truth['actor'])]
    truth['video'] = np.array(names)
    agrees(reader, truth, root)
    in_front = [truth['actor'][truth['sequence'] == s].max() for s in truth['sequence']]
    dots(reader.subset(truth['actor'] == np.array(in_front)))
    assert (reader.pictures.frame_size == truth['size']).all()
    assert (reader.subject == truth['actor']).all()


def test_3dpw_all_and_every_fourth(trees):
    root, truth = trees['pw']
    assert len(ThreeDPW(root, 'all')) == len(truth['file'])
    assert len(ThreeDPW(root, every=4)) == 6


def test_3dpw_pairs_stay_with_their_actor(trees):
    root, truth = trees['pw']
    pairs = FramePairs(ThreeDPW(root).frames(), (1, 2))
    i, j = pairs.sample(np.arange(len(pairs)), np.random.default_rng(0))
    truth = at(truth, truth['split'] == 'train')
    assert (truth['sequence'][i] == truth['sequence'][j]).all()
    assert (truth['actor'][i] == truth['actor'][j]).all()


def test_3dpw_without_images(tmp_path):
    truth = write_3dpw(tmp_path, images=False, nested=True, val='val', betas=300)
    reader = ThreeDPW(tmp_path, 'validation', images=False)
    agrees(reader, at(truth, truth['split'] == 'validation'), tmp_path)
    assert (reader.pictures.frame_size == (1920, 1080)).all()
    with pytest.raises(DataError, match='courtyard_sit_00'):
        ThreeDPW(tmp_path, 'validation')


def test_3dpw_shoulders(trees):
    root, truth = trees['pw']
    smpl = truth['smpl'][truth['split'] == 'test']
    shoulder = ThreeDPW(root, 'test').joints3d
    collar = ThreeDPW(root, 'test', shoulders='collar').joints3d
    assert largest(collar[:, 12], smpl[:, 14]) < 0.1
    assert largest(collar[:, 13], smpl[:, 13]) < 0.1
    assert np.abs(np.delete(shoulder - collar, (12, 13), 1)).max() < 0.01


def test_3dpw_boxes(trees):
    root, truth = trees['pw']
    truth = at(truth, truth['split'] == 'test')

    def side(points):  # (n,K,2)
        return (points.max(1) - points.min(1)).max(1)

    around_joints = ThreeDPW(root, 'test').pictures.box[:, 2]
    assert largest(around_joints, 1.5 * side(truth['keypoints'])) <= 0.51
    detected = truth['detected'][:, :2].transpose(0, 2, 1)
    around_detected = ThreeDPW(root, 'test', box='poses2d', margin=1.2).pictures.box[:, 2]
    assert largest(around_detected, 1.2 * side(detected)) <= 0.51


def test_3dpw_rules(tmp_path):
    rules = dict(invalid=(0, 3), undetected=(1, 3))
    write_3dpw(tmp_path, frames=8, images=False, sequences=TWO_ACTORS, **rules)
    assert len(ThreeDPW(tmp_path, valid='all', images=False)) == 16
    assert len(ThreeDPW(tmp_path, valid='campose', images=False)) == 12
    assert len(ThreeDPW(tmp_path, valid='campose+poses2d', images=False)) == 10
    reader = ThreeDPW(tmp_path, images=False)
    assert reader.left['camera not aligned for the actor'] == 4
    assert 0 not in reader.frame
    assert not reader.report
    summary = reader.summary(show=False)
    assert summary['by_rule']
    assert summary['samples'] == 12


@pytest.mark.parametrize('cut', ['images', 'poses', 'cameras'])
def test_3dpw_frame_counts_differ(tmp_path, cut):
    truth = write_3dpw(tmp_path, frames=5, cut={cut: 2}, sequences=ONE_ACTOR)
    reader = ThreeDPW(tmp_path)
    assert len(reader) == 3
    assert max(reader.frame) == 2
    assert sum(reader.left.values()) == 2
    agrees(reader, at(truth, truth['frame'] < 3), tmp_path)


def test_3dpw_actor_at_the_rim(tmp_path):
    truth = write_3dpw(tmp_path, frames=12, images=False, aside=2300.0, sequences=ONE_ACTOR)
    kp = truth['keypoints']
    inside = ((kp >= -0.5) & (kp <= np.array([1919.5, 1079.5]))).all(-1)
    assert 0 < inside.mean() < 1
    reader = ThreeDPW(tmp_path, images=False, least=1)
    some = inside.sum(1) >= 1
    assert len(reader) == some.sum()
    assert (reader.visible == inside[some]).all()
    box = reader.pictures.box
    assert (box[:, 0] >= 0).all()
    assert (box[:, 0] + box[:, 2] <= 1920).all()
    most = int(inside.sum(1).max())
    fewer = ThreeDPW(tmp_path, images=False, least=most)
    assert len(fewer) == (inside.sum(1) >= most).sum()
    assert ThreeDPW(tmp_path, images=False, visible='all', least=1).visible.all()


def repickle(path, change):
    d = pickle.loads(path.read_bytes(), encoding='latin1')
    change(d)
    path.write_bytes(python2_pickle(d))


PW_DAMAGE = {
    'NaN': put(np.nan, 'jointPositions', 0, (2, 24)),
    'absurd': put(1e6, 'jointPositions', 0, (2, 24)),
    'camera': put(9.0, 'cam_poses', (2, 0, 0)),
    'NaN camera': put(np.nan, 'cam_poses', (2, 0, 3)),
}


@pytest.mark.parametrize('kind', PW_DAMAGE)
def test_3dpw_bad_frames(tmp_path, kind):
    write_3dpw(tmp_path, frames=5, images=False, sequences=ONE_ACTOR)
    repickle(tmp_path / 'sequenceFiles/train/a_00.pkl', PW_DAMAGE[kind])
    with pytest.raises(LabelError) as e:
        ThreeDPW(tmp_path, images=False)
    assert 'frame 2' in str(e.value) or 'image_00002.jpg' in str(e.value)
    with pytest.warns(UserWarning, match='left out'):
        reader = ThreeDPW(tmp_path, images=False, on_error='skip')
    assert len(reader) == 4
    assert sum(reader.report.values()) == 1


def too_few_joints(d):
    d['jointPositions'] = [joints[:, :60] for joints in d['jointPositions']]


def flat_cameras(d):
    d['cam_poses'] = d['cam_poses'][:, :3]


PW_FILES = {
    'joints': too_few_joints,
    'actors': put([], 'campose_valid'),
    'K': put(np.zeros((3, 3)), 'cam_intrinsics'),
    'key': drop('cam_poses'),
    'poses': flat_cameras,
    'none': put(3, 'jointPositions'),
}


@pytest.mark.parametrize('kind', PW_FILES)
def test_3dpw_bad_files(tmp_path, kind):
    write_3dpw(tmp_path, frames=3, images=False)
    repickle(tmp_path / 'sequenceFiles/train/downtown_talk_01.pkl', PW_FILES[kind])
    with pytest.raises(LabelError, match='downtown_talk_01.pkl'):
        ThreeDPW(tmp_path, images=False)
    with pytest.warns(UserWarning, match='unreadable sequence'):
        reader = ThreeDPW(tmp_path, images=False, on_error='skip')
    assert len(reader) == 3


def test_3dpw_bad_images(tmp_path):
    write_3dpw(tmp_path, frames=4, sequences=ONE_ACTOR)
    image = tmp_path / 'imageFiles/a_00/image_00001.jpg'
    raw = image.read_bytes()
    image.unlink()
    with pytest.raises(MediaError, match='image_00001.jpg'):
        ThreeDPW(tmp_path)
    with pytest.warns(UserWarning, match='missing image'):
        assert len(ThreeDPW(tmp_path, on_error='skip')) == 3
    image.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(MediaError, match='image_00001.jpg'):
        ThreeDPW(tmp_path).batch([1])
    with pytest.warns(UserWarning):
        reader = ThreeDPW(tmp_path, on_error='skip')
        assert len(reader.batch(range(4))['image']) == 3
        assert len(reader.frames().images(range(4))) == 4


PW_BAD_OPTIONS = [
    dict(split='val2'),
    dict(shoulders='x'),
    dict(valid='x'),
    dict(box='x'),
    dict(visible='x'),
    dict(every=0),
    dict(least=-1),
    dict(on_error='x'),
    dict(size='x'),
]


@pytest.mark.parametrize('bad', PW_BAD_OPTIONS, ids=str)
def test_3dpw_bad_options(trees, bad):
    with pytest.raises(ConfigError):
        ThreeDPW(trees['pw'][0], **bad)


def test_3dpw_nothing_there(tmp_path):
    with pytest.raises(DataError, match='virtualhumans'):
        ThreeDPW(tmp_path)
    write_3dpw(tmp_path, images=False, frames=2, invalid=(0, 1))
    with pytest.raises(DataError):
        ThreeDPW(tmp_path, images=False)


# ---- damage at random


def write_small(kind, root):
    if kind == 'mppe':
        write_h36m(root, subjects=(1,), cams=(1,), frames=4)
    elif kind == 'npz':
        write_h36m_mmpose(root, subjects=(1,), acts=((2, 1),), cams=(1,))
    elif kind == 'coco':
        write_h36m_mmpose(root, subjects=(1,), acts=((2, 1),), cams=(1,), form='coco')
    elif kind == 'pw':
        write_3dpw(root, frames=3, sequences=TWO_ACTORS)
    else:
        write_h36m_crops(root, subjects=(1,), raw=kind == 'both', cams=(1,), frames=16)


FUZZ = dict(
    mppe=dict(subjects=(1,), every=1, form='3dmppe'),
    npz=dict(form='mmpose'),
    coco=dict(form='mmpose'),
    crops=dict(form='regda', subjects=(1,)),
    both=dict(form='regda', subjects=(1,)),
    pw=dict(valid='campose+poses2d', box='poses2d'),
)


@pytest.mark.parametrize('kind', FUZZ)
def test_fuzz(tmp_path, kind):
    write_small(kind, tmp_path / 'a')
    reader = ThreeDPW if kind == 'pw' else Human36M

    def read(root):
        make = lambda on_error: reader(root, on_error=on_error, size=32, **FUZZ[kind])
        return read_all(make)

    told = fuzz(read, tmp_path / 'a', n=200, seed=1)
    assert sum(told.values()) == 200
    assert told['inside'] > 50
