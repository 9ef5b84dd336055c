"""Records what the package computes, bit by bit, and compares another version of it with that.

golden.py record FILE [--only CASE ...] [--tests FOLDER]
golden.py compare FILE [--only CASE ...] [--tests FOLDER]

A case is a function that returns values: tensors, arrays, numbers, text, files, and containers of
these. Of every value a SHA-256 of its bytes is kept, and a summary that can be read. Names are
looked up wherever the package defines them, so that modules may move. What is recorded holds for
one machine and one version of torch: rounding differs elsewhere."""

import argparse
import contextlib
import copy
import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import io
import json
import os
import platform
import random
import sys
import tempfile
import time
import traceback
import types
import warnings
from pathlib import Path

os.environ['OMP_NUM_THREADS'] = '1'
os.environ['MPLBACKEND'] = 'Agg'
for variable in ('GEOMRECON_BENCH', 'GEOMRECON_PRESET', 'GEOMRECON_RUNS'):
    os.environ.pop(variable, None)

import numpy as np
import pandas as pd
import torch
import yaml
from fastai.callback.core import Callback

warnings.filterwarnings('ignore')
torch.set_num_threads(1)


# Names, wherever they are defined


class Names:
    "Attributes are the names that geomrecon's modules define, whatever these are called"

    @functools.cached_property
    def modules(self):
        "All modules that can be imported; those that cannot are told, and the rest goes on"
        index = importlib.import_module('geomrecon._modidx').d['syms']
        found = {}
        for name in index:
            try:
                found[name] = importlib.import_module(name)
            except Exception as error:
                print(f'{name} cannot be imported: {last_line(error)}', file=sys.stderr)
        return found

    def owners(self, name):
        "Modules that define a name: by nbdev's index, by `__all__`, or in their namespace"
        index = importlib.import_module('geomrecon._modidx').d['syms']
        indexed = [m for m in index if f'{m}.{name}' in index[m]]
        public = [m for m, x in self.modules.items() if name in getattr(x, '__all__', ())]
        anywhere = [m for m, x in self.modules.items() if name in vars(x)]
        return indexed or public or anywhere

    def __getattr__(self, name):
        found = {}
        for module in self.owners(name):
            value = getattr(importlib.import_module(module), name)
            if not isinstance(value, types.ModuleType):
                found[id(value)] = value
        if len(found) != 1:
            raise LookupError(f'{name} is defined in {self.owners(name) or "no module"}')
        return next(iter(found.values()))


class Fixtures:
    "Attributes are the functions of tests/fixtures_*.py"

    folder = None

    @functools.cached_property
    def modules(self):
        sys.path.insert(0, str(self.folder))
        files = sorted(self.folder.rglob('fixtures_*.py'))
        return [self.load(file) for file in files]

    def load(self, file):
        spec = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[file.stem] = module
        spec.loader.exec_module(module)
        return module

    def __getattr__(self, name):
        for module in self.modules:
            if name in vars(module):
                return getattr(module, name)
        raise LookupError(f'no fixture {name}')


geo = Names()
fix = Fixtures()


def symbol(name):
    "What geomrecon defines under a name"
    return getattr(geo, name)


# Values and their digests


@dataclasses.dataclass
class Whole:
    "Everything below is one entry, such as the weights of a model"

    value: object


@dataclasses.dataclass
class Batch:
    "The tensors of a batch in their order, whatever container holds them"

    value: object


def sha(*parts):
    h = hashlib.sha256()
    for part in parts:
        h.update(part if isinstance(part, bytes) else str(part).encode())
        h.update(b'|')
    return h.hexdigest()


def array_of(value):
    "A tensor as an array of the same bytes"
    value = value.detach().cpu().contiguous()
    if value.dtype == torch.bfloat16:
        return value.view(torch.int16).numpy()
    return value.numpy()


def total(array):
    "The sum of the finite numbers of an array, in double precision"
    if array.dtype.kind not in 'biuf':
        return None
    x = array.astype(np.float64)
    return float(x[np.isfinite(x)].sum())


def describe(value):
    "Digest and summary of a leaf"
    if isinstance(value, torch.Tensor):
        a = array_of(value)
        summed = total(value.float().numpy() if value.dtype == torch.bfloat16 else a)
        digest = sha(value.dtype, tuple(a.shape), a.tobytes())
        return dict(sha=digest, kind=str(value.dtype), shape=list(a.shape), sum=summed)
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
        a = np.ascontiguousarray(value)
        digest = sha(value.dtype, value.shape, a.tobytes())
        return dict(sha=digest, kind=str(value.dtype), shape=list(value.shape), sum=total(a))
    if isinstance(value, bytes):
        return dict(sha=sha(value), kind='bytes', shape=[len(value)])
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    text = value if isinstance(value, str) else repr(value)
    return dict(sha=sha(type(value).__name__, text), kind='text', text=text[:160])


def describe_whole(leaves):
    "One entry for many leaves: with their names, and without"
    each = {key: describe(value) for key, value in leaves}
    sums = [d['sum'] for d in each.values() if d.get('sum') is not None]
    named = sorted((key, d['sha']) for key, d in each.items())
    content = sorted(d['sha'] for d in each.values())
    return dict(
        sha=sha(*named),
        content=sha(*content),
        kind='whole',
        shape=[len(each)],
        sum=float(np.sum(sums)),
    )


def describe_batch(leaves):
    "One entry for a batch: the sequence of its tensors"
    each = [describe(value) for _, value in leaves if isinstance(value, torch.Tensor)]
    digests = [d['sha'] for d in each]
    return dict(
        sha=sha(*digests),
        content=sha(*sorted(digests)),
        kind='batch',
        shape=[d['shape'] for d in each],
        sum=[d['sum'] for d in each],
    )


def is_plain(value):
    return value is None or isinstance(value, (str, int, float, np.generic))


def children(value):
    "Names and values inside a container, None for a leaf"
    if isinstance(value, dict):
        return value.items()
    if isinstance(value, (pd.DataFrame, pd.Series)):
        return None
    if dataclasses.is_dataclass(value):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    if isinstance(value, types.SimpleNamespace):
        return vars(value).items()
    if isinstance(value, (list, tuple)) or type(value).__name__ == 'L':
        return None if all(map(is_plain, value)) else enumerate(value)
    return None


def flat(value, key=''):
    "All leaves below a value with their keys; what is None is left out"
    if value is None:
        return
    if isinstance(value, (Whole, Batch)):
        yield key, value
        return
    if isinstance(value, Path):
        value = value.read_bytes()
    if isinstance(value, (pd.DataFrame, pd.Series)):
        value = value.to_csv()
    inside = children(value)
    if inside is None:
        yield key, value
        return
    for name, part in inside:
        yield from flat(part, f'{key}.{name}' if key else str(name))


def entries(value):
    "Key -> digest and summary, for all that a case returns"
    out = {}
    for key, leaf in flat(value):
        if isinstance(leaf, Whole):
            out[key] = describe_whole(flat(leaf.value))
        elif isinstance(leaf, Batch):
            out[key] = describe_batch(flat(leaf.value))
        else:
            out[key] = describe(leaf)
    return out


# Cases


CASES = {}


def case(name, *args):
    "Register a function of a folder, and of `args`, under a name"

    def register(function):
        CASES[name] = functools.partial(function, *args)
        return function

    return register


def seed_all(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def shared(function):
    "Made once, from seeds of its own, without any trace in the random states of the case"
    kept = {}

    @functools.wraps(function)
    def get(*args):
        if args not in kept:
            states = random.getstate(), np.random.get_state(), torch.get_rng_state()
            seed_all(0)
            kept[args] = function(*args)
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])
        return kept[args]

    return get


def run_case(name):
    "Entries and seconds of a case"
    home = os.getcwd()
    start = time.time()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            seed_all(0)
            with contextlib.redirect_stdout(io.StringIO()):
                values = entries(CASES[name](Path('.')))
        finally:
            os.chdir(home)
    return values, time.time() - start


# Data, networks and trainings that several cases use


SIZE = 48


def small_preset(**changes):
    "Sizes at which a training of some steps takes a second or two"
    sizes = dict(size=SIZE, width=0.25, deconv_width=32, warp_width=8, gen_width=8, gen_res=1)
    batches = dict(bs=4, adapt_bs=4, adapt_bs_target=3, steps=4, adapt_epochs=2)
    starts = dict(rec_start=0.0, rec_attach=1.0, gamma=0.05, flip=0.5, restyle='')
    fixed = dict(depth=False, amp=False, stride=(2, 6))
    return geo.get_preset('tiny', **{**sizes, **batches, **starts, **fixed, **changes})


