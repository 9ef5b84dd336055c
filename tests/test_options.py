"Options of the training step that must not change what is learned (activations computed twice, batches in parts, compiled networks), and switches that exist for comparisons."

from functools import partial
import matplotlib.pyplot as plt, pytest, torch
from fastai.callback.core import Callback, CancelStepException
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode
from geomrecon.data.augment import TensorPoses
from geomrecon.data.pairs import pose_dls
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.use.ladder import reconstruction_strips
from geomrecon.core.errors import ConfigError
from geomrecon.learn import learner as learners
from geomrecon.learn.presets import FIELDS, PRESETS, get_preset, preset_table
from geomrecon.learn.learner import adapt_learner, build_pose, pose_learner
from geomrecon.learn.pseudo_label import LabelQuality
from geomrecon.models.bones import WARP_MODES
from geomrecon.models.memory import PARTS
from geomrecon.models.pose import DomainBatchNorm2d
from geomrecon.use.model_file import load_model, save_model
from geomrecon.core.skeleton import HAND21

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


class Grads(Callback):
    "Keeps the gradients of the first step of the optimiser"

    order, kept, stats = 20, None, None

    def before_step(self):
        self.kept = {
            n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None
        }
        self.stats = {n: b.clone() for n, b in self.model.named_buffers()}
        raise CancelStepException


class Unchanging(Callback):
    "Batch norm uses its running statistics, so that images do not depend on each other"

    order = 5

    def before_batch(self):
        for m in self.model.modules():
            if isinstance(m, torch.nn.modules.batchnorm._BatchNorm):
                m.eval()


@pytest.fixture(scope='module')
def data():
    return (
        PuppetImages(HAND21, 2000, 48, 'synthetic', seed=0),
        PuppetImages(HAND21, 4, 48, 'synthetic', seed=1),
        PuppetVideos(HAND21, 1, 20, 48, 'real', seed=0).frames(),
    )


def one_step(learn, *cbs):
    "Gradients and running statistics of the first step of the optimiser, and the means of all terms"
    seen = Grads()
    torch.manual_seed(1)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=[seen, *cbs])
    return seen, learn.loss_history.means


def adapted(data, **changes):
    src, val, frames = data
    torch.manual_seed(0)
    p = get_preset(MINI, **changes)
    return adapt_learner(
        pose_dls(src, val, frames, steps=1, bs=4, bs_target=3, device='cpu', depth=True),
        build_pose(HAND21, p),
        p,
    )


def agree(a, b, tol):
    (a, terms), (b, others) = a, b
    assert terms.keys() == others.keys() and a.kept.keys() == b.kept.keys()
    for x, y in ((terms, others), (a.kept, b.kept), (a.stats, b.stats)):
        for n, v in x.items():
            v, w = torch.as_tensor(v), torch.as_tensor(y[n])
            assert (v - w).abs().max() <= tol * max(1, v.abs().max()), n


@pytest.mark.parametrize('amp', [False, True])
def test_activations_computed_twice(data, amp):
    "Same losses and gradients, and running statistics that have moved once"
    plain = adapted(data, amp=amp)
    twice = adapted(data, checkpointing=PARTS, amp=amp)
    assert 'forward' in vars(twice.model.generator.stem) and 'forward' not in vars(
        plain.model.generator.stem
    )
    agree(one_step(plain), one_step(twice), 1e-6)
    assert int(twice.model.pose.encoder.layer1[0].bn1.target_batches_tracked) == 1


def test_unknown_part(data):
    with pytest.raises(ConfigError, match='heatmaps'):
        adapted(data, checkpointing=('heatmaps',))


def test_batch_in_parts():
    "Without batch statistics, two halves of a batch give the gradients of the whole"
    src = PuppetImages(HAND21, 2000, 48, 'synthetic', seed=0)
    b = src.batch(range(8))
    whole = TensorPoses(
        b['image'],
        b['keypoints'].clamp(-0.9, 0.9),
        torch.ones(8, 21),
        HAND21,
        b['joints3d'],
        b['intrinsics'],
    )

    def grads(n):
        torch.manual_seed(0)
        p = get_preset(MINI, bs=8, steps=1, accumulate=n)
        dls = pose_dls(whole, whole, **p.sizes(False), device='cpu', depth=True)
        dls.train.tfm.train = False
        dls.train.shuffled = False
        return one_step(pose_learner(dls, p), Unchanging())

    (a, _), (b, _) = grads(1), grads(2)
    for n, g in a.kept.items():
        assert (g - b.kept[n]).abs().max() <= 1e-6 * max(1, g.abs().max()), n
    with pytest.raises(ConfigError, match='divisor'):
        get_preset(MINI, bs=8, accumulate=3).sizes(False)


