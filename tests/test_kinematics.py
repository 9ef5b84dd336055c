"""Kinematic correction on thousands of poses, normal and absurd, of built-in and made-up skeletons.

What it promises holds for each.
"""

import json
import numpy as np
import pytest
import torch
from torch.nn.functional import normalize
from geomrecon.core.errors import DataError, SkeletonError
from geomrecon.core.skeleton import BODY16, HAND21, MOUSE4, Skeleton
from geomrecon.losses.bone_angles import kinematic_tree
from geomrecon.losses.bone_walk import joint_angles
from geomrecon.losses.kinematics import correct_pose, is_feasible, violations
from geomrecon.losses.limits import Limits, estimate_limits, free_limits
from geomrecon.puppet.images import PuppetImages

# bones in both directions, a long chain, a joint without bone
STAR_BONES = ((1, 0), (0, 2), (2, 3), (3, 4), (4, 5), (6, 2), (1, 7))
STAR = Skeleton('star', tuple('rabcdefgx'), STAR_BONES, root=0)
CHAIN = Skeleton('chain', tuple('abcdef'), tuple((i + 1, i) for i in range(5)), root=5)
BONE = Skeleton('bone', ('a', 'b'), ((0, 1),))
SKELETONS = dict(hand=HAND21, body=BODY16, mouse=MOUSE4, star=STAR, chain=CHAIN, bone=BONE)
OPTIONS = [dict(), dict(aim='bone'), dict(passes=0), dict(scale='source'), dict(scale=70.0)]


def random_turns(n, generator):
    "(n,3,3) rotations"
    Q = torch.linalg.qr(torch.randn(n, 3, 3, generator=generator))[0]
    return Q * torch.linalg.det(Q)[:, None, None]


def grown(skeleton, n, seed, spread=0.5):
    "Poses of a skeleton without a rig: every bone about a fixed direction, then turned as a whole"
    g = torch.Generator().manual_seed(seed)
    rest = torch.randn(skeleton.n_bones, 3, generator=torch.Generator().manual_seed(99))
    tree = kinematic_tree(skeleton)
    x = torch.zeros(n, skeleton.n_joints, 3)
    x[:, -1] = 5.0
    for level in tree.levels:
        for bone in level:
            about = normalize(rest[bone], dim=0)
            direction = about + spread * (torch.rand(n, 3, generator=g) - 0.5)
            length = 40 + 10 * torch.rand(n, 1, generator=g)
            end = x[:, tree.parent[bone]] + length * normalize(direction, dim=-1)
            x[:, tree.child[bone]] = end
    return x @ random_turns(n, g) + torch.tensor([10.0, -20, 600])


def natural(skeleton, n, seed):
    if not skeleton.rig:
        return grown(skeleton, n, seed)
    return PuppetImages(skeleton, n, 16, seed=seed).batch(np.arange(n))['joints3d']


@pytest.fixture(scope='module')
def limits():
    return {name: estimate_limits(natural(s, 500, 0), s) for name, s in SKELETONS.items()}


def size(x, skeleton):
    return (x - x[:, skeleton.root, None]).norm(dim=-1).amax(1).clamp_min(1e-12)


def moved(a, b, skeleton):
    "Largest move of each pose, relative to its size"
    return (a - b).norm(dim=-1).amax(1) / size(b, skeleton)


def absurd(skeleton, n=250, seed=1):
    "Poses by kind, from natural ones to a single point"
    g = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(*shape, generator=g)

    x = natural(skeleton, n, seed + 5).double()
    N, K, _ = x.shape
    root = x[:, skeleton.root, None]
    s = size(x, skeleton)[:, None, None]
    tree = kinematic_tree(skeleton)
    before = torch.arange(K)
    before[list(tree.child)] = torch.tensor(tree.parent)
    pick = torch.rand(N, K, 1, generator=g) < 0.35
    along = normalize(noise(N, 1, 3), dim=-1)
    return dict(
        natural=x,
        noisy=x + 0.15 * s * noise(N, K, 3),
        outliers=x + pick * s * 30 * noise(N, K, 3),
        random=root + s * noise(N, K, 3),
        scrambled=x[:, torch.randperm(K, generator=g)],
        at_root=torch.where(pick, root, x),
        no_length=torch.where(pick, x[:, before], x),
        line=root + s * along * (torch.rand(N, K, 1, generator=g) - 0.5),
        plane=root + (x - root) * torch.tensor([1.0, 1.0, 0.0]),
        nearly_line=root + s * (along * noise(N, K, 1) + 1e-5 * noise(N, K, 3)),
        folded=torch.where(pick, x[:, before[before]], x),
        anti=torch.where(pick, 2 * x[:, before] - x, x),
        point=root.expand(N, K, 3).clone(),
        huge=(x - root) * 1e5,
        tiny=(x - root) * 1e-5,
    )


