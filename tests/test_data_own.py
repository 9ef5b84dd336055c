"""Own data: label formats against files that pandas and json wrote, joints by name, labelled sources, frame sources in all stores, bad input, and files damaged at random."""

import gc, json, multiprocessing, os, pickle, resource, shutil, signal, subprocess, sys, time, warnings
from pathlib import Path
import h5py, numpy as np, pandas as pd, pytest, torch
from PIL import Image
from fixtures_own import (
    BONES,
    JOINTS,
    clip_frames,
    coco_dict,
    plain,
    table,
    three,
    write_clips,
    write_coco_tree,
    write_dlc_tree,
    write_images,
    write_lightning_tree,
)
from fuzz import fuzz, read_all
from geomrecon.readers.remapped import Remapped
from geomrecon.readers.joint_names import match_joints, named_skeleton
from geomrecon.readers.label_coco import read_coco, read_labels, write_coco
from geomrecon.readers.label_csv import read_dlc_csv, read_lightning_csv, write_dlc_csv
from geomrecon.readers.label_h5 import read_dlc_h5, write_dlc_h5
from geomrecon.data.video import VideoReader, read_video
from geomrecon.readers.labelled_images import CocoPoses, DlcPoses
from geomrecon.data.crop_store import CropFile
from geomrecon.readers.labelled_frames import LabelledFrames
from geomrecon.data.frames import VideoFrames
from geomrecon.data.motion import check_boxes, read_boxes
from geomrecon.data.media import list_media
from geomrecon.data.video import write_video
from geomrecon.data.pairs import FramePairs, pose_dls
from geomrecon.core.errors import (
    ConfigError,
    DataError,
    GeomReconError,
    LabelError,
    MediaError,
    SkeletonError,
)
from geomrecon.core.skeleton import MOUSE4

torch.set_num_threads(1)
quiet = pytest.mark.filterwarnings('ignore')
N = 220  # blows per fuzz test


def px(ds):
    return np.where(ds.visible[..., None], ds.keypoints, np.nan)


def dots(ds, reach=7):
    "Distance in crop pixels between the drawn dot on the snout and its label"
    b = ds.batch(range(len(ds)))
    S = b['image'].shape[-1]
    g = np.stack(np.meshgrid(np.arange(S), np.arange(S)), -1)
    out = []
    for im, c in zip(
        b['image'].float().mean(1).numpy(), ((b['keypoints'][:, 0] + 1) * S / 2 - 0.5).numpy()
    ):
        m = (im - 165).clip(0) * (np.linalg.norm(g - c, axis=-1) < reach)
        out.append(np.linalg.norm((g * m[..., None]).sum((0, 1)) / m.sum() - c))
    return np.array(out)


# ---------------------------------------------------------------- labels against other writers


def test_dlc_csv_as_pandas_writes_it(tmp_path):
    t = write_dlc_tree(tmp_path)
    lb = read_dlc_csv(tmp_path / 'CollectedData_lab.csv', 'mouse')
    assert np.allclose(lb.keypoints, t['keypoints'], atol=1e-4, equal_nan=True) and lb.names == [
        f'labeled-data/clip/{n}' for n in t['names']
    ]
    assert not lb.visible[1, 2] and lb.visible.sum() == 23


@pytest.mark.parametrize(
    'fmt,index,who,lik',
    [
        ('fixed', 'three', None, 0),
        ('fixed', 'plain', None, 0),
        ('fixed', 'three', ('m1', 'm2'), 0),
        ('table', 'plain', None, 1),
        ('table', None, None, 1),
        ('table', None, ('m1', 'm2', 'm3'), 1),
    ],
)
def test_h5_layouts(tmp_path, fmt, index, who, lik):
    r = np.random.default_rng(0)
    n, a = 7, len(who or 'x')
    kp = r.uniform(0, 300, (n, a, 4, 2))
    kp[2, 0, 1] = np.nan
    l = r.uniform(0, 1, (n, a, 4))
    names = [f'img{i}.png' for i in range(n)]
    ix = {'three': three(names), 'plain': plain(names), None: None}[index]
    df = table(kp if who else kp[:, 0], ix, (l if who else l[:, 0]) if lik else None, who)
    df.to_hdf(tmp_path / 'x.h5', key='df_with_missing', mode='w', format=fmt)
    for k, w in enumerate(who or [None]):
        lb = read_dlc_h5(tmp_path / 'x.h5', MOUSE4, individual=w)
        assert np.allclose(lb.keypoints, kp[:, k], atol=1e-3, equal_nan=True)
        assert lb.likelihood is None if not lik else np.allclose(lb.likelihood, l[:, k], atol=1e-6)
        assert lb.names == (plain(names) if index else [str(i) for i in range(n)])
    if who:
        assert len(read_dlc_h5(tmp_path / 'x.h5', MOUSE4, individual='all').names) == n * a


def test_h5_is_read_back_by_pandas(tmp_path):
    r = np.random.default_rng(0)
    kp = r.uniform(0, 300, (5, 4, 2))
    kp[0, 3] = np.nan
    l = r.uniform(0, 1, (5, 4))
    names = [f'labeled-data/clip/img{i}.png' for i in range(5)]
    df = pd.read_hdf(write_dlc_h5(tmp_path / 'a.h5', kp, None, 'mouse', index=names))
    assert df.index.nlevels == 3 and df.equals(
        table(kp, three([n[18:] for n in names]), scorer='geomrecon')
    )
    df = pd.read_hdf(write_dlc_h5(tmp_path / 'b.h5', kp, l, 'mouse'))
    assert df.equals(table(kp, None, l, scorer='geomrecon'))
    df = pd.read_hdf(
        write_dlc_h5(tmp_path / 'c.h5', kp, None, 'mouse', individual='m1', index=names)
    )
    assert list(df.columns.names) == ['scorer', 'individuals', 'bodyparts', 'coords']
    for f, e in (('a', kp), ('b', kp), ('c', kp)):
        assert np.allclose(
            read_dlc_h5(tmp_path / f'{f}.h5', 'mouse').keypoints, e, atol=1e-4, equal_nan=True
        )


