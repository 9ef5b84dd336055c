"SURREAL, its crops, and LSP against generated folders of known truth, and against damaged ones."

import json, random, shutil, warnings
from pathlib import Path
import cv2, numpy as np, pytest, scipy.io, torch
from fixtures_surreal import body16, stack, write_lsp, write_mp4, write_surreal, write_surreal_crops
from fuzz import fuzz, read_all
from geomrecon.data import bodies
from geomrecon.data.pairs import FramePairs
from geomrecon.core.errors import ConfigError, DataError, GeomReconError, LabelError, MediaError
from geomrecon.core.geometry import project, to_pixels
from geomrecon.core.skeleton import BODY16

SURREAL = bodies.SURREAL
SURREALCrops = bodies.SURREALCrops
LSP = bodies.LSP
J = list(BODY16.joints)
pytestmark = pytest.mark.filterwarnings('ignore:.*left out')


def once(tmp_path_factory, name, write):
    d = tmp_path_factory.mktemp(name)
    return d, write(d)


@pytest.fixture(scope='module')
def surreal(tmp_path_factory):
    return once(tmp_path_factory, 'surreal', write_surreal)


@pytest.fixture(scope='module')
def crops(tmp_path_factory):
    return once(tmp_path_factory, 'crops', write_surreal_crops)


@pytest.fixture(scope='module')
def lsp(tmp_path_factory):
    return once(tmp_path_factory, 'lsp', write_lsp)


@pytest.fixture
def copy(tmp_path):
    "A function that gives a private copy of a fixture's folder"

    def f(src):
        shutil.copytree(src, tmp_path / 'copy', dirs_exist_ok=True)
        return tmp_path / 'copy'

    return f


def dot_error(b, joint, size, level=180.0):
    "Distance in pixels between the white dot in each crop and its joint"
    at = to_pixels(b['keypoints'][:, J.index(joint)], size)
    out = []
    for x, (u, v) in zip(b['image'].float().mean(1), at.tolist()):
        r = 9
        l, t = max(0, int(u) - r), max(0, int(v) - r)
        w = (x[t : int(v) + r + 1, l : int(u) + r + 1] - level).clamp_min(0)
        w = w.double().numpy()
        yy, xx = np.mgrid[t : t + w.shape[0], l : l + w.shape[1]]
        s = w.sum()
        out.append(np.hypot((w * xx).sum() / s - u, (w * yy).sum() / s - v) if s > 0 else np.inf)
    return np.array(out)


def info(root, name):
    return next(Path(root).rglob(f'{name}_info.mat'))


def change(path, **kw):
    m = {k: v for k, v in scipy.io.loadmat(path).items() if k[0] != '_'}
    for k, f in kw.items():
        m[k] = f(m[k])
    scipy.io.savemat(path, {k: v for k, v in m.items() if v is not None})


def put(a, i, v):
    a = np.array(a)
    a[i] = v
    return a


# ---------------------------------------------------------------- SURREAL
@pytest.mark.parametrize('shoulders', ['collar', 'shoulder'])
@pytest.mark.parametrize('chest', ['spine3', 'spine2'])
@pytest.mark.parametrize('names', ['person', 'smpl'])
def test_surreal_labels(surreal, shoulders, chest, names):
    root, t = surreal
    o = dict(shoulders=shoulders, chest=chest, names=names)
    ds = SURREAL(
        root, points='projected', images=False, **o
    )  # without videos the two frames beyond their end are kept
    keep = np.array(
        [not (ds.file(i).stem == 'ung_104_05_c0003' and ds.frame[i] > 6) for i in range(len(ds))]
    )
    ds = ds.subset(keep)
    assert (
        np.abs(ds.keypoints - body16(t.px, **o)).max() < 0.1
        and np.abs(ds.joints3d - body16(t.xyz, **o)).max() < 0.1
    )
    assert ds.reprojection().max() < 0.01
    stored = SURREAL(root, **o)
    assert np.abs(stored.keypoints - body16(t.px, **o)).max() <= 0.5 + 1e-4
    assert (
        np.abs(stored.keypoints - np.rint(stored.keypoints)).max() == 0
        and stored.reprojection().max() < 0.72
    )


