"""What is advised for a folder of images: what they are like, and the config that is likely to work."""
