"The hand readers against trees with known truth: labels, crops, cameras, mirror images, splits, pairs, bad input and damage at random."

import json, pickle, shutil, warnings
from pathlib import Path
import numpy as np, pytest, torch
from fixtures_hands import (
    FREIHAND_VERSIONS,
    MVHAND_SEQS,
    write_freihand,
    write_h3d,
    write_mvhand,
    write_rhd,
)
from fuzz import fuzz, read_all
from geomrecon.data import hands as H
from geomrecon.readers.h3d import H3D
from geomrecon.readers.mvhand import MVHand
from geomrecon.readers.rhd import RHD
from geomrecon.readers.freihand import FreiHAND
from geomrecon.data.pairs import FramePairs
from geomrecon.core.errors import ConfigError, DataError, GeomReconError, LabelError, MediaError
from geomrecon.core.geometry import project

DOT = 9


@pytest.fixture(scope='module')
def trees(tmp_path_factory):
    "Every set once, with a dot on the middle knuckle: name -> (root, truth)"
    d = tmp_path_factory.mktemp('hands')
    return dict(
        rhd=(d / 'rhd', write_rhd(d / 'rhd', dot=DOT)),
        rhd_mm=(d / 'rhd_mm', write_rhd(d / 'rhd_mm', dot=DOT, form='mmpose')),
        h3d=(d / 'h3d', write_h3d(d / 'h3d', dot=DOT)),
        mv=(d / 'mv', write_mvhand(d / 'mv', n_frames=6, dot=DOT)),
        fh=(d / 'fh', write_freihand(d / 'fh', dot=DOT, n_eval=2)),
        fh_mm=(d / 'fh_mm', write_freihand(d / 'fh_mm', dot=DOT, form='mmpose')),
    )


@pytest.fixture
def copy(trees, tmp_path):
    "A copy of one tree that a test may damage"

    def make(name, **kw):
        shutil.copytree(trees[name][0], tmp_path / name, **kw)
        return tmp_path / name

    return make


def quiet(f, *a, **k):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return f(*a, **k)


def px(ds, kp):
    return (np.asarray(kp) + 1) * ds.size / 2 - 0.5


def order(ds, truth, root):
    "Row of the truth for each sample, by file (and by place, where a file has two hands)"
    where = {}
    for i, f in enumerate(truth['file' if 'file' in truth else 'name']):
        where.setdefault(f, []).append(i)
    seen, out = {}, []
    for i in range(len(ds)):
        f = str(ds.file(i).relative_to(root))
        k = seen.get(f, 0)
        seen[f] = k + 1
        out.append(where[f][k])
    return np.array(out)


CASES = dict(
    rhd=lambda r, s: RHD(r, 'train', 256, s),
    rhd_mm=lambda r, s: RHD(r, 'train', 256, s),
    h3d=lambda r, s: H3D(
        r, 'all', 256, dict(left='left', right='right', keep='keep')[s], without_object='all'
    ),
    mv=lambda r, s: MVHand(r, 'all', 256, s),
    fh=lambda r, s: FreiHAND(r, 'all', 256, s),
    fh_mm=lambda r, s: FreiHAND(r, 'train', 256, s),
)


def truth_of(trees, name):
    root, t = trees[name]
    return root, t['training'] if name.startswith('rhd') else t


def is_left(name, t):
    n = len(t['keypoints'])
    return (
        np.array([s == 'left' for s in t['side']])
        if name.startswith('rhd')
        else np.full(n, name == 'h3d')
    )


