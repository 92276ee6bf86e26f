"""The rest of a picture, which people didn't label: void, one class, masks from elsewhere, or what a model says.

``build_policy(words, settings)`` makes the policy that ``--stuff`` names.
"""
