"StyleNet: exchange of statistics, training of the decoder alone, cached target statistics, the callback, and its files."

import copy
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fastai.learner import Learner
from torch import nn

from geomrecon.core.errors import ConfigError, DataError, WeightsError
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.batch import Batch, batch_of
from geomrecon.data.pairs import pose_dls
from geomrecon.learn.learner import pose_learner
from geomrecon.learn.presets import get_preset
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
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos

SIZE = 32


@pytest.fixture(scope='module')
def data():
    return SimpleNamespace(
        source=PuppetImages(MOUSE4, 1000, SIZE, 'synthetic', seed=0),
        valid=PuppetImages(MOUSE4, 8, SIZE, 'synthetic', seed=1),
        frames=PuppetVideos(MOUSE4, 2, 20, SIZE, 'real', seed=0).frames(),
    )


def loaders(data, target=True, steps=2, **options):
    return pose_dls(
        data.source,
        data.valid,
        data.frames if target else None,
        steps=steps,
        bs=8,
        bs_target=4,
        device='cpu',
        **options,
    )


def random_images(n, side=SIZE):
    return torch.rand(n, 3, side, side)


def small_style_net():
    return StyleNet(ConvEncoder((4, 8)))


def encoders():
    pose = PoseNet(4, width=0.25, stages=3, stem_pool=False, n_deconv=2, deconv_width=16)
    return dict(
        conv=ConvEncoder((4, 8, 8)),
        pose=pose,
        split=split_batchnorm(copy.deepcopy(pose)),
        resnet50=PoseNet(4, 'resnet50', width=0.125, n_deconv=2, deconv_width=16),
    )


def fit_quietly(learn):
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    return learn


def file_names(folder):
    return [path.name for path in folder.iterdir()]


# Exchange of statistics


@pytest.mark.parametrize('scale,shift', [(1, 0), (50, 20), (0.3, -1)])
def test_adain_takes_exactly_the_styles_statistics(scale, shift):
    content = scale * torch.randn(3, 5, 9, 7) + shift
    mean, std = moments(2 * torch.rand(3, 5, 4, 4) - 1)
    restyled = adain(content, mean, std)
    assert (moments(restyled)[0] - mean).abs().max() < 1e-4
    assert (moments(restyled)[1] - std).abs().max() < 1e-4


@pytest.mark.parametrize('scale,shift', [(1, 0), (50, 20), (0.3, -1)])
def test_adain_has_a_strength_for_every_image(scale, shift):
    content = scale * torch.randn(3, 5, 9, 7) + shift
    mean, std = moments(2 * torch.rand(3, 5, 4, 4) - 1)
    restyled = adain(content, mean, std)
    assert torch.equal(adain(content, mean, std, 0.0), content)
    mixed = adain(content, mean, std, torch.tensor([0.0, 0.5, 1.0]))
    assert torch.equal(mixed[0], content[0])
    assert torch.equal(mixed[2], restyled[2])
    between = 0.5 * content[1] + 0.5 * restyled[1]
    assert torch.allclose(mixed[1], between, atol=1e-5 * scale)


def test_dead_channels_stay_finite():
    features = torch.zeros(2, 3, 4, 4, requires_grad=True)
    adain(features, torch.ones(3), torch.ones(3)).sum().backward()
    assert features.grad.isfinite().all()
    dead = torch.zeros(2, 3, 4, 4, requires_grad=True)
    moments(dead)[1].sum().backward()
    assert dead.grad.isfinite().all()


def test_alpha_zero_asks_for_the_content():
    net = small_style_net()
    images = random_images(4)
    maps = net.encode(images)
    assert torch.equal(StyleTraining(net, alpha=0.0).eval()(images)['t'], maps[-1])
    unchanged = net(images, torch.randn(8), torch.rand(8), 0.0)
    assert torch.equal(unchanged, net.decode(maps[-1], images, maps))


@pytest.mark.parametrize('name', encoders())
@pytest.mark.parametrize('size', [(32, 32), (37, 45)])
def test_any_encoder_and_size(name, size):
    net = StyleNet(encoders()[name])
    images = torch.rand(2, 3, *size)
    assert net.stylise(images, random_images(2, 64)).shape == images.shape
    with torch.autocast('cpu', torch.bfloat16):
        in_half = net.stylise(images, images)
    assert in_half.dtype == torch.float32
    assert in_half.isfinite().all()