@shared
def source(skeleton='hand'):
    return geo.PuppetImages(skeleton, 2000, SIZE, 'synthetic', seed=0)


@shared
def valid(skeleton='hand'):
    return geo.PuppetImages(skeleton, 4, SIZE, 'synthetic', seed=1)


@shared
def videos(skeleton='hand'):
    return geo.PuppetVideos(skeleton, 2, 16, SIZE, 'real', seed=0)


@shared
def limits():
    return geo.source_limits(source(), 256)


@shared
def pretrained(skeleton='hand', depth=False):
    "A pose net that has learnt for some steps, so that its heatmaps have peaks"
    preset = small_preset(depth=depth, bs=8)
    loaders = geo.pose_dls(
        source(skeleton),
        valid(skeleton),
        steps=20,
        bs=8,
        seed=3,
        aug=preset.aug,
        device='cpu',
        depth=depth,
    )
    learn = geo.pose_learner(loaders, preset)
    quietly(learn, 1)
    return learn.model.pose


@shared
def style_of_target(skeleton='hand'):
    "An untrained StyleNet, and the target's statistics in its features"
    net = geo.StyleNet(geo.ConvEncoder((4, 8)), 2).eval()
    return net, geo.style_stats(net, videos(skeleton).frames())


def stylise(skeleton='hand', **options):
    net, statistics = style_of_target(skeleton)
    return geo.Stylise(net, statistics, **options)


def net_of(skeleton='hand', depth=False):
    return copy.deepcopy(pretrained(skeleton, depth))


def two_domains(preset, skeleton='hand', **options):
    "Loaders for adaptation"
    own = dict(preset.sizes(True), stride=preset.stride, aug=preset.aug, depth=preset.depth)
    return geo.pose_dls(
        source(skeleton),
        valid(skeleton),
        videos(skeleton).frames(),
        seed=4,
        device='cpu',
        **{**own, **options},
    )


def quietly(learn, epochs, drops=None, cbs=()):
    "Train without bar and table; with `drops` by the preset's schedule"
    with learn.no_bar(), learn.no_logging():
        if drops is None:
            learn.fit(epochs, cbs=list(cbs))
        else:
            learn.fit_preset(epochs, drops, cbs=list(cbs))
    return learn


def trained(learn):
    "What a training leaves behind: weights, optimiser, what terms keep, and all losses"
    terms = {cb.term: cb.state_dict() for cb in learn.cbs if hasattr(cb, 'term')}
    out = dict(weights=Whole(learn.model.state_dict()), optimiser=Whole(learn.opt.state_dict()))
    if hasattr(learn, 'loss_history'):
        out['losses'] = learn.loss_history.steps
    out['terms'] = {name: Whole(state) for name, state in terms.items() if state}
    out['table'] = [list(map(repr, row)) for row in learn.recorder.values]
    out['random state'] = torch.get_rng_state()
    return out


def fields_of_preset(text):
    "A preset's fields without the remarks beside them"
    return repr(yaml.safe_load(text))


def predicted(model, skeleton='hand', **options):
    return model.predict(videos(skeleton).frames().images(range(8)), **options)


# Rendered figures




def _pck_curve(pred, true, visible, radii):
    d, v = geo.joint_distances(pred, true), visible.bool()
    return [100 * ((d <= r) & v).sum().item() / max(1, v.sum().item()) for r in radii]


def _joint_map(src, dst):
    return [src.joints.index(j) for j in dst.joints]

@case('figures: hand synthetic', 'hand', 'synthetic')
@case('figures: hand real', 'hand', 'real')
@case('figures: body narrow', 'body', 'narrow')
@case('figures: body randomised', 'body', 'randomised')
@case('figures: mouse synthetic', 'mouse', 'synthetic')
@case('figures: mouse real', 'mouse', 'real')
def figures(skeleton, style, folder):
    "Pictures with labels, with a depth image and a mask, and labels alone"
    plain = geo.PuppetImages(skeleton, 100, 64, style, seed=3)
    rich = geo.PuppetImages(skeleton, 100, SIZE, style, seed=4, modalities=True)
    gap = {}
    if skeleton in geo.ANNOTATION_GAP:
        convention = geo.ANNOTATION_GAP[skeleton]
        other = geo.PuppetImages(skeleton, 100, SIZE, style, seed=5, convention=convention)
        gap = other.batch(range(3))
    return dict(
        plain=plain.batch(range(6)),
        modalities=rich.batch([7, 3, 50]),
        labels=plain.labels(range(40)),
        convention=gap,
    )


@case('videos: hand', 'hand')
@case('videos: body', 'body')
@case('videos: mouse', 'mouse')
def rendered_videos(skeleton, folder):
    "Moving figures of each split"
    out = {}
    for split in geo.SPLITS:
        made = geo.PuppetVideos(skeleton, 2, 4, SIZE, 'real', seed=2, split=split)
        out[split] = made.batch(range(8))
        out[split]['video'] = np.asarray(made.video_id)
        out[split]['frame'] = np.asarray(made.frame)
    kept = geo.PuppetVideos(skeleton, 2, 4, SIZE, 'real', seed=2, split=split, cache=folder)
    out['frames'] = kept.frames().images(range(8))
    out['cameras'] = kept.frames().intrinsics(range(8))
    return out


@case('pool of rendered images')
def pool(folder):
    made = geo.render_pool(source(), 12, folder / 'pool.pt', False)
    again = geo.render_pool(source(), 12, folder / 'pool.pt', False)
    return dict(made=made.batch(range(12)), again=again.batch(range(12)))


# Augmentation, pairs and batches


@case('augmentation')
def augmentation(folder):
    images = torch.rand(6, 3, 32, 40)
    joints = 2 * torch.rand(6, 21, 2) - 1
    seen = torch.rand(6, 21) > 0.3
    M = geo.random_affine(6, 90.0, (0.6, 1.4), 0.2, 0.5)
    swap = geo.HAND21.flip_index
    return dict(
        affine=M,
        photometric=geo.photometric(images),
        strong=geo.photometric(images, 2.0),
        cutout=geo.cutout(images, 0.7),
        joints=geo.move_joints(joints, seen, M, swap),
        depth=geo.move_depth(torch.randn(6, 21), M, swap),
        body=geo.move_joints(joints[:, :16], seen[:, :16], M, geo.BODY16.flip_index),
    )


@case('frame pairs')
def frame_pairs(folder):
    out = {}
    frames = videos().frames()
    for stride in ((1, 1), (2, 6), (5, 15)):
        pairs = geo.FramePairs(frames, stride)
        drawn = pairs.sample(np.arange(len(pairs)), np.random.default_rng(5))
        out[str(stride)] = dict(drawn=drawn, usable=pairs.usable)
    return out


BATCHES = {
    'one domain': dict(target=False),
    'one domain, depth': dict(target=False, depth=True),
    'one domain, modalities': dict(target=False, modalities=True),
    'two domains': {},
    'two domains, worker process': dict(num_workers=1),
    'two domains, depth': dict(depth=True, focal=4.0),
    'two domains, depth, modalities': dict(depth=True, modalities=True),
    'two domains, few images': dict(few=True, bs_target=2),
}


@case('batches')
def batches(folder):
    "Two batches for training and one for validation, in two epochs"
    augment = dict(rotate=60.0, scale=(0.7, 1.3), shift=0.1, flip=0.5, colour=1.0, cutout=0.5)
    out = {}
    for name, options in BATCHES.items():
        options = dict(options)
        frames = videos().frames() if options.pop('target', True) else None
        few = options.pop('few', False)
        loaders = geo.pose_dls(
            geo.PuppetImages('hand', 5, SIZE, seed=7) if few else source(),
            valid(),
            frames,
            **{**dict(steps=2, bs=4, bs_target=3, aug=augment, seed=6, device='cpu'), **options},
        )
        seed_all(1)
        for epoch in range(2):
            for i, batch in enumerate(loaders.train):
                out[f'{name}: epoch {epoch}, batch {i}'] = Batch(batch)
        out[f'{name}: validation'] = Batch(next(iter(loaders.valid)))
    return out


# Functions on fixed numbers


