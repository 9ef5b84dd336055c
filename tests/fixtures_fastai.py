"Every call of fastai's that a user makes on a learner, for the table of what works and its tests."

import contextlib
import functools
import io
import pickle
import sys
import tempfile
import types
import warnings

import matplotlib.pyplot as plt
import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.callback.core import FetchPredsCallback
from fastai.callback.fp16 import AMPMode, MixedPrecision
from fastai.callback.hook import ActivationStats
from fastai.callback.mixup import CutMix, MixUp
from fastai.callback.progress import CSVLogger, ShowGraphCallback
from fastai.callback.schedule import ParamScheduler, SchedCos
from fastai.callback.tracker import EarlyStoppingCallback, ReduceLROnPlateau, SaveModelCallback
from fastai.callback.tracker import TerminateOnNaNCallback
from fastai.callback.training import BnFreeze, GradientAccumulation, GradientClip
from fastai.interpret import Interpretation
from fastai.learner import load_learner

from geomrecon.core.errors import GeomReconError
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.pairs import pose_dls
from geomrecon.learn.learner import adapt_learner, pose_learner
from geomrecon.learn.speed import Accumulate
from geomrecon.puppet.images import PuppetImages
from fixtures_use import SMALL, mouse_videos

PRESET = SMALL.changed(depth=False, steps=2, decay=0.9, width=0.125, gamma=None, keep=0.5)


@functools.cache
def images_of(n, seed):
    return PuppetImages(MOUSE4, n, 48, 'synthetic', seed=seed)


@functools.cache
def target_frames():
    return mouse_videos('train', n_videos=1).frames()


def loaders(target=False, **options):
    "Loaders of one domain or of two, of a few small images"
    source = images_of(1000, seed=0)
    valid = images_of(6, seed=1)
    frames = target_frames() if target else None
    sizes = dict(steps=2, bs=4, bs_target=2, device='cpu')
    return pose_dls(source, valid, frames, **{**sizes, **options})


def pretraining(path=None, **options):
    "The learner of pre-training"
    torch.manual_seed(0)
    return pose_learner(loaders(), PRESET, path=path or tempfile.mkdtemp(), **options)


@functools.cache
def untrained():
    return pretraining().model.pose


def adaptation(path=None, preset=PRESET, **options):
    "The learner of an adaptation with pseudo-labels and reconstruction"
    pose = untrained()
    torch.manual_seed(0)
    path = path or tempfile.mkdtemp()
    return adapt_learner(loaders(True), pose, preset, path=path, **options)


LEARNERS = {'pose_learner': pretraining, 'adapt_learner': adaptation}


def some_images(n=2):
    "Target images, uint8"
    return target_frames().images(range(n))


@contextlib.contextmanager
def without_tensorboard():
    "fastai's callback for TensorBoard with a writer that keeps what is written"
    written = []

    class SummaryWriter:
        def __init__(self, log_dir=None):
            pass

        def add_scalar(self, name, value, step):
            written.append((name, float(value), step))

        def close(self):
            pass

    fakes = {'tensorboard': types.ModuleType('tensorboard')}
    fakes['torch.utils.tensorboard'] = types.ModuleType('torch.utils.tensorboard')
    fakes['torch.utils.tensorboard'].SummaryWriter = SummaryWriter
    fakes['fastai.callback.tensorboard'] = None
    before = {name: sys.modules.get(name) for name in fakes}
    sys.modules.update({name: fake for name, fake in fakes.items() if fake})
    sys.modules.pop('fastai.callback.tensorboard', None)
    try:
        from fastai.callback.tensorboard import TensorBoardCallback

        yield TensorBoardCallback, written
    finally:
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def fit_with(*cbs, epochs=1):
    "A fit with callbacks"
    return lambda learn: learn.fit(epochs, cbs=[make() for make in cbs])


def write_to_tensorboard(**options):
    def call(learn):
        with without_tensorboard() as (callback, written):
            learn.fit(1, cbs=callback(**options))
        return written

    return call


def save_and_load(learn):
    learn.fit(1)
    learn.save('trained')
    return learn.load('trained')


def export_and_load(learn):
    learn.export()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        loaded = load_learner(learn.path / 'export.pkl')
    return loaded.predict(some_images()[0])


def look_at_losses(learn):
    interpretation = Interpretation.from_learner(learn)
    interpretation.plot_top_losses(2)
    interpretation.show_results([0, 1])
    return interpretation.top_losses(2)


def summary_twice(learn):
    before = learn.summary()
    learn.fit(1)
    return before, learn.summary()


def plot_what_was_recorded(learn):
    learn.fit_one_cycle(2)
    learn.recorder.plot_loss()
    learn.recorder.plot_sched()


def freeze_and_unfreeze(learn):
    learn.freeze()
    learn.fit(1)
    learn.unfreeze()


