"""Files of own data damaged at random: a reader raises a typed error or gives sound samples."""

from functools import partial
import h5py
import numpy as np
import pytest
import torch
from fixtures_own import (
    plain,
    table,
    write_clips,
    write_coco_tree,
    write_dlc_tree,
    write_images,
    write_lightning_tree,
)
from fuzz import fuzz, read_all
from geomrecon.core.errors import GeomReconError
from geomrecon.data.frames import VideoFrames
from geomrecon.readers.labelled_images import CocoPoses, DlcPoses

quiet = pytest.mark.filterwarnings('ignore')
N_BLOWS = 220  # per test


# Labelled sources


def open_coco(root, on_error, **kwargs):
    images = root / 'images'
    return CocoPoses(root / 'train.json', images, size=32, on_error=on_error, **kwargs)


def open_dlc(root, on_error, name):
    return DlcPoses(root / name, root, 'mouse', size=32, on_error=on_error)


def read_coco_tree(root, **kwargs):
    read_all(lambda on_error: open_coco(root, on_error, **kwargs))


def read_dlc_tree(root, name):
    read_all(lambda on_error: open_dlc(root, on_error, name))


@quiet
def test_fuzz_coco(tmp_path):
    write_coco_tree(tmp_path, 4, state=True)
    fuzz(partial(read_coco_tree, skeleton='mouse'), tmp_path, N_BLOWS, seed=1)


@quiet
def test_fuzz_coco_json_alone(tmp_path):
    write_coco_tree(tmp_path, 4, state=True)
    build = partial(read_coco_tree, crop='joints')
    fuzz(build, tmp_path, N_BLOWS, seed=2, keep=lambda path: path.suffix == '.json')


@quiet
def test_fuzz_dlc_csv(tmp_path):
    write_dlc_tree(tmp_path, 4, h5=False)
    build = partial(read_dlc_tree, name='CollectedData_lab.csv')
    fuzz(build, tmp_path, N_BLOWS, seed=3)


@quiet
def test_fuzz_lightning(tmp_path):
    write_lightning_tree(tmp_path, 4)
    (tmp_path / 'CollectedData.csv').unlink()
    build = partial(read_dlc_tree, name='predictions.csv')
    fuzz(build, tmp_path, N_BLOWS, seed=4)


# H5


ODD_ATTRIBUTES = [
    np.bytes_('x'),
    3,
    -1,
    1e9,
    np.arange(4),
    np.bytes_(''),
    h5py.Empty('S1'),
]


def change_number(dataset, rng):
    "One wrong number in an array"
    values = dataset[()]
    is_whole = dataset.dtype.kind in 'iu'
    wrong = [-5, 100, 7, 0] if is_whole else [np.nan, np.inf, -1e30, 1e9]
    value = wrong[rng.integers(4)]
    values.reshape(-1)[rng.integers(values.size)] = value
    dataset[...] = values


def change_shape(file, dataset, rng):
    "An array of another shape or type under the same name"
    name = dataset.name
    attributes = dict(dataset.attrs)
    values = dataset[()]
    if values.ndim:
        variants = [values[:1], values[None], values.astype('S8'), values[:0]]
        values = variants[rng.integers(4)]
    del file[name]
    replaced = file.create_dataset(name, data=values)
    for attribute, value in attributes.items():
        replaced.attrs[attribute] = value


def poke_h5(path, rng):
    "Change one entry of an HDF5 file"
    with h5py.File(path, 'r+') as file:
        names = []
        file.visititems(lambda name, _: names.append(name))
        names = [name for name in names if '_i_table' not in name]
        member = file[names[rng.integers(len(names))]]
        how = rng.integers(5)
        attributes = list(member.attrs)
        is_array = isinstance(member, h5py.Dataset)
        if how == 0 and attributes:
            attribute = attributes[rng.integers(len(attributes))]
            member.attrs[attribute] = ODD_ATTRIBUTES[rng.integers(7)]
        elif how == 1 and attributes:
            del member.attrs[attributes[rng.integers(len(attributes))]]
        elif how == 2 and is_array and member.dtype.kind in 'iuf':
            change_number(member, rng)
        elif how == 3 and is_array and member.dtype.names is None:
            change_shape(file, member, rng)
        else:
            del file[member.name]


def write_h5_predictions(root):
    "Predictions in the table layout in place of the labels"
    images = root / 'labeled-data' / 'clip'
    names = sorted(path.name for path in images.iterdir())
    keypoints = np.full((4, 4, 2), 40.0) + np.arange(8).reshape(4, 2)
    frame = table(keypoints, plain(names), np.ones((4, 4)))
    path = root / 'CollectedData_lab.h5'
    frame.to_hdf(path, key='df_with_missing', mode='w', format='table')


@quiet
@pytest.mark.parametrize('k,kind', [(0, 'labels'), (1, 'predictions')])
def test_fuzz_h5(tmp_path, k, kind):
    write_dlc_tree(tmp_path, 4, csv=False)
    if kind == 'predictions':
        write_h5_predictions(tmp_path)
    build = partial(read_dlc_tree, name='CollectedData_lab.h5')
    build(tmp_path)

    # bytes
    fuzz(build, tmp_path, N_BLOWS // 2, seed=5 + k, keep=lambda path: path.suffix == '.h5')

    # entries
    path = tmp_path / 'CollectedData_lab.h5'
    whole = path.read_bytes()
    rng = np.random.default_rng(k)
    for _ in range(N_BLOWS // 2):
        poke_h5(path, rng)
        try:
            build(tmp_path)
        except GeomReconError:
            pass
        path.write_bytes(whole)


# Frame sources


def read_frames(path, on_error, **kwargs):
    "Crops of everything that is readable; as many as the source says"
    frames = VideoFrames(path, 24, progress=False, on_error=on_error, **kwargs)
    crops = frames.images(slice(None))
    assert len(frames) > 0
    assert crops.shape == (len(frames), 3, 24, 24)
    assert len(frames.video_id) == len(frames)
    assert len(frames.frame) == len(frames)
    assert len(frames.boxes) == len(frames)
    return crops


def read_stills(root):
    "In every mode; a typed error is fine"
    for on_error in ('images', 'raise'):
        for options in (dict(crop='whole'), dict(crop='whole', store='none'), dict(crop='motion')):
            try:
                read_frames(root / 's', on_error, **options)
            except GeomReconError:
                pass


@quiet
def test_fuzz_image_folder(tmp_path):
    write_images(tmp_path / 's', 5, hw=(40, 50))
    fuzz(read_stills, tmp_path, N_BLOWS, seed=6)


def read_videos(root):
    in_memory = read_frames(root, 'skip', crop='whole')
    decoded = read_frames(root, 'skip', crop='whole', store='none')
    assert torch.equal(in_memory, decoded)
    read_frames(root, 'images', crop='motion')


@quiet
def test_fuzz_video(tmp_path):
    write_clips(tmp_path, 12, ['a.mp4', 'b.mp4'])
    fuzz(read_videos, tmp_path, N_BLOWS, seed=7)


def read_with_boxes(root):
    read_frames(root / 'v' / 'a.mp4', 'images', crop=str(root / 'boxes.csv'))


@quiet
def test_fuzz_boxes(tmp_path):
    write_clips(tmp_path / 'v', 4, ['a.mp4'])
    rows = [f'{i},{5 + i},6,30.5,30' for i in range(4)]
    (tmp_path / 'boxes.csv').write_text('\n'.join(['frame,x,y,w,h', *rows]))
    fuzz(read_with_boxes, tmp_path, N_BLOWS, seed=8, keep=lambda path: path.suffix == '.csv')