def test_many_joints_in_h5(tmp_path):  # long lists of names
    names = [f'joint_number_{i}' for i in range(300)]
    kp = np.random.default_rng(0).uniform(0, 99, (4, 300, 2))
    table(kp, None, np.ones((4, 300)), joints=names).to_hdf(
        tmp_path / 'x.h5', key='df_with_missing', mode='w', format='table'
    )
    lb = read_dlc_h5(tmp_path / 'x.h5', None)
    assert lb.skeleton.joints == tuple(names) and np.allclose(lb.keypoints, kp, atol=1e-4)


class Evil:
    def __init__(self, cmd):
        self.cmd = cmd

    def __reduce__(self):
        return os.system, (self.cmd,)


@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_h5_runs_nothing(tmp_path, protocol):
    write_dlc_tree(tmp_path / 'd', 3)
    kp = np.ones((3, 4, 2))
    ran = tmp_path / 'ran'
    payload = pickle.dumps(Evil(f'touch {ran}'), protocol)
    write_dlc_h5(tmp_path / 't.h5', kp, np.ones((3, 4)), 'mouse')
    bases = [tmp_path / 'd' / 'CollectedData_lab.h5', tmp_path / 't.h5']
    tried = 0
    for base in bases:
        with h5py.File(base) as f:
            places = []
            f.visititems(
                lambda n, o: places.append((n, list(o.attrs), isinstance(o, h5py.Dataset)))
            )
        for n, attrs, array in places:
            if '_i_table' in n:
                continue
            for a in [*attrs, None] if array else attrs:
                p = tmp_path / 'e.h5'
                shutil.copy(base, p)
                with h5py.File(p, 'r+') as f:
                    if a is not None:
                        f[n].attrs[a] = np.void(payload) if protocol else np.bytes_(payload)
                    else:
                        old = {k: f[n].attrs[k] for k in f[n].attrs}
                        del f[n]
                        d = f.create_dataset(n, (1,), dtype=h5py.vlen_dtype(np.uint8))
                        d[0] = np.frombuffer(payload, np.uint8)
                        for k, v in dict(
                            old,
                            CLASS=np.bytes_('VLARRAY'),
                            PSEUDOATOM=np.bytes_('object'),
                            kind=np.bytes_('object'),
                        ).items():
                            d.attrs[k] = v
                tried += 1
                try:
                    read_dlc_h5(p, 'mouse')
                except GeomReconError:
                    pass
                assert not ran.exists(), (n, a)
    assert tried > 100


def test_lightning_pose(tmp_path):
    t = write_lightning_tree(tmp_path)
    for f in ('CollectedData.csv', 'predictions.csv'):
        assert np.allclose(
            read_lightning_csv(tmp_path / f, 'mouse').keypoints, t['keypoints'], atol=1e-4
        )
    lb = read_lightning_csv(tmp_path / 'predictions.csv', 'mouse', part='test')
    assert lb.names == [f'labeled-data/clip/{t["names"][-1]}'] and np.allclose(lb.likelihood, 0.9)
    pd.read_csv(tmp_path / 'predictions.csv', header=[0, 1, 2], index_col=0).to_csv(
        tmp_path / 'again.csv'
    )
    assert np.allclose(
        read_lightning_csv(tmp_path / 'again.csv', 'mouse').keypoints, t['keypoints'], atol=1e-4
    )
    df = pd.read_csv(
        write_dlc_csv(tmp_path / 'out.csv', t['keypoints'], None, 'mouse', index=plain(t['names'])),
        header=[0, 1, 2],
        index_col=0,
    )
    assert df.shape == (6, 8) and np.allclose(
        df.to_numpy().reshape(6, 4, 2), t['keypoints'], atol=1e-3
    )


def test_coco_several_annotations(tmp_path):
    t = write_coco_tree(tmp_path, state=True)
    lb = read_coco(tmp_path / 'train.json', 'mouse')
    ref = np.where(t['state'][..., None] > 0, t['keypoints'], np.nan)
    assert (
        lb.names == t['names']
        and len(lb.names) == 7
        and np.allclose(lb.keypoints, ref, atol=1e-3, equal_nan=True)
    )
    assert (
        np.allclose(lb.boxes, t['boxes'], atol=0.01)
        and (lb.state == t['state']).all()
        and (lb.size == [96, 128]).all()
    )
    sk = read_coco(tmp_path / 'train.json', None).skeleton
    assert (
        sk.joints == MOUSE4.joints
        and sk.bones == MOUSE4.bones
        and sk.flip_pairs == MOUSE4.flip_pairs
    )
    again = read_coco(
        write_coco(
            tmp_path / 'b.json',
            lb.names,
            lb.keypoints,
            'mouse',
            lb.size,
            boxes=lb.boxes,
            state=lb.state,
        ),
        'mouse',
    )
    assert (
        np.allclose(again.keypoints, lb.keypoints, equal_nan=True)
        and (again.state == lb.state).all()
    )


