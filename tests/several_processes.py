"""What `test_distributed` runs: that of `two_processes`, and small trainings with one and four processes.

several_processes.py FOLDER: writes FOLDER/NAME.pt, weights and losses of each training, and how the processes ended.
"""

import os
import signal
import sys
from pathlib import Path
import torch
import two_processes as two
from fastai.callback.core import Callback
from forked import together
from geomrecon.core.parallel import is_main, rank, start, stop
from geomrecon.learn.distributed import distribute
from geomrecon.use.task import train_phase

#: Divisible by four
PRESET = two.PRESET.changed(bs=4, adapt_bs=4, rec_start=0.5, rec_attach=1.0, lr=5e-4)
SIZES = dict(bs=4, bs_target=4)


def learner(folder):
    "Adaptation of a net that has seen some images, the terms of the method with their teacher"
    pose = two.trained_pose(folder, kinks=False)
    dls = two.loaders(True, 3, **SIZES)
    return two.smoothed(two.adapt_learner(dls, pose, PRESET, terms=('pseudo', 'rec')))


def in_double(folder, name):
    "Three steps in double precision; the main process keeps weights and losses"

    def work():
        start()
        torch.manual_seed(0)
        learn = learner(folder)
        with distribute(learn):
            two.fit_quietly(learn, 1, [two.Double()])
        keep(learn, folder / f'{name}.pt')
        stop()

    return work


def keep(learn, path):
    if is_main():
        torch.save(
            dict(weights=two.cloned_state(learn.model), steps=dict(learn.loss_history.steps)), path
        )


class KillAt(Callback):
    "SIGKILL of one process, in the middle of an epoch"

    def __init__(self, at_epoch, number):
        self.at_epoch = at_epoch
        self.number = number

    def after_step(self):
        if self.epoch == self.at_epoch and rank() == self.number:
            os.kill(os.getpid(), signal.SIGKILL)


def in_phase(folder, name, checkpoint, killed=None):
    "Two epochs as a phase of a run, with augmentation; perhaps killed, perhaps gone on with"

    def work():
        start()
        torch.manual_seed(0)
        pose = two.trained_pose(folder, kinks=False)
        dls = two.loaders(True, 2, aug={}, **SIZES)
        learn = two.adapt_learner(dls, pose, PRESET, terms=('pseudo',))
        if killed is not None:
            learn.add_cb(KillAt(*killed))
        train_phase(learn, folder / checkpoint, 2, dict(stage='test'), bar=False)
        keep(learn, folder / f'{name}.pt')
        stop()

    return work


def main(folder):
    codes = dict(two=together(2, lambda: two.main(folder)))
    for processes in (1, 4):
        name = f'double_{processes}'
        codes[name] = together(processes, in_double(folder, name))
    codes['whole'] = together(4, in_phase(folder, 'whole_4', 'whole_4.ckpt'))
    codes['killed'] = together(4, in_phase(folder, 'killed_4', 'killed_4.ckpt', killed=(1, 2)))
    codes['resumed'] = together(4, in_phase(folder, 'resumed_4', 'killed_4.ckpt'))
    torch.save(codes, folder / 'codes.pt')


if __name__ == '__main__':
    main(Path(sys.argv[1]))
