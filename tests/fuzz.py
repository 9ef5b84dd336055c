"""Damage the files of a data set at random: a reader raises a typed error or gives sound samples.

`fuzz(build, root)` changes one file at a time: bytes overwritten, cut out or added, files emptied or
removed. Random bytes seldom get past a parser. So values are also changed *inside* JSON, pickle,
NumPy, MATLAB and CSV files: NaN, infinity, huge, text, null, missing keys, other lengths."""

import io
import json
import math
import pickle
import shutil
import tempfile
import warnings
from collections import Counter
from pathlib import Path
import numpy as np
import torch
from geomrecon.core.errors import GeomReconError

ODD = [
    float('nan'),
    float('inf'),
    -1e30,
    1e12,
    -1,
    0,
    '',
    'seven',
    None,
    [],
    {},
    [[]],
    True,
    2**70,
    0.5,
]


# Values inside a file


def _spots(container):
    "Every place in nested containers: (container, key)"
    if isinstance(container, dict):
        items = container.items()
    elif isinstance(container, list):
        items = enumerate(container)
    else:
        items = ()
    for key, value in items:
        yield container, key
        if isinstance(value, (dict, list)):
            yield from _spots(value)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _poke(root, rng):
    "One change in nested containers of numbers, text and arrays, in place; the new root"
    spots = list(_spots(root))
    if not spots:
        return ODD[rng.integers(len(ODD))]
    container, key = spots[rng.integers(len(spots))]
    value = container[key]
    how = rng.integers(5)
    if isinstance(value, np.ndarray) and how < 4:
        container[key] = _poke_array(value, rng)
    elif how == 0:
        del container[key]
    elif how == 1 and isinstance(container, list):
        container.insert(key, value)
    elif how == 2 and _is_number(value):
        container[key] = type(value)(value * 1000 + 7) if math.isfinite(value) else 0
    else:
        container[key] = ODD[rng.integers(len(ODD))]
    return root


def _poke_array(array, rng):
    "An array with one wrong value, another shape or another type"
    array = np.array(array)
    how = rng.integers(7)
    if how == 0 and array.size and array.dtype.kind == 'f':
        wrong = [np.nan, np.inf, -1e30, 1e9][rng.integers(4)]
        array.reshape(-1)[rng.integers(array.size)] = wrong
    elif how == 1 and array.ndim:
        array = array[: rng.integers(len(array) + 1)]
    elif how == 2:
        array = array.reshape(-1)
    elif how == 3:
        array = array.astype(object)
    elif how == 4:
        array = array if array.dtype.kind == 'O' else array.astype('U8')
    elif how == 5:
        array = array[None]
    elif array.ndim > 1:
        array = np.swapaxes(array, 0, -1)
    return array


def _inside_json(raw, rng):
    return json.dumps(_poke(json.loads(raw), rng)).encode()


def _inside_pickle(raw, rng):
    poked = _poke(pickle.loads(raw, encoding='latin1'), rng)
    return pickle.dumps(poked, int(rng.integers(0, 5)))


def _inside_npy(raw, rng):
    buffer = io.BytesIO()
    np.save(buffer, _poke_array(np.load(io.BytesIO(raw), allow_pickle=True), rng))
    return buffer.getvalue()


def _inside_npz(raw, rng):
    buffer = io.BytesIO()
    arrays = dict(np.load(io.BytesIO(raw), allow_pickle=True).items())
    np.savez(buffer, **_poke(arrays, rng))
    return buffer.getvalue()


def _inside_mat(raw, rng):
    import scipy.io

    buffer = io.BytesIO()
    content = scipy.io.loadmat(io.BytesIO(raw))
    poked = _poke({key: value for key, value in content.items() if key[0] != '_'}, rng)
    scipy.io.savemat(buffer, {key: value for key, value in poked.items() if value is not None})
    return buffer.getvalue()


def _inside_csv(raw, rng):
    rows = [line.split(',') for line in raw.decode().split('\n')]
    row = rows[rng.integers(len(rows))]
    wrong = ['', 'nan', 'inf', '1e30', 'x', '"', '-1'][rng.integers(7)]
    row[rng.integers(len(row))] = wrong
    if rng.random() < 0.2:
        row.pop()
    if rng.random() < 0.1:
        rows.append(list(row))
    return '\n'.join(','.join(cells) for cells in rows).encode()


_INSIDE = {
    '.json': _inside_json,
    '.pickle': _inside_pickle,
    '.pkl': _inside_pickle,
    '.npy': _inside_npy,
    '.npz': _inside_npz,
    '.mat': _inside_mat,
    '.csv': _inside_csv,
}


