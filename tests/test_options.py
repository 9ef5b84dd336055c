"""Options of the training step, and switches for comparisons.

Activations computed twice, batches in parts and compiled networks must not change what is learned.
"""

from functools import partial
import matplotlib.pyplot as plt
import pytest
import torch
from fastai.callback.core import Callback, CancelStepException
from geomrecon.core.errors import ConfigError
from geomrecon.core.skeleton import HAND21
from geomrecon.data.augment import TensorPoses
from geomrecon.data.pairs import pose_dls
from geomrecon.learn import learner as learners
from geomrecon.learn.learner import adapt_learner, build_pose, pose_learner
from geomrecon.learn.presets import FIELDS, PRESETS, get_preset, preset_table
from geomrecon.learn.pseudo_label import LabelQuality
from geomrecon.models.bones import WARP_MODES
from geomrecon.models.memory import PARTS
from geomrecon.models.pose import DomainBatchNorm2d
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.use.ladder import reconstruction_strips
from geomrecon.use.model_file import load_model, save_model
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

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
    amp=False,
)


class FirstStep(Callback):
    "Keeps gradients and buffers of the first step of the optimiser"

    order = 20
    gradients = None
    buffers = None

    def before_step(self):
        self.gradients = {}
        for name, weight in self.model.named_parameters():
            if weight.grad is not None:
                self.gradients[name] = weight.grad.clone()
        self.buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        raise CancelStepException


class Unchanging(Callback):
    "Batch norm uses its running statistics, so that images do not depend on each other"

    order = 5

    def before_batch(self):
        for module in self.model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()


@pytest.fixture(scope='module')
def data():
    "Labelled source, validation images and target frames"
    source = PuppetImages(HAND21, 2000, 48, 'synthetic', seed=0)
    valid = PuppetImages(HAND21, 4, 48, 'synthetic', seed=1)
    return source, valid, PuppetVideos(HAND21, 1, 20, 48, 'real', seed=0).frames()


def one_step(learn, *cbs):
    "First step of the optimiser, and the means of all terms"
    first_step = FirstStep()
    torch.manual_seed(1)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=[first_step, *cbs])
    return first_step, learn.loss_history.means


def loaders(data):
    "One step of adaptation an epoch"
    return pose_dls(*data, steps=1, bs=4, bs_target=3, device='cpu', depth=True)


def adapted(data, cbs=(), **changes):
    "A learner that adapts an untrained net"
    torch.manual_seed(0)
    preset = get_preset(MINI, **changes)
    dls = loaders(data)
    return adapt_learner(dls, build_pose(HAND21, preset), preset, cbs=cbs)


def assert_close(one, other, tolerance):
    "Equal keys, and values that differ by little of the largest"
    assert one.keys() == other.keys()
    for name, value in one.items():
        value = torch.as_tensor(value)
        difference = (value - torch.as_tensor(other[name])).abs().max()
        assert difference <= tolerance * max(1, value.abs().max()), name


def assert_same_step(one, other, tolerance):
    "Terms, gradients and running statistics agree"
    first_step, terms = one
    other_step, other_terms = other
    assert_close(terms, other_terms, tolerance)
    assert_close(first_step.gradients, other_step.gradients, tolerance)
    assert_close(first_step.buffers, other_step.buffers, tolerance)


def is_recomputed(model):
    "Are activations of the generator computed twice?"
    return 'forward' in vars(model.generator.stem)


@pytest.mark.parametrize('amp', [False, True])
def test_activations_computed_twice(data, amp):
    "Same losses and gradients, and running statistics that have moved once"
    plain = adapted(data, amp=amp)
    twice = adapted(data, checkpointing=PARTS, amp=amp)
    assert is_recomputed(twice.model)
    assert not is_recomputed(plain.model)
    assert_same_step(one_step(plain), one_step(twice), 1e-6)
    assert int(twice.model.pose.encoder.layer1[0].bn1.target_batches_tracked) == 1


def test_unknown_part(data):
    with pytest.raises(ConfigError, match='heatmaps'):
        adapted(data, checkpointing=('heatmaps',))


def step_in_parts(samples, n_parts):
    "The first step on a batch of 8 in so many parts"
    torch.manual_seed(0)
    preset = get_preset(MINI, bs=8, steps=1, accumulate=n_parts)
    dls = pose_dls(samples, samples, **preset.sizes(False), device='cpu', depth=True)
    dls.train.tfm.train = False
    dls.train.shuffled = False
    return one_step(pose_learner(dls, preset), Unchanging())[0]


