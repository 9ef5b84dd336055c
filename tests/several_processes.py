"""Small trainings with one, two and four processes (Gloo, CPU), one of which is killed, and their way on.

several_processes.py FOLDER: writes FOLDER/NAME.pt, weights and losses of each training.
The packages are imported once; the processes are forked, with the variables that a launcher sets.
"""

import os
import signal
import socket
import sys
import time
from pathlib import Path
import torch
import two_processes as two
from fastai.callback.core import Callback
from geomrecon.core.parallel import is_main, rank, start, stop
from geomrecon.learn.distributed import distribute
from geomrecon.use.task import train_phase

#: Divisible by four
PRESET = two.PRESET.changed(bs=4, adapt_bs=4, rec_start=0.5, rec_attach=1.0, lr=5e-4)
SIZES = dict(bs=4, bs_target=4)


def free_port():
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


def as_launched(number, processes, port):
    "What a launcher tells a process"
    told = dict(RANK=number, LOCAL_RANK=number, WORLD_SIZE=processes, LOCAL_WORLD_SIZE=processes)
    told.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=port, ACCELERATE_USE_CPU='true')
    return {name: str(value) for name, value in told.items()}


def forked(number, processes, port, work):
    "Process id of a child that does `work` as one of several processes"
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        if processes > 1:
            os.environ.update(as_launched(number, processes, port))
        code = work() or 0
    except BaseException as error:
        print(f'process {number}: {type(error).__name__}: {error}'[:300], file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def together(processes, work):
    "Do `work` in several processes, ended when one fails as a launcher does; their exit codes"
    port = free_port()
    running = {forked(number, processes, port, work): number for number in range(processes)}
    codes = [None] * processes
    deadline = time.time() + 300
    while running:
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                codes[running.pop(pid)] = os.waitstatus_to_exitcode(status)
        failed = any(code not in (None, 0) for code in codes)
        if failed and deadline > time.time() + 10:
            deadline = time.time() + 10
        if time.time() > deadline:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return codes


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
        learn = two.adapt_learner(two.loaders(True, 2, aug={}, **SIZES), pose, PRESET)
        if killed is not None:
            learn.add_cb(KillAt(*killed))
        train_phase(learn, folder / checkpoint, 2, dict(stage='test'), bar=False)
        keep(learn, folder / f'{name}.pt')
        stop()

    return work


def briefly_trained():
    "State of a net that has seen a few images"
    torch.manual_seed(0)
    pose = two.smooth(two.build_pose(two.HAND21, PRESET))
    dls = two.loaders(False, 5, bs=8)
    two.fit_quietly(two.pose_learner(dls, PRESET, pose=pose), 1)
    return pose.state_dict()


def main(folder):
    def train():
        torch.save(briefly_trained(), folder / 'net_False.pt')

    codes = dict(trained=together(1, train))
    for processes in (1, 2, 4):
        name = f'double_{processes}'
        codes[name] = together(processes, in_double(folder, name))
    codes['whole'] = together(4, in_phase(folder, 'whole', 'whole.ckpt'))
    codes['killed'] = together(4, in_phase(folder, 'killed', 'killed.ckpt', killed=(1, 2)))
    codes['resumed'] = together(4, in_phase(folder, 'resumed', 'killed.ckpt'))
    torch.save(codes, folder / 'codes.pt')


if __name__ == '__main__':
    main(Path(sys.argv[1]))
