"""``detr-d2 app``: a page on which anybody can try a model."""