def test_batch_in_parts():
    "Without batch statistics, two halves of a batch give the gradients of the whole"
    labels = PuppetImages(HAND21, 2000, 48, 'synthetic', seed=0).batch(range(8))
    samples = TensorPoses(
        labels['image'],
        labels['keypoints'].clamp(-0.9, 0.9),
        torch.ones(8, 21),
        HAND21,
        labels['joints3d'],
        labels['intrinsics'],
    )
    whole = step_in_parts(samples, 1)
    halves = step_in_parts(samples, 2)
    for name, gradient in whole.gradients.items():
        difference = (gradient - halves.gradients[name]).abs().max()
        assert difference <= 1e-6 * max(1, gradient.abs().max()), name
    with pytest.raises(ConfigError, match='divisor'):
        get_preset(MINI, bs=8, accumulate=3).sizes(False)


def test_compiled_networks(data, monkeypatch):
    """Same gradients, one graph per network and state of `domain_split`, none broken.

    Compiling to machine code takes minutes on a CPU and is left out here.
    """
    quickly = partial(learners.compile_parts, backend='aot_eager')
    monkeypatch.setattr(learners, 'compile_parts', quickly)
    counters.clear()
    plain = one_step(adapted(data))
    compiled = one_step(adapted(data, compile=True))
    assert_same_step(plain, compiled, 1e-4)
    assert not counters['graph_break']
    assert counters['stats']['unique_graphs'] <= 5


FORWARD = torch.ops.aten.convolution
BACKWARD = torch.ops.aten.convolution_backward


def must_be_copied(argument):
    "Is this an image batch in another layout than channels last?"
    if not isinstance(argument, torch.Tensor) or argument.ndim != 4:
        return False
    if argument.shape[1] <= 3 or min(argument.shape[2:]) <= 1:
        return False
    return not argument.is_contiguous(memory_format=torch.channels_last)


class Layouts(TorchDispatchMode):
    "Shapes of what convolutions would have to copy"

    def __init__(self):
        super().__init__()
        self.copied = {FORWARD: [], BACKWARD: []}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        operation = func._overloadpacket
        if operation in self.copied:
            for argument in args[:3]:
                if must_be_copied(argument):
                    self.copied[operation].append(tuple(argument.shape))
        return func(*args, **(kwargs or {}))


class WatchLayouts(Callback):
    "Layouts of a step, forward and backward"

    order = -100

    def before_batch(self):
        self.layouts = Layouts()
        self.layouts.__enter__()

    def before_step(self):
        self.layouts.__exit__(None, None, None)


def test_channels_last_survives(data):
    """Forward and backward, only two things come in another layout.

    These are what W is shown (put together from maps), and the gradient of its masks (a softmax).
    """
    learn = adapted(data)
    watch = WatchLayouts()
    one_step(learn, watch)
    n_in = learn.model.warp.hourglass.stem[0].in_channels
    n_out = HAND21.n_bones + 1
    copied = watch.layouts.copied
    assert {shape[1] for shape in copied[FORWARD]} <= {n_in}
    assert {shape[1] for shape in copied[BACKWARD]} <= {n_in, n_out}


SWITCHES = [
    dict(reconstruct='heatmaps'),
    dict(split_bn=False),
    dict(labels_3d=False),
    dict(features='random'),
    dict(features='pixels'),
    *[dict(warp_mode=mode) for mode in WARP_MODES[1:]],
    dict(reconstruct='heatmaps', split_bn=False, labels_3d=False, features='random'),
]


def head_gradient(learn, reconstruct):
    "Gradient of the reconstruction error alone at the heatmap head"
    model = learn.model
    model.zero_grad()
    base, driving = torch.rand(2, 3, 3, 48, 48)
    image = model(base, base, driving, reconstruct=reconstruct)['recon']['image']
    learn.reconstruct.perceptual(image, driving).backward()
    gradient = model.pose.head.weight.grad
    return 0.0 if gradient is None else gradient.abs().sum().item()


@pytest.mark.parametrize('changes', SWITCHES, ids=str)
def test_switch_trains(data, changes):
    "Every term and every gradient is finite; the reconstruction moves the pose net"
    learn = adapted(data, decay=0.9, **changes)
    first_step, terms = one_step(learn)
    assert set(terms) >= {'sup', 'depth', 'pseudo', 'rec'}
    for term, value in terms.items():
        assert torch.tensor(value).isfinite(), term
    assert terms['rec'] > 0
    for name, gradient in first_step.gradients.items():
        assert gradient.isfinite().all(), name
    assert first_step.gradients['generator.paint.weight'].abs().sum() > 0
    # nothing is idle
    parts = {'pose', 'generator'}
    if changes.get('reconstruct') != 'heatmaps':
        parts.add('warp')
    assert {name.split('.')[0] for name in first_step.gradients} == parts
    is_split = any(isinstance(module, DomainBatchNorm2d) for module in learn.model.modules())
    assert is_split == changes.get('split_bn', True)
    assert head_gradient(learn, 'detached') == 0
    assert head_gradient(learn, 'attached') > 0


