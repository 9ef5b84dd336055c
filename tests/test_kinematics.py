"Kinematic correction on thousands of poses, normal and absurd, of built-in and made-up skeletons: what it promises holds for each."

import json
import numpy as np, pytest, torch
from geomrecon.puppet.images import PuppetImages
from geomrecon.core.errors import DataError, SkeletonError
from geomrecon.losses.kinematics import (
    Limits,
    correct_pose,
    estimate_limits,
    free_limits,
    is_feasible,
    joint_angles,
    kinematic_tree,
    violations,
)
from geomrecon.core.skeleton import BODY16, HAND21, MOUSE4, Skeleton

STAR = Skeleton(
    'star', tuple('rabcdefgx'), ((1, 0), (0, 2), (2, 3), (3, 4), (4, 5), (6, 2), (1, 7)), root=0
)  # Bones in both directions, a long chain, a joint without bone
CHAIN = Skeleton('chain', tuple('abcdef'), tuple((i + 1, i) for i in range(5)), root=5)
BONE = Skeleton('bone', ('a', 'b'), ((0, 1),))
SKELETONS = dict(hand=HAND21, body=BODY16, mouse=MOUSE4, star=STAR, chain=CHAIN, bone=BONE)
OPTIONS = [dict(), dict(aim='bone'), dict(passes=0), dict(scale='source'), dict(scale=70.0)]


def grown(sk, n, seed, spread=0.5):
    "Poses of a skeleton without a rig: every bone about a fixed direction in space, then turned as a whole"
    g = torch.Generator().manual_seed(seed)
    rest = torch.randn(sk.n_bones, 3, generator=torch.Generator().manual_seed(99))
    t = kinematic_tree(sk)
    x = torch.zeros(n, sk.n_joints, 3)
    x[:, -1] = 5.0
    for j in (j for l in t.levels for j in l):
        d = torch.nn.functional.normalize(rest[j], dim=0) + spread * (
            torch.rand(n, 3, generator=g) - 0.5
        )
        x[:, t.child[j]] = x[:, t.parent[j]] + (
            40 + 10 * torch.rand(n, 1, generator=g)
        ) * torch.nn.functional.normalize(d, dim=-1)
    Q = torch.linalg.qr(torch.randn(n, 3, 3, generator=g))[0]
    return x @ (Q * torch.linalg.det(Q)[:, None, None]) + torch.tensor([10.0, -20, 600])


def natural(sk, n, seed):
    return (
        PuppetImages(sk, n, 16, seed=seed).batch(np.arange(n))['joints3d']
        if sk.rig
        else grown(sk, n, seed)
    )


@pytest.fixture(scope='module')
def limits():
    return {n: estimate_limits(natural(s, 500, 0), s) for n, s in SKELETONS.items()}


def size(x, sk):
    return (x - x[:, sk.root, None]).norm(dim=-1).amax(1).clamp_min(1e-12)


def absurd(sk, n=250, seed=1):
    "Poses by kind: natural, noisy, outliers, random, scrambled, joints at the root, bones of no length, lines, planes, folded back, one point, huge, tiny"
    g = torch.Generator().manual_seed(seed)
    r = lambda *s: torch.randn(*s, generator=g)
    x = natural(sk, n, seed + 5).double()
    N, K, _ = x.shape
    root = x[:, sk.root, None]
    s = size(x, sk)[:, None, None]
    t = kinematic_tree(sk)
    up = torch.arange(K)
    up[list(t.child)] = torch.tensor(t.parent)
    pick = torch.rand(N, K, 1, generator=g) < 0.35
    dirs = torch.nn.functional.normalize(r(N, 1, 3), dim=-1)
    return dict(
        natural=x,
        noisy=x + 0.15 * s * r(N, K, 3),
        outliers=x + pick * s * 30 * r(N, K, 3),
        random=root + s * r(N, K, 3),
        scrambled=x[:, torch.randperm(K, generator=g)],
        at_root=torch.where(pick, root, x),
        no_length=torch.where(pick, x[:, up], x),
        line=root + s * dirs * (torch.rand(N, K, 1, generator=g) - 0.5),
        plane=root + (x - root) * torch.tensor([1.0, 1.0, 0.0]),
        nearly_line=root + s * (dirs * r(N, K, 1) + 1e-5 * r(N, K, 3)),
        folded=torch.where(pick, x[:, up[up]], x),
        anti=torch.where(pick, 2 * x[:, up] - x, x),
        point=root.expand(N, K, 3).clone(),
        huge=(x - root) * 1e5,
        tiny=(x - root) * 1e-5,
    )


