"The real mouse video, where it is at hand: crops follow the animal and labels fit the frames."

import numpy as np, torch
from geomrecon.readers.labelled_frames import LabelledFrames
from geomrecon.data.frames import VideoFrames
from geomrecon.readers.label_csv import read_dlc_csv
from geomrecon.core.skeleton import MOUSE4


def test_motion_crops_and_labels(openfield):
    fs = VideoFrames(openfield / 'm3v1.mp4', size=48, crop='motion', step=15, progress=False)
    assert len(fs) > 140 and fs.found.mean() > 0.95
    assert 120 < fs.sides[0] < 260, 'the side of the crops is about one and a half mice'
    ev = LabelledFrames(
        read_dlc_csv(openfield / 'dev_labels.csv', MOUSE4),
        openfield,
        size=48,
        crop='motion',
        background=fs.backgrounds[0],
        side=fs.sides[0],
        progress=False,
    )
    assert len(ev) == 39
    inside = (ev.keypoints.abs() <= 1).all(-1)[ev.visible]
    assert inside.float().mean() > 0.97, 'labels lie inside the crops'
    assert (ev.to_frame(ev.keypoints) - ev.pixels)[ev.visible].abs().max() < 0.05
