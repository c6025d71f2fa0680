"""Runs a training script of diffusers as it is, where torchvision's compiled part does not load (it is built for another
torch): such scripts use its transforms only, which are plain Python.

    python3 tools/reference/official_script.py train_text_to_image.py --pretrained_model_name_or_path ...
"""

import runpy
import sys

import torch

library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
