"StyleNet: exchange of statistics, training of the decoder alone, cached target statistics, the callback, and its files."

import copy
from pathlib import Path
import numpy as np, pytest, torch
from fastai.callback.core import Callback
from fastai.learner import Learner
from torch import nn
from geomrecon.data.pairs import pose_dls
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.core.errors import ConfigError, DataError, WeightsError
from geomrecon.learn.presets import get_preset
from geomrecon.learn.learner import pose_learner
from geomrecon.models.pose import PoseNet, split_batchnorm
from geomrecon.models.style import (
    ConvEncoder,
    FrozenFeatures,
    StyleNet,
    VGGEncoder,
    adain,
    load_style_net,
    moments,
    style_encoder,
)
from geomrecon.models.style_training import (
    StyleLoss,
    StyleTraining,
    encoder_learner,
    show_style,
    style_learner,
)
from geomrecon.models.stylise import StyleStats, Stylise, load_style_stats, style_stats
from geomrecon.core.skeleton import MOUSE4

SIZE = 32


@pytest.fixture(scope='module')
def data():
    src = PuppetImages(MOUSE4, 1000, SIZE, 'synthetic', seed=0)
    val = PuppetImages(MOUSE4, 8, SIZE, 'synthetic', seed=1)
    return src, val, PuppetVideos(MOUSE4, 2, 20, SIZE, 'real', seed=0).frames()


def dls(data, two=True, steps=2, **kw):
    return pose_dls(
        data[0],
        data[1],
        data[2] if two else None,
        steps=steps,
        bs=8,
        bs_target=4,
        device='cpu',
        **kw,
    )


def encoders():
    pose = PoseNet(4, width=0.25, stages=3, stem_pool=False, n_deconv=2, deconv_width=16)
    return dict(
        conv=ConvEncoder((4, 8, 8)),
        pose=pose,
        split=split_batchnorm(copy.deepcopy(pose)),
        resnet50=PoseNet(4, 'resnet50', width=0.125, n_deconv=2, deconv_width=16),
    )


def quiet(learn, n=1):
    with learn.no_bar(), learn.no_logging():
        learn.fit(n)
    return learn


@pytest.mark.parametrize('scale,shift', [(1, 0), (50, 20), (0.3, -1)])
def test_adain_takes_exactly_the_styles_statistics(scale, shift):
    c = scale * torch.randn(3, 5, 9, 7) + shift
    s = 2 * torch.rand(3, 5, 4, 4) - 1
    for got, want in zip(moments(adain(c, *moments(s))), moments(s)):
        assert (got - want).abs().max() < 1e-4
    assert torch.equal(adain(c, *moments(s), 0.0), c)
    mixed = adain(c, *moments(s), torch.tensor([0.0, 0.5, 1.0]))
    assert torch.equal(mixed[0], c[0]) and torch.equal(mixed[2], adain(c, *moments(s))[2])
    assert torch.allclose(mixed[1], 0.5 * c[1] + 0.5 * adain(c, *moments(s))[1], atol=1e-5 * scale)


def test_dead_channels_stay_finite():
    x = torch.zeros(2, 3, 4, 4, requires_grad=True)
    adain(x, torch.ones(3), torch.ones(3)).sum().backward()
    assert x.grad.isfinite().all()
    m, s = moments(torch.zeros(2, 3, 4, 4, requires_grad=True))
    s.sum().backward()


def test_alpha_zero_asks_for_the_content():
    net = StyleNet(ConvEncoder((4, 8)))
    tr = StyleTraining(net, alpha=0.0).eval()
    x = torch.rand(4, 3, SIZE, SIZE)
    assert torch.equal(tr(x)['t'], net.encode(x)[-1])
    assert torch.equal(
        net(x, torch.randn(8), torch.rand(8), 0.0), net.decode(net.encode(x)[-1], x, net.encode(x))
    )


@pytest.mark.parametrize('name', encoders())
@pytest.mark.parametrize('size', [(32, 32), (37, 45)])
def test_any_encoder_and_size(name, size):
    net = StyleNet(encoders()[name])
    x = torch.rand(2, 3, *size)
    assert net.stylise(x, torch.rand(2, 3, 64, 64)).shape == x.shape
    with torch.autocast('cpu', torch.bfloat16):
        y = net.stylise(x, x)
    assert y.dtype == torch.float32 and y.isfinite().all()


