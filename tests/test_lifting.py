"""From images' labels to 2.5D and back.

Puppets, random cameras and the data sets' own crops, lifted to 0.1 mm; and the whole way through rendered maps.
"""

import pytest
import torch
from fixtures_hands import write_freihand, write_h3d, write_mvhand, write_rhd
from fixtures_surreal import write_surreal
from geomrecon.core.geometry import (
    affine,
    apply_affine,
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
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.style import STYLES
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.readers.freihand import FreiHAND
from geomrecon.readers.h3d import H3D
from geomrecon.readers.mvhand import MVHand
from geomrecon.readers.rhd import RHD
from geomrecon.readers.surreal import SURREAL

BONES = dict(hand=(HAND21, (0, 9)), body=(BODY16, (6, 7)), mouse=(MOUSE4, (3, 0)))


def worst(a, b):
    "Largest distance of a joint in each pose"
    return (a - b).norm(dim=-1).amax(1)


def relative(x, skeleton):
    return x - x[:, [skeleton.root]]


def worst_relative(a, b, skeleton):
    return worst(relative(a, skeleton), relative(b, skeleton))


def labels(skeleton, style='synthetic', n=300, size=64, seed=7):
    "3D joints and intrinsics of puppets, exact in float64 (from the float32 labels)"
    batch = PuppetImages(skeleton, 100_000, size, style, seed=seed).batch(range(n))
    return batch['joints3d'].double(), batch['intrinsics'].double()


def camera(focal, centre):
    "(1,3,3) intrinsics without skew, float64"
    K = [[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]]
    return torch.tensor([K], dtype=torch.float64)


@pytest.mark.parametrize('style', list(STYLES))
@pytest.mark.parametrize('name', BONES)
def test_puppets_come_back(name, style):
    "Noise-free puppets to 0.1 mm in float32, and to a nanometre in float64"
    skeleton, bone = BONES[name]
    root = skeleton.root
    xyz, K = labels(skeleton, style)
    px, depth, length = to_25d(xyz, K, root, bone)
    out, ok = lift(px, depth, K, root, bone, length)
    assert ok.all()
    assert worst(out, xyz).max() < 1e-6

    single = (px.float(), depth.float(), K.float(), root, bone, length.float())
    out, ok = lift(*single)
    assert ok.all()
    assert out.dtype == torch.float32
    assert worst(out, xyz).max() < 0.1
    assert worst_relative(out, xyz, skeleton).max() < 0.01

    out, ok = lift(*single, root_depth=xyz[:, root, 2].float())
    assert ok.all()
    assert worst(out, xyz).max() < 0.1


@pytest.mark.parametrize('name', BONES)
def test_labels_as_a_training_step_sees_them(name):
    "Keypoints in [-1,1] and float32 labels of a batch, of pictures and of videos"
    skeleton, bone = BONES[name]
    pictures = PuppetImages(skeleton, 100, 64, 'real', seed=1)
    videos = PuppetVideos(skeleton, 2, 20, 64, 'real', seed=1)
    for source in (pictures, videos):
        batch = source.batch(range(40))
        xyz, K = batch['joints3d'], batch['intrinsics']
        _, depth, length = to_25d(xyz, K, skeleton.root, bone)
        px = to_pixels(batch['keypoints'], 64)
        out, ok = lift(px, depth, K, skeleton.root, bone, length)
        assert ok.float().mean() > 0.95
        assert worst_relative(out, xyz, skeleton)[ok].max() < 0.1


class Draw:
    "Uniform numbers for each of n samples, float64"

    def __init__(self, n, seed=0):
        self.n = n
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, low, high, *shape):
        u = torch.rand(self.n, *shape, generator=self.generator, dtype=torch.float64)
        return low + (high - low) * u


def random_cameras(draw):
    "(n,3,3) skewed cameras"
    K = torch.zeros(draw.n, 3, 3).double()
    K[:, 0, 0] = draw(300, 2000)
    K[:, 1, 1] = draw(300, 2000)
    K[:, 0, 1] = draw(-20, 20)
    K[:, 0, 2] = draw(100, 800)
    K[:, 1, 2] = draw(100, 800)
    K[:, 2, 2] = 1
    return K