def test_lightning_file_without_scorer(
    tmp_path,
):  # as in its own tests: header cells that pandas filled, long paths, trailing zeros
    (tmp_path / 'c.csv').write_text(
        'scorer,Unnamed: 1_level_0,Unnamed: 2_level_0,Unnamed: 3_level_0,Unnamed: 4_level_0\nbodyparts,black_mouse_nose,black_mouse_nose,black_mouse_right_ear,black_mouse_right_ear\ncoords,x,y,x,y\n'
        'labeled-data/012609_A29/img00010035.png,259.0,401.0,252.0,373.0\nlabeled-data/012609_A29/img00010327.png,592.0,250.00000000000003,,\n'
    )
    lb = read_lightning_csv(tmp_path / 'c.csv', None)
    assert (
        lb.skeleton.joints == ('black_mouse_nose', 'black_mouse_right_ear')
        and lb.visible.tolist() == [[True, True], [True, False]]
        and lb.keypoints[1, 0].tolist() == [592, 250]
    )


def test_old_places_of_names():
    from geomrecon.readers.labelled_frames import LabelledFrames
    from geomrecon.data.frames import VideoFrames
    from geomrecon.core.files import atomic_path
    from geomrecon.readers.label_coco import read_coco, write_coco
    from geomrecon.readers.label_csv import read_dlc_csv, write_dlc_csv
    from geomrecon.data.images import read_image
    from geomrecon.data.video import read_video, video_info, write_video


# ---------------------------------------------------------------- names


def test_names(tmp_path):
    t = write_dlc_tree(tmp_path, h5=False)
    p = tmp_path / 'CollectedData_lab.csv'
    p.write_text(
        p.read_text()
        .replace('leftear', 'Ear_L')
        .replace('rightear', 'right-ear')
        .replace('snout', 'nose')
    )
    with pytest.raises(
        LabelError,
        match=r"unknown \['nose', 'Ear_L', 'right-ear'\].*did you mean names=\{.*'Ear_L': 'leftear'",
    ):
        read_labels(p, 'mouse')
    with pytest.raises(LabelError, match="lacks the joints \\['snout'\\]"):
        read_labels(p, 'mouse', rename='auto')
    assert np.allclose(
        read_labels(p, 'mouse', rename='auto', names={'nose': 'snout'}).keypoints,
        t['keypoints'],
        atol=1e-4,
        equal_nan=True,
    )
    assert not read_labels(p, 'mouse', rename='auto', missing='invisible').visible[:, 0].any()
    ds = DlcPoses(p, tmp_path, 'mouse', rename='auto', names={'nose': 'snout'}, size=64)
    assert np.allclose(px(ds), t['keypoints'], atol=1e-3, equal_nan=True)


def test_left_and_right_are_never_exchanged():
    for s in (['L_ear', 'R_ear'], ['earRight', 'earLeft'], ['right_EAR', 'left_EAR']):
        at = match_joints(s, ['leftear', 'rightear'], rename='auto')
        assert [s[i][:1].lower() if s[i][0] in 'LRlr' else s[i][3].lower() for i in at] == [
            'l',
            'r',
        ]
    with pytest.raises(LabelError):
        match_joints(['ear_L', 'l_ear', 'R_ear'], ['leftear', 'rightear'], rename='auto')
    with pytest.raises(LabelError) as e:
        match_joints(['left_paw'], ['right_paw'], rename='auto')
    assert 'did you mean' not in str(e.value)


def test_remapped(tmp_path):
    t = write_coco_tree(tmp_path, state=True)
    ds = CocoPoses(tmp_path / 'train.json', tmp_path / 'images', size=48)
    to = named_skeleton('other', ['tail_base', 'ear_right', 'snout', 'ear_left', 'paw'], ((0, 2),))
    with pytest.raises(SkeletonError, match="'leftear': 'ear_left'"):
        Remapped(ds, to)
    with pytest.raises(SkeletonError, match="lacks the joints \\['paw'\\]"):
        Remapped(ds, to, rename='auto')
    r = Remapped(ds, to, rename='auto', missing='invisible')
    a, b = ds.batch(range(7)), r.batch(range(7))
    m = [3, 2, 0, 1]
    assert (
        len(r) == 7
        and torch.equal(b['keypoints'][:, :4], a['keypoints'][:, m])
        and torch.equal(b['visible'][:, :4], a['visible'][:, m])
        and not b['visible'][:, 4].any()
    )
    assert (
        b['joints3d'].shape == (7, 5, 3)
        and torch.equal(b['image'], a['image'])
        and b['keypoints'].isfinite().all()
    )
    assert (
        (r.keypoints[:, :4] == ds.keypoints[:, m]).all()
        and (r.subset([4, 1]).batch([1])['index'] == 1).all()
        and r.frames().images([0]).shape == (1, 3, 48, 48)
    )
    assert torch.equal(
        pickle.loads(pickle.dumps(r)).batch([2])['keypoints'], r.batch([2])['keypoints']
    )


# ---------------------------------------------------------------- labelled sources


def test_coco_source(tmp_path):
    t = write_coco_tree(tmp_path, state=True)
    kw = dict(root=tmp_path / 'images', skeleton='mouse', size=64)
    for crop in ('box', 'joints', 'whole', [0, 0, 100, 96]):
        ds = CocoPoses(tmp_path / 'train.json', crop=crop, **kw)
        assert len(ds) == 7 and dots(ds)[[0, 2, 4]].max() < 0.1, crop
        assert np.allclose(
            px(ds),
            np.where(t['state'][..., None] > 0, t['keypoints'], np.nan),
            atol=1e-3,
            equal_nan=True,
        )
    side = 1.25 * t['boxes'][:, 2:].max(1)
    ds = CocoPoses(tmp_path / 'train.json', **kw)
    assert np.allclose(ds.pictures.box[:, 2], side, atol=0.05) and np.allclose(
        ds.pictures.box[:, :2] + side[:, None] / 2,
        t['boxes'][:, :2] + t['boxes'][:, 2:] / 2,
        atol=0.05,
    )
    assert (
        CocoPoses(tmp_path / 'train.json', visibility='visible', **kw).visible.sum() == 26
        and ds.visible.sum() == 27
    )
    few = CocoPoses(tmp_path / 'train.json', min_keypoints=4, **kw)
    assert len(few) == 6 and few.report['few keypoints'] == 1
    assert len(np.unique(ds.video_id)) == 6 and (ds.video_id[2] == ds.video_id[3])
    with pytest.raises(DataError, match='no two frames'):
        FramePairs(ds.frames(), (1, 5))
    d = json.loads((tmp_path / 'train.json').read_text())
    d['annotations'][0]['iscrowd'] = 1
    d['annotations'][1].pop('bbox')
    [m.pop('height') for m in d['images']]
    (tmp_path / 'train.json').write_text(json.dumps(d))
    ds = CocoPoses(tmp_path / 'train.json', **kw)
    assert len(ds) == 6 and dots(ds)[[1, 3]].max() < 0.1


