"""Images to latents, once and offline, so that training encodes none."""
