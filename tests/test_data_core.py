"The common core of the readers: workers, memory, pickles that want to run code, images that cannot be read."

import os
import pickle
import shutil
import warnings
import cv2
import numpy as np
import pytest
import torch
from fixtures_h36m import write_3dpw
from fixtures_hands import write_mvhand, write_rhd
from geomrecon.core.errors import GeomReconError, LabelError, MediaError
from geomrecon.core.pickles import load_npz, safe_loads
from geomrecon.core.skeleton import HAND21
from geomrecon.data.pairs import pose_dls
from geomrecon.readers.mvhand import MVHand
from geomrecon.readers.pose_files import PoseFiles
from geomrecon.readers.rhd import RHD
from geomrecon.readers.threedpw import ThreeDPW


@pytest.fixture(scope='module')
def rhd(tmp_path_factory):
    folder = tmp_path_factory.mktemp('core') / 'RHD'
    write_rhd(folder)
    return folder


# Worker processes


def batches(poses, n_workers):
    torch.manual_seed(0)
    dls = pose_dls(
        poses,
        poses,
        poses.frames(),
        steps=4,
        bs=3,
        bs_target=2,
        stride=(1, 2),
        seed=1,
        num_workers=n_workers,
        device='cpu',
    )
    return list(dls.train)


def use_threads_of_opencv():
    "Make a pool of threads that a fork would break"
    cv2.setNumThreads(2)
    large = cv2.resize(np.zeros((900, 900, 3), np.uint8), (2000, 2000))
    cv2.GaussianBlur(large, (0, 0), 3)


def test_workers_give_the_same_batches(tmp_path):
    write_mvhand(tmp_path / 'MVHand')
    poses = MVHand(tmp_path / 'MVHand', split='all', size=64)
    use_threads_of_opencv()
    here = batches(poses, n_workers=0)
    in_workers = batches(poses, n_workers=2)
    cv2.setNumThreads(0)
    assert len(here) == 4
    assert len(in_workers) == 4
    # only the clean frames: augmentation draws its numbers in the main process
    clean_base, clean_driving = 3, 4
    for one, other in zip(here, in_workers):
        assert torch.equal(one[clean_base], other[clean_base])
        assert torch.equal(one[clean_driving], other[clean_driving])


def test_a_reader_can_be_pickled(rhd):
    poses = RHD(rhd, size=64)
    restored = pickle.loads(pickle.dumps(poses))
    before = poses.batch([0, 1])
    after = restored.batch([0, 1])
    for name in before:
        assert torch.equal(torch.nan_to_num(before[name]), torch.nan_to_num(after[name])), name


class CountsReadable(torch.utils.data.Dataset):
    "Twice the number of samples that can be read"

    def __init__(self, poses):
        self.poses = poses

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return len(self.poses.batch(np.arange(len(self.poses)))['index'])


def test_unreadable_images_are_counted_over_processes(rhd, tmp_path):
    root = shutil.copytree(rhd, tmp_path / 'RHD')
    poses = RHD(root, size=64, on_error='skip')
    image = poses.file(0)
    image.write_bytes(image.read_bytes()[:200])
    file_ids = poses.pictures.file_id
    n_unreadable = int((file_ids == file_ids[0]).sum())
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        loader = torch.utils.data.DataLoader(CountsReadable(poses), batch_size=None, num_workers=2)
        readable = [int(count) for count in loader]
    assert readable == [len(poses) - n_unreadable] * 2
    assert poses.unread == 2 * n_unreadable
    with pytest.raises(MediaError, match=r'sample 0'):
        RHD(root, size=64).batch([0])


# Memory


class ManyPoses(PoseFiles):
    name = 'big'
    skeleton = HAND21