def test_compiled_networks(data, monkeypatch):
    "Same gradients, one graph per network and state of `domain_split`, none broken; compiling to machine code takes minutes on a CPU and is left out here"
    monkeypatch.setattr(
        learners, 'compile_parts', partial(learners.compile_parts, backend='aot_eager')
    )
    counters.clear()
    plain = one_step(adapted(data))
    fast = one_step(adapted(data, compile=True))
    agree(plain, fast, 1e-4)
    assert not counters['graph_break'] and counters['stats']['unique_graphs'] <= 5


class Layouts(TorchDispatchMode):
    "Shapes of what convolutions are given in another layout than channels last, and would have to copy"

    def __init__(self):
        super().__init__()
        self.forward = []
        self.backward = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._overloadpacket in (
            torch.ops.aten.convolution,
            torch.ops.aten.convolution_backward,
        ):
            bad = [
                tuple(t.shape)
                for t in args[:3]
                if isinstance(t, torch.Tensor)
                and t.ndim == 4
                and t.shape[1] > 3
                and min(t.shape[2:]) > 1
                and not t.is_contiguous(memory_format=torch.channels_last)
            ]
            (
                self.forward
                if func._overloadpacket is torch.ops.aten.convolution
                else self.backward
            ).extend(bad)
        return func(*args, **(kwargs or {}))


class Look(Callback):
    order = -100

    def before_batch(self):
        self.layouts = Layouts()
        self.layouts.__enter__()

    def before_step(self):
        self.layouts.__exit__(None, None, None)


def test_channels_last_survives(data):
    "Forward and backward, only what W is shown (put together from maps), and the gradient of its masks (from a softmax) come in another layout"
    learn = adapted(data)
    look = Look()
    one_step(learn, look)
    n_in = learn.model.warp.hourglass.stem[0].in_channels
    n_out = HAND21.n_bones + 1
    assert {s[1] for s in look.layouts.forward} <= {n_in}
    assert {s[1] for s in look.layouts.backward} <= {n_in, n_out}


SWITCHES = [
    dict(reconstruct='heatmaps'),
    dict(split_bn=False),
    dict(labels_3d=False),
    dict(features='random'),
    dict(features='pixels'),
    *[dict(warp_mode=m) for m in WARP_MODES[1:]],
    dict(reconstruct='heatmaps', split_bn=False, labels_3d=False, features='random'),
]


def rec_gradient(learn):
    "Gradient of the reconstruction error alone at the heatmap head, `attached` or not"
    m, out = learn.model, []
    base, driving = torch.rand(2, 3, 3, 48, 48)
    for how in ('detached', 'attached'):
        m.zero_grad()
        image = m(base, base, driving, reconstruct=how)['recon']['image']
        learn.reconstruct.perceptual(image, driving).backward()
        g = m.pose.head.weight.grad
        out.append(0.0 if g is None else g.abs().sum().item())
    return out


@pytest.mark.parametrize('changes', SWITCHES, ids=str)
def test_switch_trains(data, changes):
    "Every term is finite, and so is every gradient; the reconstruction moves the pose net and nothing of it is idle"
    learn = adapted(data, decay=0.9, **changes)
    m = learn.model
    seen, terms = one_step(learn)
    assert (
        set(terms) >= {'sup', 'depth', 'pseudo', 'rec'}
        and all(torch.tensor(v).isfinite() for v in terms.values())
        and terms['rec'] > 0
    )
    assert (
        all(g.isfinite().all() for g in seen.kept.values())
        and seen.kept['generator.paint.weight'].abs().sum() > 0
    )
    assert {n.split('.')[0] for n in seen.kept} == {'pose', 'generator'} | (
        {'warp'} if changes.get('reconstruct') != 'heatmaps' else set()
    )
    assert any(isinstance(b, DomainBatchNorm2d) for b in m.modules()) == changes.get(
        'split_bn', True
    )
    off, on = rec_gradient(learn)
    assert off == 0 and on > 0