# Training


@pytest.mark.parametrize('name', encoders())
def test_no_gradient_reaches_the_encoder(name):
    encoder = encoders()[name]
    net = StyleNet(encoder)
    training = StyleTraining(net).train()
    before = [value.clone() for value in net.encoder.state_dict().values()]
    for style in ('gram', 'moments'):
        out = training(random_images(4), base=random_images(3), driving=random_images(3))
        StyleLoss(style)(out).backward()
    assert all(weight.grad is None for weight in net.encoder.parameters())
    assert all(weight.grad is not None for weight in net.decoder.parameters())
    for old, new in zip(before, net.encoder.state_dict().values()):
        assert torch.equal(old, new), 'batch norm moved'
    for weight in encoder.parameters():
        assert weight.requires_grad, 'the original must stay trainable'


@pytest.mark.parametrize('target', [True, False])
@pytest.mark.parametrize('options', [dict(), dict(aug=dict(colour=0.0, cutout=0.0))])
def test_training_on_the_packages_loaders(data, target, options):
    learn = style_learner(loaders(data, target, **options), ConvEncoder((4, 8)), lr=1e-3)
    before = copy.deepcopy(learn.model.net)
    fit_quietly(learn)
    after = learn.model.net
    for old, new in zip(before.encoder.parameters(), after.encoder.parameters()):
        assert torch.equal(old, new)
    for old, new in zip(before.decoder.parameters(), after.decoder.parameters()):
        assert (old != new).any()
    assert np.isfinite(learn.recorder.values[-1]).all()
    assert learn.recorder.metric_names[3:5] == ['content', 'style']


def test_training_lowers_the_loss(data):
    torch.manual_seed(0)
    autoencoder = fit_quietly(encoder_learner(loaders(data, steps=15), (8, 16))).model
    net = autoencoder.style_net()
    learn = style_learner(loaders(data, steps=15), net, style='moments', lr=1e-3)
    with learn.no_bar():
        before = learn.validate()[0]
    fit_quietly(learn)
    assert learn.recorder.values[-1][1] < before


def test_own_steps_from_pretraining_to_stylised_training(data, tmp_path):
    "Source-trained pose net -> its copy as encoder -> StyleNet -> statistics -> stylised batches"
    preset = get_preset('tiny-2d', size=SIZE, width=0.25, deconv_width=16, bs=8)
    pose = fit_quietly(pose_learner(loaders(data, False), preset)).model.pose
    fit_quietly(style_learner(loaders(data), pose, lr=1e-3)).model.net.save(tmp_path / 'style.pth')
    net = load_style_net(tmp_path / 'style.pth')
    stats = style_stats(net, data.frames, cache=tmp_path / 'stats.pth')
    learn = pose_learner(loaders(data, False), preset, cbs=[Stylise(net, stats)])
    before = learn.model.pose.head.weight.detach().clone()
    fit_quietly(learn)
    assert (learn.model.pose.head.weight != before).any()
    assert all(weight.grad is None for weight in net.parameters())


# Statistics of the target


def test_statistics_batched_equal_one_by_one(data, tmp_path):
    for encoder in encoders().values():
        net = StyleNet(encoder)
        in_batches = style_stats(net, data.frames, bs=16)
        one_by_one = style_stats(net, data.frames, bs=1)
        assert (in_batches.mean - one_by_one.mean).abs().max() < 1e-5
        assert (in_batches.std - one_by_one.std).abs().max() < 1e-5
        in_batches.save(tmp_path / 's.pth')
        read = load_style_stats(tmp_path / 's.pth')
        assert torch.equal(read.mean, in_batches.mean)
        assert torch.equal(read.std, in_batches.std)
        assert read.key == in_batches.key
    assert file_names(tmp_path) == ['s.pth']


