"""What labels are: documents of images and their labels, masks, panoptic PNGs, image files; and the readers."""