@pytest.mark.parametrize('file', ['CollectedData_lab.csv', 'CollectedData_lab.h5'])
def test_dlc_source(tmp_path, file):
    t = write_dlc_tree(tmp_path)
    ds = DlcPoses(tmp_path / file, skeleton='mouse', size=64)
    assert (
        np.allclose(px(ds), t['keypoints'], atol=1e-3, equal_nan=True)
        and dots(ds).max() < 0.12
        and (ds.frame == range(6)).all()
        and len(np.unique(ds.video_id)) == 1
    )
    i, j = FramePairs(ds.frames(), (1, 2)).sample(range(6), np.random.default_rng(0))
    assert (np.abs(i - j) <= 2).all()
    b = np.tile([[0, 0, 96, 96]], (6, 1))
    b[4] = [10, 0, 80, 80]
    (tmp_path / 'b.csv').write_text('x,y,w,h\n' + '\n'.join(','.join(map(str, r)) for r in b))
    ds = DlcPoses(
        tmp_path / file, tmp_path / 'labeled-data', 'mouse', crop=str(tmp_path / 'b.csv'), size=64
    )
    assert np.allclose(ds.pictures.box, b) and dots(ds).max() < 0.12
    with pytest.raises(DataError, match='2 boxes'):
        DlcPoses(tmp_path / file, crop=b[:2])
    assert len(DlcPoses(tmp_path / file, min_keypoints=4)) == 5 and DlcPoses(
        tmp_path / file
    ).skeleton.flip_pairs == ((1, 2),)


def test_lightning_source_and_likelihood(tmp_path):
    t = write_lightning_tree(tmp_path)
    p = tmp_path / 'predictions.csv'
    rows = p.read_text().split('\n')
    r = rows[4].split(',')
    r[6] = '0.2'
    rows[4] = ','.join(r)
    p.write_text('\n'.join(rows))
    ds = DlcPoses(p, skeleton='mouse', min_likelihood=0.5, size=64)
    assert (
        len(ds) == 6 and (~ds.visible).sum() == 1 and not ds.visible[1, 1] and dots(ds).max() < 0.12
    )


def test_several_animals_as_samples(tmp_path):
    t = write_images(tmp_path / 'labeled-data' / 'clip', 4, several=(0, 1, 2, 3))
    kp = t['keypoints'].reshape(4, 2, 4, 2)
    kp[1, 1] = np.nan
    names = t['names'][::2]
    table(kp, three(names), individuals=('a', 'b')).to_hdf(
        tmp_path / 'x.h5', key='df_with_missing', mode='w'
    )
    ds = DlcPoses(tmp_path / 'x.h5', skeleton='mouse', size=64)
    assert (
        len(ds) == 7
        and dots(ds).max() < 0.12
        and len(DlcPoses(tmp_path / 'x.h5', individual='b')) == 3
    )


def test_training_with_workers(tmp_path):
    write_coco_tree(tmp_path)
    write_clips(tmp_path / 'v')
    ds = CocoPoses(tmp_path / 'train.json', tmp_path / 'images', 'mouse', size=32)
    for store in ('none', 'disk'):
        fs = VideoFrames(tmp_path / 'v', 32, store=store, cache=tmp_path / 'c', progress=False)
        fs.images([0])
        dls = pose_dls(ds, ds, fs, steps=4, bs=4, stride=(2, 5), num_workers=2, device='cpu')
        for b in dls.train:
            assert b[0].shape == (4, 3, 32, 32) and b[1].shape == b[2].shape == (4, 3, 32, 32)
    p = FramePairs(fs, (2, 5))
    i, j = p.sample(np.arange(len(p)), np.random.default_rng(0))
    assert (fs.video_id[i] == fs.video_id[j]).all() and np.isin(
        np.abs(fs.frame[i] - fs.frame[j]), range(2, 6)
    ).all()


def _collect():
    signal.alarm(10)
    gc.collect()
    os._exit(0)


def test_forked_process_collects_what_the_parent_left(
    tmp_path,
):  # decoders in reference cycles, freed in a worker
    p = write_clips(tmp_path, 20, ['a.mp4']) / 'a.mp4'
    gc.disable()
    try:
        for make in (
            lambda: read_video(p),
            lambda: VideoReader(p),
            lambda: VideoFrames(p, 24, 'whole', store='none', progress=False),
        ):
            x = make()
            next(x) if hasattr(x, '__next__') else x[3] if isinstance(x, VideoReader) else x.images(
                [3]
            )
            cycle = [x]
            cycle.append(cycle)
            del x, cycle
            c = multiprocessing.get_context('fork').Process(target=_collect)
            c.start()
            c.join()
            assert c.exitcode == 0
            gc.collect()
    finally:
        gc.enable()


# ---------------------------------------------------------------- frame sources


