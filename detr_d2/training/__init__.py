"""What happens around the steps of a training: validation loss, the best checkpoint, early stopping, images."""