def test_heatmaps_without_warp(data, tmp_path):
    "Stands beside the usual net in every place: activations computed twice, file, report"
    plain, twice = (adapted(data, reconstruct='heatmaps', checkpointing=c) for c in ((), PARTS))
    agree(one_step(plain), one_step(twice), 1e-6)
    assert 'forward' in vars(twice.model.generator.stem)
    p = get_preset(MINI, reconstruct='heatmaps')
    save_model(tmp_path / 'm.pth', plain.model, HAND21, p)
    again, _, q, _ = load_model(tmp_path / 'm.pth')
    assert (
        q == p
        and again.warp is None
        and all(
            torch.equal(a, b)
            for a, b in zip(plain.model.state_dict().values(), again.state_dict().values())
        )
    )
    assert (
        len(reconstruction_strips(again, data[2], ([0, 1], [5, 6]), HAND21)) == 1
        and len(reconstruction_strips(adapted(data).model, data[2], ([0, 1], [5, 6]), HAND21)) == 2
    )
    plt.close('all')


def test_labels_of_heatmaps_alone(data):
    "A net with depth keeps its depth term; labels and their quality know one mask"
    vids = PuppetVideos(HAND21, 1, 20, 48, 'real', seed=0)
    src, val, frames = data
    torch.manual_seed(0)
    p = get_preset(MINI, labels_3d=False)
    learn = adapt_learner(
        pose_dls(src, val, frames, steps=1, bs=4, bs_target=3, device='cpu', depth=True),
        build_pose(HAND21, p),
        p,
        cbs=[LabelQuality(vids, 8)],
    )
    _, terms = one_step(learn)
    assert (
        learn.pseudo_label.limits is None
        and terms['depth'] > 0
        and not {'M_2D', 'M_3D', 'pseudo_3d'} & set(terms)
    )
    row = learn.label_quality.epochs[-1]
    assert row['selected'] == row['selected_2d'] and row['selected_3d'] == 0


def test_joint_statistics(data):
    "Source images move what a target image is normalised with, in training, in labelling and in prediction"
    learn = adapted(data, split_bn=False, decay=0.9)
    x = data[2].images(range(4))
    before = learn.model.predict(x)[1]
    one_step(learn)
    model = learn.model
    teacher = learn.pseudo_label.teacher
    assert (
        not any('target_mean' in n for n in {**model.state_dict(), **teacher.state_dict()})
        and int(model.pose.encoder.bn1.num_batches_tracked) == 1
    )
    assert torch.equal(
        model.predict(x, 'target')[0], model.predict(x, 'source')[0]
    ) and not torch.equal(model.predict(x)[1], before)


def test_temperature_of_adaptation_alone(data):
    "`beta` is used in decoding only: a net pre-trained with one adapts with another"
    src, val, frames = data
    torch.manual_seed(0)
    pre = pose_learner(
        pose_dls(src, val, steps=2, bs=4, device='cpu', depth=True), get_preset(MINI, beta=20.0)
    )
    with pre.no_bar(), pre.no_logging():
        pre.fit(1)

    def adapt(beta):
        p = get_preset(MINI, beta=beta)
        torch.manual_seed(0)
        return adapt_learner(
            pose_dls(src, val, frames, steps=1, bs=4, bs_target=3, device='cpu', depth=True),
            pre.model.pose,
            p,
        )

    a, b = adapt(20.0), adapt(40.0)
    x = frames.images(range(4)) / 255.0
    assert (a.model.beta, b.model.beta, pre.model.beta) == (20.0, 40.0, 20.0)
    with torch.no_grad():
        ha, hb = (l.model.eval().heatmaps(x, 0) for l in (a, b))
        assert torch.equal(ha, hb)
    (_, ta), (_, tb) = one_step(a), one_step(b)
    assert ta['sup'] == tb['sup'] and ta['pseudo_3d'] != tb['pseudo_3d'] and ta['rec'] != tb['rec']


def test_switches_are_off():
    "No preset uses what is there for comparisons, and each switch has an origin and says what it may be"
    for name, p in PRESETS.items():
        assert (p.reconstruct, p.split_bn, p.labels_3d, p.warp_mode) == (
            'warp',
            True,
            True,
            'endpoints',
        ) and p.features in ('vgg19', 'encoder'), name
    assert {'reconstruct', 'split_bn', 'labels_3d', 'warp_mode', 'features'} <= set(FIELDS) and set(
        FIELDS
    ) == set(preset_table().index)
    for k in ('warp_mode', 'reconstruct'):
        with pytest.raises(ConfigError, match=k):
            get_preset('tiny', **{k: 'magic'})
