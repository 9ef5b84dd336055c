"""Damage the files of a data set at random and see that a reader either raises a typed error or gives sound samples.

`fuzz(build, root)` changes one file at a time: bytes overwritten, cut out or added, files emptied, removed or swapped, and, because random bytes
seldom get past a parser, values changed *inside* JSON, pickle, NumPy, MATLAB and CSV files (NaN, infinity, huge, text, null, missing keys, other lengths)."""

import io, json, math, pickle, shutil, tempfile, warnings
from pathlib import Path
import numpy as np, torch
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


def _spots(x):
    "Every place in nested containers: (container, key)"
    it = x.items() if isinstance(x, dict) else enumerate(x) if isinstance(x, list) else ()
    for k, v in it:
        yield x, k
        if isinstance(v, (dict, list)):
            yield from _spots(v)


def _poke(x, rng):
    "One change in nested containers of numbers, text and arrays, in place; the new root"
    spots = list(_spots(x))
    if not spots:
        return ODD[rng.integers(len(ODD))]
    c, k = spots[rng.integers(len(spots))]
    how = rng.integers(5)
    if isinstance(c[k], np.ndarray) and how < 4:
        c[k] = _poke_array(c[k], rng)
    elif how == 0:
        del c[k]
    elif how == 1 and isinstance(c, list):
        c.insert(k, c[k])
    elif how == 2 and isinstance(c[k], (int, float)) and not isinstance(c[k], bool):
        c[k] = type(c[k])(c[k] * 1000 + 7) if math.isfinite(c[k]) else 0
    else:
        c[k] = ODD[rng.integers(len(ODD))]
    return x


def _poke_array(a, rng):
    "An array with one wrong value, another shape or another type"
    a = np.array(a)
    how = rng.integers(7)
    if how == 0 and a.size and a.dtype.kind == 'f':
        a.reshape(-1)[rng.integers(a.size)] = [np.nan, np.inf, -1e30, 1e9][rng.integers(4)]
    elif how == 1 and a.ndim:
        a = a[: rng.integers(len(a) + 1)]
    elif how == 2:
        a = a.reshape(-1)
    elif how == 3:
        a = a.astype(object)
    elif how == 4:
        a = a.astype('U8') if a.dtype.kind != 'O' else a
    elif how == 5:
        a = a[None]
    elif a.ndim > 1:
        a = np.swapaxes(a, 0, -1)
    return a


def _inside(path, rng):
    "The file's bytes with one value changed, or None if it is not of a kind that can be taken apart"
    raw = path.read_bytes()
    kind = path.suffix.lower()
    buf = io.BytesIO()
    if kind == '.json':
        return json.dumps(_poke(json.loads(raw), rng)).encode()
    if kind in ('.pickle', '.pkl'):
        return pickle.dumps(
            _poke(pickle.loads(raw, encoding='latin1'), rng), int(rng.integers(0, 5))
        )
    if kind == '.npy':
        np.save(buf, _poke_array(np.load(io.BytesIO(raw), allow_pickle=True), rng))
        return buf.getvalue()
    if kind == '.npz':
        np.savez(
            buf,
            **_poke({k: v for k, v in np.load(io.BytesIO(raw), allow_pickle=True).items()}, rng),
        )
        return buf.getvalue()
    if kind == '.mat':
        import scipy.io

        d = {k: v for k, v in scipy.io.loadmat(io.BytesIO(raw)).items() if k[0] != '_'}
        scipy.io.savemat(buf, {k: v for k, v in _poke(d, rng).items() if v is not None})
        return buf.getvalue()
    if kind == '.csv':
        rows = [r.split(',') for r in raw.decode().split('\n')]
        r = rows[rng.integers(len(rows))]
        r[rng.integers(len(r))] = ['', 'nan', 'inf', '1e30', 'x', '"', '-1'][rng.integers(7)]
        if rng.random() < 0.2:
            r.pop()
        if rng.random() < 0.1:
            rows.append(list(r))
        return '\n'.join(','.join(r) for r in rows).encode()


