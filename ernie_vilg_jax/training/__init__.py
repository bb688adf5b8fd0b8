"""Training: what is trained (autoencoder, diffusion), one step of it, the loop around it, its checkpoints."""
