"""RefHuman-format data from COCO's keypoint annotations."""