@pytest.mark.parametrize('name', encoders())
def test_no_gradient_reaches_the_encoder(name):
    enc = encoders()[name]
    net = StyleNet(enc)
    tr = StyleTraining(net).train()
    before = [v.clone() for v in net.encoder.state_dict().values()]
    for style in ('gram', 'moments'):
        StyleLoss(style)(
            tr(
                torch.rand(4, 3, SIZE, SIZE),
                torch.rand(3, 3, SIZE, SIZE),
                torch.rand(3, 3, SIZE, SIZE),
            )
        ).backward()
    assert all(p.grad is None for p in net.encoder.parameters()) and all(
        p.grad is not None for p in net.decoder.parameters()
    )
    assert all(torch.equal(a, b) for a, b in zip(before, net.encoder.state_dict().values())), (
        'batch norm moved'
    )
    assert all(p.requires_grad for p in enc.parameters()), 'the original must stay trainable'


@pytest.mark.parametrize('two', [True, False])
@pytest.mark.parametrize('kw', [dict(), dict(aug=dict(colour=0.0, cutout=0.0))])
def test_training_on_the_packages_loaders(data, two, kw):
    learn = style_learner(dls(data, two, **kw), ConvEncoder((4, 8)), lr=1e-3)
    old = copy.deepcopy(learn.model.net)
    quiet(learn)
    assert all(
        torch.equal(a, b)
        for a, b in zip(old.encoder.parameters(), learn.model.net.encoder.parameters())
    )
    assert all(
        (a != b).any()
        for a, b in zip(old.decoder.parameters(), learn.model.net.decoder.parameters())
    )
    assert np.isfinite(learn.recorder.values[-1]).all() and learn.recorder.metric_names[3:5] == [
        'content',
        'style',
    ]


def test_training_lowers_the_loss(data):
    torch.manual_seed(0)
    ae = quiet(encoder_learner(dls(data, steps=15), (8, 16)))
    net = ae.model.style_net()
    learn = style_learner(dls(data, steps=15), net, style='moments', lr=1e-3)
    with learn.no_bar():
        before = learn.validate()[0]
    quiet(learn)
    assert learn.recorder.values[-1][1] < before


def test_own_steps_from_pretraining_to_stylised_training(data, tmp_path):
    "Source-trained pose net -> its frozen copy as encoder -> StyleNet -> statistics -> pre-training on stylised batches"
    mini = get_preset('tiny-2d', size=SIZE, width=0.25, deconv_width=16, bs=8)
    pose = quiet(pose_learner(dls(data, False), mini)).model.pose
    net = quiet(style_learner(dls(data), pose, lr=1e-3)).model.net
    net.save(tmp_path / 'style.pth')
    net = load_style_net(tmp_path / 'style.pth')
    stats = style_stats(net, data[2], cache=tmp_path / 'stats.pth')
    learn = pose_learner(dls(data, False), mini, cbs=[Stylise(net, stats)])
    w = learn.model.pose.head.weight.detach().clone()
    quiet(learn)
    assert (learn.model.pose.head.weight != w).any() and all(
        p.grad is None for p in net.parameters()
    )


def test_statistics_batched_equal_one_by_one(data, tmp_path):
    for enc in encoders().values():
        net = StyleNet(enc)
        a = style_stats(net, data[2], bs=16)
        b = style_stats(net, data[2], bs=1)
        for k in ('mean', 'std'):
            assert (getattr(a, k) - getattr(b, k)).abs().max() < 1e-5
        a.save(tmp_path / 's.pth')
        c = load_style_stats(tmp_path / 's.pth')
        assert torch.equal(c.mean, a.mean) and torch.equal(c.std, a.std) and c.key == a.key
    assert [p.name for p in tmp_path.iterdir()] == ['s.pth']


