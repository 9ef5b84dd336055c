"""What `test_distributed` runs, alone and in two processes (`several_processes.py` starts them)."""

from pathlib import Path
import torch
from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision
from geomrecon.core.parallel import rank, start, stop, world
from geomrecon.core.skeleton import HAND21
from geomrecon.data.batch import batch_of
from geomrecon.data.pairs import pose_dls
from geomrecon.learn.distributed import distribute
from geomrecon.learn.learner import adapt_learner, build_pose, pose_learner
from geomrecon.learn.presets import get_preset
from geomrecon.learn.speed import CPUMixedPrecision
from geomrecon.methods.catalogue import METHODS as CATALOGUE
from geomrecon.methods.oracle import TargetLabels
from geomrecon.methods.temporal import TemporalConsistency
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.use.task import train_phase
from torch import nn

torch.set_num_threads(1)
STILL = dict(rotate=0.0, scale=(1.0, 1.0), shift=0.0, flip=0.0, colour=0.0, cutout=0.0)
PRESET = get_preset(
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
    """A source with samples that show all joints and others that show a few.

    So the number of visible joints differs between the halves of a batch.
    """

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getattr__(self, name):
        if name in ('images', 'labels'):
            raise AttributeError(name)
        return getattr(self.images, name)

    def batch(self, idxs):
        labels = self.images.batch(idxs)
        always = torch.arange(21) < 4
        shows_all = torch.as_tensor(idxs) % 3 > 0
        labels['visible'] = labels['visible'] & (always | shows_all[:, None])
        return labels


class FirstStep(Callback):
    "Keeps batch, loss and gradients of the first step"

    order = MixedPrecision.order + 5
    seen = None

    def after_loss(self):
        if self.training and self.seen is None:
            batch = batch_of(self.learn)
            tensors = {}
            for name, part in zip(batch.names, batch):
                if torch.is_tensor(part):
                    tensors[name] = part.clone()
            self.seen = dict(batch=tensors, loss=self.loss_grad.item())

    def before_step(self):
        model = getattr(self.model, 'module', self.model)
        if 'gradients' in self.seen:
            return
        self.seen['gradients'] = {}
        for name, weight in model.named_parameters():
            gradient = None if weight.grad is None else weight.grad.clone()
            self.seen['gradients'][name] = gradient


TO_FLOAT = torch.Tensor.float


def doubled(parts):
    "The same parts of a batch in double precision"
    more_exact = []
    for part in parts:
        is_float = torch.is_tensor(part) and part.is_floating_point()
        more_exact.append(part.double() if is_float else part)
    return tuple(more_exact)


class Double(Callback):
    """Training steps in double precision, also where the package asks for float32.

    What differs then is a mistake and not rounding.
    """

    order = -5

    def before_fit(self):
        for module in modules_of(self.learn):
            module.double()

    def before_batch(self):
        torch.set_default_dtype(torch.float64)
        torch.Tensor.float = lambda tensor: tensor.double()
        average = self.learn.recorder.smooth_loss
        average.val = average.val.double()
        self.learn.xb = doubled(self.xb)
        self.learn.yb = doubled(self.yb)

    def after_batch(self):
        torch.set_default_dtype(torch.float32)
        torch.Tensor.float = TO_FLOAT


def modules_of(learn):
    "The model and all modules that callbacks hold"
    modules = [learn.model]
    for callback in learn.cbs:
        modules += [value for value in vars(callback).values() if isinstance(value, nn.Module)]
    return modules


def smooth(model):
    "Without kinks, at which rounding alone may turn a gradient"
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.Softplus(5.0))
    return model


def smoothed(learn):
    "A learner whose modules have no kinks"
    for module in modules_of(learn):
        smooth(module)
    return learn


def source(seed=0, n=500):
    return PuppetImages(HAND21, n, 48, 'synthetic', seed=seed)


def video():
    return PuppetVideos(HAND21, 2, 24, 48, 'real', seed=0)


def loaders(target, steps, aug=STILL, **more):
    "Loaders of one or two domains"
    options = dict(steps=steps, bs=6, bs_target=4, stride=(2, 9), aug=aug)
    options.update(seed=3, device='cpu', depth=True)
    options.update(more)
    frames = video().frames() if target else None
    return pose_dls(Patchy(source()), source(1, 7), frames, **options)


def fit_quietly(learn, n_epoch, cbs=None):
    with learn.no_bar(), learn.no_logging():
        learn.fit(n_epoch, cbs=cbs)
    return learn


def trained(kinks):
    """State of a pose net that has seen some images.

    Its heatmaps have peaks, and its gradients the usual sizes.
    """
    torch.manual_seed(0)
    pose = build_pose(HAND21, PRESET)
    if not kinks:
        smooth(pose)
    options = dict(steps=30, bs=12, aug=STILL, device='cpu', depth=True)
    dls = pose_dls(source(), source(1, 7), **options)
    fit_quietly(pose_learner(dls, PRESET, pose=pose), 1)
    return pose.state_dict()


def another_look(images):
    return 0.1 + 0.8 * images.flip(1)


def trained_pose(folder, kinks, preset=PRESET):
    "The pose net whose state `trained` gave; weights drawn next are always the same"
    pose = build_pose(HAND21, preset)
    pose.load_state_dict(torch.load(Path(folder) / f'net_{kinks}.pt'))
    torch.manual_seed(1)
    return pose