def test_folders(tmp_path):
    write_clips(tmp_path / 'v')
    write_images(tmp_path / 's' / 'b10')
    write_images(tmp_path / 's' / 'b9')
    assert [p.name for p in list_media(tmp_path / 'v')] == ['clip2.mp4', 'clip10.mp4'] and [
        p.name for p in list_media(tmp_path / 's')
    ] == ['b9', 'b10']
    fs = VideoFrames(tmp_path / 'v', 32, progress=False)
    assert len(fs) == 48 and (np.bincount(fs.video_id) == 24).all()
    assert len(VideoFrames(tmp_path / 's', 32, 'whole', progress=False)) == 12
    both = VideoFrames([tmp_path / 'v', tmp_path / 's'], 32, ['motion', 'whole'], progress=False)
    assert len(both.paths) == 4 and len(both) == 60
    shutil.copy(tmp_path / 'v' / 'clip2.mp4', tmp_path / 's' / 'x.mp4')
    with pytest.raises(MediaError, match='1 videos and 2 folders'):
        VideoFrames(tmp_path / 's', 32, 'whole', progress=False)
    (tmp_path / 'loop').mkdir()
    (tmp_path / 'loop' / 'again').symlink_to(tmp_path / 'loop')
    with pytest.raises(MediaError, match='no image files'):
        list_media(tmp_path / 'loop')


@pytest.mark.parametrize(
    'kw',
    [
        dict(),
        dict(crop='whole', step=3),
        dict(crop=[5, 5, 40, 40], max_frames=7),
        dict(side=30, fill=0.5, pad='zeros'),
    ],
)
def test_stores_agree(tmp_path, kw):
    v = write_clips(tmp_path / 'v')
    a, b, c = (
        VideoFrames(
            v, 24, store=s, cache=tmp_path / 'c' if s == 'disk' else None, progress=False, **kw
        )
        for s in ('memory', 'disk', 'none')
    )
    i = np.random.default_rng(0).integers(0, len(a), 90)
    for o in (b, c):
        assert (
            torch.equal(o.images(i), a.images(i))
            and (o.boxes == a.boxes).all()
            and (o.frame == a.frame).all()
            and (o.found == a.found).all()
        )


GROW = """
import sys, numpy as np
from geomrecon.data.frames import VideoFrames
def rss(): return int(next(l for l in open('/proc/self/status') if l.startswith('VmRSS')).split()[1])/1e3
VideoFrames(sys.argv[1], 128, 'whole', max_frames=20, store='memory', progress=False).images(range(20))
for store in ('disk','none','memory'):
    before = rss(); fs = VideoFrames(sys.argv[1], 128, 'whole', store=store, cache=sys.argv[2] if store=='disk' else None, recent_mb=4, progress=False)
    for k in range(0,len(fs),100): fs.images(np.arange(k,min(k+100,len(fs))))
    print(store, len(fs), rss()-before)
"""


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='needs /proc')
def test_memory_does_not_grow(tmp_path):
    x = clip_frames(50)[0]
    write_video(tmp_path / 'long.mp4', (x[i % 50] for i in range(1200)), crf=30)
    o = subprocess.run(
        [sys.executable, '-c', GROW, tmp_path / 'long.mp4', tmp_path / 'c'],
        capture_output=True,
        text=True,
        env=dict(os.environ, OMP_NUM_THREADS='1'),
    )
    assert o.returncode == 0, o.stderr
    out = {s: float(r) for s, n, r in (l.split() for l in o.stdout.splitlines()) if n == '1200'}
    print(out)
    assert out['memory'] > 50 and out['disk'] < 25 and out['none'] < 25, out  # 59 MB of crops


def _die(v, cache):
    cut = VideoFrames._cut

    def killed(self, *a, **k):
        for n, r in enumerate(cut(self, *a, **k)):
            if n == 30:
                os.kill(os.getpid(), signal.SIGKILL)
            yield r

    VideoFrames._cut = killed
    VideoFrames(v, 24, store='disk', cache=cache, progress=False)


def test_killed_and_gone_on_with(tmp_path, monkeypatch):
    v = write_clips(tmp_path / 'v', 60, ['a.mp4']) / 'a.mp4'
    ref = VideoFrames(v, 24, progress=False).images(slice(None))
    p = multiprocessing.get_context('fork').Process(target=_die, args=(v, tmp_path / 'c'))
    p.start()
    p.join()
    assert p.exitcode == -9
    parts = list((tmp_path / 'c').glob('*.part'))
    assert len(parts) == 1 and not list((tmp_path / 'c').glob('crops-*.bin'))
    starts, cut = [], VideoFrames._cut
    monkeypatch.setattr(
        VideoFrames,
        '_cut',
        lambda self, m, b, f, start=0, count=0: (
            starts.append(start),
            cut(self, m, b, f, start, count),
        )[1],
    )
    fs = VideoFrames(v, 24, store='disk', cache=tmp_path / 'c', progress=False)
    assert (
        torch.equal(fs.images(slice(None)), ref)
        and starts[0] > 0
        and not list((tmp_path / 'c').glob('*.part'))
    )
    raw = parts[0].with_suffix('.bin').read_bytes()
    for cut_at in (
        0,
        1,
        999,
        len(raw) // 3,
        len(raw) - 1,
    ):  # any cut end is gone on with or made anew
        for f in (tmp_path / 'c').iterdir():
            f.unlink()
        parts[0].write_bytes(raw[:cut_at])
        assert torch.equal(
            VideoFrames(v, 24, store='disk', cache=tmp_path / 'c', progress=False).images(
                slice(None)
            ),
            ref,
        )


def _build(args):
    v, c, s = args
    return VideoFrames(v, 24, store=s, cache=c, progress=False).images(slice(None)).numpy()


