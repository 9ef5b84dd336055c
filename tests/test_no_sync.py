"""Between the loader and the optimiser's step the host never waits for the device, and no loop runs over samples.

On the CPU a wait costs nothing and leaves no trace of its own, so three things are watched: calls that read a tensor on the host or send Python numbers to the device,
operators that do so inside PyTorch, and the number of operators, which must not depend on the batch. On a GPU PyTorch's own check is switched on as well."""

import collections
import numpy as np, pytest, torch
from fastai.callback.core import Callback
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from geomrecon.data.augment import PoseAugment, TensorPoses
from geomrecon.data.pairs import pose_dls
from geomrecon.puppet.videos import Frames, PuppetVideos
from geomrecon.puppet.images import PuppetImages
from geomrecon.core.heatmap import decode
from geomrecon.learn.learner import adapt_learner, build_pose, pose_learner, source_limits
from geomrecon.learn.presets import get_preset
from geomrecon.losses.align import align_loss, jitter, pooled
from geomrecon.losses.pseudo import integrated_labels, pose_loss
from geomrecon.losses.supervised import depth_loss, heatmap_loss
from geomrecon.models.adapter import PoseAdapter
from geomrecon.models.generator import Generator
from geomrecon.models.perceptual import PerceptualLoss
from geomrecon.models.style import ConvEncoder, StyleNet
from geomrecon.models.stylise import Stylise, style_stats
from geomrecon.models.warp import WarpEstimator
from geomrecon.core.skeleton import Skeleton, get_skeleton

device = 'cuda' if torch.cuda.is_available() else 'cpu'
MINI = get_preset(
    'tiny',
    depth=True,
    size=48,
    width=0.25,
    deconv_width=32,
    warp_width=8,
    gen_width=8,
    gen_res=1,
    rec_start=0.0,
    rec_attach=0.0,
    integrate=0.0,
)
READS = {
    'item',
    'tolist',
    'numpy',
    'cpu',
    '__bool__',
    '__float__',
    '__int__',
    '__index__',
    'nonzero',
    'unique',
    'masked_select',
    'argwhere',
}
OPS = (
    'aten::_local_scalar_dense',
    'aten::item',
    'aten::nonzero',
    'aten::masked_select',
    'aten::_unique2',
    'aten::is_nonzero',
    'aten::equal',
    'aten::allclose',
)
LAPACK = (
    'svd',
    '_eig',
    '_qr',
    'geqrf',
    'cholesky',
    'lu_factor',
    'lstsq',
    '_solve',
    'linalg_inv',
    'linalg_det',
    'linalg_pinv',
    'linalg_matrix_norm',
)


class HostTalk(TorchFunctionMode):
    "Names of the calls that make the host wait on a GPU: reading values, making tensors of Python numbers, indexing with lists or masks"

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, '__name__', str(func))
        made = (
            name in ('tensor', 'new_tensor')
            or name == 'as_tensor'
            and not isinstance(args[0], torch.Tensor)
            and kwargs.get('device') is not None
        )
        if made and name == 'tensor' and kwargs.get('device') is None:
            made = False  # Stays on the host
        index = args[1] if name in ('__getitem__', '__setitem__') else ()
        index = index if isinstance(index, tuple) else (index,)
        by_value = any(
            isinstance(i, list)
            or isinstance(i, torch.Tensor)
            and i.dtype in (torch.bool, torch.uint8)
            and i.ndim
            for i in index
        )
        if name in READS or made or by_value:
            self.calls.append(name if not by_value else f'{name} with a list or mask')
        return func(*args, **kwargs)


class Operators(TorchDispatchMode):
    "Counts operators, before any kernel is chosen for them"

    def __init__(self):
        super().__init__()
        self.count = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count[str(func)] += 1
        return func(*args, **(kwargs or {}))