@case('geometry')
def geometry(folder):
    img = torch.rand(3, 2, 12, 16)
    M = geo.affine(torch.randn(3), torch.rand(3) + 0.5, 0.2 * torch.randn(3, 2))
    other = geo.affine(torch.randn(3), torch.rand(3) + 0.5, 0.2 * torch.randn(3, 2))
    points = torch.randn(3, 21, 2)
    flow = geo.pixel_grid(6, 8).expand(3, 6, 8, 2) + 0.1 * torch.randn(3, 6, 8, 2)
    labels = source().labels(range(6))
    xyz = labels['joints3d']
    K = labels['intrinsics']
    box = torch.tensor([[3.0, 4.0, 20.0, 11.0], [0.0, 2.0, 9.0, 30.0]])
    hand = geo.HAND21
    split = geo.to_25d(xyz, K, hand.root, hand.reference)
    px, depth, bone = split
    crop = geo.crop_matrix(geo.square_box(box, 1.3))
    return dict(
        sample=geo.sample(img, flow),
        resized=geo.resize_flow(flow, (12, 16)),
        composed=geo.compose(M, other),
        inverse=geo.invert(M),
        moved=geo.apply_affine(M, points),
        warped=[geo.warp_image(img, M, pad=pad) for pad in ('zeros', 'border', 'reflection')],
        pixels=geo.to_pixels(points, (30, 40)),
        back=geo.from_pixels(points, (30, 40)),
        crop=crop,
        projected=geo.project(xyz, K),
        cameras=geo.crop_intrinsics(K[:2], crop, 32),
        default=geo.default_intrinsics(64, 5.0),
        relative=geo.relative_depth(xyz, hand.root, hand.reference),
        rays=geo.pixel_rays(px, K),
        split=split,
        lifted=geo.lift(px, depth, K, hand.root, hand.reference, bone),
        lifted_alone=geo.lift(px, depth, K, hand.root, hand.reference),
    )


@case('heatmaps')
def heatmaps(folder):
    joints = 1.8 * torch.rand(4, 5, 2) - 0.9
    seen = torch.rand(4, 5) > 0.3
    clean = geo.render_heatmaps(joints, (16, 20), 1.5, seen)
    noisy = clean + 0.1 * torch.randn_like(clean)
    maps = torch.randn_like(noisy)
    out = dict(clean=clean, peak=geo.peak_confidence(noisy), hard=geo.hard_argmax(noisy))
    for method in ('compensated', 'local', 'soft', 'argmax'):
        out[f'{method} joints'] = geo.decode(noisy, method, 15.0)
        out[f'{method} depth'] = geo.decode_depth(noisy, maps, method, 15.0)
        out[f'{method} weights'] = geo.decode_weights(noisy, method, 15.0)
    return out


def with_gradient(function, *inputs):
    "Value and gradients of a scalar or tensor function"
    inputs = [x.clone().requires_grad_() for x in inputs]
    value = function(*inputs)
    gradients = torch.autograd.grad(value.square().sum(), inputs, allow_unused=True)
    return dict(value=value, gradients=list(gradients))


@case('losses')
def losses(folder):
    hm = torch.rand(4, 5, 12, 12)
    joints = 2 * torch.rand(4, 5, 2) - 1
    mask = torch.rand(4, 5) > 0.4
    depth = torch.randn(4, 5)
    truth = torch.randn(4, 5)
    truth[0, 1] = torch.nan
    features = torch.randn(6, 8, 5, 5)
    a, b = torch.randn(6, 8), torch.randn(6, 8)
    return dict(
        heatmap=with_gradient(lambda x: geo.heatmap_loss(x, joints, mask, 1.5), hm),
        depth=with_gradient(lambda x: geo.depth_loss(x, truth, mask), depth),
        align=with_gradient(lambda x, y: geo.align_loss(x, y, 0.5), a, b),
        pooled=geo.pooled(features),
        jitter=geo.jitter(torch.rand(4, 3, 8, 8)),
        pose=with_gradient(lambda x, y: geo.pose_loss(x, y, joints, truth, mask), joints, depth),
    )


@case('bones')
def bones(folder):
    base = 2 * torch.rand(4, 21, 2) - 1
    driving = base + 0.2 * torch.randn(4, 21, 2)
    tree = geo.HAND21.bones
    transforms = {}
    for mode in geo.WARP_MODES:
        make = functools.partial(geo.bone_transforms, bones=tree, mode=mode)
        transforms[mode] = make(base, driving)
    return dict(
        ends=geo.bone_ends(base, tree),
        maps=geo.bone_maps(base, tree, (12, 12)),
        moments=geo.bone_moments(base, tree),
        factors=geo.bone_factors(base, tree),
        axes=geo.bone_axes(base, tree),
        transforms=transforms,
    )


@case('warp and generator')
def warp_and_generator(folder):
    "Flow, masks and image, with their gradients, for each kind of bone transform"
    images = torch.rand(2, 3, 32, 32)
    base = 1.6 * torch.rand(2, 4, 2) - 0.8
    driving = base + 0.1 * torch.randn(2, 4, 2)
    out = {}
    for mode in geo.WARP_MODES:
        seed_all(2)
        warp = geo.WarpEstimator(geo.MOUSE4, width=8, stride=2, mode=mode)
        paint = geo.Generator(width=8, n_res=1)
        w = warp(images, base, driving)
        image = paint(images, w['flow'], w['inpaint'])
        image.square().mean().backward()
        gradients = {n: p.grad for n, p in warp.named_parameters() if p.grad is not None}
        out[mode] = dict(w, image=image, gradients=Whole(gradients))
    camera = geo.WarpEstimator(geo.MOUSE4, width=8, stride=2, background='affine')
    out['affine background'] = camera(images, base, driving)
    heat = geo.HeatmapGenerator(4, width=8, n_res=1)
    out['from heatmaps'] = heat(images, torch.rand(2, 4, 16, 16), torch.rand(2, 4, 16, 16))
    return out


@case('perceptual loss')
def perceptual(folder):
    a, b = torch.rand(3, 3, SIZE, SIZE), torch.rand(3, 3, SIZE, SIZE)
    encoder = geo.PerceptualLoss(net_of(), scales=(1.0, 0.5))
    pixels = geo.PerceptualLoss('pixels', scales=(1.0, 0.5, 0.25))
    return dict(
        encoder=with_gradient(lambda x: encoder(x, b), a),
        terms={str(k): v for k, v in encoder.terms(a, b).items()},
        pixels=with_gradient(lambda x: pixels(x, b), a),
    )


@case('pose nets')
def pose_nets(folder):
    "New weights, their maps and gradients, and batch norm for two domains"
    out = {}
    shapes = {
        'resnet18': dict(width=0.25, stages=3, stem_pool=False, n_deconv=2, deconv_width=16),
        'resnet50': dict(width=0.125, n_deconv=2, deconv_width=16),
        'with depth': dict(width=0.125, n_deconv=3, deconv_width=16, depth=True),
    }
    x = torch.rand(4, 3, 64, 64)
    for name, shape in shapes.items():
        seed_all(1)
        arch = 'resnet50' if name == 'resnet50' else 'resnet18'
        net = geo.PoseNet(4, arch, **shape)
        maps = net(x, depth=True) if net.has_depth else net(x)
        first = maps[0] if net.has_depth else maps
        first.square().mean().backward()
        gradients = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
        two = geo.split_batchnorm(copy.deepcopy(net))
        with geo.domain_split(two, 2):
            mixed = two(x)
        out[name] = dict(
            weights=Whole(net.state_dict()),
            maps=maps,
            gradients=Whole(gradients),
            mixed=mixed,
            split=Whole(two.state_dict()),
        )
    return out


@case('style functions')
def style_functions(folder):
    x, y = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32)
    content, like = torch.randn(4, 5, 8, 8), torch.randn(4, 5, 8, 8)
    net, statistics = style_of_target()
    mean, std = geo.moments(like)
    seed_all(3)
    painter = stylise(share=0.5)
    return dict(
        moments=geo.moments(content),
        adain=[geo.adain(content, mean, std, alpha) for alpha in (0.3, 1.0)],
        gram=geo.gram(content),
        weights=Whole(net.state_dict()),
        digest=net.digest(),
        statistics=dict(mean=statistics.mean, std=statistics.std),
        stylised=painter.stylise(x),
        swapped=geo.swap_style(net, y, statistics.mean[:4], statistics.std[:4], 0.7),
    )


# Kinematics


@case('kinematics', 'hand')
@case('kinematics: body', 'body')
def kinematics(skeleton, folder):
    labels = source(skeleton).labels(range(120))
    poses = labels['joints3d']
    sk = source(skeleton).skeleton
    known = geo.estimate_limits(poses[:80], sk)
    wide = geo.estimate_limits(poses[:80], sk, quantiles=(0.05, 0.95), margin=5.0)
    scale = (poses[:, 1:] - poses[:, :1]).norm(dim=-1).mean()
    wild = poses[80:] + 0.1 * scale * torch.randn_like(poses[80:])
    out = {}
    for name, lim in dict(known=known, wide=wide).items():
        given = {f: getattr(lim, f) for f in ('rest', 'length', 'flexion', 'abduction')}
        out[name] = dict(
            given,
            feasible=geo.is_feasible(wild, lim),
            violations=geo.violations(wild, lim),
            corrected=[geo.correct_pose(wild, lim, passes=n) for n in (1, 2)],
            gradient=with_gradient(lambda x, lim=lim: geo.correct_pose(x, lim), wild[:4]),
        )
    out['angles'] = geo.joint_angles(wild, known)
    out['as text'] = repr(known.to_dict())
    out['greedy'] = geo.greedy_lengths(wild, known)
    out['table'] = {f: getattr(limits(), f) for f in ('rest', 'length', 'flexion', 'abduction')}
    return out


