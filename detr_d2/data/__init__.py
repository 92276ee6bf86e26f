"""Categories, datasets and how their pictures reach the model."""