def test_processes_share_a_cache(tmp_path):
    v = write_clips(tmp_path / 'v', 40, ['a.mp4', 'b.mp4'])
    ref = VideoFrames(v, 24, progress=False).images(slice(None)).numpy()
    with multiprocessing.get_context('fork').Pool(3) as pool:
        got = pool.map(_build, [(v, tmp_path / 'c', s) for s in ('disk', 'memory', 'disk', 'none')])
    assert all((g == ref).all() for g in got) and not list((tmp_path / 'c').glob('*.part'))


def test_cache_is_bounded_and_may_go(tmp_path):
    v = write_clips(tmp_path / 'v', 40, ['a.mp4']) / 'a.mp4'
    one = sum(
        f.stat().st_size
        for f in (
            VideoFrames(v, 24, store='disk', cache=tmp_path / 'c', progress=False)
            and tmp_path / 'c'
        ).iterdir()
    )
    for k in range(4):
        fs = VideoFrames(
            v,
            24,
            store='disk',
            cache=tmp_path / 'c',
            cache_gb=2.5 * one / 1e9,
            fill=0.3 + 0.1 * k,
            progress=False,
        )
        assert sum(f.stat().st_size for f in (tmp_path / 'c').iterdir()) <= 2.5 * one
    ref = fs.images(slice(None))
    shutil.rmtree(tmp_path / 'c')
    assert torch.equal(fs.images(slice(None)), ref)  # still open
    assert torch.equal(pickle.loads(pickle.dumps(fs)).images(slice(None)), ref)  # decoded anew
    VideoFrames(
        v, 24, cache=tmp_path / 'c', cache_gb=1e-6, progress=False
    )  # no room: not kept, and no error
    assert sum(f.stat().st_size for f in (tmp_path / 'c').glob('crops*')) == 0


@quiet
def test_damaged_cache(tmp_path):
    v = write_clips(tmp_path / 'v', 20, ['a.mp4']) / 'a.mp4'
    kw = dict(size=24, cache=tmp_path / 'c', progress=False)
    ref = VideoFrames(v, **kw).images(slice(None))
    r = np.random.default_rng(0)
    for k in range(40):
        f = sorted((tmp_path / 'c').iterdir())[r.integers(3)]
        raw = bytearray(f.read_bytes())
        how = r.integers(4)
        if how == 0:
            raw[r.integers(len(raw))] ^= 1 << r.integers(8)
        elif how == 1:
            raw = raw[: r.integers(len(raw))]
        elif how == 2:
            raw[:50] = b'x' * 50
        if how == 3:
            f.unlink()
        else:
            f.write_bytes(bytes(raw))
        fs = VideoFrames(v, store=['memory', 'disk'][k % 2], **kw)
        x = fs.images(slice(None))
        if f.name.startswith('crops') or how in (1, 3):
            assert torch.equal(x, ref), (k, f.name, how)
        VideoFrames(v, **kw)


