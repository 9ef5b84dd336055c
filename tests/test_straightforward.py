"What the benchmark compares with computes the same as the package: otherwise its ratios would mean nothing."

import sys
from pathlib import Path

import pytest
import torch

bench = Path(__file__).resolve().parents[1] / 'bench'


@pytest.fixture(scope='module')
def step():
    sys.path.insert(0, str(bench))
    try:
        import step
    finally:
        sys.path.remove(str(bench))
    return step


@pytest.fixture(scope='module')
def setting(step):
    changes = dict(weights=None, adapt_bs=4, adapt_bs_target=3, bs=4, restyle='jitter')
    return step.Setting(step.get_preset('tiny', **changes), torch.device('cpu'), 'hand')


def test_every_part_that_is_compared(step, setting):
    parts = [
        *step.bone_parts(setting, 4, 64),
        *step.label_parts(setting),
        *step.data_parts(setting),
    ]
    names = []
    for name, _, theirs, check in parts:
        assert (theirs is None) == (check is None), name
        if check is not None:
            check()
            names.append(name.split(',')[0])
    assert names == [
        'bones',
        'target heatmaps',
        '2D pseudo-labels',
        'lifting',
        'correction',
        'images and joints moved',
    ]


def test_differences_are_noticed(step, setting):
    values = torch.rand(3)
    with pytest.raises(AssertionError, match='differs'):
        step.close([values], [values * 1.1], 0.05)


def test_cost_counts_products_and_copies(step):
    square = torch.rand(8, 8)
    with step.Cost({torch.float32: 1e3}, 1e3) as cost:
        (square @ square).view(4, 16).add(1)
    assert cost.ops == 2  # a product and a sum; a view costs nothing
    assert cost.flops == 2 * 8**3
    assert cost.bytes == 4 * 64 * (3 + 2)
    assert cost.seconds == pytest.approx(max(1.024, 0.768) + 0.512)


@pytest.mark.parametrize('kind', ['pre-training', 'adaptation'])
def test_a_straightforward_step_trains(step, setting, kind):
    run = step.Straightforward(setting, kind)
    loader = setting.dls(kind != 'pre-training', 1).train
    before = run.net.pose.head.weight.clone()
    batch = next(loader.create_batches(loader.get_idxs()))
    assert run(batch).isfinite()
    assert not torch.equal(before, run.net.pose.head.weight)
