"""Time and memory of a training step, part by part and as a whole, beside what the device could do at best and beside straightforward code.

    python bench/step.py [--preset tiny] [--device cuda] [--threads 1] [--out results/bench-cpu.json]
    python bench/step.py --memory [--out results/memory.json]

Floor: matrix products at the measured rate of their dtype, everything else at the measured rate of copying what it reads and writes, operator by operator; a fused or
cached operator can beat it. Straightforward: `straightforward.py`, whose results are compared with ours before either is timed.
With --memory nothing is computed: the step of the paper's presets runs on fake tensors at full batch, and the bytes alive are counted, with FLOPs and traffic."""

import argparse, copy, json, os, resource, statistics, tempfile, time, warnings
from pathlib import Path
import cv2, numpy as np, torch, torchvision
from fastai.callback.core import Callback, CancelFitException, CancelValidException
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
import straightforward as plain
from geomrecon.data.augment import TensorPoses, cutout, photometric, random_affine
from geomrecon.data.pairs import pose_dls
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.core.geometry import apply_affine, from_pixels, lift, to_25d, to_pixels, warp_image
from geomrecon.core.heatmap import decode, decode_depth, render_heatmaps
from geomrecon.learn.learner import adapt_learner, build_pose, pose_learner, source_limits
from geomrecon.learn.presets import get_preset
from geomrecon.learn.speed import CPUMixedPrecision, cpu_bf16
from geomrecon.losses.align import FeatureTap, jitter
from geomrecon.losses.kinematics import correct_pose
from geomrecon.losses.pseudo import pose_loss, pseudo_labels
from geomrecon.losses.supervised import depth_loss
from geomrecon.models.bones import bone_maps, bone_transforms, px64
from geomrecon.models.memory import LiveBytes, SavedBytes
from geomrecon.models.pose import domain_split
from geomrecon.models.style import ConvEncoder, StyleNet, VGGEncoder
from geomrecon.models.stylise import Stylise, style_stats
from geomrecon.core.skeleton import get_skeleton

GB = 2**30
RANDOM = (
    Path(tempfile.gettempdir()) / f'random_vgg19_{os.getpid()}.pth'
)  # Weights of the right shape, for timing alone

# The device


class Clock:
    "Seconds of a call, all its work on the device included; of a single thread its CPU time, which other work on the machine changes little"

    def __init__(self, device, threads=1):
        self.cuda = device.type == 'cuda'
        self.now = time.process_time if threads == 1 and device.type == 'cpu' else time.perf_counter

    def __call__(self, f):
        if not self.cuda:
            t = self.now()
            f()
            return self.now() - t
        a, b = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        a.record()
        f()
        b.record()
        torch.cuda.synchronize()
        return a.elapsed_time(b) / 1e3

    def best(self, f, seconds=1.0, most=20):
        "Median over as many calls as fit into `seconds`, at least two, after a first one that does not count"
        f()
        times, end = [], time.perf_counter() + seconds
        while len(times) < 2 or len(times) < most and time.perf_counter() < end:
            times.append(self(f))
        return statistics.median(times)


