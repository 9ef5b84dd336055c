"The common core of the readers: workers, memory, pickles that want to run code, and images that cannot be read."

import os, pickle, warnings
from pathlib import Path
import cv2, numpy as np, pytest, torch
from fixtures_hands import write_h3d, write_mvhand, write_rhd
from fixtures_h36m import write_3dpw
from geomrecon.readers.threedpw import ThreeDPW
from geomrecon.core.pickles import load_npz, safe_loads
from geomrecon.readers.h3d import H3D
from geomrecon.readers.mvhand import MVHand
from geomrecon.readers.rhd import RHD
from geomrecon.data.pairs import pose_dls
from geomrecon.readers.pose_files import PoseFiles
from geomrecon.core.errors import GeomReconError, LabelError, MediaError
from geomrecon.core.skeleton import HAND21


@pytest.fixture(scope='module')
def rhd(tmp_path_factory):
    d = tmp_path_factory.mktemp('core') / 'RHD'
    write_rhd(d)
    return d


def batches(ds, workers):
    torch.manual_seed(0)
    dls = pose_dls(
        ds,
        ds,
        ds.frames(),
        steps=4,
        bs=3,
        bs_target=2,
        stride=(1, 2),
        seed=1,
        num_workers=workers,
        device='cpu',
    )
    return list(dls.train)


def test_workers_give_the_same_batches(tmp_path):
    write_mvhand(tmp_path / 'MVHand')
    ds = MVHand(tmp_path / 'MVHand', split='all', size=64)
    cv2.setNumThreads(2)
    cv2.GaussianBlur(
        cv2.resize(np.zeros((900, 900, 3), np.uint8), (2000, 2000)), (0, 0), 3
    )  # a pool of threads that a fork would break
    a, b = batches(ds, 0), batches(ds, 2)
    cv2.setNumThreads(0)
    assert len(a) == len(b) == 4
    for x, y in zip(a, b):  # the clean frames; augmentation draws its numbers in the main process
        assert torch.equal(x[3], y[3]) and torch.equal(x[4], y[4])


def test_a_reader_can_be_pickled(rhd):
    ds = RHD(rhd, size=64)
    other = pickle.loads(pickle.dumps(ds))
    assert all(
        torch.equal(torch.nan_to_num(x), torch.nan_to_num(y))
        for x, y in zip(ds.batch([0, 1]).values(), other.batch([0, 1]).values())
    )


def test_unreadable_images_are_counted_over_processes(rhd, tmp_path):
    import shutil

    root = shutil.copytree(rhd, tmp_path / 'RHD')
    ds = RHD(root, size=64, on_error='skip')
    p = ds.file(0)
    p.write_bytes(p.read_bytes()[:200])
    n = int((ds.pictures.file_id == ds.pictures.file_id[0]).sum())

    class Each(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, k):
            return len(ds.batch(np.arange(len(ds)))['index'])

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        got = list(torch.utils.data.DataLoader(Each(), batch_size=None, num_workers=2))
    assert [int(g) for g in got] == [len(ds) - n] * 2 and ds.unread == 2 * n
    with pytest.raises(MediaError, match=r'sample 0'):
        RHD(root, size=64).batch([0])


def test_a_sample_costs_little(rhd):
    "1.5 million of them stay under 1 GB; nothing of an image is kept"
    n = 20_000
    r = np.random.default_rng(0)

    class Big(PoseFiles):
        name, skeleton = 'big', HAND21

    kp = r.random((n, 21, 2), dtype=np.float32) * 200
    names = [f'part{i % 7}/sequence_{i // 1000:03d}/frame_{i:08d}.jpg' for i in range(n)]
    ds = Big()
    ds.setup(
        '.',
        dict(
            file=names,
            keypoints=kp,
            joints3d=r.random((n, 21, 3), dtype=np.float32) + 1,
            visible=np.ones((n, 21), bool),
            intrinsics=np.diag([500.0, 500, 1]),
            frame_size=(240, 320),
            video=np.arange(n) // 1000,
            frame=np.arange(n),
            view=np.arange(n) % 4,
        ),
        images=False,
    )
    p = ds.pictures
    arrays = [
        ds.px,
        ds.visible,
        ds.joints3d,
        ds.K,
        ds.frame,
        ds.view,
        ds.video_id,
        ds.video_names,
        p.file_id,
        p.box,
        p.names.end,
    ]
    held = (
        sum(a.nbytes for a in arrays if a is not None)
        + len(p.names.block)
        + (0 if p.frame_size.strides[0] == 0 else p.frame_size.nbytes)
    )
    assert held / n < 1e9 / 1.5e6, held / n


class Calls:
    def __init__(self, f, *a):
        self.r = f, a

    def __reduce__(self):
        return self.r


def payloads(mark):
    "Pickles of the usual kinds that would leave a file behind"
    cmd = f'touch {mark}'
    yield 'reduce', pickle.dumps({0: Calls(os.system, cmd)}, 2)
    yield 'builtins', pickle.dumps({0: Calls(eval, f'open({str(mark)!r}, "w")')}, 2)
    yield 'objects in an array', pickle.dumps({0: np.array([Calls(os.system, cmd), 1], object)}, 2)
    yield 'python 2', b"cos\nsystem\n(S'" + cmd.encode() + b"'\ntR."
    yield 'instance', b"(S'" + cmd.encode() + b"'\nios\nsystem\n."
    yield 'numpy.load', pickle.dumps({0: Calls(np.load, str(mark), None, True)}, 2)
    yield 'import', pickle.dumps({0: Calls(__import__, 'os')}, 4)


@pytest.mark.parametrize('kind', range(7))
def test_malicious_pickles_are_refused_by_the_readers(tmp_path, kind):
    name, raw = list(payloads(tmp_path / 'ran'))[kind]
    pickle.loads(raw) if name in (
        'reduce',
        'builtins',
        'objects in an array',
        'python 2',
        'instance',
    ) else None
    if (tmp_path / 'ran').exists():
        (tmp_path / 'ran').unlink()  # it is a real one: the plain loader runs it
    elif name not in ('numpy.load', 'import'):
        pytest.fail(f'{name}: no exploit')
    trees = dict(
        RHD=(write_rhd, RHD, '*/anno_training.pickle'),
        MVHand=(write_mvhand, MVHand, '*/calib.pkl'),
        PW=(write_3dpw, ThreeDPW, '*/train/*.pkl'),
    )
    for k, (write, reader, where) in trees.items():
        write(tmp_path / k)
        found = list((tmp_path / k).rglob(where.split('*/', 1)[1])) or list(
            (tmp_path / k).glob(where)
        )
        assert found, k
        for p in found:
            p.write_bytes(raw)
        for on_error in ('raise', 'skip'):
            with pytest.raises(GeomReconError), warnings.catch_warnings():
                warnings.simplefilter('ignore')
                reader(tmp_path / k, on_error=on_error)
    with pytest.raises(LabelError, match='refused'):
        safe_loads(raw)
    np.savez(
        tmp_path / 'a.npz', a=np.array([Calls(os.system, f'touch {tmp_path / "ran"}')], object)
    )
    with pytest.raises(LabelError, match='refused'):
        load_npz(tmp_path / 'a.npz')
    assert not (tmp_path / 'ran').exists()
