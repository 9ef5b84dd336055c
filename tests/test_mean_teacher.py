"Mean teacher and HamiPose as phases of a run: killed, they go on bit by bit."

from dataclasses import replace

import pytest
import torch
from fixtures_learn import Killed, KillAt
from fixtures_use import SMALL, small_task
from geomrecon.core.skeleton import MOUSE4
from geomrecon.learn.checkpoint import load_checkpoint
from geomrecon.learn.learner import build_pose
from geomrecon.methods.catalogue import METHODS
from geomrecon.use import task as task_module

PRESET = SMALL.changed(size=32, width=0.125, deconv_width=16, steps=3, depth=False, restyle='')
OPTIONS = dict(meanteacher={}, hamipose=dict(hamiltonian=True))


def adapt(folder, name, monkeypatch, cbs=()):
    "The adaptation phase of a run by that method, as `geomrecon adapt --method` has it"
    method = METHODS[name]

    def build(*args, **options):
        return method.build(*args, cbs=cbs, **OPTIONS[name], **options)

    monkeypatch.setattr(task_module, 'get_method', lambda _: replace(method, build=build))
    torch.manual_seed(0)
    pose = build_pose(MOUSE4, PRESET)
    learn, _ = small_task(folder, PRESET).adapt_by(name, pose, bar=False)
    return learn


@pytest.mark.parametrize('name', OPTIONS)
def test_a_killed_phase_goes_on_bit_by_bit(name, tmp_path, monkeypatch):
    whole = adapt(tmp_path / 'whole', name, monkeypatch)
    with pytest.raises(Killed):
        adapt(tmp_path / 'killed', name, monkeypatch, [KillAt(epoch=1, iteration=1)])
    assert load_checkpoint(tmp_path / 'killed' / f'{name}.ckpt')['epoch'] == 1
    again = adapt(tmp_path / 'killed', name, monkeypatch)
    states = whole.model.state_dict(), again.model.state_dict()
    assert [key for key in states[0] if not torch.equal(states[0][key], states[1][key])] == []
    assert whole.loss_history.steps == again.loss_history.steps
    teachers = whole.pseudo_label.state_dict(), again.pseudo_label.state_dict()
    for key, value in teachers[0].items():
        assert torch.equal(value, teachers[1][key]), key
    momenta = whole.opt.state_dict()['state'], again.opt.state_dict()['state']
    for one, other in zip(*momenta):
        assert torch.equal(one['grad_avg'], other['grad_avg'])
        assert one['step'] == other['step']
