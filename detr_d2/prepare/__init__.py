"""From exports of labelling programs to one COCO panoptic dataset: ``detr-d2 prepare``."""
