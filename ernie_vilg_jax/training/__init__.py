"""Training: the tasks (autoencoder, diffusion), their steps, the loop around them, and their checkpoints."""