@pytest.mark.parametrize('side', ['left', 'right', 'keep'])
@pytest.mark.parametrize('name', CASES)
def test_labels_and_crops(trees, name, side):
    "Labels to 0.1 px and 0.1 mm; the crop's pixels, its mirror image and its camera agree with them"
    root, t = truth_of(trees, name)
    ds = CASES[name](root, side)
    i = order(ds, t, root)
    assert len(ds) == len(t['keypoints']) and sorted(i) == list(range(len(ds)))
    assert np.abs(ds.keypoints - t['keypoints'][i]).max() < 0.1
    b = ds.batch(range(len(ds)))
    kp = px(ds, b['keypoints'])
    mirror = np.zeros(len(i), bool) if side == 'keep' else is_left(name, t)[i] != (side == 'left')
    inside = (np.abs(np.asarray(b['keypoints'])) <= 1).all(-1)
    assert (b['visible'].numpy() == (t['visible'][i] & inside)).all()
    if name == 'fh_mm':
        assert b['joints3d'].isnan().all() and b['intrinsics'][:, :2].isnan().all()
    else:
        assert np.abs(ds.joints3d - t['xyz'][i]).max() < 0.1
        want = t['xyz'][i] * np.where(mirror, -1, 1)[:, None, None] ** np.array([1, 0, 0])
        assert np.abs(b['joints3d'].numpy() - want).max() < 0.1
        rms = np.abs(project(b['joints3d'].double(), b['intrinsics'].double()).numpy() - kp)
        scale = (256 / ds.pictures.box[:, 2:3, None]).clip(1)
        assert (rms / scale).max() < 0.1 and (b['intrinsics'][:, 0, 0] > 0).all()
        assert np.nanmax(ds.reprojection()) < 0.1
    blue = b['image'][:, 2].numpy().astype(float)
    y, x = np.mgrid[:256, :256]
    for j in range(len(ds)):
        c = kp[j, DOT]
        near = np.hypot(x - c[0], y - c[1]) < 4 * 3 * 256 / ds.pictures.box[j, 2]
        w = np.where(blue[j] > 12, blue[j], 0) * near
        others = name == 'rhd' and near[0].any()
        if not others and min(c.min(), 255 - c.max()) > 4 * 3 * 256 / ds.pictures.box[j, 2]:
            found = np.array([(w * x).sum(), (w * y).sum()]) / w.sum()
            assert np.abs(found - c).max() < 0.1 * max(1, 256 / ds.pictures.box[j, 2]), (
                name,
                j,
                found,
                c,
            )


def test_dots_were_seen(trees):
    "The check of the pixels above is not empty: most dots lie well inside their crops"
    for name in CASES:
        root, t = truth_of(trees, name)
        ds = CASES[name](root, 'left')
        c = px(ds, ds.labels(np.arange(len(ds)))['keypoints'])[:, DOT]
        r = 12 * 256 / ds.pictures.box[:, 2]
        assert (np.minimum(c.min(1), 255 - c.max(1)) > r).mean() > 0.6


def test_rhd_rule(trees):
    "The one-hand rule keeps the hands it should, in the family's order, and its thresholds are options"
    root, t = truth_of(trees, 'rhd')
    ds = RHD(root)
    assert [str(ds.file(i).relative_to(root)) for i in range(len(ds))] == t['file'] and list(
        np.where(ds.left, 'left', 'right')
    ) == t['side']
    loose = RHD(root, min_side=0, min_visible=0, max_overlap=9.0)
    assert len(loose) == 24
    assert (
        len(RHD(root, min_visible=16)) == len(ds) + 2
        and len(RHD(root, max_overlap=0.9)) == len(ds) + 4
        and len(RHD(root, min_side=40, min_visible=16)) > len(ds) + 2
    )


def test_rhd_splits(trees):
    root, t = trees['rhd']
    train, test = RHD(root), RHD(root, 'test')
    name = lambda ds: [(str(ds.file(i)), bool(l)) for i, l in enumerate(ds.left)]
    assert (
        name(RHD(root, 'training')) == name(train)
        and name(RHD(root, 'evaluation')) == name(test)
        and len(test) == len(t['evaluation']['file'])
    )
    assert name(RHD(root, 'all')) == name(train) + name(test)
    assert name(RHD(root, 'val')) == name(train)[::5] and name(RHD(root, 'train-val')) == [
        x for i, x in enumerate(name(train)) if i % 5
    ]
    both = RHD(root, 'all')
    assert len(np.unique(both.video_id)) == len({f for f, _ in name(both)})
    sub = train.subset([3, 1])
    assert list(sub.left) == list(train.left[[3, 1]]) and list(train.subset(train.left).left) == [
        True
    ] * int(train.left.sum())


