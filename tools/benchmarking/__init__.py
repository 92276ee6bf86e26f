"""What the benchmarks share: the models side by side, measuring, and reporting."""