# Pseudo-labels


@case('pseudo-labels')
def pseudo_labels(folder):
    b = source().batch(range(8))
    hm = geo.render_heatmaps(b['keypoints'], (24, 24), 1.5)
    hm = (hm * torch.rand(8, 21, 1, 1) + 0.05 * torch.randn_like(hm)).clamp(0, 1)
    M = geo.random_affine(8, 60.0, (0.8, 1.2), 0.1, 0.5)
    swap = geo.HAND21.flip_index
    depth = geo.relative_depth(b['joints3d'], geo.HAND21.root, geo.HAND21.reference)
    depth = depth + 0.05 * torch.randn_like(depth)
    K = b['intrinsics']
    rules = {
        'height': dict(gamma=0.3),
        'share': dict(gamma=None, keep=0.4),
        'share by joint': dict(gamma=None, keep=0.4, per_joint=True),
        'both': dict(gamma=0.2, keep=0.6),
    }
    out = {}
    for name, rule in rules.items():
        plain = geo.pseudo_labels(hm, M, swap, beta=15.0, **rule)
        full = geo.integrated_labels(
            hm, depth, K, M, (SIZE, SIZE), swap, limits(), 0.02, beta=15.0, **rule
        )
        masks = [full.masks(united) for united in (False, True)]
        out[name] = dict(plain=plain, full=full, masks=masks)
    net = net_of().eval()
    with torch.no_grad():
        out['averaged'] = geo.averaged_heatmaps(net, b['image'].float() / 255, 3)
    joints = b['keypoints']
    out['feasible'] = geo.feasible_pose(joints, depth, K, (SIZE, SIZE), limits())
    out['registered'] = geo.registered_pose(joints, depth, K, (SIZE, SIZE), limits())
    shift = torch.rand(8, 21)
    sure = torch.rand(8) > 0.2
    for by in ('sample', 'joint'):
        out[f'least moved by {by}'] = geo.least_moved(shift, sure, 0.5, by)
    return out


# Pre-training


PRETRAIN = {
    'plain': {},
    'depth': dict(depth=True),
    'depth, gradient': dict(depth=True, depth_grad=True),
    'jitter': dict(align='jitter'),
    'depth, stylised': dict(depth=True, align='style'),
    'half precision': dict(depth=True, align='jitter', amp=True),
    'accumulated': dict(accumulate=2, align='jitter'),
    'steps of the rate': dict(drops=(1,)),
    'mouse': dict(skeleton='mouse', depth=True),
    'body': dict(skeleton='body', depth=True),
}


def pretrain(name, folder):
    "Six steps in two epochs on the labelled source"
    options = dict(PRETRAIN[name])
    skeleton = options.pop('skeleton', 'hand')
    align = options.pop('align', None)
    preset = small_preset(steps=3, **options)
    restyle = None
    if align == 'jitter':
        restyle = geo.jitter
    if align == 'style':
        restyle = stylise(skeleton).stylise
    loaders = geo.pose_dls(
        source(skeleton),
        valid(skeleton),
        seed=4,
        device='cpu',
        aug=preset.aug,
        depth=preset.depth,
        **preset.sizes(False),
    )
    learn = geo.pose_learner(loaders, preset, restyle=restyle)
    quietly(learn, 2, preset.drops)
    predictions = predicted(learn.model, skeleton, domain='source', depth=preset.depth)
    return dict(trained(learn), predictions=predictions)


for pretraining in PRETRAIN:
    case(f'pre-training: {pretraining}', pretraining)(pretrain)


# Adaptation


FULL = ('pseudo', 'rec')
LABELS = ('pseudo',)
REC = ('rec',)
ADAPT = {
    'full': (FULL, dict(decay=0.9, label_views=2)),
    'full, 3D': (FULL, dict(depth=True, integrate=1.0, y_weight=0.3, gamma_3d=0.1, rec_gate=0.2)),
    'full, 3D, half precision': (FULL, dict(depth=True, integrate=1.0, decay=0.9, amp=True)),
    'source alone': ((), {}),
    'labels, no average': (LABELS, dict(decay=None, pseudo_start=0.5)),
    'labels, share': (LABELS, dict(gamma=None, keep=0.5)),
    'labels, 3D at once': (LABELS, dict(depth=True, integrate=0.0, gamma_3d=0.05)),
    'labels, 3D, views': (LABELS, dict(depth=True, integrate=1.0, decay=None, label_views=1)),
    'labels, 2D of a net with depth': (LABELS, dict(depth=True, labels_3d=False)),
    'labels, shared batch norm': (LABELS, dict(split_bn=False)),
    'reconstruction, late': (REC, dict(rec_start=0.5, rec_attach=1.5)),
    'reconstruction from heatmaps': (FULL, dict(reconstruct='heatmaps')),
    'features never trained': (REC, dict(features='random')),
    'features: pixels': (REC, dict(features='pixels')),
    'accumulated': (FULL, dict(accumulate=2, adapt_bs_target=4, depth=True, integrate=1.0)),
    'steps of the rate': (FULL, dict(drops=(1,))),
    'gradient of depth': (LABELS, dict(depth=True, depth_grad=True, limits_margin=3.0)),
    'wide limits': (LABELS, dict(depth=True, integrate=0.0, gamma_3d=0.1, own_limits=True)),
    'stylised source': (LABELS, dict(style=1.0)),
    'parts computed twice': (FULL, dict(checkpointing=('merge', 'warp', 'generator'))),
    'mouse': (FULL, dict(skeleton='mouse', gamma=0.0)),
    'body, 3D': (FULL, dict(skeleton='body', depth=True, integrate=1.0, own_limits=True)),
}
for warp_mode in ('endpoints', 'moments', 'printed', 'svd', 'sign', 'inverse'):
    ADAPT[f'warp, {warp_mode}'] = (REC, dict(warp_mode=warp_mode, steps=3))


def adapt(name, folder):
    "Some steps in two epochs on both domains, labels measured on the way"
    terms, options = ADAPT[name]
    options = dict(options)
    skeleton = options.pop('skeleton', 'hand')
    style = options.pop('style', None)
    own_limits = options.pop('own_limits', False)
    preset = small_preset(**options)
    cbs = []
    if 'pseudo' in terms:
        cbs.append(geo.LabelQuality(videos(skeleton), 8))
    if style is not None:
        cbs.append(stylise(skeleton, share=style))
    learn = geo.adapt_learner(
        two_domains(preset, skeleton),
        net_of(skeleton, preset.depth),
        preset,
        terms,
        limits=limits() if preset.depth and not own_limits else None,
        cbs=cbs,
    )
    quietly(learn, preset.adapt_epochs, preset.drops)
    out = dict(trained(learn), predictions=predicted(learn.model, skeleton, depth=preset.depth))
    out['quality'] = [cb.epochs for cb in learn.cbs if hasattr(cb, 'epochs')]
    if 'rec' in terms:
        pairs = [0, 3], [5, 9]
        out['pictures'] = geo.reconstructions(learn.model, videos(skeleton).frames(), *pairs)
    return out


for adaptation in ADAPT:
    case(f'adaptation: {adaptation}', adaptation)(adapt)


# Other methods


METHODS = {
    'CC-SSL': ('ccssl', {}),
    'CC-SSL, one round': ('ccssl', dict(rounds=1, flow=False)),
    'RegDA': ('regda', {}),
    'RegDA, 3D': ('regda', dict(depth=True)),
    'UniFrame': ('uniframe', {}),
    'UniFrame, all branches': ('uniframe', dict(style_prob=1.0, occlude=1.0, sure=-9.0)),
    'SemiHand': ('semihand', dict(depth=True)),
    'SemiHand, by joint': ('semihand', dict(depth=True, by='joint', hard=False)),
    'DualNet': ('dualnet', dict(depth=True, start=0.5)),
    'DualNet, 2D': ('dualnet', dict(agree=None)),
}


