"Options of the training step that must not change what is learned: activations computed twice, batches in parts, compiled networks."
from functools import partial
import pytest, torch
from fastai.callback.core import Callback, CancelStepException
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode
from geomrecon.data.core import TensorPoses
from geomrecon.data.pairs import pose_dls
from geomrecon.data.puppet import PuppetImages, PuppetVideos
from geomrecon.errors import ConfigError
from geomrecon.learn import learner as learners
from geomrecon.learn.learner import adapt_learner, build_pose, get_preset, pose_learner
from geomrecon.models.memory import PARTS
from geomrecon.skeleton import HAND21

MINI = get_preset('tiny', depth=True, size=48, width=.25, deconv_width=32, warp_width=8, gen_width=8, gen_res=1, rec_start=0., rec_attach=0., integrate=0., amp=False)

class Grads(Callback):
    "Keeps the gradients of the first step of the optimiser"
    order, kept, stats = 20, None, None
    def before_step(self):
        self.kept = {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}
        self.stats = {n: b.clone() for n, b in self.model.named_buffers()}
        raise CancelStepException

class Unchanging(Callback):
    "Batch norm uses its running statistics, so that images do not depend on each other"
    order = 5
    def before_batch(self):
        for m in self.model.modules():
            if isinstance(m, torch.nn.modules.batchnorm._BatchNorm): m.eval()

@pytest.fixture(scope='module')
def data(): return PuppetImages(HAND21, 2000, 48, 'synthetic', seed=0), PuppetImages(HAND21, 4, 48, 'synthetic', seed=1), PuppetVideos(HAND21, 1, 20, 48, 'real', seed=0).frames()

def one_step(learn, *cbs):
    "Gradients and running statistics of the first step of the optimiser, and the means of all terms"
    seen = Grads(); torch.manual_seed(1)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=[seen, *cbs])
    return seen, learn.loss_history.means

def adapted(data, **changes):
    src, val, frames = data; torch.manual_seed(0); p = get_preset(MINI, **changes)
    return adapt_learner(pose_dls(src, val, frames, steps=1, bs=4, bs_target=3, device='cpu', depth=True), build_pose(HAND21, p), p)

def agree(a, b, tol):
    (a, terms), (b, others) = a, b
    assert terms.keys() == others.keys() and a.kept.keys() == b.kept.keys()
    for x, y in ((terms, others), (a.kept, b.kept), (a.stats, b.stats)):
        for n, v in x.items(): v, w = torch.as_tensor(v), torch.as_tensor(y[n]); assert (v-w).abs().max() <= tol*max(1, v.abs().max()), n

@pytest.mark.parametrize('amp', [False, True])
def test_activations_computed_twice(data, amp):
    "Same losses and gradients, and running statistics that have moved once"
    plain, twice = adapted(data, amp=amp), adapted(data, checkpointing=PARTS, amp=amp)
    assert 'forward' in vars(twice.model.generator.stem) and 'forward' not in vars(plain.model.generator.stem)
    agree(one_step(plain), one_step(twice), 1e-6)
    assert int(twice.model.pose.encoder.layer1[0].bn1.target_batches_tracked) == 1

def test_unknown_part(data):
    with pytest.raises(ConfigError, match='heatmaps'): adapted(data, checkpointing=('heatmaps',))

def test_batch_in_parts():
    "Without batch statistics, two halves of a batch give the gradients of the whole"
    src = PuppetImages(HAND21, 2000, 48, 'synthetic', seed=0); b = src.batch(range(8))
    whole = TensorPoses(b['image'], b['keypoints'].clamp(-.9, .9), torch.ones(8, 21), HAND21, b['joints3d'], b['intrinsics'])
    def grads(n):
        torch.manual_seed(0); p = get_preset(MINI, bs=8, steps=1, accumulate=n); dls = pose_dls(whole, whole, **p.sizes(False), device='cpu', depth=True)
        dls.train.tfm.train = False; dls.train.shuffled = False
        return one_step(pose_learner(dls, p), Unchanging())
    (a, _), (b, _) = grads(1), grads(2)
    for n, g in a.kept.items(): assert (g-b.kept[n]).abs().max() <= 1e-6*max(1, g.abs().max()), n
    with pytest.raises(ConfigError, match='divisor'): get_preset(MINI, bs=8, accumulate=3).sizes(False)

def test_compiled_networks(data, monkeypatch):
    "Same gradients, one graph per network and state of `domain_split`, none broken; compiling to machine code takes minutes on a CPU and is left out here"
    monkeypatch.setattr(learners, 'compile_parts', partial(learners.compile_parts, backend='aot_eager')); counters.clear()
    plain, fast = one_step(adapted(data)), one_step(adapted(data, compile=True))
    agree(plain, fast, 1e-4)
    assert not counters['graph_break'] and counters['stats']['unique_graphs'] <= 5

class Layouts(TorchDispatchMode):
    "Shapes of what convolutions are given in another layout than channels last, and would have to copy"
    def __init__(self): super().__init__(); self.forward, self.backward = [], []
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._overloadpacket in (torch.ops.aten.convolution, torch.ops.aten.convolution_backward):
            bad = [tuple(t.shape) for t in args[:3] if isinstance(t, torch.Tensor) and t.ndim == 4 and t.shape[1] > 3 and min(t.shape[2:]) > 1 and not t.is_contiguous(memory_format=torch.channels_last)]
            (self.forward if func._overloadpacket is torch.ops.aten.convolution else self.backward).extend(bad)
        return func(*args, **(kwargs or {}))

class Look(Callback):
    order = -100
    def before_batch(self): self.layouts = Layouts(); self.layouts.__enter__()
    def before_step(self): self.layouts.__exit__(None, None, None)

def test_channels_last_survives(data):
    "Forward and backward, only what W is shown (put together from maps), and the gradient of its masks (from a softmax) come in another layout"
    learn = adapted(data); look = Look(); one_step(learn, look); n_in, n_out = learn.model.warp.hourglass.stem[0].in_channels, HAND21.n_bones+1
    assert {s[1] for s in look.layouts.forward} <= {n_in}
    assert {s[1] for s in look.layouts.backward} <= {n_in, n_out}
