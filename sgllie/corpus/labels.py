"""Which images are no photographs by their names: the label, depth and disparity maps of the known layouts."""

import re

from sgllie.corpus.pack import is_pack
from sgllie.corpus.patterns import Patterns
from sgllie.images import EXTENSIONS

FOLDERS = {
    "gtFine": "Cityscapes",
    "gtCoarse": "Cityscapes",
    "gtFinePanopticParts": "Cityscapes",
    "disparity": "Cityscapes",
    "semantic": "KITTI",
    "semantic_rgb": "KITTI",
    "instance": "KITTI",
    "gt_image_2": "KITTI",
    "obj_map": "KITTI",
    "disp_noc": "KITTI",
    "disp_occ": "KITTI",
    "disp_noc_0": "KITTI",
    "disp_noc_1": "KITTI",
    "disp_occ_0": "KITTI",
    "disp_occ_1": "KITTI",
    "flow_noc": "KITTI",
    "flow_occ": "KITTI",
    "viz_flow_occ": "KITTI",
    "proj_depth": "KITTI",
    "velodyne_raw": "KITTI",
    "groundtruth_depth": "KITTI",
    "classSegmentation": "Virtual KITTI",
    "instanceSegmentation": "Virtual KITTI",
    "forwardFlow": "Virtual KITTI",
    "backwardFlow": "Virtual KITTI",
    "labels": "BDD100K",
    "color_labels": "BDD100K",
    "drivable_maps": "BDD100K",
    "colormaps": "BDD100K",
    "bitmasks": "BDD100K",
    "maps": "nuScenes",
    "annotations": "COCO, ADE20K",
    "stuffthingmaps": "COCO",
    "panoptic": "COCO",
    "panoptic_train2017": "COCO",
    "panoptic_val2017": "COCO",
    "instances": "Mapillary Vistas",
    "depth_bfx": "SUN RGB-D",
    "semantic_segmentation": "CARLA",
    "instance_segmentation": "CARLA",
    "SegmentationClass": "Pascal VOC",
    "SegmentationObject": "Pascal VOC",
    "SegmentationClassAug": "Pascal VOC",
    "masks": "many",
    "mask": "many",
    "label": "many",
    "depth": "many",
    "depths": "many",
    "disparities": "many",
    "segmentation": "many",
    "flow": "many",
    "optical_flow": "many",
}
"""Folders that hold maps, at any depth below the input, and whose layout they are of."""

ENDINGS = {
    "_labelIds": "Cityscapes",
    "_instanceIds": "Cityscapes",
    "_labelTrainIds": "Cityscapes",
    "_instanceTrainIds": "Cityscapes",
    "_gtFine_color": "Cityscapes",
    "_gtCoarse_color": "Cityscapes",
    "_disparity": "Cityscapes",
    "_panoptic": "Cityscapes",
    "_labelColor": "ACDC",
    "_invIds": "ACDC",
    "_invGray": "ACDC",
    "_train_id": "BDD100K",
    "_train_color": "BDD100K",
    "_drivable_id": "BDD100K",
    "_drivable_color": "BDD100K",
    "_seg": "ADE20K",
    "_mask": "many",
    "_masks": "many",
    "_label": "many",
    "_labels": "many",
    "_depth": "many",
    "_semantic": "many",
    "_instance": "many",
}
"""What the name of a map ends with before its suffix, and whose layout that is of; in samples of WebDataset a dot takes
the place of the underscore (`0001.labelIds.png`). JPEGs have no such endings: ids do not survive loss, and
`wine_label.jpg` is a photograph."""

_FOLDERS = {folder.lower(): folder for folder in FOLDERS}
_ENDING = re.compile(rf"[_.](?:{'|'.join(ending[1:] for ending in ENDINGS)})$", re.IGNORECASE)


def label_map_name(path: str) -> str | None:
    """Return the folder or the ending by which an image is a label map and no photograph; None for a photograph.

    Args:
        path: of the image, below the input; upper and lower case are the same.
    """
    *folders, name = path.split("/")
    for folder in folders:
        if folder.lower() in _FOLDERS:
            return _FOLDERS[folder.lower()]
    stem, _, suffix = name.rpartition(".")
    ending = None if EXTENSIONS.get(f".{suffix.lower()}") == "jpeg" else _ENDING.search(stem)
    return ending[0] if ending else None


def is_map_by_name(path: str, included: Patterns) -> bool:
    """Tell whether an image, and no pack, is a label map by its name, and not to be brightened all the same."""
    return not is_pack(path) and label_map_name(path) is not None and path not in included