def test_cache_belongs_to_encoder_and_frames(data, tmp_path, monkeypatch):
    net = StyleNet(ConvEncoder((4, 8)))
    f = tmp_path / 's.pth'
    first = style_stats(net, data[2], cache=f)
    other = PuppetVideos(MOUSE4, 2, 20, SIZE, 'real', seed=5).frames()
    assert (
        style_stats(net, other, cache=f).key != first.key
        and style_stats(StyleNet(ConvEncoder((4, 8))), data[2], cache=f).key != first.key
    )
    style_stats(net, data[2], cache=f)
    monkeypatch.setattr(StyleNet, 'encode', None)
    assert torch.equal(style_stats(net, data[2], cache=f).mean, first.mean)


@pytest.mark.parametrize('name', encoders())
def test_file_round_trip(name, tmp_path):
    net = StyleNet(encoders()[name])
    net.save(tmp_path / 'n.pth')
    back = load_style_net(tmp_path / 'n.pth')
    x, y = torch.rand(2, 2, 3, SIZE, SIZE)
    assert (
        torch.equal(net.stylise(x, y), back.stylise(x, y))
        and back.digest() == net.digest()
        and [p.name for p in tmp_path.iterdir()] == ['n.pth']
    )


def test_foreign_encoder_needs_its_network(tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Conv2d(3, 4, 3, padding=1)

        def features(self, x):
            return [self.c(x)]

    own = Own()
    net = StyleNet(own)
    net.save(tmp_path / 'n.pth')
    x = torch.rand(2, 3, 16, 16)
    with pytest.raises(WeightsError, match='n.pth'):
        load_style_net(tmp_path / 'n.pth')
    assert torch.equal(load_style_net(tmp_path / 'n.pth', Own()).stylise(x, x), net.stylise(x, x))


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path('evil'),))


@pytest.mark.parametrize('content', [b'', b'noise', 'evil', 'other', 'list', 'cut'])
def test_bad_files(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    p = tmp_path / 'bad.pth'
    StyleNet(ConvEncoder((4, 8))).save(p)
    whole = p.read_bytes()
    if isinstance(content, bytes):
        p.write_bytes(content)
    else:
        dict(
            evil=lambda: torch.save(Evil(), p),
            other=lambda: torch.save(nn.Linear(2, 2).state_dict(), p),
            list=lambda: torch.save([1], p),
            cut=lambda: p.write_bytes(whole[:-200]),
        )[content]()
    for read in (load_style_net, load_style_stats, *((style_encoder, StyleNet) if content else ())):
        with pytest.raises(WeightsError, match='bad.pth'):
            read(p)
    assert not Path('evil').exists()
    with pytest.raises(WeightsError, match='no such file'):
        StyleNet(tmp_path / 'none.pth')


@pytest.mark.parametrize(
    'change',
    [
        dict(kind='else'),
        dict(config=dict(widths='ab')),
        dict(config=dict(widths=(4, 9))),
        dict(levels=7),
        dict(levels='x'),
        dict(decoder={}),
        dict(encoder={}),
        dict(encoder=3),
    ],
)
def test_saved_net_that_does_not_fit(change, tmp_path):
    p = tmp_path / 'bad.pth'
    StyleNet(ConvEncoder((4, 8))).save(p)
    d = torch.load(p, weights_only=True)
    torch.save({**d, **change}, p)
    with pytest.raises(WeightsError, match='bad.pth'):
        load_style_net(p)


class Seen(Callback):
    order = Stylise.order + 1

    def before_fit(self):
        self.got = []

    def before_batch(self):
        self.got.append((self.training, self.learn.xb[0].clone(), self.learn.xb[1:]))


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))

    def forward(self, x, *views):
        return self.w * x.mean()


def spy(data, cbs=(), two=True):
    learn = Learner(dls(data, two, steps=1), Mean(), lambda p, *t: p.mean(), cbs=[Seen(), *cbs])
    torch.manual_seed(1)
    quiet(learn)
    return learn