def method(name, folder):
    "A comparison method for six steps in two epochs"
    key, options = METHODS[name]
    options = dict(options)
    depth = options.pop('depth', False)
    preset = small_preset(steps=3, depth=depth, decay=0.9)
    baseline = {**geo.BASELINES, **geo.CROSSMODAL}[key]
    learn = baseline.build(
        two_domains(preset, **baseline.loaders),
        net_of(depth=depth),
        preset,
        style=stylise(),
        limits=limits() if depth else None,
        cbs=[geo.LabelQuality(videos(), 8)],
        **options,
    )
    quietly(learn, 2, ())
    quality = [cb.epochs for cb in learn.cbs if hasattr(cb, 'epochs')]
    predictions = predicted(learn.model, depth=depth)
    return dict(trained(learn), predictions=predictions, quality=quality)


for other_method in METHODS:
    case(f'method: {other_method}', other_method)(method)


@case('method: temporal consistency')
def temporal(folder):
    preset = small_preset(steps=3, stride=(1, 1))
    term = geo.TemporalConsistency(sigma=preset.sigma)
    learn = geo.adapt_learner(two_domains(preset), net_of(), preset, (), cbs=[term])
    return trained(quietly(learn, 2, ()))


@case('method: oracle')
def oracle(folder):
    preset = small_preset(steps=3, depth=True)
    learn = geo.oracle_learner(two_domains(preset), net_of(depth=True), preset, videos())
    return trained(quietly(learn, 2, ()))


def task_in(folder, preset, skeleton='hand'):
    sets = source(skeleton), valid(skeleton), videos(skeleton).frames()
    return geo.Task(folder, *sets, preset, seed=2, device='cpu', quality=videos(skeleton))


@case('method: batch norm alone')
def batchnorm(folder):
    model = task_in(folder, small_preset()).batchnorm_only(net_of())
    return dict(weights=Whole(model.state_dict()), predictions=predicted(model))


@case('method: source continued')
def source_continued(folder):
    preset = small_preset(steps=3, epochs=2)
    learn, _ = task_in(folder, preset).control(net_of(), 2.0, 2.0, bar=False)
    return trained(learn)


# StyleNet


@case('style: training')
def style_training(folder):
    "Encoder, then the decoder with both kinds of loss, statistics, and the files"
    preset = small_preset(steps=3)

    def loaders():
        frames = videos().frames()
        options = dict(aug=dict(preset.aug, colour=0.0, cutout=0.0), seed=4, device='cpu')
        return geo.pose_dls(source(), valid(), frames, steps=3, bs=4, bs_target=2, **options)

    encoder = quietly(geo.encoder_learner(loaders(), (4, 8), 2e-3), 2)
    out = dict(encoder=trained(encoder))
    for kind in ('gram', 'moments'):
        fixed = copy.deepcopy(encoder.model.style_net())
        learn = quietly(geo.style_learner(loaders(), fixed, kind, lr=1e-3), 2)
        net = learn.model.net.eval()
        with torch.no_grad():
            statistics = geo.style_stats(net, videos().frames(), n=16, bs=8)
        net.save(folder / 'net.pth')
        again = geo.load_style_net(folder / 'net.pth')
        out[kind] = dict(
            trained(learn),
            mean=statistics.mean,
            std=statistics.std,
            again=Whole(again.state_dict()),
            stylised=geo.Stylise(net, statistics).stylise(torch.rand(3, 3, SIZE, SIZE)),
        )
    return out


# The whole method, checkpoints and files


@case('ladder of stages')
def ladder(folder):
    "Source, style, alignment, labels and reconstruction as one task, measured in 2D and 3D"
    preset = small_preset(
        depth=True,
        restyle='stylenet',
        style_widths=(4, 8),
        style_encoder_epochs=1,
        style_epochs=1,
        style_bs=4,
        align_epochs=1,
        steps=2,
        epochs=2,
        integrate=1.0,
    )
    test = geo.PuppetVideos('hand', 2, 6, SIZE, 'real', seed=0, split='test')
    run = geo.run_stages(task_in(folder, preset), test, 'bn', bar=False)
    for row in run.rows:
        row.pop('seconds', None)
    learners = {name: x for name, x in run.learners.items() if hasattr(x, 'model')}
    weights = {name: Whole(x.model.state_dict()) for name, x in learners.items()}
    return dict(
        rows={row['method']: row for row in run.rows},
        predictions=run.preds,
        poses=getattr(run, 'poses3d', None),
        curves=run.curves,
        quality=run.quality,
        weights=weights,
        preset=fields_of_preset((folder / 'preset.yaml').read_text()),
    )


class Killed(Exception):
    "Stands for a kill"


class KillAt(Callback):
    "Ends the training after a step"

    def __init__(self, epoch, step):
        self.at = (epoch, step)

    def after_step(self):
        if (self.epoch, self.iter) == self.at:
            raise Killed('now')


@case('checkpoint and resume')
def resume(folder):
    "Killed in the third epoch and resumed, beside one that was not"
    preset = small_preset(steps=2, decay=0.9, depth=True, integrate=1.0)

    def learner(name):
        seed_all(5)
        loaders = two_domains(preset)
        keep = geo.Checkpoint(folder / name, meta=dict(what='golden'))
        net = net_of(depth=True)
        return geo.adapt_learner(loaders, net, preset, limits=limits(), cbs=[keep])

    whole = quietly(learner('whole.ckpt'), 3, ())
    with contextlib.suppress(Killed):
        quietly(learner('killed.ckpt'), 3, (), [KillAt(2, 1)])
    seed_all(9)
    again = learner('killed.ckpt')
    done = again.resume(folder / 'killed.ckpt')
    quietly(again, 3, ())
    states = {}
    for name in ('whole', 'killed'):
        state = geo.load_checkpoint(folder / f'{name}.ckpt')
        state.pop('seconds', None)
        states[name] = {key: Whole({key: value}) for key, value in state.items()}
    return dict(whole=trained(whole), again=trained(again), done=done, files=states)


@case('prediction')
def prediction(folder):
    "A model in a file, and what it says of videos: joints, tables, 3D joints, labelled video"
    out = {}
    fix.write_clips(folder / 'clips', 12, ['a.mp4'])
    fix.write_images(folder / 'stills', 4)
    for depth in (False, True):
        preset = small_preset(depth=depth)
        learn = geo.adapt_learner(
            two_domains(preset, 'mouse'), net_of('mouse', depth), preset, FULL
        )
        file = folder / f'model{depth}.pth'
        geo.save_model(file, learn.model, geo.MOUSE4, preset, seed=0, crop='motion')
        model, skeleton, preset, meta = geo.load_model(file)
        inputs = ('clips/a.mp4', 'motion'), ('clips/a.mp4', 'whole'), ('stills', 'whole')
        for kind, crop in inputs:
            to = folder / f'out{len(out)}'
            frames, px, likelihood = geo.predict_media(
                model, skeleton, preset, meta, folder / kind, to, crop, progress=False
            )
            files = sorted(f for f in to.rglob('*') if f.is_file())
            texts = {f.name: f for f in files if f.suffix in ('.csv', '.json', '.png')}
            films = {f.name: list(geo.read_video(f)) for f in files if f.suffix == '.mp4'}
            out[f'{kind}, {crop}, depth {depth}'] = dict(
                crops=frames.images(range(4)),
                joints=px,
                likelihood=likelihood,
                files=texts,
                films=Whole(films),
            )
    return out


@case('results files')
def results_files(folder):
    "Presets as text, tables of rows, and seeds merged"
    rows = []
    for seed in range(3):
        r = np.random.default_rng(seed)
        rows.append(
            dict(
                seed=seed,
                rows=[
                    dict(
                        method=m,
                        seconds=float(10 * r.random()),
                        pck=dict(all=float(100 * r.random()), fin=float(100 * r.random())),
                        epe3d=dict(all=float(30 * r.random())),
                    )
                    for m in ('source', 'aligned', 'pseudo', 'full', 'control')
                ],
            )
        )
    merged = geo.merge_seeds(rows)
    presets = {name: fields_of_preset(geo.preset_text(name)) for name in geo.PRESETS}
    return dict(
        merged=repr(merged),
        table=geo.format_seed_table(merged),
        single=geo.format_table(rows[0]['rows']),
        presets=presets,
        read=repr(geo.read_preset('tiny', ['lr=1e-3', 'stride=2,7', 'depth=false'])),
    )


# Measuring and diagnosis


