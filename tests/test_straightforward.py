"What the benchmark compares with computes the same as the package: otherwise its ratios would mean nothing."

import sys
from pathlib import Path
import pytest, torch

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
    return step.Setting(
        step.get_preset(
            'tiny', weights=None, adapt_bs=4, adapt_bs_target=3, bs=4, restyle='jitter'
        ),
        torch.device('cpu'),
        'hand',
    )


def test_every_part_that_is_compared(step, setting):
    names = []
    for name, ours, theirs, check in (
        *step.bone_parts(setting, 4, 64),
        *step.label_parts(setting),
        *step.data_parts(setting),
    ):
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
    a = torch.rand(3)
    with pytest.raises(AssertionError, match='differs'):
        step.close([a], [a * 1.1], 0.05)


def test_cost_counts_products_and_copies(step):
    a = torch.rand(8, 8)
    with step.Cost({torch.float32: 1e3}, 1e3) as c:
        (a @ a).view(4, 16).add(1)
    assert (c.ops, c.flops, c.bytes) == (
        2,
        2 * 8**3,
        4 * 64 * (3 + 2),
    ) and c.seconds == pytest.approx(max(1.024, 0.768) + 0.512)


@pytest.mark.parametrize('kind', ['pre-training', 'adaptation'])
def test_a_straightforward_step_trains(step, setting, kind):
    run = step.Straightforward(setting, kind)
    dl = setting.dls(kind != 'pre-training', 1).train
    before = run.net.pose.head.weight.clone()
    assert run(next(dl.create_batches(dl.get_idxs()))).isfinite() and not torch.equal(
        before, run.net.pose.head.weight
    )