@quiet
def test_on_error(tmp_path):
    v = write_clips(tmp_path / 'v', 12)
    (v / 'a.mp4').write_bytes(b'junk')
    s = tmp_path / 's'
    write_images(s, several=())
    (s / 'img002.png').write_bytes(b'x')
    d = (s / 'img003.jpg').read_bytes()
    (s / 'img003.jpg').write_bytes(d[: len(d) // 2])
    for e in ('images', 'raise'):
        with pytest.raises(MediaError, match='a.mp4'):
            VideoFrames(v, 24, progress=False, on_error=e)
    fs = VideoFrames(v, 24, progress=False, on_error='skip')
    assert fs.report == {'unreadable video': 1} and len(fs.paths) == 2
    for store in ('memory', 'disk'):
        for _ in range(2):
            fs = VideoFrames(s, 24, 'whole', progress=False, store=store, cache=tmp_path / 'c')
            assert (
                fs.report == {'unreadable image': 2}
                and fs.frame.tolist() == [0, 1, 4, 5]
                and fs.name(2) == 'img004.png'
            )
    with pytest.raises(MediaError, match='img002.png'):
        VideoFrames(s, 24, 'whole', progress=False, on_error='raise')
    fs = VideoFrames(s, 24, 'whole', progress=False, store='none')
    x = fs.images(slice(None))
    assert (
        fs.report == {'unreadable image': 1} and len(fs) == 5 and int(fs.unread) == 1
    )  # a cut JPEG shows only when read
    for p in v.iterdir():
        p.write_bytes(b'junk')
    with pytest.raises(DataError, match='none of the videos'):
        VideoFrames(v, 24, progress=False, on_error='skip')


@pytest.mark.parametrize(
    'kw,E,text',
    [
        (dict(size=0), ConfigError, 'size'),
        (dict(step=1.5), ConfigError, 'step'),
        (dict(max_frames=0), ConfigError, 'max_frames'),
        (dict(store='x'), ConfigError, "'x'"),
        (dict(store='disk'), ConfigError, 'cache'),
        (dict(on_error='no'), ConfigError, 'on_error'),
        (dict(crop=[np.nan] * 4), DataError, 'not finite'),
        (dict(crop=[1, 2, 3]), DataError, 'shape'),
        (dict(crop=[500, 0, 9, 9]), DataError, 'outside'),
        (dict(crop=[0, 0, -3, 9]), DataError, 'not positive'),
        (dict(crop=[-5e7, -5e7, 1e8, 1e8]), DataError, '20 times'),
        (dict(side=0), ConfigError, 'side'),
        (dict(side=float('nan')), ConfigError, 'side'),
        (dict(fill=-1), ConfigError, 'fill'),
        (dict(crop=np.zeros((3, 4))), DataError, 'not positive'),
        (dict(crop=[[1, 2, 3, 4], [1, 2]]), DataError, 'boxes'),
        (dict(crop=[]), DataError, 'empty'),
        (dict(crop='nowhere.csv'), DataError, 'no such file'),
        (dict(background=np.zeros((9, 9, 3), np.uint8)), DataError, 'background'),
    ],
)
def test_bad_options(tmp_path, kw, E, text):
    v = write_clips(tmp_path / 'v', 6, ['a.mp4']) / 'a.mp4'
    for store in ('memory', 'none'):
        with pytest.raises(E, match=text):
            VideoFrames(v, **{'progress': False, 'store': store, **kw})


# ---------------------------------------------------------------- bad input of the labelled sources


def _coco(root, e='raise', **kw):
    return CocoPoses(
        Path(root) / 'train.json', Path(root) / 'images', 'mouse', size=32, on_error=e, **kw
    )


def _ann(i, **kw):
    return lambda d: d['annotations'][i].update(kw)


@quiet
@pytest.mark.parametrize(
    'change,text,skipped',
    [
        (_ann(0, keypoints=[1, 2, 2] * 3), '9 numbers', 'annotation'),
        (_ann(0, keypoints=[float('nan')] * 12), 'not finite', 'annotation'),
        (_ann(0, keypoints=[1e9, 1, 2] * 4), 'beyond', 'annotation'),
        (_ann(0, keypoints='text'), 'annotation 100', 'annotation'),
        (_ann(0, image_id=999), 'not listed', 'annotation'),
        (_ann(0, bbox=[1000, 10, 30, 30]), 'outside', 'box outside the image'),
        (_ann(0, keypoints=[90000, 90000, 2] * 4), 'ten images', 'absurd keypoint'),
        (lambda d: d['annotations'].append(dict(d['annotations'][0])), 'twice', 'duplicate'),
        (lambda d: d['images'][0].update(file_name='no.png'), 'missing', 'missing image'),
    ],
)
def test_coco_bad_rows(tmp_path, change, text, skipped):
    write_coco_tree(tmp_path, 4)
    d = json.loads((tmp_path / 'train.json').read_text())
    change(d)
    (tmp_path / 'train.json').write_text(json.dumps(d))
    with pytest.raises((LabelError, MediaError), match=text):
        _coco(tmp_path)
    ds = _coco(tmp_path, 'skip')
    assert ds.report[skipped] == 1, ds.report
    assert ds.batch(range(len(ds)))['image'].shape[0] == len(ds) >= 4


@pytest.mark.parametrize(
    'change,text',
    [
        (lambda d: d.update(annotations=[]), 'no annotation'),
        (lambda d: d['categories'].pop(), 'no category'),
        (lambda d: d['categories'][1].update(keypoints=JOINTS[:3]), 'lacks'),
        (lambda d: d.pop('images'), 'images'),
        (lambda d: d.update(images={}), 'images'),
        (lambda d: [a.update(iscrowd=1) for a in d['annotations']], 'no annotation'),
    ],
)
def test_coco_bad_files(tmp_path, change, text):
    write_coco_tree(tmp_path, 3)
    d = json.loads((tmp_path / 'train.json').read_text())
    change(d)
    (tmp_path / 'train.json').write_text(json.dumps(d))
    for e in ('raise', 'skip'):
        with pytest.raises((LabelError, DataError), match=text):
            _coco(tmp_path, e)


def test_missing_folders(tmp_path):
    with pytest.raises(DataError, match='no.json.*folder of images'):
        CocoPoses(tmp_path / 'no.json', tmp_path / 'nowhere')
    with pytest.raises(DataError, match='no.h5'):
        DlcPoses(tmp_path / 'no.h5', tmp_path)
    (tmp_path / 'e.csv').write_text('')
    (tmp_path / 'e.json').write_text('')
    (tmp_path / 'e.h5').write_bytes(b'')
    for f in ('e.csv', 'e.h5', 'e.json'):
        with pytest.raises(LabelError, match=f):
            DlcPoses(tmp_path / f, tmp_path)
    with pytest.raises(LabelError, match='e.json'):
        CocoPoses(tmp_path / 'e.json', tmp_path)


@quiet
@pytest.mark.parametrize('file', ['CollectedData_lab.csv', 'CollectedData_lab.h5'])
def test_dlc_bad_rows(tmp_path, file):
    t = write_dlc_tree(tmp_path)
    kp = t['keypoints'].copy()
    kp[0, 0, 0] = np.nan
    kp[2, 1] = 1e7
    kp[3] = 5e4
    kp[5] = np.nan
    df = table(kp, three(t['names']))
    df.to_csv(tmp_path / file) if file.endswith('csv') else df.to_hdf(
        tmp_path / file, key='df_with_missing', mode='w'
    )
    make = lambda e: DlcPoses(tmp_path / file, skeleton='mouse', size=32, on_error=e)
    with pytest.raises(LabelError, match='img000.png.*snout|img002.png.*leftear'):
        make('raise')
    (tmp_path / 'labeled-data' / 'clip' / 'img004.png').unlink()
    d = (tmp_path / 'labeled-data' / 'clip' / 'img001.jpg').read_bytes()
    ds = make('skip')
    assert (
        len(ds) == 1
        and ds.report['label row'] == 2
        and ds.report['absurd keypoint'] == 1
        and ds.report['missing image'] == 1
    )
    (tmp_path / 'labeled-data' / 'clip' / 'img001.jpg').write_bytes(d[: len(d) // 2])
    with pytest.raises(MediaError, match='img001.jpg'):
        ds.batch([0])


def test_text_in_a_cell(tmp_path):
    write_dlc_tree(tmp_path, h5=False)
    p = tmp_path / 'CollectedData_lab.csv'
    rows = p.read_text().split('\n')
    r = rows[4].split(',')
    r[5] = 'oops'
    rows[4] = ','.join(r)
    p.write_text('\n'.join(rows))
    with pytest.raises(LabelError, match="img001.jpg.*leftear.*'oops'"):
        DlcPoses(p)
    with pytest.warns(UserWarning, match='oops'):
        assert len(DlcPoses(p, on_error='skip')) == 5


# ---------------------------------------------------------------- files damaged at random


@quiet
def test_fuzz_coco(tmp_path):
    write_coco_tree(tmp_path, 4, state=True)
    fuzz(lambda r: read_all(lambda e: _coco(r, e)), tmp_path, N, seed=1)
    fuzz(
        lambda r: read_all(
            lambda e: CocoPoses(r / 'train.json', r / 'images', size=32, crop='joints', on_error=e)
        ),
        tmp_path,
        N,
        seed=2,
        keep=lambda p: p.suffix == '.json',
    )


@quiet
def test_fuzz_dlc_csv(tmp_path):
    write_dlc_tree(tmp_path, 4, h5=False)
    fuzz(
        lambda r: read_all(
            lambda e: DlcPoses(r / 'CollectedData_lab.csv', r, 'mouse', size=32, on_error=e)
        ),
        tmp_path,
        N,
        seed=3,
    )


@quiet
def test_fuzz_lightning(tmp_path):
    write_lightning_tree(tmp_path, 4)
    (tmp_path / 'CollectedData.csv').unlink()
    fuzz(
        lambda r: read_all(
            lambda e: DlcPoses(r / 'predictions.csv', r, 'mouse', size=32, on_error=e)
        ),
        tmp_path,
        N,
        seed=4,
    )


def _poke(p, r):
    "Change one entry of an HDF5 file"
    with h5py.File(p, 'r+') as f:
        places = []
        f.visititems(lambda n, o: places.append(n))
        places = [n for n in places if '_i_table' not in n]
        o = f[places[r.integers(len(places))]]
        how = r.integers(5)
        if how == 0 and len(o.attrs):
            k = list(o.attrs)[r.integers(len(o.attrs))]
            o.attrs[k] = [
                np.bytes_('x'),
                3,
                -1,
                1e9,
                np.arange(4),
                np.bytes_(''),
                h5py.Empty('S1'),
            ][r.integers(7)]
        elif how == 1 and len(o.attrs):
            del o.attrs[list(o.attrs)[r.integers(len(o.attrs))]]
        elif isinstance(o, h5py.Dataset) and o.dtype.kind in 'iuf' and how == 2:
            x = o[()]
            x.reshape(-1)[r.integers(x.size)] = (
                [-5, 100, 7, 0][r.integers(4)]
                if o.dtype.kind in 'iu'
                else [np.nan, np.inf, -1e30, 1e9][r.integers(4)]
            )
            o[...] = x
        elif isinstance(o, h5py.Dataset) and how == 3 and o.dtype.names is None:
            n, a, x = o.name, dict(o.attrs), o[()]
            del f[n]
            d = f.create_dataset(
                n, data=[x[:1], x[None], x.astype('S8'), x[:0]][r.integers(4)] if x.ndim else x
            )
            [d.attrs.__setitem__(k, v) for k, v in a.items()]
        else:
            del f[o.name]


@quiet
def test_fuzz_h5(tmp_path):
    for k, t in enumerate(('labels', 'predictions')):
        root = tmp_path / t
        write_dlc_tree(root, 4, csv=False)
        p = root / 'CollectedData_lab.h5'
        if k:
            names = sorted(f.name for f in (root / 'labeled-data' / 'clip').iterdir())
            table(
                np.full((4, 4, 2), 40.0) + np.arange(8).reshape(4, 2), plain(names), np.ones((4, 4))
            ).to_hdf(p, key='df_with_missing', mode='w', format='table')
        build = lambda r: read_all(
            lambda e: DlcPoses(r / 'CollectedData_lab.h5', r, 'mouse', size=32, on_error=e)
        )
        build(root)
        fuzz(build, root, N // 2, seed=5 + k, keep=lambda p: p.suffix == '.h5')
        raw, r = p.read_bytes(), np.random.default_rng(k)
        for i in range(N // 2):
            _poke(p, r)
            try:
                build(root)
            except GeomReconError:
                pass
            p.write_bytes(raw)


def _frames(r, e, **kw):
    fs = VideoFrames(r, 24, progress=False, on_error=e, **kw)
    x = fs.images(slice(None))
    assert (
        x.shape == (len(fs), 3, 24, 24)
        and len(fs) == len(fs.video_id) == len(fs.frame) == len(fs.boxes) > 0
    )
    return x


@quiet
def test_fuzz_image_folder(tmp_path):
    write_images(tmp_path / 's', 5, hw=(40, 50))

    def build(r):
        for e in ('images', 'raise'):
            for kw in (dict(crop='whole'), dict(crop='whole', store='none'), dict(crop='motion')):
                try:
                    _frames(r / 's', e, **kw)
                except GeomReconError:
                    pass

    fuzz(build, tmp_path, N, seed=6)


@quiet
def test_fuzz_video(tmp_path):
    write_clips(tmp_path, 12, ['a.mp4', 'b.mp4'])

    def build(r):
        a = _frames(r, 'skip', crop='whole')
        assert torch.equal(a, _frames(r, 'skip', crop='whole', store='none'))
        _frames(r, 'images', crop='motion')

    fuzz(build, tmp_path, N, seed=7)


@quiet
def test_fuzz_boxes(tmp_path):
    write_clips(tmp_path / 'v', 4, ['a.mp4'])
    rows = '\n'.join(f'{i},{5 + i},6,30.5,30' for i in range(4))
    (tmp_path / 'boxes.csv').write_text('frame,x,y,w,h\n' + rows)
    fuzz(
        lambda r: _frames(r / 'v' / 'a.mp4', 'images', crop=str(r / 'boxes.csv')),
        tmp_path,
        N,
        seed=8,
        keep=lambda p: p.suffix == '.csv',
    )
