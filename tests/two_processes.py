"What `test_distributed` runs, alone and in two processes: torchrun --nproc-per-node 2 two_processes.py FOLDER"
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
import torch
from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision
from torch import nn
from geomrecon.data.pairs import pose_dls
from geomrecon.data.puppet import PuppetImages, PuppetVideos
from geomrecon.learn.distributed import distribute
from geomrecon.learn.learner import adapt_learner, build_pose, get_preset, pose_learner
from geomrecon.learn.stages import Checkpoint, load_checkpoint, restore_learner
from geomrecon.parallel import is_main, rank, start, world
from geomrecon.skeleton import HAND21

torch.set_num_threads(1)
STILL = dict(rotate=0., scale=(1., 1.), shift=0., flip=0., colour=0., cutout=0.)
P = get_preset('tiny', size=48, width=.25, deconv_width=32, bs=6, adapt_bs=6, adapt_bs_target=4, warp_width=8, gen_width=8, gen_res=1, amp=False,
               gamma=None, keep=.6, gamma_3d=.3, integrate=0., rec_start=0., rec_attach=0., align_weight=1., pseudo_weight=1., y_weight=1., depth_weight=1.)

class Patchy:
    "A source of which one half of each batch shows all joints and the other only a few"
    def __init__(self, ds): self.ds = ds
    def __len__(self): return len(self.ds)
    def __getattr__(self, k):
        if k in ('ds', 'labels'): raise AttributeError(k)
        return getattr(self.ds, k)
    def batch(self, idxs):
        b = self.ds.batch(idxs); few = torch.arange(21) < 4
        b['visible'] = b['visible'] & (few | (torch.as_tensor(idxs) % 3 > 0)[:, None])
        return b

class Look(Callback):
    "Keeps batch, loss and gradients of the first step"
    order, seen = MixedPrecision.order+5, None
    def after_loss(self):
        if self.training and self.seen is None: self.seen = dict(x=[x.clone() for x in self.xb], y=[y.clone() for y in self.yb], loss=self.loss_grad.detach())
    def before_step(self):
        m = getattr(self.model, 'module', self.model)
        if 'grad' not in self.seen: self.seen['grad'] = {n: None if p.grad is None else p.grad.clone() for n, p in m.named_parameters()}

def data(target, steps, aug=STILL):
    src, val = Patchy(PuppetImages(HAND21, 500, 48, 'synthetic', seed=0)), PuppetImages(HAND21, 7, 48, 'synthetic', seed=1)
    frames = PuppetVideos(HAND21, 2, 24, 48, 'real', seed=0).frames() if target else None
    return pose_dls(src, val, frames, steps=steps, bs=6, bs_target=4, stride=(2, 9), aug=aug, seed=3, device='cpu', depth=True)

def net(double=False):
    "A pose net whose untrained heatmaps have peaks of different heights"
    torch.manual_seed(0); pose = build_pose(HAND21, P)
    for h, std in ((pose.head, .2), (pose.depth_head, .2)): nn.init.normal_(h.weight, std=std)
    return pose

def other_look(x): return .1+.8*x.flip(1)

def learner(kind, steps=1, preset=P, aug=STILL):
    torch.manual_seed(1)
    if kind == 'pretrain': return pose_learner(data(False, steps, aug), preset, net(), restyle=other_look)
    return adapt_learner(data(True, steps, aug), net(), preset, terms=('pseudo', 'rec'))

def quiet(learn, n, cbs=None):
    with learn.no_bar(), learn.no_logging(): learn.fit(n, cbs=cbs)
    return learn

def one_step(kind):
    "Batch, loss, gradients, statistics, log and metrics of one step"
    learn, look = learner(kind), Look()
    with distribute(learn): quiet(learn, 1, look)
    stats = {n: b.clone() for n, b in learn.model.named_buffers() if 'mean' in n or 'var' in n or 'tracked' in n}
    return dict(look.seen, stats=stats, log=learn.loss_history.steps, values=list(learn.recorder.values[0]), keys=list(learn.model.state_dict()))

MOVING = replace(P, rec_start=.5, rec_attach=1.5, decay=.9)
class Stop(Exception): "Stands for a kill"
class StopAt(Callback):
    def __init__(self, epoch): self.at = epoch
    def after_step(self):
        if self.epoch == self.at: raise Stop

def stage(path, stop=None, resume=False, aug={}):
    "Three epochs of adaptation, perhaps broken off, perhaps resumed"
    learn = learner('adapt', 2, MOVING, aug); learn.add_cb(Checkpoint(path))
    if resume: learn.first_epoch = restore_learner(learn, load_checkpoint(path), path)
    with distribute(learn):
        try: quiet(learn, 3, None if stop is None else StopAt(stop))
        except Stop: pass
    return learn

def main(out):
    start(); out = Path(out); r = rank()
    torch.save({k: one_step(k) for k in ('pretrain', 'adapt')}, out/f'steps{r}.pt')
    whole, broken = stage(out/'whole.ckpt'), stage(out/'broken.ckpt', stop=2)
    again = stage(out/'broken.ckpt', resume=True); stage(out/'left.ckpt', stop=1, aug=STILL)
    state = lambda l: {k: v.clone() for k, v in l.model.state_dict().items()}
    torch.save(dict(world=world(), whole=state(whole), again=state(again), draws=torch.rand(3), values=[list(v) for v in whole.recorder.values]), out/f'stage{r}.pt')

if __name__ == '__main__': main(sys.argv[1])