def test_rhd_depth_and_masks(tmp_path):
    "The high byte of the depth is in the red channel; masks tell the hands apart"
    t = write_rhd(tmp_path)['training']
    for i in t['ids'][:3]:
        assert (
            np.abs(H.read_rhd_depth(tmp_path / f'training/depth/{i:05d}.png') - t['depth'][i]).max()
            < 0.05
        )
        m = t['mask'][i]
        p = tmp_path / f'training/mask/{i:05d}.png'
        assert (
            (H.read_rhd_mask(p) == m).all()
            and (H.read_rhd_mask(p, 'left') == ((m > 1) & (m < 18))).all()
            and (H.read_rhd_mask(p, 'right') == (m > 17)).all()
        )
    from PIL import Image

    Image.fromarray(np.array([[[1, 2, 0], [0, 255, 9]]], np.uint8)).save(tmp_path / 'd.png')
    assert np.allclose(
        H.read_rhd_depth(tmp_path / 'd.png'), [[258 * 5000 / 65535, 255 * 5000 / 65535]]
    )
    assert np.allclose(H.read_mvhand_depth(tmp_path / 'd.png'), [[512, 9 + 255 * 256]])


def test_mvhand_depth_and_masks(tmp_path):
    t = write_mvhand(tmp_path, n_seq=1, n_frames=2)
    for f, d in t['depth'].items():
        assert (
            H.read_mvhand_depth(tmp_path / f.replace('rgb', 'depth').replace('jpg', 'png')) == d
        ).all()
        assert (
            H.read_mvhand_mask(tmp_path / f.replace('rgb', 'mask')) == (d < 1500)
        ).mean() > 0.999


def test_rhd_forms(trees, tmp_path):
    "mmpose's form: found by itself, in either layout, and the same hands as in the official one"
    root, t = truth_of(trees, 'rhd_mm')
    ds = RHD(root)
    off = RHD(trees['rhd'][0])
    at = {str(off.file(i).relative_to(trees['rhd'][0])): i for i in range(len(off) - 1, -1, -1)}
    j = [at[f] for f in t['file']]
    assert np.abs(ds.joints3d - off.joints3d[j]).max() < 0.1 and (ds.left == off.left[j]).all()
    with pytest.raises(DataError, match='anno_training.pickle'):
        RHD(root, form='official')
    flat = tmp_path / 'flat'
    write_rhd(flat, form='mmpose', bare=True)
    assert len(RHD(flat, 'test')) > 0 and RHD(flat, 'test').batch([0])['image'].shape == (
        1,
        3,
        256,
        256,
    )
    (flat / 'rhd_train.json').rename(flat / 'mine.json')
    assert len(RHD(flat, labels='mine.json')) == len(t['file'])
    with pytest.raises(DataError, match='test_rhd.json'):
        RHD(flat)


def test_few_images(trees, copy):
    "Labels alone need no pictures; with a few pictures there, those are read and the others counted"
    root = copy('rhd')
    full = RHD(root)
    for p in sorted((root / 'training/color').glob('*.png'))[2:]:
        p.unlink()
    ds = quiet(RHD, root, on_error='skip')
    assert len(ds) == 3 and ds.report['missing image'] == len(full) - 3
    with pytest.raises(MediaError, match='00002.png.*missing'):
        RHD(root)
    shutil.rmtree(root / 'training/color')
    assert np.allclose(RHD(root, images=False).keypoints, full.keypoints)
    with pytest.raises(DataError, match='training/color'):
        RHD(root)
    for name, make in dict(
        h3d=lambda r: H3D(r, 'all', images=False),
        mv=lambda r: MVHand(r, 'all', images=False),
        fh=lambda r: FreiHAND(r, 'all', images=False),
        fh_mm=lambda r: FreiHAND(r, images=False),
    ).items():
        r = copy(name, ignore=shutil.ignore_patterns('*.jpg'))
        ds = make(r)
        assert len(ds) and np.isfinite(ds.keypoints).all()