def learner(folder, kind, steps=1, preset=PRESET, aug=STILL, kinks=True):
    "A learner for pre-training or adaptation that goes on from the trained net"
    pose = trained_pose(folder, kinks, preset)
    if kind == 'pretrain':
        learn = pose_learner(loaders(False, steps, aug), preset, pose, restyle=another_look)
    else:
        terms = ('pseudo', 'rec')
        learn = adapt_learner(loaders(True, steps, aug), pose, preset, terms=terms)
    return learn if kinks else smoothed(learn)


METHODS = dict(
    regda={},
    ccssl=dict(n_views=0, rounds=1),
    uniframe=dict(style_prob=0.0, sure=0.1),
    semihand={},
    dualnet=dict(start=0.0),
    # the teacher's statistics are others than the net's: both look at the same images here
    meanteacher=dict(teacher_bn='average'),
    hamipose=dict(teacher_bn='average', ramp=0.0),
    maps={},
    temporal={},
    oracle={},
)
#: UniFrame and MAPS draw views and patches of their own, in every process others
SAME_DRAWS = [name for name in METHODS if name not in ('uniframe', 'maps')]


def comparison(folder, name):
    "Learner of a comparison method, or of a control"
    pose = trained_pose(folder, kinks=False)
    if name == 'temporal':
        dls = loaders(True, 2, **TemporalConsistency.loaders)
        cbs = [TemporalConsistency(1.0)]
        learn = adapt_learner(dls, pose, PRESET, (), cbs=cbs)
    elif name == 'oracle':
        cbs = [TargetLabels(video())]
        learn = adapt_learner(loaders(True, 2), pose, PRESET, (), cbs=cbs)
    else:
        method = CATALOGUE[name]
        dls = loaders(True, 2, **method.loaders)
        learn = method.build(dls, pose, PRESET, **METHODS[name])
    return smoothed(learn)


def cloned_state(model, prefix=''):
    return {prefix + name: value.clone() for name, value in model.state_dict().items()}


def method_step(folder, name):
    "Batch, loss and gradients of the first of two steps of a method, and its weights after both"
    learn = comparison(folder, name)
    first_step = FirstStep()
    with distribute(learn):
        fit_quietly(learn, 1, [first_step])
    state = cloned_state(learn.model, 'net.')
    for callback in learn.cbs:
        teacher = getattr(callback, 'teacher', None)
        if teacher is not None:
            state.update(cloned_state(teacher.net, f'{type(callback).__name__}.'))
    return dict(first_step.seen, state=state, log=learn.loss_history.steps)


SAVING = PRESET.changed(accumulate=2, checkpointing=('pose', 'warp', 'generator'))


def one_step(folder, kind, exact):
    """Batch, loss, gradients, statistics, log and metrics of one step.

    `exact`: in double precision, in two parts with activations computed twice;
    else in float32 without kinks.
    """
    cbs = [FirstStep()]
    if exact:
        learn = learner(folder, kind, steps=2, preset=SAVING)
        cbs.append(Double())
    else:
        learn = learner(folder, kind, kinks=False)
    with distribute(learn):
        fit_quietly(learn, 1, cbs)
    statistics = {}
    for name, buffer in learn.model.named_buffers():
        if any(word in name for word in ('mean', 'var', 'tracked')):
            statistics[name] = buffer.clone()
    return dict(
        cbs[0].seen,
        statistics=statistics,
        log=learn.loss_history.steps,
        values=list(learn.recorder.values[0]),
        keys=list(learn.model.state_dict()),
    )


CASES = [('pretrain', True), ('pretrain', False), ('adapt', True), ('adapt', False)]
MOVING = PRESET.changed(rec_start=0.5, rec_attach=1.5, decay=0.9, lr=5e-4)


class Stop(Exception):
    "Stands for a kill"


class StopAt(Callback):
    "Stops in an epoch"

    def __init__(self, at_epoch):
        self.at_epoch = at_epoch

    def after_step(self):
        if self.epoch == self.at_epoch:
            raise Stop('now')


def phase(folder, name, killed=None, still=False):
    """Three epochs of adaptation as a phase of a run, perhaps killed in one, perhaps resumed.

    `still`: without augmentation and half precision.
    """
    learn = learner(folder, 'adapt', steps=2, preset=MOVING, aug=STILL if still else {})
    if not still:
        learn.add_cb(CPUMixedPrecision())
    if killed is not None:
        learn.add_cb(StopAt(killed))
    meta = dict(stage='test')
    try:
        learn.seconds = train_phase(learn, Path(folder) / name, 3, meta, bar=False)
    except Stop:
        pass
    return learn


def main(out):
    start()
    out = Path(out)
    steps = {case: one_step(out, *case) for case in CASES}
    torch.save(steps, out / f'steps{rank()}.pt')
    methods = {name: method_step(out, name) for name in METHODS}
    torch.save(methods, out / f'methods{rank()}.pt')
    whole = phase(out, 'whole.ckpt')
    phase(out, 'broken.ckpt', killed=2)
    again = phase(out, 'broken.ckpt')
    phase(out, 'left.ckpt', killed=1, still=True)
    ends = dict(
        world=world(),
        whole=cloned_state(whole.model),
        again=cloned_state(again.model),
        seconds=whole.seconds,
        draws=torch.rand(3),
        values=[list(values) for values in whole.recorder.values],
    )
    torch.save(ends, out / f'phase{rank()}.pt')
    stop()