class Watch(Callback):
    "Watches each training step from the batch to the optimiser's step, and the rest of the step apart"

    order, run_valid = -100, False

    def __init__(self):
        self.inside = HostTalk()
        self.after = HostTalk()
        self.events = []
        self.ops = []
        self.n = 0

    def before_batch(self):
        if device == 'cuda' and self.n:
            torch.cuda.set_sync_debug_mode('error')
        self.inside.calls.clear()
        self.after.calls.clear()
        self.prof = profile(activities=[ProfilerActivity.CPU])
        self.prof.__enter__()
        self.inside.__enter__()
        self.ops.append(Operators())
        self.ops[-1].__enter__()

    def before_step(self):
        self.window()
        self.after.__enter__()

    def window(self):
        self.ops[-1].__exit__(None, None, None)
        self.inside.__exit__(None, None, None)
        self.prof.__exit__(None, None, None)
        if device == 'cuda':
            torch.cuda.set_sync_debug_mode('default')
        self.events.append(
            collections.Counter(e.key for e in self.prof.events() if e.key.startswith('aten::'))
        )
        self.n += 1


class Leave(Callback):
    "Ends `Watch`'s second window when everything else has seen the batch"

    order, run_valid = 10000, False

    def after_batch(self):
        self.watch.after.__exit__(None, None, None)


@pytest.fixture(scope='module')
def watched(data):
    "Each stage once, for the tests that look at the same steps"
    return {kind: run(kind, data) for kind in TERMS}


@pytest.fixture(scope='module')
def data():
    sk = get_skeleton('hand')
    return (
        sk,
        PuppetImages(sk, 2000, 48, 'synthetic', seed=0),
        PuppetImages(sk, 4, 48, 'synthetic', seed=1),
        PuppetVideos(sk, 1, 20, 48, 'real', seed=0).frames(),
    )


def run(kind, data, bs=4, n=3, steps=2, **changes):
    "What `Watch` saw of a few steps of a stage with every term"
    sk, src, val, frames = data
    torch.manual_seed(0)
    p = get_preset(MINI, **changes)
    if kind == 'pre-training':
        net = StyleNet(ConvEncoder((4, 8)), 2)
        dls = pose_dls(src, val, steps=steps, bs=bs, device=device, depth=True, aug=p.aug)
        learn = pose_learner(
            dls, p, restyle=Stylise(net.to(device), style_stats(net, frames)).stylise
        )
    else:
        dls = pose_dls(
            src, val, frames, steps=steps, bs=bs, bs_target=n, device=device, depth=True, aug=p.aug
        )
        learn = adapt_learner(dls, build_pose(sk, p), p)
    watch, leave = Watch(), Leave()
    leave.watch = watch
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=[watch, leave])
    return watch, set(learn.loss_history.means)


TERMS = {
    'pre-training': {'align', 'depth', 'sup'},
    'adaptation': {'M_2D', 'M_3D', 'depth', 'labelled', 'pseudo', 'pseudo_3d', 'rec', 'sup'},
}


@pytest.mark.parametrize('kind', TERMS)
def test_host_does_not_wait(kind, watched):
    "From the second step on: in the first, tables of the skeleton are sent to the device"
    watch, terms = watched[kind]
    assert terms == TERMS[kind], 'a term was not on'
    assert watch.inside.calls == []
    seen = watch.events[-1]
    assert {k: seen[k] for k in OPS if seen[k]} == {}
    assert [k for k in seen if any(w in k for w in LAPACK)] == []


@pytest.mark.parametrize('kind', TERMS)
def test_fastai_reads_the_loss_once_a_step(kind, watched):
    "What remains is fastai's own: its `Recorder` takes the loss to the CPU, once a step (and every 25 steps `LossHistory` looks for NaN)"
    watch, _ = watched[kind]
    assert watch.after.calls == ['cpu']


def test_augmentation_does_not_wait(data):
    sk, src, _, frames = data
    aug = PoseAugment(sk, flip=0.5, cutout=0.3, depth=True)
    b = src.batch(range(4))
    x = [
        t.to(device)
        for t in (
            b['image'],
            *(frames.images(range(i, i + 4)) for i in (0, 4)),
            *(b['intrinsics'],) * 2,
            b['keypoints'],
            b['visible'],
            torch.rand(4, sk.n_joints),
        )
    ]
    aug.encodes(x)
    with HostTalk() as talk:
        aug.encodes(x)
    assert talk.calls == []


@pytest.mark.parametrize('kind', TERMS)
def test_no_loop_over_samples(kind, data, watched):
    "A larger batch is the same operators on larger tensors"
    small = watched[kind][0].ops[-1].count
    large = run(kind, data, bs=8, n=6)[0].ops[-1].count
    assert {k: (small[k], large[k]) for k in small | large if small[k] != large[k]} == {}


