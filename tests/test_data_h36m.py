"Readers of Human3.6M (three packagings) and 3DPW against trees with known truth, bad input of every kind, and damage at random."

import json, pickle, random, warnings
from pathlib import Path
import numpy as np, pytest, torch
from fixtures_h36m import (
    DOT,
    H36M_LENS,
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
from geomrecon.readers.h36m import Human36M
from geomrecon.readers.threedpw import ThreeDPW
from geomrecon.readers.h36m_json import camera_frame
from geomrecon.readers.h36m_crops import crop_corner
from geomrecon.readers.h36m_cameras import draw_test, lens_project
from geomrecon.data.pairs import FramePairs
from geomrecon.core.errors import ConfigError, DataError, LabelError, MediaError


def at(truth, m):
    return {k: v[m] for k, v in truth.items()}


def to_px(kp, size=256):
    return ((np.asarray(kp) + 1) * size - 1) / 2


def agrees(ds, T, root, rel='file'):
    "Keypoints, 3D, intrinsics, names, frames and videos are those of the truth, in its order"
    assert [ds.file(i).relative_to(root).as_posix() for i in range(len(ds))] == T['file'].tolist()
    assert (
        np.abs(ds.keypoints - T['keypoints']).max() < 0.1
        and np.abs(ds.joints3d - T['xyz']).max() < 0.1
    )
    assert np.abs(ds.intrinsics - T['K']).max() < 0.01 and (ds.frame == T['frame']).all()
    if 'video' in T:
        a = np.unique(T['video'], return_inverse=True)[1].reshape(-1)
        b = ds.video_id
        assert ((a[:, None] == a) == (b[:, None] == b)).all()
    if 'view' in T:
        assert (ds.view == T['view']).all() and (ds.subject == T['subject']).all()
    assert np.nanmax(ds.reprojection()) < 0.1


def dots(ds, r=10):
    "The dot on the right wrist is where the label of the crop says, and the crop's own camera projects 3D onto the labels"
    b = ds.batch(np.arange(len(ds)))
    px = to_px(b['keypoints'], ds.size)
    for img, p in zip(b['image'].numpy(), px[:, DOT]):
        x0, y0 = np.round(p).astype(int) - r
        w = img[:, y0 : y0 + 2 * r + 1, x0 : x0 + 2 * r + 1].min(0).astype(float)
        yy, xx = np.mgrid[y0 : y0 + w.shape[0], x0 : x0 + w.shape[1]]
        w = np.where(np.hypot(xx - p[0], yy - p[1]) < r, w, 0)
        assert w.sum() > 500
        assert np.hypot((w * xx).sum() / w.sum() - p[0], (w * yy).sum() / w.sum() - p[1]) < 0.1
    d = b['distortion'].double().numpy() if 'distortion' in b else None
    assert (
        np.abs(
            lens_project(b['joints3d'].double().numpy(), b['intrinsics'].double().numpy(), d) - px
        ).max()
        < 0.02
    )


def edit(path, f):
    "Change a JSON file in place"
    d = json.loads(path.read_text())
    d = f(d) or d
    path.write_text(json.dumps(d))


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


def fifth(T, subjects):
    return np.concatenate([np.flatnonzero(T['subject'] == s)[::5] for s in subjects])


# ---- Human3.6M, 3DMPPE's JSON


def test_mppe_truth(trees):
    root, T = trees['mppe']
    ds = Human36M(root)
    agrees(ds, at(T, fifth(T, (1, 5, 6, 7, 8))), root)
    dots(ds)
    assert ds.form == '3dmppe' and set(ds.notes) == {'RX+t'}
    ds = Human36M(root, 'all', every=1)
    agrees(ds, T, root)
    ds = Human36M(root, 'test', draw='all', every=2)
    agrees(
        ds, at(T, np.concatenate([np.flatnonzero(T['subject'] == s)[::2] for s in (9, 11)])), root
    )
    ds = Human36M(root, subjects=(5,), every=1, images=False)
    agrees(ds, at(T, T['subject'] == 5), root)
    assert (
        len(Human36M(root, test_subjects=(11,))) == 18
        and len(Human36M(root, 'test', test_subjects=11, draw='all')) == 3
    )


def test_json_folder_given_or_flat(trees, tmp_path):
    import shutil

    root, T = trees['mppe']
    T = at(T, T['subject'] == 5)
    shutil.copytree(root / 'annotations', tmp_path / 'labels')
    ds = Human36M(tmp_path, subjects=(5,), every=1, annotations=tmp_path / 'labels', images=False)
    agrees(ds, T, tmp_path)
    ds = Human36M(tmp_path / 'labels', subjects=(5,), every=1, images=False)
    agrees(ds, T, tmp_path / 'labels')


def test_mppe_older_packaging(tmp_path):
    T = write_h36m(tmp_path, subjects=(1,), packaging='R(X-T)', images=False, seed=5)
    ds = Human36M(tmp_path, subjects=(1,), every=1, images=False)
    agrees(ds, T, tmp_path)
    assert set(ds.notes) == {'R(X-T)'}
    ds = Human36M(tmp_path, subjects=(1,), extrinsics='R(X-T)', every=1, images=False)
    agrees(ds, T, tmp_path)
    try:
        assert (
            np.abs(
                Human36M(tmp_path, subjects=(1,), extrinsics='RX+t', every=1, images=False).joints3d
                - T['xyz']
            ).max()
            > 1000
        )  # told so, it obeys
    except LabelError:
        pass
    edit(
        tmp_path / 'annotations/Human36M_subject1_camera.json', lambda d: d['3'].update(t=[0, 0, 0])
    )
    with pytest.raises(LabelError, match='camera 3'):
        Human36M(tmp_path, subjects=(1,), images=False, every=1)


def test_draw_is_the_baselines(trees):
    root, T = trees['mppe']
    ds = Human36M(root, 'test')
    T = at(T, fifth(T, (9, 11)))
    random.seed(42)
    want = random.choices(list(T['file']), k=3200)
    assert [ds.file(i).relative_to(root).as_posix() for i in range(3200)] == want
    for draw, n in (('unique', 6), ('all', 6)):
        d = Human36M(root, 'test', draw=draw)
        assert len(d) == n and len({str(d.file(i)) for i in range(n)}) == n
    assert len(Human36M(root, 'test', n_test=7)) == 7 and len(ds.batch([0, 1, 3199])['image']) == 3
    assert len(ds.frames().images([0, 3199])) == 2


def test_thorax_visible_clock(trees):
    root, T = trees['mppe']
    one = T['subject'] == 1
    for name, j in (('spine', 7), ('neck', 8)):
        ds = Human36M(root, subjects=(1,), every=1, thorax=name)
        j3 = to_h36m(T['xyz'][one])
        if name == 'neck':
            assert np.abs(ds.joints3d[:, 7] - j3[:, 8]).max() < 0.1
        assert (
            np.abs(ds.joints3d[:, 7] - T['xyz'][one][:, 7]).max() > 10
            and np.abs(np.delete(ds.joints3d - T['xyz'][one], 7, 1)).max() < 0.1
        )
    assert Human36M(root).visible.all() and Human36M(root, visible='inside').visible.all()
    assert (Human36M(root, clock=10).frame * 5 <= Human36M(root).frame).all()
    with pytest.raises(ConfigError, match='clock'):
        Human36M(root, clock=10, every=1)


def test_visible_inside(tmp_path):
    T = write_h36m(tmp_path, subjects=(1,), images=False, seed=5)
    x = T['keypoints'][..., 0]
    w = int(np.median(x))
    edit(
        tmp_path / 'annotations/Human36M_subject1_data.json',
        lambda d: [i.update(width=w) for i in d['images']] and None,
    )
    ds = Human36M(
        tmp_path, subjects=(1,), every=1, images=False, visible='inside', extrinsics='RX+t'
    )
    assert (ds.visible == (x <= w - 0.5)).all() and not ds.visible.all()


def test_mppe_pairs_stay_in_their_video(trees):
    root, T = trees['mppe']
    ds = Human36M(root, 'all', every=1)
    fp = FramePairs(ds.frames(), (2, 4))
    i, j = fp.sample(np.arange(len(fp)), np.random.default_rng(0))
    assert (T['video'][i] == T['video'][j]).all() and (
        np.isin(np.abs(T['frame'][i] - T['frame'][j]), (2, 3, 4))
    ).all()


def test_broken_sequence_is_left_out(tmp_path):
    T = write_h36m(tmp_path, subjects=(11,), acts=((2, 1), (2, 2)), images=False)
    ds = Human36M(tmp_path, 'test', subjects=(11,), every=1, images=False, draw='all')
    keep = T['video'] != 's_11_act_02_subact_02_ca_01'
    agrees(ds, at(T, keep), tmp_path)
    assert any('broken' in k for k in ds.notes)


def test_check_names_what_is_missing(trees, tmp_path):
    root, _ = trees['mppe']
    assert Human36M.check(root, 'all').ok and 'complete' in repr(Human36M.check(root))
    write_h36m(tmp_path, subjects=(1, 5), images=False)
    c = Human36M.check(tmp_path)
    assert (
        not c.ok
        and any('Human36M_subject8_camera.json' in m for m in c.missing)
        and any('images/s_01' in m for m in c.missing)
    )
    with pytest.raises(DataError, match='vision.imar.ro') as e:
        Human36M(tmp_path)
    assert 'Human36M_subject6' in str(e.value)
    with pytest.raises(DataError, match='packaging'):
        Human36M(tmp_path / 'nothing')
    assert len(Human36M(tmp_path, subjects=(1, 5), images=False)) == 6
    for bad in (
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
    ):
        with pytest.raises(ConfigError):
            Human36M(root, **bad)


def test_mppe_bad_images(tmp_path):
    T = write_h36m(tmp_path, subjects=(1,), seed=5)
    f = [tmp_path / p for p in T['file']]
    f[5].unlink()
    raw = f[0].read_bytes()
    f[0].write_bytes(raw[: len(raw) // 2])
    with pytest.raises(MediaError, match='000006.jpg: sample 1'):
        Human36M(tmp_path, subjects=(1,))
    with pytest.warns(UserWarning, match='missing image'):
        ds = Human36M(tmp_path, subjects=(1,), on_error='skip')
    assert len(ds) == 2 and ds.report['missing image'] == 1
    with pytest.warns(UserWarning, match='000001.jpg'):
        b = ds.batch([0, 1])
    assert b['index'].tolist() == [1] and ds.unread == 1
    f[5].write_bytes(raw)
    ds = Human36M(tmp_path, subjects=(1,))
    with pytest.raises(MediaError, match='000001.jpg'):
        ds.batch([0])


MPPE_DAMAGE = {
    'NaN': (lambda d: d['2']['1']['0'][3].__setitem__(0, float('nan')), 'joint_3d'),
    'absurd': (lambda d: d['2']['1']['0'][3].__setitem__(0, 1e7), 'joint_3d'),
    'shape': (lambda d: d['2']['1']['0'].pop(), 'joint_3d'),
    'text': (lambda d: d['2']['1']['0'][3].__setitem__(0, 'x'), 'joint_3d'),
    'gone': (lambda d: d['2']['1'].pop('0') and None, 'joint_3d'),
    'no name': (lambda d: d['images'][0].pop('file_name') and None, 'data'),
    'odd id': (lambda d: d['images'][0].update(cam_idx='one'), 'data'),
    'other subject': (lambda d: d['images'][0].update(subject=5), 'data'),
    'twice': (lambda d: d['images'].insert(0, d['images'][0]), 'data'),
    'same frame, another file': (
        lambda d: d['images'].insert(
            1, dict(d['images'][0], file_name=d['images'][1]['file_name'])
        ),
        'data',
    ),
}


@pytest.mark.parametrize('kind', MPPE_DAMAGE)
def test_mppe_bad_labels(tmp_path, kind):
    T = write_h36m(tmp_path, subjects=(1,), images=False, seed=5)
    f, name = MPPE_DAMAGE[kind]

    def change(d):
        f(d)

    edit(tmp_path / f'annotations/Human36M_subject1_{name}.json', change)
    kw = dict(subjects=(1,), every=1, images=False)
    with pytest.raises(LabelError) as e:
        Human36M(tmp_path, **kw)
    assert 'subject1' in str(e.value) or 's_01_act_02' in str(e.value), str(e.value)
    with pytest.warns(UserWarning, match='left out'):
        ds = Human36M(tmp_path, on_error='skip', **kw)
    assert (
        sum(ds.report.values()) in (1, 2)
        and len(ds) >= len(T['file']) - 2
        and np.isfinite(ds.keypoints).all()
    )


def test_mppe_bad_cameras(tmp_path):
    write_h36m(tmp_path, subjects=(1,), images=False)
    p = tmp_path / 'annotations/Human36M_subject1_camera.json'
    good = p.read_text()
    for change in (
        lambda d: d.pop('3') and None,
        lambda d: d['3'].update(R=[[1, 0, 0]] * 3),
        lambda d: d['3'].update(f=[0, 0]),
        lambda d: d['3'].update(t=[1, 2]),
        lambda d: d['3'].update(c=[float('nan')] * 2),
        lambda d: d['3'].pop('f') and None,
    ):
        edit(p, change)
        with pytest.raises(LabelError, match='camera'):
            Human36M(tmp_path, subjects=(1,), every=1, images=False)
        p.write_text(good)


def test_unsorted_frames_keep_their_numbers(tmp_path):
    T = write_h36m(tmp_path, subjects=(1,), images=False)
    order = np.random.default_rng(0).permutation(len(T['file']))
    edit(
        tmp_path / 'annotations/Human36M_subject1_data.json',
        lambda d: d.update(images=[d['images'][i] for i in order]),
    )
    ds = Human36M(tmp_path, subjects=(1,), every=1, images=False)
    agrees(ds, at(T, order), tmp_path)
    fp = FramePairs(ds.frames(), (1, 1))
    i, j = fp.sample(np.arange(len(fp)), np.random.default_rng(0))
    v, f = T['video'][order], T['frame'][order]
    assert (v[i] == v[j]).all() and (np.abs(f[i] - f[j]) == 1).all()


def test_empty_lists(tmp_path):
    write_h36m(tmp_path, subjects=(1,), images=False)
    edit(tmp_path / 'annotations/Human36M_subject1_data.json', lambda d: d.update(images=[]))
    with pytest.raises(DataError):
        Human36M(tmp_path, subjects=(1,), images=False)


# ---- Human3.6M, mmpose's arrays


def test_mmpose_truth(trees):
    root, T = trees['mm']
    for fps, step in ((10, 5), (50, 1)):
        ds = Human36M(root, fps=fps, images=fps == 10)
        agrees(ds, at(T, (T['subject'] == 1) & (T['frame'] % step == 0)), root)
        if fps == 10:
            dots(ds)
    ds = Human36M(root, 'test', draw='all')
    agrees(ds, at(T, (T['subject'] == 9) & (T['frame'] % 5 == 0)), root)
    dots(ds)
    assert (
        len(Human36M(root, 'all')) == 24
        and len(Human36M(root, 'all', every=2)) == 12
        and len(Human36M(root, subjects=(1, 9))) == 24
        and len(Human36M(root, test_subjects=(11,))) == 24
    )
    names = set(T['size'][:, 0])
    assert names == {1000, 1002} and set(ds.pictures.frame_size[:, 0]) == names


def test_mmpose_pinhole(trees):
    root, T = trees['mm']
    ds = Human36M(root, lens='pinhole')
    T = at(T, (T['subject'] == 1) & (T['frame'] % 5 == 0))
    assert ds.distortion is None
    want = np.stack([pinhole(x, *H36M_LENS[v][:2]) for x, v in zip(T['xyz'], T['view'])])
    assert (
        np.abs(ds.keypoints - want).max() < 0.01
        and 0.1 < np.abs(ds.keypoints - T['keypoints']).max() < 3
    )
    assert np.nanmax(ds.reprojection()) < 0.01
    b = ds.batch([0, 3])
    assert (
        np.abs(
            lens_project(b['joints3d'].double().numpy(), b['intrinsics'].double().numpy())
            - to_px(b['keypoints'])
        ).max()
        < 0.02
    )


def test_mmpose_small_form(trees, tmp_path):
    root, T = trees['coco']
    ds = Human36M(root)
    agrees(ds, T, root)
    dots(ds)
    (tmp_path / 'a').mkdir()
    (tmp_path / 'b').mkdir()
    (tmp_path / 'a/labels.json').write_bytes((root / 'h36m_coco.json').read_bytes())
    (tmp_path / 'b/cams.pkl').write_bytes((root / 'cameras.pkl').read_bytes())
    ds = Human36M(
        tmp_path,
        annotations=tmp_path / 'a/labels.json',
        cameras=tmp_path / 'b/cams.pkl',
        images=False,
    )
    assert len(ds) == len(T['file']) and np.nanmax(ds.reprojection()) < 0.05
    ds = Human36M(
        root, annotations=root / 'h36m_coco.json', cameras=tmp_path / 'b/cams.pkl', subjects=(8,)
    )
    agrees(ds, at(T, T['subject'] == 8), root)
    with pytest.raises(DataError, match='cameras'):
        Human36M(tmp_path / 'a', annotations=tmp_path / 'a/labels.json')


def test_mmpose_flat_npz(trees, tmp_path):
    "The small arrays of mmpose's tests: bare names, everything in one folder, strings as objects"
    root, T = trees['mm']
    T = at(T, (T['frame'] == 0))
    base = [n.split('/')[-1] for n in T['name']]
    for dtype in ('U', object):
        np.savez(
            tmp_path / 'test_h36m_body3d.npz',
            imgname=np.array(base, dtype),
            center=T['center'],
            scale=T['scale'],
            part=T['part'],
            S=T['S'],
        )
    (tmp_path / 'cameras.pkl').write_bytes((root / 'annotation_body3d/cameras.pkl').read_bytes())
    for n, f in zip(base, T['file']):
        (tmp_path / n).write_bytes((root / f).read_bytes())
    ds = Human36M(tmp_path, annotations=tmp_path / 'test_h36m_body3d.npz')
    T['file'] = np.array(base)
    agrees(ds, T, tmp_path)
    dots(ds)


MMPOSE_DAMAGE = {
    'NaN': lambda d: d['part'].__setitem__((2, 1, 0), np.nan),
    'absurd': lambda d: d['part'].__setitem__((2, 1, 0), 1e7),
    'far': lambda d: d['S'].__setitem__((2, 1, 2), 1e4),
    'behind': lambda d: d['S'].__setitem__((2, 1, 2), -3),
    'name': lambda d: d['imgname'].__setitem__(2, 'picture.jpg'),
    'twice': lambda d: [d[k].__setitem__(2, d[k][1]) for k in d],
}


@pytest.mark.parametrize('kind', MMPOSE_DAMAGE)
def test_mmpose_bad_labels(trees, tmp_path, kind):
    import shutil

    root, T = trees['mm']
    shutil.copytree(root / 'annotation_body3d', tmp_path / 'annotation_body3d')
    p = tmp_path / 'annotation_body3d/fps10/h36m_train.npz'
    d = {k: v.copy() for k, v in np.load(p).items()}
    MMPOSE_DAMAGE[kind](d)
    np.savez(p, **d)
    with pytest.raises(LabelError) as e:
        Human36M(tmp_path, images=False)
    assert 'S1_' in str(e.value) or 'sample 2' in str(e.value)
    with pytest.warns(UserWarning, match='left out'):
        ds = Human36M(tmp_path, images=False, on_error='skip')
    assert len(ds) == 11 and sum(ds.report.values()) == 1


def test_mmpose_bad_files(trees, tmp_path):
    import shutil

    root, T = trees['mm']
    shutil.copytree(root / 'annotation_body3d', tmp_path / 'annotation_body3d')
    p = tmp_path / 'annotation_body3d/fps10/h36m_train.npz'
    good = p.read_bytes()
    d = dict(np.load(p))
    for bad in (
        dict(d, part=d['part'][:, :16]),
        dict(d, S=d['S'][:3]),
        {k: v for k, v in d.items() if k != 'S'},
        dict(d, imgname=np.arange(len(d['part']))),
    ):
        np.savez(p, **bad)
        with pytest.raises(LabelError, match='h36m_train'):
            Human36M(tmp_path, images=False)
    p.write_bytes(good[:500])
    with pytest.raises(LabelError, match='h36m_train'):
        Human36M(tmp_path, images=False)
    np.savez(p, **{k: v[:0] for k, v in d.items()})
    with pytest.raises(DataError):
        Human36M(tmp_path, images=False)
    p.write_bytes(good)
    c = tmp_path / 'annotation_body3d/cameras.pkl'
    cams = pickle.loads(c.read_bytes())
    for bad in (
        {k: v for k, v in cams.items() if k[1] != '58860488'},
        {'S1': 3},
        {k: dict(v, R=np.ones((3, 3))) for k, v in cams.items()},
        {k: dict(v, f=np.zeros(2)) for k, v in cams.items()},
        {k: dict(v, k=np.zeros(2)) for k, v in cams.items()},
        [1],
    ):
        c.write_bytes(pickle.dumps(bad))
        with pytest.raises(LabelError, match='cameras.pkl'):
            Human36M(tmp_path, images=False)

    class Evil:
        def __reduce__(self):
            return (print, ('run',))

    c.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(LabelError, match='refused'):
        Human36M(tmp_path, images=False)
    shutil.rmtree(tmp_path / 'annotation_body3d/fps10')
    with pytest.raises(DataError, match='fps10'):
        Human36M(tmp_path, images=False)


def test_mmpose_bad_images(trees, tmp_path):
    import shutil

    root, T = trees['mm']
    shutil.copytree(root, tmp_path / 'mm')
    f = sorted((tmp_path / 'mm/images/S1').rglob('*.jpg'))
    f[3].unlink()
    f[5].write_bytes(f[5].read_bytes()[:3000])
    with pytest.raises(MediaError, match=f[3].name):
        Human36M(tmp_path / 'mm')
    with pytest.warns(UserWarning):
        ds = Human36M(tmp_path / 'mm', on_error='skip')
        b = ds.batch(np.arange(len(ds)))
    assert len(ds) == 11 and len(b['image']) == 10 and ds.unread == 1
    import cv2

    cv2.imwrite(str(f[5]), np.zeros((500, 500, 3), np.uint8))
    f[3].write_bytes(f[4].read_bytes())
    with pytest.raises(MediaError, match='500x500'):
        Human36M(tmp_path / 'mm').batch(np.arange(12))


def test_lens_model():
    rng = np.random.default_rng(0)
    X = rng.uniform([-1500, -1500, 3000], [1500, 1500, 7000], (4, 30, 3))
    for i, (f, c, k, p, w, h) in enumerate(H36M_LENS.values()):
        K = np.array([[[f[0], 0, c[0]], [0, f[1], c[1]], [0, 0, 1]]])
        assert (
            np.abs(
                lens_project(X[i : i + 1], K, np.array([k + p]))[0] - lens(X[i], f, c, k, p)
            ).max()
            < 1e-9
        )
    assert np.isnan(lens_project(-X, np.broadcast_to(K, (4, 3, 3)))).all()


# ---- Human3.6M, RegDA's crops


@pytest.mark.parametrize('how', ['annotations', 'bones', 'auto'])
def test_crops_truth(trees, how):
    root, T = trees['crops']
    ds = Human36M(root, form='regda', crop_camera=how)
    agrees(ds, at(T, ~np.isin(T['subject'], (9, 11))), root)
    dots(ds)
    assert set(+ds.notes) == {'annotations' if how == 'auto' else how}
    assert (ds.pictures.box == [0, 0, 512, 512]).all()


def test_crops_as_stored(trees):
    root, T = trees['crops']
    T = at(T, ~np.isin(T['subject'], (9, 11)))
    ds = Human36M(root, form='regda', crop_camera='stored', centres='stored')
    assert (
        np.abs(ds.keypoints - T['stored']).max() < 0.01
        and np.abs(ds.joints3d - T['wrong']).max() < 0.1
        and np.nanmax(ds.reprojection()) < 0.01
    )
    rel = lambda x: x - x[:, 6:7]
    assert (
        np.abs(rel(ds.joints3d) - rel(T['xyz'])).max() > 20
        and np.abs(ds.joints3d[..., 2] - T['xyz'][..., 2]).max() < 0.1
    )


def test_crops_alone(tmp_path):
    T = write_h36m_crops(tmp_path, subjects=(1, 9), raw=False, frames=21, images=False, seed=8)
    ds = Human36M(tmp_path, subjects=(1, 9), images=False)
    assert ds.form == 'regda' and set(+ds.notes) == {'bones'}
    agrees(ds, T, tmp_path)
    t = Human36M(tmp_path, 'test', subjects=(9,), images=False)
    assert len(t) == 3200
    with pytest.raises(ConfigError, match='thorax'):
        Human36M(tmp_path, subjects=(1,), images=False, thorax='spine')
    with pytest.raises(DataError, match='keypoints2d_5.json'):
        Human36M(tmp_path, images=False)


def test_bones_survive_small_asymmetry_and_refuse_large(tmp_path):
    T = write_h36m_crops(tmp_path, subjects=(1,), raw=False, frames=101, images=False, seed=8)
    f = np.array([H36M_LENS[v][0] for v in T['view']])
    true = (T['xyz'] - T['wrong'])[:, 6, :2] / T['xyz'][:, 6, 2:] * f

    def sheared(x):
        x = x.copy()
        x[..., :2] -= (true / f)[:, None] * x[..., 2:]
        return x

    def longer(mm):
        x = T['xyz'].copy()
        d = x[:, 10] - x[:, 11]
        x[:, 10] += mm * d / np.linalg.norm(d, axis=1, keepdims=True)
        return sheared(x)

    corner, sure = crop_corner(longer(0.01), f)
    assert sure.mean() > 0.9 and np.abs(corner - true)[sure].max() < 0.1
    corner, sure = crop_corner(longer(40.0), f)
    assert not sure.any() or np.abs(corner - true)[sure].max() < 0.1
    noise = np.random.default_rng(0).normal(0, 5, T['xyz'].shape)
    corner, sure = crop_corner(sheared(T['xyz'] + noise), f)
    assert sure.mean() < 0.1


def test_unknown_crop_camera_is_nan(tmp_path):
    write_h36m_crops(tmp_path, subjects=(1,), raw=False, frames=6, images=False, seed=8)
    edit(
        tmp_path / 'annotations/keypoints2d_1.json',
        lambda l: (
            [
                e.update(
                    keypoint3d=(
                        np.array(e['keypoint3d']) + np.random.default_rng(i).normal(0, 20, (16, 3))
                    ).tolist()
                )
                for i, e in enumerate(l)
            ]
            and None
        ),
    )
    ds = Human36M(tmp_path, subjects=(1,), images=False)
    assert (
        np.isnan(ds.joints3d).all()
        and np.isnan(ds.intrinsics).all()
        and ds.notes['crop camera unknown'] == len(ds)
        and np.isnan(ds.reprojection()).all()
    )
    r = ds.summary(show=False)
    assert r['reprojection_px'] is None


def test_crops_of_something_else(tmp_path):
    T = write_h36m_crops(tmp_path, subjects=(1,), frames=6, images=False, seed=8)
    edit(
        tmp_path / 'annotations/keypoints2d_1.json',
        lambda l: l[0]['keypoint2d'][3].__setitem__(0, 400.0),
    )
    with pytest.raises(LabelError, match='does not fit'):
        Human36M(tmp_path, form='regda', subjects=(1,), images=False)
    with pytest.warns(UserWarning, match='something else'):
        ds = Human36M(tmp_path, form='regda', subjects=(1,), images=False, on_error='skip')
    assert (
        np.isnan(ds.joints3d[0]).all()
        and np.isfinite(ds.joints3d[1:]).all()
        and np.abs(np.delete(ds.keypoints - T['keypoints'], 3, 1)).max() < 0.1
    )


def test_two_packagings_in_one_folder(trees):
    with pytest.raises(DataError, match='form='):
        Human36M(trees['crops'][0])
    assert Human36M(trees['crops'][0], form='3dmppe', images=False).form == '3dmppe'


CROP_DAMAGE = {
    'NaN': lambda l: l[1]['keypoint2d'][3].__setitem__(0, float('nan')),
    'absurd': lambda l: l[1]['keypoint2d'][3].__setitem__(0, 1e7),
    'shape': lambda l: l[1]['keypoint3d'].pop(),
    'name': lambda l: l[1].update(name='x.jpg'),
    'K': lambda l: l[1].update(intrinsic_matrix=[[0] * 3] * 3),
    'no key': lambda l: l[1].pop('keypoint2d'),
    'other subject': lambda l: l[1].update(name=l[1]['name'].replace('s_01', 's_05')),
    'twice': lambda l: l.insert(1, l[1]),
}


@pytest.mark.parametrize('kind', CROP_DAMAGE)
def test_crops_bad_labels(tmp_path, kind):
    write_h36m_crops(tmp_path, subjects=(1,), raw=False, frames=21, images=False, seed=8)

    def change(l):
        CROP_DAMAGE[kind](l)

    edit(tmp_path / 'annotations/keypoints2d_1.json', change)
    with pytest.raises(LabelError) as e:
        Human36M(tmp_path, subjects=(1,), images=False)
    assert 'entry 1' in str(e.value) or 'sample' in str(e.value)
    with pytest.warns(UserWarning, match='left out'):
        ds = Human36M(tmp_path, subjects=(1,), images=False, on_error='skip')
    assert len(ds) == 9 - (kind != 'twice')


# ---- 3DPW


def test_3dpw_truth(trees):
    root, T = trees['pw']
    for split in ('train', 'validation', 'test'):
        ds = ThreeDPW(root, split)
        t = at(T, T['split'] == split)
        t['video'] = np.array([f'{s} {a}' for s, a in zip(t['sequence'], t['actor'])])
        agrees(ds, t, root)
        last = t['actor'] == np.array([t['actor'][t['sequence'] == s].max() for s in t['sequence']])
        dots(ds.subset(last))
        assert (ds.pictures.frame_size == t['size']).all() and (ds.subject == t['actor']).all()
    assert len(ThreeDPW(root, 'all')) == len(T['file']) and len(ThreeDPW(root, every=4)) == 6
    fp = FramePairs(ThreeDPW(root).frames(), (1, 2))
    i, j = fp.sample(np.arange(len(fp)), np.random.default_rng(0))
    t = at(T, T['split'] == 'train')
    assert (t['sequence'][i] == t['sequence'][j]).all() and (t['actor'][i] == t['actor'][j]).all()


def test_3dpw_without_images(tmp_path):
    T = write_3dpw(tmp_path, images=False, nested=True, val='val', betas=300)
    ds = ThreeDPW(tmp_path, 'validation', images=False)
    agrees(ds, at(T, T['split'] == 'validation'), tmp_path)
    assert (ds.pictures.frame_size == (1920, 1080)).all()
    with pytest.raises(DataError, match='courtyard_sit_00'):
        ThreeDPW(tmp_path, 'validation')


def test_3dpw_shoulders_and_boxes(trees):
    root, T = trees['pw']
    t = at(T, T['split'] == 'test')
    a = ThreeDPW(root, 'test')
    b = ThreeDPW(root, 'test', shoulders='collar')
    assert (
        np.abs(b.joints3d[:, 12] - t['smpl'][:, 14]).max() < 0.1
        and np.abs(b.joints3d[:, 13] - t['smpl'][:, 13]).max() < 0.1
        and np.abs(np.delete(a.joints3d - b.joints3d, (12, 13), 1)).max() < 0.01
    )
    c = ThreeDPW(root, 'test', box='poses2d', margin=1.2)
    d = t['detected'][:, :2]
    side = 1.2 * np.maximum(*(d.max(2) - d.min(2)).T)
    assert np.abs(c.pictures.box[:, 2] - side).max() <= 0.51
    lo = t['keypoints'].min(1)
    hi = t['keypoints'].max(1)
    assert np.abs(a.pictures.box[:, 2] - 1.5 * (hi - lo).max(1)).max() <= 0.51


def test_3dpw_rules(tmp_path):
    write_3dpw(
        tmp_path,
        frames=8,
        images=False,
        invalid=(0, 3),
        undetected=(1, 3),
        sequences=dict(train=(('a_00', 2, False),)),
    )
    for v, n in (('all', 16), ('campose', 12), ('campose+poses2d', 10)):
        assert len(ThreeDPW(tmp_path, valid=v, images=False)) == n
    ds = ThreeDPW(tmp_path, images=False)
    assert ds.left['camera not aligned for the actor'] == 4 and 0 not in ds.frame and not ds.report
    r = ds.summary(show=False)
    assert r['by_rule'] and r['samples'] == 12


@pytest.mark.parametrize('cut', ['images', 'poses', 'cameras'])
def test_3dpw_frame_counts_differ(tmp_path, cut):
    T = write_3dpw(tmp_path, frames=5, cut={cut: 2}, sequences=dict(train=(('a_00', 1, False),)))
    ds = ThreeDPW(tmp_path)
    assert len(ds) == 3 and max(ds.frame) == 2 and sum(ds.left.values()) == 2
    agrees(ds, at(T, T['frame'] < 3), tmp_path)


def test_3dpw_actor_at_the_rim(tmp_path):
    T = write_3dpw(
        tmp_path, frames=12, images=False, aside=2300.0, sequences=dict(train=(('a_00', 1, False),))
    )
    W = 1920
    inside = ((T['keypoints'] >= -0.5) & (T['keypoints'] <= np.array([1919.5, 1079.5]))).all(-1)
    assert 0 < inside.mean() < 1
    ds = ThreeDPW(tmp_path, images=False, least=1)
    k = inside.sum(1) >= 1
    assert len(ds) == k.sum() and (ds.visible == inside[k]).all()
    b = ds.pictures.box
    assert (b[:, 0] >= 0).all() and (b[:, 0] + b[:, 2] <= W).all()
    few = inside.sum(1).max()
    ds = ThreeDPW(tmp_path, images=False, least=int(few))
    assert len(ds) == (inside.sum(1) >= few).sum()
    assert ThreeDPW(tmp_path, images=False, visible='all', least=1).visible.all()


def repickle(p, change):
    d = pickle.loads(p.read_bytes(), encoding='latin1')
    change(d)
    p.write_bytes(python2_pickle(d))


PW_DAMAGE = {
    'NaN': lambda d: d['jointPositions'][0].__setitem__((2, 24), np.nan),
    'absurd': lambda d: d['jointPositions'][0].__setitem__((2, 24), 1e6),
    'camera': lambda d: d['cam_poses'].__setitem__((2, 0, 0), 9.0),
    'NaN camera': lambda d: d['cam_poses'].__setitem__((2, 0, 3), np.nan),
}


@pytest.mark.parametrize('kind', PW_DAMAGE)
def test_3dpw_bad_frames(tmp_path, kind):
    write_3dpw(tmp_path, frames=5, images=False, sequences=dict(train=(('a_00', 1, False),)))
    repickle(tmp_path / 'sequenceFiles/train/a_00.pkl', PW_DAMAGE[kind])
    with pytest.raises(LabelError) as e:
        ThreeDPW(tmp_path, images=False)
    assert 'frame 2' in str(e.value) or 'image_00002.jpg' in str(e.value)
    with pytest.warns(UserWarning, match='left out'):
        ds = ThreeDPW(tmp_path, images=False, on_error='skip')
    assert len(ds) == 4 and sum(ds.report.values()) == 1


PW_FILES = {
    'joints': lambda d: d.update(jointPositions=[x[:, :60] for x in d['jointPositions']]),
    'actors': lambda d: d.update(campose_valid=[]),
    'K': lambda d: d.update(cam_intrinsics=np.zeros((3, 3))),
    'key': lambda d: d.pop('cam_poses'),
    'poses': lambda d: d.update(cam_poses=d['cam_poses'][:, :3]),
    'none': lambda d: d.update(jointPositions=3),
}


@pytest.mark.parametrize('kind', PW_FILES)
def test_3dpw_bad_files(tmp_path, kind):
    write_3dpw(tmp_path, frames=3, images=False)
    repickle(tmp_path / 'sequenceFiles/train/downtown_talk_01.pkl', PW_FILES[kind])
    with pytest.raises(LabelError, match='downtown_talk_01.pkl'):
        ThreeDPW(tmp_path, images=False)
    with pytest.warns(UserWarning, match='unreadable sequence'):
        ds = ThreeDPW(tmp_path, images=False, on_error='skip')
    assert len(ds) == 3


def test_3dpw_bad_images(tmp_path):
    write_3dpw(tmp_path, frames=4, sequences=dict(train=(('a_00', 1, False),)))
    f = tmp_path / 'imageFiles/a_00'
    raw = (f / 'image_00001.jpg').read_bytes()
    (f / 'image_00001.jpg').unlink()
    with pytest.raises(MediaError, match='image_00001.jpg'):
        ThreeDPW(tmp_path)
    with pytest.warns(UserWarning, match='missing image'):
        assert len(ThreeDPW(tmp_path, on_error='skip')) == 3
    (f / 'image_00001.jpg').write_bytes(raw[: len(raw) // 2])
    ds = ThreeDPW(tmp_path)
    with pytest.raises(MediaError, match='image_00001.jpg'):
        ds.batch([1])
    with pytest.warns(UserWarning):
        ds = ThreeDPW(tmp_path, on_error='skip')
        assert len(ds.batch(range(4))['image']) == 3 and len(ds.frames().images(range(4))) == 4


def test_3dpw_bad_options(trees, tmp_path):
    root, _ = trees['pw']
    for bad in (
        dict(split='val2'),
        dict(shoulders='x'),
        dict(valid='x'),
        dict(box='x'),
        dict(visible='x'),
        dict(every=0),
        dict(least=-1),
        dict(on_error='x'),
        dict(size='x'),
    ):
        with pytest.raises(ConfigError):
            ThreeDPW(root, **bad)
    with pytest.raises(DataError, match='virtualhumans'):
        ThreeDPW(tmp_path)
    write_3dpw(tmp_path, images=False, frames=2, invalid=(0, 1))
    with pytest.raises(DataError):
        ThreeDPW(tmp_path, images=False)


# ---- damage at random

FUZZ = dict(
    mppe=(
        lambda r: write_h36m(r, subjects=(1,), cams=(1,), frames=4),
        lambda r, **k: Human36M(r, subjects=(1,), every=1, form='3dmppe', **k),
    ),
    npz=(
        lambda r: write_h36m_mmpose(r, subjects=(1,), acts=((2, 1),), cams=(1,)),
        lambda r, **k: Human36M(r, form='mmpose', **k),
    ),
    coco=(
        lambda r: write_h36m_mmpose(r, subjects=(1,), acts=((2, 1),), cams=(1,), form='coco'),
        lambda r, **k: Human36M(r, form='mmpose', **k),
    ),
    crops=(
        lambda r: write_h36m_crops(r, subjects=(1,), raw=False, cams=(1,), frames=16),
        lambda r, **k: Human36M(r, form='regda', subjects=(1,), **k),
    ),
    both=(
        lambda r: write_h36m_crops(r, subjects=(1,), cams=(1,), frames=16),
        lambda r, **k: Human36M(r, form='regda', subjects=(1,), **k),
    ),
    pw=(
        lambda r: write_3dpw(r, frames=3, sequences=dict(train=(('a_00', 2, False),))),
        lambda r, **k: ThreeDPW(r, valid='campose+poses2d', box='poses2d', **k),
    ),
)


@pytest.mark.parametrize('kind', FUZZ)
def test_fuzz(tmp_path, kind):
    write, make = FUZZ[kind]
    write(tmp_path / 'a')
    told = fuzz(
        lambda r: read_all(lambda on_error: make(r, on_error=on_error, size=32)),
        tmp_path / 'a',
        n=200,
        seed=1,
    )
    assert sum(told.values()) == 200 and told['inside'] > 50
