"The step of a preset on fake tensors, at full batch: nothing is computed, bytes are counted. For `step.py --memory`."

import torch
from fastai.callback.core import Callback, CancelFitException
from torch._subclasses.fake_tensor import FakeTensorMode

from geomrecon.learn.presets import get_preset
from geomrecon.learn.speed import CPUMixedPrecision
from geomrecon.losses.kinematics import correct_pose
from geomrecon.models.memory import LiveBytes, SavedBytes
from step_measuring import Cost
from step_setting import Repeat, Setting, fit, fixed_bytes

GB = 2**30
#: Parts computed twice that are compared
CHOICES = (
    (),
    ('merge',),
    ('pose',),
    ('merge', 'generator'),
    ('pose', 'warp', 'merge', 'generator', 'perceptual'),
)
NOTE = (
    'fake tensors, bfloat16 autocast, channels_last; '
    "without the CUDA context, cuDNN's work space and the allocator's slack"
)


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
        self.marks['fixed'] = fixed_bytes(self.learn)
        raise CancelFitException


def pretended_step(setting, kind, parts):
    "Marks in bytes and `Cost` of a step of 'pre-training' or 'adaptation'"
    learn = setting.learner(kind, 1, checkpointing=parts)
    pretend = Pretend(FakeTensorMode(allow_non_fake_inputs=True))
    if not hasattr(learn, 'cpu_mixed_precision'):
        learn.add_cb(CPUMixedPrecision())
    for cb in learn.cbs:
        limits = getattr(cb, 'limits', None)
        if limits is not None:
            # its tables are made for real now, or they would be fake ones for ever
            correct_pose(torch.randn(2, setting.skeleton.n_joints, 3), limits)
    fit(learn, [pretend], Repeat(learn.dls.train, 1))
    return pretend.marks, pretend.cost


def memory_row(setting, name, kind, parts):
    marks, cost = pretended_step(setting, kind, parts)
    total = marks['live'] + marks['fixed']
    of_preset = [
        part for part in setting.preset.checkpointing if kind == 'adaptation' or part == 'pose'
    ]
    return dict(
        preset=name,
        stage=kind,
        twice=list(parts),
        chosen=list(parts) == of_preset,
        **{mark: round(n_bytes / GB, 2) for mark, n_bytes in marks.items()},
        total=round(total / GB, 2),
        tflop=round(cost.flops / 1e12, 2),
        traffic=round(cost.bytes / GB, 1),
        operators=cost.ops,
    )


def print_row(row):
    names = f'{row["preset"]:12s}{row["stage"]:14s}{", ".join(row["twice"]) or "-":40s}'
    sizes = ''.join(f'{row[mark]:8.2f}' for mark in ('saved', 'live', 'fixed', 'total'))
    work = f'{row["tflop"]:9.2f}{row["traffic"]:8.0f}{row["operators"]:8d}'
    print(names + sizes + work, flush=True)


def memory(names, skeleton):
    "Peak bytes of the steps of some presets, bfloat16, full batch, with and without checkpointing"
    columns = f'{"preset":12s}{"stage":14s}{"computed twice":40s}'
    sizes = f'{"kept":>8s}{"peak":>8s}{"fixed":>8s}{"total":>8s}'
    print(f'{columns}{sizes}{"TFLOP":>9s}{"GiB r/w":>8s}{"ops":>8s}   (sizes in GiB)')
    rows = []
    for name in names:
        preset = get_preset(name, weights=None)
        setting = Setting(preset, torch.device('cpu'), skeleton)
        for kind in ('pre-training', 'adaptation'):
            for parts in CHOICES:
                if kind == 'pre-training' and 'merge' in parts:
                    continue
                rows.append(memory_row(setting, name, kind, parts))
                print_row(rows[-1])
    return dict(torch=torch.__version__, unit='GiB', note=NOTE, rows=rows)