def damage(path, rng):
    "Change one file; a word that says how"
    raw = path.read_bytes()
    n = len(raw)
    how = rng.choice(
        ['inside'] * 6 + ['bytes', 'bytes', 'cut', 'hole', 'junk', 'empty', 'gone', 'extra']
    )
    if how == 'inside':
        try:
            new = _inside(path, rng)
        except Exception:
            new = None
        if new is not None:
            path.write_bytes(new)
            return how
        how = 'bytes'
    if how == 'gone' or not n:
        path.unlink()
        return 'gone'
    if how == 'bytes':
        b = bytearray(raw)
        for _ in range(int(rng.integers(1, 9))):
            b[rng.integers(n)] = rng.integers(256)
        raw = bytes(b)
    elif how == 'cut':
        raw = raw[: int(rng.integers(n))]
    elif how == 'hole':
        i, j = sorted(rng.integers(0, n, 2))
        raw = raw[:i] + raw[j:]
    elif how == 'junk':
        raw = rng.integers(0, 256, 300, dtype=np.uint8).tobytes()
    elif how == 'empty':
        raw = b''
    elif how == 'extra':
        raw = raw + raw[: int(rng.integers(1, n + 1))]
    path.write_bytes(raw)
    return how


def sound(b):
    "A batch has the promised shapes, types and finite labels"
    n = len(b['index'])
    k = b['keypoints'].shape[1]
    s = b['image'].shape[-1]
    assert b['image'].shape == (n, 3, s, s) and b['image'].dtype == torch.uint8
    assert (
        b['keypoints'].shape == (n, k, 2)
        and b['visible'].shape == (n, k)
        and b['joints3d'].shape == (n, k, 3)
        and b['intrinsics'].shape == (n, 3, 3)
    )
    assert b['keypoints'].isfinite().all(), 'keypoints'
    x = b['joints3d'][b['visible']]
    x = x[~x.isnan().any(-1)]
    assert (x.abs() < 2e5).all(), 'joints3d'


def read_all(make):
    "Build a reader in both modes (`make(on_error)`), read everything and check it"
    for on_error in ('raise', 'skip'):
        try:
            ds = make(on_error)
            sound(ds.batch(np.arange(len(ds))))
            x = ds.frames().images(np.arange(len(ds)))
            assert len(x) == len(ds)
        except GeomReconError as e:
            assert len(str(e)) < 3000 and str(e)


def fuzz(build, root, n=200, seed=0, keep=lambda p: True):
    "`n` times: damage one file of a copy of `root`, call `build(copy)`, mend it. Returns Counter of how the files were damaged"
    from collections import Counter

    rng, told = np.random.default_rng(seed), Counter()
    with tempfile.TemporaryDirectory() as d:
        copy = Path(d) / 'copy'
        shutil.copytree(root, copy)
        files = sorted(p for p in copy.rglob('*') if p.is_file() and keep(p))
        assert files
        labels = [p for p in files if p.suffix.lower() not in ('.png', '.jpg', '.jpeg', '.mp4')]
        for i in range(n):
            p = _pick(labels, files, rng)
            raw = p.read_bytes()
            how = damage(p, rng)
            told[how] += 1
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter('ignore')
                    build(copy)
            except GeomReconError:
                pass
            except Exception as e:
                keepsake = Path(tempfile.gettempdir()) / f'fuzz-{p.name}'
                if p.exists():
                    shutil.copy(p, keepsake)
                raise AssertionError(
                    f'blow {i} (seed {seed}): {p.relative_to(copy)} {how}: {type(e).__name__}: {e}; kept at {keepsake}'
                ) from e
            finally:
                p.write_bytes(raw)
    return told


def _pick(labels, files, rng):
    "Most blows fall on label files, however many images there are"
    pool = labels if labels and rng.random() < 0.6 else files
    return pool[int(rng.integers(len(pool)))]