def _inside(path, rng):
    "The file's bytes with one value changed, or None if it cannot be taken apart"
    change = _INSIDE.get(path.suffix.lower())
    if change is None:
        return None
    try:
        return change(path.read_bytes(), rng)
    except Exception:
        return None


# Bytes of a file


def _damaged_bytes(raw, how, rng):
    n_bytes = len(raw)
    if how == 'bytes':
        changed = bytearray(raw)
        for _ in range(int(rng.integers(1, 9))):
            value = rng.integers(256)
            changed[rng.integers(n_bytes)] = value
        return bytes(changed)
    if how == 'cut':
        return raw[: int(rng.integers(n_bytes))]
    if how == 'hole':
        start, end = sorted(rng.integers(0, n_bytes, 2))
        return raw[:start] + raw[end:]
    if how == 'junk':
        return rng.integers(0, 256, 300, dtype=np.uint8).tobytes()
    if how == 'empty':
        return b''
    return raw + raw[: int(rng.integers(1, n_bytes + 1))]


_WAYS = ['inside'] * 6 + ['bytes', 'bytes', 'cut', 'hole', 'junk', 'empty', 'gone', 'extra']


def damage(path, rng):
    "Change one file; a word that says how"
    raw = path.read_bytes()
    how = rng.choice(_WAYS)
    if how == 'inside':
        changed = _inside(path, rng)
        if changed is not None:
            path.write_bytes(changed)
            return how
        how = 'bytes'
    if how == 'gone' or not raw:
        path.unlink()
        return 'gone'
    path.write_bytes(_damaged_bytes(raw, how, rng))
    return how


# Readers


def sound(batch):
    "A batch has the promised shapes, types and finite labels"
    n = len(batch['index'])
    n_joints = batch['keypoints'].shape[1]
    side = batch['image'].shape[-1]
    assert batch['image'].shape == (n, 3, side, side)
    assert batch['image'].dtype == torch.uint8
    assert batch['keypoints'].shape == (n, n_joints, 2)
    assert batch['visible'].shape == (n, n_joints)
    assert batch['joints3d'].shape == (n, n_joints, 3)
    assert batch['intrinsics'].shape == (n, 3, 3)
    assert batch['keypoints'].isfinite().all(), 'keypoints'
    visible = batch['joints3d'][batch['visible']]
    known = visible[~visible.isnan().any(-1)]
    assert (known.abs() < 2e5).all(), 'joints3d'


def read_all(make):
    "Build a reader in both modes (`make(on_error)`), read everything and check it"
    for on_error in ('raise', 'skip'):
        try:
            source = make(on_error)
            everything = np.arange(len(source))
            sound(source.batch(everything))
            assert len(source.frames().images(everything)) == len(source)
        except GeomReconError as error:
            assert str(error)
            assert len(str(error)) < 3000


def _pick(labels, files, rng):
    "Most blows fall on label files, however many images there are"
    pool = labels if labels and rng.random() < 0.6 else files
    return pool[int(rng.integers(len(pool)))]


def _build_quietly(build, root):
    "Build; a typed error is fine"
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            build(root)
        except GeomReconError:
            pass


def fuzz(
    build,  # Function of the folder of a data set
    root,  # Folder with a sound data set; it is copied
    n=200,  # How many blows
    seed=0,
    keep=lambda path: True,  # Which files may be damaged
):
    "`n` times: damage a file of a copy, build, mend it; a Counter of how the files were damaged"
    rng = np.random.default_rng(seed)
    told = Counter()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / 'copy'
        shutil.copytree(root, copy)
        files = sorted(path for path in copy.rglob('*') if path.is_file() and keep(path))
        assert files
        pictures = ('.png', '.jpg', '.jpeg', '.mp4')
        labels = [path for path in files if path.suffix.lower() not in pictures]
        for blow in range(n):
            path = _pick(labels, files, rng)
            raw = path.read_bytes()
            how = damage(path, rng)
            told[how] += 1
            try:
                _build_quietly(build, copy)
            except Exception as error:
                keepsake = Path(tempfile.gettempdir()) / f'fuzz-{path.name}'
                if path.exists():
                    shutil.copy(path, keepsake)
                raise AssertionError(
                    f'blow {blow} (seed {seed}): {path.relative_to(copy)} {how}: '
                    f'{type(error).__name__}: {error}; kept at {keepsake}'
                ) from error
            finally:
                path.write_bytes(raw)
    return told
