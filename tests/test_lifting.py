"From images' labels to 2.5D and back: puppets, random cameras and the data sets' own crops, lifted to 0.1 mm; and the whole way through rendered maps."

import numpy as np, pytest, torch
from fixtures_hands import write_freihand, write_h3d, write_mvhand, write_rhd
from fixtures_surreal import write_surreal
from geomrecon.readers.surreal import SURREAL
from geomrecon.readers.h3d import H3D
from geomrecon.readers.mvhand import MVHand
from geomrecon.readers.rhd import RHD
from geomrecon.readers.freihand import FreiHAND
from geomrecon.puppet.style import STYLES
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.core.geometry import (
    affine,
    compose,
    crop_intrinsics,
    crop_matrix,
    from_pixels,
    invert,
    lift,
    pixel_grid,
    pixel_rays,
    project,
    solve_root_depth,
    to_25d,
    to_pixels,
)
from geomrecon.core.heatmap import decode, decode_depth, render_heatmaps
from geomrecon.core.metrics import joint_errors3d, pose3d_table
from geomrecon.core.skeleton import BODY16, HAND21, MOUSE4

BONES = dict(hand=(HAND21, (0, 9)), body=(BODY16, (6, 7)), mouse=(MOUSE4, (3, 0)))


def worst(a, b):
    return (a - b).norm(dim=-1).amax(1)


def relative(x, sk):
    return x - x[:, [sk.root]]


def labels(sk, style='synthetic', n=300, size=64, seed=7):
    "3D joints and intrinsics of puppets, exact in float64 (from the float32 labels)"
    b = PuppetImages(sk, 100_000, size, style, seed=seed).batch(range(n))
    return b['joints3d'].double(), b['intrinsics'].double()


@pytest.mark.parametrize('style', list(STYLES))
@pytest.mark.parametrize('name', BONES)
def test_puppets_come_back(name, style):
    "Noise-free puppets to 0.1 mm in float32, and to a nanometre in float64"
    sk, bone = BONES[name]
    xyz, K = labels(sk, style)
    px, d, L = to_25d(xyz, K, sk.root, bone)
    out, ok = lift(px, d, K, sk.root, bone, L)
    assert ok.all() and worst(out, xyz).max() < 1e-6
    o32, ok = lift(px.float(), d.float(), K.float(), sk.root, bone, L.float())
    assert (
        ok.all()
        and o32.dtype == torch.float32
        and worst(o32, xyz).max() < 0.1
        and worst(relative(o32, sk), relative(xyz, sk)).max() < 0.01
    )
    known, fine = lift(
        px.float(),
        d.float(),
        K.float(),
        sk.root,
        bone,
        L.float(),
        root_depth=xyz[:, sk.root, 2].float(),
    )
    assert fine.all() and worst(known, xyz).max() < 0.1


@pytest.mark.parametrize('name', BONES)
def test_labels_as_a_training_step_sees_them(name):
    "Keypoints in [-1,1] and float32 labels of a batch, of pictures and of videos"
    sk, bone = BONES[name]
    for ds in (
        PuppetImages(sk, 100, 64, 'real', seed=1),
        PuppetVideos(sk, 2, 20, 64, 'real', seed=1),
    ):
        b = ds.batch(range(40))
        xyz, K = b['joints3d'], b['intrinsics']
        _, d, L = to_25d(xyz, K, sk.root, bone)
        out, ok = lift(to_pixels(b['keypoints'], 64), d, K, sk.root, bone, L)
        assert (
            ok.float().mean() > 0.95 and worst(relative(out, sk), relative(xyz, sk))[ok].max() < 0.1
        )