def rates(device, clock):
    "Multiply-adds x 2 per second of matrix products, by dtype, and bytes per second read plus written by a copy"
    n, out = (8192, {}) if device.type == 'cuda' else (1024, {})
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        out[dtype] = 2 * n**3 / min(clock.best(lambda: a @ b, 0.5) for _ in range(2))
    x = torch.empty((2**30 if device.type == 'cuda' else 2**26) // 4, device=device)
    y = torch.empty_like(x)
    return out, 2 * x.nbytes / min(clock.best(lambda: y.copy_(x), 0.5) for _ in range(2))


class Cost(TorchDispatchMode):
    "Operators, FLOPs and bytes of what runs inside, and the seconds that the device would need at best"

    def __init__(self, products, copies):
        super().__init__()
        self.products = products
        self.copies = copies
        self.ops = 0
        self.flops = 0.0
        self.bytes = 0.0
        self.seconds = 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        ins, outs = (
            [t for t in tree_leaves(v) if isinstance(t, torch.Tensor)]
            for v in ((args, kwargs), out)
        )
        if not outs and func._schema.is_mutable:
            outs = [t for t in tree_leaves(args[0]) if isinstance(t, torch.Tensor)]
        given = {t.untyped_storage()._cdata for t in ins}
        view = not func._schema.is_mutable and all(
            t.untyped_storage()._cdata in given for t in outs
        )
        if view or not outs:
            return out
        f = (
            flop_registry[func._overloadpacket](*args, **kwargs, out_val=out)
            if func._overloadpacket in flop_registry
            else 0
        )
        n = sum(t.numel() * t.element_size() for t in (*ins, *outs))
        kind = next((t.dtype for t in ins if t.is_floating_point()), torch.float32)
        self.ops += 1
        self.flops += f
        self.bytes += n
        self.seconds += max(
            f / self.products.get(kind, self.products[torch.float32]), n / self.copies
        )
        return out


def peak(f, device):
    "Most bytes that a call held beyond what was there before"
    if device.type == 'cuda':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        f()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with LiveBytes() as m:
        f()
    return m.peak


# What is measured


class Setting:
    "Data, networks and one batch of a preset"

    def __init__(self, p, device, skeleton):
        self.p = p
        self.device = device
        self.sk = get_skeleton(skeleton)
        n = max(p.bs, p.adapt_bs)
        render = PuppetImages(self.sk, 4096, p.size, 'synthetic', seed=0)
        b = render.batch(range(n))
        self.source = TensorPoses(
            b['image'], b['keypoints'], b['visible'], self.sk, b['joints3d'], b['intrinsics']
        )
        self.frames = PuppetVideos(
            self.sk, 2, max(32, p.adapt_bs_target), p.size, 'real', seed=0
        ).frames()
        self.limits = source_limits(render, 512, p.limits_margin)
        if 'vgg19' in (p.features, p.style_encoder):
            torch.save(
                torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs['E']).state_dict(),
                RANDOM,
            )
        self.amp = dict(
            device_type=device.type,
            dtype=torch.bfloat16,
            enabled=p.amp and (device.type == 'cuda' or cpu_bf16()),
        )
        self.pose = build_pose(self.sk, p)

    def dls(self, target, steps):
        p = self.p
        size = dict(p.sizes(target), steps=steps * p.accumulate)
        return pose_dls(
            self.source,
            self.source,
            self.frames if target else None,
            stride=p.stride,
            aug=p.aug,
            device=self.device,
            depth=p.depth,
            focal=p.focal,
            **size,
        )

    def stylised(self):
        "The second view of pre-training, and its StyleNet"
        p = self.p
        if p.restyle != 'stylenet':
            return jitter, None
        enc = (
            ConvEncoder(p.style_widths)
            if p.style_encoder == 'conv'
            else VGGEncoder(torch.load(RANDOM))
        )
        net = StyleNet(enc, None if p.style_encoder == 'vgg19' else len(p.style_widths)).to(
            self.device
        )
        return Stylise(net, style_stats(net, self.frames, n=32), 1.0, p.style_alpha).stylise, net

    def learner(self, kind, steps, **changes):
        p = get_preset(
            self.p,
            rec_start=0.0,
            rec_attach=0.0,
            integrate=0.0,
            features='encoder' if self.p.features == 'encoder' else str(RANDOM),
            **changes,
        )
        if kind == 'pre-training':
            return pose_learner(
                self.dls(False, steps),
                p,
                copy.deepcopy(self.pose),
                self.stylised()[0] if p.restyle else None,
            )
        return adapt_learner(
            self.dls(True, steps), self.pose, p, limits=self.limits if p.depth else None
        )


class Repeat:
    "A loader that gives its first batch again and again"

    def __init__(self, dl, n):
        self.dl = dl
        self.batch = dl.one_batch()
        self.n = n

    def __getattr__(self, k):
        return getattr(self.dl, k)

    def __len__(self):
        return self.n

    def __iter__(self):
        return (self.batch for _ in range(self.n))


class NoValidation(Callback):
    def before_validate(self):
        raise CancelValidException


class Timer(Callback):
    "Seconds per step after the first `skip`"

    order = 10000

    def __init__(self, clock, skip=1):
        self.clock = clock
        self.skip = skip

    def wait(self):
        if self.clock.cuda:
            torch.cuda.synchronize()
        return self.clock.now()

    def after_batch(self):
        if self.iter == self.skip - 1:
            self.start = self.wait()

    def after_train(self):
        self.seconds = (self.wait() - self.start) / (self.n_iter - self.skip)


