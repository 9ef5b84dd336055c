"The commands, end to end, as a user types them."
import json, subprocess, sys
import numpy as np, pytest
from geomrecon.cli import main
from geomrecon.data.own import read_coco, read_dlc_csv, video_info, write_video
from geomrecon.data.puppet import PuppetVideos
from geomrecon.report import read_results
from geomrecon.skeleton import MOUSE4
from test_one_step import MINI

@pytest.fixture(scope='module')
def run(tmp_path_factory):
    d = tmp_path_factory.mktemp('run')
    b = PuppetVideos(MOUSE4, 1, 30, 96, 'real', seed=0, split='test').batch(np.arange(30))
    write_video(d/'m.mp4', (x.permute(1,2,0).numpy() for x in b['image']), 15)
    from geomrecon.learn.learner import PRESETS
    from dataclasses import replace
    PRESETS['mini'] = replace(MINI, name='mini', steps=2, epochs=1, adapt_epochs=1)
    assert main(['adapt','--skeleton','mouse','--target',str(d/'m.mp4'),'--crop','whole','--out',str(d/'out'),'--preset','mini','--pool','32','--no-bar']) == 0
    return d

def test_adapt_writes_everything(run):
    assert {'model.pth','labelled.mp4','before_after.mp4','predictions.csv','predictions.json','report.html','results.json'} <= {p.name for p in (run/'out').iterdir()}
    res = read_results(run/'out'); assert [r['method'] for r in res['rows']] == ['source','pseudo','full'] and res['peak_rss_mb'] > 0
    assert video_info(run/'out/labelled.mp4').n_frames == 30

def test_predict_repeats_what_adapt_wrote(run):
    assert main(['predict','--model',str(run/'out'),'--input',str(run/'m.mp4'),'--out',str(run/'pred'),'--no-bar']) == 0
    a, b = read_dlc_csv(run/'out/predictions.csv', MOUSE4), read_dlc_csv(run/'pred/predictions.csv', MOUSE4)
    np.testing.assert_allclose(a.keypoints, b.keypoints, atol=2e-3)
    c = read_coco(run/'pred/predictions.json', MOUSE4); np.testing.assert_allclose(c.keypoints, b.keypoints, atol=.02)
    assert video_info(run/'pred/m_pose.mp4').n_frames == 30

def test_report_is_one_file(run):
    page = (run/'out/report.html').read_text()
    assert 'src="http' not in page and "src='http" not in page and 'data:image/png;base64' in page

def test_help_reads_well():
    out = subprocess.run([sys.executable,'-W','ignore','-c','from geomrecon.cli import main; main(["--help"])'], capture_output=True, text=True)
    for c in ('demo','adapt','predict'): assert c in out.stdout, out