def test_h3d_camera(tmp_path):
    "Stored 3D that is true gives the principal point back; stored 3D that was re-derived by the crop leaves RegDA's camera"
    t = write_h3d(tmp_path / 'a', 2, 4)
    u = write_h3d(tmp_path / 'b', 2, 4, xyz='crop')
    a, s, c = (
        H3D(tmp_path / 'a', 'all', without_object='all', camera=k)
        for k in ('fit', 'stored', 'centre')
    )
    i = order(a, t, tmp_path / 'a')
    assert (
        a.fitted.all()
        and np.abs(a.joints3d - t['xyz'][i]).max() < 0.1
        and np.abs(a.intrinsics - t['K'][i]).max() < 0.1
    )
    rel = lambda x: x - x[:, :1]
    assert np.abs(rel(s.joints3d) - rel(t['xyz'][i])).max() > 10 and np.allclose(
        s.joints3d[..., 2], t['xyz'][i][..., 2], atol=1e-3
    )
    for ds in (s, c):
        assert np.nanmax(ds.reprojection()) < 0.01
    b = H3D(tmp_path / 'b', 'all', without_object='all')
    assert (
        np.allclose(b.joints3d[..., 2], t['xyz'][order(b, u, tmp_path / 'b')][..., 2], atol=1e-3)
        and np.nanmax(b.reprojection()) < 0.01
    )
    d = json.loads((tmp_path / 'a/annotation.json').read_text())
    rng = np.random.default_rng(0)
    for x in d:
        x['keypoint3d'] = np.c_[
            rng.normal(0, 50, (21, 2)), np.array(x['keypoint3d'])[:, 2]
        ].tolist()
    (tmp_path / 'a/annotation.json').write_text(json.dumps(d))
    n = H3D(tmp_path / 'a', 'all', without_object='all')
    assert not n.fitted.any() and np.allclose(n.joints3d, s.joints3d)


@pytest.mark.parametrize('unit,mm', [('mm', 1.0), ('cm', 10.0), ('m', 1000.0)])
def test_h3d_unit(tmp_path, unit, mm):
    t = write_h3d(tmp_path, 1, 4, unit=mm)
    for u in ('auto', unit):
        ds = H3D(tmp_path, 'all', without_object='all', unit=u)
        assert np.abs(ds.joints3d - t['xyz'][order(ds, t, tmp_path)]).max() < 0.1
    if unit != 'mm':
        assert np.abs(H3D(tmp_path, 'all', unit='mm').joints3d).max() < 150