class Held(Callback):
    "Peak of one step beyond weights, buffers and the optimiser's state, which are added from their sizes"

    order = -1000

    def before_batch(self):
        if self.dls.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats()
        elif self.iter == self.n_iter - 1:
            self.grads = sum(q.grad.nbytes for q in self.model.parameters() if q.grad is not None)
            self.live = LiveBytes()
            self.live.__enter__()

    def after_batch(self):
        if self.dls.device.type == 'cuda':
            self.peak = torch.cuda.max_memory_allocated()
        elif self.iter == self.n_iter - 1:
            self.live.__exit__(None, None, None)
            self.peak = self.live.peak + self.grads + fixed(self.learn)


class Counted(Callback):
    "`Cost` of one step"

    order = -1000

    def __init__(self, products, copies):
        self.cost = Cost(products, copies)

    def before_batch(self):
        self.cost.__enter__()

    def after_batch(self):
        self.cost.__exit__(None, None, None)


def fixed(learn):
    "Bytes of weights, buffers and Adam's two averages, the frozen perceptual net's and a teacher's included"
    nets = [
        learn.model,
        *(
            m
            for cb in learn.cbs
            for m in (getattr(cb, 'perceptual', None), getattr(cb, 'teacher', None))
            if isinstance(m, torch.nn.Module)
        ),
    ]
    return sum(t.nbytes for m in nets for t in [*m.parameters(), *m.buffers()]) + sum(
        2 * q.nbytes for q in learn.model.parameters()
    )


def fit(learn, cbs, repeat=None):
    if repeat is not None:
        learn.dls.loaders[0] = repeat
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=[NoValidation(), *cbs])


