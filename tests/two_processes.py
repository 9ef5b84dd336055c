"What `test_distributed` runs, alone and in two processes: torchrun --nproc-per-node 2 two_processes.py FOLDER"

import sys
from dataclasses import replace
from pathlib import Path
import torch
from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision
from torch import nn
from geomrecon.data.pairs import pose_dls
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.methods.catalogue import BASELINES
from geomrecon.methods.oracle import TargetLabels
from geomrecon.methods.temporal import TemporalConsistency
from geomrecon.methods.catalogue import CROSSMODAL
from geomrecon.learn.distributed import distribute
from geomrecon.learn.learner import adapt_learner, build_pose, pose_learner
from geomrecon.learn.presets import get_preset
from geomrecon.learn.speed import CPUMixedPrecision
from geomrecon.core.parallel import rank, start, stop, world
from geomrecon.use.phases import train_stage
from geomrecon.core.skeleton import HAND21

torch.set_num_threads(1)
STILL = dict(rotate=0.0, scale=(1.0, 1.0), shift=0.0, flip=0.0, colour=0.0, cutout=0.0)
P = get_preset(
    'tiny',
    size=48,
    width=0.25,
    deconv_width=32,
    bs=6,
    adapt_bs=6,
    adapt_bs_target=4,
    warp_width=8,
    gen_width=8,
    gen_res=1,
    amp=False,
    lr=3e-3,
    gamma=None,
    keep=0.6,
    gamma_3d=0.05,
    integrate=0.0,
    rec_start=0.0,
    rec_attach=0.0,
    rec_weight=1.0,
    pseudo_weight=1.0,
    y_weight=1.0,
)


class Patchy:
    "A source with samples that show all joints and others that show a few: their number differs between the halves of a batch"

    def __init__(self, ds):
        self.ds = ds

    def __len__(self):
        return len(self.ds)

    def __getattr__(self, k):
        if k in ('ds', 'labels'):
            raise AttributeError(k)
        return getattr(self.ds, k)

    def batch(self, idxs):
        b = self.ds.batch(idxs)
        few = torch.arange(21) < 4
        b['visible'] = b['visible'] & (few | (torch.as_tensor(idxs) % 3 > 0)[:, None])
        return b


class Look(Callback):
    "Keeps batch, loss and gradients of the first step"

    order, seen = MixedPrecision.order + 5, None

    def after_loss(self):
        if self.training and self.seen is None:
            self.seen = dict(
                x=[x.clone() for x in self.xb],
                y=[y.clone() for y in self.yb],
                loss=self.loss_grad.item(),
            )

    def before_step(self):
        m = getattr(self.model, 'module', self.model)
        if 'grad' not in self.seen:
            self.seen['grad'] = {
                n: None if p.grad is None else p.grad.clone() for n, p in m.named_parameters()
            }


FLOAT = torch.Tensor.float


class Double(Callback):
    "Training steps in double precision, also where the package asks for float32: what differs then is a mistake and not rounding"

    order = -5

    def before_fit(self):
        for m in (self.model, *(v for cb in self.learn.cbs for v in vars(cb).values())):
            if isinstance(m, nn.Module):
                m.double()

    def before_batch(self):
        torch.set_default_dtype(torch.float64)
        torch.Tensor.float = lambda t: t.double()
        avg = self.learn.recorder.smooth_loss
        avg.val = avg.val.double()
        up = lambda ts: tuple(
            t.double() if torch.is_tensor(t) and t.is_floating_point() else t for t in ts
        )
        self.learn.xb = up(self.xb)
        self.learn.yb = up(self.yb)

    def after_batch(self):
        torch.set_default_dtype(torch.float32)
        torch.Tensor.float = FLOAT


def smooth(model):
    "Without kinks, at which rounding alone may turn a gradient"
    for m in model.modules():
        for n, c in m.named_children():
            if isinstance(c, nn.ReLU):
                setattr(m, n, nn.Softplus(5.0))
    return model


def smoothed(learn):
    smooth(learn.model)
    [smooth(v) for cb in learn.cbs for v in vars(cb).values() if isinstance(v, nn.Module)]
    return learn


def source(seed=0, n=500):
    return PuppetImages(HAND21, n, 48, 'synthetic', seed=seed)


def video():
    return PuppetVideos(HAND21, 2, 24, 48, 'real', seed=0)


def data(target, steps, aug=STILL, **more):
    return pose_dls(
        Patchy(source()),
        source(1, 7),
        video().frames() if target else None,
        **dict(
            dict(
                steps=steps,
                bs=6,
                bs_target=4,
                stride=(2, 9),
                aug=aug,
                seed=3,
                device='cpu',
                depth=True,
            ),
            **more,
        ),
    )


def quiet(learn, n, cbs=None):
    with learn.no_bar(), learn.no_logging():
        learn.fit(n, cbs=cbs)
    return learn


def trained(kinks):
    "State of a pose net that has seen some images, so that its heatmaps have peaks and its gradients the usual sizes"
    torch.manual_seed(0)
    pose = build_pose(HAND21, P)
    if not kinks:
        smooth(pose)
    quiet(
        pose_learner(
            pose_dls(source(), source(1, 7), steps=30, bs=12, aug=STILL, device='cpu', depth=True),
            P,
            pose=pose,
        ),
        1,
    )
    return pose.state_dict()


