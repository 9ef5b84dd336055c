"""Between the loader and the optimiser's step the host never waits for the device, and no loop runs over samples.

On the CPU a wait costs nothing and leaves no trace of its own, so three things are watched:

- calls that read a tensor on the host or send Python numbers to the device,
- operators that do so inside PyTorch,
- the number of operators, which must not depend on the batch.

On a GPU PyTorch's own check is switched on as well.
"""

import collections
import numpy as np
import pytest
import torch
from fastai.torch_core import to_device
from fastai.callback.core import Callback
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from geomrecon.data.augment import PoseAugment, TensorPoses
from geomrecon.data.batch import Batch
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
# fmt: off
READS = {
    'item', 'tolist', 'numpy', 'cpu', '__bool__', '__float__', '__int__', '__index__',
    'nonzero', 'unique', 'masked_select', 'argwhere',
}
WAITING_OPERATORS = (
    'aten::_local_scalar_dense', 'aten::item', 'aten::nonzero', 'aten::masked_select',
    'aten::_unique2', 'aten::is_nonzero', 'aten::equal', 'aten::allclose',
)
LAPACK = (
    'svd', '_eig', '_qr', 'geqrf', 'cholesky', 'lu_factor', 'lstsq', '_solve',
    'linalg_inv', 'linalg_det', 'linalg_pinv', 'linalg_matrix_norm',
)
# fmt: on


def sends_numbers(name, args, kwargs):
    "Does this call make a tensor of Python numbers on a device?"
    if name == 'new_tensor':
        return True
    on_device = kwargs.get('device') is not None
    if name == 'tensor':
        return on_device  # Without, it stays on the host
    return name == 'as_tensor' and on_device and not isinstance(args[0], torch.Tensor)


def indexes_by_value(name, args):
    "Is a tensor indexed with a list or a mask?"
    if name not in ('__getitem__', '__setitem__'):
        return False
    index = args[1] if isinstance(args[1], tuple) else (args[1],)
    for part in index:
        if isinstance(part, list):
            return True
        if isinstance(part, torch.Tensor) and part.dtype in (torch.bool, torch.uint8) and part.ndim:
            return True
    return False


class HostTalk(TorchFunctionMode):
    "Names of the calls that make the host wait on a GPU"

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, '__name__', str(func))
        if indexes_by_value(name, args):
            self.calls.append(f'{name} with a list or mask')
        elif name in READS or sends_numbers(name, args, kwargs):
            self.calls.append(name)
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
        self.operators = []
        self.n_steps = 0

    def before_batch(self):
        if device == 'cuda' and self.n_steps:
            torch.cuda.set_sync_debug_mode('error')
        self.inside.calls.clear()
        self.after.calls.clear()
        self.profiler = profile(activities=[ProfilerActivity.CPU])
        self.profiler.__enter__()
        self.inside.__enter__()
        self.operators.append(Operators())
        self.operators[-1].__enter__()

    def before_step(self):
        self.end_first_window()
        self.after.__enter__()

    def end_first_window(self):
        self.operators[-1].__exit__(None, None, None)
        self.inside.__exit__(None, None, None)
        self.profiler.__exit__(None, None, None)
        if device == 'cuda':
            torch.cuda.set_sync_debug_mode('default')
        names = [event.key for event in self.profiler.events()]
        self.events.append(collections.Counter(n for n in names if n.startswith('aten::')))
        self.n_steps += 1


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
    "Skeleton, rendered images for training and validation, and frames of a video"
    skeleton = get_skeleton('hand')
    return (
        skeleton,
        PuppetImages(skeleton, 2000, 48, 'synthetic', seed=0),
        PuppetImages(skeleton, 4, 48, 'synthetic', seed=1),
        PuppetVideos(skeleton, 1, 20, 48, 'real', seed=0).frames(),
    )


def pre_training(data, preset, bs, steps):
    _, source, valid, frames = data
    net = StyleNet(ConvEncoder((4, 8)), 2)
    dls = pose_dls(source, valid, steps=steps, bs=bs, device=device, depth=True, aug=preset.aug)
    stylise = Stylise(net.to(device), style_stats(net, frames))
    return pose_learner(dls, preset, restyle=stylise.stylise)


def adaptation(data, preset, bs, bs_target, steps):
    skeleton, source, valid, frames = data
    dls = pose_dls(
        source,
        valid,
        frames,
        steps=steps,
        bs=bs,
        bs_target=bs_target,
        device=device,
        depth=True,
        aug=preset.aug,
    )
    return adapt_learner(dls, build_pose(skeleton, preset), preset)


def run(kind, data, bs=4, bs_target=3, steps=2):
    "What `Watch` saw of a few steps of a stage with every term"
    torch.manual_seed(0)
    if kind == 'pre-training':
        learn = pre_training(data, get_preset(MINI), bs, steps)
    else:
        learn = adaptation(data, get_preset(MINI), bs, bs_target, steps)
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
    assert [name for name in WAITING_OPERATORS if seen[name]] == []
    assert [name for name in seen if any(word in name for word in LAPACK)] == []


@pytest.mark.parametrize('kind', TERMS)
def test_fastai_reads_the_loss_once_a_step(kind, watched):
    """What remains is fastai's own: its `Recorder` takes the loss to the CPU, once a step

    (and every 25 steps `LossHistory` looks for NaN).
    """
    watch, _ = watched[kind]
    assert watch.after.calls == ['cpu']