def step_time(setting, kind, steps, clock, rate):
    "Seconds, peak bytes and `Cost` of a training step, all terms on, of a batch that is at hand"
    learn = setting.learner(kind, steps)
    dl = learn.dls.train
    timer = Timer(clock, max(1, steps // 5))
    held = Held()
    counted = Counted(*rate)
    fit(learn, [timer], Repeat(dl, steps * setting.p.accumulate))
    fit(learn, [held], Repeat(dl, 2 * setting.p.accumulate))
    if not setting.p.compile:
        fit(learn, [counted], Repeat(dl, 1))
    return timer.seconds, held.peak, counted.cost


# Parts: (name, ours, straightforward or None, comparison of the two or None)


def close(ours, theirs, tol):
    "Raise unless corresponding results agree within `tol`, relative to the size of each result"
    for a, b in zip(ours, theirs):
        a, b = (t.detach().cpu().double() for t in (a, b))
        d = ((a - b).norm() / b.norm().clamp_min(1e-9)).item()
        if not d <= tol:
            raise AssertionError(f'straightforward version differs by {d:.2g}, more than {tol}')


def backward(*outs, given=()):
    "Gradients with respect to whatever needs them"
    sum(o.float().mean() for o in outs).backward()
    for t in given:
        t.grad = None


def network_parts(s):
    "Networks, forward and backward"
    p = s.p
    dev = s.device
    n = s.p.adapt_bs
    m = s.p.adapt_bs_target
    learn = s.learner('adaptation', 1)
    model = learn.model.to(dev, memory_format=torch.channels_last).train()
    model.mode = 'attached'
    perceptual = learn.reconstruct.perceptual.to(dev, memory_format=torch.channels_last)
    x = torch.rand(n + 2 * m, 3, p.size, p.size, device=dev)
    base, drv = x[n : n + m], x[n + m :]
    K = s.sk.n_joints
    kp = [(torch.rand(m, K, 2, device=dev) * 1.6 - 0.8).requires_grad_() for _ in range(2)]
    with torch.no_grad(), torch.autocast(**s.amp):
        w = model.warp(base, *kp)
    flow = w['flow'].detach().requires_grad_()
    inpaint = w['inpaint'].detach().requires_grad_()
    image = drv.clone().requires_grad_()

    def auto(f):
        def run():
            with torch.autocast(**s.amp):
                out = f()
            backward(*out)
            model.zero_grad()
            [setattr(t, 'grad', None) for t in (*kp, flow, inpaint, image)]

        return run

    def label():
        model.eval()
        with torch.no_grad(), torch.autocast(**s.amp), domain_split(model.pose, 0):
            model.pose(x[n:])
        model.train()

    def estimate():
        w = model.warp(base, *kp)
        return w['flow'], w['inpaint']

    def optimise():
        learn.opt.step()

    learn.create_opt()
    [q.requires_grad and setattr(q, 'grad', torch.zeros_like(q)) for q in model.parameters()]
    yield (
        f'optimiser, {sum(q.numel() for q in model.parameters()) / 1e6:.0f} M weights',
        optimise,
        None,
        None,
    )
    yield (
        f'pose net, {n}+2x{m} images',
        auto(lambda: [t for t in model.maps(x, n) if t is not None]),
        None,
        None,
    )
    yield f'pose net for labels, 2x{m}', label, None, None
    yield f'warp W, {m} pairs', auto(estimate), None, None
    yield (
        f'generator G, {m} pairs',
        auto(lambda: [model.generator(base, flow, inpaint)]),
        None,
        None,
    )
    yield f'perceptual loss, {m} pairs', auto(lambda: [perceptual(image, drv)]), None, None
    if p.restyle:
        restyle = s.stylised()[0]
        y = torch.rand(p.bs, 3, p.size, p.size, device=dev)

        def second():
            with torch.no_grad(), torch.autocast(**s.amp):
                restyle(y)

        yield f'second view, {p.bs} images', second, None, None


def bone_parts(s, B, grid):
    "Bone maps, covariances and transforms, forward and backward"
    dev = s.device
    kp = [
        (torch.rand(B, s.sk.n_joints, 2, device=dev) * 1.2 - 0.6).requires_grad_() for _ in range(2)
    ]

    def ours():
        return (
            bone_maps(kp[0], bones, grid),
            bone_maps(kp[1], bones, grid),
            bone_transforms(*kp, bones, 'moments', l0=0.0),
        )

    def theirs():
        return plain.bone_transforms(*kp, s.sk.bones, grid, px64)

    bones = torch.tensor(s.sk.bones, device=dev)
    run = lambda f: lambda: backward(*f(), given=kp)
    yield (
        f'bones, {B} x {s.sk.n_bones} on a {grid} grid',
        run(ours),
        run(theirs),
        lambda: close(ours(), theirs(), 0.02),
    )


def label_parts(s):
    "Targets, pseudo-labels, lifting and correction"
    p = s.p
    dev = s.device
    n = s.p.adapt_bs
    m = s.p.adapt_bs_target
    b = s.source.batch(np.arange(2 * m) % len(s.source))
    h = s.pose.heatmap_size(p.size)
    K = s.sk.n_joints
    kp = s.source.keypoints[:n]
    vis = s.source.visible[:n]
    flip = list(range(K))
    kd, vd = kp.to(dev), vis.to(dev)
    yield (
        f'target heatmaps, {n} x {K}',
        lambda: render_heatmaps(kd, h, p.sigma, vd),
        lambda: plain.label_maps(kp, vis, h, p.sigma).to(dev),
        lambda: close(
            [render_heatmaps(kd, h, p.sigma, vd)], [plain.label_maps(kp, vis, h, p.sigma)], 1e-5
        ),
    )
    M = random_affine(2 * m, p.rotate, p.scale, p.shift, device=dev)
    hm = render_heatmaps(b['keypoints'].to(dev), h, p.sigma) * torch.rand(
        2 * m, K, 1, 1, device=dev
    )

    def ours():
        q, mask = pseudo_labels(hm, M, flip, p.gamma, beta=p.beta)
        return q, mask, render_heatmaps(q, h, p.sigma, mask)

    def theirs():
        return plain.pseudo_labels(hm, M, p.gamma, p.beta, p.sigma)

    yield f'2D pseudo-labels, {2 * m} x {K}', ours, theirs, lambda: close(ours(), theirs(), 1e-4)
    cam = b['intrinsics'].to(dev)
    xyz = b['joints3d'].to(dev)
    root, bone = s.sk.root, s.sk.reference
    px, d, _ = to_25d(xyz, cam, root, bone)
    d = d + 0.05 * torch.randn_like(d)
    bent = xyz + 15 * torch.randn_like(xyz)
    yield (
        f'lifting, {2 * m} poses',
        lambda: lift(px, d, cam, root, bone),
        lambda: plain.lift(px, d, cam, root, bone).to(dev),
        lambda: close(
            [lift(px, d, cam, root, bone)[0]], [plain.lift(px, d, cam, root, bone)], 1e-3
        ),
    )
    yield (
        f'correction, {2 * m} poses, one walk',
        lambda: correct_pose(bent, s.limits, passes=0),
        lambda: plain.correct(bent, s.limits).to(dev),
        lambda: close(
            [correct_pose(bent, s.limits, passes=0)], [plain.correct(bent, s.limits)], 1e-3
        ),
    )
    yield (
        f'correction, {2 * m} poses, as in a step',
        lambda: correct_pose(bent, s.limits),
        None,
        None,
    )


def data_parts(s):
    "A batch from memory, and its augmentation on the device"
    p, dev = s.p, s.device
    dl = s.dls(True, 1).train
    draw = lambda n, k: np.arange(n) % k
    idxs = (
        draw(p.adapt_bs, len(s.source)),
        draw(p.adapt_bs_target, len(s.frames)),
        draw(p.adapt_bs_target, len(s.frames)),
    )
    batch = lambda: next(dl.create_batches([idxs]))
    b = batch()
    x = [t.to(dev) for t in b]
    img, kp = b[0], b[-2 - p.depth]
    M = random_affine(len(img), p.rotate, p.scale, p.shift)
    Md, kd, xd = M.to(dev), kp.to(dev), img.to(dev)

    def ours():
        return warp_image(xd.float() / 255, Md, pad='reflection'), apply_affine(Md, kd)

    def theirs():
        return [t.to(dev) for t in plain.augment(img, M, kp)]

    yield (
        f'images and joints moved, {len(img)}',
        ours,
        theirs,
        lambda: close(ours(), theirs(), 0.02),
    )
    yield (
        f'whole augmentation, {p.adapt_bs}+2x{p.adapt_bs_target} images',
        lambda: dl.tfm.encodes(tuple(x)),
        None,
        None,
    )
    yield 'batch from memory', batch, None, None


# The whole step, straightforward


class Straightforward:
    "A training step in float32 with the hot parts of `straightforward.py`; the networks and the losses on device are the same"

    def __init__(self, s, kind):
        self.s = s
        p = s.p
        torch.manual_seed(0)
        learn = s.learner(kind, 1, checkpointing=())
        self.target = kind != 'pre-training'
        self.net = learn.model.to(s.device).train()
        self.net.mode = 'attached' if self.target else 'off'
        self.opt = torch.optim.Adam(self.net.parameters(), p.lr)
        self.terms = {cb.term: cb for cb in learn.cbs if hasattr(cb, 'term')}
        self.h = s.pose.heatmap_size(p.size)
        if 'align' in self.terms:
            self.tap = FeatureTap(self.net.pose.encoder)
        if self.target:
            self.net.warp._transforms = self.transforms
            self.perceptual = self.terms['rec'].perceptual.to(s.device)

    def transforms(self, base, driving):
        "Drop-in for W's: by pixel sums and an SVD per bone"
        M = plain.bone_transforms(base, driving, self.s.sk.bones, self.h, px64)[2]
        return torch.cat([torch.eye(2, 3, device=M.device).expand(len(M), 1, 2, 3), M], 1)

    def moved(self, img, M, kp=None, hide=0.0):
        x, kp = plain.augment(img, M, kp)
        x = photometric(x.to(self.s.device), self.s.p.colour)[0]
        return (cutout(x, hide) if hide else x), kp

    def targets(self, kp, vis):
        "Label maps from the host and their joints"
        return plain.label_maps(kp, vis, self.h, self.s.p.sigma).to(self.s.device), vis.to(
            self.s.device
        )

    def squared(self, hm, target, mask):
        return (
            ((hm - target).square().sum((2, 3)) * mask).sum()
            / mask.sum().clamp_min(1)
            / (np.pi * self.s.p.sigma**2)
        )

    def pseudo(self, out, clean, M, cam):
        s, p, net = self.s, self.s.p, self.net
        net.eval()
        with torch.no_grad(), domain_split(net.pose, 0):
            hm, D = net.pose(clean, depth=True) if p.depth else (net.pose(clean), None)
        net.train()
        kp, mask, maps = plain.pseudo_labels(hm, M, p.gamma, p.beta, p.sigma)
        loss = self.squared(
            torch.cat([out['base'], out['driving']]), maps.to(s.device), mask.to(s.device)
        )
        if D is None:
            return loss
        d = decode_depth(hm, D, 'local', p.beta)
        at = torch.from_numpy(
            np.stack([[plain.peak(k, p.beta) for k in h] for h in hm.cpu().numpy()])
        ).float()
        xyz = plain.correct(
            plain.lift(to_pixels(at, p.size), d, cam, s.sk.root, s.sk.reference), s.limits
        )
        px, d3, _ = to_25d(xyz, cam.double(), s.sk.root, s.sk.reference)
        new = from_pixels(px, p.size).float().nan_to_num()
        d3 = d3.float().nan_to_num()
        near = (new - at).norm(dim=-1) / 2 < p.gamma_3d
        new = torch.stack([(m[:, :2] @ k.T).T + m[:, 2] for m, k in zip(M.cpu(), new)])
        return loss + p.y_weight * pose_loss(
            decode(torch.cat([out['base'], out['driving']]), beta=p.beta),
            torch.cat([out['depth_base'], out['depth_driving']]),
            *(t.to(s.device) for t in (new, d3, near | mask)),
        )

    def __call__(self, raw):
        "One step from a raw batch of the loader"
        s = self.s
        p = self.s.p
        net = self.net
        dev = self.s.device
        img, *rest = raw
        kp, vis, *d = rest[-2 - p.depth :]
        geo = (p.rotate, p.scale, p.shift)
        x, kp = self.moved(img, random_affine(len(img), *geo), kp, p.cutout)
        vis = vis.bool() & (kp.abs() <= 1).all(-1)
        d = [t.to(dev) for t in d]
        if not self.target:
            if 'align' in self.terms:
                x = torch.cat([x, self.terms['align'].restyle(x)])
                kp = torch.cat([kp, kp])
                vis = torch.cat([vis, vis])
                d = [torch.cat([t, t]) for t in d]
            out = net(x)
        else:
            M = random_affine(len(rest[0]), *geo)
            base, drv = (self.moved(t, M)[0] for t in rest[:2])
            out = net(x, base, drv)
        maps, mask = self.targets(kp, vis)
        loss = self.squared(out['heatmaps'], maps, mask)
        if p.depth:
            loss = loss + p.depth_weight * depth_loss(out['depth'], d[0], mask)
        if 'align' in self.terms:
            loss = loss + p.align_weight * self.terms['align'].loss_of(*self.tap.take().chunk(2))
        if self.target:
            clean = torch.cat(rest[:2]).to(dev).float() / 255
            cam = torch.cat(rest[2:4]).float() if p.depth else None
            loss = (
                loss
                + p.pseudo_weight * self.pseudo(out, clean, torch.cat([M, M]), cam)
                + p.rec_weight * self.perceptual(out['recon']['image'], drv)
            )
        loss.backward()
        self.opt.step()
        self.opt.zero_grad()
        return loss


# Memory on fake tensors


class Pretend(Callback):
    "The whole step on fake tensors, its bytes counted; ends the training before the optimiser's step"

    order = -1000

    def __init__(self, mode):
        self.mode = mode
        self.marks = {}

    def before_batch(self):
        self.mode.__enter__()
        self.live = LiveBytes()
        self.cost = Cost({torch.float32: 1.0}, 1.0)
        self.live.__enter__()
        self.cost.__enter__()
        self.saved = SavedBytes(self.learn.model)
        self.saved.__enter__()

    def after_pred(self):
        self.marks['forward'] = self.live.now

    def before_backward(self):
        self.saved.__exit__(None, None, None)
        self.marks['saved'] = self.saved.total
        self.saved.held.clear()

    def before_step(self):
        self.cost.__exit__(None, None, None)
        self.live.__exit__(None, None, None)
        self.mode.__exit__(None, None, None)
        self.marks['live'] = self.live.peak
        self.marks['fixed'] = fixed(self.learn)
        raise CancelFitException


def memory(names, skeleton):
    "Peak bytes of the steps of some presets, bfloat16, full batch, with and without checkpointing"
    rows = []
    options = (
        (),
        ('merge',),
        ('pose',),
        ('merge', 'generator'),
        ('pose', 'warp', 'merge', 'generator', 'perceptual'),
    )
    print(
        f'{"preset":12s}{"stage":14s}{"computed twice":40s}{"kept":>8s}{"peak":>8s}{"+fixed":>8s}{"total":>8s} GiB{"TFLOP":>7s}{"GiB r/w":>8s}{"ops":>8s}'
    )
    for name in names:
        s = Setting(get_preset(name, weights=None), torch.device('cpu'), skeleton)
        for kind in ('pre-training', 'adaptation'):
            for parts in options:
                if kind == 'pre-training' and set(parts) & {'merge'}:
                    continue
                learn = s.learner(kind, 1, checkpointing=parts)
                see = Pretend(FakeTensorMode(allow_non_fake_inputs=True))
                if not hasattr(learn, 'cpu_mixed_precision'):
                    learn.add_cb(CPUMixedPrecision())
                for (
                    cb
                ) in learn.cbs:  # Tables are made for real, or they would be fake ones for ever
                    if getattr(cb, 'limits', None) is not None:
                        correct_pose(torch.randn(2, s.sk.n_joints, 3), cb.limits)
                fit(learn, [see], Repeat(learn.dls.train, 1))
                m = see.marks
                total = m['live'] + m['fixed']
                rows.append(
                    dict(
                        preset=name,
                        stage=kind,
                        twice=list(parts),
                        chosen=list(parts)
                        == [c for c in s.p.checkpointing if kind == 'adaptation' or c == 'pose'],
                        **{k: round(v / GB, 2) for k, v in m.items()},
                        total=round(total / GB, 2),
                        tflop=round(see.cost.flops / 1e12, 2),
                        traffic=round(see.cost.bytes / GB, 1),
                        operators=see.cost.ops,
                    )
                )
                print(
                    f'{name:12s}{kind:14s}{", ".join(parts) or "-":40s}{m["saved"] / GB:8.2f}{m["live"] / GB:8.2f}{m["fixed"] / GB:8.2f}{total / GB:8.2f}{see.cost.flops / 1e12:9.2f}{see.cost.bytes / GB:8.0f}{see.cost.ops:8d}',
                    flush=True,
                )
    return dict(
        torch=torch.__version__,
        unit='GiB',
        note="fake tensors, bfloat16 autocast, channels_last; without the CUDA context, cuDNN's work space and the allocator's slack",
        rows=rows,
    )


# Report


def table(s, clock, rate, seconds, bones):
    (products, copies) = rate
    kind = torch.bfloat16 if s.amp['enabled'] else torch.float32
    rows = []
    print(
        'matrix products '
        + ', '.join(f'{str(k).split(".")[1]} {v / 1e9:.0f} GFLOP/s' for k, v in products.items())
        + f'; copies {copies / 1e9:.1f} GB/s'
    )
    print(
        f'{"part":40s}{"ms":>9s}{"peak MB":>9s}{"GFLOP":>8s}{"ops":>6s}{"floor ms":>10s}{"floor/ms":>9s}{"plain ms":>10s}{"plain/ms":>9s}'
    )
    for name, ours, theirs, check in (
        *bone_parts(s, *bones),
        *label_parts(s),
        *data_parts(s),
        *network_parts(s),
    ):
        if check is not None:
            check()
        t = clock.best(ours, seconds)
        m = peak(ours, s.device)
        with Cost(products, copies) as c:
            ours()
        other = clock.best(theirs, seconds / 2, 5) if theirs is not None else None
        rows.append(
            dict(
                part=name,
                ms=t * 1e3,
                peak_mb=m / 2**20,
                gflop=c.flops / 1e9,
                ops=c.ops,
                floor_ms=c.seconds * 1e3,
                share_of_floor=c.seconds / t,
                straightforward_ms=other and other * 1e3,
                ratio=other and other / t,
            )
        )
        print(
            f'{name:40s}{t * 1e3:9.2f}{m / 2**20:9.1f}{c.flops / 1e9:8.2f}{c.ops:6d}{c.seconds * 1e3:10.2f}{c.seconds / t:9.0%}'
            + (f'{other * 1e3:10.1f}{other / t:9.1f}' if other else ''),
            flush=True,
        )
    return rows, dict(
        product_flops={str(k).split('.')[1]: v for k, v in products.items()},
        copy_bytes=copies,
        dtype=str(kind).split('.')[1],
    )


def whole(s, clock, rate, steps):
    rows = []
    for kind in ('pre-training', 'adaptation'):
        t, m, c = step_time(s, kind, steps, clock, rate)
        dl = s.dls(kind != 'pre-training', 1).train
        raw = next(dl.create_batches(dl.get_idxs()))
        augment = clock.best(
            lambda: dl.tfm.encodes(tuple(x if x is None else x.to(s.device) for x in raw)), 0.5
        )
        theirs = Straightforward(s, kind)
        other = clock.best(lambda: theirs(raw), 2.0, 3)
        del theirs
        ours = t + augment
        n = (
            (s.p.epochs if kind == 'pre-training' else s.p.adapt_epochs)
            * s.p.steps
            * s.p.accumulate
        )
        rows.append(
            dict(
                stage=kind,
                ms=t * 1e3,
                augment_ms=augment * 1e3,
                peak_mb=m / 2**20,
                gflop=c.flops / 1e9,
                ops=c.ops,
                floor_ms=c.seconds * 1e3,
                share_of_floor=c.seconds / t,
                straightforward_ms=other * 1e3,
                ratio=other / ours,
                steps=n,
                hours=ours * n / 3600,
            )
        )
        print(
            f'{kind:14s} step {t * 1e3:8.1f} ms + augmentation {augment * 1e3:6.1f} ms, peak {m / 2**20:.0f} MB, {c.flops / 1e9:.0f} GFLOP, {c.ops} operators, {c.seconds / t:.0%} of it the floor; straightforward {other * 1e3:.1f} ms: {other / ours:.1f} x; {n} steps in {ours * n / 3600:.2f} h',
            flush=True,
        )
    return rows


def main():
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = ap.add_argument
    add('--preset', default='tiny')
    add('--skeleton', default='hand')
    add('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    add('--threads', type=int, default=1)
    add('--steps', type=int, default=None, help='steps of which the whole step is timed')
    add('--seconds', type=float, default=None, help='time for each part')
    add('--bones', type=int, nargs=2, default=(32, 64), help='samples and side of the grid')
    add('--compile', action='store_true')
    add('--fp32', action='store_true')
    add('--memory', action='store_true')
    add('--presets', nargs='+', default=['paper-hand', 'small'])
    add('--out')
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    cv2.setNumThreads(a.threads)
    warnings.simplefilter('ignore')
    torch.manual_seed(0)
    start = time.time()
    try:
        if a.memory:
            out = memory(a.presets, a.skeleton)
        else:
            device = torch.device(a.device)
            cuda = device.type == 'cuda'
            clock = Clock(device, a.threads)
            p = get_preset(a.preset, weights=None, compile=a.compile, amp=not a.fp32)
            name = (
                torch.cuda.get_device_name()
                if cuda
                else next(
                    (l.split(':')[1].strip() for l in open('/proc/cpuinfo') if 'model name' in l),
                    'CPU',
                )
                if Path('/proc/cpuinfo').exists()
                else 'CPU'
            )
            s = Setting(p, device, a.skeleton)
            s.pose.to(device)
            print(
                f'{name}, torch {torch.__version__}, {a.threads} threads, preset {p.name}, {s.amp["dtype"] if s.amp["enabled"] else torch.float32}'
            )
            rate = rates(device, clock)
            parts, about = table(s, clock, rate, a.seconds or (1.0 if cuda else 0.6), a.bones)
            steps = whole(s, clock, rate, a.steps or (30 if cuda else 3))
            out = dict(
                device=name,
                torch=torch.__version__,
                cuda=torch.version.cuda if cuda else None,
                threads=a.threads,
                preset=p.name,
                compile=a.compile,
                **about,
                parts=parts,
                whole=steps,
                peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            )
    finally:
        RANDOM.unlink(missing_ok=True)
    print(f'{time.time() - start:.0f} s')
    if a.out:
        Path(a.out).write_text(json.dumps(out, indent=1) + '\n')


if __name__ == '__main__':
    main()