@case('metrics')
def metrics(folder):
    b = source().batch(range(24))
    true, seen, xyz = b['keypoints'], b['visible'], b['joints3d']
    guess = true + 0.05 * torch.randn_like(true)
    guess3d = xyz + 5 * torch.randn_like(xyz)
    hand = geo.HAND21
    depth = geo.relative_depth(xyz, hand.root, hand.reference)
    video = np.arange(24) // 6
    px, true_px = geo.to_pixels(guess, 96), geo.to_pixels(true, 96)
    return dict(
        pck=geo.pck_table(guess, true, seen, hand),
        joints=geo.joint_pck(guess, true, seen),
        legacy=geo.legacy_pck(guess, true, seen),
        curve=_pck_curve(guess, true, seen, [0.02, 0.05, 0.1]),
        pixels=geo.pixel_report(px, true_px, hand),
        kinds=geo.error_kinds(guess, true, seen, video, hand),
        flips=geo.axis_flips(px, true_px, 0, 9),
        swaps=geo.pair_swaps(px, true_px, (4, 8)),
        offset=geo.offset_removed(px, true_px, 0, 9),
        curve3d=geo.pck3d_curve(torch.rand(24, 21) * 50, torch.linspace(10, 50, 5)),
        procrustes=geo.procrustes(guess3d, xyz),
        errors=[geo.joint_errors3d(guess3d, xyz, seen, align=a) for a in ('root', 'procrustes')],
        table=geo.pose3d_table(guess3d, xyz, seen, hand),
        epe=[geo.epe3d(guess3d, xyz, seen), geo.pa_epe3d(guess3d, xyz, seen)],
        auc=geo.auc3d(guess3d, xyz, seen),
        lifted=geo.figures3d(guess, depth, b['intrinsics'], xyz, seen, hand, SIZE),
    )


@case('evaluation and diagnosis')
def diagnosis(folder):
    out = {}
    for depth in (False, True):
        preset = small_preset(depth=depth, rec_attach=0.0)
        lim = limits() if depth else None
        learn = geo.adapt_learner(
            two_domains(preset), net_of(depth=depth), preset, FULL, limits=lim
        )
        quietly(learn, 1)
        before = geo.PoseAdapter(net_of(depth=depth), split_bn=False, beta=preset.beta)
        teacher = geo.Teacher(net_of(depth=depth))
        frames = videos().frames()
        loss = geo.PerceptualLoss('pixels', scales=(1.0,))
        options = dict(n=16, rec_stride=(2, 6))
        a = geo.diagnose(before, frames, geo.HAND21, **options)
        z = geo.diagnose(learn.model, frames, geo.HAND21, loss, teacher, **options)
        out[f'depth {depth}'] = dict(
            before=a,
            after=z,
            table=geo.diagnosis_table(a, z),
            evaluated=geo.evaluate(learn.model, videos()),
            of_source=geo.evaluate(before, valid(), 'source'),
        )
        if not depth:
            after = dict(after=learn.model)
            out['confident'] = geo.confident_keypoints(before, after, videos(), 0.05)
            joints = learn.model.predict(frames.images(range(32)))[0]
            out['counts'] = geo.video_counts(joints, videos())
    return out


def drawn():
    "The open figures as pixels; they are closed"
    import matplotlib.pyplot as plt

    out = []
    for number in plt.get_fignums():
        figure = plt.figure(number)
        figure.canvas.draw()
        out.append(np.asarray(figure.canvas.buffer_rgba()).copy())
    plt.close('all')
    return out


@case('pictures')
def pictures(folder):
    "Figures as pixels"
    b = source().batch(range(4))
    images, joints, hand = b['image'], b['keypoints'], geo.HAND21
    hm = geo.render_heatmaps(joints, (24, 24))
    history = dict(sup=np.linspace(1, 0.1, 40).tolist(), rec=np.linspace(2, 1, 40).tolist())
    rows = [dict(method=m, pck=dict(all=50.0 + i)) for i, m in enumerate(('source', 'full'))]
    figures = dict(coverage=0.4, jitter=0.01)
    frame = np.ascontiguousarray(images[0].permute(1, 2, 0).numpy())
    calls = dict(
        poses=lambda: geo.show_poses(images, joints, hand, truth=joints.flip(0)),
        poses3d=lambda: geo.show_poses3d(b['joints3d'], hand),
        heatmaps=lambda: geo.show_heatmaps(images[0], hm[0], hand),
        compare=lambda: geo.show_compare(images, dict(source=joints, full=joints), hand),
        curves=lambda: geo.show_curves(history),
        bars=lambda: geo.show_bars(rows),
        diagnosis=lambda: geo.show_diagnosis(figures, dict(coverage=0.5, jitter=0.02)),
        sheet=lambda: geo.contact_sheet(source(), range(6), overlay=True),
        pairs=lambda: geo.show_pairs(images, images.flip(0)),
    )
    out = dict(drawn_pose=geo.draw_pose(frame, geo.to_pixels(joints[0], SIZE), hand))
    for name, call in calls.items():
        call()
        out[name] = drawn()
    return out


# Readers


def first_items(data, most=8):
    "What a data set gives: labels of all samples, and the first ones with their images"
    n = min(most, len(data))
    out = dict(length=len(data), batch=data.batch(range(n)))
    for name in ('keypoints', 'intrinsics', 'video_id', 'frame', 'view', 'boxes', 'left', 'form'):
        value = getattr(data, name, None)
        if value is not None and not callable(value):
            out[name] = repr(dict(value)) if isinstance(value, dict) else value
    if callable(getattr(data, 'labels', None)):
        out['labels'] = data.labels(range(len(data)))
    if hasattr(data, 'frames'):
        frames = data.frames()
        out['frames'] = frames.images(range(n))
        if hasattr(frames, 'intrinsics'):
            out['cameras'] = frames.intrinsics(range(n))
    return out


HANDS = {
    'rhd': ('write_rhd', {}, 'RHD', [{}, dict(side='right', split='test'), dict(side='keep')]),
    'rhd mmpose': ('write_rhd', dict(form='mmpose'), 'RHD', [{}]),
    'h3d': ('write_h3d', dict(n_videos=3, n_frames=4), 'H3D', [
        dict(split='all'), dict(split='train', without_object='all', side='right')]),
    'mvhand': ('write_mvhand', dict(n_frames=2), 'MVHand', [
        dict(split='all'), dict(split='all', side='right', knuckles='stretched')]),
    'freihand': ('write_freihand', dict(n=4, n_eval=2), 'FreiHAND', [
        dict(split='all'), dict(split='train')]),
    'freihand mmpose': ('write_freihand', dict(n=3, form='mmpose'), 'FreiHAND', [{}]),
}
BODIES = {
    'surreal': ('write_surreal', {}, 'SURREAL', [{}, dict(shoulders='shoulder', every=2)]),
    'surreal crops': ('write_surreal_crops', dict(size=64), 'SURREALCrops', [
        {}, dict(split='test'), dict(rule='all')]),
    'lsp': ('write_lsp', {}, 'LSP', [{}, dict(split='train', crop='person')]),
    'human36m': ('write_h36m', dict(subjects=(1, 9), cams=(1,), frames=4), 'Human36M', [
        dict(subjects=(1,), every=1), dict(split='test', every=1, subjects=(9,))]),
    'human36m mmpose': (
        'write_h36m_mmpose', dict(subjects=(1, 9), acts=((2, 1),), cams=(1,)), 'Human36M', [
            dict(form='mmpose'), dict(form='mmpose', split='test')]),
    'human36m coco': (
        'write_h36m_mmpose', dict(subjects=(1,), acts=((2, 1),), cams=(1,), form='coco'),
        'Human36M', [dict(form='mmpose')]),
    'human36m crops': (
        'write_h36m_crops', dict(subjects=(1,), cams=(1,), frames=16), 'Human36M', [
            dict(form='regda', subjects=(1,))]),
    '3dpw': ('write_3dpw', dict(frames=3), 'ThreeDPW', [
        {}, dict(split='test', valid='campose+poses2d', box='poses2d')]),
}
OWN = {
    'coco': ('write_coco_tree', {}, 'CocoPoses', 'train.json', [
        dict(skeleton='mouse'), dict(crop='whole')]),
    'coco states': ('write_coco_tree', dict(state=True), 'CocoPoses', 'train.json', [
        dict(skeleton='mouse', visibility='visible')]),
    'dlc csv': ('write_dlc_tree', {}, 'DlcPoses', 'CollectedData_lab.csv', [
        dict(skeleton='mouse'), dict(crop='whole')]),
    'dlc h5': ('write_dlc_tree', {}, 'DlcPoses', 'CollectedData_lab.h5', [
        dict(skeleton='mouse')]),
    'lightning': ('write_lightning_tree', {}, 'DlcPoses', 'predictions.csv', [
        dict(skeleton='mouse', min_likelihood=0.5)]),
}


