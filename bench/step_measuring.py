"What a device can do at best, and what a piece of code costs on it: for `step.py`."

import statistics
import time

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from geomrecon.models.memory import LiveBytes


class Clock:
    "Seconds of a call, its work on the device included; of a single thread its CPU time, which other work changes little"

    def __init__(self, device, threads=1):
        self.cuda = device.type == 'cuda'
        one_thread = threads == 1 and device.type == 'cpu'
        self.now = time.process_time if one_thread else time.perf_counter

    def __call__(self, function):
        if not self.cuda:
            started = self.now()
            function()
            return self.now() - started
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        function()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3

    def best(self, function, seconds=1.0, most=20):
        "Median over the calls that fit into `seconds`, at least two, after a first one that does not count"
        function()
        times = []
        end = time.perf_counter() + seconds
        while len(times) < 2 or (len(times) < most and time.perf_counter() < end):
            times.append(self(function))
        return statistics.median(times)


def rates(device, clock):
    "FLOPs per second of matrix products, by dtype, and bytes per second read plus written by a copy"
    on_gpu = device.type == 'cuda'
    side = 8192 if on_gpu else 1024
    products = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(side, side, device=device, dtype=dtype)
        b = torch.randn(side, side, device=device, dtype=dtype)
        seconds = min(clock.best(lambda: a @ b, 0.5) for _ in range(2))
        products[dtype] = 2 * side**3 / seconds
    source = torch.empty((2**30 if on_gpu else 2**26) // 4, device=device)
    target = torch.empty_like(source)
    seconds = min(clock.best(lambda: target.copy_(source), 0.5) for _ in range(2))
    return products, 2 * source.nbytes / seconds


def tensors_in(values):
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def storages(tensors):
    return {tensor.untyped_storage()._cdata for tensor in tensors}


def read_and_written(func, args, kwargs, out):
    "Tensors that an operator read, and those that it wrote: none if it only looked at them in another way"
    changes_inputs = func._schema.is_mutable
    inputs = tensors_in((args, kwargs))
    outputs = tensors_in(out)
    if not outputs and changes_inputs:
        outputs = tensors_in(args[0])
    is_view = not changes_inputs and storages(outputs) <= storages(inputs)
    return inputs, [] if is_view else outputs


class Cost(TorchDispatchMode):
    "Operators, FLOPs and bytes of what runs inside, and the seconds that the device would need at best"

    def __init__(self, products, copies):
        super().__init__()
        self.products = products
        self.copies = copies
        self.ops = 0
        self.flops = 0.0
        self.bytes = 0.0
        self.seconds = 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        inputs, outputs = read_and_written(func, args, kwargs, out)
        if outputs:
            self._add(inputs, outputs, self._flops(func, args, kwargs, out))
        return out

    def _flops(self, func, args, kwargs, out):
        count = flop_registry.get(func._overloadpacket)
        return 0 if count is None else count(*args, **kwargs, out_val=out)

    def _add(self, inputs, outputs, flops):
        n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in (*inputs, *outputs))
        floats = [tensor.dtype for tensor in inputs if tensor.is_floating_point()]
        kind = floats[0] if floats else torch.float32
        product_rate = self.products.get(kind, self.products[torch.float32])
        self.ops += 1
        self.flops += flops
        self.bytes += n_bytes
        self.seconds += max(flops / product_rate, n_bytes / self.copies)


def peak(function, device):
    "Most bytes that a call held beyond what was there before"
    if device.type == 'cuda':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with LiveBytes() as live:
        function()
    return live.peak


def close(ours, theirs, tolerance):
    "Raise unless corresponding results agree within a tolerance, relative to the size of each result"
    for our, their in zip(ours, theirs):
        our, their = our.detach().cpu().double(), their.detach().cpu().double()
        difference = ((our - their).norm() / their.norm().clamp_min(1e-9)).item()
        if not difference <= tolerance:
            message = f'straightforward version differs by {difference:.2g}, more than {tolerance}'
            raise AssertionError(message)
