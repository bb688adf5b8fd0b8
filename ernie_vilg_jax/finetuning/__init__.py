"""Fine-tuning of a model on a folder of images, with care for what it could do before."""
