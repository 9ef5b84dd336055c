"""Damage the files of a data set at random: a reader raises a typed error or gives sound samples.

`fuzz(build, root)` changes one file at a time: bytes overwritten, cut out or added, files emptied or
removed. Random bytes seldom get past a parser. So values are also changed *inside* JSON, pickle,
NumPy, MATLAB, CSV, YAML and torch files: NaN, infinity, huge, text, null, missing keys, other lengths.

`fuzz_file(path, read)` does the same to one file, whose archive is rearranged as well; what is read
after all must be what the caller says it may be."""

import io
import json
import math
import pickle
import shutil
import tempfile
import warnings
import zipfile
from collections import Counter
from pathlib import Path
import numpy as np
import torch
import yaml
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
    elif isinstance(value, torch.Tensor) and how < 4:
        container[key] = _poke_tensor(value, rng)
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


def _poke_tensor(tensor, rng):
    "A tensor with one wrong value, another shape, another type or another layout"
    poked = tensor.clone()
    how = rng.integers(8)
    if how < 3 and poked.numel() and poked.is_floating_point():
        wrong = [math.nan, math.inf, -1e30, 0.5][rng.integers(4)]
        poked.reshape(-1)[rng.integers(poked.numel())] = wrong
    elif how == 3 and poked.ndim:
        poked = poked[: rng.integers(len(poked) + 1)]
    elif how == 4:
        poked = poked[None].expand(10**9, *poked.shape)
    elif how == 5:
        poked = poked.double() if rng.random() < 0.5 else poked.to(torch.uint8)
    elif how == 6:
        poked = poked.flip(0) if poked.ndim else -poked
    else:
        poked = poked.reshape(-1)
    return poked


def _swap(root, rng):
    "Exchange two values of one container, in place; the root"
    containers = [root] if len(root) > 1 else []
    for container, key in _spots(root):
        inner = container[key]
        if isinstance(inner, (dict, list)) and len(inner) > 1:
            containers.append(inner)
    container = containers[rng.integers(len(containers))]
    keys = list(container) if isinstance(container, dict) else range(len(container))
    one, other = rng.choice(len(keys), 2, replace=False)
    one, other = keys[one], keys[other]
    container[one], container[other] = container[other], container[one]
    return root


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


def _inside_torch(raw, rng):
    content = torch.load(io.BytesIO(raw), weights_only=True)
    change = _swap if rng.random() < 0.2 else _poke
    buffer = io.BytesIO()
    torch.save(change(content, rng), buffer)
    return buffer.getvalue()


def _inside_yaml(raw, rng):
    return yaml.safe_dump(_poke(yaml.safe_load(raw), rng)).encode()


_INSIDE = {
    '.json': _inside_json,
    '.pt': _inside_torch,
    '.pth': _inside_torch,
    '.ckpt': _inside_torch,
    '.yaml': _inside_yaml,
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


# Members of an archive


def _rearranged(members, rng):
    "Names and contents of an archive with one of them lost, doubled, renamed, emptied or exchanged"
    names = list(members)
    one, other = rng.integers(len(names), size=2)
    one, other = names[one], names[other]
    how = rng.integers(5)
    if how == 0:
        del members[one]
    elif how == 1:
        members[f'{one}x'] = members.pop(one)
    elif how == 2:
        members[one], members[other] = members[other], members[one]
    elif how == 3:
        members[one] = members[one][: rng.integers(len(members[one]) + 1)]
    else:
        members[one] = bytes(int(rng.integers(10**6)))
    return members


def _rearranged_archive(raw, rng):
    "A whole zip archive, with sound checksums, whose members are others"
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    packing = zipfile.ZIP_DEFLATED if rng.random() < 0.2 else zipfile.ZIP_STORED
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', packing) as archive:
        for name, content in _rearranged(members, rng).items():
            archive.writestr(name, content)
    return buffer.getvalue()


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


# One file


_FILE_WAYS = ['inside'] * 6 + ['zip', 'zip', 'bytes', 'bytes', 'bytes', 'cut', 'hole', 'junk']
_FILE_WAYS += ['empty', 'extra', 'gone']


def _damaged_file(path, raw, how, rng):
    "Write the damaged file; how it was damaged in the end"
    changed = None
    if how == 'inside':
        changed = _inside(path, rng)
    elif how == 'zip' and raw[:2] == b'PK':
        changed = _rearranged_archive(raw, rng)
    elif how == 'gone':
        path.unlink()
        return how
    elif how not in ('inside', 'zip'):
        changed = _damaged_bytes(raw, how, rng)
    if changed is None:
        how = 'bytes'
        changed = _damaged_bytes(raw, how, rng)
    path.write_bytes(changed)
    return how


def fuzz_file(
    path,  # Sound file; damaged many times and mended again
    read,  # Function of the path, that returns what it reads and checks what it must be
    n,  # How many blows
    seed=0,
    accepted=None,  # Called with what is read from a damaged file, to check it
):
    "`n` times: damage a file, read it, mend it; how often it was damaged how, and what came of it"
    path = Path(path)
    rng = np.random.default_rng(seed)
    whole = path.read_bytes()
    told = Counter()
    for blow in range(n):
        how = _damaged_file(path, whole, rng.choice(_FILE_WAYS), rng)
        damaged = path.read_bytes() if path.exists() else b''
        told[how] += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                content = read(path)
            if accepted is not None:
                accepted(content)
            told['read'] += 1
        except GeomReconError as error:
            assert str(error)
            assert len(str(error)) < 3000, len(str(error))
        except Exception as error:
            keepsake = Path(tempfile.gettempdir()) / f'fuzz-{path.name}'
            keepsake.write_bytes(damaged)
            raise AssertionError(
                f'blow {blow} (seed {seed}): {path.name} {how}: '
                f'{type(error).__name__}: {str(error)[:2000]}; kept at {keepsake}'
            ) from error
        finally:
            path.write_bytes(whole)
    return told