def test_cache_belongs_to_encoder_and_frames(data, tmp_path, monkeypatch):
    net = small_style_net()
    cache = tmp_path / 's.pth'
    first = style_stats(net, data.frames, cache=cache)
    other_frames = PuppetVideos(MOUSE4, 2, 20, SIZE, 'real', seed=5).frames()
    assert style_stats(net, other_frames, cache=cache).key != first.key
    assert style_stats(small_style_net(), data.frames, cache=cache).key != first.key
    style_stats(net, data.frames, cache=cache)
    monkeypatch.setattr(StyleNet, 'encode', None)
    assert torch.equal(style_stats(net, data.frames, cache=cache).mean, first.mean)


# Files


@pytest.mark.parametrize('name', encoders())
def test_file_round_trip(name, tmp_path):
    net = StyleNet(encoders()[name])
    net.save(tmp_path / 'n.pth')
    read = load_style_net(tmp_path / 'n.pth')
    content, style = random_images(2), random_images(2)
    assert torch.equal(net.stylise(content, style), read.stylise(content, style))
    assert read.digest() == net.digest()
    assert file_names(tmp_path) == ['n.pth']


class OwnEncoder(nn.Module):
    "An encoder that the package does not know"

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def features(self, x):
        return [self.conv(x)]


def test_foreign_encoder_needs_its_network(tmp_path):
    net = StyleNet(OwnEncoder())
    net.save(tmp_path / 'n.pth')
    with pytest.raises(WeightsError, match='n.pth'):
        load_style_net(tmp_path / 'n.pth')
    images = random_images(2, 16)
    read = load_style_net(tmp_path / 'n.pth', OwnEncoder())
    assert torch.equal(read.stylise(images, images), net.stylise(images, images))


class Evil:
    "Makes a file where it is unpickled"

    def __reduce__(self):
        return (Path.touch, (Path('evil'),))


def damage(path, how):
    "Replace a saved StyleNet by something else"
    if how == 'empty':
        path.write_bytes(b'')
    elif how == 'noise':
        path.write_bytes(b'noise')
    elif how == 'cut':
        path.write_bytes(path.read_bytes()[:-200])
    elif how == 'evil':
        torch.save(Evil(), path)
    elif how == 'other':
        torch.save(nn.Linear(2, 2).state_dict(), path)
    elif how == 'list':
        torch.save([1], path)


@pytest.mark.parametrize('how', ['empty', 'noise', 'evil', 'other', 'list', 'cut'])
def test_bad_files(how, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'bad.pth'
    small_style_net().save(path)
    damage(path, how)
    for read in (load_style_net, load_style_stats, style_encoder, StyleNet):
        with pytest.raises(WeightsError, match='bad.pth'):
            read(path)
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
    path = tmp_path / 'bad.pth'
    small_style_net().save(path)
    saved = torch.load(path, weights_only=True)
    torch.save({**saved, **change}, path)
    with pytest.raises(WeightsError, match='bad.pth'):
        load_style_net(path)


# The callback


class Seen(Callback):
    "Keeps what the model is given"

    order = Stylise.order + 1

    def before_fit(self):
        self.steps = []

    def before_batch(self):
        batch = batch_of(self.learn)
        step = SimpleNamespace(
            training=self.training,
            source=batch.source.clone(),
            others=batch.inputs[1:],
        )
        self.steps.append(step)


class Mean(nn.Module):
    "A model of one weight that looks at the source alone"

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))

    def forward(self, source, *others):
        return self.w * source.mean()


def mean_of_prediction(prediction, *labels):
    return prediction.mean()


def spied(data, cbs=(), target=True):
    "A learner after one step of training and one of validation"
    learn = Learner(loaders(data, target, steps=1), Mean(), mean_of_prediction, cbs=[Seen(), *cbs])
    torch.manual_seed(1)
    return fit_quietly(learn)


def n_changed(step, plain_step):
    return (step.source != plain_step.source).flatten(1).any(1).sum().item()


