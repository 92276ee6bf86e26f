"""Looking through a dataset: its pictures with their truth drawn, and as training shows them to the model."""