def random_crops(draw, at):
    "(n,2,3) rotated, mirrored, stretched crops about points (n,2)"
    boxes = torch.cat([at - 60, draw(90, 160, 2)], -1)
    turned = affine(draw(-3.14, 3.14), draw(0.7, 1.4), draw(-0.2, 0.2, 2), draw(0, 1) < 0.5)
    return compose(crop_matrix(boxes), turned.double())


def test_random_cameras_and_turned_crops():
    "The lifted joints are in the camera frame that the crop's intrinsics belong to"
    draw = Draw(500)
    for skeleton, bone in BONES.values():
        xyz = relative(labels(skeleton, n=500)[0], skeleton)
        away = xyz.norm(dim=-1).amax(1) * draw(3, 12)
        place = torch.stack([away * draw(-0.4, 0.4), away * draw(-0.4, 0.4), away], -1)
        xyz = xyz + place[:, None]
        K = random_cameras(draw)
        M = random_crops(draw, project(xyz, K).mean(1))
        crop_K = crop_intrinsics(K, M, 96)
        px, depth, length = to_25d(xyz, crop_K, skeleton.root, bone)

        in_crop = apply_affine(invert(M), project(xyz, K))
        assert (from_pixels(px, 96) - in_crop).abs().max() < 1e-6
        rays = pixel_rays(px, crop_K)
        assert (rays - xyz[..., :2] / xyz[..., 2:]).abs().max() < 1e-9

        out, ok = lift(px, depth, crop_K, skeleton.root, bone, length)
        assert ok.double().mean() > 0.9
        assert worst(out, xyz)[ok].max() < 1e-3
        # without a length of the bone, the same in units of it
        free, _ = lift(px, depth, crop_K, skeleton.root, bone)
        assert ((free * length[:, None, None] - out).abs().amax((1, 2))[ok] < 1e-6).all()


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
    reader = read(tmp_path / name)
    batch = reader.batch(range(min(60, len(reader))))
    skeleton, bone = BONES['body' if name == 'surreal' else 'hand']
    root = skeleton.root
    xyz, K = batch['joints3d'], batch['intrinsics']
    assert torch.isfinite(xyz).all()
    assert torch.isfinite(K).all()
    px, depth, length = to_25d(xyz, K, root, bone)
    out, ok = lift(px, depth, K, root, bone, length)
    assert ok.float().mean() > 0.9
    assert worst_relative(out, xyz, skeleton)[ok].max() < 0.1

    # the sets' own 2D labels, which are rounded by their authors
    px = to_pixels(batch['keypoints'].to(K.dtype), 128)
    near, _ = lift(px, depth, K, root, bone, length)
    most = 20.0 if name == 'surreal' else 1.0
    assert worst_relative(near, xyz, skeleton)[ok].median() < most


@pytest.mark.parametrize('method', ['compensated', 'local'])
@pytest.mark.parametrize('name', ['hand', 'body'])
def test_through_the_maps(name, method):
    "Labels to heatmaps and depth maps, decoded, lifted, measured: what the two-dimensional grid costs"
    skeleton, bone = BONES[name]
    batch = PuppetImages(skeleton, 200, 256, seed=2).batch(range(60))
    kp, xyz, K = batch['keypoints'], batch['joints3d'], batch['intrinsics']
    _, depth, length = to_25d(xyz, K, skeleton.root, bone)
    heatmaps = render_heatmaps(kp, 64)
    # depth maps are right within 6 px of the joint, and wrong elsewhere
    apart = to_pixels(pixel_grid(64, 64), 64) - to_pixels(kp, 64)[:, :, None, None]
    near = apart.abs().amax(-1) <= 6
    depth_maps = torch.where(near, depth[..., None, None], -depth[..., None, None])
    with torch.autocast('cpu', torch.bfloat16):
        decoded = decode_depth(heatmaps, depth_maps, method)
    assert (decoded - depth).abs().max() < 1e-4

    px = to_pixels(decode(heatmaps, method), 256)
    out, ok = lift(px, decoded, K, skeleton.root, bone, length)
    assert ok.all()
    table = pose3d_table(out, xyz, None, skeleton)
    assert table['epe']['all'] < (1.0 if name == 'hand' else 10.0)
    assert table['pa_epe']['all'] <= table['epe']['all'] + 1e-3

    # an empty heatmap says nothing about depth
    with_empty = torch.cat([heatmaps, heatmaps * 0])
    tied = decode_depth(with_empty, torch.cat([depth_maps, depth_maps]), method)
    assert tied[60:].abs().max() == 0