@pytest.mark.parametrize('share,n', [(0, 0), (0.1, 1), (0.5, 4), (1, 8)])
@pytest.mark.parametrize('target', [True, False])
def test_callback_changes_its_share_and_nothing_in_validation(data, share, n, target):
    net = small_style_net()
    stats = style_stats(net, data.frames)
    plain = spied(data, target=target).seen.steps
    callback = Stylise(net, stats, share, alpha=(0.5, 1.0))
    learn = spied(data, [callback], target)
    training, validation = learn.seen.steps
    assert training.training
    assert not validation.training
    assert n_changed(training, plain[0]) == n
    assert n_changed(validation, plain[1]) == 0
    # target frames stay
    for part, expected in zip(training.others, plain[0].others):
        assert part is expected or torch.equal(part, expected)
    # the same seed, the same images
    again = spied(data, [Stylise(net, stats, share, alpha=(0.5, 1.0))], target).seen.steps
    assert torch.equal(again[0].source, training.source)
    # removing the callback removes the effect
    learn.remove_cb(callback)
    learn.dls = loaders(data, target, steps=1)
    torch.manual_seed(1)
    fit_quietly(learn)
    assert torch.equal(learn.seen.steps[0].source, plain[0].source)
    assert callback.original is None
    assert callback.idxs is None


def attach(callback, images):
    "A learner in a step of training on source images, as far as a callback sees it"
    batch = Batch.of(source=images)
    callback.learn = SimpleNamespace(training=True, xb=batch.inputs, yb=batch.labels)
    return callback.learn


def test_callback_never_reads_the_device(data):
    "On the meta device tensors have no values: whatever the host reads back fails"
    net = small_style_net()
    callback = Stylise(net, style_stats(net, data.frames))
    learn = attach(callback, random_images(8).to('meta'))
    callback.before_batch()
    stylised = batch_of(learn).source
    assert stylised.device.type == 'meta'
    assert stylised.shape == (8, 3, SIZE, SIZE)
    with pytest.raises((RuntimeError, NotImplementedError)):
        stylised.mean().item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_callback_does_not_wait_for_the_gpu(data):
    net = small_style_net()
    callback = Stylise(net, style_stats(net, data.frames))
    attach(callback, random_images(8).cuda())
    callback.before_batch()
    torch.cuda.synchronize()
    mode = torch.cuda.get_sync_debug_mode()
    try:
        torch.cuda.set_sync_debug_mode('error')
        callback.before_batch()
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def test_stylise_as_the_restyle_of_the_alignment(data):
    "Images in, images of the same shape in [0,1] out, without gradient; the same seed, the same styles"
    net = small_style_net()
    restyle = Stylise(net, style_stats(net, data.frames)).stylise
    images = random_images(6)
    torch.manual_seed(3)
    restyled = restyle(images)
    torch.manual_seed(3)
    again = restyle(images)
    assert restyled.shape == images.shape
    assert not restyled.requires_grad
    assert 0 <= restyled.min()
    assert restyled.max() <= 1
    assert torch.equal(restyled, again)
    assert not torch.equal(restyled, restyle(images))


# Options


@pytest.mark.parametrize(
    'options',
    [dict(share=-0.1), dict(share=1.1), dict(alpha=(0.6, 0.5)), dict(alpha=(0, 2))],
)
def test_wrong_options_of_the_callback(data, options):
    net = small_style_net()
    with pytest.raises(ConfigError):
        Stylise(net, style_stats(net, data.frames), **options)


def test_statistics_of_another_encoder(data):
    stats = style_stats(small_style_net(), data.frames)
    with pytest.raises(ConfigError, match='another encoder'):
        Stylise(small_style_net(), stats)


@pytest.mark.parametrize('encoder', [3, None, nn.Linear(2, 2)])
def test_what_is_no_encoder(encoder):
    with pytest.raises(ConfigError):
        StyleNet(encoder)


def test_wrong_options():
    with pytest.raises(ConfigError):
        FrozenFeatures(ConvEncoder((4,)), levels=2)
    with pytest.raises(ConfigError):
        StyleLoss('other')
    with pytest.raises(DataError):
        StyleStats(torch.zeros(0, 3), torch.zeros(0, 3))
    with pytest.raises(DataError):
        small_style_net().stylise(random_images(1, 2), random_images(1, 8))
    with pytest.raises(WeightsError):
        VGGEncoder({'features.0.weight': torch.zeros(1)}, 'short')


def test_show(data):
    matplotlib.use('Agg')
    net = small_style_net().train()
    images = data.valid.batch(range(3))['image']
    assert len(show_style(net, images, data.frames.images([0, 5, 9]))) == 12
    assert net.training
    assert len(Stylise(net, style_stats(net, data.frames)).show(images)) == 12
