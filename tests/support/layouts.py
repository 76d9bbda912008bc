"""Tiny data sets in the layouts of well-known ones, made from one photograph and a map of ids."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from skimage import data

PHOTOGRAPH = cv2.cvtColor(cv2.resize(data.astronaut(), (128, 96)), cv2.COLOR_RGB2BGR) // 4
IDS = np.repeat(np.repeat(np.array([[7, 11, 21, 26], [7, 7, 26, 255], [8, 7, 7, 24]], np.uint8), 32, 0), 32, 1)
LABELS = np.where(IDS == 255, 0, IDS).astype(np.uint8)
"""As Cityscapes has them, without an id 255."""
DISPARITY = np.where(IDS == 255, 0, IDS.astype(np.uint16) * 256 + 5)


def write(root: Path, name: str, content: np.ndarray | bytes | str | dict | list) -> str:
    """Write one file, in the format that its suffix tells; return its name."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        assert cv2.imwrite(str(path), content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return name


def coco(root: Path) -> None:
    names = [write(root, f"val2017/{number:012d}.jpg", PHOTOGRAPH) for number in (139, 285)]
    write(root, "stuffthingmaps/val2017/000000000139.png", IDS)
    write(root, "annotations/panoptic_val2017/000000000139.png", cv2.applyColorMap(IDS * 3, cv2.COLORMAP_JET))
    images = [
        {"id": number, "file_name": Path(name).name, "width": 128, "height": 96} for number, name in enumerate(names)
    ]
    box = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [8, 8, 40, 20], "area": 800, "iscrowd": 0}
    found = {"images": images, "annotations": [box], "categories": [{"id": 3, "name": "car"}]}
    write(root, "annotations/instances_val2017.json", found)


def yolo(root: Path) -> None:
    write(root, "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: car\n")
    for part in ("train", "val"):
        write(root, f"images/{part}/a.jpg", PHOTOGRAPH)
        write(root, f"labels/{part}/a.txt", "0 0.5 0.5 0.25 0.25\n")
    write(root, "labels/train.cache", b"\x80\x04cache")


def bdd100k(root: Path) -> None:
    write(root, "images/10k/train/0a0a0b1a-7c39d841.jpg", PHOTOGRAPH)
    write(root, "images/100k/train/0a0a0b1a-7c39d841.jpg", PHOTOGRAPH)
    write(root, "labels/sem_seg/masks/train/0a0a0b1a-7c39d841.png", IDS)
    write(root, "labels/sem_seg/colormaps/train/0a0a0b1a-7c39d841.png", cv2.applyColorMap(IDS * 3, cv2.COLORMAP_JET))
    write(root, "labels/pan_seg/bitmasks/train/0a0a0b1a-7c39d841.png", np.dstack([IDS, IDS * 0, IDS, IDS]))
    write(root, "labels/drivable/masks/train/0a0a0b1a-7c39d841.png", IDS % 3)
    write(root, "seg/labels/train/0a0a0b1a-7c39d841_train_id.png", IDS)
    frame = {"name": "0a0a0b1a-7c39d841.jpg", "labels": [{"category": "car", "box2d": {"x1": 8, "y1": 8}}]}
    write(root, "labels/det_20/det_train.json", [frame])


def cityscapes(root: Path) -> None:
    name = "aachen_000000_000019"
    write(root, f"leftImg8bit/train/aachen/{name}_leftImg8bit.png", PHOTOGRAPH)
    write(root, f"rightImg8bit/train/aachen/{name}_rightImg8bit.png", PHOTOGRAPH)
    label = f"gtFine/train/aachen/{name}_gtFine"
    write(root, f"{label}_labelIds.png", LABELS)
    write(root, f"{label}_instanceIds.png", LABELS.astype(np.uint16) * 100)
    write(root, f"{label}_color.png", np.dstack([cv2.applyColorMap(IDS, cv2.COLORMAP_JET), 255 + 0 * IDS]))
    write(root, f"{label}_polygons.json", {"imgHeight": 96, "imgWidth": 128, "objects": []})
    write(root, f"disparity/train/aachen/{name}_disparity.png", DISPARITY)
    write(root, f"camera/train/aachen/{name}_camera.json", {"intrinsic": {}})
    for part in ("val", "test"):
        write(root, f"gtFine/{part}/city/x_gtFine_labelIds.png", IDS)


def kitti(root: Path) -> None:
    raw = "Kitti/raw/training"
    for number in ("000000", "000001"):
        for eye in (2, 3):
            write(root, f"{raw}/image_{eye}/{number}.png", PHOTOGRAPH)
        write(
            root, f"{raw}/label_2/{number}.txt", "Car 0.00 0 -1.58 8.0 8.0 48.0 28.0 1.6 1.6 3.9 -16.5 2.3 58.5 -1.5\n"
        )
        write(root, f"{raw}/calib/{number}.txt", "P0: 1 0 0\n")
        write(root, f"{raw}/velodyne/{number}.bin", bytes(160))
        for kind, content in (("disp_occ_0", DISPARITY), ("semantic", IDS), ("semantic_rgb", PHOTOGRAPH)):
            write(root, f"{raw}/{kind}/{number}_10.png", content)
        write(root, f"{raw}/instance/{number}_10.png", IDS.astype(np.uint16) * 256)
        write(root, f"{raw}/flow_occ/{number}_10.png", np.dstack([DISPARITY] * 3))


def nuscenes(root: Path) -> None:
    sensors = ("CAM_FRONT", "CAM_BACK", "LIDAR_TOP")
    tables: dict[str, list[dict]] = {
        "log": [{"token": "log", "logfile": "n015-2018", "vehicle": "n015", "location": "singapore-onenorth"}],
        "scene": [{"token": "scene", "log_token": "log", "nbr_samples": 1, "name": "scene-0061"}],
        "sample": [{"token": "sample", "timestamp": 1532402927, "prev": "", "next": "", "scene_token": "scene"}],
        "ego_pose": [{"token": "pose", "rotation": [1, 0, 0, 0], "translation": [0, 0, 0]}],
        "sensor": [{"token": name, "channel": name, "modality": name[:3].lower()} for name in sensors],
        "calibrated_sensor": [{"token": name, "sensor_token": name} for name in sensors],
        "map": [{"token": "map", "filename": "maps/36092f0b03a857c6a3403e25b4b7aab3.png", "log_tokens": ["log"]}],
        "sample_data": [],
    }
    empty = ("category", "attribute", "visibility", "instance", "sample_annotation")
    for number, sensor in enumerate(sensors):
        suffix, content = ("jpg", PHOTOGRAPH) if sensor.startswith("CAM") else ("pcd.bin", bytes(200))
        name = write(root, f"samples/{sensor}/n015-2018__{sensor}__15324029276{number}.{suffix}", content)
        record = {"token": sensor, "sample_token": "sample", "ego_pose_token": "pose", "filename": name}
        record |= {"calibrated_sensor_token": sensor, "is_key_frame": True, "fileformat": suffix[:3]}
        tables["sample_data"].append(record)
    write(root, tables["map"][0]["filename"], (IDS % 2) * 255)
    write(root, "lidarseg/v1.0-mini/9_lidarseg.bin", bytes(10))
    for table, records in (tables | {table: [] for table in empty}).items():
        write(root, f"v1.0-mini/{table}.json", records)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "coco": coco,
    "yolo": yolo,
    "bdd100k": bdd100k,
    "cityscapes": cityscapes,
    "kitti": kitti,
    "nuscenes": nuscenes,
}