def test_no_value_leaves_the_device():
    "Tensors without values, forward and backward: anything that asks for one (.item(), an `if`) fails"

    def without_value(*shape):
        return torch.empty(*shape, device='meta', requires_grad=True)

    K = torch.empty(4, 3, 3, device='meta')
    as_number = dict(bone_length=88.0, root_depth=700.0)
    for options in ({}, dict(bone_length=without_value(4)), as_number):
        heatmaps, depth_maps = without_value(4, 21, 16, 16), without_value(4, 21, 16, 16)
        depth = decode_depth(heatmaps, depth_maps, 'local')
        xyz, ok = lift(without_value(4, 21, 2), depth, K, 0, (0, 9), **options)
        xyz.sum().backward()
        assert xyz.shape == (4, 21, 3)
        assert ok.shape == (4,)
        assert depth_maps.grad.shape == depth_maps.shape
        assert heatmaps.grad.shape == heatmaps.shape


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_noise_never_breaks_it(dtype):
    "Wild predictions: values and gradients finite, the mask tells, good samples of the batch untouched"
    generator = torch.Generator().manual_seed(0)
    noises = ((5.0, 0.3), (0.0, 3.0), (60.0, 10.0), (1e4, 1e4))  # px, bone lengths
    for name, (skeleton, bone) in BONES.items():
        root = skeleton.root
        xyz, K = labels(skeleton, n=400)
        px, depth, length = (v.to(dtype) for v in to_25d(xyz, K, root, bone))
        K = K.to(dtype)
        clean, good = lift(px, depth, K, root, bone, length)
        for i, (in_px, in_depth) in enumerate(noises):
            p, d = px.clone(), depth.clone()
            p[::2] += in_px * torch.randn(p[::2].shape, generator=generator)
            d[::2] += in_depth * torch.randn(d[::2].shape, generator=generator)
            p.requires_grad_()
            d.requires_grad_()
            out, ok = lift(p, d, K, root, bone, length)
            out.sum().backward()
            assert out.isfinite().all(), (name, i)
            assert p.grad.isfinite().all(), (name, i)
            assert d.grad.isfinite().all(), (name, i)
            assert torch.equal(out[1::2], clean[1::2])
            assert torch.equal(ok[1::2], good[1::2])
            assert (out[ok][..., 2] > 0).all()
            assert i == 0 or not ok[::2].all()
            if dtype == torch.float64:  # where the mask is true the bone has its length
                solved = (out[:, bone[0]] - out[:, bone[1]]).norm(dim=-1)
                assert ((solved - length).abs()[ok] < 1e-6 * out[ok, root, 2]).all()


def test_two_solutions():
    "A bone along its own ray, far from the axis, fits at two depths: the mask is false"
    along_its_ray = [[400.0, 0, 1000], [429, 0, 1100]]
    ordinary = [[0.0, 0, 1000], [80, 0, 1060]]
    xyz = torch.tensor([along_its_ray, ordinary]).double()
    K = camera(500, (100, 100))[0]
    px, depth, length = to_25d(xyz, K, 0, (0, 1))
    out, ok = lift(px, depth, K, 0, (0, 1), length)
    assert ok.tolist() == [False, True]
    assert worst(out, xyz)[0] > 100
    assert worst(out, xyz)[1] < 1e-6
    # the other solution is one, too
    assert abs((out[0, 1] - out[0, 0]).norm() - length[0]) < 1e-6
    # a known depth helps
    known, _ = lift(px, depth, K, 0, (0, 1), length, root_depth=xyz[:, 0, 2])
    assert worst(known, xyz).max() < 1e-9


