"The real mouse video, where it is at hand: crops follow the animal and labels fit the frames."

from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.frames import VideoFrames
from geomrecon.readers.label_csv import read_dlc_csv
from geomrecon.readers.labelled_frames import LabelledFrames


def test_motion_crops_and_labels(openfield):
    video = openfield / 'm3v1.mp4'
    frames = VideoFrames(video, size=48, crop='motion', step=15, progress=False)
    assert len(frames) > 140
    assert frames.found.mean() > 0.95
    assert 120 < frames.sides[0] < 260, 'the side of the crops is about one and a half mice'
    labelled = LabelledFrames(
        read_dlc_csv(openfield / 'dev_labels.csv', MOUSE4),
        openfield,
        size=48,
        crop='motion',
        background=frames.backgrounds[0],
        side=frames.sides[0],
        progress=False,
    )
    assert len(labelled) == 39
    inside = (labelled.keypoints.abs() <= 1).all(-1)[labelled.visible]
    assert inside.float().mean() > 0.97, 'labels lie inside the crops'
    differences = labelled.to_frame(labelled.keypoints) - labelled.pixels
    assert differences[labelled.visible].abs().max() < 0.05