@pytest.mark.parametrize('share,n', [(0, 0), (0.1, 1), (0.5, 4), (1, 8)])
@pytest.mark.parametrize('two', [True, False])
def test_callback_changes_its_share_and_nothing_in_validation(data, share, n, two):
    net = StyleNet(ConvEncoder((4, 8)))
    stats = style_stats(net, data[2])
    plain = spy(data, two=two).seen.got
    cb = Stylise(net, stats, share, alpha=(0.5, 1.0))
    learn = spy(data, [cb], two)
    got = learn.seen.got
    changed = [[(a != b).any().item() for a, b in zip(x[1], y[1])] for x, y in zip(got, plain)]
    assert [g[0] for g in got] == [True, False] and sum(changed[0]) == n and not any(changed[1])
    for a, b in zip(got[0][2], plain[0][2]):
        assert (a is None and b is None) or torch.equal(a, b)
    again = spy(data, [Stylise(net, stats, share, alpha=(0.5, 1.0))], two).seen.got
    assert torch.equal(again[0][1], got[0][1])
    learn.remove_cb(cb)
    learn.dls = dls(data, two, steps=1)
    torch.manual_seed(1)
    quiet(learn)
    assert torch.equal(learn.seen.got[0][1], plain[0][1])
    assert cb.original is None and cb.idxs is None


def test_callback_never_reads_the_device(data):
    "On the meta device tensors have no values: whatever the host reads back fails"
    net = StyleNet(ConvEncoder((4, 8)))
    cb = Stylise(net, style_stats(net, data[2]))

    class L:
        training = True
        xb = (torch.rand(8, 3, SIZE, SIZE, device='meta'),)

    cb.learn = L
    cb.before_batch()
    assert L.xb[0].device.type == 'meta' and L.xb[0].shape == (8, 3, SIZE, SIZE)
    with pytest.raises((RuntimeError, NotImplementedError)):
        L.xb[0].mean().item()


def test_wrong_options(data):
    net = StyleNet(ConvEncoder((4, 8)))
    stats = style_stats(net, data[2])
    for kw in (dict(share=-0.1), dict(share=1.1), dict(alpha=(0.6, 0.5)), dict(alpha=(0, 2))):
        with pytest.raises(ConfigError):
            Stylise(net, stats, **kw)
    with pytest.raises(ConfigError, match='another encoder'):
        Stylise(StyleNet(ConvEncoder((4, 8))), stats)
    for bad in (3, None, nn.Linear(2, 2)):
        with pytest.raises(ConfigError):
            StyleNet(bad)
    with pytest.raises(ConfigError):
        FrozenFeatures(ConvEncoder((4,)), levels=2)
    with pytest.raises(ConfigError):
        StyleLoss('other')
    with pytest.raises(DataError):
        StyleStats(torch.zeros(0, 3), torch.zeros(0, 3))
    with pytest.raises(DataError):
        net.stylise(torch.rand(1, 3, 2, 2), torch.rand(1, 3, 8, 8))
    with pytest.raises(WeightsError):
        VGGEncoder({'features.0.weight': torch.zeros(1)}, 'short')


def test_show(data):
    import matplotlib

    matplotlib.use('Agg')
    net = StyleNet(ConvEncoder((4, 8))).train()
    x = data[1].batch(range(3))['image']
    assert len(show_style(net, x, data[2].images([0, 5, 9]))) == 12 and net.training
    assert len(Stylise(net, style_stats(net, data[2])).show(x)) == 12


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_callback_does_not_wait_for_the_gpu(data):
    net = StyleNet(ConvEncoder((4, 8)))
    cb = Stylise(net, style_stats(net, data[2]))

    class L:
        training = True
        xb = (torch.rand(8, 3, SIZE, SIZE, device='cuda'),)

    cb.learn = L
    cb.before_batch()
    torch.cuda.synchronize()
    mode = torch.cuda.get_sync_debug_mode()
    try:
        torch.cuda.set_sync_debug_mode('error')
        cb.before_batch()
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def test_stylise_as_the_restyle_of_the_alignment(data):
    "Images in, images of the same shape in [0,1] out, without gradient; the same seed, the same styles"
    net = StyleNet(ConvEncoder((4, 8)))
    restyle = Stylise(net, style_stats(net, data[2])).stylise
    x = torch.rand(6, 3, SIZE, SIZE)
    torch.manual_seed(3)
    a = restyle(x)
    torch.manual_seed(3)
    b = restyle(x)
    assert (
        a.shape == x.shape
        and not a.requires_grad
        and 0 <= a.min()
        and a.max() <= 1
        and torch.equal(a, b)
        and not torch.equal(a, restyle(x))
    )
