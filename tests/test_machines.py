"""A run on two machines, simulated by two `accelerate launch` on this one; and bad input in four processes, told once."""

import contextlib
import os
import subprocess
import sys
import numpy as np
import pytest
from forked import free_port, together
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.video import write_video
from geomrecon.learn.machines import launch_config
from geomrecon.learn.presets import preset_text
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.use.cli import main
from geomrecon.use.results_file import read_results
from test_one_step import MINI

TINY = MINI.changed(name='mini', steps=1, epochs=1, adapt_epochs=1)


def command_of(machine, folder, *words):
    launcher = ['-m', 'accelerate.commands.launch', '--config_file', str(folder / 'machines.yaml')]
    launcher += ['--main_process_ip', '127.0.0.1', '--machine_rank', str(machine)]
    return [sys.executable, '-W', 'ignore', *launcher, '-m', 'geomrecon.use.cli', *words]


def on_two_machines(folder, *words):
    "What two launchers print, and how they end"
    environment = dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    running = [subprocess.Popen(command_of(machine, folder, *words), **pipes) for machine in (0, 1)]
    said = [process.communicate(timeout=600) for process in running]
    return [process.returncode for process in running], said


def write_inputs(folder):
    "A video, and a preset of a few steps"
    labels = PuppetVideos(MOUSE4, 1, 20, 48, 'real', seed=0, split='test').batch(np.arange(20))
    write_video(folder / 'm.mp4', labels['image'].permute(0, 2, 3, 1).numpy(), 15)
    even = TINY.changed(adapt_bs=4, adapt_bs_target=4)
    (folder / 'mini.yaml').write_text(preset_text(even))


def words_of(folder, *more):
    "An adaptation to the video"
    words = ['adapt', '--target', str(folder / 'm.mp4'), '--out', str(folder / 'run')]
    words += ['--skeleton', 'mouse', '--pool', '32', '--crop', 'whole', '--no-ladder', '--no-video']
    return [*words, '--no-bar', '--preset', str(folder / 'mini.yaml'), *more]


@pytest.fixture(scope='module')
def machines(tmp_path_factory):
    "The folder of a run on two machines, and what they said"
    folder = tmp_path_factory.mktemp('machines')
    write_inputs(folder)
    (folder / 'machines.yaml').write_text(launch_config(2, 1, cpu=True, port=free_port()))
    codes, said = on_two_machines(folder, *words_of(folder))
    assert codes == [0, 0], said
    return folder, said


def test_two_machines_make_one_run(machines):
    folder, _ = machines
    written = {path.name for path in (folder / 'run').iterdir()}
    assert {'results.json', 'report.html', 'model.pth', 'predictions.csv'} <= written
    methods = [row['method'] for row in read_results(folder / 'run')['rows']]
    assert methods[0] == 'source', methods
    assert len(methods) > 1, methods
    assert [name for name in written if name.endswith('.ckpt')], written
    assert not [name for name in written if name.startswith('.seen')]


def test_the_first_machine_speaks_for_both(machines):
    _, said = machines
    assert 'report.html' in said[0][0]
    assert said[1][0].strip() == ''


def ends_told_once(folder, words, says):
    "Four processes end with status 2, and one of them says why"

    def work():
        said = open(folder / f'said{os.environ["RANK"]}', 'w', encoding='utf-8')
        with said, contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            try:
                return main(words)
            except SystemExit as ended:
                return ended.code

    assert together(4, work) == [2] * 4
    said = [(folder / f'said{number}').read_text(encoding='utf-8') for number in range(4)]
    assert says in said[0]
    assert 'Traceback' not in said[0]
    assert said[1:] == [''] * 3


@pytest.mark.parametrize(
    ('more', 'says'),
    [
        (['--sed', '3'], "no option '--sed'"),
        (['--seed', 'x'], 'invalid int'),
        (['--target', 'none.mp4'], 'none.mp4'),
        (['--set', 'adapt_bs_target=6'], 'adapt_bs_target: 6 with 4 processes'),
        (['--seed', '-1'], '--seed'),
    ],
    ids=['option', 'number', 'video', 'shares', 'seed'],
)
def test_bad_input_is_told_once(tmp_path, more, says):
    write_inputs(tmp_path)
    ends_told_once(tmp_path, words_of(tmp_path, *more), says)
    assert not (tmp_path / 'run').exists()
