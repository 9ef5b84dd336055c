"Runs of seconds that are interrupted or whose disk is full, and what is left of them compared."

import functools
import importlib
import json
import os
import re
import signal
import threading
import numpy as np
import pytest
import torch
from fastai.learner import Learner
from geomrecon.core import parallel
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.video import write_video
from geomrecon.learn.presets import PRESETS
from geomrecon.models.adapter import PoseAdapter
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.use import adapt, again, demo, labelled_report, ladder, task, train
from geomrecon.use.report import Section
from fixtures_use import MINI

#: What a run does again and again: each time is a moment at which it may be interrupted
MOMENTS = (
    (Learner, '__call__'),
    (PoseAdapter, 'predict'),
    (PuppetImages, 'batch'),
    (PuppetVideos, '_draw'),
    ('geomrecon.core.files', 'make_folder'),
    ('geomrecon.data.video', '_even'),
    ('geomrecon.use.report', 'fig_to_png'),
)


class Interruptions:
    "Counts the moments of a run, phase by phase, and sends SIGINT at one of them or shortly after"

    def __init__(self, monkeypatch):
        self.begin()
        for owner, name in MOMENTS:
            owner = importlib.import_module(owner) if isinstance(owner, str) else owner
            monkeypatch.setattr(owner, name, self.watched(getattr(owner, name)))
        monkeypatch.setattr(task.Clock, 'tell', lambda clock, text: self.enter(text))

    def begin(self, phase=None, moment=0, delay=0.0):
        "Before a run: where it is to be interrupted; nowhere if `phase` is None"
        self.phases = [['start', 0]]
        self.at = phase, moment, delay
        self.hit = None
        self.timer = None
        # as in a new process: SIGINT can come while one of these is being put back
        torch.set_grad_enabled(True)
        parallel._alone[0] = parallel._joint[0] = False

    def enter(self, phase):
        self.phases.append([phase, 0])

    def watched(self, function):
        @functools.wraps(function)
        def counted(*args, **kwargs):
            self.count()
            return function(*args, **kwargs)

        return counted

    def count(self):
        self.phases[-1][1] += 1
        phase, moment, delay = self.at
        if phase is None or self.hit or len(self.phases) - 1 < phase:
            return
        is_late = len(self.phases) - 1 > phase
        if not is_late and self.phases[-1][1] < moment:
            return
        self.hit = tuple(self.phases[-1])
        self.timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
        self.timer.start()

    def wait(self):
        "Until the signal has come, if it is on its way"
        if self.timer is not None:
            self.timer.join()

    def draw(self, n, rng):
        "Moments of the last run, evenly spread over its phases and random in each of them"
        busy = [i for i, (_, count) in enumerate(self.phases) if count > 3]
        phases = [busy[i * len(busy) // n] for i in range(n)]
        drawn = []
        for phase in phases:
            # what is done is not done again, so that each has its share of the phase
            share = max(1, self.phases[phase][1] // phases.count(phase))
            # some notice it a little later
            drawn.append((phase, rng.randint(1, share), rng.choice([0.0, 0.005, 0.03])))
        return drawn


@pytest.fixture
def small_runs(monkeypatch):
    "Presets and benchmarks of seconds; reports of a few pictures"
    monkeypatch.setitem(PRESETS, 'mini', MINI.changed(name='mini'))
    monkeypatch.setitem(PRESETS, 'mini-2d', MINI.changed(name='mini-2d', depth=False, restyle=''))
    monkeypatch.setattr(ladder, 'PuppetVideos', few_videos)
    few_pictures(monkeypatch)
    real_phase = task.train_phase

    def in_known_time(learn, path, n_epoch, *args, **kwargs):
        real_phase(learn, path, n_epoch, *args, **kwargs)
        return float(n_epoch)  # the control trains for as long as the rest took

    monkeypatch.setattr(task, 'train_phase', in_known_time)


@pytest.fixture
def interruptions(monkeypatch, small_runs):
    "The hooks, and the handler that Python has for Ctrl-C"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield Interruptions(monkeypatch)
    signal.signal(signal.SIGINT, before)


def few_videos(skeleton, n_videos, n_frames, *args, **options):
    "A benchmark of seconds"
    return PuppetVideos(skeleton, min(n_videos, 3), min(n_frames, 10), *args, **options)


def few_sections(task, *what_is_shown):
    "A report of seconds"
    return [demo.domain_section(task), *demo.style_section(task)]


def few_pictures(patch):
    "Reports of a few pictures: all of them take far longer to draw than runs of seconds to train"
    patch.setattr(demo, 'demo_sections', few_sections)
    patch.setattr(train, 'train_sections', few_sections)
    patch.setattr(adapt, 'adaptation_sections', few_sections)
    patch.setattr(
        labelled_report,
        'labelled_sections',
        lambda job, outcome, *what_is_shown: few_sections(outcome.task),
    )
    for module in (again, adapt, labelled_report):
        patch.setattr(
            module, 'own_before_after', lambda *what_is_shown: Section('Before and after')
        )
    patch.setattr(again, 'reconstruction_strips', lambda *what_is_shown: [])


@pytest.fixture(scope='module')
def plain_reports():
    "A few pictures in all reports of a module's tests"
    with pytest.MonkeyPatch.context() as patch:
        few_pictures(patch)
        yield


def mouse_video(path, n_frames=24):
    "A video of a rendered mouse"
    labels = PuppetVideos(MOUSE4, 1, n_frames, 64, 'real', seed=0, split='test')
    images = labels.batch(np.arange(n_frames))['image']
    return write_video(path, images.permute(0, 2, 3, 1).numpy(), 15)


def folder_contents(folder):
    "All that a run leaves, comparable: weights bit for bit, figures without times"
    contents = {}
    for path in sorted(folder.rglob('*')):
        name = str(path.relative_to(folder))
        assert '.tmp' not in name, 'an unfinished file is left'
        if path.suffix in ('.ckpt', '.pth', '.pt'):
            contents[name] = without_times(torch.load(path, weights_only=True))
        elif path.name == 'made_by.json':
            # says when and where a run was made
            contents[name] = None
        elif path.suffix == '.json':
            contents[name] = without_times(json.loads(path.read_text(encoding='utf-8')))
        elif path.suffix in ('.csv', '.yaml'):
            contents[name] = path.read_text(encoding='utf-8')
        elif path.suffix == '.html':
            contents[name] = sections_of(path.read_text(encoding='utf-8'))
        elif path.is_file():
            # nothing: x264 writes other bytes each time for the same frames
            contents[name] = path.stat().st_size if path.suffix != '.mp4' else None
    return contents


def assert_same_content(one, other, where=''):
    "Equal values at the same places, tensors bit by bit"
    if isinstance(one, dict):
        assert list(map(str, one)) == list(map(str, other)), where
        for key, value in one.items():
            assert_same_content(value, other[key], f'{where}/{key}')
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for i, (value, its) in enumerate(zip(one, other)):
            assert_same_content(value, its, f'{where}/{i}')
    elif torch.is_tensor(one):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


#: What a record says of when it was made
TIMES = ('started', 'ended', 'phases', 'command', 'out', 'versions')
#: What differs between two runs: times, memory, places, and the state of a generator that nothing is drawn from
CHANGES = ('seconds', 'peak_rss_mb', 'made_by', 'digest', 'python', *TIMES)


def without_times(value):
    "Nested containers without what differs between two runs"
    if isinstance(value, dict):
        kept = {}
        for key, inner in value.items():
            if key not in CHANGES:
                kept[key] = without_times(inner)
        return kept
    if isinstance(value, list):
        return [without_times(inner) for inner in value]
    return value


def sections_of(page):
    "Headings and pictures of a report"
    return re.findall(r'<h2>.*?</h2>|data:image/png;base64,[^"\']*', page)
