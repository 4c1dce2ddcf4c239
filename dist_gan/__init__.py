"""dist_gan trains GANs: same config, same seed, same model, on one process or sixty-four, interrupted or not."""

__version__ = "0.2.0"