def many_poses(n):
    random = np.random.default_rng(0)
    keypoints = random.random((n, 21, 2), dtype=np.float32) * 200
    names = [f'part{i % 7}/sequence_{i // 1000:03d}/frame_{i:08d}.jpg' for i in range(n)]
    table = dict(
        file=names,
        keypoints=keypoints,
        joints3d=random.random((n, 21, 3), dtype=np.float32) + 1,
        visible=np.ones((n, 21), bool),
        intrinsics=np.diag([500.0, 500, 1]),
        frame_size=(240, 320),
        video=np.arange(n) // 1000,
        frame=np.arange(n),
        view=np.arange(n) % 4,
    )
    poses = ManyPoses()
    poses.setup('.', table, images=False)
    return poses


def bytes_held(poses):
    pictures = poses.pictures
    arrays = [
        poses.px,
        poses.visible,
        poses.joints3d,
        poses.K,
        poses.frame,
        poses.view,
        poses.video_id,
        poses.video_names,
        pictures.file_id,
        pictures.box,
        pictures.names.end,
    ]
    n_bytes = sum(array.nbytes for array in arrays if array is not None)
    n_bytes += len(pictures.names.block)
    is_one_size = pictures.frame_size.strides[0] == 0
    return n_bytes if is_one_size else n_bytes + pictures.frame_size.nbytes


def test_a_sample_costs_little():
    "1.5 million of them stay under 1 GB; nothing of an image is kept"
    n = 20_000
    per_sample = bytes_held(many_poses(n)) / n
    assert per_sample < 1e9 / 1.5e6, per_sample


# Pickles that want to run code


class Calls:
    "Its pickle calls `function` when it is loaded"

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


RUN_BY_PLAIN_LOADER = ('reduce', 'builtins', 'objects in an array', 'python 2', 'instance')


def malicious_pickles(mark):
    "Pickles of the usual kinds that would leave the file `mark` behind"
    command = f'touch {mark}'
    quoted = b"(S'" + command.encode() + b"'\n"
    in_array = np.array([Calls(os.system, command), 1], object)
    return {
        'reduce': pickle.dumps({0: Calls(os.system, command)}, 2),
        'builtins': pickle.dumps({0: Calls(eval, f'open({str(mark)!r}, "w")')}, 2),
        'objects in an array': pickle.dumps({0: in_array}, 2),
        'python 2': b'cos\nsystem\n' + quoted + b'tR.',
        'instance': quoted + b'ios\nsystem\n.',
        'numpy.load': pickle.dumps({0: Calls(np.load, str(mark), None, True)}, 2),
        'import': pickle.dumps({0: Calls(__import__, 'os')}, 4),
    }


def check_that_it_is_real(kind, raw, mark):
    "The plain loader runs it"
    if kind not in RUN_BY_PLAIN_LOADER:
        return
    pickle.loads(raw)
    assert mark.exists(), f'{kind}: no exploit'
    mark.unlink()


def check_that_reader_refuses(reader, root, on_error):
    with pytest.raises(GeomReconError), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        reader(root, on_error=on_error)


KINDS = list(malicious_pickles('mark'))


@pytest.mark.parametrize('kind', KINDS)
def test_malicious_pickles_are_refused_by_the_readers(tmp_path, kind):
    mark = tmp_path / 'ran'
    raw = malicious_pickles(mark)[kind]
    check_that_it_is_real(kind, raw, mark)
    for name, write, reader, pattern in (
        ('RHD', write_rhd, RHD, 'anno_training.pickle'),
        ('MVHand', write_mvhand, MVHand, 'calib.pkl'),
        ('PW', write_3dpw, ThreeDPW, 'train/*.pkl'),
    ):
        root = tmp_path / name
        write(root)
        label_files = list(root.rglob(pattern))
        assert label_files, name
        for path in label_files:
            path.write_bytes(raw)
        check_that_reader_refuses(reader, root, 'raise')
        check_that_reader_refuses(reader, root, 'skip')
    with pytest.raises(LabelError, match='refused'):
        safe_loads(raw)
    objects = np.array([Calls(os.system, f'touch {mark}')], object)
    np.savez(tmp_path / 'a.npz', a=objects)
    with pytest.raises(LabelError, match='refused'):
        load_npz(tmp_path / 'a.npz')
    assert not mark.exists()