def test_random_cameras_and_turned_crops():
    "Rotated, mirrored, stretched crops of skewed cameras: the lifted joints are in the camera frame that the intrinsics belong to"
    g = torch.Generator().manual_seed(0)
    u = lambda lo, hi, *s: lo + (hi - lo) * torch.rand(500, *s, generator=g, dtype=torch.float64)
    for name, (sk, bone) in BONES.items():
        xyz, _ = labels(sk, n=500)
        xyz = relative(xyz, sk)
        size = xyz.norm(dim=-1).amax(1)
        Z = size * u(3, 12)
        xyz = xyz + torch.stack([Z * u(-0.4, 0.4), Z * u(-0.4, 0.4), Z], -1)[:, None]
        K = torch.zeros(500, 3, 3).double()
        K[:, 0, 0], K[:, 1, 1], K[:, 0, 1], K[:, 0, 2], K[:, 1, 2], K[:, 2, 2] = (
            u(300, 2000),
            u(300, 2000),
            u(-20, 20),
            u(100, 800),
            u(100, 800),
            1,
        )
        at = project(xyz, K).mean(1)
        M = crop_matrix(torch.cat([at - 60, u(90, 160, 2)], -1))
        M = compose(M, affine(u(-3.14, 3.14), u(0.7, 1.4), u(-0.2, 0.2, 2), u(0, 1) < 0.5).double())
        Kc = crop_intrinsics(K, M, 96)
        px, d, L = to_25d(xyz, Kc, sk.root, bone)
        assert (
            from_pixels(px, 96)
            - (
                lambda p: (
                    (invert(M)[:, None, :, :2] * p[:, :, None]).sum(-1) + invert(M)[:, None, :, 2]
                )
            )(project(xyz, K))
        ).abs().max() < 1e-6
        assert (pixel_rays(px, Kc) - xyz[..., :2] / xyz[..., 2:]).abs().max() < 1e-9
        out, ok = lift(px, d, Kc, sk.root, bone, L)
        assert ok.double().mean() > 0.9 and worst(out, xyz)[ok].max() < 1e-3
        free, _ = lift(px, d, Kc, sk.root, bone)
        assert ((free * L[:, None, None] - out).abs().amax((1, 2))[ok] < 1e-6).all()


SETS = dict(
    rhd=(write_rhd, lambda r: RHD(r, 'train', 128, 'right')),
    h3d=(write_h3d, lambda r: H3D(r, 'all', 128, side='right', without_object='all')),
    mvhand=(write_mvhand, lambda r: MVHand(r, 'all', 128, 'left')),
    freihand=(write_freihand, lambda r: FreiHAND(r, 'all', 128, 'left')),
    surreal=(write_surreal, lambda r: SURREAL(r, 'train', size=128)),
)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', SETS)
def test_crops_of_the_data_sets(name, tmp_path):
    "Labels of real formats, mirror images included"
    write, read = SETS[name]
    write(tmp_path / name)
    ds = read(tmp_path / name)
    b = ds.batch(range(min(60, len(ds))))
    sk, bone = BONES['body' if name == 'surreal' else 'hand']
    xyz, K = b['joints3d'], b['intrinsics']
    assert torch.isfinite(xyz).all() and torch.isfinite(K).all()
    px, d, L = to_25d(xyz, K, sk.root, bone)
    out, ok = lift(px, d, K, sk.root, bone, L)
    assert ok.float().mean() > 0.9 and worst(relative(out, sk), relative(xyz, sk))[ok].max() < 0.1
    near = lift(to_pixels(b['keypoints'].to(K.dtype), 128), d, K, sk.root, bone, L)[
        0
    ]  # the sets' own 2D labels, which are rounded by their authors
    assert worst(relative(near, sk), relative(xyz, sk))[ok].median() < (
        1.0 if name != 'surreal' else 20.0
    )