def read_set(table, name, folder):
    write, how, reader, all_options = table[name]
    getattr(fix, write)(folder / 'set', **how)
    out = {}
    for options in all_options:
        make = functools.partial(symbol(reader), folder / 'set', size=SIZE)
        out[repr(options)] = first_items(make(**options))
    return out


def read_own(name, folder):
    write, how, reader, file, all_options = OWN[name]
    getattr(fix, write)(folder / 'set', **how)
    images = dict(root=folder / 'set' / 'images') if reader == 'CocoPoses' else {}
    out = {}
    for options in all_options:
        make = functools.partial(symbol(reader), folder / 'set' / file, size=SIZE, **images)
        out[repr(options)] = first_items(make(**options))
    return out


for data_set in HANDS:
    case(f'reader: {data_set}', HANDS, data_set)(read_set)
for data_set in BODIES:
    case(f'reader: {data_set}', BODIES, data_set)(read_set)
for data_set in OWN:
    case(f'reader: {data_set}', data_set)(read_own)


@case('training on a data set')
def train_on_set(folder):
    "A reader behind the loaders, with its own cameras and joints"
    fix.write_rhd(folder / 'rhd')
    spec = f'rhd:{folder / "rhd"}?side=right'
    data = geo.open_dataset(spec, size=SIZE)
    rest, held = geo.hold_out(data, 4)
    preset = small_preset(depth=True, steps=2, integrate=0.0)
    loaders = geo.pose_dls(
        rest, held, videos().frames(), steps=2, bs=4, bs_target=3, seed=1, device='cpu',
        depth=True, aug=preset.aug, stride=preset.stride,
    )
    learn = geo.adapt_learner(loaders, net_of(depth=True), preset, FULL, limits=limits())
    quietly(learn, 2, ())
    return dict(trained(learn), held=held.batch(range(len(held))))


def label_fields(labels):
    named = labels._asdict() if hasattr(labels, '_asdict') else vars(labels)
    return dict(named, skeleton=repr(geo.skeleton_to_dict(labels.skeleton)))


@case('label formats')
def label_formats(folder):
    "Tables and JSON read, written and read again"
    fix.write_dlc_tree(folder / 'dlc')
    fix.write_lightning_tree(folder / 'lp')
    fix.write_coco_tree(folder / 'coco', state=True)
    csv = geo.read_dlc_csv(folder / 'dlc/CollectedData_lab.csv', 'mouse')
    h5 = geo.read_dlc_h5(folder / 'dlc/CollectedData_lab.h5', 'mouse')
    lp = geo.read_lightning_csv(folder / 'lp/predictions.csv', 'mouse')
    coco = geo.read_coco(folder / 'coco/train.json', 'mouse')
    free = geo.read_labels(folder / 'coco/train.json')
    kp = np.random.default_rng(0).uniform(0, 90, (5, 4, 2))
    sure = np.random.default_rng(1).uniform(0, 1, (5, 4))
    names = [f'img{i:03d}.png' for i in range(5)]
    written = geo.write_dlc_csv(folder / 'a.csv', kp, sure, 'mouse', index=names)
    packed = geo.write_dlc_h5(folder / 'a.h5', kp, sure, 'mouse', index=names)
    json_file = geo.write_coco(folder / 'a.json', names, kp, 'mouse', (96, 128), sure)
    return dict(
        csv=label_fields(csv),
        h5=label_fields(h5),
        lightning=label_fields(lp),
        coco=label_fields(coco),
        free=label_fields(free),
        written=Path(written),
        json=Path(json_file),
        packed=pd.read_hdf(packed),
        again=label_fields(geo.read_dlc_h5(packed, 'mouse')),
    )


@case('video frames')
def video_frames(folder):
    "Crops of videos and stills: moving, whole, and by given boxes"
    fix.write_clips(folder / 'v', 16)
    fix.write_images(folder / 's', 5)
    out = {}
    for crop in ('motion', 'whole'):
        frames = geo.VideoFrames(folder / 'v', 32, crop, progress=False)
        out[crop] = dict(
            images=frames.images(range(len(frames))),
            video=np.asarray(frames.video_id),
            frame=np.asarray(frames.frame),
            boxes=getattr(frames, 'boxes', None),
            sides=getattr(frames, 'sides', None),
            backgrounds=getattr(frames, 'backgrounds', None),
            back=frames.to_frame(torch.zeros(len(frames), 4, 2)),
        )
    stepped = geo.VideoFrames(folder / 'v', 32, 'motion', step=2, store='none', progress=False)
    out['stepped'] = stepped.images(range(len(stepped)))
    stills = geo.VideoFrames(folder / 's', 32, 'whole', progress=False)
    out['stills'] = stills.images(range(len(stills)))
    lines = ['frame,x,y,w,h'] + [f'{i},{5 + i},6,30.5,30' for i in range(16)]
    (folder / 'boxes.csv').write_text('\n'.join(lines))
    boxed = geo.VideoFrames(folder / 'v' / 'clip2.mp4', 32, str(folder / 'boxes.csv'),
                            progress=False)
    out['boxed'] = boxed.images(range(len(boxed)))
    fix.write_dlc_tree(folder / 'dlc')
    labels = geo.read_labels(folder / 'dlc/CollectedData_lab.csv', 'mouse')
    labelled = geo.LabelledFrames(labels, folder / 'dlc', size=32, crop='whole', progress=False)
    out['labelled'] = dict(images=labelled.frames.images(range(6)), pixels=labelled.pixels)
    return out


def maps_of(folder, pattern, read):
    "What a function reads from the files of a pattern"
    files = sorted(folder.glob(pattern))[:3]
    return {file.name: read(file) for file in files}


@case('depth images and masks')
def maps_of_sets(folder):
    fix.write_rhd(folder / 'rhd')
    fix.write_mvhand(folder / 'mv', n_frames=2)
    fix.write_surreal(folder / 'sur')
    left = functools.partial(geo.read_rhd_mask, side='left')
    surface = functools.partial(geo.read_surreal_depth, at=1)
    parts = functools.partial(geo.read_surreal_segm, at=1)
    return dict(
        rhd_depth=maps_of(folder / 'rhd', 'training/depth/*.png', geo.read_rhd_depth),
        rhd_mask=maps_of(folder / 'rhd', 'training/mask/*.png', geo.read_rhd_mask),
        rhd_left=maps_of(folder / 'rhd', 'training/mask/*.png', left),
        mv_depth=maps_of(folder / 'mv', '**/depth/**/*.png', geo.read_mvhand_depth),
        mv_mask=maps_of(folder / 'mv', '**/mask/**/*.*', geo.read_mvhand_mask),
        surreal_depth=maps_of(folder / 'sur', '**/*_depth.mat', surface),
        surreal_parts=maps_of(folder / 'sur', '**/*_segm.mat', parts),
    )


@case('packed crops')
def packed_crops(folder):
    "A set whose crops are made once"
    fix.write_surreal(folder / 'sur')
    data = geo.SURREAL(folder / 'sur', size=SIZE)
    packed = data.pack(folder / 'packed')
    part = packed.subset(np.arange(1, len(packed), 2))
    return dict(first=first_items(packed), part=part.batch(range(3)))


@case('joints by name')
def joints_by_name(folder):
    "A set whose joints are matched with those of another skeleton"
    fix.write_lsp(folder / 'lsp', 4)
    body = geo.LSP(folder / 'lsp', size=SIZE)
    names = tuple(reversed(body.skeleton.joints))
    other = geo.named_skeleton('reversed', names)
    data = geo.Remapped(body, other)
    return dict(batch=data.batch(range(4)), map=_joint_map(body.skeleton, other))


# The paper's tables


def folder_of_runs():
    return fix.folder.parent / 'results' / 'tables' / 'runs'


@case('tables')
def tables(folder):
    "Raw figures, text and sentences of every table, from the runs in the repository"
    runs = geo.load_runs(folder_of_runs())
    out = {}
    for name in geo.TABLES:
        file = geo.write_csv(name, runs, folder / f'{name}.csv')
        out[name] = dict(
            csv=Path(file),
            text=geo.format_table_text(name, runs),
            frame=geo.table_frame(name, runs),
            gaps=geo.gap_frame(name, runs),
            paper=geo.paper_frame(name),
            gains=repr(geo.gains(name, runs)),
            findings=repr(geo.findings(name, runs)),
        )
    return out


