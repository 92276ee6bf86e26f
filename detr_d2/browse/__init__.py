"""Looking through a dataset: its images with their ground truth drawn, and as training shows them to the model."""