#: Calls by the text that stands in the table
CALLS = {
    'learn.fit(1); learn.fit(1)': lambda learn: (learn.fit(1), learn.fit(1)),
    'learn.fit_one_cycle(1)': lambda learn: learn.fit_one_cycle(1),
    'learn.fit_one_cycle(1, slice(1e-5, 1e-3))': lambda x: x.fit_one_cycle(1, slice(1e-5, 1e-3)),
    'learn.fit_flat_cos(1)': lambda learn: learn.fit_flat_cos(1),
    'learn.fine_tune(1)': lambda learn: learn.fine_tune(1),
    'learn.freeze(); learn.unfreeze()': freeze_and_unfreeze,
    'learn.lr_find()': lambda learn: learn.lr_find(num_it=12),
    'learn.validate()': lambda learn: learn.validate(),
    'learn.get_preds()': lambda learn: learn.get_preds(),
    'learn.get_preds(with_loss=True)': lambda learn: learn.get_preds(with_loss=True),
    'learn.predict(image)': lambda learn: learn.predict(some_images()[0]),
    'learn.dls.test_dl(images)': lambda x: x.get_preds(dl=x.dls.test_dl(some_images())),
    'learn.tta()': lambda learn: learn.tta(),
    'Interpretation.from_learner(learn)': look_at_losses,
    'learn.summary()': summary_twice,
    'learn.show_results()': lambda learn: learn.show_results(max_n=2, shuffle=True),
    'learn.dls.show_batch()': lambda learn: learn.dls.show_batch(max_n=2),
    'learn.dls.one_batch()': lambda learn: learn.dls.one_batch(),
    'learn.recorder.plot_loss()': plot_what_was_recorded,
    'learn.show_training_loop()': lambda learn: learn.show_training_loop(),
    "learn.save('a'); learn.load('a')": save_and_load,
    'learn.export(); load_learner(file)': export_and_load,
    'pickle.dumps(learn)': lambda learn: pickle.loads(pickle.dumps(learn)).fit(1),
    'learn.to_fp16()': lambda learn: learn.to_fp16().fit(1),
    'learn.to_bf16()': lambda learn: learn.to_bf16().fit(1),
    'learn.to_fp32()': lambda learn: learn.to_fp32().fit(1),
    'learn.remove_cb(ChannelsLast)': lambda learn: learn.remove_cb(ChannelsLast).fit(1),
    'SaveModelCallback()': fit_with(SaveModelCallback),
    "SaveModelCallback(monitor='sup')": fit_with(lambda: SaveModelCallback(monitor='sup')),
    'EarlyStoppingCallback()': fit_with(EarlyStoppingCallback, epochs=2),
    'ReduceLROnPlateau()': fit_with(ReduceLROnPlateau),
    'CSVLogger()': fit_with(CSVLogger),
    'ShowGraphCallback()': fit_with(ShowGraphCallback),
    'TerminateOnNaNCallback()': fit_with(TerminateOnNaNCallback),
    'ParamScheduler(...)': fit_with(lambda: ParamScheduler(dict(lr=SchedCos(1e-3, 1e-4)))),
    'MixedPrecision()': fit_with(lambda: MixedPrecision(amp_mode=AMPMode.BF16)),
    'GradientClip()': fit_with(GradientClip),
    'BnFreeze()': fit_with(BnFreeze),
    'FetchPredsCallback()': fit_with(FetchPredsCallback),
    'ActivationStats()': fit_with(ActivationStats),
    'GradientAccumulation(8)': fit_with(lambda: GradientAccumulation(8)),
    'Accumulate(2), of geomrecon': fit_with(lambda: Accumulate(2)),
    'MixUp()': fit_with(MixUp),
    'CutMix()': fit_with(CutMix),
    'TensorBoardCallback()': write_to_tensorboard(),
    'TensorBoardCallback(trace_model=False, log_preds=False)': write_to_tensorboard(
        trace_model=False, log_preds=False
    ),
}


def tried(
    call,  # Key of `CALLS`
    learner,  # Key of `LEARNERS`
) -> str:  # 'works', or the text of the package's error; another error is raised
    "What comes of a call on a fresh learner"
    learn = LEARNERS[learner]()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            CALLS[call](learn)
    except GeomReconError as error:
        return str(error)
    finally:
        plt.close('all')
    return 'works'


#: What the table says of calls that do not work
REFUSED = {
    ('learn.tta()', 'pose_learner'): 'averaged_heatmaps',
    ('learn.tta()', 'adapt_learner'): 'averaged_heatmaps',
    ('MixUp()', 'pose_learner'): 'aug=dict(...)',
    ('MixUp()', 'adapt_learner'): 'aug=dict(...)',
    ('CutMix()', 'pose_learner'): 'aug=dict(...)',
    ('CutMix()', 'adapt_learner'): 'aug=dict(...)',
    ('GradientAccumulation(8)', 'adapt_learner'): 'Accumulate(n)',
    ('TensorBoardCallback()', 'pose_learner'): 'trace_model=False, log_preds=False',
    ('TensorBoardCallback()', 'adapt_learner'): 'trace_model=False, log_preds=False',
}
