"""Style transfer from images to images."""