def learner(folder, kind, steps=1, preset=P, aug=STILL, kinks=True):
    pose = build_pose(HAND21, preset)
    pose.load_state_dict(torch.load(Path(folder) / f'net_{kinks}.pt'))
    torch.manual_seed(1)
    if kind == 'pretrain':
        l = pose_learner(
            data(False, steps, aug), preset, pose, restyle=lambda x: 0.1 + 0.8 * x.flip(1)
        )
    else:
        l = adapt_learner(data(True, steps, aug), pose, preset, terms=('pseudo', 'rec'))
    return l if kinks else smoothed(l)


METHODS = dict(
    regda={},
    ccssl=dict(n_views=0, rounds=1),
    uniframe=dict(style_prob=0.0, sure=0.1),
    semihand={},
    dualnet=dict(start=0.0),
    temporal={},
    oracle={},
)
SAME_DRAWS = [
    m for m in METHODS if m != 'uniframe'
]  # It draws views and patches of its own, in every process others


def comparison(folder, name):
    "Learner of a comparison method, or of a control"
    pose = build_pose(HAND21, P)
    pose.load_state_dict(torch.load(Path(folder) / 'net_False.pt'))
    torch.manual_seed(1)
    b = {**BASELINES, **CROSSMODAL}.get(name)
    dls = data(True, 2, **(b.loaders if b else dict(stride=(1, 1)) if name == 'temporal' else {}))
    if b:
        l = b.build(dls, pose, P, **METHODS[name])
    else:
        l = adapt_learner(
            dls,
            pose,
            P,
            (),
            cbs=[TemporalConsistency(1.0) if name == 'temporal' else TargetLabels(video())],
        )
    return smoothed(l)


def method_step(folder, name):
    "Batch, loss and gradients of the first of two steps of a comparison method, and its weights after both"
    learn, look = comparison(folder, name), Look()
    with distribute(learn):
        quiet(learn, 1, [look])
    nets = dict(
        net=learn.model,
        **{
            type(cb).__name__: cb.teacher.net
            for cb in learn.cbs
            if getattr(cb, 'teacher', None) is not None
        },
    )
    return dict(
        look.seen,
        state={f'{n}.{k}': v.clone() for n, m in nets.items() for k, v in m.state_dict().items()},
        log=learn.loss_history.steps,
    )


SAVING = replace(P, accumulate=2, checkpointing=('pose', 'warp', 'generator'))


def one_step(folder, kind, exact):
    "Batch, loss, gradients, statistics, log and metrics of one step: in double precision and by two micro-batches with activations computed twice, or in float32 without kinks"
    learn = learner(folder, kind, 2, SAVING) if exact else learner(folder, kind, kinks=False)
    look = Look()
    with distribute(learn):
        quiet(learn, 1, [look, Double()] if exact else look)
    stats = {
        n: b.clone()
        for n, b in learn.model.named_buffers()
        if 'mean' in n or 'var' in n or 'tracked' in n
    }
    return dict(
        look.seen,
        stats=stats,
        log=learn.loss_history.steps,
        values=list(learn.recorder.values[0]),
        keys=list(learn.model.state_dict()),
    )


CASES = [(k, e) for k in ('pretrain', 'adapt') for e in (True, False)]
MOVING = replace(P, rec_start=0.5, rec_attach=1.5, decay=0.9, lr=5e-4)


class Stop(Exception):
    "Stands for a kill"


class StopAt(Callback):
    def __init__(self, epoch):
        self.at = epoch

    def after_step(self):
        if self.epoch == self.at:
            raise Stop('now')


def stage(folder, name, killed=None, still=False):
    "Three epochs of adaptation as a stage of a run, perhaps killed in one, perhaps resumed; `still`: without augmentation and half precision"
    learn = learner(folder, 'adapt', 2, MOVING, STILL if still else {})
    learn.add_cbs([] if still else [CPUMixedPrecision()])
    if killed is not None:
        learn.add_cb(StopAt(killed))
    try:
        learn.seconds = train_stage(learn, Path(folder) / name, 3, dict(stage='test'), bar=False)
    except Stop:
        pass
    return learn


def main(out):
    start()
    out = Path(out)
    r = rank()
    torch.save({c: one_step(out, *c) for c in CASES}, out / f'steps{r}.pt')
    torch.save({m: method_step(out, m) for m in METHODS}, out / f'methods{r}.pt')
    whole = stage(out, 'whole.ckpt')
    stage(out, 'broken.ckpt', killed=2)
    again = stage(out, 'broken.ckpt')
    stage(out, 'left.ckpt', killed=1, still=True)
    state = lambda l: {k: v.clone() for k, v in l.model.state_dict().items()}
    torch.save(
        dict(
            world=world(),
            whole=state(whole),
            again=state(again),
            seconds=whole.seconds,
            draws=torch.rand(3),
            values=[list(v) for v in whole.recorder.values],
        ),
        out / f'stage{r}.pt',
    )
    stop()


if __name__ == '__main__':
    main(sys.argv[1])