@pytest.mark.parametrize('method', ['compensated', 'local'])
def test_through_the_maps(method):
    "Labels to heatmaps and depth maps, decoded, lifted, measured: what the two-dimensional grid costs"
    for name, (sk, bone) in list(BONES.items())[:2]:
        b = PuppetImages(sk, 200, 256, seed=2).batch(range(60))
        xyz, K = b['joints3d'], b['intrinsics']
        px, d, L = to_25d(xyz, K, sk.root, bone)
        hm = render_heatmaps(b['keypoints'], 64)
        near = (
            to_pixels(pixel_grid(64, 64), 64) - to_pixels(b['keypoints'], 64)[:, :, None, None]
        ).abs().amax(-1) <= 6
        D = torch.where(near, d[..., None, None], -d[..., None, None])
        with torch.autocast('cpu', torch.bfloat16):
            dd = decode_depth(hm, D, method)
        assert (dd - d).abs().max() < 1e-4
        out, ok = lift(to_pixels(decode(hm, method), 256), dd, K, sk.root, bone, L)
        t = pose3d_table(out, xyz, None, sk)
        assert (
            ok.all()
            and t['epe']['all'] < (1.0 if name == 'hand' else 10.0)
            and t['pa_epe']['all'] <= t['epe']['all'] + 1e-3
        ), t['epe']
        tied = decode_depth(torch.cat([hm, hm * 0]), torch.cat([D, D]), method)
        assert tied[60:].abs().max() == 0


def test_no_value_leaves_the_device():
    "Forward and backward on tensors without values: anything that asks for one (.item(), a mask as an index, an `if`) fails there"
    m = lambda *s: torch.empty(*s, device='meta', requires_grad=True)
    for kw in ({}, dict(bone_length=m(4)), dict(bone_length=88.0, root_depth=700.0)):
        hm, D = m(4, 21, 16, 16), m(4, 21, 16, 16)
        d = decode_depth(hm, D, 'local')
        xyz, ok = lift(m(4, 21, 2), d, torch.empty(4, 3, 3, device='meta'), 0, (0, 9), **kw)
        xyz.sum().backward()
        assert (
            xyz.shape == (4, 21, 3)
            and ok.shape == (4,)
            and D.grad.shape == D.shape
            and hm.grad.shape == hm.shape
        )


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_noise_never_breaks_it(dtype):
    "Wild predictions: values and gradients finite, the mask tells, good samples of the batch untouched"
    g = torch.Generator().manual_seed(0)
    for name, (sk, bone) in BONES.items():
        xyz, K = labels(sk, n=400)
        px, d, L = (v.to(dtype) for v in to_25d(xyz, K, sk.root, bone))
        K = K.to(dtype)
        clean, good = lift(px, d, K, sk.root, bone, L)
        for i, (a, c) in enumerate(((5.0, 0.3), (0.0, 3.0), (60.0, 10.0), (1e4, 1e4))):
            p, q = px.clone(), d.clone()
            p[::2] += a * torch.randn(p[::2].shape, generator=g)
            q[::2] += c * torch.randn(q[::2].shape, generator=g)
            p.requires_grad_()
            q.requires_grad_()
            out, ok = lift(p, q, K, sk.root, bone, L)
            out.sum().backward()
            assert all(v.isfinite().all() for v in (out, p.grad, q.grad)), (name, i)
            assert torch.equal(out[1::2], clean[1::2]) and torch.equal(ok[1::2], good[1::2])
            assert (out[ok][..., 2] > 0).all() and (i == 0 or not ok[::2].all())
            solved = (out[:, bone[0]] - out[:, bone[1]]).norm(dim=-1)
            if dtype == torch.float64:
                assert ((solved - L).abs()[ok] < 1e-6 * out[ok, sk.root, 2]).all(), (
                    'where the mask is true the bone has its length'
                )