@pytest.mark.parametrize('name', SKELETONS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_always_feasible_finite_and_idempotent(name, dtype, limits):
    skeleton, l = SKELETONS[name], limits[name]
    exact = dtype == torch.float64
    tolerance, change = (1e-7, 1e-7) if exact else (3e-3, 5e-4)
    for kind, x in absurd(skeleton).items():
        x = x.to(dtype)
        for options in OPTIONS:
            case = (kind, options)
            y = correct_pose(x, l, **options)
            assert y.isfinite().all(), case
            assert y.dtype == dtype, case
            worst = [v.max().item() for v in violations(y, l)]
            assert is_feasible(y, l, tolerance).all(), (*case, worst)
            again = correct_pose(y, l, **options)
            assert moved(again, y, skeleton).max() < change, case
            root_moved = (y[:, skeleton.root] - x[:, skeleton.root]).norm(dim=-1)
            assert (root_moved <= 1e-6 * x.abs().amax((1, 2))).all()


@pytest.mark.parametrize('name', SKELETONS)
def test_feasible_poses_stay(name, limits):
    skeleton, l = SKELETONS[name], limits[name]
    source = natural(skeleton, 500, 0)
    noisy = source + 5 * torch.randn(500, skeleton.n_joints, 3)
    for x in (source, correct_pose(noisy, l)):
        assert is_feasible(x, l).all()
        for options in OPTIONS[:3]:
            assert moved(correct_pose(x, l, **options), x, skeleton).max() < 1e-5, options
    assert moved(correct_pose(source, l, scale='source'), source, skeleton).max() < 1e-5


def facing(x, skeleton):
    "Poses that are not straight or vanished: nothing in such a figure says which way it faces"
    tree = kinematic_tree(skeleton)
    relative = (x - x[:, skeleton.root, None])[:, list(tree.child)]
    width = torch.linalg.svdvals(relative / size(x, skeleton)[:, None, None])[:, 1]
    return x[width > 1e-2]


@pytest.mark.parametrize('name', ['hand', 'body', 'mouse', 'star', 'chain'])
def test_equivariance_and_scale(name, limits):
    skeleton, l = SKELETONS[name], limits[name]
    g = torch.Generator().manual_seed(4)
    Q = torch.linalg.qr(torch.randn(3, 3, generator=g).double())[0]
    Q = Q * torch.linalg.det(Q)
    shift = torch.tensor([50.0, -80, 30.0]).double()
    ordinary = ('natural', 'noisy', 'random', 'scrambled', 'huge', 'tiny')
    for kind, x in absurd(skeleton).items():
        x = facing(x, skeleton)
        if not len(x):
            continue
        # of the others some bones stand exactly opposite their range: rounding decides the side
        share = 0 if kind in ordinary else 0.01
        for options in OPTIONS:
            case = (kind, options)
            y = correct_pose(x, l, **options)
            s = size(y, skeleton)[:, None, None]

            def share_off(a):
                return (((a - y) / s).abs().flatten(1).amax(1) > 1e-5).float().mean()

            assert share_off(correct_pose(x @ Q.T, l, **options) @ Q) <= share, case
            assert share_off(correct_pose(x + shift, l, **options) - shift) <= share, case
            if options.get('scale') is None:
                assert share_off(correct_pose(x * 7.5, l, **options) / 7.5) <= share, case


@pytest.mark.parametrize('name', ['hand', 'body', 'star', 'chain'])
def test_one_by_one_is_the_batch(name, limits):
    x = torch.cat([poses[:8] for poses in absurd(SKELETONS[name]).values()])
    l = limits[name]
    one_by_one = torch.cat([correct_pose(pose[None], l) for pose in x])
    assert torch.allclose(one_by_one, correct_pose(x, l), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize('name', ['hand', 'body', 'mouse', 'star', 'bone'])
def test_gradients_are_exact(name, limits):
    skeleton, l = SKELETONS[name], limits[name]
    inside = natural(skeleton, 1, 8).double()
    outside = natural(skeleton, 1, 9).double() + 8 * torch.randn(1, skeleton.n_joints, 3).double()
    for x in (inside, outside):
        x = (x - x[:, skeleton.root, None]).requires_grad_()
        for options in (dict(), dict(scale='source')):
            correct = lambda v: correct_pose(v, l, **options)
            exact = torch.autograd.gradcheck(correct, x, eps=1e-5, atol=1e-4, rtol=1e-3)
            assert exact, options


@pytest.mark.parametrize('name', ['hand', 'body', 'mouse', 'star', 'bone'])
def test_gradients_are_finite(name, limits):
    for kind, x in absurd(SKELETONS[name], 100).items():
        for dtype in (torch.float32, torch.float64):
            v = x.to(dtype).requires_grad_()
            correct_pose(v, limits[name]).sum().backward()
            assert v.grad.isfinite().all(), (kind, dtype)


def test_scale_choices(limits):
    l = limits['hand']
    x = natural(HAND21, 50, 0) * 3

    def reference(y):
        near, far = l.tree.parent[l.reference], l.tree.child[l.reference]
        return (y[:, far] - y[:, near]).norm(dim=-1)

    eighty = torch.full((50,), 80.0)
    each = torch.linspace(60, 90, 50)
    longest = torch.full((50,), l.reference_length[1])
    assert torch.allclose(reference(correct_pose(x, l, scale=80.0)), eighty, rtol=1e-4)
    assert torch.allclose(reference(correct_pose(x, l, scale=each)), each, rtol=1e-4)
    assert torch.allclose(reference(correct_pose(x, l, scale='source')), longest, rtol=1e-4)
    assert torch.allclose(reference(correct_pose(x, l)), reference(x), rtol=1e-4)


def test_not_finite_input(limits):
    l = limits['hand']
    x = natural(HAND21, 4, 3)
    x[0, 3, 1] = float('nan')
    x[1] = float('inf')
    x[2, 0] = float('nan')
    y = correct_pose(x, l)
    assert y.isfinite().all()
    assert is_feasible(y, l).all()
    assert is_feasible(x, l).tolist()[:3] == [False] * 3
    assert torch.allclose(y[3:], correct_pose(x[3:], l), atol=1e-2)


def test_plain_containers(limits, tmp_path):
    for name, l in limits.items():
        torch.save(l.to_dict(), tmp_path / 'l.pth')
        from_checkpoint = Limits.from_dict(torch.load(tmp_path / 'l.pth', weights_only=True))
        from_text = Limits.from_dict(json.loads(json.dumps(l.to_dict())))
        x = absurd(SKELETONS[name], 20)['noisy']
        assert torch.equal(correct_pose(x, from_checkpoint), correct_pose(x, l))
        assert torch.equal(correct_pose(x, from_text), correct_pose(x, l))


def test_table(limits):
    l = limits['hand'].with_table({'index3': dict(flexion=(0, 30))})
    x = natural(HAND21, 100, 3)
    bone = l.tree.child.index(HAND21.joints.index('index3'))
    flexion = joint_angles(correct_pose(x, l), l)[:, bone, 0]
    assert flexion.min() > -0.1
    assert flexion.max() < 30.1
    assert joint_angles(x, l)[:, bone, 0].max() > 40  # it had been bent further


def test_no_limits():
    x = natural(HAND21, 100, 3)
    free = free_limits(HAND21, (4, 16))
    assert is_feasible(x, free).all()
    assert torch.allclose(correct_pose(x, free), x, atol=1e-2)


def test_mistakes(limits):
    x = natural(HAND21, 100, 3)
    ring = Skeleton('ring', ('a', 'b', 'c'), ((0, 1), (1, 2), (2, 0)))
    with pytest.raises(SkeletonError, match='loop'):
        estimate_limits(torch.randn(9, 3, 3), ring)
    with pytest.raises(DataError, match='at least 2'):
        estimate_limits(x[:1], HAND21)
    with pytest.raises(DataError, match='quantiles'):
        estimate_limits(x, HAND21, quantiles=(0.9, 0.1))
    with pytest.raises(DataError, match='16'):
        correct_pose(torch.zeros(2, 16, 3), limits['hand'])
    with pytest.raises(SkeletonError):
        free_limits(HAND21, (0, 99))