def test_h3d_splits_and_videos(trees):
    "The family's shuffle, whole videos, objects, and what a video is"
    import random

    root, t = trees['h3d']
    names = lambda ds: [str(ds.file(i).relative_to(root)) for i in range(len(ds))]
    bare = [n for n, b in zip(t['name'], t['bare']) if b]
    random.seed(42)
    random.shuffle(bare)
    k = int(len(bare) * 0.2)
    assert (
        names(H3D(root, 'test')) == bare[:k]
        and names(H3D(root)) == bare[k:]
        and names(H3D(root, 'val')) == bare[k : 2 * k]
        and names(H3D(root, 'train-val')) == bare[2 * k :]
    )
    assert set(names(H3D(root, 'all', without_object='object'))) == {
        n for n, b in zip(t['name'], t['bare']) if not b
    }
    assert (
        len(H3D(root, 'test', most=3)) == 3
        and len(H3D(root, 'test', share=0.5)) == len(bare) // 2
        and names(H3D(root, 'test', seed=1)) != bare[:k]
    )
    tr, te = (H3D(root, s, split_by='video') for s in ('train', 'test'))
    folder = lambda ds: {str(Path(n).parent) for n in names(ds)}
    assert not folder(tr) & folder(te) and len(tr) + len(te) == len(bare)
    ds = H3D(root, 'all', without_object='all')
    row = order(ds, t, root)
    assert (ds.frame == t['frame'][row] // 2).all()
    assert len({(a, b) for a, b in zip(ds.video_id, t['video'][row])}) == 5
    ds = H3D(root, 'all', without_object='all', videos='stem')
    assert (ds.frame == t['frame'][order(ds, t, root)]).all()
    ds = H3D(
        root,
        'all',
        without_object='all',
        videos=r'(?P<video>hand\d+)_cam(?P<view>\d+)/(?P<frame>\d+)',
    )
    assert (
        len(np.unique(ds.video_id)) == 1
        and set(ds.view) == set(range(5))
        and (ds.frame == t['frame'][order(ds, t, root)]).all()
    )
    same = H3D(
        root, 'all', without_object='all', videos=lambda n: (n.split('/')[1], int(Path(n).stem))
    )
    assert (same.frame == ds.frame).all() and len(np.unique(same.video_id)) == 5
    with pytest.raises(DataError):
        FramePairs(H3D(root, 'all', videos='still').frames(), (1, 3))
    for bad in ('camera', '(?P<video>['):
        with pytest.raises(ConfigError):
            H3D(root, videos=bad)
    with pytest.raises(DataError, match='part1/hand0_cam00/0002.jpg'):
        H3D(root, videos=r'(?P<video>x+)')


def test_mvhand_splits(trees):
    root, t = trees['mv']
    seq = lambda ds: set(ds.subject)
    assert (
        seq(MVHand(root)) == {0, 1}
        and seq(MVHand(root, 'test')) == {2, 3}
        and seq(MVHand(root, 'all')) == {0, 1, 2, 3}
    )
    a, b = (MVHand(root, s, split_by='time') for s in ('train', 'test'))
    assert (
        seq(a) == seq(b) == {0, 1, 2, 3} and set(a.frame) == {0, 1, 2} and set(b.frame) == {3, 4, 5}
    )
    assert (
        set(MVHand(root, views=(1, 3)).view) == {1, 3}
        and len(MVHand(root, 'all', sequences=MVHAND_SEQS[:1])) == 24
    )
    ds = MVHand(root, 'all')
    i = order(ds, t, root)
    assert (i == np.arange(len(i))).all()
    for k in ('video', 'frame', 'view'):
        assert (getattr(ds, dict(video='video_id').get(k, k)) == t[k]).all()
    with pytest.raises(DataError, match='two sequences'):
        MVHand(root, 'test', sequences=MVHAND_SEQS[:1])
    with pytest.raises(ConfigError):
        MVHand(root, views=(0, 4))
    with pytest.raises(ConfigError):
        MVHand(root, sequences='7-14-1-2')
    far = MVHand(root, 'all', knuckles='stretched')
    d = lambda x, a, b: np.linalg.norm(x[:, a] - x[:, b], axis=-1)
    for mcp, s in ((1, 1.14), (5, 1.49), (9, 1.36), (13, 1.16), (17, 1.11)):
        assert np.allclose(
            d(far.joints3d, mcp, mcp + 1) / d(ds.joints3d, mcp, mcp + 1), s, atol=1e-4
        )
    assert np.nanmax(far.reprojection()) < 0.01


def test_pairs_stay_inside_a_video(trees):
    "Frames of a pair are of one sequence and one view, the stride apart"
    fs = MVHand(trees['mv'][0], 'all').frames()
    assert not hasattr(fs, 'keypoints')
    p = FramePairs(fs, (2, 4))
    a, b = p.sample(np.arange(len(p)), np.random.default_rng(0))
    d = np.abs(fs.frame[a] - fs.frame[b])
    assert (
        (fs.video_id[a] == fs.video_id[b]).all()
        and d.min() >= 2
        and d.max() <= 4
        and len(np.unique(fs.video_id)) == 16
    )
    with pytest.raises(DataError):
        FramePairs(RHD(trees['rhd'][0]).frames(), (1, 5))


def test_freihand_splits(trees):
    import random

    root, t = trees['fh']
    names = lambda ds: [str(ds.file(i).relative_to(root)) for i in range(len(ds))]
    files = [
        f'training/rgb/{i + 32560 * FREIHAND_VERSIONS.index(v):08d}.jpg'
        for v in ('gs', 'auto', 'sample', 'hom')
        for i in range(6)
    ]
    random.seed(42)
    random.shuffle(files)
    assert (
        names(FreiHAND(root, 'test')) == files[:4]
        and names(FreiHAND(root)) == files[4:]
        and names(FreiHAND(root, 'val')) == files[4:8]
    )
    gs = FreiHAND(root, 'all', versions=('gs',))
    assert sorted(names(gs)) == sorted(f'training/rgb/{i:08d}.jpg' for i in range(6)) and set(
        gs.pose
    ) == set(range(6))
    te, tr = (FreiHAND(root, s, split_by='pose') for s in ('test', 'train'))
    assert not set(te.pose) & set(tr.pose) and len(te) + len(tr) == 24
    assert names(FreiHAND(root, 'evaluation')) == [f'evaluation/rgb/{i:08d}.jpg' for i in range(2)]
    with pytest.raises(ConfigError):
        FreiHAND(root, versions=('blue',))
    with pytest.raises(ConfigError):
        FreiHAND(trees['fh_mm'][0], 'evaluation', form='mmpose')
    with pytest.raises(DataError, match='freihand_train.json'):
        FreiHAND(trees['fh_mm'][0], 'val', form='mmpose')


MAKE = dict(
    rhd=lambda r, **k: RHD(r, **k),
    rhd_mm=lambda r, **k: RHD(r, **k),
    h3d=lambda r, **k: H3D(r, 'all', **k),
    mv=lambda r, **k: MVHand(r, 'all', **k),
    fh=lambda r, **k: FreiHAND(r, 'all', **k),
    fh_mm=lambda r, **k: FreiHAND(r, **k),
)
LABELS = dict(
    rhd='training/anno_training.pickle',
    rhd_mm='annotations/rhd_train.json',
    h3d='annotation.json',
    mv='7-14-1-2/mlresults/7-14-1-2-joints.npy',
    fh='training_xyz.json',
    fh_mm='annotations/freihand_train.json',
)


def edit(path, f):
    "Change what a label file holds"
    if path.suffix == '.pickle':
        d = pickle.loads(path.read_bytes())
        d = f(d) or d
        path.write_bytes(pickle.dumps(d, 2))
    elif path.suffix == '.npy':
        d = np.load(path)
        r = f(d)
        np.save(path, d if r is None else r)
    else:
        d = json.loads(path.read_text())
        r = f(d)
        path.write_text(json.dumps(d if r is None else r))


def first(name, d, n=1):
    "The first sample(s): (container, key) of 2D or 3D numbers that must be good"
    return dict(
        rhd=lambda: (d[0], 'uv_vis'),
        rhd_mm=lambda: (d['annotations'][0], 'keypoints'),
        h3d=lambda: (d[1], 'keypoint2d'),
        mv=lambda: (d, 0),
        fh=lambda: (d, 0),
        fh_mm=lambda: (d['annotations'][0], 'keypoints'),
    )[name]()


def set_number(name, value):
    def f(d):
        c, k = first(name, d)
        if name == 'mv':
            d[0, 3, 0, 0] = value
        elif name == 'fh_mm':
            c[k][3] = value
        elif name == 'rhd':
            a = np.array(c[k])
            a[5, 0] = value
            c[k] = a
        else:
            c[k][3][0] = value

    return f


@pytest.mark.parametrize('name', MAKE)
def test_missing(name, tmp_path, copy):
    "A missing folder or label file is named together with where the set is to be had"
    with pytest.raises(DataError) as e:
        MAKE[name](tmp_path / 'nowhere')
    assert 'http' in str(e.value)
    root = copy(name)
    (root / LABELS[name]).unlink()
    if name in ('rhd_mm', 'fh_mm'):
        shutil.rmtree(root / 'annotations')
    with pytest.raises(DataError, match='json|pickle|npy'):
        MAKE[name](root)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), 1e12, -1e30])