def test_the_edge_of_no_solution():
    "At t = 0, and just above, the slope is held back"
    slanted, straight = [[0.0, 0], [0.05, 0]], [[0.0, 0], [0.0, 0]]
    rays = torch.tensor([slanted, slanted, straight], dtype=torch.float64, requires_grad=True)
    depths = [[0.0, 1.0], [0.0, 1 - 1e-9], [0.0, 1.0]]
    depth = torch.tensor(depths, dtype=torch.float64, requires_grad=True)
    z, ok = solve_root_depth(rays, depth, (0, 1), limits=(-1e3, 1e3))
    z.sum().backward()
    assert z.isfinite().all()
    assert rays.grad.isfinite().all()
    assert depth.grad.isfinite().all()
    assert depth.grad.abs().max() < 1e4
    assert not ok[2]


def test_shapes_and_batches():
    "One camera for all, extra batch dimensions, and each sample on its own"
    skeleton, bone = BONES['hand']
    root = skeleton.root
    xyz, K = labels(skeleton, n=12)
    px, depth, length = to_25d(xyz, K, root, bone)
    out, _ = lift(px, depth, K, root, bone, length)
    for i in range(12):
        alone, _ = lift(px[i], depth[i], K[i], root, bone, length[i])
        assert torch.allclose(alone, out[i])

    fold = lambda v: v.view(3, 4, *v.shape[1:])
    folded, ok = lift(fold(px), fold(depth), fold(K), root, bone, fold(length))
    assert torch.allclose(folded.view(12, 21, 3), out)
    assert ok.shape == (3, 4)

    px0, depth0, length0 = to_25d(xyz, K[0], root, bone)
    one_camera, _ = lift(px0, depth0, K[0], root, bone, length0)
    repeated, _ = lift(px0, depth0, K[:1].expand(12, 3, 3), root, bone, length0)
    assert torch.allclose(one_camera, repeated)

    none, _ = lift(px[:0], depth[:0], K[:0], root, bone, length[:0])
    assert none.shape == (0, 21, 3)

    z, ok = solve_root_depth(pixel_rays(px, K), depth, bone, limits=(2.0, 5.0))
    assert (z <= 5).all()
    assert not ok[z == 5].any()


def test_the_crop_needs_its_own_principal_point():
    "The frame's principal point only scaled, or the middle of the crop, cost 5 to 50 mm on average"
    skeleton, bone = BONES['hand']
    xyz = relative(labels(skeleton, 'real', n=1000)[0], skeleton)
    draw = Draw(1000)
    away = draw(500, 900)  # hands anywhere in a frame of 640 x 480
    place = torch.stack([draw(-0.4, 0.4) * away, draw(-0.3, 0.3) * away, away], -1)
    xyz = xyz + place[:, None]
    K = camera(500, (319.5, 239.5)).expand(1000, 3, 3)
    uv = project(xyz, K)
    low, high = uv.amin(1), uv.amax(1)
    side = (high - low).amax(-1, keepdim=True) * 1.3
    boxes = torch.cat([(high + low) / 2 - side / 2, side, side], -1)
    right = crop_intrinsics(K, crop_matrix(boxes), 256)
    px, depth, length = to_25d(xyz, right, skeleton.root, bone)
    scaled, middle = right.clone(), right.clone()
    scaled[:, :2, 2] = K[:, :2, 2] * 256 / side
    middle[:, :2, 2] = 127.5

    def error(intrinsics):
        out, _ = lift(px, depth, intrinsics, skeleton.root, bone, length)
        return joint_errors3d(out, xyz).mean().item()

    assert error(right) < 0.01
    assert 5 < error(scaled) < 50
    assert 5 < error(middle) < 50