@pytest.mark.parametrize('name', SKELETONS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_always_feasible_finite_and_idempotent(name, dtype, limits):
    sk = SKELETONS[name]
    l = limits[name]
    exact = dtype == torch.float64
    for kind, x in absurd(sk).items():
        for kw in OPTIONS:
            x = x.to(dtype)
            y = correct_pose(x, l, **kw)
            assert y.isfinite().all() and y.dtype == dtype, (kind, kw)
            assert is_feasible(y, l, 1e-7 if exact else 3e-3).all(), (
                kind,
                kw,
                [v.max().item() for v in violations(y, l)],
            )
            again = correct_pose(y, l, **kw)
            assert ((again - y).norm(dim=-1).amax(1) / size(y, sk)).max() < (
                1e-7 if exact else 5e-4
            ), (kind, kw)
            assert (
                (y[:, sk.root] - x[:, sk.root]).norm(dim=-1) <= 1e-6 * x.abs().amax((1, 2))
            ).all()


@pytest.mark.parametrize('name', SKELETONS)
def test_feasible_poses_stay(name, limits):
    sk, l = SKELETONS[name], limits[name]
    for x in (
        natural(sk, 500, 0),
        correct_pose(natural(sk, 500, 0) + 5 * torch.randn(500, sk.n_joints, 3), l),
    ):
        assert is_feasible(x, l).all()
        for kw in OPTIONS[:3]:
            assert (
                (correct_pose(x, l, **kw) - x).norm(dim=-1).amax(1) / size(x, sk)
            ).max() < 1e-5, kw
    x = natural(sk, 500, 0)
    assert (
        (correct_pose(x, l, scale='source') - x).norm(dim=-1).amax(1) / size(x, sk)
    ).max() < 1e-5


@pytest.mark.parametrize('name', ['hand', 'body', 'mouse', 'star', 'chain'])
def test_equivariance_and_scale(name, limits):
    sk, l = SKELETONS[name], limits[name]
    g = torch.Generator().manual_seed(4)
    Q = torch.linalg.qr(torch.randn(3, 3, generator=g).double())[0]
    Q = Q * torch.linalg.det(Q)
    for kind, x in absurd(sk).items():
        t = kinematic_tree(sk)
        flat = torch.linalg.svdvals(
            (x - x[:, sk.root, None])[:, list(t.child)] / size(x, sk)[:, None, None]
        )[:, 1]
        x = x[flat > 1e-2]  # Nothing in a straight or vanished figure says which way it faces
        if not len(x):
            continue
        for kw in OPTIONS:
            y = correct_pose(x, l, **kw)
            s = size(y, sk)[:, None, None]
            off = lambda a: ((a - y) / s).abs().flatten(1).amax(1)
            share = (
                0 if kind in ('natural', 'noisy', 'random', 'scrambled', 'huge', 'tiny') else 0.01
            )  # A bone exactly opposite its range: rounding decides the side
            assert (off(correct_pose(x @ Q.T, l, **kw) @ Q) > 1e-5).float().mean() <= share, (
                kind,
                kw,
            )
            assert (
                off(
                    correct_pose(x + torch.tensor([50.0, -80, 30.0]).double(), l, **kw)
                    - torch.tensor([50.0, -80, 30.0])
                )
                > 1e-5
            ).float().mean() <= share, (kind, kw)
            if kw.get('scale') is None:
                assert (off(correct_pose(x * 7.5, l, **kw) / 7.5) > 1e-5).float().mean() <= share, (
                    kind,
                    kw,
                )


@pytest.mark.parametrize('name', ['hand', 'body', 'star', 'chain'])
def test_one_by_one_is_the_batch(name, limits):
    x = torch.cat([v[:8] for v in absurd(SKELETONS[name]).values()])
    l = limits[name]
    assert torch.allclose(
        torch.cat([correct_pose(p[None], l) for p in x]), correct_pose(x, l), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize('name', ['hand', 'body', 'mouse', 'star', 'bone'])
def test_gradients(name, limits):
    sk, l = SKELETONS[name], limits[name]
    for x in (
        natural(sk, 1, 8).double(),
        natural(sk, 1, 9).double() + 8 * torch.randn(1, sk.n_joints, 3).double(),
    ):
        x = (x - x[:, sk.root, None]).requires_grad_()
        for kw in OPTIONS[:4:3]:
            assert torch.autograd.gradcheck(
                lambda v: correct_pose(v, l, **kw), x, eps=1e-5, atol=1e-4, rtol=1e-3
            ), kw
    for kind, x in absurd(sk, 100).items():
        for dtype in (torch.float32, torch.float64):
            v = x.to(dtype).requires_grad_()
            correct_pose(v, l).sum().backward()
            assert v.grad.isfinite().all(), (kind, dtype)


def test_scale_choices(limits):
    l = limits['hand']
    x = natural(HAND21, 50, 0) * 3
    ref = lambda y: (y[:, l.tree.child[l.reference]] - y[:, l.tree.parent[l.reference]]).norm(
        dim=-1
    )
    assert torch.allclose(ref(correct_pose(x, l, scale=80.0)), torch.full((50,), 80.0), rtol=1e-4)
    per = torch.linspace(60, 90, 50)
    assert torch.allclose(ref(correct_pose(x, l, scale=per)), per, rtol=1e-4)
    assert torch.allclose(
        ref(correct_pose(x, l, scale='source')), torch.full((50,), l.reference_length[1]), rtol=1e-4
    )
    assert torch.allclose(ref(correct_pose(x, l)), ref(x), rtol=1e-4)


def test_not_finite_input(limits):
    x = natural(HAND21, 4, 3)
    x[0, 3, 1] = float('nan')
    x[1] = float('inf')
    x[2, 0] = float('nan')
    l = limits['hand']
    assert (
        correct_pose(x, l).isfinite().all()
        and is_feasible(correct_pose(x, l), l).all()
        and is_feasible(x, l).tolist()[:3] == [False] * 3
    )
    assert torch.allclose(correct_pose(x, l)[3:], correct_pose(x[3:], l), atol=1e-2)


def test_plain_containers(limits, tmp_path):
    for n, l in limits.items():
        torch.save(l.to_dict(), tmp_path / 'l.pth')
        back = Limits.from_dict(torch.load(tmp_path / 'l.pth', weights_only=True))
        text = Limits.from_dict(json.loads(json.dumps(l.to_dict())))
        x = absurd(SKELETONS[n], 20)['noisy']
        for b in (back, text):
            assert torch.equal(correct_pose(x, b), correct_pose(x, l))


def test_table_and_mistakes(limits):
    l = limits['hand'].with_table(dict(index3=dict(flexion=(0, 30))))
    x = natural(HAND21, 100, 3)
    j = l.tree.child.index(HAND21.joints.index('index3'))
    a = joint_angles(correct_pose(x, l), l)[:, j, 0]
    assert a.min() > -0.1 and a.max() < 30.1 and joint_angles(x, l)[:, j, 0].max() > 40
    with pytest.raises(SkeletonError, match='loop'):
        estimate_limits(
            torch.randn(9, 3, 3), Skeleton('ring', ('a', 'b', 'c'), ((0, 1), (1, 2), (2, 0)))
        )
    with pytest.raises(DataError, match='at least 2'):
        estimate_limits(x[:1], HAND21)
    with pytest.raises(DataError, match='quantiles'):
        estimate_limits(x, HAND21, quantiles=(0.9, 0.1))
    with pytest.raises(DataError, match='16'):
        correct_pose(torch.zeros(2, 16, 3), l)
    with pytest.raises(SkeletonError):
        free_limits(HAND21, (0, 99))
    free = free_limits(HAND21, (4, 16))
    assert is_feasible(x, free).all() and torch.allclose(correct_pose(x, free), x, atol=1e-2)
