"""What a dataset holds, and a training planned for it: weights, keys, time and memory measured here, commands."""
