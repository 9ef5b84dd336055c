"""Does a device train as the CPU does? A few steps on the same batches, in float32 and in bfloat16: for `gpu.py`.

Batches are drawn and augmented once, on the CPU, and both begin with the same weights. Compared are the loss of every step,
the gradient of the first, and the way that the weights have gone, of which Adam makes more than of the gradient: it moves
weights whose gradient is mere rounding as far as any. TF32 is off. A CPU is compared with itself, by other kernels for convolutions: that
shows how much rounding alone does, and is where `TOLERANCES` come from."""

import copy
import warnings
from contextlib import contextmanager, nullcontext

import torch
from fastai.callback.core import Callback
from fastai.torch_core import to_device

from geomrecon.learn.presets import get_preset
from geomrecon.learn.speed import CPUMixedPrecision
from step_setting import fit

#: Largest relative difference from the CPU in float32: of the first loss, of any loss, of the first gradient, of the weights' way
TOLERANCES = dict(
    float32=dict(first_loss=1e-4, loss=2e-3, gradient=2e-3, weights=0.2),
    bfloat16=dict(first_loss=2e-2, loss=5e-2, gradient=0.3, weights=1.0),
)
#: All joints are labels: a threshold would let rounding decide which ones are
ALL_LABELLED = dict(gamma=0.0, keep=None, gamma_3d=1.0)
STAGES = ('pre-training', 'adaptation')


class Given:
    "A loader that gives these batches"

    def __init__(self, loader, batches):
        self.loader = loader
        self.batches = batches

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


class Noted(Callback):
    "The whole loss of every step, and the gradient of the first one"

    order = 10000

    def __init__(self):
        self.values = []
        self.gradient = None

    def before_step(self):
        if self.gradient is None:
            weights = self.learn.model.parameters()
            self.gradient = as_vector(w.grad for w in weights if w.grad is not None)

    def after_batch(self):
        self.values.append(self.loss.detach().float().cpu().item())


def as_vector(tensors):
    "All numbers in one row, on the CPU in double precision"
    return torch.cat([tensor.detach().cpu().double().flatten() for tensor in tensors])


@contextmanager
def without_tf32():
    "Matrix products and convolutions in whole float32"
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    were = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    try:
        yield
    finally:
        for backend, was in zip(backends, were):
            backend.allow_tf32 = was


def mirrored(images):
    "A second view that no random number is drawn for: red and blue change places"
    return images.flip(1)


def on(setting, device, dtype):
    "The same data and weights on another device"
    there = copy.copy(setting)
    there.device = device
    amp = dtype == 'bfloat16'
    there.preset = get_preset(setting.preset, amp=amp, **ALL_LABELLED)
    there.second_view = lambda: mirrored
    return there


def augmented_batches(setting, kind, steps):
    "Batches of a stage, as the nets get them"
    torch.manual_seed(1)
    return list(setting.dls(kind == 'adaptation', steps).train)


def trained(setting, kind, batches):
    "What a few steps did, on the CPU, and their learner"
    torch.manual_seed(0)
    learn = setting.learner(kind, len(batches))
    bf16_on_cpu = setting.preset.amp and setting.device.type == 'cpu'
    if bf16_on_cpu and not hasattr(learn, 'cpu_mixed_precision'):
        learn.add_cb(CPUMixedPrecision())
    before = as_vector(learn.model.parameters())
    noted = Noted()
    there = [to_device(batch, setting.device) for batch in batches]
    fit(learn, [noted], Given(learn.dls.train, there))
    after = as_vector(learn.model.parameters())
    did = dict(losses=noted.values, gradient=noted.gradient, before=before, way=after - before)
    return did, learn


def differences(reference, other):
    "How far losses, gradient and weights are from those of the reference, relative to these"
    if not torch.equal(reference['before'], other['before']):
        raise AssertionError('the two did not begin with the same weights')
    apart = []
    for ours, its in zip(reference['losses'], other['losses']):
        apart.append(abs(ours - its) / max(abs(ours), 1e-9))
    return dict(
        first_loss=apart[0],
        loss=max(apart),
        gradient=relative(reference['gradient'], other['gradient']),
        weights=relative(reference['way'], other['way']),
    )


def relative(reference, other):
    return ((reference - other).norm() / reference.norm()).item()


def within(found, tolerance):
    "Is every difference a number, and no larger than it may be?"
    return all(found[name] <= largest for name, largest in tolerance.items())


def other_kernels(device):
    "On a CPU, convolutions of another library"
    return torch.backends.mkldnn.flags(enabled=False) if device.type == 'cpu' else nullcontext()


def pre_trained(setting, steps):
    "Train the setting's pose net for some steps, so that its heatmaps have peaks that rounding does not move"
    kind = 'pre-training'
    setting.pose = trained(setting, kind, augmented_batches(setting, kind, steps))[1].model.pose


def agreement(setting, device, steps=4, before=30):
    "Rows (stage, dtype, differences, tolerances, passed) of a setting on the CPU and its counterpart on a device"
    rows = []
    with warnings.catch_warnings(), without_tf32():
        warnings.simplefilter('ignore')
        cpu = torch.device('cpu')
        setting = on(setting, cpu, 'float32')
        pre_trained(setting, before)
        for kind in STAGES:
            batches = augmented_batches(setting, kind, steps)
            reference, _ = trained(setting, kind, batches)
            for dtype, tolerance in TOLERANCES.items():
                with other_kernels(device):
                    other, _ = trained(on(setting, device, dtype), kind, batches)
                found = differences(reference, other)
                rows.append(
                    dict(
                        stage=kind,
                        dtype=dtype,
                        losses=other['losses'],
                        losses_of_cpu=reference['losses'],
                        differences=found,
                        tolerances=tolerance,
                        passed=within(found, tolerance),
                    )
                )
    return rows