def test_augmentation_does_not_wait(data):
    skeleton, source, _, frames = data
    augment = PoseAugment(skeleton, flip=0.5, cutout=0.3)
    labelled = source.batch(range(4))
    batch = Batch.of(
        source=labelled['image'],
        base=frames.images(range(4)),
        driving=frames.images(range(4, 8)),
        cam_base=labelled['intrinsics'],
        cam_driving=labelled['intrinsics'],
        keypoints=labelled['keypoints'],
        visible=labelled['visible'],
        depth=torch.rand(4, skeleton.n_joints),
    )
    batch = to_device(batch, device)
    augment.encodes(batch)
    with HostTalk() as talk:
        augment.encodes(batch)
    assert talk.calls == []


def differing(few, many):
    "Operators whose number differs, with both numbers"
    names = few | many
    return {name: (few[name], many[name]) for name in names if few[name] != many[name]}


def operators_of(watch):
    "How often each operator ran in the last step"
    return watch.operators[-1].count


@pytest.mark.parametrize('kind', TERMS)
def test_no_loop_over_samples(kind, data, watched):
    "A larger batch is the same operators on larger tensors"
    small, _ = watched[kind]
    large, _ = run(kind, data, bs=8, bs_target=6)
    assert differing(operators_of(small), operators_of(large)) == {}


def fan(fingers):
    "As `data`, of a hand with that many fingers: images of noise, random joints"
    g = torch.Generator().manual_seed(0)
    n_joints, n = 1 + 3 * fingers, 64
    bones = []
    for first in range(1, n_joints, 3):
        bones += [(0, first), (first, first + 1), (first + 1, first + 2)]
    names = tuple(f'j{i}' for i in range(n_joints))
    skeleton = Skeleton(f'fan{fingers}', names, tuple(bones))
    xyz = torch.randn(n, n_joints, 3, generator=g) * 40 + torch.tensor([0.0, 0, 600])
    camera = torch.tensor([[150.0, 0, 24], [0, 150, 24], [0, 0, 1]])
    camera = camera.expand(n, 3, 3).contiguous()
    images = torch.randint(0, 255, (n, 3, 48, 48), generator=g, dtype=torch.uint8)
    joints = torch.rand(n, n_joints, 2, generator=g) * 1.6 - 0.8
    visible = torch.ones(n, n_joints)
    source = TensorPoses(images, joints, visible, skeleton, xyz, camera)
    centre = torch.zeros(4, n_joints, 2)
    valid = TensorPoses(images[:4], centre, visible[:4], skeleton, xyz[:4], camera[:4])
    return skeleton, source, valid, Frames(images, np.zeros(n, int), np.arange(n), camera)


@pytest.mark.parametrize('kind', TERMS)
def test_no_loop_over_joints(kind):
    "More joints, in a tree of the same depth, are the same operators as well"
    few, _ = run(kind, fan(3))
    many, _ = run(kind, fan(6))
    assert differing(operators_of(few), operators_of(many)) == {}


def on_a_pretended_gpu(module):
    "Replace what the module holds by tensors without contents"
    for name, parameter in module._parameters.items():
        if parameter is not None:
            empty = torch.empty_like(parameter, device='cuda')
            module._parameters[name] = torch.nn.Parameter(empty)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = torch.empty_like(buffer, device='cuda')


@pytest.mark.skipif(
    torch.cuda.is_available(), reason='where there is a GPU, the other tests use it'
)
def test_forward_pass_on_a_pretended_gpu(data):
    "With tensors that only pretend to be on a GPU: nothing of a step is left on the CPU"
    skeleton, source, _, _ = data
    limits = source_limits(source)
    size = MINI.size
    model = PoseAdapter(
        build_pose(skeleton, MINI), WarpEstimator(skeleton.bones, width=8, stride=2), Generator(8)
    )
    perceptual = PerceptualLoss(model.pose, scales=(1, 0.5))
    augment = PoseAugment(skeleton, flip=0.5, cutout=0.3)
    pretend = FakeTensorMode(allow_non_fake_inputs=True)
    with pretend, torch.device('cuda'):
        for module in [*model.modules(), *perceptual.modules()]:
            on_a_pretended_gpu(module)
        image = torch.zeros(4, 3, size, size, dtype=torch.uint8)
        camera = torch.rand(4, 3, 3)
        joints = torch.rand(4, skeleton.n_joints, 2)
        visible = torch.ones(4, skeleton.n_joints, dtype=torch.bool)
    with pretend:
        batch = Batch.of(
            source=image,
            base=image,
            driving=image,
            cam_base=camera,
            cam_driving=camera,
            keypoints=joints,
            visible=visible,
            depth=joints[..., 0],
        )
        loss = loss_of_all_terms(model, perceptual, augment.encodes(batch), skeleton, limits)
    assert loss.device.type == 'cuda'


def loss_of_all_terms(model, perceptual, batch, skeleton, limits):
    out = model(batch.source, batch.base, batch.driving, reconstruct='attached')
    heatmaps, depth_maps = out['base'], out['depth_base']
    labels = integrated_labels(
        heatmaps,
        depth_maps,
        batch.cam_base,
        batch.matrix,
        size=batch.base_clean.shape[-2:],
        flip_index=skeleton.flip_index,
        limits=limits,
    )
    mask_2d, mask_3d = labels.masks(True)
    encoder = model.pose.encoder
    return (
        heatmap_loss(out['heatmaps'], batch.keypoints, batch.visible)
        + depth_loss(out['depth'], batch.depth, batch.visible)
        + heatmap_loss(heatmaps, labels.kp, mask_2d)
        + pose_loss(decode(heatmaps), depth_maps, labels.kp_3d, labels.depth_3d, mask_3d)
        + perceptual(out['recon']['image'], batch.driving)
        + align_loss(pooled(encoder(batch.source)), pooled(encoder(jitter(batch.source))))
    )
