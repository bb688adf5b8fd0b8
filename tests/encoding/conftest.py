from tests.encoding.pictures import autoencoder, images, model

__all__ = ["autoencoder", "images", "model"]