def fan(fingers):
    "Unlabelled images, labelled ones and skeleton of a hand with that many fingers"
    g = torch.Generator().manual_seed(0)
    K, N = 1 + 3 * fingers, 64
    bones = tuple(
        b
        for f in range(fingers)
        for b in ((0, 1 + 3 * f), (1 + 3 * f, 2 + 3 * f), (2 + 3 * f, 3 + 3 * f))
    )
    sk = Skeleton(f'fan{fingers}', tuple(f'j{i}' for i in range(K)), bones)
    xyz = torch.randn(N, K, 3, generator=g) * 40 + torch.tensor([0.0, 0, 600])
    cam = torch.tensor([[150.0, 0, 24], [0, 150, 24], [0, 0, 1]]).expand(N, 3, 3).contiguous()
    img = torch.randint(0, 255, (N, 3, 48, 48), generator=g, dtype=torch.uint8)
    return (
        sk,
        TensorPoses(
            img, torch.rand(N, K, 2, generator=g) * 1.6 - 0.8, torch.ones(N, K), sk, xyz, cam
        ),
        TensorPoses(img[:4], torch.zeros(4, K, 2), torch.ones(4, K), sk, xyz[:4], cam[:4]),
        Frames(img, np.zeros(N, int), np.arange(N), cam),
    )


@pytest.mark.parametrize('kind', TERMS)
def test_no_loop_over_joints(kind):
    "More joints, in a tree of the same depth, are the same operators as well"
    few, many = (run(kind, fan(n))[0].ops[-1].count for n in (3, 6))
    assert {k: (few[k], many[k]) for k in few | many if few[k] != many[k]} == {}


@pytest.mark.skipif(
    torch.cuda.is_available(), reason='where there is a GPU, the other tests use it'
)
def test_forward_pass_on_a_pretended_gpu(data):
    "With tensors that only pretend to be on a GPU: nothing of a step is left on the CPU"
    sk, src, _, _ = data
    limits = source_limits(src)
    size = MINI.size
    model = PoseAdapter(
        build_pose(sk, MINI), WarpEstimator(sk.bones, width=8, stride=2), Generator(8)
    )
    model.mode = 'attached'
    perceptual = PerceptualLoss(model.pose, scales=(1, 0.5))
    pretend = FakeTensorMode(allow_non_fake_inputs=True)
    with pretend, torch.device('cuda'):
        for m in [*model.modules(), *perceptual.modules()]:
            m._parameters.update(
                {
                    n: torch.nn.Parameter(torch.empty_like(p, device='cuda'))
                    for n, p in m._parameters.items()
                    if p is not None
                }
            )
            m._buffers.update(
                {
                    n: torch.empty_like(b, device='cuda')
                    for n, b in m._buffers.items()
                    if b is not None
                }
            )
        img = torch.zeros(4, 3, size, size, dtype=torch.uint8)
        K = torch.rand(4, 3, 3)
        kp = torch.rand(4, sk.n_joints, 2)
        batch = (img, img, img, K, K, kp, torch.ones(4, sk.n_joints, dtype=torch.bool), kp[..., 0])
    with pretend:
        src, base, drv, clean, _, M, K, _, kp, vis, d = PoseAugment(
            sk, flip=0.5, cutout=0.3, depth=True
        ).encodes(batch)
        o = model(*(x.float() for x in (src, base, drv)))
        t = integrated_labels(
            o['base'], o['depth_base'], K, M, clean.shape[-2:], sk.flip_index, limits
        )
        m2, m3 = t.masks(True)
        loss = (
            heatmap_loss(o['heatmaps'], kp, vis)
            + depth_loss(o['depth'], d, vis)
            + heatmap_loss(o['base'], t.kp, m2)
            + pose_loss(decode(o['base']), o['depth_base'], t.kp_3d, t.depth_3d, m3)
        )
        loss = (
            loss
            + perceptual(o['recon']['image'], drv)
            + align_loss(pooled(model.pose.encoder(src)), pooled(model.pose.encoder(jitter(src))))
        )
    assert loss.device.type == 'cuda'