@pytest.mark.parametrize('name', MAKE)
def test_bad_numbers(name, value, copy):
    "NaN, infinity and absurd places name file and sample, or are counted"
    root = copy(name)
    whole = len(MAKE[name](root))
    edit(root / LABELS[name], set_number(name, value))
    with pytest.raises(LabelError) as e:
        MAKE[name](root)
    assert 'sample' in str(e.value) or 'frame' in str(e.value) or 'annotation' in str(e.value)
    ds = quiet(MAKE[name], root, on_error='skip')
    lost = dict(rhd=2, mv=4, fh=4).get(name, 1)
    assert whole - lost <= len(ds) < whole and sum(ds.report.values()) >= 1
    assert np.isfinite(ds.keypoints).all() and ds.batch([0])['keypoints'].isfinite().all()


@pytest.mark.parametrize('name', MAKE)
def test_bad_shapes(name, copy):
    root = copy(name)

    def f(d):
        c, k = first(name, d)
        if name == 'mv':
            return d[:, :20]
        c[k] = c[k][:-1]

    edit(root / LABELS[name], f)
    with pytest.raises(LabelError, match='shape'):
        MAKE[name](root)
    if name != 'mv':
        assert sum(quiet(MAKE[name], root, on_error='skip').report.values()) >= 1


