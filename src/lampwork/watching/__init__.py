"""In the training process: whole tensors once, or a statistic of every tensor now and then."""