def test_two_solutions_and_the_edge_of_none():
    "A bone along its own ray, far from the axis, fits at two depths: the mask is false, a known depth helps. At t = 0, and just above, the slope is held back"
    xyz = torch.tensor(
        [[[400.0, 0, 1000], [429, 0, 1100]], [[0.0, 0, 1000], [80, 0, 1060]]]
    ).double()
    K = torch.tensor([[500.0, 0, 100], [0, 500, 100], [0, 0, 1]]).double()
    px, d, L = to_25d(xyz, K, 0, (0, 1))
    out, ok = lift(px, d, K, 0, (0, 1), L)
    assert ok.tolist() == [False, True] and worst(out, xyz)[0] > 100 and worst(out, xyz)[1] < 1e-6
    assert abs((out[0, 1] - out[0, 0]).norm() - L[0]) < 1e-6, 'the other solution is one, too'
    assert worst(lift(px, d, K, 0, (0, 1), L, root_depth=xyz[:, 0, 2])[0], xyz).max() < 1e-9
    rays = torch.tensor(
        [[[0.0, 0], [0.05, 0]], [[0.0, 0], [0.05, 0]], [[0.0, 0], [0.0, 0]]],
        dtype=torch.float64,
        requires_grad=True,
    )
    d = torch.tensor(
        [[0.0, 1.0], [0.0, 1 - 1e-9], [0.0, 1.0]], dtype=torch.float64, requires_grad=True
    )
    z, ok = solve_root_depth(rays, d, (0, 1), limits=(-1e3, 1e3))
    z.sum().backward()
    assert (
        z.isfinite().all()
        and rays.grad.isfinite().all()
        and d.grad.isfinite().all()
        and d.grad.abs().max() < 1e4
        and not ok[2]
    )


def test_shapes_and_batches():
    "One camera for all, extra batch dimensions, a length for all, and each sample on its own"
    sk, bone = BONES['hand']
    xyz, K = labels(sk, n=12)
    px, d, L = to_25d(xyz, K, sk.root, bone)
    out, ok = lift(px, d, K, sk.root, bone, L)
    for i in range(12):
        assert torch.allclose(lift(px[i], d[i], K[i], sk.root, bone, L[i])[0], out[i])
    fold = lambda v: v.view(3, 4, *v.shape[1:])
    two, k2 = lift(fold(px), fold(d), fold(K), sk.root, bone, fold(L))
    assert torch.allclose(two.view(12, 21, 3), out) and k2.shape == (3, 4)
    same = K[:1].expand(12, 3, 3)
    p0, d0, L0 = to_25d(xyz, K[0], sk.root, bone)
    assert torch.allclose(
        lift(p0, d0, K[0], sk.root, bone, L0)[0], lift(p0, d0, same, sk.root, bone, L0)[0]
    )
    assert lift(px[:0], d[:0], K[:0], sk.root, bone, L[:0])[0].shape == (0, 21, 3)
    z, k = solve_root_depth(pixel_rays(px, K), d, bone, limits=(2.0, 5.0))
    assert (z <= 5).all() and not k[z == 5].any()


def test_the_crop_needs_its_own_principal_point():
    "Hands anywhere in a 640 x 480 frame: the principal point of the frame, only scaled, or the middle of the crop, cost 5 to 50 mm on average"
    sk, bone = BONES['hand']
    xyz, _ = labels(sk, 'real', n=1000)
    xyz = relative(xyz, sk)
    g = torch.Generator().manual_seed(0)
    u = lambda lo, hi: lo + (hi - lo) * torch.rand(1000, generator=g, dtype=torch.float64)
    K = torch.tensor([[[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]]]).double().expand(1000, 3, 3)
    Z = u(500, 900)
    xyz = xyz + torch.stack([u(-0.4, 0.4) * Z, u(-0.3, 0.3) * Z, Z], -1)[:, None]
    uv = project(xyz, K)
    side = (uv.amax(1) - uv.amin(1)).amax(-1, keepdim=True) * 1.3
    Kc = crop_intrinsics(
        K, crop_matrix(torch.cat([(uv.amax(1) + uv.amin(1)) / 2 - side / 2, side, side], -1)), 256
    )
    px, d, L = to_25d(xyz, Kc, sk.root, bone)
    scaled, middle = Kc.clone(), Kc.clone()
    scaled[:, :2, 2] = K[:, :2, 2] * 256 / side
    middle[:, :2, 2] = 127.5
    right, a, b = (
        joint_errors3d(lift(px, d, k, sk.root, bone, L)[0], xyz).mean().item()
        for k in (Kc, scaled, middle)
    )
    print(f'right {right:.4f}, only scaled {a:.1f}, middle of the crop {b:.1f} mm')
    assert right < 0.01 and 5 < a < 50 and 5 < b < 50