def test_surreal_where_from(surreal):
    root, t = surreal
    ds = SURREAL(root)
    assert [
        str(ds.file(i).relative_to(t.base / 'cmu' / 'train'))[:-4] for i in range(len(ds))
    ] == t.clip
    assert (
        (ds.frame == t.frame).all()
        and (ds.subject == t.subject).all()
        and len(np.unique(ds.video_id)) == 5
    )
    assert dict(ds.report) == {
        'frames beyond the end of the video': 2,
        'frames without joints': 1,
        'frames with the person out of the image': 2,
    }
    assert ds.visible.all() and (np.bincount(ds.video_id) == [12, 12, 7, 5, 1]).all()


def test_surreal_crops_and_cameras(surreal):
    root, t = surreal
    ds = SURREAL(root, size=192, points='projected')
    b = ds.batch(range(len(ds)))
    again = project(b['joints3d'], b['intrinsics'])
    px = to_pixels(b['keypoints'], 192)
    assert (again - px).norm(dim=-1).max() < 0.02
    e = dot_error(b, t.dot, 192)
    assert e.max() < 0.1, e
    stored = SURREAL(root, size=192).batch(range(len(ds)))
    assert (
        project(stored['joints3d'], stored['intrinsics']) - to_pixels(stored['keypoints'], 192)
    ).abs().max() <= 0.5 * 192 / SURREAL(root).pictures.box[:, 2].min() + 0.01


