"""What is right and wrong with labels: every rule of the project; :mod:`.table` has all of them.

A rule is declared in the module that finds and fixes what breaks it. Those that need no more than numpy and Pillow are
imported here, in the order of the documentation; the others, with libraries for polygons, where they are used.
"""

from ..rules import json_files, boxes, categories, image_files, names, images, labels, pngs  # noqa: F401, I001