@case('correlations and expectations')
def correlations(folder):
    "What the tables' runs say of figures without labels, and the sentences about them"
    runs = geo.load_runs(folder_of_runs())
    x = np.random.default_rng(0).normal(size=24)
    y = x + np.random.default_rng(1).normal(size=24)
    changes = geo.diagnosis_changes(runs)
    return dict(
        spearman=repr(geo.correlation(x, y)),
        pearson=repr(geo.correlation(x, y, 'pearson')),
        clusters=repr(geo.correlation(x, y, clusters=np.arange(24) // 3)),
        changes=changes,
        frame=geo.correlation_frame(changes),
        expectations=geo.expectations(runs),
    )


@case('command: results')
def results_command(folder):
    "What the command prints"
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        missing = geo.results(folder=str(folder_of_runs()))
    return dict(missing=missing, text=text.getvalue())


@case('statistics of tables')
def statistics(folder):
    "Paired gains and shares of the gap, on runs that are made up"
    made = {}
    for name in ('source', 'pseudo', 'full', 'oracle'):
        made[name] = [geo.made_up_run(name, seed, geo.HAND21) for seed in range(3)]
    out = {}
    for group in ('all', 'fin', 'wrist'):
        out[group] = dict(
            gain=repr(geo.paired_gain(made['full'], made['pseudo'], group)),
            gap=repr(geo.gap_closed(made['full'], made['source'], made['oracle'], group)),
            mean=repr(geo.mean_interval(made['full'], group)),
        )
    return out


RUNS = (
    'source',
    'aligned',
    'bn',
    'pseudo',
    'pseudo2d',
    'full',
    'heatmap',
    'uniframe',
    'regda',
    'ccssl',
    'semihand',
    'dualnet',
    'pseudo>full',
    'uniframe+temporal',
    'oracle',
)


def without_times(value):
    "Nested containers without seconds and memory"
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if 'seconds' not in k and 'rss' not in k}
        return {k: without_times(v) for k, v in kept.items()}
    if isinstance(value, list):
        return [without_times(v) for v in value]
    return value


@case('runs behind tables')
def runs_behind_tables(folder):
    "Each method as the tables are made with it, on a bench of two short videos"
    preset = small_preset(
        name='golden',
        restyle='stylenet',
        depth=True,
        style_widths=(4, 8),
        style_encoder_epochs=1,
        style_epochs=1,
        style_bs=4,
        align_epochs=1,
        steps=2,
        epochs=1,
    )
    bench = geo.Bench('small', 'hand', n_videos=2, n_frames=16, n_test=8)
    todo = [geo.spec(bench, name, 0, {}, preset) for name in RUNS]
    geo.work_on(todo, folder / 'results', folder / 'work')
    out = {}
    for wanted in todo:
        result = json.loads((folder / 'results' / wanted.path).read_text())
        result = without_times(result)
        out[wanted.method] = {key: repr(value) for key, value in result.items()}
    return out


SMALL = ['size=48', 'width=.25', 'deconv_width=32', 'warp_width=8', 'gen_width=8', 'gen_res=1']
SMALL += ['bs=4', 'adapt_bs=4', 'adapt_bs_target=3', 'steps=2', 'epochs=1', 'adapt_epochs=2']
SMALL += ['rec_start=0', 'rec_attach=1', 'gamma=.02', 'amp=false']


@case('command: adapt')
def adapt_command(folder):
    "Adaptation to one's own video, and prediction with what it wrote"
    fix.write_clips(folder / 'clips', 14, ['a.mp4'])
    geo.main(
        ['adapt', '--skeleton', 'mouse', '--target', 'clips/a.mp4', '--out', 'out', '--no-bar']
        + ['--preset', 'compact', '--pool', '24', '--set', *SMALL]
    )
    geo.main(
        ['predict', '--model', 'out', '--input', 'clips/a.mp4', '--out', 'again', '--no-bar']
    )
    results = json.loads((folder / 'out' / 'results.json').read_text())
    weights = torch.load(folder / 'out' / 'model.pth', weights_only=True)
    return dict(
        weights=Whole(weights['model']),
        rows=repr(without_times(results['rows'])),
        preset=fields_of_preset((folder / 'out' / 'preset.yaml').read_text()),
        joints=folder / 'out' / 'predictions.csv',
        coco=folder / 'out' / 'predictions.json',
        again=folder / 'again' / 'predictions.csv',
        film=Whole(list(geo.read_video(folder / 'out' / 'labelled.mp4'))),
    )


@case('command: train')
def train_command(folder):
    "From one labelled data set to another, measured on its labels"
    fix.write_rhd(folder / 'rhd')
    fix.write_h3d(folder / 'h3d', 3, 6)
    geo.main(
        ['train', '--source', 'rhd:rhd', '--target', 'h3d:h3d?split=all', '--out', 'out']
        + ['--test', 'h3d:h3d?split=all', '--preset', 'tiny', '--workers', '0', '--no-bar']
        + ['--set', *SMALL, 'restyle=jitter', 'align_epochs=1', 'stride=1,3']
    )
    results = json.loads((folder / 'out' / 'results.json').read_text())
    weights = torch.load(folder / 'out' / 'model.pth', weights_only=True)
    return dict(weights=Whole(weights['model']), rows=repr(without_times(results['rows'])))


# Command line


def difference(old, new):
    "Keys of a case that differ, with what can be said of them"
    lines = []
    for key in [*old, *(k for k in new if k not in old)]:
        if key not in new:
            lines.append(f'{key}: gone')
        elif key not in old:
            lines.append(f'{key}: new')
        elif old[key]['sha'] != new[key]['sha']:
            a, b = old[key], new[key]
            if 'content' in a and a.get('content') == b.get('content'):
                lines.append(f'{key}: same contents, other names or order')
                continue
            shown = [d.get('text', (d.get('shape'), d.get('sum'))) for d in (a, b)]
            lines.append(f'{key}: {shown[0]} -> {shown[1]}')
    return lines


def last_line(error):
    where = traceback.extract_tb(error.__traceback__)[-1]
    text = ' '.join(str(error).split())[:300]
    return f'{type(error).__name__}: {text} ({Path(where.filename).name}:{where.lineno})'


def about():
    "What the digests depend on beside the code"
    import geomrecon

    return dict(
        torch=torch.__version__,
        numpy=np.__version__,
        python=platform.python_version(),
        cpu=torch.backends.cpu.get_cpu_capability(),
        package=geomrecon.__version__,
    )


def record(file, names):
    old = json.loads(file.read_text()) if file.exists() else {}
    kept = old.get('cases', {}) if len(names) < len(CASES) else {}
    failed = 0
    start = time.time()
    for name in names:
        try:
            values, seconds = run_case(name)
        except Exception as error:
            print(f'{name}: error: {last_line(error)}', flush=True)
            kept.pop(name, None)
            failed += 1
            continue
        kept[name] = dict(seconds=round(seconds, 2), values=values)
        print(f'{name}: {len(values)} values, {seconds:.1f} s', flush=True)
    file.write_text(json.dumps(dict(about=about(), cases=kept), indent=1))
    print(f'{len(names) - failed} of {len(names)} cases recorded, {time.time() - start:.0f} s')
    return int(failed > 0)


def compare(file, names, most=20):
    old = json.loads(file.read_text())
    if old['about'] != about():
        print(f'recorded with {old["about"]}, now {about()}')
    count = dict(same=0, different=0, error=0)
    start = time.time()
    for name in names:
        if name not in old['cases']:
            print(f'{name}: not in the file', flush=True)
            count['error'] += 1
            continue
        try:
            values, seconds = run_case(name)
        except Exception as error:
            print(f'{name}: error: {last_line(error)}', flush=True)
            count['error'] += 1
            continue
        lines = difference(old['cases'][name]['values'], values)
        word = 'different' if lines else 'same'
        count[word] += 1
        print(f'{name}: {word}, {seconds:.1f} s', flush=True)
        for line in lines[:most]:
            print(f'    {line}')
        if len(lines) > most:
            print(f'    and {len(lines) - most} more')
    print(', '.join(f'{n} {word}' for word, n in count.items()), f'{time.time() - start:.0f} s')
    return int(count['different'] + count['error'] > 0)


def main():
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', choices=('record', 'compare'))
    parser.add_argument('file', type=Path)
    parser.add_argument('--only', nargs='+', help='names of cases, or how they begin')
    parser.add_argument('--tests', type=Path, default=here, help='folder of the fixtures')
    args = parser.parse_args()
    fix.folder = args.tests.resolve()
    wanted = tuple(args.only or ('',))
    names = [name for name in CASES if name.startswith(wanted)]
    if not names:
        parser.error(f'no case begins with {wanted}; there are {list(CASES)}')
    import geomrecon

    print(f'geomrecon of {Path(geomrecon.__file__).parent}', flush=True)
    print(f'{len(geo.modules)} modules', flush=True)
    do = record if args.what == 'record' else compare
    return do(args.file.resolve(), names)


if __name__ == '__main__':
    sys.exit(main())