def test_surreal_edge_origin(surreal):
    root, _ = surreal
    a, b = SURREAL(root), SURREAL(root, origin='edge')
    assert (
        np.allclose(a.keypoints - b.keypoints, 0.5)
        and np.allclose(a.intrinsics[0] - b.intrinsics[0], [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
        and np.allclose(a.reprojection(), b.reprojection(), atol=1e-3)
    )


def test_surreal_options(surreal):
    root, t = surreal
    assert (SURREAL(root, every=5).frame % 5 == 0).all() and len(
        SURREAL(root, every=5, runs=0)
    ) == 6
    assert set(np.unique(SURREAL(root, runs=(0, 2)).video_id)) and len(SURREAL(root, runs=[1])) == 7
    assert 18 not in SURREAL(root, monsters=False).subject and 18 in SURREAL(root).subject
    assert len(SURREAL(root, min_inside=0)) == len(t.frame) + 2
    out = SURREAL(root, min_inside=0, visibility='inside')
    assert not out.visible.all() and (out.visible.sum(1) == 0).sum() == 2
    for kw in (
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
    ):
        with pytest.raises(ConfigError):
            SURREAL(root, **kw)


def test_surreal_pairs_stay_inside(surreal):
    ds = SURREAL(surreal[0])
    p = FramePairs(ds.frames(), (2, 5))
    a, b = p.sample(np.tile(np.arange(len(p)), 20), np.random.default_rng(0))
    gap = np.abs(ds.frame[a] - ds.frame[b])
    assert (ds.video_id[a] == ds.video_id[b]).all() and gap.min() == 2 and gap.max() == 5


def test_one_info_file_alone(surreal, tmp_path):
    root, t = surreal
    d = tmp_path / 'cmu' / 'test' / 'run0' / '01_01'
    d.mkdir(parents=True)
    f = d / '01_01_c0001_info.mat'
    shutil.copy(info(root, '01_01_c0001'), f)
    m = bodies.read_surreal_info(f, worst=0.5001)
    assert m['joints2D'].shape == (12, 24, 2) and m['error'].max() <= 0.5001
    ds = SURREAL(tmp_path, 'test', runs=(0,), images=False)
    assert len(ds) == 12 and ds.reprojection().max() < 0.72
    with pytest.raises(DataError, match=r'run0/\*/\*.mp4'):
        SURREAL(tmp_path, 'test', runs=0)
    assert bodies.read_surreal_info(info(root, '18_02_c0001'))['joints3D'].shape == (1, 24, 3)


def test_surreal_check(surreal, tmp_path):
    root, _ = surreal
    assert (
        SURREAL.check(root).ok
        and SURREAL.check(root / 'SURREAL').ok
        and SURREAL.check(root / 'SURREAL' / 'data' / 'cmu').ok
    )
    for where in (tmp_path, tmp_path / 'none', root / 'SURREAL' / 'data' / 'cmu' / 'train'):
        with pytest.raises(DataError) as e:
            SURREAL(where)
        assert all(
            w in str(e.value)
            for w in ('run0', 'run1', 'run2', 'labels of train', 'videos of train', 'di.ens.fr')
        )
    with pytest.raises(DataError, match='test, run 1'):
        SURREAL(root, 'test')


def bad(root, match, error, reader, count=None, left=None, **kw):
    "The reader raises; with on_error='skip' it leaves out `count` samples"
    with pytest.raises(error, match=match):
        (ds := reader(root, **kw)).batch(range(len(ds)))
    ds = reader(root, on_error='skip', **kw)
    read_all(lambda m: reader(root, on_error=m, **kw))
    if left is not None:
        assert len(ds) == left, (len(ds), left)
    if count:
        assert ds.report[count[0]] == count[1], ds.report


@pytest.mark.parametrize(
    'kw,match,count,left',
    [
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
        (
            dict(joints3D=lambda a: a[..., :5]),
            '12 frames of 2D and 5 of 3D',
            ('unusable clip', 1),
            25,
        ),
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
    ],
)
def test_surreal_bad_labels(surreal, copy, kw, match, count, left):
    root = copy(surreal[0])
    change(info(root, '01_01_c0001'), **kw)
    bad(root, match, LabelError, SURREAL, count, left)


def test_surreal_bad_files(surreal, copy):
    root = copy(surreal[0])
    f = info(root, '01_01_c0002')
    raw = f.read_bytes()
    v = Path(str(f).replace('_info.mat', '.mp4'))
    film = v.read_bytes()
    for b in (raw[: len(raw) // 9], b'', b'junk' * 99):
        f.write_bytes(b)
        bad(root, 'c0002_info.mat', LabelError, SURREAL, ('unusable clip', 1), 25)
    f.write_bytes(raw)
    v.write_bytes(film[:200])
    bad(root, 'c0002.mp4', MediaError, SURREAL, ('unusable clip', 1), 25)
    write_mp4(v, [np.zeros((120, 160, 3), np.uint8)] * 12)
    bad(root, 'c0002.mp4.*160x120', MediaError, SURREAL, ('unusable clip', 1), 25)
    v.unlink()
    bad(root, 'c0002.mp4.*missing', MediaError, SURREAL, ('missing image', 12), 25)
    v.write_bytes(b'x' * 3000)
    bad(root, 'c0002.mp4', MediaError, SURREAL, ('unusable clip', 1), 25)


def test_surreal_nothing_left(surreal, copy):
    root = copy(surreal[0])
    for f in root.rglob('*_info.mat'):
        change(f, joints2D=lambda a: a * 0, joints3D=lambda a: a * 0)
    for mode in ('raise', 'skip'):
        with pytest.raises(DataError, match='no samples'):
            SURREAL(root, on_error=mode)


def test_surreal_maps(surreal, copy):
    stem = str(info(surreal[0], '01_01_c0001')).replace('_info.mat', '')
    for f, n in (
        (bodies.read_surreal_segm, '_segm.mat'),
        (bodies.read_surreal_depth, '_depth.mat'),
    ):
        assert f(stem + n, 1).shape == (240, 320)
        with pytest.raises(LabelError):
            f(stem + n, 2)
        with pytest.raises(LabelError):
            f(stem + '_none.mat', 0)
        with pytest.raises(ConfigError):
            f(stem + n, -1)


@pytest.mark.parametrize('seed', [0, 1])
def test_surreal_fuzz(tmp_path, seed):
    write_surreal(
        tmp_path,
        clips=((0, '01_01', 1, 3, 3, (), ()), (1, 'ung_104_05', 1, 3, 3, (1,), ())),
        nested=False,
    )
    fuzz(
        lambda d: read_all(lambda m: SURREAL(d, runs=(0, 1), size=32, on_error=m)),
        tmp_path,
        110,
        seed,
        keep=lambda p: p.name.endswith(('_info.mat', '.mp4')),
    )


# ---------------------------------------------------------------- SURREAL, crops
def family(truth, split):
    "What the family's loader has, in its order"
    x = [k for k in truth if k[0] == split]
    random.seed(42)
    random.shuffle(x)
    n = min(int(len(x) * 0.2), 3200)
    return dict(train=x[n:], test=x[:n], val=x)[split]


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
@pytest.mark.parametrize(
    'o', [dict(), dict(shoulders='shoulder', chest='spine2'), dict(names='smpl')]
)
def test_crops_labels(crops, split, o):
    root, t = crops
    ds = SURREALCrops(root, split, camera='stored', **o)
    want = family(t, split)
    assert [str(ds.file(i).relative_to(root)) for i in range(len(ds))] == [
        f'{s}/run{k}/{n}' for s, k, n in want
    ]
    assert np.abs(ds.keypoints - np.concatenate([body16(t[k].px, **o) for k in want])).max() < 0.01
    assert (
        np.abs(
            ds.joints3d[..., 2] - np.concatenate([body16(t[k].xyz, **o) for k in want])[..., 2]
        ).max()
        < 0.1
    )
    assert (
        np.allclose(ds.intrinsics, [t[k].stored for k in want], atol=1e-3)
        and ds.reprojection().max() < 0.01
        and len(np.unique(ds.video_id)) == len(ds)
    )


def test_crops_cameras(crops):
    root, t = crops
    want = family(t, 'train')
    true = np.concatenate([body16(t[k].xyz) for k in want])
    rel = lambda x: (x - x[:, 6:7])[..., :2]
    error = {}
    for c in ('person', 'stored', 'fit'):
        ds = SURREALCrops(root, camera=c, size=160)
        assert ds.reprojection().max() < 0.01
        error[c] = np.linalg.norm(rel(ds.joints3d) - rel(true), axis=-1).mean()
        b = ds.batch(range(len(ds)))
        assert (
            project(b['joints3d'], b['intrinsics']) - to_pixels(b['keypoints'], 160)
        ).abs().max() < 0.02
        assert (dot_error(b, 'r_wrist', 160) * ds.pictures.box[b['index'], 2] / 160).max() < 0.1
    assert error['person'] < 0.6 * error['stored'] and abs(error['fit'] - error['stored']) < 0.1
    none = SURREALCrops(root, camera='none')
    b = none.batch([0])
    assert b['joints3d'].isnan().all() and b['intrinsics'][:, 0, 0].isnan().all()


def test_crops_fit_finds_true_camera(crops, copy):
    root, t = copy(crops[0]), crops[1]
    for k in range(3):
        f = root / 'train' / f'run{k}.json'
        s = json.loads(f.read_text())
        for x in s:
            K = t['train', k, x['name']].K
            p = np.array(x['keypoint2d'])
            z = np.array(x['keypoint3d'])[:, 2:]
            x['keypoint3d'] = np.concatenate([(p - K[:2, 2]) / K[0, 0] * z, z], 1).tolist()
        f.write_text(json.dumps(s))
    ds = SURREALCrops(root, camera='fit')
    want = family(t, 'train')
    assert (
        np.abs(ds.joints3d - np.concatenate([body16(t[k].xyz) for k in want])).max() < 0.1
        and np.abs(ds.intrinsics - [t[k].K for k in want]).max() < 0.01
    )


def test_crops_options(crops):
    root, t = crops
    whole = SURREALCrops(
        root, rule='all', group=r'run\d/(?P<video>\d+_\d+)_c0001/frame_(?P<frame>\d+)'
    )
    assert len(whole) == 30 and whole.frame.max() == 33 and len(np.unique(whole.video_id)) == 30
    assert len(SURREALCrops(root, runs=(0,))) == 10 and len(SURREALCrops(root, 'test', runs=1)) == 1
    assert not np.array_equal(SURREALCrops(root, seed=1).keypoints, SURREALCrops(root).keypoints)
    assert len(SURREALCrops(root, images=False)) == 24
    for kw in (
        dict(split='all'),
        dict(rule='x'),
        dict(camera='x'),
        dict(unit='cm'),
        dict(runs=(5,)),
        dict(group='('),
        dict(group='(.*)'),
        dict(group='(?P<video>z)(?P<frame>.)'),
        dict(visibility='x'),
    ):
        with pytest.raises(ConfigError):
            SURREALCrops(root, **kw)
    with pytest.raises(LabelError, match='unit'):
        SURREALCrops(root, unit='mm')


def edit(root, f, k=0, split='train'):
    p = root / split / f'run{k}.json'
    s = json.loads(p.read_text())
    s = f(s) or s
    p.write_text(json.dumps(s))


@pytest.mark.parametrize(
    'f,match,count',
    [
        (lambda s: s[3].clear(), 'run0.json: sample 3.*keypoint2d', ('unusable sample', 1)),
        (
            lambda s: s[3].update(keypoint3d=s[3]['keypoint3d'][:23]),
            r'sample 3: keypoint3d: shape \(23, 3\)',
            ('unusable sample', 1),
        ),
        (
            lambda s: s[3].update(keypoint2d=[[1, 2]] * 23 + [[1]]),
            'sample 3: keypoint2d',
            ('unusable sample', 1),
        ),
        (
            lambda s: s[3]['keypoint2d'].__setitem__(7, [float('nan'), 3]),
            'sample.*NaN',
            ('NaN keypoint', 1),
        ),
        (
            lambda s: s[3]['keypoint2d'].__setitem__(7, [1e7, 3]),
            'ten images away',
            ('absurd keypoint', 1),
        ),
        (
            lambda s: s[3].update(intrinsic_matrix=[[0, 0, 1], [0, 1, 1], [0, 0, 1]]),
            'sample 3: intrinsic_matrix: focal',
            ('unusable sample', 1),
        ),
        (lambda s: s[3].update(name='../../x.jpg'), 'sample 3.*name', ('unusable sample', 1)),
        (lambda s: s[3].update(name=7), 'sample 3.*name', ('unusable sample', 1)),
        (lambda s: s[3].update(name='gone.jpg'), 'gone.jpg.*missing', ('missing image', 1)),
        (lambda s: s.__setitem__(3, 'x'), 'sample 3.*str', ('unusable sample', 1)),
        (
            lambda s: s[3].update(keypoint3d=(-np.array(s[3]['keypoint3d'])).tolist()),
            'sample 3.*mm away',
            ('unusable sample', 1),
        ),
        (lambda s: s.__setitem__(3, s[2]), 'twice', ('duplicate', 1)),
    ],
)
def test_crops_bad_labels(crops, copy, f, match, count):
    root = copy(crops[0])
    edit(root, f)
    bad(root, match, GeomReconError, SURREALCrops, count, 29, rule='all')


def test_crops_bad_files(crops, copy, tmp_path):
    root = copy(crops[0])
    j = root / 'train' / 'run1.json'
    good = j.read_text()
    for x in (good[:500], '{}', '', '[[[', '"x"'):
        j.write_text(x)
        for mode in ('raise', 'skip'):
            with pytest.raises(LabelError, match='run1.json'):
                SURREALCrops(root, on_error=mode)
    j.write_text('[]')
    assert len(SURREALCrops(root, rule='all')) == 21
    j.write_text(good)
    p = next((root / 'train' / 'run0').rglob('*.jpg'))
    raw = p.read_bytes()
    p.write_bytes(raw[: len(raw) // 2])
    bad(root, p.name, MediaError, SURREALCrops, left=30, rule='all')
    p.write_bytes(b'')
    bad(root, p.name, MediaError, SURREALCrops, left=29, rule='all')
    cv2.imwrite(str(p), np.zeros((50, 60, 3), np.uint8))
    bad(root, '60x50', MediaError, SURREALCrops, ('image not square', 1), 29, rule='all')
    for k in range(3):
        (root / 'val' / f'run{k}.json').write_text('[]')
    with pytest.raises(DataError, match='no samples'):
        SURREALCrops(root, 'val')
    (root / 'val' / 'run2.json').unlink()
    with pytest.raises(DataError, match='run2.json.*Transfer'):
        SURREALCrops(root, 'val')


def test_crops_fuzz(tmp_path):
    write_surreal_crops(tmp_path, dict(train=(3, 2)), size=40)
    fuzz(
        lambda d: read_all(lambda m: SURREALCrops(d, runs=(0, 1), rule='all', size=32, on_error=m)),
        tmp_path,
        220,
    )


# ---------------------------------------------------------------- LSP
def mids(px):
    return dict(
        px, pelvis=(px['r_hip'] + px['l_hip']) / 2, spine3=(px['r_shoulder'] + px['l_shoulder']) / 2
    )


def test_lsp_labels(lsp):
    root, t = lsp
    ds = LSP(root, size=160)
    assert np.abs(ds.keypoints - body16(mids(t.px), 'shoulder')).max() < 0.01
    old = [0, 1, 2, 3, 4, 5, 12, 13, 6, 7, 8, 9, 10, 11]
    new = [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15]
    assert (ds.visible[:, new] == ~t.occluded[:, old]).all() and not ds.visible[:, 6:8].any()
    flip = LSP(root, flag='visible')
    assert (flip.visible[:, new] == t.occluded[:, old]).all()
    m = LSP(root, midpoints=True)
    assert (m.visible[:, 6] == (m.visible[:, 2] & m.visible[:, 3])).all() and m.visible[:, 7].any()
    assert np.allclose(LSP(root, origin='matlab').keypoints, ds.keypoints - 1, atol=1e-4)
    assert (
        ds.joints3d is None
        and ds.batch([0])['intrinsics'][:, 0, 0].isnan().all()
        and ds.batch([0])['joints3d'].isnan().all()
        and np.isnan(ds.reprojection()).all()
    )
    assert len(LSP(root, 'train')) == 5 and np.array_equal(
        LSP(root, 'test').keypoints, ds.keypoints[5:]
    )


def test_lsp_pictures(lsp):
    root, t = lsp
    ds = LSP(root, size=160)
    b = ds.batch(range(10))
    assert (dot_error(b, t.dot, 160) * ds.pictures.box[b['index'], 2] / 160).max() < 0.1
    for i, (h, w) in enumerate(t.size):
        rim = round((1 - min(h, w) / max(h, w)) / 2 * 160)
        x = b['image'][i] if h < w else b['image'][i].transpose(1, 2)
        assert not rim or (
            x[:, : rim - 1].max() == 0
            and x[:, rim + 1 : 160 - rim - 1].float().mean() > 60
            and x[:, 160 - rim + 1 :].max() == 0
        )
    near = LSP(root, size=160, crop='person')
    assert (
        dot_error(near.batch(range(10)), t.dot, 160) * near.pictures.box[:10, 2] / 160
    ).max() < 0.1 and (near.pictures.box[:, 2] < ds.pictures.box[:, 2]).all()


@pytest.mark.parametrize('layout', ['3x14xN', '14x3xN', 'Nx14x3'])
def test_lsp_layouts(tmp_path, layout):
    t = write_lsp(tmp_path, 6, layout=layout, digits=5 if layout == '14x3xN' else 4)
    assert np.abs(LSP(tmp_path).keypoints - body16(mids(t.px), 'shoulder')).max() < 0.01


def test_lsp_bad(lsp, copy, tmp_path):
    root, t = copy(lsp[0]), lsp[1]
    m = root / 'joints.mat'
    j = t.j.transpose(2, 1, 0)
    save = lambda x, k='joints': scipy.io.savemat(m, {k: x})
    skips = lambda **kw: LSP(root, on_error='skip', **kw)
    for x, match in (
        (j[:2], 'shape'),
        (j[:, :13], 'shape'),
        (j[0], 'shape'),
        (t.j[:3].transpose(1, 2, 0), 'shape'),
        (np.array([['x']], object), 'joints'),
    ):
        save(x)
        for mode in ('raise', 'skip'):
            with pytest.raises(LabelError, match=match):
                LSP(root, on_error=mode)
    save(j, 'other')
    with pytest.raises(LabelError, match="no key 'joints'"):
        LSP(root)
    save(put(j, (2, 5, 3), 0.5))
    bad(root, 'sample 3.*flags', LabelError, LSP, ('odd flag', 1), 9)
    x = put(j, (slice(None), 0, 3), [np.nan, 4, 0])
    save(x)
    bad(root, 'im0004.jpg: sample 3.*NaN', LabelError, LSP, ('NaN keypoint', 1), 9)
    save(put(j, (0, 0, 3), -1e8))
    bad(root, 'im0004.jpg', LabelError, LSP, ('absurd keypoint', 1), 9)
    save(j)
    p = root / 'images' / 'im0002.jpg'
    raw = p.read_bytes()
    p.write_bytes(raw[: len(raw) // 2])
    bad(root, 'im0002.jpg', MediaError, LSP, left=10)
    p.unlink()
    bad(root, 'im0002.jpg.*missing', MediaError, LSP, ('missing image', 1), 9)
    assert len(LSP(root, images=False)) == 10
    m.write_bytes(m.read_bytes()[:300])
    with pytest.raises(LabelError, match='joints.mat'):
        LSP(root)
    m.unlink()
    with pytest.raises(DataError, match='joints.mat.*Leeds'):
        LSP(root)
    for kw in (dict(split='val'), dict(flag='x'), dict(crop='x'), dict(origin='x')):
        with pytest.raises(ConfigError):
            LSP(lsp[0], **kw)


def test_lsp_fuzz(tmp_path):
    write_lsp(tmp_path, 5)
    fuzz(lambda d: read_all(lambda m: LSP(d, size=32, on_error=m)), tmp_path, 220)
