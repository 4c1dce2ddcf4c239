"""One run from its start to its end. Nothing heavy is imported here: `dist_gan.status` must not load torch."""
