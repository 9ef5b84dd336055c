"One step of pre-training and one of adaptation; needs the installed package only, so it also runs beside a built wheel."

import torch
from geomrecon.data.pairs import pose_dls
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.learn.learner import adapt_learner, pose_learner
from geomrecon.learn.presets import get_preset
from geomrecon.losses.align import jitter
from geomrecon.core.skeleton import HAND21

MINI = get_preset(
    'tiny',
    depth=False,
    restyle='',
    size=48,
    width=0.25,
    deconv_width=32,
    bs=4,
    adapt_bs=4,
    adapt_bs_target=3,
    warp_width=8,
    gen_width=8,
    gen_res=1,
    rec_start=0.0,
    rec_attach=0.0,
)


def test_one_step():
    torch.manual_seed(0)
    src = PuppetImages(HAND21, 100, 48, 'synthetic', seed=0)
    val = PuppetImages(HAND21, 4, 48, 'synthetic', seed=1)
    frames = PuppetVideos(HAND21, 1, 20, 48, 'real', seed=0).frames()
    learn = pose_learner(pose_dls(src, val, steps=1, bs=4, device='cpu'), MINI)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    before = learn.model.pose.head.weight.detach().clone()
    adapted = adapt_learner(
        pose_dls(src, val, frames, steps=1, bs=4, bs_target=3, device='cpu'), learn.model.pose, MINI
    )
    with adapted.no_bar(), adapted.no_logging():
        adapted.fit(1)
    assert sorted(adapted.loss_history.means) == ['labelled', 'pseudo', 'rec', 'sup']
    assert all(v == v for v in adapted.loss_history.means.values())
    assert (adapted.model.pose.head.weight - before).abs().max() > 0
    assert torch.equal(learn.model.pose.head.weight, before), (
        'adaptation must not touch the pre-trained net'
    )


def test_one_step_of_every_term():
    "2.5D with alignment, integrated pseudo-labels and reconstruction"
    torch.manual_seed(0)
    p = get_preset(MINI, depth=True, integrate=0.0)
    src = PuppetImages(HAND21, 2000, 48, 'synthetic', seed=0)
    val = PuppetImages(HAND21, 4, 48, 'synthetic', seed=1)
    frames = PuppetVideos(HAND21, 1, 20, 48, 'real', seed=0).frames()
    learn = pose_learner(
        pose_dls(src, val, steps=1, bs=4, device='cpu', depth=True), p, restyle=jitter
    )
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    assert sorted(learn.loss_history.means) == ['align', 'depth', 'sup']
    adapted = adapt_learner(
        pose_dls(src, val, frames, steps=1, bs=4, bs_target=3, device='cpu', depth=True),
        learn.model.pose,
        p,
    )
    with adapted.no_bar(), adapted.no_logging():
        adapted.fit(1)
    assert sorted(adapted.loss_history.means) == [
        'M_2D',
        'M_3D',
        'depth',
        'labelled',
        'pseudo',
        'pseudo_3d',
        'rec',
        'sup',
    ]
    assert all(v == v for v in adapted.loss_history.means.values())