@pytest.mark.parametrize('name', MAKE)
def test_bad_images(name, copy):
    "A missing picture is found at once, a truncated one when it is read; both can be skipped and are counted"
    root = copy(name)
    ds = MAKE[name](root)
    a = ds.file(0)
    b = next(ds.file(i) for i in range(len(ds) - 1, -1, -1) if ds.file(i) != ds.file(0))
    raw = a.read_bytes()
    a.write_bytes(raw[: len(raw) // 2])
    ds = MAKE[name](root)
    with pytest.raises(MediaError, match=f'{a.name}.*sample 0'):
        ds.batch([0])
    n = len(ds)
    ds = MAKE[name](root, on_error='skip')
    assert len(quiet(ds.batch, range(n))['index']) < n and ds.unread >= 1
    b.unlink()
    with pytest.raises(MediaError, match=f'{b.name}.*missing'):
        MAKE[name](root)
    ds = quiet(MAKE[name], root, on_error='skip')
    assert len(ds) < n and ds.report['missing image'] >= 1


def test_wrong_size_of_picture(copy):
    import cv2

    for name in ('rhd', 'mv', 'fh'):
        root = copy(name)
        ds = MAKE[name](root)
        cv2.imwrite(str(ds.file(0)), np.zeros((50, 60, 3), np.uint8))
        with pytest.raises(MediaError, match='60x50'):
            ds.batch([0])


def test_empty_and_duplicates(copy):
    root = copy('rhd')
    edit(root / LABELS['rhd'], lambda d: d.clear())
    with pytest.raises(DataError, match='no samples'):
        RHD(root)
    with pytest.raises(DataError, match='no samples'):
        RHD(root, 'test', min_side=400)
    root = copy('h3d')
    edit(root / LABELS['h3d'], lambda d: d + d[1:2])
    with pytest.raises(LabelError, match='twice'):
        H3D(root, 'all')
    assert quiet(H3D, root, 'all', on_error='skip').report['duplicate'] == 1
    edit(root / LABELS['h3d'], lambda d: [])
    with pytest.raises(DataError, match='no samples'):
        H3D(root, 'all')
    root = copy('fh_mm')
    edit(
        root / LABELS['fh_mm'],
        lambda d: d.update(annotations=d['annotations'][::-1] + d['annotations'][:1]),
    )
    with pytest.raises(LabelError, match='twice'):
        FreiHAND(root)
    root = copy('fh')
    edit(root / 'training_K.json', lambda d: d[:-1])
    with pytest.raises(LabelError, match='5 cameras for 6 hands'):
        FreiHAND(root)


def test_unseen_hand_may_be_anything(copy):
    "A hand without visible joints never spoils the other one of its picture"
    root = copy('rhd')
    n = len(RHD(root))

    def f(d):
        a = np.array(d[1]['uv_vis'])
        assert not a[21:, 2].any()
        a[21:, :2] = np.nan
        d[1]['uv_vis'] = a

    edit(root / LABELS['rhd'], f)
    assert len(RHD(root)) == n


def test_bad_calibration(copy):
    for change in (
        lambda d: d.pop('840412062037'),
        lambda d: d.update({'840412062037': np.zeros((4, 4))}),
        lambda d: d.update({'840412062037': np.eye(3)}),
        lambda d: d.update({'840412062037': np.full((4, 4), np.nan)}),
    ):
        root = copy('mv', dirs_exist_ok=True)
        p = root / '9-10-1-2/calib.pkl'
        d = pickle.loads(p.read_bytes())
        change(d)
        p.write_bytes(pickle.dumps(d))
        with pytest.raises(LabelError, match='calib.pkl'):
            MVHand(root)


@pytest.mark.parametrize(
    'kw',
    [
        dict(split='trian'),
        dict(side='both'),
        dict(on_error='ignore'),
        dict(size=0),
        dict(size='big'),
    ],
)
@pytest.mark.parametrize('name', MAKE)
def test_bad_options(trees, name, kw):
    cls = dict(rhd=RHD, rhd_mm=RHD, h3d=H3D, mv=MVHand, fh=FreiHAND, fh_mm=FreiHAND)[name]
    with pytest.raises(ConfigError):
        cls(trees[name][0], **kw)


def test_options_of_one_reader(trees):
    for f in (
        lambda: RHD(trees['rhd'][0], form='coco'),
        lambda: H3D(trees['h3d'][0], without_object='none'),
        lambda: H3D(trees['h3d'][0], unit='inch'),
        lambda: H3D(trees['h3d'][0], camera='guess'),
        lambda: H3D(trees['h3d'][0], split_by='hand'),
        lambda: MVHand(trees['mv'][0], split_by='view'),
        lambda: MVHand(trees['mv'][0], knuckles='long'),
        lambda: FreiHAND(trees['fh'][0], split_by='view'),
    ):
        with pytest.raises(ConfigError):
            f()


def test_malicious_pickle(copy):
    import os

    class Evil:
        def __reduce__(self):
            return os.system, ('touch hacked',)

    for name, p in (('rhd', 'training/anno_training.pickle'), ('mv', '7-14-1-2/calib.pkl')):
        root = copy(name)
        (root / p).write_bytes(pickle.dumps({0: Evil()}))
        with pytest.raises(LabelError, match='refused'):
            MAKE[name](root)
    assert not Path('hacked').exists()


def test_summary(trees, capsys):
    import matplotlib

    matplotlib.use('Agg')
    r = MVHand(trees['mv'][0], 'all').summary()
    assert (
        r['samples'] == 96
        and r['videos'] == 16
        and r['reprojection_px'][1] < 0.01
        and r['mirrored'] == 96
        and 'samples' in capsys.readouterr().out
    )
    assert FreiHAND(trees['fh_mm'][0]).summary(show=False)['reprojection_px'] is None
    c = RHD.check(trees['rhd'][0])
    assert c.ok and 'complete' in repr(c)
    c = MVHand.check(trees['fh'][0])
    assert not c.ok and '7-14-1-2/calib.pkl' in repr(c) and 'github.com' in repr(c)


@pytest.mark.parametrize('name', MAKE)
def test_fuzz(name, tmp_path):
    "200 blows each: a typed error or sound samples"
    write = dict(
        rhd=lambda d: write_rhd(d, 6, 1),
        rhd_mm=lambda d: write_rhd(d, 6, 1, form='mmpose'),
        h3d=lambda d: write_h3d(d, 2, 4, size=64),
        mv=lambda d: write_mvhand(d, 2, 2),
        fh=lambda d: write_freihand(d, 2, versions=('gs', 'hom')),
        fh_mm=lambda d: write_freihand(d, 3, versions=('gs', 'hom'), form='mmpose'),
    )[name]
    write(tmp_path / name)
    kw = dict(size=32)
    if name == 'mv':
        kw['sequences'] = MVHAND_SEQS[:2]
    if name == 'fh':
        kw['versions'] = ('gs', 'hom')
    told = fuzz(
        lambda r: read_all(lambda e: MAKE[name](r, on_error=e, **kw)),
        tmp_path / name,
        n=200,
        seed=1,
        keep=lambda p: not {'depth', 'mask', 'evaluation'} & set(p.parts) and 'mano' not in p.name,
    )
    assert sum(told.values()) == 200