def test_heatmaps_without_warp(data, tmp_path):
    "Stands beside the usual net in every place: activations computed twice, file, report"
    plain = adapted(data, reconstruct='heatmaps', checkpointing=())
    twice = adapted(data, reconstruct='heatmaps', checkpointing=PARTS)
    assert_same_step(one_step(plain), one_step(twice), 1e-6)
    assert is_recomputed(twice.model)

    preset = get_preset(MINI, reconstruct='heatmaps')
    save_model(tmp_path / 'm.pth', plain.model, HAND21, preset)
    loaded, _, loaded_preset, _ = load_model(tmp_path / 'm.pth')
    assert loaded_preset == preset
    assert loaded.warp is None
    saved_and_loaded = zip(plain.model.state_dict().values(), loaded.state_dict().values())
    for weight, loaded_weight in saved_and_loaded:
        assert torch.equal(weight, loaded_weight)

    # a warp has a second picture, of its bone maps and masks
    frames, pairs = data[2], ([0, 1], [5, 6])
    assert len(reconstruction_strips(loaded, frames, pairs, HAND21)) == 1
    assert len(reconstruction_strips(adapted(data).model, frames, pairs, HAND21)) == 2
    plt.close('all')


def test_labels_of_heatmaps_alone(data):
    "A net with depth keeps its depth term; labels and their quality know one mask"
    labelled = PuppetVideos(HAND21, 1, 20, 48, 'real', seed=0)
    learn = adapted(data, cbs=[LabelQuality(labelled, 8)], labels_3d=False)
    _, terms = one_step(learn)
    assert learn.pseudo_label.limits is None
    assert terms['depth'] > 0
    assert not {'M_2D', 'M_3D', 'pseudo_3d'} & set(terms)
    quality = learn.label_quality.epochs[-1]
    assert quality['selected'] == quality['selected_2d']
    assert quality['selected_3d'] == 0


def test_joint_statistics(data):
    "Source images move what a target image is normalised with: training, labelling, prediction"
    learn = adapted(data, split_bn=False, decay=0.9)
    images = data[2].images(range(4))
    before = learn.model.predict(images)[1]
    one_step(learn)
    model = learn.model
    teacher = learn.pseudo_label.teacher
    for name in (*model.state_dict(), *teacher.state_dict()):
        assert 'target_mean' not in name
    assert int(model.pose.encoder.bn1.num_batches_tracked) == 1
    of_target = model.predict(images, 'target')[0]
    of_source = model.predict(images, 'source')[0]
    assert torch.equal(of_target, of_source)
    assert not torch.equal(model.predict(images)[1], before)


def test_temperature_of_adaptation_alone(data):
    "`beta` is used in decoding only: a net pre-trained with one adapts with another"
    source, valid, frames = data
    torch.manual_seed(0)
    dls = pose_dls(source, valid, steps=2, bs=4, device='cpu', depth=True)
    pretrained = pose_learner(dls, get_preset(MINI, beta=20.0))
    with pretrained.no_bar(), pretrained.no_logging():
        pretrained.fit(1)

    def adapted_with(beta):
        torch.manual_seed(0)
        return adapt_learner(loaders(data), pretrained.model.pose, get_preset(MINI, beta=beta))

    warm, cold = adapted_with(20.0), adapted_with(40.0)
    assert pretrained.model.beta == 20.0
    assert warm.model.beta == 20.0
    assert cold.model.beta == 40.0
    images = frames.images(range(4)) / 255.0
    with torch.no_grad():
        warm_maps = warm.model.eval().heatmaps(images, 0)
        cold_maps = cold.model.eval().heatmaps(images, 0)
    assert torch.equal(warm_maps, cold_maps)
    _, warm_terms = one_step(warm)
    _, cold_terms = one_step(cold)
    assert warm_terms['sup'] == cold_terms['sup']
    assert warm_terms['pseudo_3d'] != cold_terms['pseudo_3d']
    assert warm_terms['rec'] != cold_terms['rec']


@pytest.mark.parametrize('name', PRESETS)
def test_switches_are_off(name):
    "No preset uses what is there for comparisons"
    preset = PRESETS[name]
    assert preset.reconstruct == 'warp'
    assert preset.split_bn is True
    assert preset.labels_3d is True
    assert preset.warp_mode == 'endpoints'
    assert preset.features in ('vgg19', 'encoder')


def test_switches_are_described():
    "Each switch has an origin and says what it may be"
    switches = {'reconstruct', 'split_bn', 'labels_3d', 'warp_mode', 'features'}
    assert switches <= set(FIELDS)
    assert set(FIELDS) == set(preset_table().index)
    for field in FIELDS.values():
        assert field.origin, field.name
    for name in ('warp_mode', 'reconstruct'):
        with pytest.raises(ConfigError, match=name):
            get_preset('tiny', **{name: 'magic'})
