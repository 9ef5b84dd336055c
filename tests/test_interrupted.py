"""Ctrl-C at any moment of any command, with the progress bars that are shown by default: the same command goes on, and
ends as if nothing had happened."""

import functools
import importlib
import json
import os
import random
import re
import signal
import threading
from itertools import cycle
import cv2
import numpy as np
import pytest
import torch
from fastai.learner import Learner
from geomrecon.core.geometry import to_pixels
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.video import write_video
from geomrecon.learn.presets import PRESETS
from geomrecon.models.adapter import PoseAdapter
from geomrecon.paper.__main__ import main as paper_main
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.readers.label_coco import write_coco
from geomrecon.use import cli, ladder, task
from fixtures_use import MINI
from test_resume import assert_same_content

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
        monkeypatch.setattr(ladder.Clock, 'tell', lambda clock, text: self.enter(text))

    def begin(self, phase=None, moment=0, delay=0.0):
        "Before a run: where it is to be interrupted; nowhere if `phase` is None"
        self.phases = [['start', 0]]
        self.at = phase, moment, delay
        self.hit = None
        self.timer = None

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
        drawn = []
        for i in range(n):
            phase = busy[i * len(busy) // n]
            moment = rng.randint(1, self.phases[phase][1])
            # most runs do a little more before they notice
            drawn.append((phase, moment, rng.choice([0.0, 0.005, 0.03])))
        return drawn


@pytest.fixture
def interruptions(monkeypatch):
    "The hooks, a small preset, and the handler that Python has for Ctrl-C"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setitem(PRESETS, 'mini', MINI.changed(name='mini'))
    monkeypatch.setitem(PRESETS, 'mini-2d', MINI.changed(name='mini-2d', depth=False, restyle=''))
    monkeypatch.setattr(ladder, 'PuppetVideos', few_videos)
    real_phase = task.train_phase

    def in_known_time(learn, path, n_epoch, *args, **kwargs):
        real_phase(learn, path, n_epoch, *args, **kwargs)
        return float(n_epoch)  # the control trains for as long, so its length depends on it

    monkeypatch.setattr(task, 'train_phase', in_known_time)
    yield Interruptions(monkeypatch)
    signal.signal(signal.SIGINT, before)


def few_videos(skeleton, n_videos, n_frames, *args, **options):
    "A benchmark of seconds"
    return PuppetVideos(skeleton, min(n_videos, 3), min(n_frames, 10), *args, **options)


def finish(command, interruptions):
    "A run without interruption"
    interruptions.begin()
    assert command() == 0


def interrupt(command, interruptions, moment):
    "A run that is interrupted there; False if it came to its end before that"
    interruptions.begin(*moment)
    try:
        status = command()
        interruptions.wait()
    except KeyboardInterrupt:  # it came after the end
        return False
    assert status == (130 if interruptions.hit else 0)
    return status == 130


def folder_contents(folder):
    "All that a run leaves, comparable: weights bit for bit, figures without times"
    contents = {}
    for path in sorted(folder.rglob('*')):
        name = str(path.relative_to(folder))
        assert '.tmp' not in name, 'an unfinished file is left'
        if path.suffix in ('.ckpt', '.pth', '.pt'):
            contents[name] = without_times(torch.load(path, weights_only=True))
        elif path.suffix == '.json':
            contents[name] = without_times(json.loads(path.read_text(encoding='utf-8')))
        elif path.suffix in ('.csv', '.yaml'):
            contents[name] = path.read_text(encoding='utf-8')
        elif path.suffix == '.html':
            contents[name] = sections_of(path.read_text(encoding='utf-8'))
        elif path.is_file():
            contents[name] = path.stat().st_size
    return contents


def without_times(value):
    "Nested containers without what a clock or the memory says"
    if isinstance(value, dict):
        kept = {}
        for key, inner in value.items():
            if key not in ('seconds', 'peak_rss_mb', 'command', 'date', 'made', 'out'):
                kept[key] = without_times(inner)
        return kept
    if isinstance(value, list):
        return [without_times(inner) for inner in value]
    return value


def sections_of(page):
    "Headings and pictures of a report"
    return re.findall(r'<h2>.*?</h2>|data:image/png;base64,[^"\']*', page)


def check(command, interruptions, tmp_path, n, seed):
    "Interrupt a run `n` times on its way to the end, with and without bars, and compare"
    finish(lambda: command(tmp_path / 'whole', True), interruptions)
    moments = interruptions.draw(n, random.Random(seed))
    hits = []
    for moment, bar in zip(moments, cycle([True, True, False])):
        if not interrupt(lambda: command(tmp_path / 'broken', bar), interruptions, moment):
            break
        hits.append(interruptions.hit)
    finish(lambda: command(tmp_path / 'broken', True), interruptions)
    print('interrupted in', hits)
    whole = folder_contents(tmp_path / 'whole')
    broken = folder_contents(tmp_path / 'broken')
    assert_same_content(whole, broken)
    return hits


def option(bar, of_paper=False):
    "With bars as they come, or without"
    if of_paper:
        return []
    return [] if bar else ['--no-bar']


def test_demo_is_interrupted_twenty_times(tmp_path, interruptions):
    def demo(out, bar):
        size = ['--skeleton', 'mouse', '--preset', 'mini', '--control', 'time']
        return cli.main(['demo', '--out', str(out), *size, *option(bar)])

    hits = check(demo, interruptions, tmp_path, n=20, seed=16)
    assert len(hits) == 20
    assert len({phase for phase, _ in hits}) >= 6
